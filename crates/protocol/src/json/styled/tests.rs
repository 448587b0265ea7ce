//! Shapes, texts and numbers that JSON has no form for.

use super::*;

#[track_caller]
fn check_text(tensor: &Tensor, style: Style, expected: &str) {
    let mut out = Vec::new();
    whole(&mut out, tensor, style).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn what_is_not_finite_is_a_token_or_null() {
    let tensor = Tensor::from_slice("y", [2, 2], &[f32::NAN, 1.0, f32::INFINITY, -0.5]).unwrap();
    check_text(&tensor, Style::Tokens, "[[NaN,1.0],[Infinity,-0.5]]");
    check_text(&tensor, Style::Nulls, "[[null,1.0],[null,-0.5]]");
}

#[test]
fn bytes_are_text_unless_they_are_none() {
    let tensor = Tensor::from_elements("y", [2], [&b"a\""[..], b"\xff"].into_iter().collect()).unwrap();
    check_text(&tensor, Style::Tokens, r#"["a\"",{"b64":"/w=="}]"#);
    check_text(&tensor, Style::Base64, r#"[{"b64":"YSI="},{"b64":"/w=="}]"#);
}

#[test]
fn tensors_nest_by_their_shape() {
    let check = |shape: &[usize], values: &[i32], expected: &str| {
        check_text(&Tensor::from_slice("t", shape, values).unwrap(), Style::Tokens, expected);
    };
    check(&[], &[7], "7");
    check(&[2], &[1, 2], "[1,2]");
    check(&[2, 1, 2], &[1, 2, 3, 4], "[[[1,2]],[[3,4]]]");
    check(&[2, 0], &[], "[[],[]]");
    check(&[0, 2], &[], "[]");
}

#[test]
fn a_row_is_written_by_the_shape_of_the_rest() {
    let tensor = Tensor::from_slice("y", [2, 2, 1], &[1i64, 2, 3, 4]).unwrap();
    let mut out = Vec::new();
    row(&mut out, &tensor, 1, Style::Tokens).unwrap();
    assert_eq!(out, b"[[3],[4]]");
    let empty = Tensor::from_slice::<f32>("y", [1_000_000_000_000, 0], &[]).unwrap();
    out.clear();
    whole(&mut out, &empty, Style::Tokens).unwrap();
    assert!(out.len() < 4096);
}
