//! What a configuration becomes, and which ones are refused.

use std::time::Duration;

use salver_core::{DataType, Dim, ErrorKind, QueuePolicy};

use super::*;

mod ensembles;
mod ragged;
mod sequences;

#[track_caller]
fn read(text: &str) -> ModelConfig {
    parse(text, "m").unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[track_caller]
fn check_error(text: &str, kind: ErrorKind, expected: &str) {
    let error = parse(text, "m").expect_err(text);
    assert_eq!((error.kind(), error.message()), (kind, format!("line 1: {expected}").as_str()), "{text:?}");
}

#[track_caller]
fn check_invalid(text: &str, expected: &str) {
    check_error(text, ErrorKind::InvalidInput, expected);
}

const IO: &str = "input { name: 'x' } output { name: 'y' }";

#[test]
fn a_full_configuration_is_read_field_by_field() {
    let config = read(
        r#"name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 16
        input [ { name: "x" data_type: TYPE_STRING dims: [ -1, 3 ] format: FORMAT_NCHW optional: true
                  is_shape_tensor: true },
                { name: "z" dims: -1 allow_ragged_batch: true } ]
        output [ { name: "y" data_type: TYPE_BF16 dims: [ 1 ] reshape { shape: [ ] } label_filename: "y.txt" } ]
        version_policy { specific { versions: [ 3, 1 ] } }
        instance_group [ { name: "g" count: 2 kind: KIND_GPU gpus: [ 0, 1 ] }, { } ]
        dynamic_batching {
          preferred_batch_size: [ 16, 4 ] max_queue_delay_microseconds: 100 preserve_ordering: true
          priority_levels: 2 default_priority_level: 2
          default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 7 }
          priority_queue_policy { key: 1 value { allow_timeout_override: true max_queue_size: 9 } }
        }
        default_model_filename: "net.onnx"
        parameters { key: "intra_op_thread_count" value { string_value: "3" } }
        response_cache { enable: true }
        model_warmup [ { name: "w" batch_size: 2 inputs { key: "x" value { data_type: TYPE_STRING dims: 3 random_data: true } } } ]"#,
    );
    let x = &config.inputs[0];
    assert_eq!((x.dtype, x.dims.as_deref()), (Some(DataType::Bytes), Some(&[Dim::Free, Dim::Fixed(3)][..])));
    assert_eq!(
        (x.format.as_str(), x.optional, x.allow_ragged_batch, x.is_shape_tensor),
        ("FORMAT_NCHW", true, false, true)
    );
    assert!(config.inputs[1].allow_ragged_batch);
    let y = &config.outputs[0];
    assert_eq!((y.dims.as_deref(), y.reshape.as_deref()), (Some(&[Dim::Fixed(1)][..]), Some(&[][..])));
    assert_eq!((y.label_filename.as_str(), y.dtype), ("y.txt", Some(DataType::Bf16)));
    assert_eq!((config.batch, &config.version_policy), (BatchRule::Max(16), &VersionPolicy::Specific(vec![3, 1])));
    let groups: Vec<_> = config.instance_groups.iter().map(|g| (g.count, g.kind.as_str(), g.threads)).collect();
    assert_eq!(groups, [(2, "KIND_GPU", 3), (1, "KIND_AUTO", 3)]);
    let batching = config.dynamic_batching.unwrap();
    assert_eq!(batching.preferred_batch_size, [4, 16]);
    assert_eq!((batching.priority_levels, batching.default_priority_level), (2, 2));
    assert!(batching.default_queue_policy.is_some_and(|policy| policy.delay_on_timeout));
    let policy = QueuePolicy { allow_timeout_override: true, max_queue_size: 9, ..QueuePolicy::default() };
    assert_eq!(batching.priority_queue_policy, [(1, policy)].into());
    assert_eq!((config.default_model_filename.as_str(), config.response_cache), ("net.onnx", true));
    let warmup = &config.warmup[0];
    assert_eq!((warmup.batch_size, warmup.count), (2, 1));
    assert_eq!(
        (warmup.inputs[0].dims.as_slice(), &warmup.inputs[0].data),
        (&[3][..], &salver_core::WarmupData::Random)
    );
}

