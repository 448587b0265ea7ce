//! Salver's own model folders.

use salver_core::{Backing, BuiltinSpec, ErrorKind, TaskSpec};
use salver_repository::Kind;

use crate::tree::{Tree, error, open, outline, project, spec};

#[test]
fn the_demo_models_are_read() {
    let repository = open(&[project("examples/demo")]);
    assert_eq!(outline(&repository), "digit-pictures: 1; digits: 1; iris: 1");
    let iris = spec(&repository, "iris");
    assert_eq!((iris.task.name(), iris.engine.as_deref()), ("tabular", None));
    assert_eq!(iris.columns["X"].len(), 4);
    assert_eq!(iris.labels[""], ["setosa", "versicolor", "virginica"]);
    assert!(iris.metrics["accuracy"] > 0.9);
    let alone = open(&[project("examples/demo/iris")]);
    assert_eq!(alone.kinds().map(|(_, kind)| kind).collect::<Vec<_>>(), [Kind::SalverModel]);
    assert_eq!(spec(&alone, "iris").fingerprint, spec(&open(&[project("examples/demo/iris")]), "iris").fingerprint);
}

#[test]
fn an_empty_manifest_is_enough() {
    let tree = Tree::new(&[("flowers/model.toml", ""), ("flowers/net.onnx", "a")]);
    let repository = tree.open("flowers");
    let flowers = spec(&repository, "flowers");
    assert_eq!((flowers.version, flowers.artifact.clone()), (1, tree.path("flowers/net.onnx")));
    assert_eq!((flowers.task.name(), flowers.labels.len()), ("tensor", 0));
    tree.write("flowers/other.onnx", "a");
    assert!(error(&repository, "flowers").message().ends_with("model.onnx does not exist"), "which of the two?");
    tree.write("flowers/model.onnx", "a");
    assert_eq!(spec(&repository, "flowers").artifact, tree.path("flowers/model.onnx"));
}

#[test]
fn name_version_and_label_file_come_from_the_manifest() {
    let manifest = "name = 'iris'\nversion = 7\nlabels = 'names/labels.txt'\nartifact = 'a/m.onnx'";
    let tree = Tree::new(&[("x/model.toml", manifest), ("x/a/m.onnx", "a"), ("x/names/labels.txt", "one\ntwo\n")]);
    let repository = tree.open("x");
    assert_eq!(outline(&repository), "iris: 7");
    let before = spec(&repository, "iris");
    assert_eq!(before.labels[""], ["one", "two"]);
    tree.write("x/names/labels.txt", "one\n");
    assert_ne!(spec(&repository, "iris").fingerprint, before.fingerprint);
    tree.write("x/model.toml", "name = 'iris' # changed\nversion = 7\nartifact = 'a/m.onnx'");
    assert_ne!(spec(&repository, "iris").fingerprint, before.fingerprint);
}

