//! What the graph gets of a batch, and what each request gets of its outputs.

use proptest::prelude::*;
use salver_core::{Batching, DataType, ErrorKind};

use super::*;

fn io(name: &str, dims: &[i64], is_ragged: bool) -> IoConfig {
    IoConfig {
        name: name.to_owned(),
        dtype: None,
        dims: Some(dims.iter().filter_map(|&dim| Dim::from_wire(dim)).collect()),
        reshape: None,
        label_filename: String::new(),
        optional: false,
        format: String::new(),
        allow_ragged_batch: is_ragged,
        is_shape_tensor: false,
    }
}

fn made(kind: BatchInputKind, target: &str) -> BatchInput {
    BatchInput { kind, targets: vec![target.to_owned()], numbers: NumberType::Int32, source: "x".to_owned() }
}

/// The graph takes `x` flat, `p` by rows and one input of each kind, named after it.
fn graph() -> Signature {
    let flat = |name: &str, dtype| TensorSpec::new(name, dtype, &[-1]);
    let mut inputs = vec![flat("x", DataType::Fp32), TensorSpec::new("p", DataType::Fp32, &[-1, 1])];
    for kind in BatchInputKind::ALL {
        let shape: &[i64] = if kind == BatchInputKind::ItemShape { &[-1, 2] } else { &[-1] };
        inputs.push(TensorSpec::new(kind.as_str(), DataType::Int32, shape));
    }
    let outputs = vec![flat("y", DataType::Fp32), TensorSpec::new("q", DataType::Fp32, &[-1, 1])];
    Signature { inputs, outputs, batching: Batching::Fixed }
}

fn config() -> ModelConfig {
    ModelConfig {
        batch: BatchRule::Max(8),
        inputs: vec![io("x", &[-1, 2], true), io("p", &[1], false)],
        outputs: vec![io("y", &[-1, 2], false), io("q", &[1], false)],
        batch_inputs: BatchInputKind::ALL.iter().map(|&kind| made(kind, kind.as_str())).collect(),
        batch_outputs: vec![BatchOutput { targets: vec!["y".to_owned()], source: "x".to_owned() }],
        ..ModelConfig::default()
    }
}

fn ragged() -> (Ragged, Signature) {
    Ragged::new(&graph(), &config()).unwrap().unwrap()
}

/// A request of `rows` rows with `[n, 2]` elements each, which count up from `from`.
fn request(rows: usize, n: usize, from: f32) -> Vec<Tensor> {
    let values: Vec<f32> = (0..rows * n * 2).map(|idx| from + idx as f32).collect();
    let x = Tensor::from_slice("x", [rows, n, 2], &values).unwrap();
    let p = Tensor::from_slice("p", [rows, 1], &vec![from; rows]).unwrap();
    vec![x, p]
}

fn members<'a>(filled: &'a [Vec<Tensor>], requests: &[Vec<Tensor>]) -> Vec<Member<'a>> {
    let member = |(inputs, request): (&'a Vec<Tensor>, &Vec<Tensor>)| {
        let rows = request.first().map_or(1, Tensor::rows);
        Member { inputs: inputs.as_slice(), rows, length: 0 }
    };
    filled.iter().zip(requests).map(member).collect()
}

fn views(requests: &[Vec<Tensor>]) -> Vec<&[Tensor]> {
    requests.iter().map(Vec::as_slice).collect()
}

/// What the graph gets, as text.
#[track_caller]
fn check(requests: &[Vec<Tensor>], expected: &[(&str, &[usize], &[i32])]) {
    let (ragged, _) = ragged();
    let filled = ragged.fill(&views(requests)).unwrap();
    let whole = assemble::merge(&members(&filled, requests)).unwrap();
    assert_eq!(whole.len(), graph().inputs.len());
    for (tensor, spec) in whole.iter().zip(graph().inputs) {
        assert!(spec.name == *tensor.name() && spec.accepts(tensor.shape()), "{spec:?}: {tensor:?}");
    }
    for (name, shape, values) in expected {
        let tensor = find(&whole, name).unwrap();
        assert_eq!((&**tensor.shape(), tensor.to_vec::<i32>().unwrap()), (*shape, values.to_vec()), "{name}");
    }
}

