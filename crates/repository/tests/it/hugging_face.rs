//! Folders that Hugging Face's tools exported.

use std::fs;

use salver_core::{ErrorKind, ModelName, PoolingMode, Resize, TaskSpec, TextTask};
use salver_repository::{Kind, check_names, read_version};

use crate::tree::{Tree, error, outline, spec};

const CLASSIFIER: &str =
    r#"{ "architectures": ["BertForSequenceClassification"], "id2label": { "1": "good", "0": "bad" } }"#;
const ENCODER: &str = r#"{ "architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512 }"#;
const MODULES: &str = r#"[{ "path": "", "type": "sentence_transformers.models.Transformer" },
    { "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" }]"#;
const VIT: &str = r#"{ "architectures": ["ViTForImageClassification"], "id2label": { "0": "cat" } }"#;
const SIZE: &str = r#"{ "size": { "height": 8, "width": 8 }, "resample": 2, "do_normalize": false }"#;

/// A tree with the folder `m`: `config`, and a graph at `graph`.
fn export(config: &str, graph: &str) -> Tree {
    let tree = Tree::new(&[("m/config.json", config), ("m/tokenizer.json", "{}")]);
    tree.write(&format!("m/{graph}"), "a");
    tree
}

#[test]
fn an_export_is_served_under_its_folders_name() {
    for graph in ["model.onnx", "onnx/model.onnx"] {
        let tree = export(CLASSIFIER, graph);
        let repository = tree.open("m");
        assert_eq!(repository.kinds().map(|(_, kind)| kind).collect::<Vec<_>>(), [Kind::HuggingFaceModel]);
        let found = spec(&repository, "m");
        assert_eq!((found.version, &found.artifact), (1, &tree.path(&format!("m/{graph}"))));
        let TaskSpec::Text(text) = &found.task else {
            panic!("{:?}", found.task);
        };
        assert_eq!(
            (text.labels.as_slice(), &text.tokenizer),
            (&["bad".into(), "good".into()][..], &tree.path("m/tokenizer.json"))
        );
        assert!(found.labels.is_empty());
    }
}

