//! What can be said without a store: keys, values, and how rows become outputs.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use salver_core::{
    Constant, DataType, Element, ErrorKind, FeatureRows, FeatureSpec, FeaturesSpec, KeyType, MissingRow, Tensor,
};

use super::answer::Answer;
use super::key::{Asked, Key, shown};
use super::value::{self, MAX_FIELD_BYTES, Value};

fn feature(dtype: DataType, size: usize) -> FeatureSpec {
    FeatureSpec { name: "f".into(), field: "f".to_owned(), dtype, size, is_packed: false, default: None }
}

fn read(feature: &FeatureSpec, field: &[u8]) -> Result<Vec<String>, String> {
    let mut values = Vec::new();
    value::read(feature, field, |value| values.push(told(&value))).map_err(String::from)?;
    Ok(values)
}

fn told(value: &Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Fp32(number) => format!("{number:?}"),
        Value::Fp64(number) => format!("{number:?}"),
        Value::Text(text) => text.to_string(),
    }
}

#[track_caller]
fn reads(dtype: DataType, size: usize, field: &str, expected: &[&str]) {
    assert_eq!(read(&feature(dtype, size), field.as_bytes()).unwrap(), expected, "{field:?}");
}

#[track_caller]
fn refuses(dtype: DataType, size: usize, field: &[u8], expected: &str) {
    let error = read(&feature(dtype, size), field).unwrap_err();
    assert!(error.contains(expected), "{error:?} lacks {expected:?}");
}

#[test]
fn numbers_are_read_as_people_write_them() {
    reads(DataType::Fp32, 1, "30", &["30.0"]);
    reads(DataType::Fp32, 1, " 1e-3\n", &["0.001"]);
    reads(DataType::Fp64, 1, "-0.1", &["-0.1"]);
    reads(DataType::Fp64, 1, "NaN", &["NaN"]);
    reads(DataType::Fp32, 1, "-Infinity", &["-inf"]);
    reads(DataType::Int32, 1, "-2147483648", &["-2147483648"]);
    reads(DataType::Int64, 1, "9223372036854775807", &["9223372036854775807"]);
    for (text, value) in
        [("true", "true"), ("T", "true"), ("1", "true"), ("False", "false"), ("f", "false"), ("0", "false")]
    {
        reads(DataType::Bool, 1, text, &[value]);
    }
    refuses(DataType::Fp32, 1, b"thirty", "a number in the range of FP32");
    refuses(DataType::Fp32, 1, b"1e39", "a number in the range of FP32");
    refuses(DataType::Fp64, 1, b"1e999", "FP64");
    refuses(DataType::Fp32, 1, b"", "a number");
    refuses(DataType::Int32, 1, b"2147483648", "32 bits");
    refuses(DataType::Int64, 1, b"1.0", "64 bits");
    refuses(DataType::Bool, 1, b"yes", "true, false, 1 or 0");
    refuses(DataType::Fp32, 1, b"\xff", "UTF-8");
}

