//! What a PATH is found to be, names that meet, and folders that change.

use std::fs;

use salver_core::{BatchRule, ErrorKind, ModelSource};
use salver_repository::{Kind, Repository};

use crate::tree::{Tree, error, open, outline, project, spec};

#[track_caller]
fn check_kind(files: &[&str], path: &str, expected: Kind, models: &str) {
    let tree = Tree::new(&files.iter().map(|file| (*file, "")).collect::<Vec<_>>());
    // A little content, so that artifacts are no empty files.
    let is_artifact = |file: &str| file.to_lowercase().ends_with(".onnx") || file.ends_with(".py");
    files.iter().filter(|file| is_artifact(file)).for_each(|file| tree.write(file, "a"));
    let repository = tree.open(path);
    let kinds: Vec<Kind> = repository.kinds().map(|(_, kind)| kind).collect();
    assert_eq!((kinds.as_slice(), outline(&repository).as_str()), (&[expected][..], models), "{files:?}");
}

#[test]
fn the_first_rule_that_holds_decides() {
    check_kind(&["iris.onnx"], "iris.onnx", Kind::OnnxFile, "iris: 1");
    check_kind(&["m/model.toml", "m/config.pbtxt", "m/model.onnx"], "m", Kind::SalverModel, "m: 1");
    check_kind(&["m/config.pbtxt", "m/3/model.onnx"], "m", Kind::TritonModel, "m: 3");
    check_kind(&["m/3/model.onnx", "m/assets/x"], "m", Kind::TfServingModel, "m: 3");
    check_kind(&["m/1/a", "m/2/model.onnx"], "m", Kind::TfServingModel, "m: 2");
    check_kind(&["r/m/3/model.onnx"], "r", Kind::Models, "m: 3");
    check_kind(&["m/model.py", "m/utils/model.py", "m/notes.txt"], "m", Kind::PythonModel, "m: 1");
    check_kind(&["m/model.py", "m/3/model.onnx"], "m", Kind::TfServingModel, "m: 3");
    check_kind(&["r/model.py", "r/net.onnx"], "r", Kind::Models, "net: 1");
    check_kind(&["r/model.py", "r/a/model.toml", "r/a/x.onnx"], "r", Kind::Models, "a: 1");
    check_kind(&["r/a/model.py", "r/b/model.py", "r/b/net.onnx", "r/c/utils.py"], "r", Kind::Models, "a: 1; b: !");
    check_kind(&["m/model.py", "m/config.json", "m/model.safetensors"], "m", Kind::PythonModel, "m: 1");
    // A repository with a model called "7", not a model with a version 7.
    check_kind(&["r/7/1/model.onnx"], "r", Kind::Models, "7: 1");
    check_kind(&["r/7/config.pbtxt", "r/m/1/model.onnx"], "r", Kind::Models, "7: !; m: 1");
    check_kind(
        &["r/a/model.toml", "r/a/x.onnx", "r/b/2/model.onnx", "r/c.onnx"],
        "r",
        Kind::Models,
        "a: 1; b: 2; c: 1",
    );
    check_kind(&["r/a.onnx", "r/b.ONNX", "r/notes.txt"], "r", Kind::Models, "a: 1; b: 1");
    check_kind(&["r/a.onnx", "r/.hidden.onnx", "r/.git/1/model.onnx"], "r", Kind::Models, "a: 1");
    check_kind(&["r/.keep"], "r", Kind::Models, "");
    check_kind(&["r/a/net.onnx"], "r", Kind::Models, "a: !");
}

#[test]
fn a_bare_file_is_version_one_without_a_batch_limit() {
    let repository = open(&[project("examples/demo/iris/model.onnx")]);
    let model = spec(&repository, "model");
    assert_eq!((model.version, model.config.batch), (1, BatchRule::Derive { limit: None }));
    assert_eq!((model.task.name(), model.config.default_model_filename.as_str()), ("tensor", "model.onnx"));
}

#[test]
fn a_folder_with_a_loose_model_says_where_to_put_it() {
    let tree = Tree::new(&[("r/a/net.onnx", "a")]);
    let message = error(&tree.open("r"), "a").message().to_owned();
    assert!(message.contains("holds net.onnx but is no model folder: move the file to"), "{message}");
    assert!(message.contains("a/1/model.onnx") && message.contains("a/model.toml"), "{message}");
}

