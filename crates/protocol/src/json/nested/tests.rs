//! Shapes are found, ragged lists are not forgiven, and what is written reads back.

use proptest::prelude::*;

use super::super::styled::{self, Style};
use super::*;

fn read_as(dtype: DataType, leaves: Leaves, json: &str) -> Result<Tensor> {
    let mut reader = read::reader(json.as_bytes());
    let mut nested = Nested::new(dtype, leaves);
    let peek = reader.peek().or_not_json()?;
    nested.value(&mut reader, peek)?;
    reader.finish().or_not_json()?;
    nested.finish("x")
}

#[track_caller]
fn check_shape(json: &str, expected: &[usize]) {
    assert_eq!(**read_as(DataType::Fp32, Leaves::NullIsNan, json).unwrap().shape(), *expected, "{json}");
}

#[track_caller]
fn refused(json: &str, expected: &str) {
    let error = read_as(DataType::Fp32, Leaves::NullIsNan, json).unwrap_err();
    assert!(error.message().contains(expected), "{json}: {error:?}");
}

#[test]
fn the_shape_is_that_of_the_lists() {
    check_shape("1", &[]);
    check_shape("[]", &[0]);
    check_shape("[1]", &[1]);
    check_shape("[[1,2,3],[4,5,6]]", &[2, 3]);
    check_shape("[[],[]]", &[2, 0]);
    check_shape("[[[1],[2]],[[3],[4]],[[5],[6]]]", &[3, 2, 1]);
    check_shape("[[[]],[[]]]", &[2, 1, 0]);
}

#[test]
fn ragged_lists_are_refused_whichever_way_they_are() {
    refused("[[1,2],[3]]", "a list of 1 follows lists of 2");
    refused("[[1],[2,3]]", "a list of 2 follows lists of 1");
    refused("[1,[2]]", "a list stands where a value");
    refused("[[1],2]", "a value stands where a list");
    refused("[[],1]", "a value stands where a list");
    refused("[[],[1]]", "a list of 1 follows lists of 0");
    refused("[[1],[[2]]]", "a list stands where a value");
    refused("[[[1],[2]],[[3]]]", "a list of 1 follows lists of 2");
    refused("[[],[[]]]", "a list of 1 follows lists of 0");
}

#[test]
fn dimensions_beyond_the_limit_are_refused_before_recursion() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    check_shape(&nested(64), &[1; 64]);
    refused(&nested(65), "deeper than 64");
    refused(&"[".repeat(1_000_000), "deeper than 64");
}

#[test]
fn elements_are_named_by_their_position() {
    refused("[[1,2],[3,true]]", "element 3: expected FP32");
    refused("[1e999]", "element 0");
    refused("[1,]", "trailing comma");
    refused("[1 2]", "byte 3");
    refused("[1", "EOF");
}

#[test]
fn base64_objects_are_bytes_where_they_are_allowed() {
    let tensor = read_as(DataType::Bytes, Leaves::Base64Objects, r#"["a",{"b64":"/wA="},{"b64":"/w"}]"#).unwrap();
    let elements: Vec<&[u8]> = tensor.elements().unwrap().iter().collect();
    assert_eq!(elements, [&b"a"[..], b"\xff\x00", b"\xff"]);
    for json in [
        r#"[{"b64":"?"}]"#,
        r#"[{"b64":1}]"#,
        r#"[{"b64":"YQ==","x":1}]"#,
        r#"[{"x":"YQ=="}]"#,
        r#"[{}]"#,
        r#"[{"b64":"YQ==""#,
    ] {
        assert!(read_as(DataType::Bytes, Leaves::Base64Objects, json).is_err(), "{json}");
    }
    assert!(read_as(DataType::Bytes, Leaves::NullIsNan, r#"[{"b64":"YQ=="}]"#).is_err());
    assert!(read_as(DataType::Fp32, Leaves::Base64Objects, r#"[{"b64":"YQ=="}]"#).is_err());
}

#[test]
fn null_and_text_stand_for_numbers_only_where_asked() {
    let lenient = read_as(DataType::Fp64, Leaves::Convertible, r#"[null, "1.5", " -2e1 ", "inf", ""]"#).unwrap();
    let values = lenient.to_vec::<f64>().unwrap();
    assert!(values[0].is_nan() && values[4].is_nan());
    assert_eq!(values[1..4], [1.5, -20.0, f64::INFINITY]);
    assert!(read_as(DataType::Fp64, Leaves::NullIsNan, "[null]").unwrap().to_vec::<f64>().unwrap()[0].is_nan());
    for (dtype, leaves, json) in [
        (DataType::Fp64, Leaves::Base64Objects, "[null]"),
        (DataType::Fp64, Leaves::NullIsNan, r#"["1"]"#),
        (DataType::Int32, Leaves::Convertible, "[null]"),
        (DataType::Int32, Leaves::Convertible, r#"["1.5"]"#),
        (DataType::Fp32, Leaves::Convertible, r#"["one"]"#),
        (DataType::Fp32, Leaves::Convertible, r#"["1 2"]"#),
        (DataType::Bytes, Leaves::Convertible, "[null]"),
    ] {
        assert!(read_as(dtype, leaves, json).is_err(), "{dtype} {leaves:?} {json}");
    }
    let flags = read_as(DataType::Bool, Leaves::Convertible, r#"["True", "false", true]"#).unwrap();
    assert_eq!(flags.to_vec::<bool>().unwrap(), [true, false, true]);
}

#[test]
fn rows_read_one_by_one_must_be_alike() {
    let mut reader = read::reader(b"[1,2] [3,4] [5]");
    let mut nested = Nested::new(DataType::Int32, Leaves::NullIsNan);
    nested.row(&mut reader, Peek::Array).unwrap();
    let peek = reader.peek().unwrap();
    nested.row(&mut reader, peek).unwrap();
    let peek = reader.peek().unwrap();
    assert!(nested.row(&mut reader, peek).is_err());
    let mut scalar_rows = Nested::new(DataType::Int32, Leaves::Convertible);
    scalar_rows.text_row("7").unwrap();
    scalar_rows.text_row("8").unwrap();
    assert_eq!(**scalar_rows.finish("x").unwrap().shape(), [2]);
}

proptest! {
    #[test]
    fn what_is_written_reads_back(shape in prop::collection::vec(1usize..4, 0..4), seed in any::<u32>()) {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count as u32)
            .map(|i| f32::from_bits(seed.wrapping_mul(2_654_435_761).wrapping_add(i.wrapping_mul(0x9E37_79B9))))
            .map(|value| if value.is_nan() { f32::INFINITY } else { value })
            .collect();
        let tensor = Tensor::from_slice("x", shape.as_slice(), &values).unwrap();
        let mut out = Vec::new();
        styled::whole(&mut out, &tensor, Style::Tokens).unwrap();
        let back = read_as(DataType::Fp32, Leaves::NullIsNan, std::str::from_utf8(&out).unwrap()).unwrap();
        prop_assert_eq!(back.shape(), tensor.shape());
        prop_assert_eq!(back.bytes(), tensor.bytes());
    }

    #[test]
    fn any_text_is_read_or_refused(json in r#"[\[\]\{\}",:0-9eE.\-ntfNI b64]{0,40}"#) {
        for leaves in [Leaves::Base64Objects, Leaves::NullIsNan, Leaves::Convertible] {
            for dtype in DataType::ALL {
                if let Ok(tensor) = read_as(dtype, leaves, &json) {
                    prop_assert_eq!(tensor.shape().element_count(), Some(tensor.element_count()));
                }
            }
        }
    }
}
