//! Every rule of the gRPC form: typed and raw contents, parameters, streams, statuses.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use salver_core::{
    BatchRule, DataType, Dim, Element, ErrorKind, InferRequest, InferResponse, IoConfig, ModelConfig, ModelState,
    ModelStatistics, ModelStatus, Tensor, Timings,
};

use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::{InferTensorContents, ModelInferRequest, ModelRepositoryParameter, model_repository_parameter};
use super::*;
use crate::oip_rest::tests::any_tensor;
use crate::samples;

fn input(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents,
        ..Default::default()
    }
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".to_owned(),
        inputs,
        raw_input_contents: raw.iter().map(|&blob| blob.into()).collect(),
        ..Default::default()
    }
}

fn typed(datatype: &str, shape: &[i64], fill: impl FnOnce(&mut InferTensorContents)) -> ModelInferRequest {
    let mut contents = InferTensorContents::default();
    fill(&mut contents);
    request(vec![input(datatype, shape, Some(contents))], &[])
}

fn decode(message: ModelInferRequest) -> Result<InferRequest> {
    decode_infer(message, &Limits::default()).map(|(request, _)| request)
}

#[track_caller]
fn refuse(message: ModelInferRequest, kind: ErrorKind, fragment: &str) {
    let error = decode(message).expect_err("the request is refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().contains(fragment), "{fragment:?} is not in {:?}", error.message());
}

#[track_caller]
fn values<T: Element>(message: ModelInferRequest) -> Vec<T> {
    decode(message).unwrap().inputs[0].to_vec().expect("the input has the asked type")
}

#[test]
fn every_type_has_its_typed_field() {
    assert_eq!(values::<bool>(typed("BOOL", &[2], |all| all.bool_contents = vec![true, false])), [true, false]);
    assert_eq!(values::<i8>(typed("INT8", &[2], |all| all.int_contents = vec![-128, 127])), [-128, 127]);
    assert_eq!(values::<i16>(typed("INT16", &[1], |all| all.int_contents = vec![-32768])), [-32768]);
    assert_eq!(values::<i32>(typed("INT32", &[1], |all| all.int_contents = vec![i32::MIN])), [i32::MIN]);
    assert_eq!(values::<i64>(typed("INT64", &[1], |all| all.int64_contents = vec![i64::MIN])), [i64::MIN]);
    assert_eq!(values::<u8>(typed("UINT8", &[1], |all| all.uint_contents = vec![255])), [255]);
    assert_eq!(values::<u16>(typed("UINT16", &[1], |all| all.uint_contents = vec![65535])), [65535]);
    assert_eq!(values::<u32>(typed("UINT32", &[1], |all| all.uint_contents = vec![u32::MAX])), [u32::MAX]);
    assert_eq!(values::<u64>(typed("UINT64", &[1], |all| all.uint64_contents = vec![u64::MAX])), [u64::MAX]);
    assert_eq!(values::<f32>(typed("FP32", &[1, 1], |all| all.fp32_contents = vec![0.5])), [0.5]);
    assert_eq!(values::<f64>(typed("FP64", &[1], |all| all.fp64_contents = vec![0.1])), [0.1]);
    let texts = decode(typed("BYTES", &[2], |all| all.bytes_contents = vec!["".into(), b"\xff"[..].into()])).unwrap();
    assert_eq!(texts.inputs[0].elements().unwrap().iter().collect::<Vec<_>>(), [&b""[..], b"\xff"]);
    assert!(values::<f32>(typed("FP32", &[1, 0], |_| ())).is_empty());
}

#[test]
fn typed_contents_that_do_not_fit_are_refused() {
    let kind = ErrorKind::InvalidInput;
    refuse(typed("INT8", &[1], |all| all.int_contents = vec![128]), kind, "element 0 does not fit INT8");
    refuse(typed("UINT8", &[2], |all| all.uint_contents = vec![1, 256]), kind, "element 1 does not fit UINT8");
    refuse(typed("INT16", &[1], |all| all.int_contents = vec![40000]), kind, "input 'x'");
    refuse(typed("FP32", &[2], |all| all.fp32_contents = vec![1.0]), kind, "shape [2] does not hold the 1 elements");
    refuse(typed("FP32", &[1], |all| all.fp64_contents = vec![1.0]), kind, "stand in 'fp64_contents'");
    refuse(typed("INT64", &[1], |all| all.int_contents = vec![1]), kind, "stand in 'int_contents'");
    refuse(typed("FP16", &[1], |all| all.fp32_contents = vec![1.0]), kind, "use 'raw_input_contents'");
    refuse(typed("BF16", &[1], |_| ()), kind, "use 'raw_input_contents'");
    refuse(typed("fp32", &[1], |all| all.fp32_contents = vec![1.0]), kind, "invalid datatype for input 'x'");
    refuse(typed("FP32", &[-1], |all| all.fp32_contents = vec![1.0]), kind, "input 'x': shape");
    refuse(typed("FP32", &[i64::MAX, 4], |all| all.fp32_contents = vec![1.0]), kind, "input 'x'");
    refuse(typed("FP32", &[1; 65], |all| all.fp32_contents = vec![1.0]), kind, "64 dimensions");
    assert_eq!(values::<f32>(typed("FP32", &[1; 64], |all| all.fp32_contents = vec![1.0])), [1.0]);
}

#[test]
fn raw_contents_are_shared_not_copied() {
    static BLOB: [u8; 8] = [1, 0, 0, 0, 2, 0, 0, 0];
    let read = decode(request(vec![input("INT32", &[2], None)], &[&BLOB])).unwrap();
    assert_eq!(read.inputs[0].to_vec::<i32>().unwrap(), [1, 2]);
    assert_eq!(read.inputs[0].bytes().unwrap().as_ptr(), BLOB.as_ptr());
    let half = decode(request(vec![input("FP16", &[1], None)], &[&[0, 0x3c]])).unwrap();
    assert_eq!(half.inputs[0].to_vec::<half::f16>().unwrap(), [half::f16::ONE]);
}

#[test]
fn raw_contents_are_one_blob_per_input_of_its_size() {
    let kind = ErrorKind::InvalidInput;
    let one = || vec![input("INT32", &[1], None)];
    refuse(request(one(), &[&[0; 4], &[0; 4]]), kind, "2 items for 1 inputs");
    refuse(request([one(), one()].concat(), &[&[0; 4]]), kind, "1 items for 2 inputs");
    refuse(request(Vec::new(), &[&[0; 4]]), kind, "1 items for 0 inputs");
    refuse(request(one(), &[&[0; 3]]), kind, "takes 4 bytes, got 3");
    refuse(request(one(), &[&[0; 5]]), kind, "takes 4 bytes, got 5");
    refuse(request(one(), &[]), kind, "does not hold the 0 elements");
    refuse(request(vec![input("BYTES", &[1], None)], &[b"\x02\0\0\0a"]), kind, "ends beyond");
    let contents = InferTensorContents { int_contents: vec![1], ..Default::default() };
    refuse(request(vec![input("INT32", &[1], Some(contents))], &[&[0; 4]]), kind, "although the request has");
    let empty = request(vec![input("INT32", &[1], Some(InferTensorContents::default()))], &[&[0; 4]]);
    assert!(decode(empty).is_ok());
}

fn choice(value: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(value) }
}

