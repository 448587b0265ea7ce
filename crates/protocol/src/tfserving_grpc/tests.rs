//! What TF Serving's messages mean: every field of a tensor, shared examples, and what is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use salver_core::{DataType, Element, ErrorKind, InferResponse, ModelState, ModelStatus, Tensor, TensorSpec};

use super::serving::input::Kind;
use super::serving::{
    ExampleList, ExampleListWithContext, GetModelMetadataRequest, InferenceTask, Input, SignatureDefMap,
};
use super::tensorflow::tensor_shape_proto::Dim;
use super::tensorflow::{BytesList, Example, Feature, Features, FloatList, Int64List, TensorShapeProto, feature};
use super::*;
use crate::oip_rest::tests::any_tensor;
use crate::{Limits, samples};

/// A generated `TensorProto` would look like this; what it writes, the one by hand must read.
#[derive(Clone, PartialEq, Message)]
struct Generated {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<TensorShapeProto>,
    #[prost(bytes = "bytes", tag = "4")]
    tensor_content: Bytes,
    #[prost(float, repeated, tag = "5")]
    float_val: Vec<f32>,
    #[prost(double, repeated, tag = "6")]
    double_val: Vec<f64>,
    #[prost(int32, repeated, tag = "7")]
    int_val: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    string_val: Vec<Bytes>,
    #[prost(int64, repeated, tag = "10")]
    int64_val: Vec<i64>,
    #[prost(bool, repeated, tag = "11")]
    bool_val: Vec<bool>,
    #[prost(int32, repeated, tag = "13")]
    half_val: Vec<i32>,
    #[prost(uint32, repeated, tag = "16")]
    uint32_val: Vec<u32>,
    #[prost(uint64, repeated, tag = "17")]
    uint64_val: Vec<u64>,
}

/// The same fields, each element by itself, as any reader must also take them.
#[derive(Clone, PartialEq, Message)]
struct Unpacked {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<TensorShapeProto>,
    #[prost(float, repeated, packed = "false", tag = "5")]
    float_val: Vec<f32>,
    #[prost(double, repeated, packed = "false", tag = "6")]
    double_val: Vec<f64>,
    #[prost(int32, repeated, packed = "false", tag = "7")]
    int_val: Vec<i32>,
    #[prost(int64, repeated, packed = "false", tag = "10")]
    int64_val: Vec<i64>,
}

fn shape(dims: &[i64]) -> Option<TensorShapeProto> {
    let dim = |&size| Dim { size, name: String::new() };
    Some(TensorShapeProto { dim: dims.iter().map(dim).collect(), unknown_rank: false })
}

fn of(dtype: tensorflow::DataType, dims: &[i64], fill: impl FnOnce(&mut Generated)) -> TensorProto {
    let mut message = Generated { dtype: dtype.into(), tensor_shape: shape(dims), ..Generated::default() };
    fill(&mut message);
    TensorProto::decode(&message.encode_to_vec()[..]).unwrap()
}

fn predict(proto: TensorProto) -> PredictRequest {
    PredictRequest {
        model_spec: Some(ModelSpec { name: "m".to_owned(), ..ModelSpec::default() }),
        inputs: vec![("x".to_owned(), proto)],
        output_filter: Vec::new(),
    }
}

fn decode(proto: TensorProto) -> Result<Tensor> {
    decode_predict(predict(proto), &Limits::default()).map(|mut request| request.inputs.remove(0))
}

#[track_caller]
fn values<T: Element>(proto: TensorProto) -> Vec<T> {
    decode(proto).unwrap().to_vec().expect("the input has the asked type")
}

fn texts(proto: TensorProto) -> Vec<Vec<u8>> {
    decode(proto).unwrap().elements().unwrap().iter().map(<[u8]>::to_vec).collect()
}

