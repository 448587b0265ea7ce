//! How replies look.

use super::*;

pub(super) fn response(id: Option<&str>, outputs: Vec<Tensor>) -> InferResponse {
    let model = Arc::new(samples::one_input(DataType::Fp32, &[-1]));
    InferResponse { model, id: id.map(str::to_owned), outputs, timings: Timings::default(), cache: None, cost: None }
}

#[test]
fn a_reply_without_blobs_is_json() {
    let outputs = vec![
        Tensor::from_slice("y", [2, 2], &[0.1f32, f32::NAN, f32::INFINITY, -0.0]).unwrap(),
        Tensor::from_elements("t", [2], ["a\"\n", "ü"].into_iter().collect()).unwrap(),
        Tensor::from_slice("b", [2], &[true, false]).unwrap(),
        Tensor::from_slice("u", [1], &[u64::MAX]).unwrap(),
        Tensor::from_slice("e", [1, 0], &[0i32; 0]).unwrap(),
    ];
    let reply = encode_infer(&response(Some("i\u{1}d"), outputs), &ReplyOptions::json()).unwrap();
    assert_eq!((reply.status, reply.content_type, reply.inference_header_len), (200, "application/json", None));
    let expected = concat!(
        r#"{"id":"i\u0001d","model_name":"m","model_version":"3","outputs":["#,
        r#"{"name":"y","datatype":"FP32","shape":[2,2],"data":[0.1,NaN,Infinity,-0.0]},"#,
        r#"{"name":"t","datatype":"BYTES","shape":[2],"data":["a\"\n","ü"]},"#,
        r#"{"name":"b","datatype":"BOOL","shape":[2],"data":[true,false]},"#,
        r#"{"name":"u","datatype":"UINT64","shape":[1],"data":[18446744073709551615]},"#,
        r#"{"name":"e","datatype":"INT32","shape":[1,0],"data":[]}]}"#
    );
    assert_eq!(std::str::from_utf8(&reply.body).unwrap(), expected);
}

#[test]
fn a_reply_with_blobs_says_where_they_begin() {
    let outputs = vec![
        Tensor::from_slice("y", [2], &[1i16, -1]).unwrap(),
        Tensor::from_elements("t", [2], [&b"\xff"[..], b""].into_iter().collect()).unwrap(),
    ];
    let reply = encode_infer(&response(None, outputs), &ReplyOptions::binary()).unwrap();
    let json = concat!(
        r#"{"model_name":"m","model_version":"3","outputs":["#,
        r#"{"name":"y","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":4}},"#,
        r#"{"name":"t","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":9}}]}"#
    );
    assert_eq!(reply.content_type, "application/octet-stream");
    assert_eq!(reply.inference_header_len, Some(json.len()));
    assert_eq!(reply.body[..json.len()], *json.as_bytes());
    assert_eq!(reply.body[json.len()..], *b"\x01\0\xff\xff\x01\0\0\0\xff\0\0\0\0");
}

#[test]
fn a_reply_whose_blobs_are_all_empty_is_json() {
    let reply =
        encode_infer(&response(None, vec![Tensor::from_slice("y", [0], &[0f32; 0]).unwrap()]), &ReplyOptions::binary());
    let reply = reply.unwrap();
    assert_eq!((reply.content_type, reply.inference_header_len), ("application/json", None));
    let decoded = decode_response(reply.body, None).unwrap();
    assert_eq!(decoded.outputs[0].shape()[..], [0]);
}

#[test]
fn outputs_without_a_json_form_ask_for_the_binary_format() {
    let half = Tensor::from_slice("h", [1], &[half::f16::ONE]).unwrap();
    let bytes = Tensor::from_elements("t", [1], [b"\xff"].into_iter().collect()).unwrap();
    for output in [half, bytes] {
        let error = encode_infer(&response(None, vec![output.clone()]), &ReplyOptions::json()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("binary"), "{error}");
        assert!(error.message().contains(&**output.name()), "{error}");
        assert!(encode_infer(&response(None, vec![output]), &ReplyOptions::binary()).is_ok());
    }
}