#[test]
fn a_script_alone_says_what_to_put_it_into() {
    let tree = Tree::new(&[("net.py", "a"), ("trees.joblib", "a")]);
    for file in ["net.py", "trees.joblib"] {
        let error = Repository::open(&[tree.path(file)]).err().unwrap();
        let lines = format!("and give the folder:\nengine = \"python\"\nartifact = \"{file}\"\n");
        assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains(&lines), "{error}");
    }
}

#[test]
fn what_cannot_be_understood_lists_what_a_path_may_be() {
    let tree = Tree::new(&[("docs/readme.md", "x"), ("my model.onnx", "a"), ("my folder/1/model.onnx", "a")]);
    for (path, kind, expected) in [
        ("none", ErrorKind::NotFound, "does not exist; a PATH is an .onnx file"),
        ("docs", ErrorKind::InvalidInput, "holds no model; a PATH is an .onnx file"),
        ("my model.onnx", ErrorKind::InvalidInput, "gives the model its name, rename it: model name 'my model'"),
        ("my folder", ErrorKind::InvalidInput, "gives the model its name, rename it: model name 'my folder'"),
    ] {
        let error = Repository::open(&[tree.path(path)]).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().starts_with(&tree.path(path).display().to_string()), "{error}");
        assert!(error.message().contains(expected), "{error}");
    }
}

#[test]
fn a_name_that_is_none_leaves_the_other_models_alone() {
    let tree = Tree::new(&[("r/my model.onnx", "a"), ("r/b/1/model.onnx", "a"), ("r/c c/1/model.onnx", "a")]);
    assert_eq!(outline(&tree.open("r")), "b: 1");
}

#[test]
fn the_same_name_twice_is_refused_in_one_entry() {
    let tree = Tree::new(&[("a/iris.onnx", "a"), ("b/iris/1/model.onnx", "a"), ("b/other.onnx", "a")]);
    let repository = open(&[tree.path("a/iris.onnx"), tree.path("b")]);
    assert_eq!(outline(&repository), "iris: !; other: 1");
    let error = error(&repository, "iris");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let (file, folder) = (tree.path("a/iris.onnx"), tree.path("b/iris"));
    assert_eq!(
        error.message(),
        format!(
            "model 'iris': {} and {} have the same model name; rename all but one",
            file.display(),
            folder.display()
        )
    );
    // The same PATH twice is one PATH.
    let repository = open(&[tree.path("a"), tree.path("b/../a")]);
    assert_eq!(outline(&repository), "iris: 1");
}

#[test]
fn no_path_is_an_empty_source_and_unknown_models_are_none() {
    let repository = open(&[]);
    assert!(repository.scan().is_empty() && repository.find("x").is_none());
    let repository = open(&[project("tests/models/triton")]);
    for name in ["nothing", "", "..", "../broken", "add_sub_fp32/1"] {
        assert!(repository.find(name).is_none(), "{name:?}");
    }
}

#[test]
fn models_come_and_go_between_scans() {
    let tree = Tree::new(&[("r/a/1/model.onnx", "a")]);
    let repository = tree.open("r");
    let first = spec(&repository, "a").fingerprint;
    assert_eq!(spec(&repository, "a").fingerprint, first, "nothing changed");
    tree.write("r/a/2/model.onnx", "a");
    tree.write("r/b/1/model.onnx", "");
    assert_eq!(outline(&repository), "a: 2; b: !");
    tree.write("r/b/1/model.onnx", "a");
    fs::remove_dir_all(tree.path("r/a")).unwrap();
    assert_eq!(outline(&repository), "b: 1");
}

#[test]
fn a_path_that_goes_away_leaves_broken_models_not_none() {
    let tree = Tree::new(&[("r/a/1/model.onnx", "a"), ("f.onnx", "a"), ("m.v1/1/model.onnx", "a")]);
    let repository = open(&[tree.path("r"), tree.path("f.onnx"), tree.path("m.v1")]);
    assert_eq!(outline(&repository), "a: 1; f: 1; m.v1: 1");
    for path in ["r", "m.v1"] {
        fs::rename(tree.path(path), tree.path(&format!("{path}-away"))).unwrap();
    }
    fs::remove_file(tree.path("f.onnx")).unwrap();
    assert_eq!(outline(&repository), "a: !; f: !; m.v1: !");
    assert!(error(&repository, "a").message().ends_with("r does not exist"));
    fs::rename(tree.path("r-away"), tree.path("r")).unwrap();
    assert_eq!(outline(&repository), "a: 1; f: !; m.v1: !");
}
