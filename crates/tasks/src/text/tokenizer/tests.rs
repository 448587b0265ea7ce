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
fn a_text_is_cut_where_nothing_says_how_long_it_may_be() {
    let text = "a ".repeat(2000);
    let mut definition = definition();
    assert_eq!(read(&definition, |_| ()).unwrap().encode(text.as_bytes()).unwrap().ids.len(), USUAL_LENGTH);
    // How tokenizers say that nothing is cut.
    definition["truncation"] =
        json!({"direction": "Right", "max_length": 1u64 << 60, "strategy": "LongestFirst", "stride": 0});
    assert_eq!(read(&definition, |_| ()).unwrap().encode(text.as_bytes()).unwrap().ids.len(), USUAL_LENGTH);
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

#[test]
fn words_that_would_take_long_are_unknown() {
    let mut definition = definition();
    definition["model"]["max_input_chars_per_word"] = json!(1_000_000);
    let tokenizer = read(&definition, |_| ()).unwrap();
    let count = |word: String| tokenizer.encode(word.as_bytes()).unwrap().ids.len();
    assert_eq!((count("a".repeat(256)), count("a".repeat(257))), (258, 3));
    // Kana are not split by BERT's rules: this is one word.
    assert_eq!(count("か".repeat(300_000)), 3);
}

#[test]
fn an_example_is_never_too_long() {
    for limit in 3..9 {
        let tokenizer = read(&definition(), |spec| {
            spec.max_length = Some(limit);
            spec.overlong = Overlong::Refuse;
        });
        let tokenizer = tokenizer.unwrap();
        assert!(tokenizer.encode(tokenizer.example().as_bytes()).is_ok(), "{limit}");
    }
}

/// A tokenizer of byte pairs, of which a few are joined, that splits as GPT-2's does.
fn of_bytes() -> Value {
    let bytes = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').chain('\u{100}'..='\u{143}').chain(['▁']);
    let mut vocab: serde_json::Map<String, Value> =
        bytes.zip(0..).map(|(byte, id)| (byte.to_string(), json!(id))).collect();
    let merges = ["a b", "b c", "ab c", "Ġ a", "Ġ b", "▁ a", "Ġ Ġ", ". ."];
    for merge in merges {
        vocab.insert(merge.replace(' ', ""), json!(vocab.len()));
    }
    let split = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": split, "post_processor": null, "decoder": split,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                  "merges": merges}
    })
}

/// A tokenizer of pieces of words, some of which have several letters.
fn of_pieces() -> Value {
    let mut definition = definition();
    let pieces = ["ab", "abc", "ca", "bca", "..", "e1"].map(|word| [word.to_owned(), format!("##{word}")]);
    for (piece, id) in pieces.iter().flatten().zip(100..) {
        definition["model"]["vocab"][piece] = json!(id);
    }
    definition
}

/// The tokenizers of which the first words of a text are the first tokens.
fn local_ones() -> impl Strategy<Value = Value> {
    let spaces = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let mut signs = of_bytes();
    signs["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]});
    prop_oneof![Just(of_bytes()), Just(of_pieces()), Just(signs)]
}

/// A text of words, signs and white space of all kinds.
fn text(parts: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let part = "[a-ce1]{1,9}|[ \t\n]{1,3}| |  {1,30}|[.,'!]|\\.\\.|é|e\u{301}|\u{301}|一|я|👍";
    prop::collection::vec(part, parts).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn a_beginning_has_the_first_tokens(definition in local_ones(), text in text(1..60), part in 0.0..1.0f64) {
        let tokenizer = read(&definition, |_| ()).unwrap();
        prop_assert!(tokenizer.is_local);
        let whole = tokenizer.tokenize(&text).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within a short text")]
        let size = (text.len() as f64 * part) as usize;
        if let Some(beginning) = prefix::before_space(&text, size) {
            let first = tokenizer.tokenize(beginning).unwrap();
            prop_assert!(whole.get_ids().starts_with(first.get_ids()), "{:?} of {:?}", beginning, text);
        }
    }

    #[test]
    fn a_text_read_in_parts_is_cut_alike(definition in local_ones(), text in text(200..600), limit in 4usize..60) {
        let mut tokenizer = read(&definition, |spec| spec.max_length = Some(limit)).unwrap();
        let short = tokenizer.encode(text.as_bytes()).unwrap();
        tokenizer.is_local = false;
        prop_assert_eq!(&short, &tokenizer.encode(text.as_bytes()).unwrap());
        // And the limit takes away from the end of what there is without one.
        tokenizer.limit = LARGEST_LENGTH;
        let all = tokenizer.encode(text.as_bytes()).unwrap();
        let kept = (limit - tokenizer.special).min(all.ids.len() - tokenizer.special);
        let start = tokenizer.special / 2;
        prop_assert_eq!(short.truncated, all.ids.len() > limit);
        prop_assert_eq!(&short.ids[start..][..kept], &all.ids[start..][..kept]);
    }
}
