//! Depth, numbers at their limits, and objects without repeated keys.

use proptest::prelude::*;
use salver_core::{DataType, ErrorKind};

use super::*;

#[test]
fn depth_is_counted_outside_strings_only() {
    for (body, depth) in
        [("", 0), ("7", 0), ("[]", 1), ("[[],[]]", 2), ("{\"a\":[{}]}", 3), ("[\"[[[{\",\"\\\"[\"]", 1)]
    {
        assert!(check_depth(body.as_bytes(), depth).is_ok(), "{body}");
        if depth > 0 {
            assert_eq!(check_depth(body.as_bytes(), depth - 1).unwrap_err().kind(), ErrorKind::InvalidInput, "{body}");
        }
    }
    for unfinished in ["\"", "\"\\", "[\"\\", "]]]]"] {
        assert!(check_depth(unfinished.as_bytes(), 1).is_ok(), "{unfinished}");
    }
}

#[test]
fn trees_are_parsed_within_their_depth() {
    assert!(parse(b"[[1, NaN, {\"a\": 18446744073709551615}]]", 3).is_ok());
    for body in [&b"[[[[]]]]"[..], b"[1,]", b"", b"[1] 2", b"\"\xff\"", b"\"\\ud800\"", b"nul", b"{\"a\" 1}"] {
        assert_eq!(parse(body, 3).unwrap_err().kind(), ErrorKind::InvalidInput, "{body:?}");
    }
}

#[test]
fn objects_refuse_repeated_keys() {
    let tree = parse(b"{\"a\":1,\"b\":2}", 3).unwrap();
    let members = object(&tree, "it").unwrap();
    assert_eq!(member(members, "b"), Some(&JsonValue::Int(2)));
    assert_eq!(member(members, "c"), None);
    let error = object(&parse(b"{\"a\":1,\"a\":2}", 3).unwrap(), "it").unwrap_err();
    assert_eq!(error.message(), "it has the key 'a' twice");
    assert_eq!(object(&JsonValue::Null, "it").unwrap_err().message(), "it must be an object, got null");
}

#[test]
fn members_skip_what_they_do_not_know() {
    let mut read = reader(b"{\"x\":[1,{\"a\":\"\\u00e4\"}],\"a\":\"v\",\"x\":2}");
    let mut found = Vec::new();
    members(&mut read, "it", &["a", "b"], 9, |reader, key| {
        found.push((key, string(reader, key)?));
        Ok(())
    })
    .unwrap();
    assert_eq!(found, [("a", "v".to_owned())]);
}

#[track_caller]
fn number(dtype: DataType, text: &str) -> Option<Vec<u8>> {
    let mut packed = Packed::new(dtype, 1);
    push_number(text.as_bytes(), &mut packed).ok()?;
    match packed {
        Packed::Fixed(_, data) => Some(data),
        Packed::Bytes(..) => None,
    }
}

#[test]
fn a_number_stands_alone() {
    assert_eq!(number(DataType::Int16, " -2"), Some(vec![254, 255]));
    assert_eq!(number(DataType::Fp16, "1"), Some(half::f16::ONE.to_le_bytes().to_vec()));
    assert_eq!(number(DataType::Bf16, "1.0"), Some(half::bf16::ONE.to_le_bytes().to_vec()));
    for text in ["", "1 2", "true", "null", "\"1\"", "[1]", "1e999", "01", "1.", "+1", "Inf", "nan"] {
        assert_eq!(number(DataType::Fp64, text), None, "{text}");
    }
    for dtype in [DataType::Bool, DataType::Bytes] {
        assert_eq!(number(dtype, "1"), None);
    }
}

#[test]
fn long_numbers_are_read_up_to_their_bound() {
    let digits = format!("0.{}", "1".repeat(MAX_NUMBER_BYTES - 2));
    assert!(number(DataType::Fp64, &digits).is_some());
    assert_eq!(number(DataType::Fp64, &format!("{digits}1")), None);
}

#[test]
fn messages_say_what_stands_where() {
    let mut packed = Packed::new(DataType::Int8, 0);
    let error = flat(&mut reader(b"[1, [300]]"), 9, &mut packed).unwrap_err();
    assert_eq!(error.message(), "element 1: expected INT8 (a whole number from -128 to 127), got 300 at byte 5");
    let error = flat(&mut reader(b"[1, 1.5]"), 9, &mut packed).unwrap_err();
    assert_eq!(error.message(), "element 1: expected INT8 (a whole number from -128 to 127), got 1.5 at byte 4");
}

proptest! {
    #[test]
    fn integers_read_back(signed: i64, unsigned: u64) {
        prop_assert_eq!(number(DataType::Int64, &signed.to_string()), Some(signed.to_le_bytes().to_vec()));
        prop_assert_eq!(number(DataType::Uint64, &unsigned.to_string()), Some(unsigned.to_le_bytes().to_vec()));
        prop_assert_eq!(number(DataType::Int8, &signed.to_string()), i8::try_from(signed).ok().map(|v| v.to_le_bytes().to_vec()));
    }

    #[test]
    fn doubles_read_as_the_standard_library_reads_them(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
        for text in [format!("{value:?}"), format!("{value:e}"), format!("{value}")] {
            prop_assert_eq!(number(DataType::Fp64, &text), Some(value.to_le_bytes().to_vec()), "{}", text);
        }
    }

    #[test]
    fn depth_agrees_with_a_parser(body in "[\\[\\]{}\",:1a\\\\]{0,30}") {
        // Whatever the scan passes, the parser may walk without meeting a deeper level.
        if check_depth(body.as_bytes(), 3).is_ok() && let Ok(tree) = JsonValue::parse(body.as_bytes(), true) {
            fn deep(value: &JsonValue<'_>) -> usize {
                match value {
                    JsonValue::Array(items) => 1 + items.iter().map(deep).max().unwrap_or(0),
                    JsonValue::Object(members) => 1 + members.iter().map(|(_, value)| deep(value)).max().unwrap_or(0),
                    _ => 0,
                }
            }
            prop_assert!(deep(&tree) <= 3);
        }
    }
}