#[track_caller]
fn refuse(proto: TensorProto, kind: ErrorKind, expected: &str) {
    let error = decode(proto).unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().contains(expected), "{expected:?} is not in {:?}", error.message());
    assert!(error.message().starts_with("input 'x'"), "{error:?}");
}

use tensorflow::DataType as Dt;

#[test]
fn every_type_has_its_field() {
    assert_eq!(values::<f32>(of(Dt::DtFloat, &[2], |all| all.float_val = vec![0.5, -1.0])), [0.5, -1.0]);
    assert_eq!(values::<f64>(of(Dt::DtDouble, &[1], |all| all.double_val = vec![0.1])), [0.1]);
    assert_eq!(values::<i32>(of(Dt::DtInt32, &[2], |all| all.int_val = vec![i32::MIN, 7])), [i32::MIN, 7]);
    assert_eq!(values::<i16>(of(Dt::DtInt16, &[1], |all| all.int_val = vec![-32768])), [-32768]);
    assert_eq!(values::<i8>(of(Dt::DtInt8, &[2], |all| all.int_val = vec![-128, 127])), [-128, 127]);
    assert_eq!(values::<u8>(of(Dt::DtUint8, &[1], |all| all.int_val = vec![255])), [255]);
    assert_eq!(values::<u16>(of(Dt::DtUint16, &[1], |all| all.int_val = vec![65535])), [65535]);
    assert_eq!(values::<i64>(of(Dt::DtInt64, &[2], |all| all.int64_val = vec![i64::MIN, -1])), [i64::MIN, -1]);
    assert_eq!(values::<bool>(of(Dt::DtBool, &[2], |all| all.bool_val = vec![true, false])), [true, false]);
    assert_eq!(values::<u32>(of(Dt::DtUint32, &[1], |all| all.uint32_val = vec![u32::MAX])), [u32::MAX]);
    assert_eq!(values::<u64>(of(Dt::DtUint64, &[1], |all| all.uint64_val = vec![u64::MAX])), [u64::MAX]);
    let half = of(Dt::DtHalf, &[1], |all| all.half_val = vec![0x3e00]);
    assert_eq!(values::<half::f16>(half), [half::f16::from_f32(1.5)]);
    let bfloat = of(Dt::DtBfloat16, &[1], |all| all.half_val = vec![0xbfc0]);
    assert_eq!(values::<half::bf16>(bfloat), [half::bf16::from_f32(-1.5)]);
    let strings = of(Dt::DtString, &[2], |all| all.string_val = vec!["".into(), b"\xff"[..].into()]);
    assert_eq!(texts(strings), [&b""[..], b"\xff"]);
}

#[test]
fn the_content_is_little_endian_and_strings_begin_with_their_lengths() {
    let floats = of(Dt::DtFloat, &[1, 2], |all| all.tensor_content = vec![0, 0, 0, 63, 0, 0, 128, 191].into());
    assert_eq!(values::<f32>(floats), [0.5, -1.0]);
    let strings = of(Dt::DtString, &[3], |all| all.tensor_content = b"\x02\x00\x01abc"[..].into());
    assert_eq!(texts(strings), [&b"ab"[..], b"", b"c"]);
    for bad in
        [&b"\x02\x00\x01ab"[..], b"\x02\x00\x01abcd", b"\x02\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0"]
    {
        let strings = of(Dt::DtString, &[3], |all| all.tensor_content = Bytes::copy_from_slice(bad));
        refuse(strings, ErrorKind::InvalidInput, "does not hold 3 strings");
    }
    refuse(of(Dt::DtFloat, &[2], |all| all.tensor_content = vec![0; 7].into()), ErrorKind::InvalidInput, "8 bytes");
}

