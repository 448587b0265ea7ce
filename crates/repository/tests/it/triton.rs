//! Triton repositories.

use salver_core::{BatchRule, ErrorKind, ModelSource, VersionPolicy, WarmupData};
use salver_repository::Kind;

use crate::tree::{Tree, error, open, outline, project, spec, specs};

#[test]
fn a_repository_made_for_triton_is_read_whole() {
    let repository = open(&[project("tests/models/triton")]);
    assert!(repository.kinds().all(|(_, kind)| kind == Kind::Models));
    let entries = repository.scan();
    for entry in &entries {
        let specs = entry.versions.as_ref().unwrap_or_else(|error| panic!("{error}"));
        assert!(specs.iter().all(|spec| spec.artifact.is_file() && spec.task.name() == "tensor"), "{}", entry.name);
    }
    let names: Vec<&str> = entries.iter().map(|entry| &*entry.name).collect();
    assert!(names.is_sorted() && names.len() == std::fs::read_dir(project("tests/models/triton")).unwrap().count());
}

#[test]
fn what_the_configurations_say_arrives_in_the_specs() {
    let repository = open(&[project("tests/models/triton")]);
    let versions: Vec<u64> = specs(&repository, "two_versions").iter().map(|spec| spec.version).collect();
    assert_eq!(versions, [1, 2]);
    let labelled = spec(&repository, "labelled");
    assert_eq!(labelled.labels["SCORES"].len(), 3);
    assert_eq!(labelled.config.instance_groups[0].threads, 1);
    let derived = spec(&repository, "auto_config");
    assert_eq!(derived.config.batch, BatchRule::Derive { limit: Some(4) });
    assert!(derived.config.dynamic_batching.is_some());
    assert_eq!(spec(&repository, "no_batch").config.batch, BatchRule::Never);
    let batching = spec(&repository, "dynamic_shape").config.dynamic_batching.clone().unwrap();
    assert_eq!((batching.preferred_batch_size, batching.max_queue_delay_microseconds), (vec![4, 8], 100));
    let reshaped = spec(&repository, "reshaped");
    assert_eq!(reshaped.config.inputs[0].reshape.as_deref(), Some(&[][..]));
    assert!(reshaped.config.dynamic_batching.is_none(), "as in Triton");
}

