use std::path::PathBuf;

use proptest::prelude::*;
use salver_core::{ErrorKind, Overlong, Pooling, PoolingMode, ScoreRule};
use serde_json::json;

use super::*;

/// Returns a tokenizer of whole words: each Latin word of the alphabet is known by its letter.
fn vocabulary() -> serde_json::Value {
    let mut vocab = json!({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3});
    for (id, letter) in ('a'..='z').enumerate() {
        vocab[letter.to_string()] = json!(id + 4);
        vocab[format!("##{letter}")] = json!(id + 30);
    }
    vocab
}

pub(crate) fn definition() -> serde_json::Value {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary()}
    })
}

/// A tokenizer's file that is gone with the value.
pub(crate) struct File {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn file(definition: &serde_json::Value) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, definition.to_string()).unwrap();
    File { _folder: folder, path }
}

pub(super) fn spec(task: Kind, file: &File) -> TextSpec {
    TextSpec {
        task,
        tokenizer: file.path.clone(),
        max_length: None,
        overlong: Overlong::Cut,
        pad_to: None,
        labels: Vec::new(),
    }
}

fn pooling(mode: PoolingMode) -> Pooling {
    Pooling { mode, normalize: false }
}

fn embedding() -> Kind {
    Kind::Embedding(pooling(PoolingMode::Mean))
}

fn classification() -> Kind {
    Kind::Classification { scores: ScoreRule::Softmax, top_k: None }
}

fn tokens() -> Kind {
    Kind::TokenClassification
}

fn zero_shot() -> Kind {
    Kind::ZeroShot { pooling: pooling(PoolingMode::Mean), template: "say {}".to_owned(), scale: 10.0 }
}

fn graph(inputs: &[(&str, DataType, &[i64])], outputs: &[(&str, &[i64])]) -> Signature {
    Signature {
        inputs: inputs.iter().map(|(name, dtype, shape)| TensorSpec::new(*name, *dtype, shape)).collect(),
        outputs: outputs.iter().map(|(name, shape)| TensorSpec::new(*name, DataType::Fp32, shape)).collect(),
        batching: Batching::Rows { limit: None },
    }
}

/// An encoder with a mask.
fn bert(outputs: &[(&str, &[i64])]) -> Signature {
    let free: &[i64] = &[-1, -1];
    let inputs = ["input_ids", "attention_mask", "token_type_ids"].map(|name| (name, DataType::Int64, free));
    graph(&inputs, outputs)
}

fn hidden() -> Signature {
    bert(&[("last_hidden_state", &[-1, -1, 2])])
}

fn texts(texts: &[&str]) -> Vec<Tensor> {
    let elements: Elements = texts.iter().collect();
    vec![Tensor::from_elements("text", [texts.len()], elements).unwrap()]
}

fn numbers(part: &[Tensor], name: &str) -> (Vec<i64>, usize) {
    let tensor = part.iter().find(|tensor| &**tensor.name() == name).unwrap();
    (tensor.to_vec().unwrap(), tensor.shape()[1])
}

/// A model that gives each token its number and 1, and what is padding something absurd; `longer`
/// tokens of padding come from the requests that share the batch.
fn run(part: &[Tensor], longer: usize) -> Vec<Tensor> {
    let (ids, length) = numbers(part, "input_ids");
    let (mask, _) = numbers(part, "attention_mask");
    let rows = ids.len() / length;
    let mut values: Vec<f32> = Vec::new();
    for (ids, mask) in ids.chunks(length).zip(mask.chunks(length)) {
        for (id, mask) in ids.iter().zip(mask) {
            values.extend(if *mask == 1 { [*id as f32, 1.0] } else { [1e9, -1e9] });
        }
        values.extend(vec![7e8; longer * 2]);
    }
    vec![Tensor::from_slice("last_hidden_state", [rows, length + longer, 2], &values).unwrap()]
}

/// Sends `inputs` through the task and the model above.
fn answer(task: &dyn Task, inputs: Vec<Tensor>, max_rows: usize, longer: usize) -> Result<Vec<Tensor>> {
    let Encoded { parts, notes } = task.encode(inputs, PartLimits { max_rows, buckets: &[] })?;
    let outputs = parts.iter().map(|part| run(part, longer)).collect();
    task.decode(outputs, notes)
}

