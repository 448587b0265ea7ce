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

pub(super) fn definition() -> serde_json::Value {
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
pub(super) struct File {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

pub(super) fn file(definition: &serde_json::Value) -> File {
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
         `overlong = \"cut\"` under [text] in model.toml"
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