#[test]
fn the_batch_size_is_derived_only_where_nothing_is_said() {
    let derive = BatchRule::Derive { limit: Some(4) };
    for (text, rule, merges) in [
        ("", derive, true),
        ("input { name: 'x' }", derive, true),
        (IO, BatchRule::Never, false),
        ("max_batch_size: 0", BatchRule::Never, false),
        ("max_batch_size: 8", BatchRule::Max(8), false),
        ("max_batch_size: 8 dynamic_batching { }", BatchRule::Max(8), true),
        ("max_batch_size: 1 dynamic_batching { }", BatchRule::Max(1), true),
    ] {
        let config = read(text);
        assert_eq!((config.batch, config.dynamic_batching.is_some()), (rule, merges), "{text:?}");
    }
    assert_eq!(read(""), derived());
    check_invalid("max_batch_size: -1", "max_batch_size must be 0 (no batch dimension) or more, got -1");
}

#[test]
fn what_is_left_out_has_tritons_defaults() {
    let config = read(IO);
    assert_eq!(config.version_policy, VersionPolicy::Latest(1));
    assert_eq!(read("version_policy { latest { } }").version_policy, VersionPolicy::Latest(1));
    assert_eq!(read("version_policy { latest { num_versions: 3 } }").version_policy, VersionPolicy::Latest(3));
    assert_eq!(read("version_policy { all { } }").version_policy, VersionPolicy::All);
    assert_eq!((config.default_model_filename.as_str(), config.instance_groups.len()), ("model.onnx", 0));
    assert_eq!((config.inputs[0].dtype, config.inputs[0].dims.as_ref()), (None, None));
}

#[test]
fn a_thread_count_acts_with_and_without_a_group() {
    let threads =
        |value: &str| format!("parameters {{ key: 'intra_op_thread_count' value {{ string_value: '{value}' }} }}");
    let alone = read(&threads("5"));
    assert_eq!((alone.instance_groups[0].count, alone.instance_groups[0].threads), (1, 5));
    assert_eq!(alone.parameters["intra_op_thread_count"], "5");
    assert_eq!(read("instance_group { count: 3 }").instance_groups[0].threads, 1);
    assert!(read(&threads("0")).instance_groups[0].threads >= 1, "all cores");
    let inter = "parameters { key: 'inter_op_thread_count' value { string_value: '4' } }";
    assert_eq!((read(inter).instance_groups[0].threads, read(inter).instance_groups[0].inter_threads), (1, 4));
    for odd in ["-1", "many", "", "1025", "99999999999999999999"] {
        assert!(parse(&threads(odd), "m").is_err(), "{odd}");
    }
}

#[test]
fn what_is_not_offered_is_refused_by_name() {
    assert!(parse("model_transaction_policy { decoupled: false }", "m").is_ok());
    let error = parse("model_transaction_policy { decoupled: true }", "m").unwrap_err();
    assert!(error.message().contains("a model in Python gives several"), "{error}");
    check_error(
        "platform: 'tensorrt_plan'",
        ErrorKind::Unsupported,
        "platform 'tensorrt_plan' is not offered; only 'onnxruntime_onnx' is",
    );
    check_error("backend: 'python'", ErrorKind::Unsupported, "backend 'python' is not offered; only 'onnxruntime' is");
}

#[test]
fn fields_without_effect_are_accepted_but_spelled_right() {
    read(
        "optimization { graph { level: 1 } priority: PRIORITY_MAX cuda { graphs: true graph_spec { batch_size: 1 } }
           execution_accelerators { gpu_execution_accelerator [ { name: 'tensorrt' parameters { key: 'p' value: 'v' } } ] }
           input_pinned_memory { enable: true } eager_batching: true }
         metric_tags { key: 'a' value: 'b' } cc_model_filenames { key: '7.5' value: 'm.onnx' }
         model_operations { op_library_filename: 'x.so' } model_repository_agents { agents [ { name: 'a' } ] } runtime: 'r'
         model_metrics { metric_control { metric_identifier { family: 'f' } histogram_options { buckets: [ 1, 2.5 ] } } }
         instance_group { passive: true profile: 'p' host_policy: 'h' rate_limiter { resources { name: 'r' count: 1 } } }",
    );
    check_invalid("optimization { grahp { } }", "unknown field 'grahp' in ModelOptimizationPolicy");
}