fn floats(tensors: &[Tensor], name: &str) -> Vec<f32> {
    tensors.iter().find(|tensor| &**tensor.name() == name).unwrap().to_vec().unwrap()
}

fn strings(tensors: &[Tensor], name: &str) -> Vec<String> {
    let tensor = tensors.iter().find(|tensor| &**tensor.name() == name).unwrap();
    tensor.elements().unwrap().iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

fn counts(tensors: &[Tensor]) -> (Vec<i32>, Vec<bool>) {
    let find = |name: &str| tensors.iter().find(|tensor| &**tensor.name() == name).unwrap();
    (find("tokens").to_vec().unwrap(), find("truncated").to_vec().unwrap())
}

#[track_caller]
fn refused(spec: &TextSpec, signature: &Signature, expected: &str) {
    let error = make(spec, signature).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.message(), expected);
}

#[test]
fn a_vector_is_the_mean_of_a_texts_own_tokens() {
    let file = file(&definition());
    let task = make(&spec(embedding(), &file), &hidden()).unwrap();
    let answer = answer(&*task, texts(&["a b", "", "zz"]), 8, 3).unwrap();
    // [CLS] a b [SEP]; [CLS] [SEP]; [CLS] z ##z [SEP].
    assert_eq!(floats(&answer, "embedding"), [3.5, 1.0, 2.5, 1.0, 22.25, 1.0]);
    assert_eq!(counts(&answer), (vec![4, 2, 4], vec![false; 3]));
    assert_eq!(task.signature().output("embedding").unwrap().wire_shape(), [-1, 2]);
}

#[test]
fn each_pooling_takes_its_tokens() {
    let file = file(&definition());
    for (mode, expected) in [(PoolingMode::Cls, 2.0), (PoolingMode::Last, 3.0), (PoolingMode::Max, 29.0)] {
        let task = make(&spec(Kind::Embedding(pooling(mode)), &file), &hidden()).unwrap();
        let answer = answer(&*task, texts(&["z a"]), 8, 2).unwrap();
        assert_eq!(floats(&answer, "embedding"), [expected, 1.0], "{mode:?}");
    }
}

#[test]
fn vectors_are_scaled_to_length_one() {
    let file = file(&definition());
    let kind = Kind::Embedding(Pooling { mode: PoolingMode::Mean, normalize: true });
    let task = make(&spec(kind, &file), &hidden()).unwrap();
    let vector = floats(&answer(&*task, texts(&["a"]), 8, 0).unwrap(), "embedding");
    assert!((vector[0] - 3.0 / 10f32.sqrt()).abs() < 1e-6 && (vector[1] - 1.0 / 10f32.sqrt()).abs() < 1e-6);
}

