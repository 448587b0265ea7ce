//! Fake models of tasks: signatures as the real ones have, answers that show what arrived.

use std::sync::Arc;

use salver_core::{Batching, DataType, ModelInfo, Signature, Tensor, TensorSpec};

/// Makes `info`, that of any fake model, one of a task where `name` is such a model.
pub(crate) fn of(name: &str, info: ModelInfo) -> ModelInfo {
    let spec = TensorSpec::new;
    let text = || spec("text", DataType::Bytes, &[-1]);
    let classes = || vec![spec("label", DataType::Bytes, &[-1, 1]), spec("score", DataType::Fp32, &[-1, 1])];
    let about = || vec![spec("tokens", DataType::Int32, &[-1]), spec("truncated", DataType::Bool, &[-1])];
    let may_miss = |spec| TensorSpec { optional: true, ..spec };
    let (task, inputs, outputs, example) = match name {
        "sentiment" => {
            ("text-classification", vec![text()], [classes(), about()].concat(), vec![bytes("text", b"good")])
        }
        "names" => {
            let entities = vec![spec("entities", DataType::Bytes, &[-1])];
            ("token-classification", vec![text()], [entities, about()].concat(), vec![bytes("text", b"Ada")])
        }
        "embedder" => {
            let embedding = vec![spec("embedding", DataType::Fp32, &[-1, 3])];
            ("text-embedding", vec![text()], [embedding, about()].concat(), vec![bytes("text", b"good")])
        }
        "asked" => {
            let labels = may_miss(spec("labels", DataType::Bytes, &[-1, -1]));
            ("zero-shot", vec![text(), labels], classes(), vec![bytes("text", b"good")])
        }
        "pictures" => {
            let image = vec![spec("image", DataType::Bytes, &[-1])];
            ("image-classification", image, classes(), vec![bytes("image", b"\x89PNG")])
        }
        "people" => {
            let age = may_miss(spec("age", DataType::Fp64, &[-1]));
            let town = may_miss(spec("town", DataType::Bytes, &[-1]));
            let example = vec![Tensor::from_slice("age", [1], &[38.5f64]).unwrap(), bytes("town", b"Rome")];
            ("tabular", vec![age, town], vec![spec("y", DataType::Bytes, &[-1])], example)
        }
        _ => return info,
    };
    ModelInfo {
        task: task.to_owned(),
        columns: vec![Vec::new(); inputs.len()],
        labels: vec![Vec::new(); outputs.len()],
        signature: Signature { inputs, outputs, batching: Batching::Rows { limit: None } },
        example,
        ..info
    }
}

fn bytes(name: &str, value: &[u8]) -> Tensor {
    Tensor::from_elements(name, [1], [value].into_iter().collect()).unwrap()
}

/// Answers with the bytes of each row of the last input: as label or entity, as their number of
/// tokens, as a vector.
pub(crate) fn answer(info: &ModelInfo, inputs: &[Tensor]) -> Vec<Tensor> {
    let last = inputs.last().unwrap();
    let rows = last.rows();
    let elements = last.elements().unwrap();
    let of_row = |row: usize| {
        let width = elements.len() / rows;
        (row * width..(row + 1) * width).map(|idx| elements.get(idx).unwrap()).collect::<Vec<_>>().concat()
    };
    let all: Vec<Vec<u8>> = (0..rows).map(of_row).collect();
    let one = |spec: &TensorSpec| match (&*spec.name, spec.dtype) {
        ("entities", _) => {
            let json = |row: &Vec<u8>| format!(r#"[{{"text":"{}"}}]"#, String::from_utf8_lossy(row));
            Tensor::from_elements("entities", [rows], all.iter().map(json).collect())
        }
        (_, DataType::Bytes) => {
            let shape = &[rows, 1][..spec.shape.len()];
            Tensor::from_elements(spec.name.clone(), shape, all.iter().collect())
        }
        (_, DataType::Int32) => {
            let tokens: Vec<i32> = all.iter().map(|row| row.len() as i32).collect();
            Tensor::from_slice("tokens", [rows], &tokens)
        }
        (_, DataType::Bool) => Tensor::from_slice("truncated", [rows], &vec![false; rows]),
        (name, _) => {
            let width = if name == "embedding" { 3 } else { 1 };
            let values: Vec<f32> = all.iter().flat_map(|row| [row.len() as f32, 0.5, 0.0][..width].to_vec()).collect();
            Tensor::from_slice(Arc::<str>::from(name), [rows, width], &values)
        }
    };
    info.signature.outputs.iter().map(|spec| one(spec).unwrap()).collect()
}