#[test]
fn limits_that_need_no_graph_are_checked() {
    check_invalid("name: 'other'", "name 'other' must be the folder's name, 'm'; it may also be left out");
    check_invalid("input { dims: 1 }", "input 1 has no name");
    check_invalid("output { name: 'y' } output { name: 'y' }", "output 'y': is given twice");
    check_invalid("input { name: 'x' dims: 0 }", "input 'x': dims must be -1 (any extent) or 1 and more, got 0");
    check_invalid("input { name: 'x' dims: -2 }", "input 'x': dims must be -1 (any extent) or 1 and more, got -2");
    check_invalid("input { name: 'x' reshape { } }", "input 'x': reshape needs dims beside it");
    let deep = format!("input {{ name: 'x' dims: [ {} ] }}", ["1"; 65].join(","));
    check_invalid(&deep, "input 'x': dims has 65 dimensions, at most 64 are allowed");
    check_invalid(
        "default_model_filename: '../x.onnx'",
        "default_model_filename '../x.onnx' must be a path inside the version folder",
    );
    check_invalid("version_policy { specific { versions: 0 } }", "version_policy: version 0 is not a positive number");
    check_invalid("instance_group { name: 'g' count: -1 }", "instance_group 'g': count must be from 1 to 1024, got -1");
    check_invalid("instance_group { count: 1025 }", "instance_group '': count must be from 1 to 1024, got 1025");
    check_invalid(
        "instance_group { kind: KIND_CPU gpus: 0 }",
        "instance_group '': gpus must be left out where kind is KIND_CPU",
    );
    check_invalid(
        "instance_group { kind: KIND_GPU gpus: 256 }",
        "instance_group '': gpus must be from 0 to 255, got 256",
    );
    let batching = |text: &str| format!("max_batch_size: 8 dynamic_batching {{ {text} }}");
    for size in ["0", "9", "-1"] {
        let message =
            format!("dynamic_batching: preferred_batch_size must be from 1 to max_batch_size (8), got {size}");
        check_invalid(&batching(&format!("preferred_batch_size: {size}")), &message);
    }
    read(&batching("preferred_batch_size: [ 1, 8 ] priority_levels: 3 default_priority_level: 3"));
    for (level, text) in [
        (
            "default_priority_level must be from 1 to priority_levels (3), got 4",
            "priority_levels: 3 default_priority_level: 4",
        ),
        ("default_priority_level must be from 1 to priority_levels (3), got 0", "priority_levels: 3"),
        ("default_priority_level must be from 1 to priority_levels (0), got 1", "default_priority_level: 1"),
        (
            "the key of priority_queue_policy must be from 1 to priority_levels (1), got 2",
            "priority_levels: 1 default_priority_level: 1 priority_queue_policy { key: 2 value { } }",
        ),
        ("priority_levels must be from 0 to 1024, got 4294967296", "priority_levels: 4294967296"),
        ("priority_levels must be from 0 to 1024, got 1025", "priority_levels: 1025 default_priority_level: 1"),
    ] {
        check_invalid(&batching(text), &format!("dynamic_batching: {level}"));
    }
    check_invalid(
        "model_warmup { name: 'w' inputs { key: 'x' value { dims: 1 } } }",
        "model_warmup 'w', input 'x': data_type is missing",
    );
    check_invalid(
        "model_warmup { name: 'w' inputs { key: 'x' value { data_type: TYPE_BOOL dims: -1 } } }",
        "model_warmup 'w', input 'x': dims must be 1 or more, got -1",
    );
}

