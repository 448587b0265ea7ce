//! Every rule of the REST form: what is accepted and what is refused; in the modules below, how
//! replies look, and that what is written reads back.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use salver_core::{
    BatchRule, BatchStat, Batching, DataType, Dim, DurationStat, DynamicBatching, Element, Error, ErrorKind,
    InferRequest, InferResponse, InstanceGroup, IoConfig, ModelConfig, ModelInfo, ModelState, ModelStatistics,
    ModelStatus, Parameter, QueuePolicy, Result, Tensor, TensorSpec, Timings,
};
use serde_json::{Value, json};

use super::*;
use crate::{Limits, samples};

mod replies;
mod round_trips;

use self::replies::response;
pub(crate) use self::round_trips::{any_tensor, same};

fn decode(body: impl Into<Bytes>, header_len: Option<usize>) -> Result<(InferRequest, ReplyOptions)> {
    let describe = || Err(Error::engine("the model was described although the body says all"));
    decode_infer(body.into(), header_len, samples::reference(), describe, &Limits::default())
}

#[track_caller]
fn accept(body: &str) -> InferRequest {
    decode(body.to_owned(), None).unwrap_or_else(|error| panic!("{body}: {error:?}")).0
}

#[track_caller]
fn refused(result: Result<(InferRequest, ReplyOptions)>, kind: ErrorKind, fragment: &str) {
    let error = result.expect_err("the request is refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().contains(fragment), "{fragment:?} is not in {:?}", error.message());
}

#[track_caller]
fn refuse(body: &str, fragment: &str) {
    refused(decode(body.to_owned(), None), ErrorKind::InvalidInput, fragment);
}

/// A request of one input with these members.
fn input(datatype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#)
}

#[track_caller]
fn values<T: Element>(body: &str) -> Vec<T> {
    accept(body).inputs[0].to_vec().expect("the input has the asked type")
}

/// A body of JSON and blobs, with the length of the JSON.
fn binary(json: &str, blobs: &[&[u8]]) -> (Bytes, Option<usize>) {
    let mut body = json.as_bytes().to_vec();
    blobs.iter().for_each(|blob| body.extend_from_slice(blob));
    (body.into(), Some(json.len()))
}

fn blob_input(datatype: &str, shape: &str, size: &str) -> String {
    format!(
        r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
    )
}

#[track_caller]
fn refuse_binary(json: &str, blobs: &[&[u8]], fragment: &str) {
    let (body, len) = binary(json, blobs);
    refused(decode(body, len), ErrorKind::InvalidInput, fragment);
}

#[test]
fn a_request_is_read_whatever_the_order_of_its_members() {
    let request = accept(
        r#" {"outputs":[{"name":"b"},{"name":"a"},{"name":"b"}], "unknown":{"deep":[1,{"x":"\ud83d\ude00"}]},
            "parameters":{"priority":2,"note":"hi","share":0.5,"flag":true,"big":18446744073709551615},
            "inputs":[{"data":[[1,2],[3,-4]],"datatype":"INT32","extra":null,"shape":[2,2],"name":"x"}],"id":"7"} "#,
    );
    assert_eq!(request.id.as_deref(), Some("7"));
    assert_eq!(request.outputs.iter().map(|name| &**name).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(request.inputs[0].to_vec::<i32>().unwrap(), [1, 2, 3, -4]);
    assert_eq!(request.parameters["priority"], Parameter::Int(2));
    assert_eq!(request.parameters["note"], Parameter::Text("hi".to_owned()));
    assert_eq!(request.parameters["share"], Parameter::Float(0.5));
    assert_eq!(request.parameters["flag"], Parameter::Bool(true));
    assert_eq!(request.parameters["big"], Parameter::Uint(u64::MAX));
}

#[test]
fn nesting_of_data_is_flattened_without_looking_at_the_shape() {
    for data in ["[1,2,3,4]", "[[1,2],[3,4]]", "[[[1],[2,3]],4]", "[[],[1,2,3,4],[[]]]"] {
        assert_eq!(values::<i64>(&input("INT64", "[2,2]", data)), [1, 2, 3, 4], "{data}");
    }
}

#[test]
fn json_elements_are_not_coerced() {
    assert_eq!(values::<bool>(&input("BOOL", "[2]", "[true,false]")), [true, false]);
    assert_eq!(values::<f32>(&input("FP32", "[3]", "[1,-2,0.5]")), [1.0, -2.0, 0.5]);
    for data in ["[1]", "[0]", "[\"true\"]", "[null]"] {
        refuse(&input("BOOL", "[1]", data), "input 'x'");
        refuse(&input("BOOL", "[1]", data), "expected BOOL");
    }
    for data in ["[1.0]", "[\"1\"]", "[true]", "[null]", "[1e2]", "[NaN]", "[{}]", "[-Infinity]"] {
        refuse(&input("INT32", "[1]", data), "expected INT32");
    }
    for data in ["[\"1\"]", "[\"NaN\"]", "[true]", "[null]", "[{}]"] {
        refuse(&input("FP32", "[1]", data), "expected FP32");
        refuse(&input("FP64", "[1]", data), "expected FP64");
    }
    for data in ["[1]", "[null]", "[true]"] {
        refuse(&input("BYTES", "[1]", data), "expected BYTES");
    }
}

#[test]
fn integers_out_of_range_are_refused_and_the_limits_are_not() {
    for (datatype, limits, beyond) in [
        ("INT8", "-128,127", ["-129", "128"]),
        ("UINT8", "0,255", ["-1", "256"]),
        ("INT16", "-32768,32767", ["-32769", "32768"]),
        ("UINT16", "0,65535", ["-1", "65536"]),
        ("INT32", "-2147483648,2147483647", ["-2147483649", "2147483648"]),
        ("UINT32", "0,4294967295", ["-1", "4294967296"]),
        ("INT64", "-9223372036854775808,9223372036854775807", ["-9223372036854775809", "9223372036854775808"]),
        ("UINT64", "0,18446744073709551615", ["-1", "18446744073709551616"]),
    ] {
        accept(&input(datatype, "[2]", &format!("[{limits}]")));
        for number in beyond {
            refuse(&input(datatype, "[1]", &format!("[{number}]")), datatype);
            refuse(&input(datatype, "[1]", &format!("[{number}]")), "element 0");
        }
    }
}

#[test]
fn integers_of_64_bits_keep_every_bit() {
    let signed = [i64::MIN, i64::MAX, (1 << 53) + 1, -(1 << 53) - 1];
    assert_eq!(values::<i64>(&input("INT64", "[4]", &format!("{signed:?}"))), signed);
    let unsigned = [u64::MAX, (1 << 63) + 1, (1 << 53) + 1];
    assert_eq!(values::<u64>(&input("UINT64", "[3]", &format!("{unsigned:?}"))), unsigned);
}

#[test]
fn non_finite_floats_have_tokens_and_overflow_is_refused() {
    let read = values::<f32>(&input("FP32", "[4]", "[NaN,Infinity,-Infinity,1e39]"));
    assert!(read[0].is_nan());
    assert_eq!(read[1..], [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY]);
    let read = values::<f64>(&input("FP64", "[3]", "[-Infinity,1e308,-0.0]"));
    assert_eq!(read, [f64::NEG_INFINITY, 1e308, 0.0]);
    assert!(read[2].is_sign_negative());
    for number in ["1e999", "-1e999", "nan", "inf", "+1", "01", ".5", "5.", "0x1", "1e", "--1", "-"] {
        refuse(&input("FP64", "[1]", &format!("[{number}]")), "");
        refuse(&input("FP32", "[1]", &format!("[{number}]")), "");
    }
}

#[test]
fn a_number_of_a_million_digits_is_refused() {
    let digits = "7".repeat(1_000_000);
    for datatype in ["INT32", "UINT64", "FP64"] {
        refuse(&input(datatype, "[1]", &format!("[{digits}]")), "");
    }
    refuse(&input("FP32", "[1]", &format!("[0.{digits}]")), "");
    refuse(&format!(r#"{{"inputs":[],"parameters":{{"a":{digits}}}}}"#), "");
}

#[test]
fn texts_may_hold_anything_that_json_can() {
    let request = accept(&input("BYTES", "[4]", r#"["", "a\u0000b", "größe \ud83d\ude00", "\"\\"]"#));
    let texts: Vec<&[u8]> = request.inputs[0].elements().unwrap().iter().collect();
    assert_eq!(texts, [&b""[..], b"a\0b", "größe 😀".as_bytes(), b"\"\\"]);
}

#[test]
fn text_that_is_not_unicode_is_refused_wherever_it_stands() {
    for body in [
        &b"{\"inputs\":[{\"name\":\"\xff\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"a\"]}]}"[..],
        b"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"\xff\"]}]}",
        b"{\"inputs\":[{\"data\":[\"\xc3\"],\"name\":\"x\",\"shape\":[1],\"datatype\":\"BYTES\"}]}",
        b"{\"inputs\":[],\"ignored\":\"\xff\"}",
        b"{\"inputs\":[],\"id\":\"\xc3\x28\"}",
    ] {
        refused(decode(body, None), ErrorKind::InvalidInput, "");
    }
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x""#] {
        refuse(&input("BYTES", "[1]", &format!("[{text}]")), "");
        refuse(&format!(r#"{{"inputs":[],"id":{text}}}"#), "");
        refuse(&format!(r#"{{"inputs":[],"other":{text}}}"#), "");
    }
}

#[test]
fn fp16_and_bf16_have_no_json_form() {
    for datatype in ["FP16", "BF16"] {
        refuse(&input(datatype, "[1]", "[1.0]"), "use the binary format");
        let late = format!(r#"{{"inputs":[{{"data":[1],"name":"x","shape":[1],"datatype":"{datatype}"}}]}}"#);
        refuse(&late, "use the binary format");
    }
}

#[test]
fn the_number_of_elements_must_be_the_product_of_the_shape() {
    refuse(&input("FP32", "[3]", "[1,2]"), "shape [3] does not hold the 2 elements");
    refuse(&input("FP32", "[3]", "[1,2,3,4]"), "shape [3] does not hold the 4 elements");
    refuse(&input("FP32", "[1,100000000000]", "[1,2]"), "input 'x'");
    refuse(&input("FP32", "[4294967296,4294967296,4]", "[1]"), "input 'x'");
    refuse(&input("INT8", "[9223372036854775807,2]", "[1]"), "input 'x'");
    refuse(&input("BYTES", "[2]", r#"["a"]"#), "input 'x'");
    assert!(values::<f32>(&input("FP32", "[1,0]", "[]")).is_empty());
    assert_eq!(values::<f32>(&input("FP32", "[]", "[2.5]")), [2.5]);
}

#[test]
fn shapes_are_lists_of_whole_numbers_of_a_bounded_rank() {
    for shape in ["[-1]", "[1.0]", "[\"1\"]", "1", "null", "{}", "[true]", "[99999999999999999999]"] {
        refuse(&input("FP32", shape, "[1]"), "input 'x': 'shape' must be");
    }
    let ones = |rank: usize| format!("[{}]", vec!["1"; rank].join(","));
    accept(&input("FP32", &ones(64), "[1]"));
    refuse(&input("FP32", &ones(65), "[1]"), "64 dimensions");
}

#[test]
fn datatypes_are_upper_case_and_known() {
    for datatype in ["int32", "FP8", "", "STRING", "TYPE_FP32"] {
        refuse(&input(datatype, "[1]", "[1]"), "invalid datatype for input 'x'");
    }
}

#[test]
fn the_place_of_data_is_given_exactly_once() {
    let with = |members: &str| format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"INT8"{members}}}]}}"#);
    refuse(&with(""), "exactly one of 'data'");
    refuse(&with(r#","data":[1],"parameters":{"binary_data_size":1}"#), "exactly one of 'data'");
    refuse(&with(r#","parameters":{"binary_data_size":1}"#), "Inference-Header-Content-Length is missing");
    let shared = with(r#","parameters":{"shared_memory_region":"r","shared_memory_byte_size":1}"#);
    refused(decode(shared, None), ErrorKind::Unsupported, "input 'x' asks for shared memory");
}

#[test]
fn missing_and_repeated_members_are_named() {
    refuse("{}", "no 'inputs'");
    refuse(r#"{"inputs":[{}]}"#, "input 0 has no 'name'");
    refuse(r#"{"inputs":[{"name":"x","shape":[1],"data":[1]}]}"#, "input 'x' has no 'datatype'");
    refuse(r#"{"inputs":[{"name":"x","datatype":"INT8","data":[1]}]}"#, "input 'x' has no 'shape'");
    refuse(r#"{"inputs":[],"outputs":[{}]}"#, "output 0 has no 'name'");
    refuse(r#"{"inputs":[],"inputs":[]}"#, "'inputs' twice");
    refuse(r#"{"inputs":[],"id":"a","id":"a"}"#, "'id' twice");
    refuse(r#"{"inputs":[{"name":"x","name":"y"}]}"#, "'name' twice");
    refuse(r#"{"inputs":[],"parameters":{"a":1,"a":1}}"#, "'a' twice");
    refuse(r#"{"inputs":[],"outputs":[{"name":"a","name":"a"}]}"#, "'name' twice");
}

#[test]
fn members_of_the_wrong_type_are_refused() {
    for body in [
        "[]",
        "null",
        "7",
        "\"x\"",
        "{\"inputs\":{}}",
        "{\"inputs\":[1]}",
        "{\"inputs\":[[]]}",
        "{\"inputs\":null}",
        "{\"inputs\":[],\"id\":7}",
        "{\"inputs\":[],\"id\":null}",
        "{\"inputs\":[],\"outputs\":{}}",
        "{\"inputs\":[],\"outputs\":[\"y\"]}",
        "{\"inputs\":[],\"parameters\":[]}",
        "{\"inputs\":[],\"parameters\":{\"a\":null}}",
        "{\"inputs\":[],\"parameters\":{\"a\":[1]}}",
        "{\"inputs\":[],\"parameters\":{\"a\":{}}}",
        "{\"inputs\":[],\"parameters\":{\"a\":1e999}}",
        "{\"inputs\":[{\"name\":1}]}",
        "{\"inputs\":[{\"datatype\":1}]}",
        "{\"inputs\":[{\"data\":1}]}",
        "{\"inputs\":[],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":1}}]}",
        "{\"inputs\":[],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":\"1\"}}]}",
        "{\"inputs\":[],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":-1}}]}",
        "{\"inputs\":[],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":true}}]}",
        "{\"inputs\":[],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":1.0}}]}",
    ] {
        refuse(body, "");
    }
}

#[test]
fn bodies_that_are_not_json_are_refused() {
    for body in [
        "",
        " ",
        "{",
        "}",
        "{\"inputs\":[]",
        "{\"inputs\":[]}x",
        "{\"inputs\":[],}",
        "{'inputs':[]}",
        "{\"inputs\":[{]}",
        "\u{feff}{\"inputs\":[]}",
        "{\"inputs\":[],\"a\":tru}",
        "\0",
    ] {
        refuse(body, "");
    }
}

#[test]
fn reserved_parameters_have_types() {
    let with = |parameters: &str| format!(r#"{{"inputs":[],"parameters":{{{parameters}}}}}"#);
    for parameters in [
        "\"priority\":-1",
        "\"priority\":1.5",
        "\"priority\":\"1\"",
        "\"timeout\":-1",
        "\"timeout\":\"x\"",
        "\"timeout\":true",
        "\"binary_data_output\":1",
        "\"binary_data_output\":\"true\"",
        "\"sequence_start\":1",
        "\"sequence_end\":\"x\"",
        "\"sequence_id\":1.5",
        "\"sequence_id\":true",
        "\"headers\":1",
        "\"triton_secret\":1",
        "\"triton_enable_empty_final_response\":1",
    ] {
        refuse(&with(parameters), "parameter '");
    }
    for parameters in [
        "\"priority\":0",
        "\"timeout\":18446744073709551615",
        "\"binary_data_output\":false",
        "\"sequence_id\":7",
        "\"sequence_id\":\"a\"",
        "\"headers\":\"a\"",
        "\"sequence_start\":true",
        "\"triton_enable_empty_final_response\":true",
        "\"anything\":\"goes\"",
    ] {
        accept(&with(parameters));
    }
}

#[test]
fn features_that_are_not_offered_say_so() {
    let body = r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}]}"#;
    refused(decode(body, None), ErrorKind::Unsupported, "shared memory");
}

#[test]
fn an_output_comes_back_as_its_best_classes() {
    for (binary, expected) in [(false, r#""data":["3.000000:1","2.000000:2"]"#), (true, "\u{a}\0\0\03.000000:1")] {
        let parameters = format!(r#"{{"classification":2,"binary_data":{binary}}}"#);
        let body = format!(r#"{{"inputs":[],"outputs":[{{"name":"y","parameters":{parameters}}}]}}"#);
        let (_, options) = decode(body, None).unwrap();
        let scores = Tensor::from_slice("y", [1, 3], &[1f32, 3., 2.]).unwrap();
        let reply = encode_infer(&samples::response(samples::two_inputs(), vec![scores]), &options).unwrap();
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert!(text.contains(r#""datatype":"BYTES","shape":[1,2]"#) && text.contains(expected), "{text}");
    }
    accept(r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":0}}]}"#);
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    let list = |item: &str, count: usize| vec![item; count].join(",");
    let one = r#"{"name":"x","shape":[0],"datatype":"INT8","data":[]}"#;
    accept(&format!(r#"{{"inputs":[{}]}}"#, list(one, 256)));
    let more = format!(r#"{{"inputs":[{}]}}"#, list(one, 257));
    refused(decode(more, None), ErrorKind::TooLarge, "more than 256 inputs");

    accept(&format!(r#"{{"inputs":[],"outputs":[{}]}}"#, list(r#"{"name":"y"}"#, 256)));
    let more = format!(r#"{{"inputs":[],"outputs":[{}]}}"#, list(r#"{"name":"y"}"#, 257));
    refused(decode(more, None), ErrorKind::TooLarge, "more than 256 outputs");

    let named = |len: usize| input("INT8", "[0]", "[]").replace("\"x\"", &format!("\"{}\"", "n".repeat(len)));
    accept(&named(128));
    refuse(&named(129), "longer than 128 bytes");

    let limits = Limits { max_body_bytes: 13, ..Limits::default() };
    let bounded = |body: &'static str| {
        decode_infer(body.into(), None, samples::reference(), || Err(Error::engine("unused")), &limits)
    };
    assert!(bounded(r#"{"inputs":[]}"#).is_ok());
    refused(bounded(r#"{"inputs":[] }"#), ErrorKind::TooLarge, "14 bytes");
}

#[test]
fn nesting_is_bounded_in_data_and_in_what_is_skipped() {
    let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
    // The body, the list of inputs and the input are three levels of the hundred.
    accept(&input("INT8", "[1]", &nested(97, "1")));
    refuse(&input("INT8", "[1]", &nested(98, "1")), "deeper");
    accept(&format!(r#"{{"inputs":[],"other":{}}}"#, nested(99, "")));
    refuse(&format!(r#"{{"inputs":[],"other":{}}}"#, nested(100, "")), "deeper");
    let late =
        |depth| format!(r#"{{"inputs":[{{"data":{},"name":"x","shape":[1],"datatype":"INT8"}}]}}"#, nested(depth, "1"));
    accept(&late(97));
    refuse(&late(98), "deeper");
    for bracket in ["[", "{\"a\":", "[{\"a\":"] {
        refuse(&bracket.repeat(100_000), "");
        refuse(&format!(r#"{{"inputs":{}"#, bracket.repeat(100_000)), "");
        refuse(&format!(r#"{{"other":{}"#, bracket.repeat(100_000)), "");
    }
}

#[test]
fn the_id_is_kept_to_the_last_character() {
    let id = "ü😀".repeat(1024);
    let request = accept(&format!(r#"{{"inputs":[],"id":"{id}"}}"#));
    assert_eq!(request.id.as_deref(), Some(&*id));
}

#[test]
fn what_is_echoed_is_bounded() {
    let error = decode(input(&"F".repeat(100_000), "[1]", "[1]"), None).unwrap_err();
    assert!(error.message().len() < 1000, "{}", error.message().len());
    let error = decode(input("INT8", "[1]", &format!("[{}]", "1".repeat(4000))), None).unwrap_err();
    assert!(error.message().len() < 1000, "{}", error.message().len());
}

#[test]
fn binary_tensors_are_slices_of_the_body() {
    let json = r#"{"inputs":[{"name":"a","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}},
        {"name":"j","shape":[1],"datatype":"INT8","data":[5]},
        {"name":"b","shape":[1,3],"datatype":"UINT8","parameters":{"binary_data_size":3}}]}"#;
    let (body, len) = binary(json, &[&[1, 0, 2, 0], &[7, 8, 9]]);
    let (request, _) = decode(body.clone(), len).unwrap();
    assert_eq!(request.inputs[0].to_vec::<i16>().unwrap(), [1, 2]);
    assert_eq!(request.inputs[1].to_vec::<i8>().unwrap(), [5]);
    assert_eq!(request.inputs[2].to_vec::<u8>().unwrap(), [7, 8, 9]);
    let data = request.inputs[2].bytes().unwrap();
    assert_eq!(data.as_ptr(), body[body.len() - 3..].as_ptr(), "the data were copied");
}

#[test]
fn blobs_that_are_all_empty_need_no_header() {
    let empty = accept(&blob_input("FP32", "[1,0]", "0"));
    assert_eq!(empty.inputs[0].shape()[..], [1, 0]);
    refuse(&blob_input("FP32", "[1]", "4"), "Inference-Header-Content-Length is missing");
}

#[test]
fn any_nonzero_byte_of_a_binary_bool_is_true() {
    let (body, len) = binary(&blob_input("BOOL", "[3]", "3"), &[&[0, 1, 255]]);
    let (request, _) = decode(body, len).unwrap();
    assert_eq!(request.inputs[0].bytes().unwrap()[..], [0, 1, 1]);
}

#[test]
fn binary_texts_are_any_bytes() {
    let blob = b"\x02\0\0\0\xff\0\0\0\0\0\x01\0\0\0a";
    let (body, len) = binary(&blob_input("BYTES", "[3]", "15"), &[blob]);
    let (request, _) = decode(body, len).unwrap();
    let texts: Vec<&[u8]> = request.inputs[0].elements().unwrap().iter().collect();
    assert_eq!(texts, [&b"\xff\0"[..], b"", b"a"]);
}

#[test]
fn blobs_that_do_not_fit_are_refused() {
    let blob = |size: &str| blob_input("FP32", "[2]", size);
    refuse_binary(&blob("8"), &[&[0; 7]], "only 7 bytes are left");
    refuse_binary(&blob("8"), &[&[0; 9]], "1 bytes are left over");
    refuse_binary(&blob("4"), &[&[0; 4]], "takes 8 bytes, got 4");
    refuse_binary(&blob("12"), &[&[0; 12]], "takes 8 bytes, got 12");
    for size in ["-8", "8.0", "\"8\"", "true", "18446744073709551615", "99999999999999999999999"] {
        refuse_binary(&blob(size), &[&[0; 8]], "input 'x'");
    }
    refuse_binary(&blob("9223372036854775807"), &[&[0; 8]], "only 8 bytes are left");
    refuse_binary(&blob_input("FP32", "[4611686018427387904,2]", "8"), &[&[0; 8]], "tensor 'x'");
    refuse_binary(&blob_input("FP32", "[4611686018427387905]", "4"), &[&[0; 4]], "tensor 'x'");
    let text = |size: usize, shape: &str| blob_input("BYTES", shape, &size.to_string());
    refuse_binary(&text(8, "[1]"), &[b"\x05\0\0\0abcd"], "BYTES element 0 ends beyond");
    refuse_binary(&text(8, "[1]"), &[b"\xff\xff\xff\xffabcd"], "BYTES element 0 ends beyond");
    refuse_binary(&text(7, "[1]"), &[b"\x01\0\0\0abc"], "ends beyond");
    refuse_binary(&text(8, "[2]"), &[b"\x04\0\0\0abcd"], "does not hold 1 elements");
    refuse_binary(&text(8, "[1]"), &[&[0; 8]], "more BYTES elements than the 1");
    refuse_binary(&text(4, "[100000000000]"), &[&[0; 4]], "cannot hold");
}

#[test]
fn the_length_header_is_a_number_within_the_body() {
    assert_eq!(parse_header_len("17").unwrap(), 17);
    assert_eq!(parse_header_len(" 0 ").unwrap(), 0);
    for value in ["", "-1", "+1", "abc", "1.0", "0x10", "99999999999999999999", "1 2", "١"] {
        let error = parse_header_len(value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{value}");
    }
    let json = r#"{"inputs":[]}"#;
    assert!(decode(json, Some(json.len())).is_ok());
    refused(decode(json, Some(json.len() + 1)), ErrorKind::InvalidInput, "the body has 13 bytes");
    refused(decode(json, Some(json.len() - 1)), ErrorKind::InvalidInput, "");
    refused(decode(json, Some(usize::MAX)), ErrorKind::InvalidInput, "");
}

fn raw(body: &'static [u8], info: ModelInfo) -> Result<(InferRequest, ReplyOptions)> {
    decode_infer(body.into(), Some(0), samples::reference(), || Ok(Arc::new(info)), &Limits::default())
}

#[test]
fn a_raw_body_is_the_only_input() {
    let (request, options) = raw(&[0; 16], samples::one_input(DataType::Fp32, &[-1, 4])).unwrap();
    assert_eq!(request.inputs[0].shape()[..], [1, 4]);
    assert!(options.is_binary("y"), "outputs of a raw request are binary");
    let (request, _) = raw(&[0; 24], samples::one_input(DataType::Fp64, &[-1, -1])).unwrap();
    assert_eq!(request.inputs[0].shape()[..], [1, 3]);
    let (request, _) = raw(b"any\xff", samples::one_input(DataType::Bytes, &[-1, 1])).unwrap();
    assert_eq!(request.inputs[0].elements().unwrap().get(0), Some(&b"any\xff"[..]));
    let unbatched = |dtype, shape: &[i64]| {
        let mut info = samples::one_input(dtype, shape);
        info.signature.batching = Batching::Fixed;
        info
    };
    let (request, _) = raw(&[0; 6], unbatched(DataType::Uint8, &[-1, 2])).unwrap();
    assert_eq!(request.inputs[0].shape()[..], [3, 2]);

    for (body, info) in [
        (&[0; 16][..], samples::two_inputs()),
        (&[0; 15], samples::one_input(DataType::Fp32, &[-1, 4])),
        (&[0; 20], samples::one_input(DataType::Fp32, &[-1, 4])),
        (&[0; 8], samples::one_input(DataType::Fp32, &[-1, -1, -1])),
        (&[0; 8], samples::one_input(DataType::Fp32, &[-1, 0, -1])),
        (&[0; 8], samples::one_input(DataType::Fp32, &[-1, i64::MAX, i64::MAX, -1])),
        (&[0; 8], samples::one_input(DataType::Bytes, &[-1, 2])),
        (&[0; 8], samples::one_input(DataType::Bytes, &[-1, -1])),
        (&[0; 8], unbatched(DataType::Bytes, &[-1])),
        (&[], samples::one_input(DataType::Fp32, &[-1, -1])),
    ] {
        let signature = format!("{:?}", info.signature);
        let error = raw(body, info).err().unwrap_or_else(|| panic!("{} bytes for {signature}", body.len()));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
}

#[test]
fn the_flag_of_the_request_counts_only_where_no_output_is_listed() {
    let options = |members: &str| decode(format!(r#"{{"inputs":[]{members}}}"#), None).unwrap().1;
    let flag = r#","parameters":{"binary_data_output":true}"#;
    assert!(!options("").is_binary("y"));
    assert!(options(flag).is_binary("y"));
    assert!(options(&format!(r#"{flag},"outputs":[]"#)).is_binary("y"));
    assert!(!options(&format!(r#"{flag},"outputs":[{{"name":"y"}}]"#)).is_binary("y"));
    let listed = r#","outputs":[{"name":"y","parameters":{"binary_data":true}},{"name":"z","parameters":{"binary_data":false}}]"#;
    assert!(options(listed).is_binary("y"));
    assert!(!options(listed).is_binary("z"));
    let off =
        r#","parameters":{"binary_data_output":true},"outputs":[{"name":"y","parameters":{"binary_data":false}}]"#;
    assert!(!options(off).is_binary("y"));
}