#[test]
fn every_kind_tells_of_the_batch_what_triton_tells() {
    let requests = [request(1, 3, 0.), request(2, 1, 10.), request(1, 0, 20.)];
    check(
        &requests,
        &[
            ("BATCH_ELEMENT_COUNT", &[3], &[6, 4, 0]),
            ("BATCH_ACCUMULATED_ELEMENT_COUNT", &[3], &[6, 10, 10]),
            ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", &[4], &[0, 6, 10, 10]),
            ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", &[6], &[0; 6]),
            ("BATCH_ITEM_SHAPE", &[4, 2], &[3, 2, 1, 2, 1, 2, 0, 2]),
            ("BATCH_ITEM_SHAPE_FLATTEN", &[8], &[3, 2, 1, 2, 1, 2, 0, 2]),
        ],
    );
    check(
        &requests[1..2],
        &[
            ("BATCH_ELEMENT_COUNT", &[1], &[4]),
            ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", &[2], &[0, 4]),
            ("BATCH_ITEM_SHAPE", &[2, 2], &[1, 2, 1, 2]),
        ],
    );
}

#[test]
fn counts_may_be_floats_and_have_several_inputs() {
    let mut config = config();
    config.batch_inputs.retain(|input| input.kind != BatchInputKind::ItemShape);
    config.batch_inputs[0].numbers = NumberType::Fp32;
    let mut graph = graph();
    graph.inputs.retain(|spec| &*spec.name != "BATCH_ITEM_SHAPE");
    graph.inputs[2].dtype = DataType::Fp32;
    graph.inputs.push(TensorSpec::new("again", DataType::Fp32, &[-1]));
    config.batch_inputs[0].targets.push("again".to_owned());
    let (ragged, requests) = Ragged::new(&graph, &config).unwrap().unwrap();
    let filled = ragged.fill_alone(&request(1, 3, 0.)).unwrap();
    assert_eq!(find(&filled, "again").unwrap().to_vec::<f32>().unwrap(), [6.]);
    assert_eq!(find(&filled, "BATCH_ELEMENT_COUNT").unwrap().to_vec::<f32>().unwrap(), [6.]);
    assert_eq!(requests.inputs.len(), 2, "{requests:?}");
}

