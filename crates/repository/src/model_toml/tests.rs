//! What a `model.toml` becomes, and which ones are refused.

use salver_core::ErrorKind;

use super::*;

#[track_caller]
fn check_error(text: &str, kind: ErrorKind, expected: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!((error.kind(), error.message()), (kind, expected), "{text:?}");
}

#[test]
fn every_documented_key_is_read() {
    let manifest = parse(
        r#"
        name = "flowers"
        version = 20260101123456
        engine = "onnx"
        artifact = "model.onnx"
        task = "tabular"
        labels = ["setosa", "versicolor"]
        [[input]]
        name = "X"
        columns = ["a", "b"]
        [batching]
        max_rows = 32
        max_delay_ms = 0.5
        [instances]
        count = 2
        threads = 3
        device = "cuda:1"
        [cache]
        ttl_s = 3600
        [metrics]
        accuracy = 0.967
        rows = 150
        "#,
    )
    .unwrap();
    assert_eq!((manifest.name.as_deref(), manifest.task()), (Some("flowers"), "tabular"));
    assert_eq!(manifest.metrics["rows"].to_bits(), 150.0f64.to_bits());
    let config = manifest.config("model.onnx").unwrap();
    let batching = config.dynamic_batching.unwrap();
    assert_eq!((batching.max_rows, batching.max_queue_delay_microseconds), (Some(32), 500));
    let group = &config.instance_groups[0];
    assert_eq!((group.count, group.threads, group.kind.as_str(), group.gpus.as_slice()), (2, 3, "KIND_GPU", &[1][..]));
    assert!(config.response_cache);
}

#[test]
fn an_empty_file_has_defaults_for_everything() {
    let manifest = parse("").unwrap();
    assert_eq!((manifest.task(), manifest.version, manifest.engine.as_deref()), ("tensor", None, None));
    let config = manifest.config("m.onnx").unwrap();
    assert_eq!(config, ModelConfig { default_model_filename: "m.onnx".to_owned(), ..ModelConfig::default() });
    assert!(config.dynamic_batching.is_some(), "merging is on outside Triton folders");
}

#[test]
fn columns_make_a_table_unless_the_task_says_otherwise() {
    let input = "[[input]]\nname = 'X'\ncolumns = ['a']";
    assert_eq!(parse(input).unwrap().task(), "tabular");
    assert_eq!(parse(&format!("task = 'tensor'\n{input}")).unwrap().task(), "tensor");
}

#[test]
fn instances_without_a_count_share_the_cores_out() {
    let count = |text: &str| parse(text).unwrap().instance_groups().unwrap()[0].count;
    assert!(count("[instances]") >= 1);
    assert_eq!(count("[instances]\nthreads = 1000"), 1);
    assert_eq!(count("[instances]\ndevice = 'cuda:0'"), 1);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let known = "expected one of `name`, `version`, `engine`, `artifact`, `task`, `labels`, `input`, `batching`, \
                 `instances`, `cache`, `metrics`";
    check_error("name = 'a'\nverion = 2", ErrorKind::InvalidInput, &format!("line 2: unknown field `verion`, {known}"));
    check_error(
        "\n[batching]\nmax_row = 2",
        ErrorKind::InvalidInput,
        "line 3: unknown field `max_row`, expected `max_rows` or `max_delay_ms`",
    );
    check_error("version = 0", ErrorKind::InvalidInput, "line 1: invalid value: integer `0`, expected a nonzero u64");
    check_error(
        "\nlabels = 3",
        ErrorKind::InvalidInput,
        "line 2: labels must be a list of texts or the name of a file with one label a line",
    );
    let error = parse("a = [").expect_err("not closed");
    assert!(error.message().starts_with("line 1: "), "{error}");
    for text in ["name = 1", "version = -1", "version = 'one'", "[[input]]\ncolumns = ['a']", "[cache]", "metrics = 3"]
    {
        assert!(parse(text).is_err_and(|error| error.message().starts_with("line ")), "{text:?}");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    check_error(
        "name = 'a/b'",
        ErrorKind::InvalidInput,
        "name: model name 'a/b' may hold letters, digits and '_', '-', '.', '+' only",
    );
    check_error("engine = 'torch'", ErrorKind::InvalidInput, "engine 'torch' is not known; known are onnx, rten");
    check_error(
        "engine = 'python'",
        ErrorKind::Unsupported,
        "engine 'python' is not offered yet; offered are onnx, rten",
    );
    check_error("task = 'tabluar'", ErrorKind::InvalidInput, "task 'tabluar' is not known; known are tensor, tabular");
    check_error(
        "[instances]\ndevice = 'gpu'",
        ErrorKind::InvalidInput,
        "instances.device 'gpu' is not known; write 'cpu' or 'cuda:0'",
    );
    check_error(
        "[instances]\ndevice = 'openvino'",
        ErrorKind::Unsupported,
        "instances.device 'openvino' is not offered yet",
    );
    check_error(
        "[instances]\nthreads = 1025",
        ErrorKind::InvalidInput,
        "instances.threads must be from 1 to 1024, got 1025",
    );
    check_error(
        "[batching]\nmax_delay_ms = -1",
        ErrorKind::InvalidInput,
        "batching.max_delay_ms must be from 0 to 60000, got -1",
    );
    check_error(
        "[batching]\nmax_delay_ms = nan",
        ErrorKind::InvalidInput,
        "batching.max_delay_ms must be from 0 to 60000, got NaN",
    );
    check_error("[metrics]\nf1 = inf", ErrorKind::InvalidInput, "metrics: 'f1' is inf");
    check_error(
        "[[input]]\nname = 'X'\n[[input]]\nname = 'X'",
        ErrorKind::InvalidInput,
        "[[input]] name 'X' must not be empty and not be given twice",
    );
    check_error(
        "[[input]]\nname = 'X'\ncolumns = ['a', 'a']",
        ErrorKind::InvalidInput,
        "[[input]] 'X': column 'a' must not be empty and not be given twice",
    );
}