#[test]
fn errors_are_objects_under_this_protocols_status() {
    for (kind, status) in [
        (ErrorKind::InvalidInput, 400),
        (ErrorKind::TooLarge, 413),
        (ErrorKind::NotFound, 404),
        (ErrorKind::Conflict, 400),
        (ErrorKind::Overloaded, 503),
        (ErrorKind::NotReady, 503),
        (ErrorKind::Deadline, 504),
        (ErrorKind::Unsupported, 501),
        (ErrorKind::Engine, 500),
    ] {
        let reply = encode_error(&Error::new(kind, "say \"why\"\u{7}"));
        assert_eq!(reply.status, status, "{kind:?}");
        assert_eq!(&reply.body[..], br#"{"error":"say \"why\"\u0007"}"#);
    }
}

#[test]
fn versions_in_paths_are_numbers_of_63_bits() {
    assert_eq!(model_ref("m", None).unwrap().to_string(), "m");
    assert_eq!(model_ref("m", Some("9223372036854775807")).unwrap().to_string(), "m/9223372036854775807");
    for version in ["9223372036854775808", "x", "+1", "1.0", " 1", "-2"] {
        assert_eq!(model_ref("m", Some(version)).unwrap_err().kind(), ErrorKind::InvalidInput, "{version}");
    }
    assert!(model_ref("../m", None).is_err());
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("the reply is JSON")
}

#[test]
fn metadata_name_versions_as_strings_and_shapes_with_their_batch() {
    let reply = model_metadata(&samples::one_input(DataType::Bytes, &[-1, 4]), &[1, 3]);
    let expected = json!({"name": "m", "versions": ["1", "3"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}]});
    assert_eq!(body(&reply), expected);
    let expected = json!({"name": "salver", "version": "1", "extensions": ["statistics"], "engines": ["onnx: 1"]});
    assert_eq!(body(&server_metadata("salver", "1", &["statistics"], &["onnx: 1".to_owned()])), expected);
}

#[test]
fn health_replies_have_bodies() {
    assert_eq!(body(&live()), json!({"live": true}));
    let cases: [(_, &[&str], _, _); 3] = [
        (true, &[], 200, json!({"ready": true})),
        (true, &["shared_cache"], 200, json!({"ready": true, "degraded": ["shared_cache"]})),
        (false, &[], 400, json!({"ready": false})),
    ];
    for (is_ready, degraded, status, expected) in cases {
        let reply = ready(is_ready, degraded);
        assert_eq!((reply.status, body(&reply)), (status, expected));
    }
    assert_eq!(body(&model_ready("m", true)), json!({"name": "m", "ready": true}));
    let not_ready = model_ready("m", false);
    assert_eq!(not_ready.status, 400);
    assert_eq!(body(&not_ready)["error"], "Model version not ready");
    assert_eq!(body(&model_list(&["a".to_owned()])), json!({"models": ["a"]}));
}

#[test]
fn statistics_count_in_numbers_and_nanoseconds() {
    let stat = DurationStat { count: 2, total: std::time::Duration::from_micros(3) };
    let stats = ModelStatistics {
        name: "m".to_owned(),
        version: 3,
        last_inference_ms: 5,
        inference_count: 4,
        success: stat,
        cache_hit: stat,
        batches: vec![BatchStat { batch_size: 4, compute_infer: stat, ..BatchStat::default() }],
        ..ModelStatistics::default()
    };
    let reply = body(&statistics(&[stats]));
    let stats = &reply["model_stats"][0];
    assert_eq!(stats["version"], "3");
    assert_eq!(stats["last_inference"], 5);
    assert_eq!(stats["inference_stats"]["success"], json!({"count": 2, "ns": 3000}));
    assert_eq!(stats["inference_stats"]["cache_hit"], json!({"count": 2, "ns": 3000}));
    assert_eq!(stats["batch_stats"][0]["compute_infer"], json!({"count": 2, "ns": 3000}));
}

