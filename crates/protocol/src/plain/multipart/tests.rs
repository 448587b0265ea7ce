use proptest::prelude::*;
use salver_core::ErrorKind;

use super::*;

fn read(body: &str) -> Result<Vec<(String, String)>> {
    let text = |content: &[u8]| String::from_utf8(content.to_vec()).unwrap();
    Ok(parts(body.as_bytes(), "XX")?.into_iter().map(|part| (part.name, text(part.content))).collect())
}

#[track_caller]
fn check(body: &str, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect();
    assert_eq!(read(body).unwrap(), expected, "{body:?}");
}

#[track_caller]
fn refused(body: &str, kind: ErrorKind, expected: &str) {
    let error = read(body).unwrap_err();
    assert_eq!(error.kind(), kind, "{body:?}");
    assert!(error.message().contains(expected), "{body:?}: {error}");
}

fn field(name: &str, content: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
}

#[test]
fn fields_and_files_are_read_as_they_are() {
    check(&format!("{}--XX--\r\n", field("a", "1")), &[("a", "1")]);
    check(&format!("{}{}--XX--", field("a", ""), field("a", "\r\n--X\r\n")), &[("a", ""), ("a", "\r\n--X\r\n")]);
    let file = "--XX \t\r\ncontent-type: image/png\r\ncontent-disposition: form-data; filename=\"a;name=b\\\".png\"; \
                name=image\r\n\r\nbytes\r\n--XX--and more";
    check(file, &[("image", "bytes")]);
    check(&format!("a preamble\r\n{}--XX--", field("a", "1")), &[("a", "1")]);
    check("--XX--", &[]);
}

#[test]
fn what_is_not_complete_is_refused() {
    for (body, expected) in [
        ("", "does not have its boundary 'XX'"),
        ("--XY\r\n\r\n", "does not have its boundary"),
        ("--XX", "ends within part 0"),
        ("--XXY\r\n\r\n\r\n--XX--", "ends within part 0"),
        ("--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nbytes", "ends within part 0"),
        ("--XX\r\nContent-Disposition: form-data; name=a\r\n--XX--", "ends within part 0"),
        ("--XX\r\n\r\nbytes\r\n--XX--", "part 0 of the form has no field name"),
    ] {
        refused(body, ErrorKind::InvalidInput, expected);
    }
    refused(&format!("{}--XX", field("a", "1")), ErrorKind::InvalidInput, "ends within part 1");
    let coded = field("a", "1").replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n");
    refused(&format!("{coded}--XX--"), ErrorKind::InvalidInput, "is in 'base64'");
}

#[test]
fn parts_and_headers_are_bounded() {
    let many = field("a", "1").repeat(MOST_PARTS);
    assert_eq!(read(&format!("{many}--XX--")).unwrap().len(), MOST_PARTS);
    refused(&format!("{many}{}--XX--", field("a", "1")), ErrorKind::TooLarge, "more than 4096 parts");
    let long = format!("--XX\r\nA: {}\r\n\r\n1\r\n--XX--", "a".repeat(MOST_HEADER_BYTES));
    refused(&long, ErrorKind::TooLarge, "headers of more than 8192 bytes");
}

#[test]
fn boundaries_and_parameters_are_found() {
    assert_eq!(boundary("multipart/form-data; boundary=XX").unwrap(), "XX");
    assert_eq!(boundary("multipart/form-data; charset=utf-8;Boundary=\"a b\"").unwrap(), "a b");
    for bad in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\""] {
        assert!(boundary(bad).is_err(), "{bad}");
    }
    assert!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))).is_err());
    assert_eq!(parameter("form-data; flag; name=a", "name").as_deref(), Some("a"));
    assert_eq!(parameter("form-data; name=\"a\\\"b", "name").as_deref(), Some("a\"b"));
    assert_eq!(parameter("form-data", "name"), None);
    assert_eq!(parameter("form-data; x=1;", "name"), None);
}

proptest! {
    #[test]
    fn what_a_client_writes_is_read_back(contents in prop::collection::vec("[-X\\r\\n a]{0,12}", 0..6)) {
        // Clients choose a boundary that no line begins with.
        prop_assume!(contents.iter().all(|content| !format!("\r\n{content}").contains("\r\n--XX")));
        let body: String = contents.iter().map(|content| field("a", content)).collect();
        let read = read(&format!("{body}--XX--\r\n")).unwrap();
        prop_assert_eq!(read, contents.into_iter().map(|content| ("a".to_owned(), content)).collect::<Vec<_>>());
    }
}
