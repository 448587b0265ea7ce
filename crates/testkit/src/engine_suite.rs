//! The contract of engines: what every implementation of `Engine` is held to.
//!
//! Uses the small models under `tests/models` and the trained ones under `examples/demo`. A new
//! engine begins by passing this; what it cannot carry it leaves out of [`EngineModels`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use salver_core::{
    BatchLayout, Batching, DataType, Engine, ErrorKind, InputLayout, Inputs, Instance, Model, Placement, Result, Shape,
    Tensor,
};

use crate::{repository_path, spec_of, tensor, text};

/// What the engine under test can carry.
#[derive(Debug, Clone)]
pub struct EngineModels {
    /// The types whose identity model it loads.
    pub identities: Vec<DataType>,
    /// Models that it must refuse as unsupported.
    pub unsupported: Vec<PathBuf>,
    /// Models that are damaged at random and then loaded, which must do no harm.
    pub damaged: Vec<PathBuf>,
}

impl EngineModels {
    /// Everything.
    pub fn all() -> Self {
        let damaged = [
            "tests/models/triton/add_sub_fp32/1/model.onnx",
            "tests/models/triton/slow/1/model.onnx",
            "tests/models/sklearn/iris_ml.onnx",
            "examples/demo/digits/model.onnx",
        ];
        let damaged = damaged.map(repository_path).to_vec();
        Self { identities: DataType::ALL.to_vec(), unsupported: Vec::new(), damaged }
    }
}

