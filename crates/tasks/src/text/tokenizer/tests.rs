use proptest::prelude::*;
use salver_core::TextTask;
use serde_json::{Value, json};

use super::super::tests::{definition, file, spec};
use super::*;

fn read(definition: &Value, change: impl FnOnce(&mut TextSpec)) -> Result<Tokenizer> {
    let file = file(definition);
    let mut spec = spec(TextTask::TokenClassification, &file);
    change(&mut spec);
    Tokenizer::read(&spec, None, Offsets::Wanted)
}

#[test]
fn special_tokens_are_marked_and_places_are_characters() {
    let tokens = read(&definition(), |_| ()).unwrap().encode("Öa 一".as_bytes()).unwrap();
    assert_eq!(tokens.ids, [2, 18, 30, 1, 3]);
    assert_eq!(tokens.special, [1, 0, 0, 0, 1]);
    assert_eq!(tokens.offsets, [(0, 0), (0, 1), (1, 2), (3, 4), (0, 0)]);
}

#[test]
fn a_tokenizers_own_limit_and_side_are_kept() {
    let mut definition = definition();
    definition["truncation"] = json!({"direction": "Left", "max_length": 4, "strategy": "OnlySecond", "stride": 1});
    let tokens = |change: fn(&mut TextSpec)| read(&definition, change).unwrap().encode(b"a b c d").unwrap();
    assert_eq!((tokens(|_| ()).ids, tokens(|_| ()).truncated), (vec![2, 6, 7, 3], true));
    assert_eq!(tokens(|spec| spec.max_length = Some(5)).ids, [2, 5, 6, 7, 3]);
    assert!(!tokens(|spec| spec.max_length = Some(6)).truncated);
}

#[test]
fn a_limit_is_exact_without_special_tokens_too() {
    let mut definition = definition();
    definition["post_processor"] = Value::Null;
    let tokenizer = read(&definition, |spec| spec.max_length = Some(2)).unwrap();
    for (text, expected, truncated) in [("a b", vec![4, 5], false), ("a b c", vec![4, 5], true), ("", vec![], false)] {
        let tokens = tokenizer.encode(text.as_bytes()).unwrap();
        assert_eq!((tokens.ids, tokens.truncated), (expected, truncated), "{text}");
    }
}

#[test]
fn files_that_are_no_tokenizers_are_named() {
    let mut absent = spec(TextTask::TokenClassification, &file(&definition()));
    absent.tokenizer = "nowhere/tokenizer.json".into();
    let error = Tokenizer::read(&absent, None, Offsets::Unwanted).unwrap_err();
    assert!(error.message().starts_with("read tokenizer 'nowhere/tokenizer.json': "), "{error}");
    let error = read(&json!({"model_type": "bert"}), |_| ()).unwrap_err();
    assert!(
        error.message().contains("tokenizer.json' is no tokenizer.json of Hugging Face's `tokenizers`: "),
        "{error}"
    );
}

#[test]
fn the_example_has_the_highest_number() {
    let mut definition = definition();
    definition["model"]["vocab"]["zebra"] = json!(99);
    let tokenizer = read(&definition, |_| ()).unwrap();
    assert_eq!(tokenizer.example(), "This is an example zebra");
    assert!(tokenizer.encode(b"This is an example zebra").unwrap().ids.contains(&99));
}

/// A tokenizer that splits as GPT-2's does, with a token for each byte.
fn of_bytes() -> Value {
    let bytes = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').chain('\u{100}'..='\u{143}');
    let vocab: serde_json::Map<String, Value> =
        bytes.zip(0..).map(|(byte, id)| (byte.to_string(), json!(id))).collect();
    let split = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": split, "post_processor": null, "decoder": split,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
    })
}

/// A text of words, signs and white space of all kinds, long enough to be read in parts.
fn long_text() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-zA-Z0-9]{1,6}|[ \t\n]{1,3}| |[.,'!]|é|e\u{301}|一|я|👍", 200..900)
        .prop_map(|all| all.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_first_words_give_the_first_tokens(text in long_text(), limit in 4usize..40, kind in 0..3) {
        let mut definition = if kind == 0 { of_bytes() } else { definition() };
        if kind == 2 {
            definition["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
                {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}]});
        }
        let mut tokenizer = read(&definition, |spec| spec.max_length = Some(limit)).unwrap();
        prop_assert!(tokenizer.is_local);
        let short = tokenizer.encode(text.as_bytes()).unwrap();
        tokenizer.is_local = false;
        prop_assert_eq!(&short, &tokenizer.encode(text.as_bytes()).unwrap());
        // And the limit takes away from the end of what there is without one.
        tokenizer.limit = None;
        let all = tokenizer.encode(text.as_bytes()).unwrap();
        let room = limit - tokenizer.special;
        let start = tokenizer.special / 2;
        prop_assert_eq!(short.truncated, all.ids.len() > limit);
        prop_assert_eq!(&short.ids[start..][..room], &all.ids[start..][..room]);
    }
}