#[test]
fn a_broken_manifest_is_an_entry_under_the_folders_name() {
    for (manifest, expected) in [
        ("name = 'iris'\nverison = 1", "model.toml: line 2: unknown field `verison`"),
        ("name = '../iris'", "model.toml: line 1: name: model name '../iris' must start with"),
        ("artifact = '../secret.onnx'", "model.toml: artifact: '../secret.onnx' must be a path inside the folder"),
        ("artifact = '/etc/passwd'", "model.toml: artifact: '/etc/passwd' must be a path inside the folder"),
        ("labels = '../labels.txt'", "model.toml: labels: '../labels.txt' must be a path inside the folder"),
        ("artifact = 'none.onnx'", "x/none.onnx does not exist"),
        ("artifact = 'empty.onnx'", "x/empty.onnx is empty; is it still being written?"),
        ("artifact = 'folder'", "x/folder is not a file"),
        ("engine = 'torch'", "model.toml: line 1: engine must be one of onnx"),
    ] {
        let tree = Tree::new(&[("x/model.toml", manifest), ("x/model.onnx", "a"), ("x/empty.onnx", "")]);
        tree.write("x/folder/f", "");
        tree.write("secret.onnx", "a");
        let error = error(&tree.open("x"), "x");
        assert!(error.message().starts_with("model 'x': "), "{error}");
        assert!(error.message().contains(expected), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn an_artifact_that_links_out_of_the_folder_is_refused() {
    let tree = Tree::new(&[("secret.onnx", "a"), ("x/model.toml", "")]);
    std::os::unix::fs::symlink("../secret.onnx", tree.path("x/model.onnx")).unwrap();
    let error = error(&tree.open("x"), "x");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("without links that lead out of it"), "{error}");
}

#[test]
fn a_manifest_that_breaks_later_leaves_the_model_its_name() {
    for path in ["r/x", "r"] {
        let tree = Tree::new(&[("r/x/model.toml", "name = 'iris'"), ("r/x/model.onnx", "a")]);
        let repository = tree.open(path);
        assert_eq!(outline(&repository), "iris: 1");
        tree.write("r/x/model.toml", "name = 'ir");
        assert_eq!(outline(&repository), "iris: !", "not gone, and not called x");
        tree.write("r/x/model.toml", "name = 'rose'");
        assert_eq!(outline(&repository), "rose: 1");
    }
}

#[test]
fn a_task_of_texts_has_its_tokenizer_and_its_classes() {
    let manifest = "task = 'text-classification'\nlabels = 'labels.txt'\n[text]\ntokenizer = 't/tok.json'";
    let tree = Tree::new(&[("x/model.toml", manifest), ("x/model.onnx", "a"), ("x/t/tok.json", "{}")]);
    tree.write("x/labels.txt", "bad\ngood\n");
    let repository = tree.open("x");
    let before = spec(&repository, "x");
    let TaskSpec::Text(text) = &before.task else {
        panic!("{:?}", before.task);
    };
    assert_eq!((&text.tokenizer, text.labels.len()), (&tree.path("x/t/tok.json"), 2));
    assert!(before.labels.is_empty(), "classes are the task's, not the graph's");
    tree.write("x/t/tok.json", "{ }");
    assert_ne!(spec(&repository, "x").fingerprint, before.fingerprint);
}

#[test]
fn classes_of_a_table_stay_with_the_outputs_of_the_graph() {
    let manifest = "labels = ['a', 'b']\n[[column]]\nname = 'age'\ntype = 'float'";
    let tree = Tree::new(&[("x/model.toml", manifest), ("x/model.onnx", "a")]);
    let spec = spec(&tree.open("x"), "x");
    assert_eq!((spec.task.name(), spec.labels[""].len()), ("tabular", 2));
    assert!(matches!(&spec.task, TaskSpec::Tabular(table) if table.columns.len() == 1));
}

#[test]
fn a_tokenizer_lies_in_the_folder() {
    for (tokenizer, expected) in [
        ("tokenizer.json", "x/model.toml: text.tokenizer: "),
        ("../secret.json", "text.tokenizer: '../secret.json' must be a path inside the folder"),
        ("empty.json", "x/empty.json is empty; is it still being written?"),
        ("folder", "x/folder is not a file"),
    ] {
        let manifest = format!("task = 'zero-shot'\n[text]\ntokenizer = '{tokenizer}'");
        let tree = Tree::new(&[("x/model.toml", &manifest), ("x/model.onnx", "a"), ("x/empty.json", "")]);
        tree.write("x/folder/f", "");
        tree.write("secret.json", "{}");
        let error = error(&tree.open("x"), "x");
        assert!(error.message().contains(expected), "{error}");
    }
}

#[test]
fn a_function_has_its_files_and_its_labels() {
    let labels = "labels = 'names.txt'\n[builtin]\nfunction = 'labels'";
    let tree = Tree::new(&[("r/l/model.toml", labels), ("r/l/names.txt", "cat\ndog\n")]);
    tree.write("r/t/model.toml", "engine = 'builtin'\n[builtin]\nfunction = 'tokenize'\ntokenizer = 'tok.json'");
    tree.write("r/t/tok.json", "{}");
    let repository = tree.open("r");
    let before = spec(&repository, "l");
    assert_eq!((before.engine.as_deref(), before.artifact.clone()), (Some("builtin"), tree.path("r/l/model.toml")));
    assert!(before.labels.is_empty(), "classes are the function's, not an output's");
    let Backing::Builtin(function) = &before.backing else { panic!("{:?}", before.backing) };
    assert!(matches!(&**function, BuiltinSpec::Labels(spec) if spec.labels == ["cat", "dog"]));
    tree.write("r/l/names.txt", "cat\n");
    assert_ne!(spec(&repository, "l").fingerprint, before.fingerprint);

    let before = spec(&repository, "t");
    let Backing::Builtin(function) = &before.backing else { panic!("{:?}", before.backing) };
    assert!(matches!(&**function, BuiltinSpec::Tokenize(spec) if spec.tokenizer == tree.path("r/t/tok.json")));
    tree.write("r/t/tok.json", "{ }");
    assert_ne!(spec(&repository, "t").fingerprint, before.fingerprint);
    tree.write("r/l/names.txt", "");
    let none = error(&repository, "l");
    assert!(none.message().ends_with("l/model.toml: labels: the file has none; write one a line"), "{none}");
    tree.write("r/t/model.toml", "[builtin]\nfunction = 'tokenize'\ntokenizer = '../l/names.txt'");
    let outside = error(&repository, "t");
    assert!(
        outside.message().contains("builtin.tokenizer: '../l/names.txt' must be a path inside the folder"),
        "{outside}"
    );
}

#[test]
fn requests_of_heavy_functions_stay_apart() {
    let max_rows = |table: &str| {
        let tree = Tree::new(&[("x/model.toml", table), ("x/tokenizer.json", "{}")]);
        let spec = spec(&tree.open("x"), "x");
        spec.config.dynamic_batching.as_ref().and_then(|batching| batching.max_rows)
    };
    assert_eq!(max_rows("[builtin]\nfunction = 'image'"), Some(1));
    assert_eq!(max_rows("[builtin]\nfunction = 'crop'\nsize = [1, 1]"), Some(1));
    assert_eq!(max_rows("[builtin]\nfunction = 'crop'\nsize = [1, 1]\n[batching]\nmax_rows = 4"), Some(4));
    assert_eq!(max_rows("[builtin]\nfunction = 'tokenize'\npad = 'longest'"), Some(1));
    assert_eq!(max_rows("[builtin]\nfunction = 'tokenize'"), None);
    assert_eq!(max_rows("[builtin]\nfunction = 'top-k'\nk = 1"), None);
}