/// Holds `engine` to the contract.
///
/// # Panics
/// At the first point that does not hold.
pub fn engine_suite(engine: &dyn Engine, models: &EngineModels) {
    engine.prepare().expect("the engine can be prepared");
    signatures_are_read_from_the_file(engine);
    staged_direct_and_unaligned_inputs_give_the_same_answer(engine);
    a_batch_gives_what_its_rows_give_alone(engine);
    output_shapes_may_depend_on_the_input(engine);
    models_without_a_batch_dimension_run(engine);
    outputs_outlive_everything(engine);
    for &dtype in &models.identities {
        values_pass_unchanged(engine, dtype);
    }
    wrong_inputs_are_refused_and_harmless(engine);
    files_that_are_no_models_are_refused_by_name(engine);
    damaged_files_do_no_harm(engine, &models.damaged);
    for path in &models.unsupported {
        let error = engine.load(&spec_of(path)).err().expect("a model beyond the engine is refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    a_device_that_is_not_there_is_refused(engine);
    an_interruption_between_runs_does_nothing(engine);
    instances_run_at_the_same_time(engine);
    a_shared_net_mixes_no_rows_up(engine);
    trained_models_reach_their_accuracy(engine);
}

fn triton(name: &str) -> PathBuf {
    repository_path(&format!("tests/models/triton/{name}/1/model.onnx"))
}

#[track_caller]
fn load(engine: &dyn Engine, path: &Path) -> Arc<dyn Model> {
    engine.load(&spec_of(path)).unwrap_or_else(|error| panic!("{error:?}"))
}

fn instance(model: &dyn Model) -> Box<dyn Instance> {
    model.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).expect("an instance on the cpu")
}

/// Writes the tensors into the instance's buffer as the runtime does, and runs them.
///
/// # Errors
/// What the instance says.
pub fn run_staged(instance: &mut dyn Instance, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut layout = BatchLayout::default();
    for tensor in tensors {
        let len = tensor.payload_len();
        let (name, dtype, shape) = (tensor.name().clone(), tensor.dtype(), tensor.shape().clone());
        layout.inputs.push(InputLayout { name, dtype, shape, offset: layout.total_len, len });
        layout.total_len = (layout.total_len + len).next_multiple_of(BatchLayout::ALIGN);
    }
    let buffer = instance.input_buffer(&layout)?;
    assert_eq!((buffer.len(), buffer.as_ptr().align_offset(BatchLayout::ALIGN)), (layout.total_len, 0));
    for (input, tensor) in layout.inputs.iter().zip(tensors) {
        let data = tensor.bytes().expect("only fixed-size types are staged");
        buffer[input.offset..input.offset + input.len].copy_from_slice(data);
    }
    instance.run(Inputs::Staged(&layout))
}

fn run(instance: &mut dyn Instance, tensors: &[Tensor]) -> Vec<Tensor> {
    instance.run(Inputs::Direct(tensors)).unwrap_or_else(|error| panic!("{error:?}"))
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec::<f32>().unwrap_or_else(|| panic!("{tensor:?} holds no FP32"))
}

/// `rows` rows of 16 for `add_sub_fp32`, different for each `seed`.
fn add_sub_inputs(rows: usize, seed: usize) -> Vec<Tensor> {
    let values = |step: f32| -> Vec<f32> { (0..rows * 16).map(|idx| (idx + seed * 7919) as f32 * step).collect() };
    vec![tensor("INPUT0", &[rows, 16], &values(1.0)), tensor("INPUT1", &[rows, 16], &values(0.25))]
}

#[track_caller]
fn check_add_sub(inputs: &[Tensor], outputs: &[Tensor]) {
    let (a, b) = (floats(&inputs[0]), floats(&inputs[1]));
    let sums: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let differences: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    assert_eq!(outputs.len(), 2);
    assert_eq!((&**outputs[0].name(), outputs[0].shape()), ("OUTPUT0", inputs[0].shape()));
    assert_eq!((&**outputs[1].name(), outputs[1].shape()), ("OUTPUT1", inputs[0].shape()));
    assert_eq!((floats(&outputs[0]), floats(&outputs[1])), (sums, differences));
}

fn signatures_are_read_from_the_file(engine: &dyn Engine) {
    let model = load(engine, &triton("add_sub_fp32"));
    let signature = model.signature();
    let names: Vec<&str> = signature.inputs.iter().chain(&signature.outputs).map(|spec| &*spec.name).collect();
    assert_eq!(names, ["INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1"]);
    for spec in signature.inputs.iter().chain(&signature.outputs) {
        assert_eq!((spec.dtype, spec.wire_shape()), (DataType::Fp32, vec![-1, 16]), "{}", spec.name);
        assert!(!spec.optional);
    }
    assert_eq!(signature.batching, Batching::Rows { limit: None });
    assert!(model.memory_bytes() > 0);

    let fixed = load(engine, &triton("no_batch"));
    assert_eq!(fixed.signature().batching, Batching::Fixed);
    assert_eq!(fixed.signature().inputs[0].wire_shape(), [2, 3]);
    let dynamic = load(engine, &triton("dynamic_shape"));
    assert_eq!(dynamic.signature().inputs[0].wire_shape(), [-1, -1, -1]);
}

fn staged_direct_and_unaligned_inputs_give_the_same_answer(engine: &dyn Engine) {
    let model = load(engine, &triton("add_sub_fp32"));
    let mut instance = instance(&*model);
    for rows in [1, 3, 64, 2] {
        let inputs = add_sub_inputs(rows, rows);
        check_add_sub(&inputs, &run(&mut *instance, &inputs));
        check_add_sub(&inputs, &run_staged(&mut *instance, &inputs).expect("a staged run"));
        let mut swapped = inputs.clone();
        swapped.reverse();
        check_add_sub(&inputs, &run(&mut *instance, &swapped));
        for shift in 1..4 {
            let moved: Vec<Tensor> = inputs.iter().map(|input| moved_by(input, shift)).collect();
            check_add_sub(&inputs, &run(&mut *instance, &moved));
        }
        // One where it lies, one copied.
        check_add_sub(&inputs, &run(&mut *instance, &[inputs[0].clone(), moved_by(&inputs[1], 1)]));
    }
}

/// The same tensor, `shift` bytes off any alignment, as inside a request's body.
pub(crate) fn moved_by(input: &Tensor, shift: usize) -> Tensor {
    let data = input.bytes().expect("a fixed-size type");
    let mut body = vec![0u8; data.len() + 64 + shift];
    let start = body.as_ptr().align_offset(64) + shift;
    body[start..start + data.len()].copy_from_slice(data);
    let moved = Bytes::from(body).slice(start..start + data.len());
    Tensor::new(input.name().clone(), input.dtype(), input.shape().clone(), moved).expect("the same tensor")
}

fn a_batch_gives_what_its_rows_give_alone(engine: &dyn Engine) {
    let model = load(engine, &repository_path("examples/demo/iris/model.onnx"));
    let mut instance = instance(&*model);
    let values: Vec<f32> = (0..32 * 4).map(|idx| (idx % 23) as f32 * 0.3).collect();
    let name = model.signature().inputs[0].name.clone();
    let whole = run(&mut *instance, &[tensor(&name, &[32, 4], &values)]);
    for row_idx in 0..32 {
        let alone = run(&mut *instance, &[tensor(&name, &[1, 4], &values[row_idx * 4..row_idx * 4 + 4])]);
        for (alone, whole) in alone.iter().zip(&whole) {
            let row = whole.slice_rows(row_idx..row_idx + 1).expect("a row of the batch");
            assert_eq!((alone.dtype(), alone.shape()), (row.dtype(), row.shape()));
            let Some(row) = row.to_vec::<f32>() else {
                assert_eq!(alone.bytes(), row.bytes());
                continue;
            };
            let close = floats(alone).iter().zip(&row).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "row {row_idx}: alone {:?}, in a batch {row:?}", floats(alone));
        }
    }
}

