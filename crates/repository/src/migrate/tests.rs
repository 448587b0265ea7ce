//! What reports say, and that they say what serving does.

use std::fs;

use salver_core::ModelSource as _;

use super::*;
use crate::Repository;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, data) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
        Self(folder)
    }
}

fn graph() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    fs::read(root.join("triton/identity_fp32/1/model.onnx")).unwrap()
}

fn lines(notes: &[Note]) -> Vec<String> {
    let line = |note: &Note| {
        let line = note.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line} {} {}", note.file, note.status.as_str(), note.what)
    };
    notes.iter().map(line).collect()
}

#[track_caller]
fn check_config(text: &str, expected: &[&str]) {
    let folder = Folder::new(&[("m/config.pbtxt", text.as_bytes()), ("m/1/model.onnx", &graph())]);
    let report = Report::triton(folder.0.path()).unwrap();
    let model = &report.models[0];
    let of_config =
        lines(&model.notes).into_iter().filter_map(|line| Some(line.strip_prefix("m/config.pbtxt")?.to_owned()));
    assert_eq!(of_config.collect::<Vec<_>>(), expected, "{text}");
    let served = Repository::open(&[folder.0.path().to_owned()]).unwrap().find("m").unwrap().versions;
    assert_eq!(model.serves(), served.is_ok(), "{text}: {served:?}");
}

#[test]
fn every_field_is_listed_with_its_line() {
    check_config(
        "name: 'm'\nmax_batch_size: 4\ninput [\n  { name: 'x' format: FORMAT_NCHW },\n  { name: 'z' }\n]\nmetric_tags { key: 'a' value: 'b' }\n\
         optimization {\n  priority: PRIORITY_MAX\n}\nparameters { key: 'intra_op_thread_count' value { string_value: '2' } }\n\
         parameters { key: 'other' value { } }",
        &[
            ":1 serves name",
            ":2 serves max_batch_size",
            ":4 serves input: x",
            ":4 ignored format",
            ":5 serves input: z",
            ":7 ignored metric_tags",
            ":9 ignored optimization: priority",
            ":11 serves parameters: intra_op_thread_count",
            ":12 ignored parameters: other",
        ],
    );
    check_config("instance_group [ { kind: KIND_GPU } ]", &[":1 needs instance_group"]);
}

#[test]
fn every_fault_is_found_and_not_only_the_first() {
    check_config(
        "name: 'n'\nbackend: 'python'\nplatform: 'pytorch_libtorch'\ninput { name: 'x' dims: [0] }\ninput { name: 'y' }\n\
         input { name: 'z' dims: [-2] }\nparameters { key: 'run_timeout_ms' value { string_value: 'x' } }\n\
         max_batch_size: -1\ndynamic_batching { preferred_batch_size: 4 }",
        &[
            ":1 refused name",
            ":2 refused backend",
            ":3 refused platform",
            ":4 refused input",
            ":5 serves input: y",
            ":6 refused input",
            ":7 refused parameters",
            ":8 refused max_batch_size",
            ":9 serves dynamic_batching",
        ],
    );
    check_config("input [ {", &[":1 refused text"]);
    check_config("nmae: 'x'", &[":1 refused text"]);
}

#[test]
fn what_is_refused_says_what_to_do() {
    for (backend, todo) in [
        ("python", "--allow-python"),
        ("tensorrt", "ONNX"),
        ("tensorrtllm", "leave it"),
        ("pytorch", "torch.onnx"),
        ("own", "ONNX"),
    ] {
        let config = format!("backend: '{backend}'");
        let folder = Folder::new(&[("m/config.pbtxt", config.as_bytes()), ("m/1/model.py", b"")]);
        let report = Report::triton(folder.0.path()).unwrap();
        let note = report.models[0].notes.iter().find(|note| note.what == "backend").unwrap();
        assert!(note.todo.contains(todo), "{backend}: {}", note.todo);
    }
}

