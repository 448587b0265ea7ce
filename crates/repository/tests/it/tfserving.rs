//! TF Serving's folders and its `models.config`.

use std::fs;

use salver_core::{BatchRule, ErrorKind, ModelSource};
use salver_repository::{Kind, Repository};

use crate::tree::{Tree, error, open, outline, project, spec};

#[test]
fn a_folder_of_numbered_versions_has_no_batch_limit() {
    let repository = open(&[project("tests/models/tfserving/half_plus_two")]);
    assert_eq!(repository.kinds().map(|(_, kind)| kind).collect::<Vec<_>>(), [Kind::TfServingModel]);
    assert_eq!(outline(&repository), "half_plus_two: 2", "the highest only");
    let config = &spec(&repository, "half_plus_two").config;
    assert_eq!(config.batch, BatchRule::Derive { limit: None });
    assert!(config.dynamic_batching.is_some());
}

#[test]
fn the_folder_above_is_a_triton_repository() {
    let repository = open(&[project("tests/models/tfserving")]);
    assert_eq!(outline(&repository), "axpy: 1; half_plus_two: 2; text_bytes: 1");
    assert_eq!(spec(&repository, "axpy").config.batch, BatchRule::Derive { limit: Some(4) });
}

#[test]
fn the_template_serves_policies_and_labels() {
    let base = project("tests/models/tfserving").canonicalize().unwrap();
    let template = fs::read_to_string(base.join("models.config.template")).unwrap();
    let tree = Tree::new(&[("models.config", &template.replace("@BASE@", base.to_str().unwrap()))]);
    let repository = tree.open("models.config");
    assert_eq!(repository.kinds().map(|(_, kind)| kind).collect::<Vec<_>>(), [Kind::TfServingConfig]);
    assert_eq!(outline(&repository), "axpy: 1; half_plus_two: 1 2; text_bytes: 1");
    let entry = repository.find("half_plus_two").unwrap();
    assert_eq!(entry.labels, [("canary".to_owned(), 2), ("stable".to_owned(), 1)].into());
}

#[test]
fn leading_zeros_are_versions_here_and_a_named_mistake_in_a_repository() {
    let tree = Tree::new(&[("r/m/0003/model.onnx", "a"), ("r/m/0012/model.onnx", "a"), ("r/n/1/model.onnx", "a")]);
    assert_eq!(outline(&tree.open("r/m")), "m: 12");
    let repository = tree.open("r");
    assert_eq!(outline(&repository), "m: !; n: 1");
    assert!(error(&repository, "m").message().contains("version '0003' has leading zeros"));
}

#[test]
fn relative_paths_start_at_the_file_and_labels_need_a_served_version() {
    let tree = Tree::new(&[
        (
            "conf/my.conf",
            "model_config_list { config { name: 'a' base_path: '../m' }
             config { name: 'b' base_path: '../m' version_labels { key: 'old' value: 1 } }
             config { name: 'c' base_path: '/no/such' } }",
        ),
        ("m/1/model.onnx", "a"),
        ("m/2/model.onnx", "a"),
    ]);
    let repository = tree.open("conf/my.conf");
    assert_eq!(outline(&repository), "a: 2; b: !; c: !");
    assert_eq!(
        error(&repository, "b").message(),
        "model 'b': version_labels: 'old' stands for version 1, but the served versions are [2]"
    );
    assert_eq!(error(&repository, "c").message(), "model 'c': /no/such does not exist");
}

#[test]
fn a_config_that_breaks_later_keeps_its_models() {
    let tree = Tree::new(&[
        ("models.config", "model_config_list { config { name: 'a' base_path: 'm' } }"),
        ("m/1/model.onnx", "a"),
    ]);
    let repository = tree.open("models.config");
    tree.write("models.config", "model_config_list { conf");
    assert_eq!(outline(&repository), "a: 1");
    tree.write("models.config", "model_config_list { config { name: 'b' base_path: 'm' } }");
    assert_eq!(outline(&repository), "b: 1", "read anew each time");
}

#[test]
fn a_file_that_is_no_config_is_refused_with_the_list_of_forms() {
    let tree = Tree::new(&[("notes.txt", "hello"), ("config.pbtxt", ""), ("model.toml", "")]);
    let message = |path: &str| Repository::open(&[tree.path(path)]).err().unwrap().message().to_owned();
    assert!(message("notes.txt").starts_with("a PATH is an .onnx file, "), "{}", message("notes.txt"));
    assert!(message("notes.txt").ends_with("notes.txt: line 1: unknown field 'hello' in ModelServerConfig"));
    for file in ["config.pbtxt", "model.toml"] {
        assert!(message(file).ends_with("describes a model; give its folder instead"));
    }
}

/// An encoded list: the fields of each model as (number, value), as clients send them.
fn encoded(models: &[(&str, &str)]) -> Vec<u8> {
    let field = |number: u8, value: &[u8]| {
        let mut out = vec![number << 3 | 2, u8::try_from(value.len()).unwrap()];
        out.extend_from_slice(value);
        out
    };
    let model =
        |(name, base): &(&str, &str)| field(1, &[field(1, name.as_bytes()), field(2, base.as_bytes())].concat());
    field(1, &models.iter().map(model).collect::<Vec<_>>().concat())
}

#[test]
fn a_client_may_replace_the_list_by_models_of_one_folder() {
    let tree = Tree::new(&[
        ("models.config", "model_config_list { config { name: 'a' base_path: 'in/a' } }"),
        ("in/a/1/model.onnx", "a"),
        ("in/b/1/model.onnx", "a"),
        ("in/b/2/model.onnx", "a"),
        ("out/c/1/model.onnx", "a"),
    ]);
    let within = tree.path("in");
    std::os::unix::fs::symlink(tree.path("out/c"), tree.path("in/link")).unwrap();
    let repository = tree.open("models.config");
    let replace = |models: &[(&str, &str)]| repository.replace_listed(&encoded(models), &within);
    let outside = tree.path("out/c");
    for base in ["link", "../out/c", outside.to_str().unwrap(), "/", "", ".", "../in", "missing", "b/1/model.onnx"] {
        let error = replace(&[("b", "b"), ("c", base)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{base}");
        assert!(error.message().contains("base_path"), "{error:?}");
        assert_eq!(outline(&repository), "a: 1", "{base}: nothing has changed");
    }
    assert!(replace(&[("b", "b"), ("b", "a")]).unwrap_err().message().contains("listed twice"));
    assert!(repository.replace_listed(b"\x0a\xff", &within).is_err());
    assert!(repository.replace_listed(b"", &within).unwrap_err().message().contains("model_config_list is missing"));
    let names: Vec<String> = replace(&[("b", "b")]).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(outline(&repository), "b: 2");
    // From then on the file does not count.
    fs::write(tree.path("models.config"), "model_config_list { }").unwrap();
    assert_eq!(outline(&repository), "b: 2");
    assert!(replace(&[]).is_ok());
    assert_eq!(outline(&repository), "", "an empty list serves nothing");
}

#[test]
fn without_one_list_there_is_nothing_to_replace() {
    let tree = Tree::new(&[("m/1/model.onnx", "a")]);
    let error = tree.open("m").replace_listed(&encoded(&[("m", "m")]), &tree.path("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
}
