//! What the files of an export say, as one JSON object of file names and contents.

use std::collections::BTreeMap;

use salver_core::{Colours, ErrorKind, Filter, PoolingMode, Resize};
use serde_json::{Value, json};

use super::*;

#[track_caller]
fn found(files: &Value) -> Result<Folder> {
    let files: BTreeMap<String, Value> = serde_json::from_value(files.clone()).unwrap();
    Folder::read(|name| Ok(files.get(name).map(Value::to_string)))
}

#[track_caller]
fn read(files: &Value) -> Known {
    found(files).and_then(|found| known(&found, true, None, None)).unwrap_or_else(|error| panic!("{files}: {error}"))
}

#[track_caller]
fn text(files: &Value) -> TextDraft {
    match read(files).draft {
        Draft::Text(text) => text,
        other => panic!("{files}: {other:?}"),
    }
}

#[track_caller]
fn image(preprocessor: &Value) -> Result<ImageDraft> {
    let config = json!({ "architectures": ["ViTForImageClassification"] });
    let files = json!({ "config.json": config, "preprocessor_config.json": preprocessor });
    known(&found(&files)?, false, None, None).map(|known| match known.draft {
        Draft::Image(image) => image,
        other => panic!("{other:?}"),
    })
}

/// What stands in every file, for those that are about something else.
#[track_caller]
fn plain(mut preprocessor: Value) -> Result<ImageDraft> {
    preprocessor["do_normalize"] = json!(false);
    image(&preprocessor)
}

#[track_caller]
fn check_error(files: &Value, kind: ErrorKind, expected: &str) {
    let error = found(files).and_then(|found| known(&found, false, None, None)).expect_err(&files.to_string());
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(expected), "{files}: {error}");
}

/// A model of sentence-transformers as all-MiniLM-L6-v2 is.
fn minilm() -> Value {
    let module = |path: &str, class: &str| json!({ "idx": 0, "name": "0", "path": path, "type": format!("sentence_transformers.models.{class}") });
    json!({
        "config.json": { "architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0 },
        "modules.json": [module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Normalize", "Normalize")],
        "1_Pooling/config.json": { "word_embedding_dimension": 384, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true },
        "sentence_bert_config.json": { "max_seq_length": 256, "do_lower_case": false },
        "tokenizer_config.json": { "model_max_length": 512, "do_lower_case": true },
    })
}

fn with(mut files: Value, name: &str, content: Value) -> Value {
    files[name] = content;
    files
}

#[test]
fn a_model_of_sentence_transformers_makes_embeddings() {
    let expected = TextDraft {
        max_length: Some(256),
        pad_to: Some(0),
        pooling: Some(PoolingMode::Mean),
        normalize: Some(true),
        ..TextDraft::new(TextKind::Embedding)
    };
    assert_eq!(read(&minilm()), Known { draft: Draft::Text(expected), labels: None });
    for (pooling, mode) in [
        (json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false }), PoolingMode::Cls),
        (json!({ "pooling_mode_max_tokens": true }), PoolingMode::Max),
        (json!({ "pooling_mode_lasttoken": true }), PoolingMode::Last),
        (json!({ "pooling_mode": "cls" }), PoolingMode::Cls),
    ] {
        let mut files = with(minilm(), "1_Pooling/config.json", pooling);
        files["modules.json"].as_array_mut().unwrap().pop();
        let text = text(&files);
        assert_eq!((text.pooling, text.normalize), (Some(mode), Some(false)), "{files}");
    }
}

#[test]
fn what_sentence_transformers_does_beyond_that_is_refused_with_what_to_write() {
    let dense = json!([{ "path": "", "type": "a.Transformer" }, { "path": "2_Dense", "type": "a.Dense" }]);
    for (name, content, expected) in [
        ("modules.json", dense, "modules.json lists Transformer, Dense, which is not applied here"),
        ("modules.json", json!([]), "modules.json lists "),
        ("1_Pooling/config.json", json!({ "pooling_mode_weightedmean_tokens": true }), "the mode weightedmean"),
        (
            "1_Pooling/config.json",
            json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true }),
            "the mode cls and mean",
        ),
        ("1_Pooling/config.json", json!({}), "names no mode"),
        (
            "config_sentence_transformers.json",
            json!({ "default_prompt_name": "query" }),
            "puts a prompt before each text",
        ),
        ("tokenizer_config.json", json!({}), ""),
    ] {
        let files = with(minilm(), name, content);
        if expected.is_empty() {
            let files = with(files, "sentence_bert_config.json", json!({ "do_lower_case": true }));
            check_error(&files, ErrorKind::Unsupported, "has do_lower_case, which is not applied here");
        } else {
            check_error(&files, ErrorKind::Unsupported, expected);
            check_error(&files, ErrorKind::Unsupported, "write a model.toml beside it with task = \"text-embedding\"");
        }
    }
}