fn output_shapes_may_depend_on_the_input(engine: &dyn Engine) {
    let model = load(engine, &triton("dynamic_shape"));
    let mut instance = instance(&*model);
    for [batch, rows, columns] in [[1, 2, 3], [2, 5, 1], [4, 1, 7], [1, 1, 1], [3, 2, 2]] {
        let values: Vec<f32> = (0..batch * rows * columns).map(|idx| idx as f32).collect();
        let outputs = run(&mut *instance, &[tensor("INPUT0", &[batch, rows, columns], &values)]);
        assert_eq!(*outputs[0].shape(), Shape::from([batch, columns, rows]));
        assert_eq!(*outputs[1].shape(), Shape::from([batch, rows]));
        let sums: Vec<f32> = values.chunks(columns).map(|row| row.iter().sum()).collect();
        assert_eq!(floats(&outputs[1]), sums);
        let at = |b: usize, r: usize, c: usize| values[(b * rows + r) * columns + c];
        let transposed: Vec<f32> = (0..batch)
            .flat_map(|b| (0..columns).flat_map(move |c| (0..rows).map(move |r| (b, r, c))))
            .map(|(b, r, c)| at(b, r, c))
            .collect();
        assert_eq!(floats(&outputs[0]), transposed);
    }
}

fn models_without_a_batch_dimension_run(engine: &dyn Engine) {
    let model = load(engine, &triton("no_batch"));
    let outputs = run(&mut *instance(&*model), &[tensor("INPUT0", &[2, 3], &[0f32; 6])]);
    assert_eq!(floats(&outputs[0]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

fn outputs_outlive_everything(engine: &dyn Engine) {
    let model = load(engine, &triton("identity_fp32"));
    let mut instance = instance(&*model);
    let values: Vec<f32> = (0..4096).map(|idx| idx as f32).collect();
    let first = run_staged(&mut *instance, &[tensor("INPUT0", &[4, 1024], &values)]).expect("a run");
    let direct = run(&mut *instance, &[tensor("INPUT0", &[4, 1024], &values)]);
    let row = direct[0].slice_rows(2..3).expect("a row");
    drop(direct);
    // The buffer is used again; an answer must not have been a view of it.
    for _ in 0..8 {
        run_staged(&mut *instance, &[tensor("INPUT0", &[4, 1024], &vec![-1f32; 4096])]).expect("a run");
    }
    assert_eq!(floats(&first[0]), values);
    drop(instance);
    drop(model);
    assert_eq!(floats(&first[0]), values);
    let reader = std::thread::spawn(move || floats(&row));
    assert_eq!(reader.join().expect("a reader on another thread"), values[2048..3072]);
}

fn values_pass_unchanged(engine: &dyn Engine, dtype: DataType) {
    let model = load(engine, &triton(&format!("identity_{}", dtype.as_str().to_lowercase())));
    let signature = model.signature();
    assert_eq!((signature.inputs[0].dtype, signature.outputs[0].dtype), (dtype, dtype));
    let mut instance = instance(&*model);
    let Some(size) = dtype.size() else {
        let odd: [&[u8]; 6] = [b"", b"plain", "grüße".as_bytes(), b"a\0b\0", &[0xff, 0xfe, 0x80], &[b'x'; 70_000]];
        let outputs = run(&mut *instance, &[text("INPUT0", &[2, 3], &odd)]);
        let back: Vec<&[u8]> = outputs[0].elements().expect("BYTES").iter().collect();
        assert_eq!((back.as_slice(), outputs[0].shape()), (odd.as_slice(), &Shape::from([2, 3])));
        return;
    };
    for (rows, columns) in [(1, 1), (3, 5), (2, 64)] {
        let data: Bytes = (0..rows * columns).flat_map(|idx| element(dtype, size, idx)).collect::<Vec<u8>>().into();
        let input = Tensor::new("INPUT0", dtype, [rows, columns], data.clone()).expect("an input");
        let direct = run(&mut *instance, &[moved_by(&input, 1)]);
        assert_eq!((direct[0].bytes(), direct[0].shape()), (Some(&data), input.shape()), "{dtype}");
        let staged = run_staged(&mut *instance, &[input]).expect("a staged run");
        assert_eq!(staged[0].bytes(), Some(&data), "{dtype}");
    }
    if dtype == DataType::Bool {
        let odd = Tensor::new("INPUT0", dtype, [1, 3], Bytes::from_static(&[0, 1, 255])).expect("an input");
        let expected = Some(Bytes::from_static(&[0, 1, 1]));
        assert_eq!(run(&mut *instance, std::slice::from_ref(&odd))[0].bytes(), expected.as_ref());
        assert_eq!(run_staged(&mut *instance, &[odd]).expect("a staged run")[0].bytes(), expected.as_ref());
    }
}

/// Different values, the least and the greatest of 32 bits among them, that survive being held as
/// a 32-bit number: an engine may hold 64-bit integers so.
fn element(dtype: DataType, size: usize, idx: usize) -> Vec<u8> {
    let number = [0i32, 1, -1, i32::MAX, i32::MIN, 100, -100][idx % 7].wrapping_add((idx / 7) as i32);
    match dtype {
        DataType::Bool => vec![(idx % 2) as u8],
        DataType::Int64 => i64::from(number).to_le_bytes().to_vec(),
        DataType::Fp64 => (idx as f64 * 0.5).to_le_bytes().to_vec(),
        DataType::Fp32 => (idx as f32 * -0.5).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().into_iter().chain((idx as u32).to_le_bytes()).take(size).collect(),
    }
}

fn wrong_inputs_are_refused_and_harmless(engine: &dyn Engine) {
    let model = load(engine, &triton("add_sub_fp32"));
    let mut instance = instance(&*model);
    let good = add_sub_inputs(2, 1);
    let narrow = tensor("INPUT1", &[2, 15], &[0f32; 30]);
    let whole_numbers = tensor("INPUT1", &[2, 16], &[0i32; 32]);
    let unknown = good[1].clone().rename("INPUT2");
    let cases: [&[Tensor]; 5] = [
        &[good[0].clone()],
        &[good[0].clone(), narrow],
        &[good[0].clone(), whole_numbers],
        &[good[0].clone(), unknown],
        &[],
    ];
    for inputs in cases {
        let error = instance.run(Inputs::Direct(inputs)).expect_err("wrong inputs");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        check_add_sub(&good, &run(&mut *instance, &good));
    }
}

fn files_that_are_no_models_are_refused_by_name(engine: &dyn Engine) {
    for name in ["truncated.onnx", "empty.onnx", "not_onnx.onnx", "no_such_file.onnx"] {
        let path = repository_path("tests/models/broken").join(name);
        let error = engine.load(&spec_of(&path)).err().unwrap_or_else(|| panic!("{name} was loaded"));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.message().contains(name), "{error}");
    }
    let folder = repository_path("tests/models");
    assert_eq!(engine.load(&spec_of(&folder)).err().expect("a folder").kind(), ErrorKind::InvalidInput);
}

/// Loading such a file may succeed or fail; it must not bring the process down, and the engine
/// goes on.
fn damaged_files_do_no_harm(engine: &dyn Engine, models: &[PathBuf]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for path in models {
        let whole = std::fs::read(path).expect("a model");
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..150 {
            let mut damaged = whole.clone();
            for _ in 0..1 + round % 4 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % damaged.len();
                damaged[at] = (random >> 17) as u8;
            }
            let path = folder.path().join("damaged.onnx");
            std::fs::write(&path, &damaged).expect("a damaged model");
            let _ = engine.load(&spec_of(&path));
        }
    }
    let good = add_sub_inputs(1, 1);
    check_add_sub(&good, &run(&mut *instance(&*load(engine, &triton("add_sub_fp32"))), &good));
}

fn a_device_that_is_not_there_is_refused(engine: &dyn Engine) {
    let model = load(engine, &triton("add_sub_fp32"));
    for device in ["cuda:99", "abacus"] {
        let placement = Placement { device: device.to_owned(), threads: 1, core: None };
        let error = model.instance(&placement).err().expect("no such device");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().starts_with(&format!("device '{device}': ")), "{error}");
    }
}