#[test]
fn the_config_is_spelled_as_in_the_file_with_its_defaults() {
    let io = |name: &str| IoConfig {
        name: name.to_owned(),
        dtype: Some(DataType::Bytes),
        dims: Some(vec![Dim::Free, Dim::Fixed(2)]),
        reshape: Some(Vec::new()),
        label_filename: String::new(),
        optional: false,
        format: String::new(),
        allow_ragged_batch: false,
        is_shape_tensor: false,
    };
    let config =
        ModelConfig { batch: BatchRule::Max(8), inputs: vec![io("x")], outputs: vec![io("y")], ..Default::default() };
    let reply = body(&model_config("m", &config));
    assert_eq!(reply["max_batch_size"], 8);
    assert_eq!(reply["version_policy"], json!({"latest": {"num_versions": 1}}));
    assert_eq!(reply["default_model_filename"], "model.onnx");
    assert_eq!(reply["input"][0]["data_type"], "TYPE_STRING");
    assert_eq!(reply["input"][0]["dims"], json!([-1, 2]));
    assert_eq!(reply["input"][0]["format"], "FORMAT_NONE");
    assert_eq!(reply["output"][0]["reshape"], json!({"shape": []}));
    assert_eq!(reply["dynamic_batching"]["preferred_batch_size"], json!([]));
    assert_eq!((&reply["parameters"], &reply["model_warmup"]), (&json!({}), &json!([])));
    let plain = ModelConfig { batch: BatchRule::Never, dynamic_batching: None, ..Default::default() };
    let reply = body(&model_config("m", &plain));
    assert_eq!(reply["max_batch_size"], 0);
    assert!(reply.get("dynamic_batching").is_none());
}

