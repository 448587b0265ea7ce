//! Tensors in shared memory, and the bodies that register it.

use super::*;
use crate::shared_memory::Region;

/// A request whose input `x` has these parameters, and whose output `y` has those.
fn shared(input: &str, output: &str) -> String {
    format!(
        r#"{{"inputs":[{{"name":"x","shape":[4],"datatype":"INT8","parameters":{{{input}}}}}],
            "outputs":[{{"name":"y","parameters":{{{output}}}}}]}}"#
    )
}

fn place(region: &str, rest: &str) -> String {
    format!(r#""shared_memory_region":"{region}"{rest}"#)
}

#[test]
fn tensors_are_named_and_not_read() {
    let (whole, of_16) =
        (r#","shared_memory_byte_size":4"#, r#","shared_memory_byte_size":16,"shared_memory_offset":8"#);
    let body = shared(&place("in", whole), &place("out", of_16));
    let (request, mut options) = decode(body, None).unwrap();
    assert!(request.inputs.is_empty());
    assert_eq!(request.outputs.iter().map(|name| &**name).collect::<Vec<_>>(), ["y"]);
    let inputs = options.shared.take_inputs();
    assert_eq!((inputs[0].window().region(), inputs[0].window().offset(), inputs[0].byte_len()), ("in", 0, 4));
    let windows: Vec<_> = options.shared.output_windows().collect();
    assert_eq!((windows[0].region(), windows[0].offset(), windows[0].byte_size()), ("out", 8, 16));

    let outputs =
        vec![Tensor::from_slice("y", [2, 1], &[1i8, 2]).unwrap(), Tensor::from_slice("z", [1], &[3i8]).unwrap()];
    let reply = encode_infer(&response(None, outputs), &options).unwrap();
    let json: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(json["outputs"][0], json!({"name": "y", "datatype": "INT8", "shape": [2, 1]}));
    assert_eq!(json["outputs"][1]["data"], json!([3]));
}

#[test]
fn inputs_elsewhere_keep_their_blobs_beside_those_in_shared_memory() {
    let json = r#"{"inputs":[
        {"name":"a","shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}},
        {"name":"b","shape":[1],"datatype":"INT8","parameters":{"shared_memory_region":"r","shared_memory_byte_size":1}},
        {"name":"c","shape":[1],"datatype":"INT8","data":[7]},
        {"name":"d","shape":[2],"datatype":"INT8","parameters":{"binary_data_size":2}}]}"#;
    let (body, header_len) = binary(json, &[b"\x01", b"\x02\x03"]);
    let (request, mut options) = decode(body, header_len).unwrap();
    assert_eq!(request.inputs.iter().map(|input| &**input.name()).collect::<Vec<_>>(), ["a", "c", "d"]);
    assert_eq!(options.shared.take_inputs().len(), 1);
}

#[test]
fn a_type_without_a_json_form_can_go_into_shared_memory() {
    let body =
        shared(&place("in", r#","shared_memory_byte_size":4"#), &place("out", r#","shared_memory_byte_size":4"#));
    let options = decode(body, None).unwrap().1;
    let half = oip::tensor_from_binary("y", DataType::Fp16, [1].into(), Bytes::from_static(&[0, 1])).unwrap();
    let reply = encode_infer(&response(None, vec![half]), &options).unwrap();
    assert_eq!((reply.content_type, reply.inference_header_len), ("application/json", None));
}

#[test]
fn classes_go_into_shared_memory_too() {
    let wanted = place("out", r#","shared_memory_byte_size":28,"classification":2"#);
    let options = decode(shared(&place("in", r#","shared_memory_byte_size":4"#), &wanted), None).unwrap().1;
    let scores = Tensor::from_slice("y", [1, 3], &[1f32, 3., 2.]).unwrap();
    let response = samples::response(samples::two_inputs(), vec![scores]);
    assert_eq!(
        options.shared_blobs(&response).unwrap(),
        [&b"\x0a\x00\x00\x003.000000:1\x0a\x00\x00\x002.000000:2"[..]]
    );
    let reply = encode_infer(&response, &options).unwrap();
    let json: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(json["outputs"], json!([{"name": "y", "datatype": "BYTES", "shape": [1, 2]}]));
}

#[test]
fn places_that_are_none_are_refused() {
    let good = r#","shared_memory_byte_size":4"#;
    for (parameters, fragment) in [
        (place("r", ""), "'shared_memory_byte_size' is missing"),
        (place("", good), "name of a shared memory region is empty"),
        (place(&"r".repeat(129), good), "longer than 128 bytes"),
        (r#""shared_memory_region":7"#.to_owned(), "'shared_memory_region' of"),
        (place("r", r#","shared_memory_byte_size":-4"#), "'shared_memory_byte_size' of"),
        (place("r", r#","shared_memory_byte_size":4.0"#), "'shared_memory_byte_size' of"),
        (place("r", r#","shared_memory_byte_size":"4""#), "'shared_memory_byte_size' of"),
        (place("r", r#","shared_memory_byte_size":18446744073709551616"#), "'shared_memory_byte_size' of"),
        (place("r", r#","shared_memory_byte_size":4,"shared_memory_offset":-1"#), "'shared_memory_offset' of"),
        (
            place("r", r#","shared_memory_byte_size":18446744073709551584,"shared_memory_offset":32"#),
            "Integer overflow",
        ),
    ] {
        refuse(&shared(&parameters, ""), fragment);
        let input = place("in", good);
        refuse(&shared(&input, &parameters), fragment);
    }
    refuse(&shared(&place("r", r#","shared_memory_byte_size":5"#), ""), "input byte size mismatch for input 'x'");
}

#[test]
fn registrations_are_read() {
    let read = |body: &str| decode_register("r".to_owned(), body.as_bytes(), &Limits::default());
    let region = |offset, byte_size| Region { name: "r".to_owned(), key: "/k".to_owned(), offset, byte_size };
    assert_eq!(read(r#"{"key":"/k","byte_size":8,"more":[]}"#).unwrap(), region(0, 8));
    let most = r#"{"key":"/k","byte_size":18446744073709551615,"offset":9223372036854775808}"#;
    assert_eq!(read(most).unwrap(), region(1 << 63, u64::MAX));
    for (body, fragment) in [
        ("", "not as expected"),
        ("[]", "request"),
        (r#"{"byte_size":8}"#, "no 'key'"),
        (r#"{"key":"/k"}"#, "no 'byte_size'"),
        (r#"{"key":7,"byte_size":8}"#, "'key' must be a string, got"),
        (r#"{"key":"/k","byte_size":-1}"#, "'byte_size' must be a whole number"),
        (r#"{"key":"/k","byte_size":8.0}"#, "'byte_size' must be"),
        (r#"{"key":"/k","byte_size":18446744073709551616}"#, "'byte_size' must be"),
        (r#"{"key":"/k","byte_size":8,"offset":null}"#, "'offset' must be"),
        (r#"{"key":"/k","byte_size":8,"offset":true}"#, "'offset' must be"),
    ] {
        let error = read(body).unwrap_err();
        assert!(error.message().contains(fragment), "{body}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    for name in ["", &"r".repeat(129)] {
        assert!(decode_register(name.to_owned(), b"{}", &Limits::default()).is_err());
    }
}