#[test]
fn files_are_listed_with_what_becomes_of_them() {
    let folder = Folder::new(&[
        ("m/config.pbtxt", b"output { name: 'OUTPUT0' label_filename: 'labels.txt' }"),
        ("m/1/model.onnx", &graph()),
        ("m/2/model.onnx", &graph()),
        ("m/2/notes.md", b""),
        ("m/labels.txt", b"a"),
        ("m/README.md", b""),
        ("m/configs/big.pbtxt", b""),
        ("plan/1/model.plan", b"x"),
        ("torch/1/model.pt", b"x"),
        ("cut/1/model.onnx", b"not a graph"),
        ("none/config.pbtxt", b""),
        ("other/file", b""),
    ]);
    let report = Report::triton(folder.0.path()).unwrap();
    assert_eq!(lines(&report.notes), ["other ignored folder"]);
    let all: Vec<String> = report.models.iter().flat_map(|model| lines(&model.notes)).collect();
    for line in [
        "m/1 ignored version",
        "m/2/model.onnx serves graph",
        "m/2/notes.md ignored file",
        "m/labels.txt serves labels",
        "m/README.md ignored file",
        "m/configs ignored folder",
        "plan/1/model.plan refused a TensorRT plan",
        "torch/1/model.pt refused a TorchScript model",
        "cut/1/model.onnx refused graph",
        "none refused model",
    ] {
        assert!(all.iter().any(|found| found == line), "{line} in {all:#?}");
    }
    let serving: Vec<&str> = report.models.iter().filter(|model| model.serves()).map(|model| &*model.name).collect();
    assert_eq!(serving, ["m"]);
    assert!(!report.serves());
}

#[test]
fn folders_of_tf_serving_are_given_one_by_one() {
    let folder = Folder::new(&[
        ("half/00000123/model.onnx", &graph()),
        ("half/00000122/model.onnx", &graph()),
        ("saved/1/saved_model.pb", b"x"),
        ("saved/1/variables/variables.index", b"x"),
        ("monitoring.config", b""),
    ]);
    let report = Report::tfserving(folder.0.path()).unwrap();
    assert_eq!(report.paths, [folder.0.path().join("half"), folder.0.path().join("saved")]);
    assert_eq!(lines(&report.notes), ["monitoring.config ignored file"]);
    assert_eq!(
        lines(&report.models[0].notes),
        ["half/00000122 ignored version", "half/00000123/model.onnx serves graph"]
    );
    let saved = &report.models[1].notes[0];
    assert_eq!((saved.file.as_str(), saved.status), ("saved/1/saved_model.pb", Status::Refused));
    assert!(saved.todo.contains("tf2onnx"), "{}", saved.todo);
    let alone = Report::tfserving(&folder.0.path().join("half")).unwrap();
    assert!(alone.serves() && alone.models[0].name == "half");
}

#[test]
fn a_models_config_is_read_entry_by_entry() {
    let config = "model_config_list {\n  config { name: 'half' base_path: 'half' model_platform: 'onnx' }\n  \
                  config {\n    name: 'tf'\n    base_path: '/m/tf'\n    model_platform: 'tensorflow'\n  }\n  \
                  config { name: 'gone' base_path: 'gone'\n    logging_config { } }\n}";
    let folder = Folder::new(&[("models.config", config.as_bytes()), ("half/1/model.onnx", &graph())]);
    let report = Report::tfserving(folder.0.path()).unwrap();
    assert_eq!(report.paths, [folder.0.path().join("models.config")]);
    let all: Vec<Vec<String>> = report.models.iter().map(|model| lines(&model.notes)).collect();
    assert_eq!(all[0], ["models.config:2 serves config", "half/1/model.onnx serves graph"]);
    assert_eq!(all[1], ["models.config:6 refused config"]);
    assert_eq!(
        all[2],
        ["models.config:8 serves config", "models.config:9 ignored logging_config", "gone refused model"]
    );
    assert!(report.models[1].notes[0].why.contains("does not start"));
    assert!(Repository::open(&report.paths).is_err());
}

#[test]
fn what_is_no_repository_is_an_error() {
    let folder = Folder::new(&[("file.txt", b"")]);
    assert!(Report::triton(folder.0.path()).is_err());
    assert!(Report::tfserving(folder.0.path()).is_err());
    assert!(Report::triton(&folder.0.path().join("gone")).is_err());
    assert!(Report::tfserving(&folder.0.path().join("gone")).is_err());
}