#[test]
fn the_config_shows_what_the_server_makes_for_ragged_inputs() {
    use salver_core::{BatchInput, BatchInputKind, BatchOutput, NumberType};

    let targets = vec!["ENDS".to_owned()];
    let kind = BatchInputKind::AccumulatedElementCount;
    let input = BatchInput { kind, targets, numbers: NumberType::Fp32, source: "X".to_owned() };
    let output = BatchOutput { targets: vec!["Y".to_owned()], source: "X".to_owned() };
    let config = ModelConfig { batch_inputs: vec![input], batch_outputs: vec![output], ..Default::default() };
    let reply = body(&model_config("m", &config));
    assert_eq!(
        reply["batch_input"],
        json!([{
            "kind": "BATCH_ACCUMULATED_ELEMENT_COUNT", "target_name": ["ENDS"], "data_type": "TYPE_FP32",
            "source_input": ["X"],
        }])
    );
    assert_eq!(
        reply["batch_output"],
        json!([{"target_name": ["Y"], "kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "source_input": ["X"]}])
    );
}

#[test]
fn the_config_shows_threads_accelerators_and_policies_under_tritons_names() {
    let group = |kind: &str, accelerator: &str| InstanceGroup {
        kind: kind.to_owned(),
        accelerator: Some(accelerator.to_owned()),
        threads: 2,
        inter_threads: 3,
        ..Default::default()
    };
    let policy = QueuePolicy { delay_on_timeout: true, max_queue_size: 5, ..Default::default() };
    let batching = DynamicBatching {
        priority_levels: 2,
        default_priority_level: 2,
        default_queue_policy: Some(QueuePolicy::default()),
        priority_queue_policy: [(1, policy)].into(),
        ..Default::default()
    };
    let config = ModelConfig {
        instance_groups: vec![group("KIND_GPU", "tensorrt"), group("KIND_CPU", "openvino")],
        dynamic_batching: Some(batching),
        run_timeout: None,
        parameters: [("intra_op_thread_count".to_owned(), "0".to_owned())].into(),
        ..Default::default()
    };
    let reply = body(&model_config("m", &config));
    let accelerators = &reply["optimization"]["execution_accelerators"];
    assert_eq!(accelerators["gpu_execution_accelerator"], json!([{"name": "tensorrt", "parameters": {}}]));
    assert_eq!(accelerators["cpu_execution_accelerator"], json!([{"name": "openvino", "parameters": {}}]));
    let text = |value: &str| json!({"string_value": value});
    assert_eq!(
        reply["parameters"],
        json!({
            "inter_op_thread_count": text("3"), "intra_op_thread_count": text("0"), "run_timeout_ms": text("0"),
        })
    );
    let batching = &reply["dynamic_batching"];
    assert_eq!(batching["default_queue_policy"]["timeout_action"], "REJECT");
    assert_eq!(batching["priority_queue_policy"]["1"]["timeout_action"], "DELAY");
    assert_eq!(batching["priority_queue_policy"]["1"]["max_queue_size"], 5);
    let plain = body(&model_config("m", &ModelConfig::default()));
    assert!(plain["optimization"].get("execution_accelerators").is_none());
}

#[test]
fn the_index_has_only_the_name_of_a_model_that_was_never_loaded() {
    let status =
        |version, state, reason: &str| ModelStatus { name: "m".to_owned(), version, state, reason: reason.to_owned() };
    let reply = repository_index(&[
        status(Some(1), Some(ModelState::Ready), ""),
        status(Some(2), Some(ModelState::Failed), "no file"),
        status(Some(3), Some(ModelState::Draining), ""),
        status(None, None, ""),
    ]);
    let expected = json!([{"name": "m", "version": "1", "state": "READY"},
        {"name": "m", "version": "2", "state": "UNAVAILABLE", "reason": "no file"},
        {"name": "m", "version": "3", "state": "UNLOADING"}, {"name": "m"}]);
    assert_eq!(body(&reply), expected);
}

#[test]
fn index_requests_may_be_empty() {
    for (body, expected) in [("", false), (" \n", false), ("{}", false), (r#"{"ready":true}"#, true)] {
        assert_eq!(decode_index_request(body.as_bytes()).unwrap(), expected, "{body}");
    }
    for body in ["[]", "{", r#"{"ready":1}"#, r#"{"ready":true,"ready":false}"#, "\u{0}"] {
        assert_eq!(decode_index_request(body.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput, "{body}");
    }
}

#[test]
fn load_requests_bring_a_configuration_and_files_along() {
    for body in ["", "{}", r#"{"parameters":{}}"#, r#"{"parameters":{"unload_dependents":true}}"#] {
        assert_eq!(decode_load_request(body.as_bytes()).unwrap(), None, "{body}");
        decode_unload_request(body.as_bytes()).unwrap();
    }
    let body = r#"{"parameters":{"file:1/model.onnx":"AP8=","config":"{\"name\":\"m\"}","file:l.txt":""}}"#;
    let found = decode_load_request(body.as_bytes()).unwrap().unwrap();
    let files: Vec<_> = found.files.iter().map(|file| (file.path.as_str(), &*file.data)).collect();
    assert_eq!(found.config, r#"{"name":"m"}"#);
    assert_eq!(files, [("1/model.onnx", &[0u8, 255][..]), ("l.txt", &[])]);
    for body in [
        r#"{"parameters":{"file:1/model.onnx":"AP8="}}"#,
        r#"{"parameters":{"config":{}}}"#,
        r#"{"parameters":{"config":"{}","config":"{}"}}"#,
        r#"{"parameters":{"config":"{}","file:1/model.onnx":"not base64!"}}"#,
        r#"{"parameters":{"config":"{}","file:1/model.onnx":[0,255]}}"#,
    ] {
        assert_eq!(decode_load_request(body.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput, "{body}");
    }
    let deep = "[".repeat(100_000);
    for body in ["[]", "{", r#"{"parameters":[]}"#, &deep] {
        assert_eq!(decode_load_request(body.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(decode_unload_request(body.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let wrong = br#"{"parameters":{"unload_dependents":"yes"}}"#;
    assert_eq!(decode_unload_request(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
}