#[test]
fn requests_are_held_against_their_own_shapes() {
    let (ragged, requests) = ragged();
    let shapes: Vec<_> = requests.inputs.iter().chain(&requests.outputs).map(TensorSpec::wire_shape).collect();
    assert_eq!(shapes, [vec![-1, -1, 2], vec![-1, 1], vec![-1, -1, 2], vec![-1, 1]]);
    assert!(ragged.is_flat("x") && !ragged.is_flat("p") && !ragged.is_flat("BATCH_ITEM_SHAPE"));
    assert!(Ragged::new(&graph(), &ModelConfig::default()).unwrap().is_none());
    let mut graph = graph();
    graph.inputs.iter_mut().for_each(|spec| spec.optional = true);
    let (_, requests) = Ragged::new(&graph, &config()).unwrap().unwrap();
    assert_eq!(requests.inputs.iter().map(|spec| spec.optional).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn an_output_that_has_not_what_its_requests_get_is_an_error() {
    let (ragged, _) = ragged();
    let requests = [request(1, 3, 0.), request(1, 1, 10.)];
    let filled = ragged.fill(&views(&requests)).unwrap();
    let y = |n: usize| Tensor::from_slice("y", [n], &vec![0f32; n]).unwrap();
    let q = |n: usize| Tensor::from_slice("q", [n, 1], &vec![0f32; n]).unwrap();
    let split = |outputs| ragged.split(outputs, &views(&requests), &members(&filled, &requests));
    let error = split(vec![y(7), q(2)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert!(error.message().starts_with("output 'y' has shape [7], but batch_output gives its requests 8"), "{error}");
    assert!(split(vec![y(8), q(3)]).unwrap_err().message().contains("'q' has shape [3,1] for a batch of 2 rows"));
    assert!(split(vec![]).is_err() && split(vec![y(8), q(2)]).is_ok());
}

#[test]
fn a_count_that_does_not_fit_is_refused() {
    let made =
        Made { name: "n".into(), kind: BatchInputKind::ElementCount, numbers: NumberType::Int32, source: "x".into() };
    let error = made.tensor(&[1], &[1 << 31]).unwrap_err();
    assert_eq!(error.message(), "input 'x' has more elements than 'n' can count, INT32");
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Signature, &mut ModelConfig), expected: &str) {
    let (mut graph, mut config) = (graph(), config());
    change(&mut graph, &mut config);
    let error = Ragged::new(&graph, &config).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidInput, expected));
}

#[test]
fn what_does_not_fit_the_graph_is_refused_by_name() {
    let flat = |shape: &str| {
        format!(
            "input 'x' has allow_ragged_batch, for which the graph must take the elements of all requests in one \
             dimension, [-1], but it has {shape}; leave allow_ragged_batch out, or change the graph"
        )
    };
    refused(|graph, _| graph.inputs[0].shape.push(Dim::Free), &flat("[-1, -1]"));
    refused(|graph, _| graph.inputs[0].shape[0] = Dim::Fixed(16), &flat("[16]"));
    refused(
        |graph, _| graph.inputs[2].dtype = DataType::Int64,
        "batch_input 'BATCH_ELEMENT_COUNT': data_type is that of INT32, but the graph has INT64",
    );
    refused(
        |graph, _| graph.inputs[2].shape.push(Dim::Fixed(1)),
        "batch_input 'BATCH_ELEMENT_COUNT': BATCH_ELEMENT_COUNT has the shape [-1], but the graph takes [-1, 1]",
    );
    refused(
        |graph, _| graph.inputs[6].shape[1] = Dim::Fixed(3),
        "batch_input 'BATCH_ITEM_SHAPE': BATCH_ITEM_SHAPE has the shape [-1, 2], but the graph takes [-1, 3]",
    );
    let shown = "which has 'x', 'p', 'BATCH_ELEMENT_COUNT', 'BATCH_ACCUMULATED_ELEMENT_COUNT', \
                 'BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO', 'BATCH_MAX_ELEMENT_COUNT_AS_SHAPE', \
                 'BATCH_ITEM_SHAPE', 'BATCH_ITEM_SHAPE_FLATTEN'";
    refused(
        |_, config| config.batch_inputs[0].targets[0] = "n".to_owned(),
        &format!("batch_input 'n' is not in the graph, {shown}"),
    );
    refused(|_, config| config.inputs[0].name = "z".to_owned(), &format!("input 'z' is not in the graph, {shown}"));
    refused(
        |_, config| config.batch_outputs[0].targets[0] = "z".to_owned(),
        "batch_output 'z' is not in the graph, which has 'y', 'q'",
    );
    refused(
        |_, config| config.inputs[0].allow_ragged_batch = false,
        "source_input 'x' is no input with allow_ragged_batch",
    );
    refused(
        |_, config| config.batch_inputs[0].targets[0] = "p".to_owned(),
        "batch_input 'p': leave it out of the inputs of requests",
    );
    refused(
        |_, config| config.batch = BatchRule::Never,
        "batch_input 'BATCH_ITEM_SHAPE': BATCH_ITEM_SHAPE needs a batch dimension: set max_batch_size",
    );
}

proptest! {
    #[test]
    fn what_is_laid_end_to_end_comes_back_as_it_went(sizes in proptest::collection::vec((1usize..4, 0usize..6), 1..8)) {
        let (ragged, _) = ragged();
        let mut from = 0.;
        let requests: Vec<Vec<Tensor>> = sizes.iter().map(|&(rows, n)| {
            from += 100.;
            request(rows, n, from)
        }).collect();
        let filled = ragged.fill(&views(&requests)).unwrap();
        let members = members(&filled, &requests);
        let whole = assemble::merge(&members).unwrap();
        let plan = assemble::layout(&members, None).unwrap();
        let mut buffer = vec![0; plan.total_len];
        assemble::stage(&members, None, &plan, &mut buffer).unwrap();
        for (input, tensor) in plan.inputs.iter().zip(&whole) {
            prop_assert_eq!(&input.shape, tensor.shape());
            prop_assert_eq!(&buffer[input.offset..input.offset + input.len], &tensor.bytes().unwrap()[..]);
        }
        let outputs = vec![whole[0].clone().rename("y"), whole[1].clone().rename("q")];
        let parts = ragged.split(outputs, &views(&requests), &members).unwrap();
        prop_assert_eq!(parts.len(), requests.len());
        for (part, request) in parts.iter().zip(&requests) {
            for (output, input) in part.iter().zip(request) {
                prop_assert_eq!((output.shape(), output.bytes()), (input.shape(), input.bytes()));
            }
        }
    }
}
