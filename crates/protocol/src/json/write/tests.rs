//! Texts read back to the same bits, and are JSON whatever stands in a string.

use proptest::prelude::*;
use salver_core::Tensor;

use super::*;

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn floats_always_look_like_floats() {
    for (value, expected) in [
        (502.0, "502.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
        (f64::NAN, "NaN"),
        (-f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ] {
        assert_eq!(text(|out| f64(out, value)), expected);
    }
    assert_eq!(text(|out| f32(out, 0.1)), "0.1");
    assert_eq!(text(|out| f32(out, f32::MIN_POSITIVE)), "1.1754944e-38");
}

#[test]
fn elements_beyond_the_tensor_are_refused() {
    let tensor = Tensor::from_slice("t", [2], &[1i32, 2]).unwrap();
    assert_eq!(text(|out| elements(out, &tensor, 1, 1).unwrap()), "2");
    for (start, count) in [(1, 2), (3, 0), (usize::MAX, 1)] {
        assert!(elements(&mut Vec::new(), &tensor, start, count).is_err());
    }
}

proptest! {
    #[test]
    fn strings_are_json(value: String) {
        prop_assert_eq!(serde_json::from_str::<String>(&text(|out| string(out, &value))).unwrap(), value);
    }

    #[test]
    fn floats_read_back(single: f32, double: f64) {
        let read: f32 = text(|out| f32(out, single)).parse().unwrap();
        prop_assert!(read == single || read.is_nan() && single.is_nan());
        let read: f64 = text(|out| f64(out, double)).parse().unwrap();
        prop_assert!(read == double || read.is_nan() && double.is_nan());
    }
}