fn with_parameter(name: &str, value: InferParameter) -> ModelInferRequest {
    let mut message = request(Vec::new(), &[]);
    message.parameters.insert(name.to_owned(), value);
    message
}

#[test]
fn parameters_of_every_kind_are_read_and_reserved_ones_checked() {
    let read = |value| decode(with_parameter("p", choice(value))).unwrap().parameters["p"].clone();
    assert_eq!(read(ParameterChoice::BoolParam(true)), Parameter::Bool(true));
    assert_eq!(read(ParameterChoice::Int64Param(-1)), Parameter::Int(-1));
    assert_eq!(read(ParameterChoice::Uint64Param(1)), Parameter::Int(1));
    assert_eq!(read(ParameterChoice::Uint64Param(u64::MAX)), Parameter::Uint(u64::MAX));
    assert_eq!(read(ParameterChoice::DoubleParam(0.5)), Parameter::Float(0.5));
    assert_eq!(read(ParameterChoice::StringParam("s".to_owned())), Parameter::Text("s".to_owned()));
    let kind = ErrorKind::InvalidInput;
    refuse(with_parameter("p", InferParameter::default()), kind, "parameter 'p'");
    refuse(with_parameter("priority", choice(ParameterChoice::Int64Param(-1))), kind, "parameter 'priority'");
    refuse(with_parameter("timeout", choice(ParameterChoice::StringParam("1".to_owned()))), kind, "'timeout'");
    refuse(with_parameter("headers", choice(ParameterChoice::BoolParam(true))), kind, "parameter 'headers'");
    refuse(with_parameter("triton_x", choice(ParameterChoice::BoolParam(true))), kind, "reserved");
}

