//! What stands in a field, as values of a feature.
//!
//! Fields hold text: a number as people write it, `true` or `1`; of several values a list in
//! brackets, with commas between them, or without the brackets. PostgreSQL's columns come as their
//! text too, so both stores are read in one way. Packed fields hold the values' bytes instead.

use std::borrow::Cow;

use salver_core::{DataType, Element as _, FeatureSpec};

/// The longest field in bytes.
pub(super) const MAX_FIELD_BYTES: usize = 1 << 20;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Fp32(f32),
    Fp64(f64),
    Text(Cow<'a, str>),
}

/// Reads a field, and hands its values out in order.
///
/// # Errors
/// What was expected. Some values may have been handed out by then.
pub(super) fn read<'a>(
    feature: &FeatureSpec,
    field: &'a [u8],
    mut hand_out: impl FnMut(Value<'a>),
) -> Result<(), Cow<'static, str>> {
    if field.len() > MAX_FIELD_BYTES {
        return Err(format!("at most {MAX_FIELD_BYTES} bytes, not {}", field.len()).into());
    }
    if feature.is_packed {
        return read_packed(feature, field, hand_out);
    }
    let text = std::str::from_utf8(field).map_err(|_| Cow::Borrowed("text in UTF-8"))?;
    match (feature.dtype, feature.size) {
        (DataType::Bytes, 1) => {
            hand_out(Value::Text(text.into()));
            Ok(())
        }
        (dtype, 1) => read_one(dtype, text).map(hand_out),
        (DataType::Bytes, size) => read_texts(text, size, hand_out),
        (dtype, size) => read_list(dtype, text, size, hand_out),
    }
}

fn read_packed<'a>(
    feature: &FeatureSpec,
    field: &[u8],
    mut hand_out: impl FnMut(Value<'a>),
) -> Result<(), Cow<'static, str>> {
    let width = feature.dtype.size().unwrap_or(1);
    if field.len() != width * feature.size {
        let (size, dtype) = (feature.size, feature.dtype);
        return Err(format!("{} bytes, {size} packed {dtype}, not {} bytes", width * size, field.len()).into());
    }
    for bytes in field.chunks_exact(width) {
        hand_out(match feature.dtype {
            DataType::Bool => Value::Bool(bytes != [0]),
            DataType::Int32 => Value::Int(i32::get(bytes).into()),
            DataType::Int64 => Value::Int(i64::get(bytes)),
            DataType::Fp32 => Value::Fp32(f32::get(bytes)),
            _ => Value::Fp64(f64::get(bytes)),
        });
    }
    Ok(())
}

/// Numbers and truths hold no commas, so a list of JSON, an array of PostgreSQL and bare values are
/// all split in the same way.
fn read_list<'a>(
    dtype: DataType,
    text: &str,
    size: usize,
    mut hand_out: impl FnMut(Value<'a>),
) -> Result<(), Cow<'static, str>> {
    let trimmed = text.trim_ascii();
    let within = |open, close| trimmed.strip_prefix(open).and_then(|text: &str| text.strip_suffix(close));
    let items = within('[', ']').or_else(|| within('{', '}')).unwrap_or(trimmed);
    let got = if items.trim_ascii().is_empty() { 0 } else { items.bytes().filter(|&byte| byte == b',').count() + 1 };
    if got != size {
        return Err(format!("a list of {size} values, not of {got}").into());
    }
    for item in items.split(',') {
        hand_out(read_one(dtype, item)?);
    }
    Ok(())
}

fn read_texts<'a>(text: &'a str, size: usize, mut hand_out: impl FnMut(Value<'a>)) -> Result<(), Cow<'static, str>> {
    let items: Vec<Cow<'_, str>> = match text.trim_ascii().starts_with('[') {
        true => {
            let read: Result<Vec<String>, _> = serde_json::from_str(text);
            read.map_err(|_| Cow::Borrowed("a JSON list of texts"))?.into_iter().map(Cow::Owned).collect()
        }
        false => text.split(',').map(|item| Cow::Borrowed(item.trim_ascii())).collect(),
    };
    if items.len() != size {
        return Err(format!("a list of {size} texts, not of {}", items.len()).into());
    }
    items.into_iter().for_each(|item| hand_out(Value::Text(item)));
    Ok(())
}

fn read_one<'a>(dtype: DataType, text: &str) -> Result<Value<'a>, Cow<'static, str>> {
    let text = text.trim_ascii();
    let (value, expected) = match dtype {
        DataType::Bool => (truth(text).map(Value::Bool), "true, false, 1 or 0"),
        DataType::Int32 => {
            (text.parse::<i32>().ok().map(|number| Value::Int(number.into())), "a whole number of 32 bits")
        }
        DataType::Int64 => (text.parse().ok().map(Value::Int), "a whole number of 64 bits"),
        DataType::Fp32 => {
            let number = text.parse::<f32>().ok().filter(|number| number.is_finite() || is_meant(text));
            (number.map(Value::Fp32), "a number in the range of FP32")
        }
        _ => {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite() || is_meant(text));
            (number.map(Value::Fp64), "a number in the range of FP64")
        }
    };
    value.ok_or(Cow::Borrowed(expected))
}

fn truth(text: &str) -> Option<bool> {
    let is = |words: [&str; 3]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match (is(["true", "t", "1"]), is(["false", "f", "0"])) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Whether what is no finite number says so, instead of being too large for one.
fn is_meant(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_digit())
}
