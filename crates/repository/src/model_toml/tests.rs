//! What a `model.toml` becomes, and which ones are refused.

use std::path::Path;

use salver_core::{ErrorKind, QueuePolicy};

use super::*;

mod builtin;
mod features;
mod python;
mod remote;
mod tasks;

#[track_caller]
fn read(text: &str) -> ModelConfig {
    parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).config("m.onnx")
}

#[track_caller]
fn batching(text: &str) -> DynamicBatching {
    read(&format!("[batching]\n{text}")).dynamic_batching.expect("merging is on outside Triton folders")
}

#[track_caller]
fn group(text: &str) -> InstanceGroup {
    read(&format!("[instances]\n{text}")).instance_groups.remove(0)
}

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
        preferred_rows = [16, 8, 16]
        max_delay_ms = 0.5
        preserve_order = true
        timeout_ms = 250
        on_timeout = "delay"
        timeout_override = false
        max_queue = 100
        priorities = 3
        default_priority = 2
        [batching.priority.1]
        timeout_ms = 10
        on_timeout = "reject"
        [batching.padding]
        inputs = { input_ids = 0, attention_mask = 0.5 }
        outputs = ["last_hidden_state"]
        buckets = [16, 32, 64]
        [instances]
        count = 2
        threads = 3
        inter_threads = 4
        cores = [0, 1023]
        device = "cuda:1"
        run_timeout_ms = 1500
        [cache]
        ttl_s = 3600
        [metrics]
        accuracy = 0.967
        rows = 150
        "#,
    )
    .unwrap();
    assert_eq!((manifest.name.as_deref(), manifest.task.clone()), (Some("flowers"), Some(Draft::Rows)));
    assert_eq!((manifest.version, manifest.engine.as_deref()), (20_260_101_123_456, Some("onnx")));
    assert_eq!(manifest.columns["X"], ["a", "b"]);
    assert_eq!(manifest.metrics["rows"].to_bits(), 150.0f64.to_bits());
    let policy = QueuePolicy {
        delay_on_timeout: true,
        default_timeout_microseconds: 250_000,
        allow_timeout_override: false,
        max_queue_size: 100,
    };
    let urgent = QueuePolicy { delay_on_timeout: false, default_timeout_microseconds: 10_000, ..policy.clone() };
    let padding = salver_core::Padding {
        inputs: [("input_ids".to_owned(), 0.0), ("attention_mask".to_owned(), 0.5)].into(),
        outputs: vec!["last_hidden_state".to_owned()],
        buckets: vec![16, 32, 64],
    };
    let expected = ModelConfig {
        dynamic_batching: Some(DynamicBatching {
            max_rows: Some(32),
            preferred_batch_size: vec![8, 16],
            max_queue_delay_microseconds: 500,
            preserve_ordering: true,
            priority_levels: 3,
            default_priority_level: 2,
            default_queue_policy: Some(policy),
            priority_queue_policy: [(1, urgent)].into(),
            padding: Some(padding),
        }),
        instance_groups: vec![InstanceGroup {
            count: 2,
            threads: 3,
            inter_threads: 4,
            cores: vec![0, 1023],
            kind: "KIND_GPU".to_owned(),
            gpus: vec![1],
            ..InstanceGroup::default()
        }],
        response_cache: true,
        cache_ttl: Some(Duration::from_secs(3600)),
        run_timeout: Some(Duration::from_millis(1500)),
        ..ModelConfig::default()
    };
    assert_eq!(manifest.config("model.onnx"), expected);
}

#[test]
fn an_empty_file_has_defaults_for_everything() {
    let manifest = parse("").unwrap();
    assert_eq!((manifest.task.clone(), manifest.version, manifest.engine.as_deref()), (None, 1, None));
    let config = manifest.config("m.onnx");
    assert_eq!(config, ModelConfig { default_model_filename: "m.onnx".to_owned(), ..ModelConfig::default() });
    assert!(config.dynamic_batching.is_some(), "merging is on outside Triton folders");
    assert_eq!(config.run_timeout, Some(Duration::from_secs(60)));
    assert_eq!(read("[batching]"), config, "tables without keys change nothing");
}

