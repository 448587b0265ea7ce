//! Folders that MLflow saved, and single versions as a registry keeps them.

use salver_core::{ErrorKind, ModelName, ModelSpec, Predictor, PythonEnvironment, Result};
use salver_repository::{Kind, read_version};

use crate::tree::{Tree, error, outline, spec};

const ONNX: &str = include_str!("../../corpus/mlmodel/onnx.yaml");
const COLUMNS: &str = include_str!("../../corpus/mlmodel/columns.yaml");
const SKLEARN: &str = include_str!("../../corpus/mlmodel/sklearn.yaml");
const TABLE: &str = include_str!("../../corpus/mlmodel/table.yaml");
const OBJECTS: &str = include_str!("../../corpus/mlmodel/objects.yaml");
const H2O: &str = "flavors:\n  h2o:\n    data: model.zip\n";

#[test]
fn a_saved_model_is_served_under_its_folders_name() {
    let tree = Tree::new(&[("iris/MLmodel", ONNX), ("iris/model.onnx", "a"), ("iris/conda.yaml", "x")]);
    let repository = tree.open("iris");
    assert_eq!(repository.kinds().map(|(_, kind)| kind).collect::<Vec<_>>(), [Kind::MlflowModel]);
    let found = spec(&repository, "iris");
    assert_eq!((found.version, &found.artifact, found.task.name()), (1, &tree.path("iris/model.onnx"), "tensor"));
    tree.write("iris/MLmodel", COLUMNS);
    let changed = spec(&repository, "iris");
    assert_eq!((changed.columns[""].len(), changed.task.name()), (2, "tabular"));
    assert_ne!(changed.fingerprint, found.fingerprint);
}

#[test]
fn saved_models_lie_among_others_and_one_that_is_not_served_hides_none() {
    let tree = Tree::new(&[
        ("r/a/MLmodel", ONNX),
        ("r/a/model.onnx", "a"),
        ("r/b/MLmodel", H2O),
        ("r/b/model.zip", "a"),
        ("r/c/1/model.onnx", "a"),
    ]);
    let repository = tree.open("r");
    assert_eq!(outline(&repository), "a: 1; b: !; c: 1");
    let refused = error(&repository, "b");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.message().starts_with("model 'b': ") && refused.message().contains("onnxmltools"), "{refused}");
}

#[test]
fn what_data_names_lies_in_the_folder() {
    let with = |data: &str| format!("flavors:\n  onnx:\n    data: {data}\n");
    let tree = Tree::new(&[("m/MLmodel", &with("f")), ("m/f/model.onnx", "a"), ("secret.onnx", "a")]);
    let repository = tree.open("m");
    assert_eq!(spec(&repository, "m").artifact, tree.path("m/f/model.onnx"));
    for outside in ["../secret.onnx", "/etc/passwd"] {
        tree.write("m/MLmodel", &with(outside));
        assert!(error(&repository, "m").message().contains("flavors.onnx.data: "), "{outside}");
    }
    tree.write("m/MLmodel", &with("none.onnx"));
    assert!(error(&repository, "m").message().ends_with("none.onnx does not exist"));
}

#[test]
fn a_model_without_a_graph_runs_in_python_with_its_own_requirements() {
    let tree = Tree::new(&[("iris/MLmodel", TABLE), ("iris/requirements.txt", "mlflow\n"), ("iris/model.skops", "a")]);
    let found = spec(&tree.open("iris"), "iris");
    let python = found.python.clone().unwrap();
    assert_eq!((found.engine.as_deref(), &found.artifact), (Some("python"), &tree.path("iris")));
    assert_eq!(python.predictor, Predictor::Adapter("mlflow".to_owned()));
    assert_eq!(python.environment, PythonEnvironment::Requirements(tree.path("iris/requirements.txt")));
    assert_eq!((python.inputs.len(), python.outputs.len(), python.folder.clone()), (10, 2, tree.path("iris")));
    assert_eq!((found.config.instance_groups.len(), found.config.instance_groups[0].count), (1, 1));
    tree.write("iris/model.skops", "ab");
    assert_ne!(spec(&tree.open("iris"), "iris").fingerprint, found.fingerprint);
}

