//! JSON values as elements of a tensor, straight into packed bytes.
//!
//! Integers keep all their bits, and a value that does not fit its data type is refused instead of
//! wrapped. `NaN`, `Infinity` and `-Infinity` are floats; any other number that is not finite
//! (`1e999`) is refused.

use jiter::{Jiter, JiterError, NumberInt, Peek};
use salver_core::{DataType, Element, Error, Result};

use super::packed::Packed;
use super::read::{OrNotJson as _, reader, too_deep};

/// The most bytes that one number may be written with; the longest exact text of a double is shorter.
pub(crate) const MAX_NUMBER_BYTES: usize = 4300;

/// Picks the Rust type `$element` of a data type for `$fixed`; `$bytes` is for BYTES.
macro_rules! by_type {
    ($dtype:expr, $element:ident => $fixed:expr, $bytes:block) => {
        by_type!(@match $dtype, $element => $fixed, $bytes;
            Bool bool, Int8 i8, Int16 i16, Int32 i32, Int64 i64, Uint8 u8, Uint16 u16, Uint32 u32, Uint64 u64,
            Fp16 half::f16, Bf16 half::bf16, Fp32 f32, Fp64 f64)
    };
    (@match $dtype:expr, $element:ident => $fixed:expr, $bytes:block; $($variant:ident $type:ty),*) => {
        match $dtype {
            $(DataType::$variant => {
                type $element = $type;
                $fixed
            })*
            DataType::Bytes => $bytes,
        }
    };
}

/// Reads the value that `peek` announces as one element of `out`.
///
/// BOOL takes booleans, integers take whole numbers in range, floats take any number, BYTES takes
/// strings; nothing else is coerced. Floats are rounded to the nearest value of their width.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] saying what was expected, what stands there and where.
pub(crate) fn element(reader: &mut Jiter<'_>, peek: Peek, out: &mut Packed) -> Result<()> {
    match out {
        Packed::Bytes(..) => text(reader, peek, out),
        Packed::Fixed(dtype, data) => by_type!(dtype, T => one::<T>(reader, peek, data), {
            Err(mismatch(reader, peek, DataType::Bytes))
        }),
    }
}

/// Reads one number from its text, which holds nothing else (a CSV field, a column value).
///
/// # Errors
/// As [`element`].
pub(crate) fn push_number(text: &[u8], out: &mut Packed) -> Result<()> {
    let mut reader = reader(text);
    let peek = reader.peek().or_not_json()?;
    if !peek.is_num() {
        return Err(mismatch(&reader, peek, out.dtype()));
    }
    element(&mut reader, peek, out)?;
    reader.finish().or_not_json()
}

/// Reads a list, nested anyhow up to `depth` levels, into `out` in the order of its elements.
///
/// # Errors
/// As [`element`], with the number of the element.
pub(crate) fn flat(reader: &mut Jiter<'_>, depth: usize, out: &mut Packed) -> Result<()> {
    match out {
        Packed::Bytes(..) => flat_by(reader, depth, |reader, peek| text(reader, peek, out)),
        Packed::Fixed(dtype, data) => {
            by_type!(dtype, T => flat_by(reader, depth, |reader, peek| one::<T>(reader, peek, data)), {
                flat_by(reader, depth, |reader, peek| Err(mismatch(reader, peek, DataType::Bytes)))
            })
        }
    }
}