#[test]
fn a_long_text_is_cut_or_refused() {
    let file = file(&definition());
    let mut spec = spec(embedding(), &file);
    spec.max_length = Some(4);
    let task = make(&spec, &hidden()).unwrap();
    let answer_of = |task: &dyn Task, text: &[&str]| answer(task, texts(text), 8, 0);
    let cut = answer_of(&*task, &["a b", "a b c"]).unwrap();
    assert_eq!(counts(&cut), (vec![4, 4], vec![false, true]));
    assert_eq!(floats(&cut, "embedding")[..2], floats(&cut, "embedding")[2..]);
    spec.overlong = Overlong::Refuse;
    let task = make(&spec, &hidden()).unwrap();
    assert!(answer_of(&*task, &["a b"]).is_ok());
    let error = answer_of(&*task, &["a b", "a b c"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        error.message(),
        "row 1, 'text': the text has more than 4 tokens, which is all that the model takes; shorten it, or set \
         `overlong = \"cut\"` in its model.toml"
    );
}

#[test]
fn texts_are_as_long_as_a_graph_fixes() {
    let mut definition = definition();
    definition["padding"] = json!({"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": null,
                                   "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    let file = file(&definition);
    let fixed: &[i64] = &[-1, 6];
    let inputs = [
        ("input_ids", DataType::Int32, fixed),
        ("attention_mask", DataType::Int64, fixed),
        ("position_ids", DataType::Int64, fixed),
    ];
    let graph = graph(&inputs, &[("last_hidden_state", &[-1, 6, 2])]);
    let task = make(&spec(embedding(), &file), &graph).unwrap();
    assert!(task.padding().is_none());
    let limits = PartLimits { max_rows: 8, buckets: &[] };
    let encoded = task.encode(texts(&["a", "a b c d e f g"]), limits).unwrap();
    let part = &encoded.parts[0];
    let ids: Vec<i32> = part[0].to_vec().unwrap();
    assert_eq!(ids, [0, 0, 0, 2, 4, 3, 2, 4, 5, 6, 7, 3]);
    assert_eq!(numbers(part, "attention_mask").0, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(numbers(part, "position_ids").0, [0, 0, 0, 0, 1, 2, 0, 1, 2, 3, 4, 5]);
}

#[test]
fn without_a_mask_only_texts_of_one_length_share_a_part() {
    let file = file(&definition());
    let graph = graph(&[("input_ids", DataType::Int64, &[-1, -1])], &[("logits", &[-1, 2])]);
    let task = make(&spec(classification(), &file), &graph).unwrap();
    assert!(task.padding().is_none());
    let limits = PartLimits { max_rows: 8, buckets: &[] };
    let lengths = |task: &dyn Task| -> Vec<Shape> {
        let encoded = task.encode(texts(&["a", "a b", "b"]), limits).unwrap();
        encoded.parts.iter().map(|part| part[0].shape().clone()).collect()
    };
    assert_eq!(lengths(&*task), [Shape::new(&[2, 3]), Shape::new(&[1, 4])]);
    let mut padded = spec(classification(), &file);
    padded.pad_to = Some(5);
    assert_eq!(lengths(&*make(&padded, &graph).unwrap()), [Shape::new(&[3, 5])]);
}

#[test]
fn batches_are_padded_with_what_the_tokenizer_says() {
    let mut definition = definition();
    definition["padding"] = json!({"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
                                   "pad_id": 1, "pad_type_id": 7, "pad_token": "[UNK]"});
    let file = file(&definition);
    let task = make(&spec(embedding(), &file), &hidden()).unwrap();
    let padding = task.padding().unwrap();
    let values: Vec<(&str, f64)> = padding.inputs.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(values, [("attention_mask", 0.0), ("input_ids", 1.0), ("token_type_ids", 7.0)]);
    // The mask makes 128 tokens of padding needless.
    let encoded = task.encode(texts(&["a"]), PartLimits { max_rows: 8, buckets: &[] }).unwrap();
    assert_eq!(encoded.parts[0][0].shape(), &Shape::new(&[1, 3]));
}

#[test]
fn a_graph_of_one_text_gets_one_at_a_time() {
    let file = file(&definition());
    let one: &[i64] = &[1, -1];
    let inputs = ["input_ids", "attention_mask"].map(|name| (name, DataType::Int64, one));
    let graph = Signature { batching: Batching::Fixed, ..graph(&inputs, &[("last_hidden_state", &[1, -1, 2])]) };
    let task = make(&spec(embedding(), &file), &graph).unwrap();
    assert!(task.padding().is_none());
    assert_eq!(floats(&answer(&*task, texts(&["a b", "b"]), 8, 0).unwrap(), "embedding"), [3.5, 1.0, 10.0 / 3.0, 1.0]);
}

#[test]
fn the_best_classes_come_first() {
    let file = file(&definition());
    let mut spec = spec(classification(), &file);
    spec.labels = ["low", "high"].map(str::to_owned).to_vec();
    let task = make(&spec, &bert(&[("logits", &[-1, 2])])).unwrap();
    let Encoded { parts, notes } =
        task.encode(texts(&["a b", "b", "c"]), PartLimits { max_rows: 1, buckets: &[] }).unwrap();
    let first = |part: &Vec<Tensor>| numbers(part, "input_ids").0[1] as f32;
    let outputs = parts.iter().map(|part| vec![Tensor::from_slice("logits", [1, 2], &[5.0, first(part)]).unwrap()]);
    let answer = task.decode(outputs.collect(), notes).unwrap();
    assert_eq!(strings(&answer, "label"), ["low", "high", "low", "high", "high", "low"]);
    assert_eq!(floats(&answer, "score")[2..4], [0.5, 0.5]);
}

#[test]
fn nothing_is_answered_with_nothing() {
    let file = file(&definition());
    let task = make(&spec(embedding(), &file), &hidden()).unwrap();
    let answer = answer(&*task, texts(&[]), 8, 0).unwrap();
    assert_eq!(answer[0].shape(), &Shape::new(&[0, 2]));
    assert_eq!(counts(&answer), (vec![], vec![]));
}

proptest! {
    #[test]
    fn every_row_comes_back_in_its_place(
        rows in prop::collection::vec("[a-z ]{0,40}", 0..20), max_rows in 1usize..9, longer in 0usize..5,
    ) {
        let file = file(&definition());
        let mut spec = spec(embedding(), &file);
        spec.max_length = Some(16);
        let task = make(&spec, &hidden()).unwrap();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let together = answer(&*task, texts(&rows), max_rows, longer).unwrap();
        let vectors = floats(&together, "embedding");
        for (idx, row) in rows.iter().enumerate() {
            let alone = answer(&*task, texts(&[row]), 1, 0).unwrap();
            prop_assert_eq!(&vectors[2 * idx..][..2], &floats(&alone, "embedding")[..]);
            prop_assert_eq!(counts(&together).0[idx], counts(&alone).0[0]);
            prop_assert_eq!(counts(&together).1[idx], counts(&alone).1[0]);
        }
    }
}

#[test]
fn the_nearest_labels_come_first() {
    let file = file(&definition());
    let kind = Kind::ZeroShot { pooling: pooling(PoolingMode::Cls), template: "{}".to_owned(), scale: 2.0 };
    let task = make(&spec(kind, &file), &bert(&[("sentence_embedding", &[-1, 2])])).unwrap();
    let ask = |rows: &[&str], labels: &[&str]| {
        let each = labels.len() / rows.len();
        let elements: Elements = labels.iter().collect();
        let mut inputs = texts(rows);
        inputs.push(Tensor::from_elements("labels", [rows.len(), each], elements).unwrap());
        task.encode(inputs, PartLimits { max_rows: 2, buckets: &[] }).unwrap()
    };
    // A text's vector is the direction of its first letter, in steps of 6 degrees; of any length.
    let run = |parts: &[Vec<Tensor>]| -> (Vec<Vec<Tensor>>, usize) {
        let vector = |row: &[i64]| {
            let angle = row[1] as f32 * std::f32::consts::PI / 30.0;
            [angle.cos() * row[1] as f32, angle.sin() * row[1] as f32]
        };
        let one = |part: &Vec<Tensor>| {
            let (ids, length) = numbers(part, "input_ids");
            let values: Vec<f32> = ids.chunks(length).flat_map(vector).collect();
            vec![Tensor::from_slice("sentence_embedding", [ids.len() / length, 2], &values).unwrap()]
        };
        (parts.iter().map(one).collect(), parts.iter().map(|part| part[0].rows()).sum())
    };
    let Encoded { parts, notes } = ask(&["a", "k"], &["z", "c", "b", "k"]);
    let (outputs, rows) = run(&parts);
    assert_eq!(rows, 6);
    let answer = task.decode(outputs, notes).unwrap();
    assert_eq!(strings(&answer, "label"), ["c", "z", "k", "b"]);
    let scores = floats(&answer, "score");
    // Twice the cosines of 12 and 150 degrees, through softmax.
    let (near, far) = ((2.0 * 12f32.to_radians().cos()).exp(), (2.0 * 150f32.to_radians().cos()).exp());
    assert!((scores[0] - near / (near + far)).abs() < 1e-5, "{scores:?}");
    assert_eq!(counts(&answer), (vec![3, 3], vec![false; 2]));

    // Those labels are known now: only the text runs, and a label that is new.
    let Encoded { parts, notes } = ask(&["b"], &["z", "y", "c", "z"]);
    let (outputs, rows) = run(&parts);
    assert_eq!(rows, 2);
    assert_eq!(strings(&task.decode(outputs, notes).unwrap(), "label"), ["c", "y", "z", "z"]);
}

#[test]
fn labels_of_a_model_stand_in_for_those_of_a_request() {
    let file = file(&definition());
    let mut spec = spec(zero_shot(), &file);
    let task = make(&spec, &hidden()).unwrap();
    assert!(!task.signature().input("labels").unwrap().optional);
    let error = task
        .encode(
            vec![texts(&["a"]).remove(0), Tensor::from_elements("labels", [1, 0], Elements::default()).unwrap()],
            PartLimits { max_rows: 8, buckets: &[] },
        )
        .unwrap_err();
    assert_eq!(error.message(), "row 0, 'labels': there are none; give one or more");
    spec.labels = ["b", "c"].map(str::to_owned).to_vec();
    let task = make(&spec, &hidden()).unwrap();
    assert!(task.signature().input("labels").unwrap().optional);
    let answer = answer(&*task, texts(&["a", "b"]), 8, 0).unwrap();
    assert_eq!(answer[0].shape(), &Shape::new(&[2, 2]));
    assert_eq!(task.example().len(), 1);
}

/// What a tagger of `labels` makes of texts when each token's best class is that of its letter.
fn entities(labels: &[&str], rows: &[&str]) -> Vec<serde_json::Value> {
    let file = file(&definition());
    let mut spec = spec(tokens(), &file);
    spec.labels = labels.iter().map(|&label| label.to_owned()).collect();
    let classes = labels.len();
    let width = i64::try_from(classes).unwrap();
    let task = make(&spec, &bert(&[("logits", &[-1, -1, width])])).unwrap();
    let Encoded { parts, notes } = task.encode(texts(rows), PartLimits { max_rows: 2, buckets: &[] }).unwrap();
    let one = |part: &Vec<Tensor>| {
        let (ids, length) = numbers(part, "input_ids");
        // Twice as long as it was asked for, as if it had shared a batch.
        let class = |id: i64| if id < 30 { id - 4 } else { id - 30 };
        let row = |ids: &[i64]| -> Vec<f32> {
            let padded = ids.iter().copied().chain(std::iter::repeat_n(0, length));
            let scores = |id: i64| (0..classes).map(move |idx| if idx as i64 == class(id) { 9.0 } else { 0.0 });
            padded.flat_map(scores).collect()
        };
        let values: Vec<f32> = ids.chunks(length).flat_map(row).collect();
        vec![Tensor::from_slice("logits", [ids.len() / length, 2 * length, classes], &values).unwrap()]
    };
    let answer = task.decode(parts.iter().map(one).collect(), notes).unwrap();
    strings(&answer, "entities").iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[test]
fn neighbouring_tokens_of_one_class_are_one_entity() {
    let labels = ["O", "B-PER", "I-PER", "B-LOC"];
    // é is two characters here, so that bytes, characters and tokens all differ.
    let found = entities(&labels, &["a e\u{301}b cc a, d", "", "bb aa"]);
    let score = f64::from(9f32.exp() / (9f32.exp() + 3.0));
    let expected = [("PER", 4, 8, "b cc"), ("LOC", 12, 13, "d")];
    let check = |found: &serde_json::Value, expected: &[(&str, i64, i64, &str)]| {
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (entity, (name, start, end, text)) in found.iter().zip(expected) {
            assert!((entity["score"].as_f64().unwrap() - score).abs() < 1e-6);
            let rest = json!([entity["entity"], entity["start"], entity["end"], entity["text"]]);
            assert_eq!(rest, json!([name, start, end, text]));
        }
    };
    check(&found[0], &expected);
    check(&found[1], &[]);
    // B- begins another, also within a word.
    check(&found[2], &[("PER", 0, 1, "b"), ("PER", 1, 2, "b")]);
}

#[test]
fn labels_without_marks_are_joined_too() {
    let found = entities(&["O", "PER"], &["b b a b"]);
    let spans: Vec<_> = found[0].as_array().unwrap().iter().map(|entity| entity["text"].clone()).collect();
    assert_eq!(spans, ["b b", "b"]);
}

#[test]
fn what_does_not_fit_is_found_when_the_task_is_made() {
    let file = file(&definition());
    let free: &[i64] = &[-1, -1];
    let ids = ("input_ids", DataType::Int64, free);
    let hidden: &[(&str, &[i64])] = &[("last_hidden_state", &[-1, -1, 2])];
    let embedding = spec(embedding(), &file);
    refused(
        &embedding,
        &graph(&[ids, ("pixel_values", DataType::Fp32, &[-1, 3])], hidden),
        "the graph's input 'pixel_values' (FP32 [-1, 3]) is none that tokens go into; expected input_ids, \
         attention_mask, token_type_ids, position_ids",
    );
    refused(
        &embedding,
        &graph(&[("attention_mask", DataType::Int64, free)], hidden),
        "the graph has no input 'input_ids' for the numbers of tokens; its inputs are 'attention_mask' (INT64 [-1, -1])",
    );
    refused(
        &embedding,
        &graph(&[("input_ids", DataType::Fp32, free)], hidden),
        "the graph's input 'input_ids' is FP32 [-1, -1], expected INT64 or INT32 [-1, -1]: texts by tokens",
    );
    refused(
        &embedding,
        &graph(&[("input_ids", DataType::Int64, &[4, -1])], hidden),
        "input 'input_ids' has shape [4, -1], a fixed number of texts; export the graph with a free first dimension",
    );
    refused(
        &embedding,
        &graph(&[ids], &[("a", &[-1, 2]), ("b", &[-1, 2])]),
        "none of the graph's outputs is known to hold vectors: 'a' (FP32 [-1, 2]), 'b' (FP32 [-1, 2]); call one \
         'last_hidden_state' [texts, tokens, width] or 'sentence_embedding' [texts, width]",
    );
    let fixed = graph(&[("input_ids", DataType::Int64, &[-1, 16])], hidden);
    let with = |change: fn(&mut TextSpec)| {
        let mut changed = embedding.clone();
        change(&mut changed);
        changed
    };
    refused(
        &with(|spec| spec.max_length = Some(17)),
        &fixed,
        "max_length is 17, but the graph takes 16 tokens; set it to 16 or less",
    );
    refused(
        &with(|spec| spec.pad_to = Some(8)),
        &fixed,
        "pad_to is 8, but the graph takes 16 tokens; leave `pad_to` out",
    );
    assert!(make(&with(|spec| spec.pad_to = Some(0)), &fixed).is_ok());
    refused(
        &with(|spec| spec.max_length = Some(2)),
        &graph(&[ids], hidden),
        "max_length is 2, but 2 special tokens go around every text; allow more",
    );
}

#[test]
fn labels_and_settings_have_to_fit() {
    let file = file(&definition());
    let scores = bert(&[("logits", &[-1, 3])]);
    let mut classes = spec(classification(), &file);
    classes.labels = vec!["one".to_owned()];
    refused(&classes, &scores, "there are 1 labels, but output 'logits' has shape [-1, 3]: 3 scores for each row");
    let mut tagger = spec(tokens(), &file);
    tagger.labels = vec!["O".to_owned()];
    refused(
        &tagger,
        &bert(&[("logits", &[-1, -1, 3])]),
        "there are 1 labels, but output 'logits' has shape [-1, -1, 3]: 3 scores for each token",
    );
    refused(
        &tagger,
        &scores,
        "none of the graph's outputs is known to hold scores: 'logits' (FP32 [-1, 3]); call one 'logits' [texts, \
         tokens, classes]",
    );
    let kind = Kind::ZeroShot { pooling: pooling(PoolingMode::Mean), template: "say it".to_owned(), scale: 1.0 };
    refused(
        &spec(kind, &file),
        &hidden(),
        "template 'say it' has no '{}' for the label to stand in; write \"This text is about {}.\"",
    );
}

#[test]
fn a_request_at_fault_is_told_which_row() {
    let file = file(&definition());
    let task = make(&spec(embedding(), &file), &hidden()).unwrap();
    let elements: Elements = [b"fine".as_slice(), b"caf\xe9"].iter().collect();
    let inputs = vec![Tensor::from_elements("text", [2], elements).unwrap()];
    let error = answer(&*task, inputs, 8, 0).unwrap_err();
    assert_eq!(error.message(), "row 1, 'text': the text is not UTF-8 at byte 3; send it as UTF-8");
    // A model that gives fewer tokens than it was asked for.
    let Encoded { parts, notes } = task.encode(texts(&["a"]), PartLimits { max_rows: 1, buckets: &[] }).unwrap();
    assert_eq!(parts.len(), 1);
    let short = Tensor::from_slice("last_hidden_state", [1, 2, 2], &[0f32; 4]).unwrap();
    let error = task.decode(vec![vec![short]], notes).unwrap_err();
    assert_eq!(
        error.message(),
        "output 'last_hidden_state' has shape [1,2,2], expected 3 tokens or more in its second dimension"
    );
}

#[test]
fn small_requests_are_quick() {
    let file = file(&definition());
    let task = make(&spec(embedding(), &file), &hidden()).unwrap();
    assert!(task.is_quick(&texts(&["a", "b"])) && !task.is_quick(&texts(&[&"a ".repeat(4096)])));
}