#[test]
fn lists_are_read_in_every_usual_form() {
    for text in ["[1, 2.5, -3]", "1,2.5,-3", "{1,2.5,-3}", " [ 1 ,2.5 , -3 ] "] {
        reads(DataType::Fp32, 3, text, &["1.0", "2.5", "-3.0"]);
    }
    reads(DataType::Bool, 2, "{t,f}", &["true", "false"]);
    reads(DataType::Bytes, 2, r#"["a,b", "\u00e4\""]"#, &["a,b", "ä\""]);
    reads(DataType::Bytes, 2, "a, b", &["a", "b"]);
    reads(DataType::Bytes, 1, " [as it is] ", &[" [as it is] "]);
    refuses(DataType::Fp32, 3, b"[1, 2]", "a list of 3 values, not of 2");
    refuses(DataType::Fp32, 2, b"[]", "not of 0");
    refuses(DataType::Fp32, 2, b"[1, null]", "a number");
    refuses(DataType::Fp32, 2, b"[1, 2", "a number");
    refuses(DataType::Bytes, 2, b"[1, 2]", "a JSON list of texts");
    refuses(DataType::Bytes, 3, b"a,b", "3 texts, not of 2");
}

#[test]
fn packed_fields_have_exactly_their_length() {
    let packed = |dtype, size| FeatureSpec { is_packed: true, ..feature(dtype, size) };
    assert_eq!(read(&packed(DataType::Fp32, 1), &1.5_f32.to_le_bytes()).unwrap(), ["1.5"]);
    assert_eq!(read(&packed(DataType::Bool, 3), &[0, 1, 2]).unwrap(), ["false", "true", "true"]);
    let error = read(&packed(DataType::Int64, 2), &[0; 15]).unwrap_err();
    assert!(error.contains("16 bytes, 2 packed INT64, not 15"), "{error}");
    refuses(DataType::Bytes, 1, &vec![b'a'; MAX_FIELD_BYTES + 1], "at most 1048576 bytes");
}

proptest! {
    #[test]
    fn a_vector_is_the_same_in_every_encoding(numbers in prop::collection::vec(any::<f32>(), 2..40)) {
        let expected: Vec<String> = numbers.iter().map(|number| format!("{number:?}")).collect();
        let list = expected.join(", ");
        let spec = feature(DataType::Fp32, numbers.len());
        prop_assert_eq!(&read(&spec, format!("[{list}]").as_bytes()).unwrap(), &expected);
        prop_assert_eq!(&read(&spec, list.as_bytes()).unwrap(), &expected);
        let packed: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        prop_assert_eq!(&read(&FeatureSpec { is_packed: true, ..spec }, &packed).unwrap(), &expected);
    }

    #[test]
    fn whole_numbers_and_texts_come_back_as_they_were(
        numbers in prop::collection::vec(any::<i64>(), 2..20),
        texts in prop::collection::vec(any::<String>(), 2..10),
    ) {
        let expected: Vec<String> = numbers.iter().map(i64::to_string).collect();
        let spec = feature(DataType::Int64, numbers.len());
        prop_assert_eq!(&read(&spec, expected.join(",").as_bytes()).unwrap(), &expected);
        let json = serde_json::to_string(&texts).unwrap();
        prop_assert_eq!(&read(&feature(DataType::Bytes, texts.len()), json.as_bytes()).unwrap(), &texts);
    }

    #[test]
    fn no_field_upsets_the_reader(field in prop::collection::vec(any::<u8>(), 0..64), size in 1_usize..4, packed: bool) {
        for dtype in [DataType::Fp32, DataType::Fp64, DataType::Int32, DataType::Int64, DataType::Bool, DataType::Bytes] {
            let spec = FeatureSpec { is_packed: packed && dtype != DataType::Bytes, ..feature(dtype, size) };
            if let Ok(values) = read(&spec, &field) {
                prop_assert_eq!(values.len(), size);
            }
        }
    }
}

fn spec(missing: MissingRow, features: Vec<FeatureSpec>) -> FeaturesSpec {
    FeaturesSpec {
        store: "default".into(),
        key: "id".into(),
        key_type: KeyType::Int64,
        rows: FeatureRows::Hash { before: String::new(), after: String::new() },
        missing,
        joined: None,
        timeout: Duration::from_secs(1),
        max_in_flight: 1,
        features,
    }
}

fn age_and_name() -> Vec<FeatureSpec> {
    let age =
        FeatureSpec { name: "age".into(), default: Some(vec![Constant::Float(30.0)]), ..feature(DataType::Fp32, 1) };
    vec![age, FeatureSpec { name: "name".into(), ..feature(DataType::Bytes, 1) }]
}

fn row(fields: &[Option<&'static str>]) -> Vec<Option<Bytes>> {
    fields.iter().map(|field| field.map(|text| Bytes::from_static(text.as_bytes()))).collect()
}

fn vec_of<T: Element>(tensor: &Tensor) -> Vec<T> {
    tensor.to_vec().unwrap()
}

#[test]
fn a_row_that_is_passed_by_means_nothing() {
    let spec = spec(MissingRow::Skip, age_and_name());
    let mut answer = Answer::new(&spec, 4).unwrap();
    answer.push(&Key::Number(1), Some(&row(&[Some("41"), Some("Ada")]))).unwrap();
    answer.push(&Key::Number(2), None).unwrap();
    answer.push(&Key::Number(3), Some(&row(&[None, Some("Bob")]))).unwrap();
    answer.push(&Key::Number(4), Some(&row(&[Some("20"), None]))).unwrap();
    assert_eq!(answer.n_found(), 2);
    let outputs = answer.finish().unwrap();
    assert_eq!(vec_of::<f32>(&outputs[0]), [41.0, 0.0, 30.0, 0.0]);
    assert_eq!(outputs[1].elements().unwrap().iter().collect::<Vec<_>>(), [&b"Ada"[..], b"", b"Bob", b""]);
    assert_eq!((&**outputs[2].name(), vec_of::<bool>(&outputs[2])), ("found", vec![true, false, true, false]));
    assert_eq!(&**outputs[0].shape(), [4, 1]);
}

#[test]
fn what_must_not_be_missing_is_named() {
    let spec = spec(MissingRow::Error, age_and_name());
    let mut answer = Answer::new(&spec, 1).unwrap();
    let error = answer.push(&Key::Text(b"o'\n".to_vec()), None).unwrap_err();
    let expected = "there is no row for key 'o\\'\\n' in the feature store 'default'";
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, expected));
    let error = answer.push(&Key::Number(7), Some(&row(&[None, None]))).unwrap_err();
    let expected = "there is no field 'f' in the row for key 7 in the feature store 'default'";
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, expected));
    let error = answer.push(&Key::Number(7), Some(&row(&[Some("old\u{7}"), Some("x")]))).unwrap_err();
    let expected = "field 'f' of key 7 in the feature store 'default': expected a number in the range of FP32, found \
                    'old\\u{7}'";
    assert_eq!((error.kind(), error.message()), (ErrorKind::Engine, expected));
}

