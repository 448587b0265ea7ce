//! Depth, syntax, and objects without repeated keys.

use proptest::prelude::*;
use salver_core::ErrorKind;

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

proptest! {
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