#[test]
fn what_is_refused_is_refused_with_its_own_line() {
    for (line, text) in [
        (2, "max_batch_size: 8\ndynamic_batching { preferred_batch_size: [ 9 ] }"),
        (4, "max_batch_size: 8\ndynamic_batching {\n  preferred_batch_size: [ 4,\n 9 ]\n}"),
        (3, "max_batch_size: 8\ndynamic_batching { priority_levels: 2\n default_priority_level: 3 }"),
        (3, "max_batch_size: 8\n\ndynamic_batching {\n priority_levels: 2\n }"),
        (
            4,
            "dynamic_batching { priority_levels: 2 default_priority_level: 1\n\n priority_queue_policy { key: 1 }\n\
             priority_queue_policy { key: 3\n value { } } }",
        ),
        (3, "instance_group [ { count: 1 },\n {\n count: -1 } ]"),
        (2, "instance_group {\n kind: KIND_CPU gpus: [ 0 ] }"),
        (3, "instance_group { kind: KIND_GPU gpus: [\n 0,\n -1 ] }"),
        (
            2,
            "parameters { key: 'a' value { } }\nparameters {\n key: 'inter_op_thread_count' value { string_value: 'x' } }",
        ),
        (2, "\noptimization { execution_accelerators { gpu_execution_accelerator : [ { name : 'tensorflow' } ] } }"),
        (3, "input [ { name: 'a' },\n { name: 'b'\n dims: [ 1, 0 ] } ]"),
        (2, "input { name: 'a' }\ninput { name: 'a' }"),
        (3, "version_policy {\n specific { versions: 1\n versions: -1 } }"),
        (2, "\nmodel_warmup { name: 'w' inputs { key: 'x' value { dims: 1 } } }"),
        (3, "name: 'm'\n\nplatform: 'tensorrt_plan'"),
    ] {
        let error = parse(text, "m").expect_err(text);
        assert!(error.message().starts_with(&format!("line {line}: ")), "{text:?}: {error}");
    }
}

#[test]
fn accelerators_belong_to_their_kind_of_device() {
    let devices =
        |text: &str| -> Vec<String> { read(text).instance_groups.iter().flat_map(|group| group.devices()).collect() };
    let accelerators = "optimization { execution_accelerators {
        gpu_execution_accelerator : [ { name : 'tensorrt' } ] cpu_execution_accelerator : [ { name : 'openvino' } ] } }";
    let both = format!("{accelerators} instance_group [ {{ kind: KIND_GPU gpus: [ 1, 3 ] }}, {{ kind: KIND_CPU }} ]");
    assert_eq!(devices(&both), ["tensorrt:1", "tensorrt:3", "openvino"]);
    assert_eq!(devices("instance_group [ { kind: KIND_GPU }, { count: 2 } ]"), ["cuda:0", "cpu"]);
    assert_eq!(devices(accelerators), ["openvino"], "without a group, Triton's default one");
    let gpu_only = "optimization { execution_accelerators { gpu_execution_accelerator { name: 'cuda' } } }";
    assert!(devices(gpu_only).is_empty());
    for (field, name, offered) in
        [("gpu", "openvino", "tensorrt"), ("cpu", "tensorrt", "openvino"), ("cpu", "", "openvino")]
    {
        check_error(
            &format!(
                "optimization {{ execution_accelerators {{ {field}_execution_accelerator {{ name: '{name}' }} }} }}"
            ),
            ErrorKind::Unsupported,
            &format!("{field}_execution_accelerator '{name}' is not offered; only '{offered}' is"),
        );
    }
}

#[test]
fn a_run_may_take_a_minute_unless_a_parameter_says_otherwise() {
    let timeout = |value: &str| {
        read(&format!("parameters {{ key: 'run_timeout_ms' value {{ string_value: '{value}' }} }}")).run_timeout
    };
    assert_eq!(read("").run_timeout, Some(Duration::from_secs(60)));
    assert_eq!(timeout("1500"), Some(Duration::from_millis(1500)));
    assert_eq!(timeout("0"), None);
    check_invalid(
        "parameters { key: 'run_timeout_ms' value { string_value: '86400001' } }",
        "parameter 'run_timeout_ms' must be a number from 0 to 86400000, got '86400001'",
    );
}

#[test]
fn a_reshape_keeps_the_number_of_elements() {
    let io = |dims: &str, shape: &str| format!("input {{ name: 'x' dims: [{dims}] reshape {{ shape: [{shape}] }} }}");
    for (dims, shape) in [("1", ""), ("4,2", "8"), ("-1,4", "-1,2,2"), ("2,-1,3,1", "1,2,-1,3")] {
        read(&io(dims, shape));
    }
    for (dims, shape) in [("2", ""), ("4,2", "4"), ("-1", "1"), ("2,-1", "-1,2"), ("-1,-1", "-1")] {
        assert!(parse(&io(dims, shape), "m").is_err(), "[{dims}] as [{shape}]");
    }
    check_invalid(&io("4,2", "4"), "input 'x': dims [4, 2] and reshape.shape [4] differ in the number of elements");
}