#[test]
fn columns_make_a_table_unless_the_task_says_otherwise() {
    let input = "[[input]]\nname = 'X'\ncolumns = ['a']";
    assert_eq!(parse(input).unwrap().task, Some(Draft::Rows));
    assert_eq!(parse(&format!("task = 'tensor'\n{input}")).unwrap().task, Some(Draft::Tensor));
}

#[test]
fn instances_without_a_count_share_the_cores_out() {
    assert!(group("").count >= 1);
    assert_eq!(group("threads = 1000").count, 1);
    assert_eq!(group("device = 'cuda:0'").count, 1);
}

#[test]
fn devices_are_those_of_tritons_kinds_and_accelerators() {
    for (device, kind, gpus, accelerator) in [
        ("cpu", "KIND_CPU", &[][..], None),
        ("openvino", "KIND_CPU", &[], Some("openvino")),
        ("cuda:0", "KIND_GPU", &[0], None),
        ("tensorrt:255", "KIND_GPU", &[255], Some("tensorrt")),
    ] {
        let group = group(&format!("device = '{device}'"));
        assert_eq!((group.kind.as_str(), group.gpus.as_slice()), (kind, gpus), "{device}");
        assert_eq!((group.accelerator.as_deref(), group.devices()), (accelerator, vec![device.to_owned()]));
    }
}

#[test]
fn a_run_or_a_wait_of_zero_has_no_end() {
    assert_eq!(read("[instances]\nrun_timeout_ms = 0").run_timeout, None);
    assert_eq!(read("[instances]").run_timeout, Some(Duration::from_secs(60)));
    let policy = batching("timeout_ms = 0").default_queue_policy;
    let expected = QueuePolicy { allow_timeout_override: true, ..QueuePolicy::default() };
    assert_eq!(policy, Some(expected), "a request may shorten its wait unless that is forbidden");
}

#[test]
fn a_cache_needs_no_time_to_live() {
    assert_eq!((read("[cache]").response_cache, read("[cache]").cache_ttl), (true, None));
    assert_eq!(read("[cache]\nttl_s = 1").cache_ttl, Some(Duration::from_secs(1)));
    assert!(!read("").response_cache);
}

#[test]
fn what_is_not_in_the_cache_is_computed_unless_a_job_is_wanted() {
    let on_miss = |text: &str| read(text).on_miss;
    assert_eq!((on_miss(""), on_miss("[cache]")), (OnMiss::Compute, OnMiss::Compute));
    assert_eq!(on_miss("[cache]\non_miss = 'compute'"), OnMiss::Compute);
    assert_eq!(on_miss("[cache]\non_miss = 'job'"), OnMiss::Job);
    let expected = "line 2: cache.on_miss: unknown variant `later`, expected `compute` or `job`";
    check_error("[cache]\non_miss = 'later'", ErrorKind::InvalidInput, expected);
}

#[test]
fn requests_without_a_priority_are_the_least_urgent() {
    let levels = |text: &str| {
        let batching = batching(text);
        (batching.priority_levels, batching.default_priority_level)
    };
    assert_eq!(levels("priorities = 3"), (3, 3));
    assert_eq!(levels("priorities = 3\ndefault_priority = 1"), (3, 1));
    assert_eq!(levels("priorities = 0"), (0, 0));
}

