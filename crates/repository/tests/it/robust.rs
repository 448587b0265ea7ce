//! No file may bring the server down: every parser over its corpus, and over changed copies of it.
//!
//! This is what a fuzzer would do, on the stable toolchain and within a second or two.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use salver_repository::fuzz;

use crate::tree::Tree;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 7] = [
    ("pbtxt", fuzz::pbtxt),
    ("config_json", fuzz::config_json),
    ("models_config", fuzz::models_config),
    ("model_toml", fuzz::model_toml),
    ("mlmodel", fuzz::mlmodel),
    ("hugging_face", fuzz::hugging_face),
    ("onnx", fuzz::onnx),
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One change to a file.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Cut(Index, Index),
    Repeat(Index, Index),
    Insert(Index, &'static str),
}

const TOKENS: [&str; 16] =
    ["{", "}", "[", "]", "<", ">", ":", ",", "\"", "\\x", "\\U", "-", "0x", "input", "99999999999999999999", "[[a]]\n"];

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (index(), index()).prop_map(|(from, to)| Edit::Cut(from, to)),
        (index(), index()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        (index(), prop::sample::select(&TOKENS[..])).prop_map(|(at, token)| Edit::Insert(at, token)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    if bytes.is_empty() {
        return;
    }
    let range = |a: &Index, b: &Index| {
        let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
        a.min(b)..a.max(b)
    };
    match edit {
        Edit::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Edit::Cut(from, to) => drop(bytes.drain(range(from, to))),
        Edit::Repeat(from, to) => {
            let part = bytes[range(from, to)].to_vec();
            bytes.extend(part);
        }
        Edit::Insert(at, token) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, token.bytes());
        }
    }
}

#[test]
fn every_corpus_is_there_and_its_files_are_survived() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 2, "{name}");
        files.iter().for_each(|file| target(file));
    }
}

#[test]
fn every_beginning_of_every_file_is_survived() {
    for (name, target) in TARGETS {
        for file in corpus(name) {
            (0..file.len()).for_each(|end| target(&file[..end]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_files_are_survived(
        target in 0..TARGETS.len(),
        file in any::<Index>(),
        edits in prop::collection::vec(edit(), 1..8),
    ) {
        let (name, target) = TARGETS[target];
        let files = corpus(name);
        let mut bytes = files[file.index(files.len())].clone();
        edits.iter().for_each(|edit| apply(&mut bytes, edit));
        target(&bytes);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        TARGETS.iter().for_each(|(_, target)| target(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever stands in the files, a folder is an entry: good or broken.
    #[test]
    fn any_folder_yields_its_entry(config in any::<String>(), manifest in any::<String>()) {
        let tree = Tree::new(&[("r/t/1/model.onnx", "a"), ("r/s/model.onnx", "a")]);
        tree.write("r/t/config.pbtxt", &config);
        tree.write("r/s/model.toml", &manifest);
        let names = salver_core::ModelSource::scan(&tree.open("r"));
        let names: Vec<&str> = names.iter().map(|entry| &*entry.name).collect();
        prop_assert_eq!(names, ["s", "t"]);
    }

    /// Whatever stands under the names that are read, in whatever type.
    #[test]
    fn any_files_of_an_export_are_survived(
        files in prop::collection::btree_map(prop::sample::select(&FILES[..]), object(), 1..FILES.len()),
    ) {
        let parts: Vec<String> = files.iter().map(|(name, content)| format!("\"{name}\": {content}")).collect();
        fuzz::hugging_face(format!("{{ {} }}", parts.join(", ")).as_bytes());
    }
}

const FILES: [&str; 6] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
];

const KEYS: [&str; 16] = [
    "architectures",
    "model_type",
    "id2label",
    "num_labels",
    "problem_type",
    "max_position_embeddings",
    "pad_token_id",
    "path",
    "type",
    "max_seq_length",
    "model_max_length",
    "size",
    "crop_size",
    "crop_pct",
    "rescale_factor",
    "image_mean",
];

const VALUES: [&str; 16] = [
    "null",
    "true",
    "-1",
    "0",
    "1e308",
    "18446744073709551616",
    "0.5",
    "\"ViTForImageClassification\"",
    "\"roberta\"",
    "[\"BertModel\"]",
    "[\"ConvNextForImageClassification\"]",
    "{ \"shortest_edge\": 4294967295 }",
    "{ \"height\": 8, \"width\": -8 }",
    "{ \"0\": \"a\", \"1\": \"b\" }",
    "{ \"18446744073709551615\": \"a\", \"x\": 3 }",
    "[[[[]]], {}, 1]",
];

fn object() -> impl Strategy<Value = String> {
    let pair = (prop::sample::select(&KEYS[..]), prop::sample::select(&VALUES[..]));
    prop::collection::vec(pair, 0..8).prop_map(|pairs| {
        let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    })
}