#[test]
fn outputs_are_served_once_and_features_refused() {
    let output = |name: &str| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
    let mut message = request(Vec::new(), &[]);
    message.outputs = vec![output("b"), output("a"), output("b")];
    let read = decode(message.clone()).unwrap();
    assert_eq!(read.outputs.iter().map(|name| &**name).collect::<Vec<_>>(), ["b", "a"]);
    let mut ask = |name: &str, value| {
        message.outputs[0].parameters = [(name.to_owned(), choice(value))].into();
        message.clone()
    };
    for wrong in [
        ParameterChoice::Int64Param(-1),
        ParameterChoice::StringParam("1".to_owned()),
        ParameterChoice::BoolParam(true),
        ParameterChoice::DoubleParam(1.),
    ] {
        refuse(ask("classification", wrong), ErrorKind::InvalidInput, "parameter 'classification' of output 'b'");
    }
}

#[test]
fn an_output_comes_back_as_its_best_classes() {
    let mut message = request(Vec::new(), &[]);
    let count = choice(ParameterChoice::Int64Param(2));
    message.outputs = vec![InferRequestedOutputTensor {
        name: "y".to_owned(),
        parameters: [("classification".to_owned(), count)].into(),
    }];
    let (_, options) = decode_infer(message, &Limits::default()).unwrap();
    let scores = Tensor::from_slice("y", [1, 3], &[1f32, 3., 2.]).unwrap();
    let reply = encode_infer(&response(vec![scores]), &options).unwrap();
    assert_eq!((&*reply.outputs[0].datatype, &*reply.outputs[0].shape), ("BYTES", &[1, 2][..]));
    assert_eq!(&reply.raw_output_contents[0][..], b"\x0a\0\0\x003.000000:1\x0a\0\0\x002.000000:2");
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    let many = |count| request(vec![input("INT8", &[0], None); count], &[]);
    assert!(decode(many(256)).is_ok());
    refuse(many(257), ErrorKind::TooLarge, "more than 256 inputs");
    let mut message = request(Vec::new(), &[]);
    message.outputs = vec![InferRequestedOutputTensor::default(); 256];
    assert!(decode(message.clone()).is_ok());
    message.outputs.push(InferRequestedOutputTensor::default());
    refuse(message, ErrorKind::TooLarge, "more than 256 outputs");
    let named = |len| {
        let mut message = request(vec![input("INT8", &[0], None)], &[]);
        message.inputs[0].name = "n".repeat(len);
        message
    };
    assert!(decode(named(128)).is_ok());
    refuse(named(129), ErrorKind::InvalidInput, "longer than 128 bytes");
}

#[test]
fn versions_are_decimal_numbers_or_empty() {
    assert_eq!(model_ref("m", "").unwrap().to_string(), "m");
    assert_eq!(model_ref("m", "-1").unwrap().to_string(), "m");
    assert_eq!(model_ref("m", "2").unwrap().to_string(), "m/2");
    for version in ["x", "1.0", "9223372036854775808", "+1", " 1"] {
        assert_eq!(model_ref("m", version).unwrap_err().kind(), ErrorKind::InvalidInput, "{version}");
    }
    let mut message = request(Vec::new(), &[]);
    message.model_version = "two".to_owned();
    refuse(message, ErrorKind::InvalidInput, "'two'");
}

#[test]
fn errors_carry_this_protocols_code() {
    for (kind, code) in [
        (ErrorKind::InvalidInput, tonic::Code::InvalidArgument),
        (ErrorKind::NotFound, tonic::Code::NotFound),
        (ErrorKind::Overloaded, tonic::Code::Unavailable),
        (ErrorKind::NotReady, tonic::Code::Unavailable),
        (ErrorKind::Conflict, tonic::Code::AlreadyExists),
        (ErrorKind::TooLarge, tonic::Code::ResourceExhausted),
        (ErrorKind::Deadline, tonic::Code::DeadlineExceeded),
        (ErrorKind::Cancelled, tonic::Code::Cancelled),
        (ErrorKind::Unsupported, tonic::Code::Unimplemented),
        (ErrorKind::Engine, tonic::Code::Internal),
    ] {
        let status = encode_error(&Error::new(kind, "why"));
        assert_eq!((status.code(), status.message()), (code, "why"));
    }
}

