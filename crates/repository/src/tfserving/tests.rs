//! What a `models.config` becomes, and which ones are refused.

use salver_core::ErrorKind;

use super::*;

#[track_caller]
fn check_error(config: &str, kind: ErrorKind, expected: &str) {
    let text = format!("model_config_list {{\n config {{\n {config} }} }}");
    let error = parse(&text).expect_err(config);
    assert_eq!((error.kind(), error.message()), (kind, expected), "{config}");
}

#[test]
fn policies_and_labels_are_read() {
    let models = parse(
        r#"model_config_list: {
          config: { name: 'a', base_path: '/m/a', model_platform: "onnx",
                    model_version_policy: { specific: { versions: 1, versions: 2 } },
                    version_labels: { key: 'stable', value: 1 } version_labels { key: 'canary' value: 2 } }
          config { name: "b" base_path: "/m/b" model_version_policy { latest { num_versions: 2 } } model_type: OTHER }
          config { name: "c" base_path: "/m/c" model_version_policy { all { } }
                   logging_config { log_collector_config { type: "file" filename_prefix: "/tmp/x" }
                                    sampling_config { sampling_rate: 0.1 } } }
          config { name: "d" base_path: "d" }
        }"#,
    )
    .unwrap();
    let policies: Vec<_> = models.iter().map(|model| model.version_policy.clone()).collect();
    let specific = VersionPolicy::Specific(vec![1, 2]);
    assert_eq!(policies, [specific, VersionPolicy::Latest(2), VersionPolicy::All, VersionPolicy::Latest(1)]);
    assert_eq!(models[0].labels, [("canary".to_owned(), 2), ("stable".to_owned(), 1)].into());
    assert_eq!(models[3].base_path, Path::new("d"));
}

#[test]
fn what_cannot_be_served_is_refused_by_model_and_field() {
    let base = "name: 'a' base_path: '/a'";
    check_error("name: 'a'", ErrorKind::InvalidInput, "line 2: config of 'a': base_path is missing");
    check_error(
        &format!("{base} model_platform: 'tensorflow'"),
        ErrorKind::Unsupported,
        "line 3: config of 'a': model_platform 'tensorflow' is not offered; write 'onnx' or leave it out",
    );
    check_error(
        &format!("{base} model_type: TENSORFLOW"),
        ErrorKind::Unsupported,
        "line 3: config of 'a': model_type TENSORFLOW is not offered; only ONNX models are",
    );
    check_error(
        &format!("{base} version_labels {{ key: 'x' value: -1 }}"),
        ErrorKind::InvalidInput,
        "line 3: config of 'a': version_labels: 'x' stands for version -1, which is not a positive number",
    );
    check_error(
        &format!("{base} model_version_policy {{ specific {{ versions: -3 }} }}"),
        ErrorKind::InvalidInput,
        "line 3: config of 'a': model_version_policy: version -3 is not a positive number",
    );
    check_error(
        "base_path: '/a' name: '../a'",
        ErrorKind::InvalidInput,
        "line 3: config of '../a': model name '../a' must start with a letter, a digit or '_'",
    );
    check_error("nam: 'a'", ErrorKind::InvalidInput, "line 3: unknown field 'nam' in ModelConfig");
    assert_eq!(parse("").expect_err("empty").message(), "model_config_list is missing");
}