#[test]
fn the_last_element_stands_for_those_that_are_missing() {
    assert_eq!(values::<f32>(of(Dt::DtFloat, &[2, 2], |all| all.float_val = vec![1.0, 2.0])), [1.0, 2.0, 2.0, 2.0]);
    assert_eq!(values::<i64>(of(Dt::DtInt64, &[3], |all| all.int64_val = vec![-5])), [-5, -5, -5]);
    assert_eq!(values::<f64>(of(Dt::DtDouble, &[2], |_| ())), [0.0, 0.0]);
    assert_eq!(texts(of(Dt::DtString, &[3], |all| all.string_val = vec!["a".into(), "b".into()])), [b"a", b"b", b"b"]);
    assert_eq!(texts(of(Dt::DtString, &[2], |_| ())), [b"", b""]);
    assert_eq!(values::<f32>(of(Dt::DtFloat, &[], |all| all.float_val = vec![3.0])), [3.0]);
    assert!(values::<f32>(of(Dt::DtFloat, &[0, 5], |_| ())).is_empty());
}

#[test]
fn little_data_does_not_become_much_memory() {
    let huge = of(Dt::DtFloat, &[1 << 32], |all| all.float_val = vec![1.0]);
    refuse(huge, ErrorKind::TooLarge, "16 MiB filled in");
    let long = "x".repeat(1 << 20);
    let strings = of(Dt::DtString, &[17], |all| all.string_val = vec![long.clone().into()]);
    assert_eq!(texts(strings).len(), 17);
    let strings = of(Dt::DtString, &[18], |all| all.string_val = vec![long.into()]);
    refuse(strings, ErrorKind::TooLarge, "filled in");
    // What is filled in counts for the whole request.
    let half = || of(Dt::DtUint8, &[9 << 20], |all| all.int_val = vec![1]);
    let mut request = predict(half());
    assert!(decode_predict(request.clone(), &Limits::default()).is_ok());
    request.inputs.push(("y".to_owned(), half()));
    assert_eq!(decode_predict(request, &Limits::default()).unwrap_err().kind(), ErrorKind::TooLarge);
    // Neither do shapes that wrap.
    for dims in [&[i64::MAX, 4][..], &[1 << 32, 1 << 32], &[1 << 62]] {
        refuse(of(Dt::DtFloat, dims, |all| all.float_val = vec![1.0]), ErrorKind::InvalidInput, "more elements than");
        refuse(of(Dt::DtFloat, dims, |all| all.tensor_content = vec![0; 4].into()), ErrorKind::InvalidInput, "more");
    }
    let strings = of(Dt::DtString, &[i64::MAX], |all| all.tensor_content = vec![0; 4].into());
    refuse(strings, ErrorKind::InvalidInput, "strings");
    assert_eq!(decode(of(Dt::DtString, &[1 << 62, 8], |_| ())).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_does_not_fit_is_refused() {
    let kind = ErrorKind::InvalidInput;
    refuse(of(Dt::DtFloat, &[1], |all| all.float_val = vec![1.0, 2.0]), kind, "has 2 elements, its shape holds 1");
    refuse(of(Dt::DtString, &[0], |all| all.string_val = vec!["a".into()]), kind, "has 1 elements, its shape holds 0");
    refuse(of(Dt::DtInt8, &[1], |all| all.int_val = vec![128]), kind, "element 0 does not fit");
    refuse(of(Dt::DtUint8, &[2], |all| all.int_val = vec![0, -1]), kind, "element 1 does not fit");
    refuse(of(Dt::DtHalf, &[1], |all| all.half_val = vec![65536]), kind, "element 0 does not fit");
    refuse(of(Dt::DtFloat, &[-1], |_| ()), kind, "whole numbers from 0");
    refuse(of(Dt::DtFloat, &[1; 65], |_| ()), kind, "more than 64 dimensions");
    refuse(of(Dt::DtInvalid, &[1], |_| ()), kind, "dtype is missing");
    let unknown_rank = TensorProto {
        dtype: 1,
        tensor_shape: Some(TensorShapeProto { dim: Vec::new(), unknown_rank: true }),
        ..TensorProto::default()
    };
    refuse(unknown_rank, kind, "unknown_rank");
    for other in [8, 11, 20, 101, -1] {
        refuse(TensorProto { dtype: other, ..TensorProto::default() }, kind, "is not offered");
    }
}

#[test]
fn pieces_of_a_packed_field_are_joined() {
    let elements = Unpacked { dtype: 1, tensor_shape: shape(&[5]), float_val: vec![1.0, 2.0], ..Unpacked::default() };
    let mut message = elements.encode_to_vec();
    message.extend(Generated { float_val: vec![3.0, 4.0], ..Generated::default() }.encode_to_vec());
    message.extend(Unpacked { float_val: vec![5.0], ..Unpacked::default() }.encode_to_vec());
    assert_eq!(values::<f32>(TensorProto::decode(&message[..]).unwrap()), [1.0, 2.0, 3.0, 4.0, 5.0]);
    let wide = Unpacked { dtype: 9, tensor_shape: shape(&[2]), int64_val: vec![-1, 300], ..Unpacked::default() };
    assert_eq!(values::<i64>(TensorProto::decode(&wide.encode_to_vec()[..]).unwrap()), [-1, 300]);
    let double = Unpacked { dtype: 2, tensor_shape: shape(&[1]), double_val: vec![0.1], ..Unpacked::default() };
    assert_eq!(values::<f64>(TensorProto::decode(&double.encode_to_vec()[..]).unwrap()), [0.1]);
}

proptest! {
    #[test]
    fn tensors_survive_both_forms(tensor in any_tensor(false)) {
        for proto in [convert::proto(&tensor), convert::packed_proto(&tensor)] {
            let message = proto.encode_to_vec();
            prop_assert_eq!(message.len(), proto.encoded_len());
            let back = decode(TensorProto::decode(&message[..]).unwrap()).unwrap();
            prop_assert_eq!(back.shape(), tensor.shape());
            prop_assert_eq!(back.dtype(), tensor.dtype());
            prop_assert_eq!(back.bytes(), tensor.bytes());
            let elements = |tensor: &Tensor| -> Vec<Vec<u8>> {
                tensor.elements().into_iter().flat_map(|all| all.iter().map(<[u8]>::to_vec)).collect()
            };
            prop_assert_eq!(elements(&back), elements(&tensor));
        }
    }

    /// What is written by hand is what generated code reads, and the other way round.
    #[test]
    fn the_form_on_the_wire_is_the_usual_one(tensor in any_tensor(false)) {
        let ours = convert::proto(&tensor);
        let generated = Generated::decode(&ours.encode_to_vec()[..]).unwrap();
        let back = TensorProto::decode(&generated.encode_to_vec()[..]).unwrap();
        prop_assert_eq!(&back, &ours);
        let values = [
            generated.float_val.len(), generated.double_val.len(), generated.int_val.len(), generated.string_val.len(),
            generated.int64_val.len(), generated.bool_val.len(), generated.half_val.len(), generated.uint32_val.len(),
            generated.uint64_val.len(),
        ];
        prop_assert_eq!(values.iter().sum::<usize>(), tensor.element_count());
    }
}

#[test]
fn requests_name_models_versions_and_labels() {
    let of = |choice| ModelSpec { name: "m".to_owned(), version_choice: choice, ..ModelSpec::default() };
    let selector = |spec: &ModelSpec| model_ref(Some(spec)).map(|model| model.selector);
    assert_eq!(selector(&of(None)).unwrap(), Selector::Latest);
    assert_eq!(selector(&of(Some(VersionChoice::Version(3)))).unwrap(), Selector::Version(3));
    let label = Some(VersionChoice::VersionLabel("stable".to_owned()));
    assert_eq!(selector(&of(label)).unwrap(), Selector::Label("stable".to_owned()));
    let below = selector(&of(Some(VersionChoice::Version(-1)))).unwrap_err();
    assert_eq!(
        (below.kind(), below.message()),
        (ErrorKind::NotFound, "Servable not found for request: Specific(m, -1)")
    );
    assert_eq!(model_ref(None).unwrap_err().message(), "Missing ModelSpec");
    assert_eq!(model_ref(Some(&ModelSpec::default())).unwrap_err().message(), "ModelSpec has no name specified.");
    let named = |name: &str| ModelSpec { signature_name: name.to_owned(), ..of(None) };
    assert!(check_signature(Some(&named(""))).is_ok() && check_signature(Some(&named("serving_default"))).is_ok());
    assert!(check_signature(Some(&named("other"))).unwrap_err().message().contains("\"other\" not found"));
}

#[test]
fn a_predict_request_survives_the_wire_and_is_bounded() {
    let mut request = predict(of(Dt::DtFloat, &[1], |all| all.float_val = vec![1.0]));
    request.output_filter = vec!["y".to_owned()];
    let message = request.encode_to_vec();
    assert_eq!(message.len(), request.encoded_len());
    assert_eq!(PredictRequest::decode(&message[..]).unwrap(), request);
    let decoded = decode_predict(request.clone(), &Limits::default()).unwrap();
    assert_eq!(decoded.outputs.iter().map(|name| &**name).collect::<Vec<_>>(), ["y"]);
    request.output_filter.push("y".to_owned());
    assert!(decode_predict(request, &Limits::default()).unwrap_err().message().contains("duplicate output"));
    // `12 00` is an input without anything, `1a 00` an output: a million of them are counted, not kept.
    for (entry, what) in [(b"\x12\x00", "inputs"), (b"\x1a\x00", "outputs")] {
        let many = PredictRequest::decode(&[&b"\x0a\x03\x0a\x01m"[..], &entry.repeat(1_000_000)].concat()[..]).unwrap();
        assert!(many.inputs.len().max(many.output_filter.len()) <= 4096);
        let error = decode_predict(many, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.message().contains(what), "{error:?}");
    }
}

fn feature(kind: feature::Kind) -> Feature {
    Feature { kind: Some(kind) }
}

fn floats(values: &[f32]) -> Feature {
    feature(feature::Kind::FloatList(FloatList { value: values.to_vec() }))
}

fn ints(values: &[i64]) -> Feature {
    feature(feature::Kind::Int64List(Int64List { value: values.to_vec() }))
}

fn strings(values: &[&'static str]) -> Feature {
    feature(feature::Kind::BytesList(BytesList { value: values.iter().map(|&text| text.into()).collect() }))
}

fn example(features: &[(&str, Feature)]) -> Example {
    let feature: BTreeMap<String, Feature> =
        features.iter().map(|(name, feature)| ((*name).to_owned(), feature.clone())).collect();
    Example { features: Some(Features { feature }) }
}

fn list(examples: &[Example]) -> Input {
    Input { kind: Some(Kind::ExampleList(ExampleList { examples: examples.to_vec() })) }
}

fn inputs(info: &ModelInfo, input: &Input) -> Result<Vec<Tensor>> {
    let (request, n_examples) = decode_examples(Some(input), samples::reference(), Vec::new(), info)?;
    assert_eq!(request.inputs.first().map_or(n_examples, Tensor::rows), n_examples);
    Ok(request.inputs)
}

#[track_caller]
fn refuse_examples(info: &ModelInfo, input: &Input, expected: &str) {
    let error = inputs(info, input).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(error.message().contains(expected), "{expected:?} is not in {:?}", error.message());
}

#[test]
fn features_are_inputs_by_name_or_columns() {
    let info = samples::two_inputs();
    let rows = [
        example(&[("a", floats(&[0.5])), ("b", ints(&[1, 2])), ("unused", strings(&["x"]))]),
        example(&[("a", ints(&[2])), ("b", ints(&[3, 4]))]),
    ];
    let tensors = inputs(&info, &list(&rows)).unwrap();
    assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [0.5, 2.0]);
    assert_eq!(tensors[1].to_vec::<i64>().unwrap(), [1, 2, 3, 4]);
    assert_eq!(**tensors[1].shape(), [2, 2]);
    let iris = samples::iris();
    let columns = ["petal_width", "petal_length", "sepal_width", "sepal_length"];
    let row: Vec<(&str, Feature)> =
        columns.iter().zip([4.0, 3.0, 2.0, 1.0]).map(|(name, value)| (*name, floats(&[value]))).collect();
    let whole = example(&[("X", floats(&[5.0, 6.0, 7.0, 8.0]))]);
    let tensors = inputs(&iris, &list(&[example(&row), whole])).unwrap();
    assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    refuse_examples(&iris, &list(&[example(&row[1..])]), "example 0: lacks the feature 'petal_width'");
}

#[test]
fn a_context_is_shared_and_yields_to_the_example() {
    let info = samples::two_inputs();
    let with = |examples: &[Example], context| Input {
        kind: Some(Kind::ExampleListWithContext(ExampleListWithContext { examples: examples.to_vec(), context })),
    };
    let context = Some(example(&[("b", ints(&[7, 8])), ("a", floats(&[1.0]))]));
    let own = [example(&[]), example(&[("a", floats(&[2.0]))])];
    let tensors = inputs(&info, &with(&own, context)).unwrap();
    assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(tensors[1].to_vec::<i64>().unwrap(), [7, 8, 7, 8]);
    // A long context that many empty examples share would be a lot of memory for few bytes.
    let info = samples::one_input(DataType::Fp32, &[-1, -1]);
    let context = Some(example(&[("x", floats(&vec![1.0; 1 << 20]))]));
    let error = inputs(&info, &with(&vec![Example::default(); 5], context)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
}

#[test]
fn examples_that_do_not_fit_are_refused() {
    let info = samples::two_inputs();
    refuse_examples(&info, &list(&[]), "Input is empty");
    refuse_examples(&info, &Input::default(), "Input is empty");
    refuse_examples(&info, &list(&[example(&[("a", floats(&[1.0]))])]), "example 0: lacks the feature 'b'");
    let bad = |name, value| {
        let mut row = vec![("a", floats(&[1.0])), ("b", ints(&[1, 2]))];
        row.retain(|(known, _)| *known != name);
        row.push((name, value));
        list(&[example(&row)])
    };
    refuse_examples(&info, &bad("b", floats(&[1.0, 2.0])), "feature 'b': expected INT64, got a float_list");
    refuse_examples(&info, &bad("a", strings(&["1"])), "feature 'a': expected FP32, got a bytes_list");
    refuse_examples(&info, &bad("b", ints(&[1])), "1 values of an example do not make the shape [-1, 2]");
    refuse_examples(&info, &bad("a", Feature { kind: None }), "lacks the feature 'a'");
    let texts = samples::one_input(DataType::Bytes, &[-1]);
    refuse_examples(&texts, &list(&[example(&[("x", ints(&[1]))])]), "expected BYTES, got an int64_list");
    let ragged = [example(&[("x", floats(&[1.0]))]), example(&[("x", floats(&[1.0, 2.0]))])];
    let free = samples::one_input(DataType::Fp32, &[-1, -1]);
    refuse_examples(&free, &list(&ragged), "example 1: feature 'x': has 2 values, those before have 1");
    let bytes = samples::one_input(DataType::Int8, &[-1]);
    refuse_examples(&bytes, &list(&[example(&[("x", ints(&[128]))])]), "128 does not fit INT8");
    let two_free = samples::one_input(DataType::Fp32, &[-1, -1, -1]);
    refuse_examples(&two_free, &list(&[example(&[("x", floats(&[1.0]))])]), "use 'predict'");
}

fn scored(labels: &[&str]) -> ModelInfo {
    let mut info = samples::one_input(DataType::Fp32, &[-1]);
    info.signature.outputs = vec![
        TensorSpec::new("probability", DataType::Fp32, &[-1, 2]),
        TensorSpec::new("label", DataType::Int64, &[-1]),
    ];
    info.labels = vec![labels.iter().map(|&label| label.to_owned()).collect(), Vec::new()];
    info
}

fn response(info: &ModelInfo, outputs: Vec<Tensor>) -> InferResponse {
    samples::response(info.clone(), outputs)
}

#[test]
fn classes_are_strings_or_labels_in_the_models_order() {
    let info = scored(&["no", "yes"]);
    assert_eq!(tasks_outputs(&[Method::Classify], &info).unwrap(), ["probability".into()]);
    let scores = Tensor::from_slice("probability", [2, 2], &[0.1f32, 0.9, 0.7, 0.3]).unwrap();
    let result = classification(&response(&info, vec![scores.clone()]), 2).unwrap();
    let row = |idx: usize| -> Vec<(String, f32)> {
        result.classifications[idx].classes.iter().map(|class| (class.label.clone(), class.score)).collect()
    };
    assert_eq!(row(0), [("no".to_owned(), 0.1), ("yes".to_owned(), 0.9)]);
    assert_eq!(row(1), [("no".to_owned(), 0.7), ("yes".to_owned(), 0.3)]);
    let plain = classification(&response(&scored(&[]), vec![scores.clone()]), 2).unwrap();
    assert_eq!(plain.classifications[0].classes[1].label, "");
    assert!(classification(&response(&info, vec![scores]), 3).unwrap_err().message().contains("[2,2] for 3 examples"));
    let mut info = scored(&[]);
    info.signature.outputs = vec![
        TensorSpec::new("classes", DataType::Bytes, &[-1, 2]),
        TensorSpec::new("scores", DataType::Fp64, &[-1, 2]),
    ];
    let classes = Tensor::from_elements("classes", [1, 2], [&b"b"[..], b"a"].into_iter().collect()).unwrap();
    let scores = Tensor::from_slice("scores", [1, 2], &[0.25f64, 0.75]).unwrap();
    let result = classification(&response(&info, vec![classes, scores.clone()]), 1).unwrap();
    assert_eq!(result.classifications[0].classes[0].label, "b");
    assert_eq!(result.classifications[0].classes[1].score, 0.75);
    let other = Tensor::from_elements("classes", [1, 2], [&b"\xff"[..], b"a"].into_iter().collect()).unwrap();
    assert!(classification(&response(&info, vec![other, scores.clone()]), 1).is_err());
    let fewer = Tensor::from_elements("classes", [1], [b"a"].into_iter().collect()).unwrap();
    assert!(classification(&response(&info, vec![fewer, scores]), 1).is_err());
    let error = tasks_outputs(&[Method::Classify], &samples::one_input(DataType::Fp32, &[-1])).unwrap_err();
    assert!(error.message().contains("cannot classify"), "{error:?}");
}

#[test]
fn a_regression_is_one_number_for_each_example() {
    let info = scored(&[]);
    assert!(tasks_outputs(&[Method::Regress], &info).unwrap_err().message().contains("cannot regress"));
    let info = samples::one_input(DataType::Fp32, &[-1]);
    let of = |shape: &[usize]| {
        let y = Tensor::from_slice("y", shape, &vec![1.5f32; shape.iter().product()]).unwrap();
        regression(&response(&info, vec![y]), 2)
    };
    for shape in [&[2][..], &[2, 1]] {
        let values: Vec<f32> = of(shape).unwrap().regressions.iter().map(|one| one.value).collect();
        assert_eq!(values, [1.5, 1.5]);
    }
    for shape in [&[2, 2][..], &[3], &[]] {
        assert!(of(shape).unwrap_err().message().contains("[batch_size, 1]"));
    }
}

#[test]
fn several_questions_are_about_one_model_and_each_is_asked_once() {
    let task = |model: &str, method: &str| InferenceTask {
        model_spec: Some(ModelSpec { name: model.to_owned(), ..ModelSpec::default() }),
        method_name: format!("tensorflow/serving/{method}"),
    };
    let (model, methods) = decode_tasks(&[task("m", "classify"), task("m", "regress")]).unwrap();
    assert_eq!((&*model.name, methods.as_slice()), ("m", &[Method::Classify, Method::Regress][..]));
    let refused = |tasks: &[InferenceTask]| decode_tasks(tasks).unwrap_err();
    assert!(refused(&[]).message().contains("no tasks"));
    assert!(refused(&[task("m", "classify"), task("n", "regress")]).message().contains("same model name"));
    assert!(refused(&[task("m", "regress"), task("m", "regress")]).message().contains("Duplicate evaluation"));
    assert_eq!(refused(&[task("m", "predict")]).kind(), ErrorKind::Unsupported);
    assert_eq!(refused(&vec![task("m", "regress"); 65]).kind(), ErrorKind::TooLarge);
    let mut info = samples::one_input(DataType::Fp32, &[-1]);
    info.signature.outputs = vec![TensorSpec::new("outputs", DataType::Fp32, &[-1, 1])];
    assert_eq!(tasks_outputs(&[Method::Regress, Method::Classify], &info).unwrap(), ["outputs".into()]);
    let y = Tensor::from_slice("outputs", [1, 1], &[1.5f32]).unwrap();
    let reply = multi_inference(&response(&info, vec![y]), &[Method::Regress, Method::Classify], 1).unwrap();
    assert_eq!(reply.results.len(), 2);
    assert_eq!(reply.results[0].model_spec.as_ref().unwrap().signature_name, "serving_default");
}

#[test]
fn the_metadata_hold_the_signature() {
    let fields = |all: &[&str]| GetModelMetadataRequest {
        metadata_field: all.iter().map(|&field| field.to_owned()).collect(),
        ..GetModelMetadataRequest::default()
    };
    assert!(check_metadata_fields(&fields(&["signature_def"])).is_ok());
    assert!(check_metadata_fields(&fields(&[])).unwrap_err().message().contains("at least one metadata_field"));
    assert!(check_metadata_fields(&fields(&["x"])).unwrap_err().message().contains("field x is not supported"));
    let reply = metadata(&samples::two_inputs());
    let map = SignatureDefMap::decode(&reply.metadata["signature_def"].value[..]).unwrap();
    let signature = &map.signature_def["serving_default"];
    assert_eq!(signature.inputs["b"].dtype(), Dt::DtInt64);
    assert_eq!(signature.inputs["b"].tensor_shape, shape(&[-1, 2]));
    assert_eq!(signature.outputs["sum"].name, "sum:0");
    assert_eq!(reply.model_spec.unwrap().version_choice, Some(VersionChoice::Version(3)));
}

#[test]
fn the_status_lists_the_highest_version_first() {
    let of = |version, state, reason: &str| ModelStatus {
        name: "m".to_owned(),
        version,
        state: Some(state),
        reason: reason.to_owned(),
    };
    let all = [
        of(Some(1), ModelState::Failed, "no such operator"),
        of(Some(2), ModelState::Ready, ""),
        of(None, ModelState::Gone, ""),
    ];
    let reply = status(&all);
    let [second, first] = &reply.model_version_status[..] else {
        panic!("two versions");
    };
    assert_eq!((second.version, second.state().as_str_name()), (2, "AVAILABLE"));
    assert_eq!((first.version, first.state().as_str_name()), (1, "END"));
    let failure = first.status.as_ref().unwrap();
    assert_eq!((failure.error_code, failure.error_message.as_str()), (2, "no such operator"));
}
