use super::*;

fn graph() -> Signature {
    Signature {
        inputs: vec![TensorSpec::new("a", DataType::Fp32, &[-1, 2]), TensorSpec::new("b", DataType::Fp32, &[-1])],
        outputs: vec![TensorSpec::new("y", DataType::Fp32, &[-1]), TensorSpec::new("z", DataType::Fp32, &[-1, 2])],
        batching: Batching::Rows { limit: None },
    }
}

fn io(name: &str, dims: &[i64], reshape: Option<&[i64]>) -> IoConfig {
    let read = |dims: &[i64]| dims.iter().filter_map(|&dim| Dim::from_wire(dim)).collect();
    IoConfig {
        name: name.to_owned(),
        dtype: Some(DataType::Fp32),
        dims: Some(read(dims)),
        reshape: reshape.map(read),
        label_filename: String::new(),
        optional: false,
        format: String::new(),
        allow_ragged_batch: false,
        is_shape_tensor: false,
    }
}

fn config(batch: BatchRule, inputs: Vec<IoConfig>, outputs: Vec<IoConfig>) -> ModelConfig {
    ModelConfig { batch, inputs, outputs, ..ModelConfig::default() }
}

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    Tensor::from_slice(name, shape, &vec![1f32; count]).unwrap()
}

#[test]
fn nothing_declared_means_as_in_the_graph() {
    let interface = Interface::new(&graph(), &ModelConfig::default()).unwrap();
    assert_eq!(interface.wire, graph());
    assert_eq!(interface.config.batch, BatchRule::Max(64));
    assert_eq!(interface.config.inputs[0].dims, Some(vec![Dim::Fixed(2)]));
}

#[test]
fn reshape_and_order_are_undone_on_both_sides() {
    let declared = config(
        BatchRule::Max(8),
        vec![io("b", &[1], Some(&[])), io("a", &[1, 2], Some(&[2]))],
        vec![io("y", &[1], Some(&[]))],
    );
    let interface = Interface::new(&graph(), &declared).unwrap();
    assert_eq!(interface.wire.inputs[0].wire_shape(), [-1, 1]);
    let accepted = interface.accept("m", vec![tensor("b", &[3, 1]), tensor("a", &[3, 1, 2])]).unwrap();
    let seen: Vec<String> = accepted.iter().map(|tensor| format!("{tensor:?}")).collect();
    assert_eq!(seen, ["Tensor(a FP32 [3,2])", "Tensor(b FP32 [3])"]);
    let presented = interface.present(&[], vec![tensor("y", &[3]), tensor("z", &[3, 2])]).unwrap();
    assert_eq!(format!("{presented:?}"), "[Tensor(y FP32 [3,1])]");
}

#[track_caller]
fn check_refused(config: &ModelConfig, expected: &str) {
    let error = Interface::new(&graph(), config).unwrap_err();
    assert!(error.message().contains(expected), "{error}");
}

#[test]
fn declarations_that_contradict_the_graph_are_refused_by_name() {
    let both = || vec![io("a", &[2], None), io("b", &[], None)];
    check_refused(&config(BatchRule::Max(8), vec![io("a", &[2], None)], vec![]), "input 'b' of the graph is missing");
    check_refused(&config(BatchRule::Max(8), vec![io("c", &[2], None)], vec![]), "is missing");
    check_refused(&config(BatchRule::Max(8), vec![io("a", &[3], None), io("b", &[], None)], vec![]), "[-1, 3]");
    check_refused(&config(BatchRule::Max(8), both(), vec![io("q", &[], None)]), "output 'q' is not in the graph");
    let mut wrong = both();
    wrong[0].dtype = Some(DataType::Int32);
    check_refused(&config(BatchRule::Max(8), wrong, vec![]), "declared as INT32, but the graph has FP32");
}

#[test]
fn a_fixed_first_dimension_cannot_be_batched() {
    let mut graph = graph();
    graph.inputs[0].shape[0] = Dim::Fixed(1);
    let declared = config(BatchRule::Max(8), vec![io("a", &[2], None), io("b", &[], None)], vec![]);
    let error = Interface::new(&graph, &declared).unwrap_err();
    assert!(error.message().contains("use max_batch_size: 0"), "{error}");
}

#[test]
fn wanted_outputs_come_once_and_in_the_order_asked_for() {
    let interface = Interface::new(&graph(), &ModelConfig::default()).unwrap();
    let wanted = select("m", &interface.wire.outputs, &["z".into(), "y".into(), "z".into()]).unwrap();
    assert_eq!(wanted, [1, 0]);
    let error = select("m", &interface.wire.outputs, &["q".into()]).unwrap_err();
    assert!(error.message().starts_with("unexpected inference output 'q' for model 'm'"), "{error}");
}
