//! What a configuration as JSON may look like, and what its errors say.

use super::*;
use crate::schema::triton::ModelConfig;
use crate::text;

#[track_caller]
fn check(json: &str, as_text: &str) {
    let expected: ModelConfig = text::parse(as_text).unwrap_or_else(|error| panic!("{as_text}: {error}")).0;
    let found: ModelConfig = parse(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(found, expected, "{json}");
}

#[track_caller]
fn check_error(json: &str, expected: &str) {
    let error = parse::<ModelConfig>(json).expect_err(json);
    assert_eq!(error.message(), expected, "{json}");
}

#[test]
fn json_reads_as_the_text_of_the_same_configuration() {
    check("{}", "");
    check(r#"{"max_batch_size": 0, "name": null}"#, "max_batch_size: 0");
    check(r#"{"maxBatchSize": "8"}"#, "max_batch_size: 8");
    check(
        r#"{"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1", 3], "reshape": {"shape": []}}]}"#,
        "input { name: 'x' data_type: TYPE_FP32 dims: [-1, 3] reshape { shape: [] } }",
    );
    check(
        r#"{"instance_group": [{"kind": 1, "count": 2}], "parameters": {"a": {"string_value": "b"}}}"#,
        "instance_group { kind: KIND_GPU count: 2 } parameters { key: 'a' value { string_value: 'b' } }",
    );
    check(
        r#"{"dynamic_batching": {"priority_queue_policy": {"18446744073709551615": {"max_queue_size": 4}}}}"#,
        "dynamic_batching { priority_queue_policy { key: 18446744073709551615 value { max_queue_size: 4 } } }",
    );
}

#[test]
fn what_does_not_fit_is_named_by_its_path() {
    check_error("[]", "expected an object, got a list");
    check_error(r#"{"nmae": "m"}"#, "unknown field 'nmae' in ModelConfig");
    check_error(
        r#"{"input": [{}, {"dims": [1, 1.5]}]}"#,
        "input[1].dims[1]: expected a whole number of 64 bits, got a number that does not fit",
    );
    check_error(r#"{"input": {"name": "x"}}"#, "input: expected a list, got an object");
    check_error(r#"{"parameters": {"a": "b"}}"#, "parameters[a]: expected an object, got a string");
    check_error(r#"{"input": [{"data_type": "FP32"}]}"#, "input[0].data_type: \"FP32\" is not one of DataType");
    check_error(
        r#"{"dynamic_batching": {}, "sequence_batching": {}}"#,
        "'dynamic_batching' and 'sequence_batching' exclude each other",
    );
    check_error(
        r#"{"dynamic_batching": {"priority_queue_policy": {"-1": {}}}}"#,
        "dynamic_batching.priority_queue_policy[-1]: the key is not of the type that the field takes",
    );
    assert!(parse::<ModelConfig>("{").unwrap_err().message().starts_with("not JSON: "));
    assert!(parse::<ModelConfig>(&"[".repeat(100_000)).unwrap_err().message().starts_with("not JSON: recursion"));
}
