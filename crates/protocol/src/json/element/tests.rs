//! Numbers at their limits, and messages that say where.

use proptest::prelude::*;

use super::*;

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
}
