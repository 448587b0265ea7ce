//! Ready-to-paste shell commands.

use salver_core::ModelInfo;
use salver_protocol::{paths, plain};

/// Examples longer than this are put into a file rather than into the command.
const LONGEST: usize = 2000;

/// Returns a command that asks for a prediction with a valid example for exactly this model.
pub(crate) fn predict(base: &str, info: &ModelInfo) -> String {
    let description = format!("{base}/models/{}", paths::segment(&info.name));
    let url = format!("{description}/predict");
    if let Some(file) = plain::sample_file(info) {
        return format!("curl {url} --data-binary @{file}");
    }
    let example = plain::example(info);
    match &info.signature.inputs[..] {
        // Nobody types inputs for which there is no example.
        [input] if example.is_null() => {
            let shape = input.wire_shape();
            format!("curl {url} --data-binary @input.npy   # a NumPy array of {} {shape:?}", input.dtype)
        }
        _ if example.is_null() => format!("curl {url} -d @input.json   # its inputs: curl {description}"),
        _ => match example.to_string() {
            long if long.len() > LONGEST => format!("curl {url} -d @input.json   # an example: curl {description}"),
            body => format!("curl {url} -d {}", quote(&body)),
        },
    }
}

/// Quotes what a shell would not take as it is.
pub(crate) fn quoted_where_needed(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-/+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quote(text) }
}

/// Quotes for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use salver_core::{Batching, DataType, Signature, TensorSpec};

    use super::*;

    fn info(inputs: Vec<TensorSpec>) -> ModelInfo {
        ModelInfo {
            name: "größe".into(),
            version: 1,
            engine: "onnx".into(),
            platform: String::new(),
            columns: vec![Vec::new(); inputs.len()],
            labels: Vec::new(),
            signature: Signature { inputs, outputs: Vec::new(), batching: Batching::Rows { limit: None } },
            task: "tensor".to_owned(),
            metrics: BTreeMap::new(),
            example: Vec::new(),
            observer: None,
        }
    }

    #[track_caller]
    fn check(shapes: &[&[i64]], expected: &str) {
        let input = |shape: &&[i64]| TensorSpec::new("x", DataType::Fp32, shape);
        let info = info(shapes.iter().map(input).collect());
        assert_eq!(predict("http://h:1", &info), format!("curl http://h:1/models/gr%C3%B6%C3%9Fe{expected}"));
    }

    #[test]
    fn inputs_that_nobody_types_come_from_a_file() {
        check(&[&[-1, 2]], "/predict -d '[[1.0,1.0]]'");
        check(&[&[-1, 1000]], "/predict -d @input.json   # an example: curl http://h:1/models/gr%C3%B6%C3%9Fe");
        let picture: &[i64] = &[-1, 3, 224, 224];
        check(&[picture], "/predict --data-binary @input.npy   # a NumPy array of FP32 [-1, 3, 224, 224]");
        check(&[picture; 2], "/predict -d @input.json   # its inputs: curl http://h:1/models/gr%C3%B6%C3%9Fe");
    }

    #[test]
    fn a_picture_is_sent_as_it_is() {
        let input = TensorSpec::new("image", DataType::Bytes, &[-1]);
        let info = ModelInfo { task: "image-classification".to_owned(), ..info(vec![input]) };
        let expected = "curl http://h:1/models/gr%C3%B6%C3%9Fe/predict --data-binary @picture.jpg";
        assert_eq!(predict("http://h:1", &info), expected);
    }

    #[test]
    fn quotes_survive_a_shell() {
        assert_eq!(quote(r#"{"a":"it's"}"#), r#"'{"a":"it'\''s"}'"#);
        assert_eq!(quoted_where_needed("models/a b"), "'models/a b'");
        assert_eq!(quoted_where_needed("models/größe.1"), "models/größe.1");
    }
}
