use proptest::prelude::*;

use super::*;

#[test]
fn ordinary_paths_are_kept() {
    for path in [
        "model",
        "model/MLmodel",
        "a b/ü.txt",
        "a.b/..c/d..",
        "...",
        "100%.txt",
        "50%25.txt",
        "a%20b",
        "loss:train.png",
        "1:2",
        "a/C:/b",
        "12:30/x",
        "a#b",
        "%zz",
    ] {
        assert_eq!(artifact_path(path).unwrap(), path);
    }
}

#[test]
fn one_slash_at_the_end_is_dropped() {
    assert_eq!(artifact_path("model/data/").unwrap(), "model/data");
    assert!(artifact_path("model//").is_err());
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in [
        "",
        "/",
        ".",
        "..",
        "./",
        "../",
        "/a",
        "//a",
        "a//b",
        "a/./b",
        "a/../b",
        "../a",
        "a/..",
        "a/.",
        "a\\b",
        "..\\a",
        "a\0",
        "a\nb",
        "a\u{7f}",
        "a\u{85}",
        "C:",
        "c:/a",
        "C:a",
        "C:\\a",
        "file:a",
        "FILE:a",
        "file:///a",
        "s3://b/c",
        "runs:/x/y",
        "mlflow-artifacts:/1",
        "dbfs:",
    ] {
        let error = artifact_path(path).expect_err(path);
        assert!(error.message().starts_with("Invalid path"), "{error}");
    }
}

#[test]
fn decoding_reveals_nothing_new() {
    for path in [
        "%2e%2e/a",
        "a/%2E./b",
        "a%2f..%2fb",
        "%2fa",
        "a%5cb",
        "a%00",
        "a%0ab",
        "%252e%252e/a",
        "%25252e./a",
        "%43%3a/a",
        "%66ile:a",
        "a%2f",
        "a%ff",
        "a/%2e",
    ] {
        assert!(artifact_path(path).is_err(), "{path}");
        assert!(!artifact_path(path).expect_err(path).message().contains('\0'));
    }
}

#[test]
fn paths_and_the_depth_of_their_encoding_are_bounded() {
    assert!(artifact_path(&"a".repeat(MAX_ARTIFACT_PATH_BYTES)).is_ok());
    assert!(artifact_path(&"a".repeat(MAX_ARTIFACT_PATH_BYTES + 1)).is_err());
    let encoded = |times: usize| format!("a%{}41", "25".repeat(times));
    assert!(artifact_path(&encoded(MAX_DECODINGS - 1)).is_ok());
    assert!(artifact_path(&encoded(MAX_DECODINGS)).is_err());
}

#[test]
fn sources_that_climb_are_found() {
    for uri in [
        "../a",
        "s3://b/../c",
        "s3://b/..",
        "file:///a/%2e%2e/b",
        "s3://b/%252e%252e/c",
        "https://h/a?p=../b",
        "https://h/a#..",
        "a\\b",
        "a%5cb",
        "s3://b/\0",
        "s3://b/%00",
        "s3://b/.\t./c",
        "..",
        "http://h/..;x/y",
    ] {
        assert!(uri_has_traversal(uri), "{uri:?}");
    }
    let deep = format!("s3://b/%{}2e./c", "25".repeat(100_000));
    assert!(uri_has_traversal(&deep));
}

#[test]
fn sources_that_stay_pass() {
    for uri in [
        "",
        "s3://bucket/a/b..c/..d",
        "models:/m-0123",
        "models:/name/3",
        "runs:/0123/model",
        "mlflow-artifacts:/1/2/artifacts",
        "https://h:8080/a%20b?x=1&y=.",
        "gs://b/größe",
        "dbfs:/a/./b",
        "100%",
    ] {
        assert!(!uri_has_traversal(uri), "{uri}");
    }
}

/// Encodes a byte as often as `times` says.
fn encode(byte: u8, times: usize) -> String {
    match times {
        0 => char::from(byte).to_string(),
        _ => format!("%{}{byte:02x}", "25".repeat(times - 1)),
    }
}

proptest! {
    #[test]
    fn an_accepted_path_has_plain_parts(path in prop_oneof![any::<String>(), "[a./%25e:\\\\]{0,12}"]) {
        if let Ok(kept) = artifact_path(&path) {
            let decoded = percent_encoding::percent_decode_str(&kept).decode_utf8().unwrap().into_owned();
            for form in [kept.as_str(), &decoded] {
                prop_assert!(form.split('/').all(|part| !matches!(part, "" | "." | "..")), "{}", form);
            }
            prop_assert_eq!(artifact_path(&kept).ok(), Some(kept));
        }
    }

    #[test]
    fn no_encoding_hides_a_parent(depths in prop::array::uniform4(0_usize..6)) {
        let hidden: String = b"/../".iter().zip(depths).map(|(byte, times)| encode(*byte, times)).collect();
        let path = format!("a{hidden}b");
        prop_assert!(artifact_path(&path).is_err());
        prop_assert!(uri_has_traversal(&path));
    }

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let _ = artifact_path(&text);
        let _ = uri_has_traversal(&text);
    }
}