#[test]
fn a_manifest_beside_it_goes_before_the_signature() {
    let manifest = "[python]\nmemory_limit_mb = 1\n[[output]]\nname = 'z'\ndtype = 'FP32'\nshape = [-1]";
    let tree = Tree::new(&[("m/model.toml", "[batching]\nmax_rows = 3"), ("m/MLmodel", TABLE)]);
    let found = spec(&tree.open("m"), "m");
    assert_eq!((found.engine.as_deref(), found.python.as_ref().unwrap().inputs.len()), (Some("python"), 10));
    for (manifest, folder) in [(manifest.to_owned(), "m"), (format!("artifact = 'saved'\n{manifest}"), "m/saved")] {
        let tree = Tree::new(&[("m/model.toml", &manifest)]);
        tree.write(&format!("{folder}/MLmodel"), TABLE);
        tree.write(&format!("{folder}/requirements.txt"), "mlflow\n");
        let found = spec(&tree.open("m"), "m");
        let python = found.python.clone().unwrap();
        assert_eq!((found.artifact.clone(), python.folder.clone()), (tree.path(folder), tree.path("m")));
        assert_eq!((python.inputs.len(), python.outputs.len(), &*python.outputs[0].spec.name), (10, 1, "z"));
        assert_eq!(python.environment, PythonEnvironment::Requirements(tree.path(folder).join("requirements.txt")));
    }
}

fn version(files: &[(&str, &str)]) -> Result<ModelSpec> {
    let tree = Tree::new(files);
    read_version(&ModelName::new("m").unwrap(), 7, &tree.path("v"))
}

#[test]
fn a_version_is_what_its_folder_holds() {
    for files in [
        &[("v/MLmodel", ONNX), ("v/model.onnx", "a")][..],
        &[("v/model.toml", "name = 'other'\nversion = 3"), ("v/net.onnx", "a")],
        &[("v/net.onnx", "a"), ("v/README.md", "a")],
        &[("v/net.onnx", "a"), ("v/model.py", "a")],
        &[("v/model.py", "a"), ("v/weights.pt", "a")],
        &[("v/model.toml", "artifact = 'net.pt'"), ("v/net.pt", "a")],
        &[("v/MLmodel", SKLEARN), ("v/model.pkl", "a")],
        // What a registry has before the other files come.
        &[("v/MLmodel", SKLEARN)],
    ] {
        let spec = version(files).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((&*spec.name, spec.version), ("m", 7));
    }
}

#[test]
fn a_version_that_cannot_be_served_says_why() {
    for (files, kind, part) in [
        (&[("v/MLmodel", H2O)][..], ErrorKind::Unsupported, "onnxmltools"),
        (
            &[("v/MLmodel", OBJECTS)],
            ErrorKind::Unsupported,
            "v/MLmodel: signature: the input 'a' is of type array(BYTES)",
        ),
        (&[("v/model.PKL", "a")], ErrorKind::Unsupported, "'model.PKL' is in a format that can run code"),
        (
            &[("v/net.pt", "a")],
            ErrorKind::Unsupported,
            "or register it with a model.toml that says engine = \"python\"",
        ),
        (
            &[("v/README.md", "a")],
            ErrorKind::Unsupported,
            "expected MLmodel, model.toml, config.json with model.onnx, model.py, or one .onnx file",
        ),
        (&[("v/a.onnx", "a"), ("v/b.onnx", "a")], ErrorKind::InvalidInput, "2 .onnx files"),
        (&[("v/a.onnx", "")], ErrorKind::InvalidInput, "is empty"),
    ] {
        let error = version(files).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(part), "{error}");
    }
}
