//! Texts, pictures and columns: one or many, in every form, and the answers about them.

use salver_core::Shape;

use super::*;
use crate::samples::{PICTURE, columns, pictures, text_classes, text_entities, text_vectors, zero_shot};

fn bytes(tensor: &Tensor) -> Vec<&[u8]> {
    tensor.elements().unwrap().iter().collect()
}

fn typed(info: &ModelInfo, content_type: &str, body: impl AsRef<[u8]>) -> Result<Vec<Tensor>> {
    let body = Bytes::copy_from_slice(body.as_ref());
    let content_type = Some(content_type).filter(|media| !media.is_empty());
    let request = decode_predict(body, content_type, reference(), info, &Limits::default())?;
    info.signature.check("m", request.inputs)
}

#[track_caller]
fn check(info: &ModelInfo, content_type: &str, body: impl AsRef<[u8]>, expected: &[&[u8]]) {
    let tensors = typed(info, content_type, &body).unwrap();
    assert_eq!(bytes(&tensors[0]), expected, "{}", body.as_ref().escape_ascii());
    assert_eq!(**tensors[0].shape(), [expected.len()]);
}

#[track_caller]
fn refused_as(info: &ModelInfo, content_type: &str, body: impl AsRef<[u8]>, expected: &str) {
    let error = typed(info, content_type, &body).unwrap_err();
    assert!(error.message().contains(expected), "{}: {error}", body.as_ref().escape_ascii());
}