#[test]
fn every_file_that_is_read_counts_in_the_fingerprint() {
    let tree = export(ENCODER, "onnx/model.onnx");
    tree.write("m/modules.json", MODULES);
    tree.write("m/1_Pooling/config.json", r#"{ "pooling_mode_mean_tokens": true }"#);
    let repository = tree.open("m");
    let mut before = spec(&repository, "m").fingerprint;
    for (file, content) in [
        ("1_Pooling/config.json", r#"{ "pooling_mode_cls_token": true }"#),
        ("tokenizer.json", "{ }"),
        ("tokenizer_config.json", "{}"),
        ("onnx/model.onnx_data", "weights"),
        ("config.json", &format!("{ENCODER} ")),
    ] {
        tree.write(&format!("m/{file}"), content);
        let now = spec(&repository, "m");
        assert_ne!(now.fingerprint, before, "{file}");
        before = now.fingerprint;
    }
    let TaskSpec::Text(text) = &spec(&repository, "m").task else { panic!("not of texts") };
    assert!(matches!(text.task, TextTask::Embedding(pooling) if pooling.mode == PoolingMode::Cls));
}

#[test]
fn pictures_need_no_tokenizer() {
    let tree = Tree::new(&[("m/config.json", VIT), ("m/preprocessor_config.json", SIZE), ("m/model.onnx", "a")]);
    let TaskSpec::Image(image) = &spec(&tree.open("m"), "m").task else { panic!("not of pictures") };
    assert_eq!((image.resize, image.labels.len()), (Some(Resize::Exact { height: 8, width: 8 }), 1));
}

#[test]
fn a_manifest_goes_before_the_files_and_they_fill_what_it_leaves_open() {
    let tree = export(ENCODER, "onnx/model.onnx");
    tree.write("m/model.toml", "name = 'topics'\ntask = 'zero-shot'\nlabels = ['a']\n[text]\npooling = 'max'");
    let repository = tree.open("m");
    assert_eq!(repository.kinds().map(|(_, kind)| kind).collect::<Vec<_>>(), [Kind::SalverModel]);
    let found = spec(&repository, "topics");
    let TaskSpec::Text(text) = &found.task else { panic!("{:?}", found.task) };
    assert_eq!((found.task.name(), text.max_length, text.labels.len()), ("zero-shot", Some(512), 1));
    assert!(matches!(&text.task, TextTask::ZeroShot { pooling, .. } if pooling.mode == PoolingMode::Max));
    for (manifest, task) in [
        ("task = 'tensor'", "tensor"),
        ("[batching]\nmax_rows = 4", "text-embedding"),
        ("task = 'text-embedding'", "text-embedding"),
    ] {
        tree.write("m/model.toml", manifest);
        let found = spec(&tree.open("m"), "m");
        assert_eq!((found.task.name(), &found.artifact), (task, &tree.path("m/onnx/model.onnx")), "{manifest}");
    }
    tree.write("m/onnx/model_quantized.onnx", "a");
    tree.write("m/model.toml", "artifact = 'onnx/model_quantized.onnx'");
    assert!(spec(&tree.open("m"), "m").artifact.ends_with("onnx/model_quantized.onnx"));
}

#[test]
fn a_config_of_something_else_makes_it_a_model_of_tensors() {
    let tree = Tree::new(&[("m/config.json", "{}"), ("m/model.onnx", "a"), ("m/model.toml", "labels = ['a']")]);
    let found = spec(&tree.open("m"), "m");
    assert_eq!((found.task.name(), found.labels[""].len()), ("tensor", 1));
    fs::remove_file(tree.path("m/model.toml")).unwrap();
    assert_eq!(spec(&tree.open("m"), "m").task.name(), "tensor");
    let tree = Tree::new(&[("m/config.json", "no JSON"), ("m/model.onnx", "a"), ("m/model.toml", "task = 'tensor'")]);
    assert_eq!(spec(&tree.open("m"), "m").task.name(), "tensor", "not read at all");
}

#[test]
fn exports_lie_among_others_and_a_broken_one_hides_none() {
    let tree = Tree::new(&[
        ("r/a/config.json", CLASSIFIER),
        ("r/a/tokenizer.json", "{}"),
        ("r/a/onnx/model.onnx", "a"),
        ("r/b/config.json", r#"{ "architectures": ["BertForMaskedLM"] }"#),
        ("r/b/model.onnx", "a"),
        ("r/c/config.json", CLASSIFIER),
        ("r/c/model.safetensors", "a"),
        ("r/d/config.json", CLASSIFIER),
        ("r/d/onnx/model_quantized.onnx", "a"),
        ("r/e/config.json", CLASSIFIER),
        ("r/e/model.onnx", "a"),
        ("r/f/1/model.onnx", "a"),
        ("r/g/config.json", CLASSIFIER),
        ("r/g/net.onnx", "a"),
    ]);
    let repository = tree.open("r");
    assert_eq!(outline(&repository), "a: 1; b: !; c: !; d: !; e: !; f: 1; g: !");
    for (name, expected) in [
        ("b", "r/b: config.json names the architecture 'BertForMaskedLM'"),
        (
            "c",
            "holds model.safetensors, which is not served; export it to ONNX first: optimum-cli export onnx --model ",
        ),
        ("d", "write "),
        ("d", "r/d/model.toml with artifact = \"onnx/model_quantized.onnx\""),
        ("e", "text.tokenizer: "),
        ("g", "holds net.onnx but is no model folder"),
    ] {
        let error = error(&repository, name);
        assert!(error.message().contains(expected), "{error}");
    }
    for path in ["r/c", "r/d"] {
        let error = salver_repository::Repository::open(&[tree.path(path)]).err().unwrap();
        assert!(error.message().contains("export it to ONNX") || error.message().contains("artifact ="), "{error}");
    }
}

#[test]
fn files_of_modules_lie_in_the_folder() {
    for path in ["..", "/etc", "", "a/../../x"] {
        let tree = export(ENCODER, "model.onnx");
        tree.write("config.json", "secret");
        tree.write("m/modules.json", &MODULES.replace("1_Pooling\", \"type", &format!("{path}\", \"type")));
        let error = error(&tree.open("m"), "m");
        assert!(error.message().contains("must be a path inside the folder"), "{path}: {error}");
    }
}

#[test]
fn a_version_of_a_registry_may_be_an_export() {
    let tree = export(CLASSIFIER, "onnx/model.onnx");
    tree.write("m/onnx/model_quantized.onnx", "a");
    let spec = read_version(&ModelName::new("x").unwrap(), 7, &tree.path("m")).unwrap();
    assert_eq!((&*spec.name, spec.version, spec.task.name()), ("x", 7, "text-classification"));
    check_names(["config.json", "onnx/model.onnx", "onnx/model_quantized.onnx", "tokenizer.json"].into_iter()).unwrap();
    check_names(["config.json", "model.onnx"].into_iter()).unwrap();
    let error = check_names(["config.json", "model.safetensors"].into_iter()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