/// How a run in progress is ended, each engine that can do so tests with a model of its own.
fn an_interruption_between_runs_does_nothing(engine: &dyn Engine) {
    let model = load(engine, &triton("add_sub_fp32"));
    let mut instance = instance(&*model);
    let Some(interrupt) = instance.interrupt() else { return };
    let inputs = add_sub_inputs(2, 3);
    for _ in 0..3 {
        interrupt();
        check_add_sub(&inputs, &run(&mut *instance, &inputs));
    }
    drop(instance);
    interrupt();
}

fn instances_run_at_the_same_time(engine: &dyn Engine) {
    let model = load(engine, &triton("add_sub_fp32"));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let mut instance = instance(&*model);
            scope.spawn(move || {
                for round in 0..300 {
                    let inputs = add_sub_inputs(1 + (worker + round) % 9, worker * 1000 + round);
                    let outputs = match round % 2 {
                        0 => run(&mut *instance, &inputs),
                        _ => run_staged(&mut *instance, &inputs).expect("a staged run"),
                    };
                    check_add_sub(&inputs, &outputs);
                }
            });
        }
    });
}

/// As above, with a model whose steps hold memory in between.
fn a_shared_net_mixes_no_rows_up(engine: &dyn Engine) {
    let model = load(engine, &repository_path("examples/demo/digits/model.onnx"));
    let name = model.signature().inputs[0].name.clone();
    let picture = |idx: usize| -> Vec<f32> { (0..64).map(|pixel| ((pixel * (idx + 3)) % 17) as f32).collect() };
    let mut alone = instance(&*model);
    let expected: Vec<Vec<f32>> =
        (0..16).map(|idx| floats(&run(&mut *alone, &[tensor(&name, &[1, 1, 8, 8], &picture(idx))])[0])).collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (mut instance, name, expected) = (instance(&*model), name.clone(), &expected);
            scope.spawn(move || {
                for round in 0..100 {
                    let rows: Vec<usize> =
                        (0..1 + round % 8).map(|row_idx| (worker * 5 + round + row_idx) % 16).collect();
                    let pictures: Vec<f32> = rows.iter().flat_map(|&idx| picture(idx)).collect();
                    let outputs = run(&mut *instance, &[tensor(&name, &[rows.len(), 1, 8, 8], &pictures)]);
                    for (got, &idx) in floats(&outputs[0]).chunks(10).zip(&rows) {
                        let close = got.iter().zip(&expected[idx]).all(|(a, b)| (a - b).abs() < 1e-4);
                        assert!(close, "picture {idx}: expected {:?}, got {got:?}", expected[idx]);
                    }
                }
            });
        }
    });
}