fn response(outputs: Vec<Tensor>) -> InferResponse {
    let model = Arc::new(samples::one_input(DataType::Fp32, &[-1]));
    InferResponse { model, id: Some("7".to_owned()), outputs, timings: Timings::default(), cache: None, cost: None }
}

#[test]
fn replies_are_raw_and_keep_their_order() {
    let outputs = vec![
        Tensor::from_slice("b", [1], &[1i16]).unwrap(),
        Tensor::from_elements("t", [1], ["ab"].into_iter().collect()).unwrap(),
        Tensor::from_slice("e", [0], &[0f32; 0]).unwrap(),
    ];
    let message = encode_infer(&response(outputs), &ReplyOptions::default()).unwrap();
    assert_eq!((&*message.model_name, &*message.model_version, &*message.id), ("m", "3", "7"));
    let named: Vec<_> = message.outputs.iter().map(|output| (&*output.name, &*output.datatype)).collect();
    assert_eq!(named, [("b", "INT16"), ("t", "BYTES"), ("e", "FP32")]);
    assert_eq!(message.raw_output_contents, [&b"\x01\0"[..], b"\x02\0\0\0ab", b""]);
}

#[test]
fn streams_mark_the_last_reply_only_where_asked() {
    let wants = |value| wants_final_response(&[("triton_enable_empty_final_response".to_owned(), value)].into());
    assert!(wants(Parameter::Bool(true)));
    assert!(!wants(Parameter::Bool(false)));
    assert!(!wants_final_response(&Parameters::new()));
    let marked = encode_stream(&response(Vec::new()), &ReplyOptions::default(), true).unwrap().infer_response.unwrap();
    assert_eq!(marked.parameters["triton_final_response"], choice(ParameterChoice::BoolParam(true)));
    let plain = encode_stream(&response(Vec::new()), &ReplyOptions::default(), false).unwrap();
    assert!(plain.infer_response.unwrap().parameters.is_empty());
    let failed = encode_stream_error(&Error::invalid_input("why"), "7");
    assert_eq!((&*failed.error_message, &*failed.infer_response.unwrap().id), ("why", "7"));
}

#[test]
fn descriptions_carry_what_the_rest_form_carries() {
    let metadata = model_metadata(&samples::one_input(DataType::Bytes, &[-1, 4]), &[1, 3]);
    assert_eq!(metadata.versions, ["1", "3"]);
    assert_eq!((&*metadata.inputs[0].datatype, &*metadata.inputs[0].shape), ("BYTES", &[-1, 4][..]));
    let status =
        ModelStatus { name: "m".to_owned(), version: Some(2), state: Some(ModelState::Warming), reason: String::new() };
    let index = repository_index(&[status]);
    assert_eq!((&*index.models[0].version, &*index.models[0].state), ("2", "LOADING"));
    let stats = statistics(&[ModelStatistics { inference_count: 4, ..ModelStatistics::default() }]);
    assert_eq!(stats.model_stats[0].inference_count, 4);
    assert_eq!(server_metadata("salver", "1", &["a"]).extensions, ["a"]);
}

#[test]
fn the_config_names_types_and_kinds() {
    let io = IoConfig {
        name: "x".to_owned(),
        dtype: Some(DataType::Bytes),
        dims: Some(vec![Dim::Free]),
        reshape: None,
        label_filename: String::new(),
        optional: true,
        format: "FORMAT_NCHW".to_owned(),
        allow_ragged_batch: false,
        is_shape_tensor: false,
    };
    let group = |kind: &str, accelerator: &str| salver_core::InstanceGroup {
        kind: kind.to_owned(),
        accelerator: Some(accelerator.to_owned()),
        threads: 2,
        ..Default::default()
    };
    let config = ModelConfig {
        batch: BatchRule::Max(8),
        inputs: vec![io],
        instance_groups: vec![group("KIND_GPU", "tensorrt"), group("KIND_CPU", "openvino")],
        ..Default::default()
    };
    let config = model_config("m", &config).config.unwrap();
    let accelerators = config.optimization.clone().unwrap().execution_accelerators.unwrap();
    assert_eq!(accelerators.gpu_execution_accelerator[0].name, "tensorrt");
    assert_eq!(accelerators.cpu_execution_accelerator[0].name, "openvino");
    assert_eq!(config.parameters["intra_op_thread_count"].string_value, "2");
    assert_eq!(model_config("m", &ModelConfig::default()).config.unwrap().optimization, None);
    assert_eq!(config.max_batch_size(), 8);
    assert_eq!(config.input[0].data_type(), inference::DataType::TypeString);
    assert_eq!(config.input[0].format(), inference::model_input::Format::Nchw);
    assert_eq!(config.input[0].dims, [-1]);
    assert!(config.scheduling_choice.is_some());
    for dtype in DataType::ALL {
        assert!(inference::DataType::from_str_name(oip::config_type(dtype)).is_some(), "{dtype}");
    }
}

