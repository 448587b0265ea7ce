//! Folders that MLflow saved, and single versions as a registry keeps them.

use salver_core::{ErrorKind, ModelName, ModelSpec, Result};
use salver_repository::{Kind, read_version};

use crate::tree::{Tree, error, outline, spec};

const ONNX: &str = include_str!("../../corpus/mlmodel/onnx.yaml");
const COLUMNS: &str = include_str!("../../corpus/mlmodel/columns.yaml");
const SKLEARN: &str = include_str!("../../corpus/mlmodel/sklearn.yaml");

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
        ("r/b/MLmodel", SKLEARN),
        ("r/b/model.pkl", "a"),
        ("r/c/1/model.onnx", "a"),
    ]);
    let repository = tree.open("r");
    assert_eq!(outline(&repository), "a: 1; b: !; c: 1");
    let refused = error(&repository, "b");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.message().starts_with("model 'b': ") && refused.message().contains("skl2onnx"), "{refused}");
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
    ] {
        let spec = version(files).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((&*spec.name, spec.version), ("m", 7));
    }
}

#[test]
fn a_version_that_cannot_be_served_says_why() {
    for (files, kind, part) in [
        (&[("v/MLmodel", SKLEARN)][..], ErrorKind::Unsupported, "skl2onnx"),
        (&[("v/model.PKL", "a")], ErrorKind::Unsupported, "'model.PKL' is in a format that can run code"),
        (&[("v/net.pt", "a")], ErrorKind::Unsupported, "export the model to ONNX and register that"),
        (
            &[("v/README.md", "a")],
            ErrorKind::Unsupported,
            "expected MLmodel, model.toml, config.json with model.onnx, or one .onnx file",
        ),
        (&[("v/a.onnx", "a"), ("v/b.onnx", "a")], ErrorKind::InvalidInput, "2 .onnx files"),
        (&[("v/a.onnx", "")], ErrorKind::InvalidInput, "is empty"),
    ] {
        let error = version(files).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(part), "{error}");
    }
}