/// The figures in the folders' `model.toml`.
fn trained_models_reach_their_accuracy(engine: &dyn Engine) {
    check_accuracy(engine, "iris", &[4], 0.9778, |label| match label {
        "setosa" => 0,
        "versicolor" => 1,
        _ => 2,
    });
    check_accuracy(engine, "digits", &[1, 8, 8], 0.9978, |label| label.parse().expect("a digit"));
}

fn check_accuracy(engine: &dyn Engine, name: &str, row_shape: &[usize], expected: f64, class: fn(&str) -> usize) {
    let folder = repository_path("examples/demo").join(name);
    let csv = std::fs::read_to_string(folder.join("held_out.csv")).expect("the held-out rows");
    let (mut values, mut truth) = (Vec::<f32>::new(), Vec::new());
    for line in csv.lines().skip(1) {
        let (cells, label) = line.rsplit_once(',').expect("a label at the end");
        values.extend(cells.split(',').map(|cell| cell.parse::<f32>().expect("a number")));
        truth.push(class(label));
    }
    let model = load(engine, &folder.join("model.onnx"));
    let shape: Vec<usize> = [truth.len()].iter().chain(row_shape).copied().collect();
    let outputs = run(&mut *instance(&*model), &[tensor(&model.signature().inputs[0].name, &shape, &values)]);
    let scores = outputs.iter().find(|output| output.dtype() == DataType::Fp32).expect("probabilities");
    let n_classes = scores.shape()[1];
    let guesses = floats(scores).chunks(n_classes).map(arg_max).collect::<Vec<_>>();
    let n_right = guesses.iter().zip(&truth).filter(|(guess, truth)| guess == truth).count();
    let accuracy = n_right as f64 / truth.len() as f64;
    assert!((accuracy - expected).abs() < 5e-5, "{name}: {accuracy}, expected {expected}");
}

fn arg_max(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0)
}