#[test]
fn the_architecture_names_the_task() {
    let labels = json!({ "1": "good", "0": "bad", "10": "k", "2": "c", "3": "d", "4": "e", "5": "f", "6": "g", "7": "h", "8": "i", "9": "j" });
    let config = |architecture: &str| json!({ "config.json": { "architectures": [architecture], "id2label": labels } });
    let found = read(&config("DistilBertForSequenceClassification"));
    let Draft::Text(text) = &found.draft else { panic!("{found:?}") };
    assert_eq!((text.kind, text.scores, text.pad_to), (TextKind::Classification, Some(ScoreRule::Softmax), Some(0)));
    let names = found.labels.unwrap();
    assert_eq!((names[0].as_str(), names[1].as_str(), names[10].as_str()), ("bad", "good", "k"), "by number");
    let tokens = read(&config("BertForTokenClassification"));
    assert!(matches!(tokens.draft, Draft::Text(TextDraft { kind: TextKind::TokenClassification, scores: None, .. })));
    assert_eq!(tokens.labels.unwrap().len(), 11);
    let plain = read(&config("MPNetModel"));
    assert!(matches!(plain.draft, Draft::Text(TextDraft { kind: TextKind::Embedding, pooling: None, .. })));
    assert_eq!(plain.labels, None);
}

#[test]
fn scores_are_those_of_the_librarys_pipelines() {
    for (config, expected, classes) in [
        (json!({}), ScoreRule::Softmax, 2),
        (json!({ "num_labels": 5 }), ScoreRule::Softmax, 5),
        (json!({ "id2label": { "0": "yes" } }), ScoreRule::Sigmoid, 1),
        (json!({ "problem_type": "multi_label_classification", "num_labels": 3 }), ScoreRule::Sigmoid, 3),
        (json!({ "problem_type": "single_label_classification" }), ScoreRule::Softmax, 2),
        (json!({ "problem_type": "regression", "id2label": { "0": "score" } }), ScoreRule::AsIs, 1),
    ] {
        let config = with(config, "architectures", json!(["XForSequenceClassification"]));
        let found = read(&json!({ "config.json": config }));
        let Draft::Text(text) = &found.draft else { panic!("{found:?}") };
        assert_eq!((text.scores, found.labels.map(|labels| labels.len())), (Some(expected), Some(classes)), "{config}");
    }
    let made_up = read(&json!({ "config.json": { "architectures": ["XForSequenceClassification"] } }));
    assert_eq!(made_up.labels.unwrap(), ["LABEL_0", "LABEL_1"]);
}

#[test]
fn the_length_of_texts_is_the_least_that_is_said() {
    for (kind, positions, padding, tokenizer, expected) in [
        ("bert", json!(512), json!(0), json!(512), Some(512)),
        ("bert", json!(512), json!(0), json!(128), Some(128)),
        ("roberta", json!(514), json!(1), json!(1e30), Some(512)),
        ("xlm-roberta", json!(514), Value::Null, json!(512), Some(512)),
        ("mpnet", json!(514), json!(1), Value::Null, Some(512)),
        ("t5", Value::Null, json!(0), json!(1e30), None),
        ("x", json!(-1), json!(0), json!("long"), None),
    ] {
        let config = json!({
            "architectures": ["XModel"], "model_type": kind, "max_position_embeddings": positions, "pad_token_id": padding,
        });
        let files = json!({ "config.json": config, "tokenizer_config.json": { "model_max_length": tokenizer } });
        assert_eq!(text(&files).max_length, expected, "{files}");
    }
}