#[test]
fn texts_come_one_or_many_in_every_form() {
    let info = text_classes();
    for body in [
        r#"{"text": "a"}"#,
        r#"{"text": ["a"]}"#,
        r#"[{"text": "a"}]"#,
        r#"{"row": {"text": "a"}}"#,
        r#"{"rows": [{"text": "a"}]}"#,
        r#"{"inputs": {"text": "a"}}"#,
        r#""a""#,
        r#"["a"]"#,
    ] {
        check(&info, "application/x-www-form-urlencoded", body, &[b"a"]);
    }
    check(&info, "", r#"{"text": ["a", "ß"]}"#, &[b"a", "ß".as_bytes()]);
    check(&info, "", r#"[{"text": "a"}, {"text": ""}]"#, &[b"a", b""]);
    check(&info, "text/plain; charset=UTF-8", r#"{"text": "a"}"#, &[br#"{"text": "a"}"#]);
    check(&info, "Text/Plain", "a\n", &[b"a\n"]);
    refused_as(&info, "text/plain; charset=latin1", "a", "the text is in latin1; expected charset=utf-8");
    refused_as(&info, "image/png", PICTURE, "the body is image/png; expected text/plain, a form, or JSON");
    refused_as(&info, "application/octet-stream", "a", "expected text/plain, a form, or JSON");
    refused_as(&info, "", r#"{"texts": "a"}"#, "no input 'texts'; expected the keys 'text'");
    refused_as(
        &info,
        "",
        r#"[{"text": "a"}, {"text": 7}]"#,
        "row 1, 'text': element 1: expected BYTES (a string), got a number",
    );
}

#[test]
fn pictures_come_as_base64_or_as_they_are() {
    let info = pictures();
    let coded = ["iVBORw0KGgo=", "iVBORw0KGgo", "data:image/png;base64,iVBORw0KGgo=", "iVBORw0K\\nGgo="];
    for text in coded {
        check(&info, "application/json", format!(r#"{{"image": "{text}"}}"#), &[PICTURE]);
        check(&info, "", format!(r#" [{{"image": "{text}"}}, {{"image": "{text}"}}]"#), &[PICTURE, PICTURE]);
        check(&info, "", format!(r#"{{"image": ["{text}", "{text}"]}}"#), &[PICTURE, PICTURE]);
        check(&info, "", format!(r#""{text}""#), &[PICTURE]);
    }
    check(&info, "", r#"{"image": {"b64": "iVBORw0KGgo="}}"#, &[PICTURE]);
    for media in ["image/png", "IMAGE/webp", "application/octet-stream", "application/x-www-form-urlencoded", ""] {
        check(&info, media, PICTURE, &[PICTURE]);
    }
    // Only the type of the body says that these are pictures: the model may say that they are none.
    check(&info, "image/png", "[]", &[b"[]"]);
    refused_as(&info, "application/json", PICTURE, "expected BYTES (a string), got what is no JSON at byte 0");
    refused_as(&info, "video/mp4", PICTURE, "the body is video/mp4; expected a picture (image/*)");
    refused_as(
        &info,
        "",
        r#"[{"image": "iVBORw0KGgo="}, {"image": "cat.jpg"}]"#,
        "row 1, 'image': element 1: expected base64",
    );
    refused_as(&info, "", r#"{"image": 7}"#, "input 'image': element 0: expected BYTES");
}

fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let part = |(name, content): &(&str, &[u8])| {
        let head = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    [fields.iter().flat_map(part).collect::<Vec<u8>>(), b"--XX--\r\n".to_vec()].concat()
}

#[test]
fn the_files_of_a_form_are_rows() {
    let media = "multipart/form-data; boundary=XX";
    let fields: &[(&str, &[u8])] = &[("image", PICTURE), ("file", b"two"), ("image[]", b"three"), ("file", b"")];
    check(&pictures(), media, form(fields), &[PICTURE, b"two", b"three", b""]);
    check(&text_vectors(), media, form(&[("text", b"a"), ("file", b"b")]), &[b"a", b"b"]);
    refused_as(&pictures(), media, form(&[]), "the form has no field 'image' or 'file'");
    refused_as(&pictures(), media, form(&[("picture", b"")]), "the field 'picture', which model 'm' does not know");
    refused_as(&pictures(), media, form(&[("text", b"")]), "expected 'image' or 'file'");
    refused_as(&pictures(), "multipart/form-data", form(&[]), "has no boundary");
    let labels = form(&[("text", b"a"), ("labels", b"x"), ("text", b"b"), ("labels", b"y")]);
    let tensors = typed(&zero_shot(), media, labels).unwrap();
    assert_eq!(bytes(&tensors[1]), [b"x", b"y", b"x", b"y"]);
    // Of tensors, the type of a body is not looked at.
    assert!(typed(&iris(), media, "[1, 2, 3, 4]").is_ok());
}

#[track_caller]
fn check_labels(body: &str, shape: &[usize], expected: &[&str]) {
    let tensors = typed(&zero_shot(), "", body).unwrap();
    assert_eq!(tensors[1].shape(), &Shape::from_iter(shape.iter().copied()), "{body}");
    assert_eq!(bytes(&tensors[1]), expected.iter().map(|label| label.as_bytes()).collect::<Vec<_>>(), "{body}");
}

#[test]
fn labels_are_those_of_each_row_or_of_all() {
    check_labels(r#"{"text": "t", "labels": ["a", "b"]}"#, &[1, 2], &["a", "b"]);
    check_labels(r#"{"text": ["t", "u"], "labels": ["a", "b"]}"#, &[2, 2], &["a", "b", "a", "b"]);
    check_labels(r#"{"labels": [["a", "b"]], "text": ["t", "u"]}"#, &[2, 2], &["a", "b", "a", "b"]);
    check_labels(r#"{"text": ["t", "u"], "labels": [["a"], ["b"]]}"#, &[2, 1], &["a", "b"]);
    check_labels(r#"[{"text": "t", "labels": ["a"]}, {"text": "u", "labels": ["b"]}]"#, &[2, 1], &["a", "b"]);
    check(&zero_shot(), "", r#"{"text": ["t", "u"]}"#, &[b"t", b"u"]);
    check(&zero_shot(), "", r#""t""#, &[b"t"]);
    check(&zero_shot(), "text/plain", "t", &[b"t"]);
}

#[test]
fn labels_of_different_number_name_their_row() {
    let info = zero_shot();
    let expected = "2 labels, the rows before have 1; give every row as many, or one list for all rows";
    let rows = r#"[{"text": "t", "labels": ["a"]}, {"text": "u", "labels": ["b", "c"]}]"#;
    refused_as(&info, "", rows, &format!("row 1, 'labels': {expected}"));
    let lists = r#"{"text": ["t", "u", "v"], "labels": [["a"], ["b"], ["c", "d"]]}"#;
    refused_as(&info, "", lists, &format!("row 2 has {expected}"));
    refused_as(&info, "", r#"[{"text": "t", "labels": ["a"]}, {"text": "u"}]"#, "'labels' is given in 1 of 2 rows");
    refused_as(&info, "", r#"{"text": ["t", "u", "v"], "labels": [["a"], ["b"]]}"#, "batch size");
}

#[test]
fn labels_for_many_rows_are_bounded() {
    let texts = vec!["\"t\""; 5000].join(",");
    let labels = vec!["\"a\""; 5000].join(",");
    let body = format!(r#"{{"text": [{texts}], "labels": [{labels}]}}"#);
    refused_as(&zero_shot(), "", body, "5000 labels for each of 5000 rows are too many together");
}

#[test]
fn columns_come_as_rows_with_what_is_missing() {
    let info = columns();
    let row = r#"{"town": "Rome", "visits": 2, "paid": 1.5, "age": 31}"#;
    for body in [row.to_owned(), format!("[{row}]"), format!(r#"{{"row": {row}}}"#), format!(r#"{{"rows": [{row}]}}"#)]
    {
        let tensors = typed(&info, "", &body).unwrap();
        assert_eq!(tensors[0].to_vec::<f64>().unwrap(), [31.0], "{body}");
        assert_eq!(tensors[1].to_vec::<i64>().unwrap(), [2], "{body}");
        assert_eq!(bytes(&tensors[3]), [b"Rome"], "{body}");
    }
    let some = r#"[{"visits": 1, "paid": 1}, {"visits": 2, "paid": 2, "age": null, "town": "Rome"},
                   {"visits": 3, "paid": 3, "age": true, "town": null}, {"visits": 4, "paid": 4}]"#;
    let tensors = typed(&info, "", some).unwrap();
    let ages = tensors[0].to_vec::<f64>().unwrap();
    assert_eq!(ages.iter().map(|age| age.is_nan()).collect::<Vec<_>>(), [true, true, false, true]);
    assert_eq!(ages[2], 1.0);
    assert_eq!(bytes(&tensors[3]), [&b""[..], b"Rome", b"", b""]);
    // What no row has is left out as a whole.
    assert_eq!(typed(&info, "", r#"{"visits": 1, "paid": 1}"#).unwrap().len(), 2);
    let lists = typed(&info, "", r#"{"age": [null, 7], "visits": [1, 2], "paid": [0, 1], "town": ["Rome", null]}"#);
    assert_eq!(bytes(&lists.unwrap()[3]), [&b"Rome"[..], b""]);
}

#[test]
fn a_wrong_value_names_its_row_column_and_type() {
    let info = columns();
    let row = r#"{"visits": 1, "paid": 1}"#;
    let eighteen = |last: &str| format!("[{}{last}]", format!("{row},").repeat(17));
    for (last, expected) in [
        (
            r#"{"visits": "two", "paid": 1}"#,
            "row 17, 'visits': expected INT64 (a whole number of 64 bits), got a string",
        ),
        (r#"{"visits": 1.5, "paid": 1}"#, "row 17, 'visits': expected INT64 (a whole number of 64 bits), got 1.5"),
        (r#"{"visits": 1, "paid": null}"#, "row 17, 'paid': expected FP64 (a number), got null"),
        (r#"{"visits": 1, "paid": [1]}"#, "row 17, 'paid': expected FP64 (a number), got a list"),
        (r#"{"visits": 1, "paid": true}"#, "row 17, 'paid': expected FP64 (a number), got a boolean"),
        (r#"{"visits": 1, "paid": 1, "town": 7}"#, "row 17, 'town': expected BYTES (a string), got a number"),
        (r#"{"visits": 1}"#, "row 17 lacks 'paid'; expected the keys 'age', 'visits', 'paid', 'town'"),
        (r#"{"visits": 1, "paid": 1, "twon": ""}"#, "row 17 has the key 'twon'"),
    ] {
        refused_as(&info, "", eighteen(last), expected);
    }
    refused_as(&info, "", r#"{"visits": null, "paid": 1}"#, "row 0, 'visits': expected INT64");
    refused_as(&info, "", "{}", "row 0 lacks 'visits'");
}

#[test]
fn rows_of_nothing_are_counted_and_bounded() {
    let mut info = columns();
    info.signature.inputs.retain(|spec| spec.optional);
    info.columns.truncate(2);
    let tensors = typed(&info, "", "[{}, {}]").unwrap();
    assert_eq!((tensors.len(), **tensors[0].shape() == [2]), (1, true));
    let many = format!("[{}{{}}]", "{},".repeat(1 << 22));
    let error = typed(&info, "", many).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}

#[test]
fn a_table_without_a_task_reads_null_as_before() {
    let mut info = columns();
    info.example.clear();
    let tensors = decode(&info, r#"{"age": [1], "visits": [1], "paid": [null], "town": ["a"]}"#).unwrap();
    assert!(tensors[2].to_vec::<f64>().unwrap()[0].is_nan());
}

fn classes(width: usize) -> Vec<Tensor> {
    let labels: Vec<&[u8]> = [&b"cat"[..], b"dog", b"\"owl\"", b"ant"][..2 * width].to_vec();
    vec![
        Tensor::from_elements("label", [2, width], labels.into_iter().collect()).unwrap(),
        Tensor::from_slice("score", [2, width], &[0.75f32, 0.25, 0.5, f32::NAN][..2 * width]).unwrap(),
        Tensor::from_slice("tokens", [2], &[7i32, 8]).unwrap(),
        Tensor::from_slice("truncated", [2], &[false, true]).unwrap(),
    ]
}

#[test]
fn classes_are_answered_best_first() {
    assert_eq!(
        answer(text_classes(), classes(2))["predictions"],
        json!([
            {"label": "cat", "score": 0.75, "tokens": 7, "truncated": false,
             "labels": [{"label": "cat", "score": 0.75}, {"label": "dog", "score": 0.25}]},
            {"label": "\"owl\"", "score": 0.5, "tokens": 8, "truncated": true,
             "labels": [{"label": "\"owl\"", "score": 0.5}, {"label": "ant", "score": null}]},
        ])
    );
    assert_eq!(
        answer(zero_shot(), classes(1))["predictions"][1],
        json!({"label": "dog", "score": 0.25, "tokens": 8, "truncated": true})
    );
    let none = classes(0);
    assert_eq!(
        answer(pictures(), none[..3].to_vec())["predictions"][0],
        json!({"label": null, "score": null, "tokens": 7})
    );
    // Whatever an answer lacks, the rest is there.
    assert_eq!(
        answer(pictures(), classes(1)[..1].to_vec())["predictions"],
        json!([{"label": "cat"}, {"label": "dog"}])
    );
}

#[test]
fn vectors_are_lists_even_of_one_number() {
    let vectors = Tensor::from_slice("embedding", [2, 1], &[0.5f32, f32::NAN]).unwrap();
    assert_eq!(
        answer(text_vectors(), vec![vectors])["predictions"],
        json!([{"embedding": [0.5]}, {"embedding": [null]}])
    );
}

#[test]
fn entities_stand_as_json_only_if_they_are() {
    let found = r#"[{"entity": "PER", "score": 0.5, "start": 0, "end": 3, "text": "\u00dcte"}]"#;
    let rows: Vec<&[u8]> = vec![found.as_bytes(), b"[]", b"[1,", b"1}, {\"a\": 2", b"NaN", b"\xff", b""];
    let tensor = Tensor::from_elements("entities", [rows.len()], rows.into_iter().collect()).unwrap();
    let value = answer(text_entities(), vec![tensor]);
    let entities: Vec<&Value> = value["predictions"].as_array().unwrap().iter().map(|row| &row["entities"]).collect();
    assert_eq!(entities[0][0]["text"], "Üte");
    let expected = [json!([]), json!("[1,"), json!("1}, {\"a\": 2"), json!("NaN"), json!({"b64": "/w=="}), json!("")];
    assert_eq!(entities[1..], expected.iter().collect::<Vec<_>>());
}

#[test]
fn the_example_of_a_task_is_accepted_by_its_model() {
    let all = [text_classes(), text_vectors(), text_entities(), zero_shot(), pictures(), columns()];
    for info in all {
        let mut bare = info.clone();
        bare.example.clear();
        for info in [info, bare].iter().filter(|info| !example(info).is_null()) {
            let body = example(info).to_string();
            typed(info, "application/json", &body).unwrap_or_else(|error| panic!("{body}: {error:?}"));
        }
    }
    assert_eq!(example(&text_vectors()), json!({"text": "a text"}));
    assert_eq!(example(&pictures()), json!({"image": "iVBORw0KGgo="}));
    assert_eq!(example(&columns()), json!({"age": 38.5, "visits": 1, "paid": 0.0, "town": "Rome"}));
    assert_eq!(sample_file(&pictures()), Some("picture.jpg"));
    assert_eq!(sample_file(&text_vectors()), None);
    let mut huge = pictures();
    huge.example = vec![Tensor::from_elements("image", [1], [vec![0; 1 << 20]].into_iter().collect()).unwrap()];
    assert_eq!(example(&huge), Value::Null);
    huge.example.clear();
    assert_eq!(example(&huge), Value::Null);
}