#[test]
fn broken_models_say_what_is_wrong_and_the_others_serve() {
    let repository = open(&[project("tests/models/broken/triton")]);
    for (name, kind, expected) in [
        (
            "unknown_field",
            ErrorKind::InvalidInput,
            "config.pbtxt: line 6: unknown field 'max_batch_sise' in ModelConfig",
        ),
        ("wrong_platform", ErrorKind::Unsupported, "platform 'tensorrt_plan' is not offered"),
        ("wrong_name", ErrorKind::InvalidInput, "name 'another' must be the folder's name, 'wrong_name'"),
        ("not_text_format", ErrorKind::InvalidInput, "expected a string in quotes, found the end of the file"),
        ("sequence", ErrorKind::Unsupported, "iterative_sequence is not offered"),
        ("no_version", ErrorKind::NotFound, "holds no version folder; put the model at"),
    ] {
        let error = error(&repository, name);
        assert!(error.message().starts_with(&format!("model '{name}': ")), "{error}");
        assert!(error.message().contains(expected), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
    // These contradict their graphs, which nobody has read yet.
    for name in ["good", "wrong_input", "wrong_type", "wrong_rank"] {
        spec(&repository, name);
    }
}

#[test]
fn versions_follow_the_policy() {
    let versions = |config: &str| {
        let mut files = vec![("r/m/config.pbtxt", config)];
        files.extend(["1", "2", "10", "03", "x"].map(|version| match version {
            "1" => ("r/m/1/model.onnx", "a"),
            "2" => ("r/m/2/model.onnx", "a"),
            "10" => ("r/m/10/model.onnx", "a"),
            "03" => ("r/m/03/model.onnx", "a"),
            _ => ("r/m/x/model.onnx", "a"),
        }));
        outline(&Tree::new(&files).open("r"))
    };
    assert_eq!(versions(""), "m: 10");
    assert_eq!(versions("version_policy { all { } }"), "m: 1 2 10");
    assert_eq!(versions("version_policy { latest { num_versions: 2 } }"), "m: 2 10");
    assert_eq!(versions("version_policy { specific { versions: [ 2, 7 ] } }"), "m: 2");
    assert_eq!(versions("version_policy { specific { versions: 7 } }"), "m: !");
    let tree = Tree::new(&[("r/m/1/model.onnx", "a"), ("r/m/config.pbtxt", "version_policy { all { } }")]);
    assert_eq!(spec(&tree.open("r"), "m").config.version_policy, VersionPolicy::All);
}

#[test]
fn a_broken_version_does_not_take_the_good_ones_with_it() {
    let tree = Tree::new(&[("r/m/config.pbtxt", "version_policy { all { } }"), ("r/m/1/model.onnx", "a")]);
    tree.write("r/m/2/model.onnx", "");
    let repository = tree.open("r");
    assert_eq!(outline(&repository), "m: 1 2", "loading version 2 will say what is wrong with it");
    tree.write("r/m/1/model.onnx", "");
    assert!(error(&repository, "m").message().ends_with("model.onnx is empty; is it still being written?"));
}

#[test]
fn the_artifact_may_have_another_name_or_be_a_folder() {
    let config = "default_model_filename: 'net.onnx'";
    let tree = Tree::new(&[
        ("r/named/config.pbtxt", config),
        ("r/named/1/net.onnx", "a"),
        ("r/folder/1/model.onnx/model.onnx", "a"),
        ("r/missing/config.pbtxt", config),
        ("r/missing/1/model.onnx", "a"),
    ]);
    let repository = tree.open("r");
    assert_eq!(spec(&repository, "named").artifact, tree.path("r/named/1/net.onnx"));
    assert_eq!(spec(&repository, "folder").artifact, tree.path("r/folder/1/model.onnx/model.onnx"));
    assert!(error(&repository, "missing").message().ends_with("missing/1/net.onnx does not exist"));
}

#[test]
fn label_files_stay_inside_the_model() {
    let config = |file: &str| format!("output {{ name: 'y' label_filename: '{file}' }}");
    let tree = Tree::new(&[("r/m/1/model.onnx", "a"), ("r/m/labels.txt", "a\nb\n"), ("secret", "x")]);
    tree.write("r/m/config.pbtxt", &config("labels.txt"));
    let repository = tree.open("r");
    assert_eq!(spec(&repository, "m").labels, [("y".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into());
    let first = spec(&repository, "m").fingerprint;
    tree.write("r/m/labels.txt", "a\nb\nc\n");
    assert_ne!(spec(&repository, "m").fingerprint, first, "labels are part of the model");
    for file in ["../../secret", "/etc/passwd", "none.txt"] {
        tree.write("r/m/config.pbtxt", &config(file));
        let error = error(&repository, "m");
        assert!(error.message().contains("label_filename of output 'y': "), "{error}");
    }
}

#[test]
fn warm_up_data_lies_in_the_models_own_folder() {
    let config = |file: &str| {
        format!(
            "model_warmup {{ name: 'w' inputs {{ key: 'x' value {{ data_type: TYPE_FP32 dims: 1 input_data_file: '{file}' }} }} }}"
        )
    };
    let tree = Tree::new(&[("r/m/1/model.onnx", "a"), ("r/m/warmup/x.bin", "1234"), ("r/m/secret", "x")]);
    tree.write("r/m/config.pbtxt", &config("x.bin"));
    let repository = tree.open("r");
    let path = tree.path("r/m/warmup/x.bin");
    let first = spec(&repository, "m");
    assert_eq!(first.config.warmup[0].inputs[0].data, WarmupData::File { name: "x.bin".to_owned(), path });
    tree.write("r/m/warmup/x.bin", "12345678");
    assert_ne!(spec(&repository, "m").fingerprint, first.fingerprint, "its data is part of the model");
    for file in ["../secret", "/etc/passwd", "none.bin"] {
        tree.write("r/m/config.pbtxt", &config(file));
        let error = error(&repository, "m");
        assert!(error.message().contains("input_data_file of model_warmup 'w': "), "{error}");
    }
}

#[test]
fn one_model_folder_can_be_given_directly() {
    let repository = open(&[project("tests/models/triton/two_versions")]);
    assert_eq!(repository.kinds().map(|(_, kind)| kind).collect::<Vec<_>>(), [Kind::TritonModel]);
    assert_eq!(outline(&repository), "two_versions: 1 2");
}

#[cfg(unix)]
#[test]
fn links_that_the_operator_placed_are_followed_but_a_dangling_configuration_is_no_absent_one() {
    let tree = Tree::new(&[("store/model.onnx", "a"), ("r/m/note", "")]);
    std::os::unix::fs::symlink(tree.path("store"), tree.path("r/m/1")).unwrap();
    let repository = tree.open("r");
    assert_eq!(outline(&repository), "m: 1");
    std::os::unix::fs::symlink("nowhere", tree.path("r/m/config.pbtxt")).unwrap();
    assert!(error(&repository, "m").message().ends_with("config.pbtxt does not exist"));
}