#[test]
fn joined_features_stand_in_their_order() {
    let flag = FeatureSpec { default: Some(vec![Constant::Bool(true)]), ..feature(DataType::Bool, 1) };
    let many = FeatureSpec { default: Some(vec![Constant::Int(7); 2]), ..feature(DataType::Int64, 2) };
    let wide = FeatureSpec { default: Some(vec![Constant::Float(0.5)]), ..feature(DataType::Fp64, 1) };
    let spec = FeaturesSpec { joined: Some("x".into()), ..spec(MissingRow::Default, vec![flag, many, wide]) };
    let mut answer = Answer::new(&spec, 2).unwrap();
    answer.push(&Key::Number(1), Some(&row(&[Some("0"), Some("[1,2]"), Some("2.5")]))).unwrap();
    answer.push(&Key::Number(2), None).unwrap();
    let outputs = answer.finish().unwrap();
    assert_eq!((outputs.len(), &**outputs[0].shape()), (2, &[2, 4][..]));
    assert_eq!(vec_of::<f32>(&outputs[0]), [0.0, 1.0, 2.0, 2.5, 1.0, 7.0, 7.0, 0.5]);
    assert_eq!(vec_of::<bool>(&outputs[1]), [true, false]);
}

#[test]
fn an_answer_has_a_bound() {
    let spec = spec(MissingRow::Skip, vec![feature(DataType::Fp32, 65_536)]);
    let error = Answer::new(&spec, 65).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("at most 64 keys of this model, got 65"), "{error}");
    let many = Tensor::from_slice("id", [65_537, 1], &vec![0_i64; 65_537]).unwrap();
    assert_eq!(Asked::new(&many, KeyType::Int64).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn each_key_is_asked_for_once() {
    let keys = Tensor::from_slice("id", [5, 1], &[3_i64, 1, 3, 2, 1]).unwrap();
    let asked = Asked::new(&keys, KeyType::Int64).unwrap();
    assert_eq!(asked.keys, [Key::Number(3), Key::Number(1), Key::Number(2)]);
    assert_eq!(asked.key_of_row, [0, 1, 0, 2, 1]);
}

#[test]
fn a_long_key_is_refused_and_not_repeated() {
    let long = "x".repeat(1 << 20);
    let keys = Tensor::from_elements("id", [1, 1], [long.as_bytes()].into_iter().collect()).unwrap();
    let error = Asked::new(&keys, KeyType::Text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.message().contains("at most 512 bytes, got one of 1048576") && error.message().len() < 200,
        "{error}"
    );
    assert_eq!(shown(b"a'b\0\n\xff", 64), "a\\'b\\0\\n\u{fffd}");
    assert_eq!(shown("ä".repeat(9).as_bytes(), 4), "ääää…");
}