#[test]
fn pictures_are_prepared_as_the_processor_says() {
    let vit = image(&json!({
        "image_processor_type": "ViTImageProcessor", "do_resize": true, "size": { "height": 224, "width": 200 },
        "resample": 2, "do_rescale": true, "rescale_factor": 0.5, "do_normalize": true,
        "image_mean": [0.5, 0.25, 0.5], "image_std": [0.5, 0.5, 1.0], "crop_size": null, "do_center_crop": null,
    }));
    let expected = ImageDraft {
        resize: Some(Resize::Exact { height: 224, width: 200 }),
        filter: Some(Filter::Bilinear),
        rescale: Some(0.5),
        mean: Some(vec![0.5, 0.25, 0.5]),
        std: Some(vec![0.5, 0.5, 1.0]),
        scores: Some(ScoreRule::Softmax),
        ..ImageDraft::default()
    };
    assert_eq!(vit.unwrap(), expected);
    for (file, resize, crop, filter) in [
        (
            json!({ "size": { "shortest_edge": 256 }, "crop_size": { "height": 224, "width": 200 }, "resample": 3 }),
            Resize::Shortest(256),
            Some((224, 200)),
            Filter::Bicubic,
        ),
        (
            json!({ "size": { "shortest_edge": 256 }, "crop_size": 224, "do_center_crop": false, "resample": 1 }),
            Resize::Shortest(256),
            None,
            Filter::Lanczos,
        ),
        (
            json!({ "feature_extractor_type": "ViTFeatureExtractor", "size": 384, "resample": 0 }),
            Resize::Exact { height: 384, width: 384 },
            None,
            Filter::Nearest,
        ),
        (
            json!({ "feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224 }),
            Resize::Shortest(224),
            Some((224, 224)),
            Filter::Bicubic,
        ),
        (json!({ "do_resize": false, "size": 3, "crop_size": 8 }), Resize::Keep, Some((8, 8)), Filter::Bilinear),
        (
            json!({ "image_processor_type": "ConvNextImageProcessor", "size": { "shortest_edge": 224 }, "crop_pct": 0.875, "resample": 3 }),
            Resize::Shortest(256),
            Some((224, 224)),
            Filter::Bicubic,
        ),
        (
            json!({ "image_processor_type": "ConvNextImageProcessor", "size": { "shortest_edge": 224 } }),
            Resize::Shortest(256),
            Some((224, 224)),
            Filter::Bilinear,
        ),
        (
            json!({ "image_processor_type": "ConvNextImageProcessorFast", "size": 384, "crop_pct": 0.9 }),
            Resize::Exact { height: 384, width: 384 },
            None,
            Filter::Bilinear,
        ),
    ] {
        let draft = plain(file.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!((draft.resize, draft.crop, draft.filter), (Some(resize), crop, Some(filter)), "{file}");
    }
}

#[test]
fn older_processors_leave_out_what_they_always_do() {
    let normal = json!({ "image_mean": [0.5], "image_std": 0.25 });
    let file = with(with(normal, "feature_extractor_type", json!("ViTFeatureExtractor")), "size", json!(8));
    let draft = image(&file).unwrap();
    let values = (draft.rescale, draft.mean, draft.std, draft.colours);
    assert_eq!(values, (Some(1.0 / 255.0), Some(vec![0.5]), Some(vec![0.25]), None));
    let off = json!({ "do_normalize": false, "image_mean": [0.5], "do_rescale": false, "do_resize": false });
    let draft = image(&off).unwrap();
    assert_eq!((draft.rescale, draft.mean, draft.resize), (Some(1.0), None, Some(Resize::Keep)));
    let mobile = json!({ "image_processor_type": "MobileViTImageProcessor", "size": 8, "crop_size": 8 });
    let draft = image(&mobile).unwrap();
    assert_eq!((draft.colours, draft.mean, draft.crop), (Some(Colours::Bgr), None, Some((8, 8))));
}

#[test]
fn what_a_processor_does_not_say_is_not_guessed() {
    let size = json!({ "height": 8, "width": 8 });
    for file in [
        json!({ "size": size }),
        json!({ "size": size, "do_normalize": true, "image_mean": [0.5] }),
        json!({ "size": size, "image_std": [0.5] }),
    ] {
        let error = image(&file).expect_err(&file.to_string());
        let expected = "preprocessor_config.json: it does not say do_normalize, image_mean and image_std; add that";
        assert!(error.message().starts_with(expected), "{error}");
    }
    let error = plain(json!({ "crop_size": 8 })).unwrap_err();
    assert!(error.message().contains("it does not say size; add that, or write a model.toml"), "{error}");
}

#[test]
fn pictures_that_are_prepared_otherwise_are_refused_with_what_to_write() {
    for (file, expected) in [
        (
            json!({ "image_processor_type": "EfficientNetImageProcessor" }),
            "EfficientNetImageProcessor has a way of its own",
        ),
        (json!({ "crop_pct": 0.9, "size": { "shortest_edge": 8 } }), "crop_pct"),
        (json!({ "size": 224 }), "a size other than shortest_edge, or height and width"),
        (json!({ "size": { "shortest_edge": 8, "longest_edge": 9 } }), "a size other than"),
        (json!({ "size": { "height": 8, "width": 8 }, "crop_size": { "shortest_edge": 8 } }), "a crop_size other than"),
        (json!({ "do_resize": false, "resample": 4 }), "resample = 4"),
        (json!({ "do_resize": false, "do_pad": true }), "do_pad = true"),
        (json!({ "do_resize": false, "rescale_offset": true }), "rescale_offset = true"),
    ] {
        let error = image(&with(file.clone(), "do_normalize", json!(false))).expect_err(&file.to_string());
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains(expected) && error.message().contains("write a model.toml"), "{error}");
    }
    for (file, expected) in [
        (json!({ "do_normalize": false, "size": { "shortest_edge": 0 } }), "size: expected from 1 to 8192, got 0"),
        (json!({ "do_resize": false, "image_mean": [0], "image_std": [0.0] }), "image_std: expected one or three"),
        (json!({ "do_resize": false, "image_mean": [1, 2], "image_std": [1, 2] }), "image_mean: expected one or three"),
        (
            json!({ "do_resize": false, "do_normalize": false, "rescale_factor": 0 }),
            "rescale_factor: expected a number above zero",
        ),
        (
            json!({ "image_processor_type": "ConvNextImageProcessor", "size": 8, "crop_pct": 0, "do_normalize": false }),
            "crop_pct: expected a part",
        ),
        (json!({ "size": "big" }), "expected a number, or shortest_edge, or height and width"),
    ] {
        let error = image(&file).expect_err(&file.to_string());
        assert!(
            error.message().contains("preprocessor_config.json: ") && error.message().contains(expected),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_inferred_says_what_to_write() {
    for (files, expected) in [
        (
            json!({ "config.json": { "architectures": ["BertForMaskedLM"] } }),
            "the architecture 'BertForMaskedLM', which does not tell the task; write a model.toml",
        ),
        (
            json!({ "config.json": { "model_type": "bert" } }),
            "names no single architecture; write a model.toml beside it with the line task = ",
        ),
        (json!({ "config.json": { "architectures": ["A", "B"] } }), "names no single architecture"),
        (json!({ "config.json": { "architectures": ["ViTModel"] } }), "'ViTModel', which does not tell"),
        (
            json!({ "config.json": { "architectures": ["XForImageClassification"] } }),
            "there is no preprocessor_config.json",
        ),
        (
            json!({ "config.json": { "architectures": ["XForTokenClassification"], "id2label": { "1": "a" } } }),
            "id2label: expected each number from 0 to 0 once",
        ),
        (
            json!({ "config.json": { "architectures": ["XForTokenClassification"], "id2label": { "a": "a" } } }),
            "id2label: expected numbers of classes, got 'a'",
        ),
        (
            json!({ "config.json": { "architectures": 3 } }),
            "config.json: invalid type: integer `3`, expected a sequence at line 1 column",
        ),
        (json!({ "config.json": [] , "modules.json": 3}), "modules.json: invalid type"),
    ] {
        check_error(&files, ErrorKind::InvalidInput, expected);
    }
}

#[test]
fn a_config_of_something_else_changes_nothing() {
    let found = found(&json!({ "config.json": { "learning_rate": 0.1 } })).unwrap();
    let labels = Some(vec!["a".to_owned()]);
    assert_eq!(
        known(&found, true, None, labels.clone()).unwrap(),
        Known { draft: Draft::Tensor, labels: labels.clone() }
    );
    let draft = Draft::Text(TextDraft::new(TextKind::ZeroShot));
    assert_eq!(known(&found, true, Some(draft.clone()), labels.clone()).unwrap(), Known { draft, labels });
}

#[test]
fn a_vector_has_no_classes() {
    let found = found(&minilm()).unwrap();
    let error = known(&found, true, None, Some(Vec::new())).unwrap_err();
    assert!(error.message().starts_with("labels: the files make it a text-embedding"), "{error}");
}

#[test]
fn what_is_said_already_stays() {
    let found_files = found(&minilm()).unwrap();
    let start = TextDraft { normalize: Some(false), max_length: Some(16), ..TextDraft::new(TextKind::ZeroShot) };
    let labels = Some(vec!["a".to_owned()]);
    let filled = known(&found_files, true, Some(Draft::Text(start.clone())), labels.clone()).unwrap();
    let expected = TextDraft { pad_to: Some(0), pooling: Some(PoolingMode::Mean), ..start };
    assert_eq!(filled, Known { draft: Draft::Text(expected), labels });
    let files = json!({
        "config.json": { "model_type": "vit", "id2label": { "0": "a", "1": "b" } },
        "preprocessor_config.json": {
            "size": { "shortest_edge": 256 }, "crop_size": 224, "image_mean": [0.5], "image_std": [0.5],
        },
    });
    let own = ImageDraft { resize: Some(Resize::Keep), mean: Some(vec![0.25]), ..ImageDraft::default() };
    let filled = known(&found(&files).unwrap(), false, Some(Draft::Image(own)), None).unwrap();
    let Draft::Image(image) = filled.draft else { panic!("{filled:?}") };
    assert_eq!((image.resize, image.crop, image.mean), (Some(Resize::Keep), None, Some(vec![0.25])));
    assert_eq!(filled.labels.unwrap(), ["a", "b"]);
}