#[test]
fn a_level_takes_what_it_leaves_out_from_the_table_around_it() {
    let policies = batching("priorities = 2\nmax_queue = 7\non_timeout = 'delay'\npriority.2.timeout_ms = 5");
    let level = &policies.priority_queue_policy[&2];
    assert_eq!((level.max_queue_size, level.default_timeout_microseconds), (7, 5000));
    assert!(level.delay_on_timeout && level.allow_timeout_override);
    assert_eq!(policies.priority_queue_policy.len(), 1);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let known = "expected one of `name`, `version`, `engine`, `artifact`, `task`, `labels`, `input`, `output`, `python`, `text`, `image`, \
                 `column`, `step`, `builtin`, `features`, `feature`, `remote`, `batching`, `instances`, `cache`, `metrics`";
    check_error("name = 'a'\nverion = 2", ErrorKind::InvalidInput, &format!("line 2: unknown field `verion`, {known}"));
    for (text, expected) in [
        ("\n[batching]\nmax_row = 2", "line 3: batching: unknown field `max_row`, expected one of "),
        (
            "[batching]\npriorities = 1\n[batching.priority.1]\nmax = 2",
            "line 4: batching.priority.1: unknown field `max`",
        ),
        (
            "[batching]\npadding = { inputs = { a = 0 }, to = 8 }",
            "line 2: batching.padding: unknown field `to`, expected",
        ),
        ("[batching.padding]\noutputs = []", "line 1: batching.padding: missing field `inputs`"),
        ("\n[instances]\ncpus = 2", "line 3: instances: unknown field `cpus`, expected one of `count`, "),
        ("[cache]\nttl = 2", "line 2: cache: unknown field `ttl`, expected `ttl_s`"),
        ("\nlabels = 3", "line 2: labels must be a list of texts or the name of a file with one label a line"),
        ("name = 1", "line 1: name: invalid type: integer `1`, expected a string"),
        ("version = 'one'", "line 1: version: invalid type: string \"one\", expected i64"),
        ("\n[[input]]\ncolumns = ['a']", "line 2: input: missing field `name`"),
        ("metrics = 3", "line 1: metrics: invalid type: integer `3`, expected a map"),
        (
            "[batching]\n\nmax_rows = 'many'",
            "line 3: batching.max_rows: invalid type: string \"many\", expected a whole number from 1 to 65536",
        ),
        (
            "[batching]\non_timeout = 'drop'",
            "line 2: batching.on_timeout: unknown variant `drop`, expected `reject` or",
        ),
        ("name = 'a'\nname = 'b'", "line 2: duplicate key"),
        ("\na = [", "line 2: "),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.message().starts_with(expected), "{text:?}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

/// Key, a value beyond its range, and the range.
const OUT_OF_RANGE: [(&str, &str, &str); 38] = [
    ("batching.max_rows", "0", "from 1 to 65536"),
    ("batching.max_rows", "65537", "from 1 to 65536"),
    ("batching.max_rows", "-1", "from 1 to 65536"),
    ("batching.max_rows", "9223372036854775807", "from 1 to 65536"),
    ("batching.max_rows", "1.5", "a whole number from 1 to 65536"),
    ("batching.preferred_rows", "[8, 0]", "from 1 to 65536"),
    ("batching.preferred_rows", "[65]", "from 1 to batching.max_rows (64)"),
    ("batching.max_delay_ms", "-1", "from 0 to 60000"),
    ("batching.max_delay_ms", "60000.5", "from 0 to 60000"),
    ("batching.max_delay_ms", "nan", "from 0 to 60000"),
    ("batching.timeout_ms", "-1", "from 0 to 3600000"),
    ("batching.timeout_ms", "3600001", "from 0 to 3600000"),
    ("batching.max_queue", "-1", "from 0 to 1000000"),
    ("batching.max_queue", "1000001", "from 0 to 1000000"),
    ("batching.priorities", "-1", "from 0 to 1024"),
    ("batching.priorities", "1025", "from 0 to 1024"),
    ("batching.default_priority", "0", "from 1 to 1024"),
    ("batching.padding.buckets", "[0]", "from 1 to 16777216"),
    ("instances.count", "0", "from 1 to 1024"),
    ("instances.count", "1025", "from 1 to 1024"),
    ("instances.threads", "0", "from 1 to 1024"),
    ("instances.threads", "1025", "from 1 to 1024"),
    ("instances.inter_threads", "0", "from 1 to 1024"),
    ("instances.inter_threads", "1025", "from 1 to 1024"),
    ("instances.cores", "[0, -1]", "from 0 to 1023"),
    ("instances.cores", "[1024]", "from 0 to 1023"),
    ("instances.run_timeout_ms", "-1", "from 0 to 86400000"),
    ("instances.run_timeout_ms", "86400001", "from 0 to 86400000"),
    ("python.memory_limit_mb", "0", "from 1 to 16777216"),
    ("python.memory_limit_mb", "16777217", "from 1 to 16777216"),
    ("python.start_timeout_s", "0", "from 1 to 3600"),
    ("python.start_timeout_s", "3601", "from 1 to 3600"),
    ("cache.ttl_s", "0", "from 1 to 31536000"),
    ("cache.ttl_s", "31536001", "from 1 to 31536000"),
    ("version", "0", "from 1 to 9223372036854775807"),
    ("version", "-3", "from 1 to 9223372036854775807"),
    ("metrics.f1", "inf", "a finite number"),
    ("metrics.f1", "nan", "a finite number"),
];

#[test]
fn every_value_out_of_range_is_refused_with_line_key_and_range() {
    for (key, value, range) in OUT_OF_RANGE {
        for (text, line) in tables(key, value) {
            let error = parse(&text).expect_err(&text);
            let expected = format!("line {line}: {key} must be {range}, got ");
            assert!(error.message().starts_with(&expected), "{text:?}: expected {expected}…, got {error}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}

/// The same setting under a table header and with a dotted key.
fn tables(key: &str, value: &str) -> [(String, usize); 2] {
    let dotted = (format!("# comment\n\n{key} = {value}\n"), 3);
    match key.rsplit_once('.') {
        Some((table, key)) => [(format!("# comment\n[{table}]\n\n{key} = {value}\n"), 4), dotted],
        None => [dotted.clone(), dotted],
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, expected) in [
        (
            "[batching]\nmax_rows = 4\npreferred_rows = [\n2,\n5,\n]",
            "line 5: batching.preferred_rows must be from 1 to batching.max_rows (4), got 5",
        ),
        (
            "[batching]\npriorities = 2\n\ndefault_priority = 3",
            "line 4: batching.default_priority must be from 1 to batching.priorities (2), got 3",
        ),
        (
            "[batching]\ndefault_priority = 1",
            "line 2: batching.default_priority: needs batching.priorities beside it, from 1 to 1024",
        ),
        (
            "[batching.priority.1]\ntimeout_ms = 1",
            "line 1: batching.priority: needs batching.priorities beside it, from 1 to 1024",
        ),
        (
            "[batching]\npriorities = 2\n[batching.priority.3]\ntimeout_ms = 1",
            "line 3: batching.priority must be from 1 to batching.priorities (2), got 3",
        ),
        (
            "[batching]\npriorities = 2\npriority.high.timeout_ms = 1",
            "line 3: batching.priority: 'high' must be a number from 1 to batching.priorities",
        ),
        (
            "[batching]\npriorities = 2\npriority.01 = {}",
            "line 3: batching.priority: '01' must be a number from 1 to batching.priorities",
        ),
        (
            "[batching.padding]\ninputs = {}",
            "line 1: batching.padding: inputs must name at least one input and what it is padded with",
        ),
        (
            "[batching.padding]\ninputs = { a = 0 }\nbuckets = [16, 32,\n32]",
            "line 4: batching.padding.buckets must ascend, got 32 after 32",
        ),
        ("\n\nname = 'a/b'", "line 3: name: model name 'a/b' may hold letters, digits and '_', '-', '.', '+' only"),
        (
            "\nengine = 'torch'",
            "line 2: engine must be one of onnx, rten, python, ensemble, builtin, features, http, got 'torch'",
        ),
        (
            "task = 'tabluar'",
            "line 1: task must be one of tensor, tabular, text-classification, text-embedding, token-classification, \
             zero-shot, image-classification, got 'tabluar'",
        ),
        (
            "[[input]]\nname = 'X'\n[[input]]\nname = 'X'",
            "line 4: input.name must not be empty and not be given twice, got 'X'",
        ),
        (
            "[[input]]\nname = 'X'\ncolumns = ['a',\n'a']",
            "line 4: input.columns must not be empty and not be given twice, got 'a'",
        ),
    ] {
        check_error(text, ErrorKind::InvalidInput, expected);
    }
    check_error(
        "engine = 'grpc'",
        ErrorKind::InvalidInput,
        "line 1: engine must be one of onnx, rten, python, ensemble, builtin, features, http, got 'grpc'",
    );
}

#[test]
fn inputs_of_an_ensemble_have_a_name_and_nothing_else() {
    let ensemble = |input: &str| format!("engine = 'ensemble'\n[[step]]\nmodel = 'a'\n[[input]]\nname = 'x'\n{input}");
    assert!(parse(&ensemble("")).is_ok());
    for more in ["dtype = 'FP32'", "shape = [1]", "optional = true", "columns = ['a']"] {
        check_error(
            &ensemble(more),
            ErrorKind::InvalidInput,
            "line 5: input.name: has more than a name; what reads the input says the rest",
        );
    }
}

#[test]
fn who_waits_for_others_forms_no_batches() {
    for (model, line, instead) in [
        ("engine = 'ensemble'\n[[step]]\nmodel = 'a'", 4, "the models that steps call have their own"),
        (
            "engine = 'features'\n[features]\nkey = 'id'\nredis_key = '{key}'\n[[feature]]\nname = 'a'\ndtype = 'fp32'\ndefault = 0",
            9,
            "all keys of a request are looked up together",
        ),
        (
            "engine = 'http'\n[remote]\nurl = 'https://h/v1'\napi = 'openai-chat'\nmodel = 'm'",
            6,
            "each request is a call; calls at a time are max_concurrency in [remote]",
        ),
    ] {
        parse(model).unwrap();
        let refusal = format!("line {line}: batching: has no place here, leave it out: {instead}");
        check_error(&format!("{model}\n[batching]\nmax_rows = 4"), ErrorKind::InvalidInput, &refusal);
    }
}

#[test]
fn a_device_that_is_none_is_refused_with_the_known_ones() {
    for device in ["gpu", "cuda", "cuda:", "cuda:256", "cuda:-1", "cuda:+1", "tensorrt", "openvino:0", "cpu:0", ""] {
        check_error(
            &format!("[instances]\n\ndevice = '{device}'"),
            ErrorKind::InvalidInput,
            &format!(
                "line 3: instances.device must be 'cpu', 'cuda:N', 'tensorrt:N' (N from 0 to 255) or 'openvino', got \
                 '{device}'"
            ),
        );
    }
}

fn documentation() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
    std::fs::read_to_string(path).expect("docs/models.md")
}

#[test]
fn the_documented_example_is_read() {
    let page = documentation();
    let (_, rest) = page.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let manifest = parse(example).unwrap();
    assert_eq!(manifest.name.as_deref(), Some("flowers"));
    assert_eq!(manifest.batching.priority_queue_policy[&1].default_timeout_microseconds, 50_000);
    assert_eq!(manifest.batching.default_priority_level, 2);
}

/// What serde says is known is what the tables list.
#[test]
fn every_key_stands_in_the_documentation_and_no_other() {
    let page = documentation();
    for table in ["batching", "batching.padding", "instances", "cache", "python", "text", "image"] {
        check_keys(&page, &format!("[{table}]"), &format!("{table}.inputs = {{ a = 0 }}\n{table}.no_such_key = 1"));
    }
    for table in ["[[column]]", "[[input]]", "[[output]]"] {
        check_keys(&page, table, &format!("{table}\nno_such_key = 1"));
    }
    let ensembles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ensembles.md");
    let ensembles = std::fs::read_to_string(ensembles).expect("docs/ensembles.md");
    check_keys(&ensembles, "[[step]]", "[[step]]\nno_such_key = 1");
}

/// `unknown` has a key that is none.
#[track_caller]
fn check_keys(page: &str, table: &str, unknown: &str) {
    let error = parse(unknown).expect_err(table);
    let known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
    let (_, rest) = page.split_once(&format!("`{table}`:")).expect(table);
    let rows = rest.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = rows.take_while(|line| line.starts_with("| `"));
    let listed: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let mut sorted = (known.clone(), listed.clone());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "{table} knows {known:?}, docs/models.md lists {listed:?}");
}