#[test]
fn the_config_shows_what_the_server_makes_for_ragged_inputs() {
    use salver_core::{BatchInput, BatchInputKind, BatchOutput, NumberType};

    for kind in BatchInputKind::ALL {
        let targets = vec!["N".to_owned()];
        let input = BatchInput { kind, targets, numbers: NumberType::Int32, source: "X".to_owned() };
        let config = ModelConfig { batch_inputs: vec![input], ..Default::default() };
        let shown = model_config("m", &config).config.unwrap().batch_input.remove(0);
        assert_eq!((shown.kind().as_str_name(), shown.data_type()), (kind.as_str(), inference::DataType::TypeInt32));
        assert_eq!((shown.target_name, shown.source_input), (vec!["N".to_owned()], vec!["X".to_owned()]));
    }
    let output = BatchOutput { targets: vec!["Y".to_owned()], source: "X".to_owned() };
    let config = ModelConfig { batch_outputs: vec![output], ..Default::default() };
    let shown = model_config("m", &config).config.unwrap().batch_output.remove(0);
    assert_eq!(shown.kind().as_str_name(), BatchOutput::KIND);
    assert_eq!((shown.target_name, shown.source_input), (vec!["Y".to_owned()], vec!["X".to_owned()]));
}

#[test]
fn load_requests_bring_a_configuration_and_files_along() {
    use bytes::Bytes;
    use model_repository_parameter::ParameterChoice as Choice;
    use salver_core::{LoadOverride, OverrideFile};

    let with = |parameters: &[(&str, Choice)]| {
        let parameter = |value: &Choice| ModelRepositoryParameter { parameter_choice: Some(value.clone()) };
        decode_load_request(parameters.iter().map(|(name, value)| ((*name).to_owned(), parameter(value))).collect())
    };
    assert_eq!(with(&[]).unwrap(), None);
    assert_eq!(with(&[("unload_dependents", Choice::BoolParam(true))]).unwrap(), None);
    let config = || ("config", Choice::StringParam("{}".to_owned()));
    let file = || ("file:1/model.onnx", Choice::BytesParam(vec![0, 255].into()));
    let files = vec![OverrideFile { path: "1/model.onnx".to_owned(), data: vec![0, 255].into() }];
    let expected = |files| Some(LoadOverride { config: "{}".to_owned(), files });
    assert_eq!(with(&[config()]).unwrap(), expected(Vec::new()));
    assert_eq!(with(&[file(), config()]).unwrap(), expected(files));
    for wrong in [
        vec![file()],
        vec![("config", Choice::BytesParam(Bytes::new()))],
        vec![config(), ("file:1/model.onnx", Choice::StringParam("AA==".to_owned()))],
    ] {
        assert_eq!(with(&wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong:?}");
    }
    let unload = |value| {
        let parameter = ModelRepositoryParameter { parameter_choice: Some(value) };
        decode_unload_request(&[("unload_dependents".to_owned(), parameter)].into())
    };
    unload(Choice::BoolParam(true)).unwrap();
    assert_eq!(unload(Choice::Int64Param(1)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

proptest! {
    #[test]
    fn requests_and_responses_survive_the_wire(tensors in prop::collection::vec(any_tensor(false), 0..4)) {
        let parameters = [("k".to_owned(), Parameter::Uint(u64::MAX)), ("f".to_owned(), Parameter::Float(0.5))];
        let sent = InferRequest {
            model: "m/2".parse().unwrap(),
            id: Some("7".to_owned()),
            inputs: tensors.clone(),
            outputs: vec!["y".into()],
            parameters: parameters.into(),
        };
        let wire = encode_request(&sent).unwrap().encode_to_vec();
        let read = decode(ModelInferRequest::decode(&*wire).unwrap()).unwrap();
        prop_assert_eq!(&read.model, &sent.model);
        prop_assert_eq!((&read.id, &read.outputs, &read.parameters), (&sent.id, &sent.outputs, &sent.parameters));

        let reply = decode_response(encode_infer(&response(tensors.clone()), &ReplyOptions::default()).unwrap()).unwrap();
        prop_assert_eq!((&*reply.model_name, &*reply.model_version), ("m", "3"));
        for read in [&read.inputs, &reply.outputs] {
            prop_assert_eq!(read.len(), tensors.len());
            for (read, sent) in read.iter().zip(&tensors) {
                prop_assert!(crate::oip_rest::tests::same(read, sent), "{:?} became {:?}", sent, read);
            }
        }
    }
}

/// The parameters that place a tensor in shared memory.
fn place(region: &str, byte_size: ParameterChoice, offset: Option<i64>) -> BTreeMap<String, InferParameter> {
    let region = choice(ParameterChoice::StringParam(region.to_owned()));
    let offset = offset.map(|offset| ("shared_memory_offset".to_owned(), choice(ParameterChoice::Int64Param(offset))));
    [("shared_memory_region".to_owned(), region), ("shared_memory_byte_size".to_owned(), choice(byte_size))]
        .into_iter()
        .chain(offset)
        .collect()
}

#[test]
fn tensors_in_shared_memory_have_no_blob() {
    let named =
        |name: &str, parameters| InferInputTensor { name: name.to_owned(), parameters, ..input("INT8", &[2], None) };
    let size = |size| ParameterChoice::Int64Param(size);
    let mut message = request(
        vec![named("a", BTreeMap::new()), named("b", place("in", size(2), Some(6))), named("c", BTreeMap::new())],
        &[b"\x01\x02", b"\x03\x04"],
    );
    let output = |name: &str, parameters| InferRequestedOutputTensor { name: name.to_owned(), parameters };
    message.outputs =
        vec![output("x", place("out", ParameterChoice::Uint64Param(8), None)), output("y", BTreeMap::new())];
    let (read, mut options) = decode_infer(message.clone(), &Limits::default()).unwrap();
    let values = |idx: usize| read.inputs[idx].to_vec::<i8>().unwrap();
    assert_eq!((read.inputs.len(), values(0), values(1)), (2, vec![1, 2], vec![3, 4]));
    let inputs = options.shared.take_inputs();
    assert_eq!((inputs[0].window().region(), inputs[0].window().offset(), inputs[0].byte_len()), ("in", 6, 2));
    let tensor = |name: &str| Tensor::from_slice(name, [1], &[7i8]).unwrap();
    let reply = encode_infer(&response(vec![tensor("x"), tensor("y")]), &options).unwrap();
    assert_eq!(reply.raw_output_contents, [&b""[..], b"\x07"]);
    assert_eq!(reply.outputs[0].shape, [1]);

    message.raw_input_contents.push(Bytes::from_static(b"\x05\x06"));
    refuse(message, ErrorKind::InvalidInput, "has 3 items for 2 inputs that are not in shared memory");
}

#[test]
fn places_that_are_none_are_refused() {
    let kind = ErrorKind::InvalidInput;
    let with = |parameters| request(vec![InferInputTensor { parameters, ..input("INT8", &[4], None) }], &[]);
    assert!(decode(with(place("r", ParameterChoice::Int64Param(4), Some(0)))).is_ok());
    let size = "'shared_memory_byte_size' of input 'x'";
    refuse(with(place("r", ParameterChoice::Int64Param(-4), None)), kind, size);
    refuse(with(place("r", ParameterChoice::StringParam("4".to_owned()), None)), kind, size);
    refuse(with(place("r", ParameterChoice::Int64Param(5), None)), kind, "input byte size mismatch for input 'x'");
    refuse(with(place("r", ParameterChoice::Int64Param(4), Some(-1))), kind, "'shared_memory_offset' of input 'x'");
    refuse(with(place("r", ParameterChoice::Uint64Param(u64::MAX - 31), Some(32))), kind, "Integer overflow");
    refuse(with(place("", ParameterChoice::Int64Param(4), None)), kind, "region is empty");
    let mut both = with(place("r", ParameterChoice::Int64Param(4), None));
    both.inputs[0].contents = Some(InferTensorContents { int_contents: vec![1], ..Default::default() });
    refuse(both, kind, "'contents' although it is in shared memory");
}