/// Walks a nested list without recursion. Monomorphic per element type: this is the hot loop.
fn flat_by(
    reader: &mut Jiter<'_>,
    limit: usize,
    mut push: impl FnMut(&mut Jiter<'_>, Peek) -> Result<()>,
) -> Result<()> {
    let mut next = reader.next_array().or_not_json()?;
    let mut depth = 1usize;
    let mut count = 0usize;
    loop {
        if depth > limit {
            return Err(too_deep(reader.current_index(), limit));
        }
        match next {
            Some(Peek::Array) => {
                depth += 1;
                next = reader.known_array().or_not_json()?;
                continue;
            }
            Some(peek) => {
                push(reader, peek).map_err(|error| error.context(format!("element {count}")))?;
                count += 1;
            }
            None => {
                depth -= 1;
                if depth == 0 {
                    return Ok(());
                }
            }
        }
        next = reader.array_step().or_not_json()?;
    }
}

fn text(reader: &mut Jiter<'_>, peek: Peek, out: &mut Packed) -> Result<()> {
    if peek != Peek::String {
        return Err(mismatch(reader, peek, DataType::Bytes));
    }
    let text = reader.known_str().or_not_json()?;
    out.push_bytes(text.as_bytes())
}

#[inline(always)]
fn one<T: FromJson>(reader: &mut Jiter<'_>, peek: Peek, data: &mut Vec<u8>) -> Result<()> {
    let start = reader.current_index();
    let fits = if T::announced_by(peek) { T::take(reader, peek) } else { Ok(None) };
    match fits {
        Ok(Some(value)) if reader.current_index() - start <= MAX_NUMBER_BYTES => {
            value.put(data);
            Ok(())
        }
        Ok(_) => Err(refuse(reader, peek, start, T::DTYPE)),
        Err(error) => Err(error).or_not_json(),
    }
}

/// An element type that one JSON value can hold.
trait FromJson: Element {
    fn announced_by(peek: Peek) -> bool {
        peek.is_num()
    }

    /// Takes the value; `None` if it does not fit.
    fn take(reader: &mut Jiter<'_>, peek: Peek) -> Result<Option<Self>, JiterError>;
}

impl FromJson for bool {
    fn announced_by(peek: Peek) -> bool {
        matches!(peek, Peek::True | Peek::False)
    }

    fn take(reader: &mut Jiter<'_>, peek: Peek) -> Result<Option<Self>, JiterError> {
        reader.known_bool(peek).map(Some)
    }
}

/// Returns a whole number of any form, unless it has more than 127 bits.
pub(crate) fn whole(number: NumberInt) -> Option<i128> {
    match number {
        NumberInt::Int(value) => Some(value.into()),
        NumberInt::BigInt(value) => i128::try_from(value).ok(),
    }
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl FromJson for $type {
            #[inline(always)]
            fn take(reader: &mut Jiter<'_>, peek: Peek) -> Result<Option<Self>, JiterError> {
                match reader.known_int(peek) {
                    Ok(NumberInt::Int(value)) => Ok(<$type>::try_from(value).ok()),
                    Ok(big) => Ok(whole(big).and_then(|value| <$type>::try_from(value).ok())),
                    // `known_int` stops at a fraction; read on, so that a message can show it all.
                    Err(error) => match reader.known_float(peek) {
                        Ok(_) => Ok(None),
                        Err(_) => Err(error),
                    },
                }
            }
        }
    )*};
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! float {
    ($($type:ty: $from:expr),* $(,)?) => {$(
        impl FromJson for $type {
            #[inline(always)]
            fn take(reader: &mut Jiter<'_>, peek: Peek) -> Result<Option<Self>, JiterError> {
                let start = reader.current_index();
                let value = reader.known_float(peek)?;
                // Infinite without the token for it: `1e999`.
                if value.is_infinite() && !reader.slice_to_current(start).contains(&b'I') {
                    return Ok(None);
                }
                Ok(Some($from(value)))
            }
        }
    )*};
}

float! {
    half::f16: half::f16::from_f64,
    half::bf16: half::bf16::from_f64,
    f32: |value: f64| value as f32,
    f64: |value: f64| value,
}

#[cold]
fn mismatch(reader: &Jiter<'_>, peek: Peek, dtype: DataType) -> Error {
    refuse(reader, peek, reader.current_index(), dtype)
}

#[cold]
fn refuse(reader: &Jiter<'_>, peek: Peek, start: usize, dtype: DataType) -> Error {
    let found = match peek {
        Peek::Null => "null".to_owned(),
        Peek::True | Peek::False => "a boolean".to_owned(),
        Peek::String => "a string".to_owned(),
        Peek::Array => "a list".to_owned(),
        Peek::Object => "an object".to_owned(),
        peek if !peek.is_num() => "what is no JSON".to_owned(),
        _ => match reader.slice_to_current(start) {
            [] => "a number".to_owned(),
            number => format!("{}", String::from_utf8_lossy(&number[..number.len().min(40)])),
        },
    };
    Error::invalid_input(format!("expected {}, got {found} at byte {start}", expectation(dtype)))
}

fn expectation(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "BOOL (true or false)",
        DataType::Int8 => "INT8 (a whole number from -128 to 127)",
        DataType::Int16 => "INT16 (a whole number from -32768 to 32767)",
        DataType::Int32 => "INT32 (a whole number of 32 bits)",
        DataType::Int64 => "INT64 (a whole number of 64 bits)",
        DataType::Uint8 => "UINT8 (a whole number from 0 to 255)",
        DataType::Uint16 => "UINT16 (a whole number from 0 to 65535)",
        DataType::Uint32 => "UINT32 (a whole number of 32 bits, not negative)",
        DataType::Uint64 => "UINT64 (a whole number of 64 bits, not negative)",
        DataType::Fp16 => "FP16 (a number)",
        DataType::Bf16 => "BF16 (a number)",
        DataType::Fp32 => "FP32 (a number)",
        DataType::Fp64 => "FP64 (a number)",
        DataType::Bytes => "BYTES (a string)",
    }
}

#[cfg(test)]
mod tests;
