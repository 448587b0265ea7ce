//! Reads JSON from outside: depth first, then syntax, then numbers into packed little-endian bytes.
//!
//! Built on `jiter`. `NaN`, `Infinity` and `-Infinity` are read as Python's `json` writes them;
//! any other number that is not finite (`1e999`) is refused. Integers keep all their bits, and a
//! value that does not fit its data type is refused instead of wrapped. Nothing here recurses, and
//! nothing is allocated for what a body merely claims.

use jiter::{Jiter, JiterError, JsonObject, JsonValue, NumberInt, Peek};
use salver_core::{DataType, Element, ElementsBuilder, Error, Result};

/// The most bytes that one number may be written with; the longest exact text of a double is shorter.
pub(crate) const MAX_NUMBER_BYTES: usize = 4300;

/// Checks that lists and objects in `body` nest at most `limit` deep. Linear; knows strings, and
/// leaves every other syntax error to the parser.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] naming the limit and the place.
pub(crate) fn check_depth(body: &[u8], limit: usize) -> Result<()> {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return Err(too_deep(at, limit));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(body, at + 1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Returns the place of the quote that ends the string whose content begins at `at`.
fn end_of_string(body: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

pub(crate) fn too_deep(at: usize, limit: usize) -> Error {
    Error::invalid_input(format!("JSON nests deeper than {limit} levels at byte {at}"))
}

/// Parses a whole body into a tree: for documents that are small or whose form is not known ahead.
///
/// Objects keep repeated keys, in order; [`object`] refuses them. Numbers beyond the range of a
/// double come back as an infinity here, so numbers that become tensors are read by [`element`].
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for nesting beyond `depth`, bad syntax, invalid UTF-8
/// and lone surrogates.
pub(crate) fn parse(body: &[u8], depth: usize) -> Result<JsonValue<'_>> {
    check_depth(body, depth)?;
    JsonValue::parse(body, true).map_err(|error| not_json(&error.error_type, error.index))
}

/// Returns the members of an object without repeated keys; `what` names it in messages.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for anything but an object, and for repeated keys.
pub(crate) fn object<'v, 'j>(value: &'v JsonValue<'j>, what: &str) -> Result<&'v JsonObject<'j>> {
    let JsonValue::Object(members) = value else {
        return Err(Error::invalid_input(format!("{what} must be an object, got {}", kind(value))));
    };
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(members),
        Some(pair) => Err(duplicate(pair[0], what)),
    }
}

/// Returns the first member called `key`.
pub(crate) fn member<'v, 'j>(members: &'v JsonObject<'j>, key: &str) -> Option<&'v JsonValue<'j>> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// Names the type of a value for a message.
pub(crate) fn kind(value: &JsonValue<'_>) -> &'static str {
    match value {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "a boolean",
        JsonValue::Int(_) | JsonValue::BigInt(_) => "an integer",
        JsonValue::Float(_) => "a number",
        JsonValue::Str(_) => "a string",
        JsonValue::Array(_) => "a list",
        JsonValue::Object(_) => "an object",
    }
}

/// Makes the error for a key that an object has twice.
pub(crate) fn duplicate(key: &str, what: &str) -> Error {
    Error::invalid_input(format!("{what} has the key '{}' twice", clip(key)))
}

/// Makes the error for bytes that are not JSON, or for a value of another type than expected.
pub(crate) fn syntax(error: &JiterError) -> Error {
    not_json(&error.error_type, error.index)
}

fn not_json(reason: &dyn std::fmt::Display, index: usize) -> Error {
    Error::invalid_input(format!("JSON is not as expected: {} at byte {index}", clip(&reason.to_string())))
}

/// Bounds and escapes what of a request is echoed in a message.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}

/// Starts to read a body piece by piece, with the tokens for non-finite numbers.
pub(crate) fn reader(body: &[u8]) -> Jiter<'_> {
    Jiter::new(body).with_allow_inf_nan()
}

/// Walks over the members of an object: `visit` reads the value of each key in `known` (at most 32
/// of them), the others are skipped. `what` names the object in messages.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for anything but an object, for a known key that comes
/// twice, for a skipped value that nests deeper than `depth`, and whatever `visit` says.
pub(crate) fn members<'j>(
    reader: &mut Jiter<'j>,
    what: &str,
    known: &'static [&'static str],
    depth: usize,
    mut visit: impl FnMut(&mut Jiter<'j>, &'static str) -> Result<()>,
) -> Result<()> {
    let fault = |error: JiterError| syntax(&error).context(what);
    let find = |key: &str| known.iter().position(|name| *name == key);
    let mut seen = 0u32;
    let mut next = reader.next_object().map_err(fault)?.map(find);
    while let Some(place) = next {
        match place.map(|place| (known[place], 1u32 << (place & 31))) {
            None => drop(skip(reader, depth)?),
            Some((key, bit)) if seen & bit != 0 => return Err(duplicate(key, what)),
            Some((key, bit)) => {
                seen |= bit;
                visit(reader, key)?;
            }
        }
        next = reader.next_key().map_err(fault)?.map(find);
    }
    Ok(())
}

/// Reads a string; `what` names it in messages.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for any other value, and for bad syntax.
pub(crate) fn string(reader: &mut Jiter<'_>, what: &str) -> Result<String> {
    match reader.next_str() {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(syntax(&error).context(format!("'{}'", clip(what)))),
    }
}

/// Skips one value, which is still checked as strictly as if it were used.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for bad syntax, invalid UTF-8 or nesting beyond `depth`.
pub(crate) fn skip<'j>(reader: &mut Jiter<'j>, depth: usize) -> Result<&'j [u8]> {
    let peek = reader.peek().map_err(|error| syntax(&error))?;
    let start = reader.current_index();
    if let Err(error) = reader.known_skip(peek) {
        return Err(syntax(&error));
    }
    let skipped = reader.slice_to_current(start);
    if matches!(peek, Peek::Array | Peek::Object) {
        check_depth(skipped, depth)?;
    }
    // `jiter` does not look at the bytes of strings that it skips.
    match std::str::from_utf8(skipped) {
        Ok(_) => Ok(skipped),
        Err(error) => {
            Err(Error::invalid_input(format!("JSON is not valid UTF-8 at byte {}", start + error.valid_up_to())))
        }
    }
}

/// A growing tensor: packed bytes, or the elements of a BYTES tensor.
pub(crate) enum Packed {
    /// Little-endian elements of a fixed-size type.
    Fixed(DataType, Vec<u8>),
    /// Byte strings.
    Bytes(ElementsBuilder, usize),
}

impl Packed {
    /// Starts a tensor of `dtype`, with room for `elements` of them.
    pub(crate) fn new(dtype: DataType, elements: usize) -> Self {
        match dtype.size() {
            Some(size) => Self::Fixed(dtype, Vec::with_capacity(elements.saturating_mul(size))),
            None => Self::Bytes(ElementsBuilder::default(), 0),
        }
    }

    /// Returns the element type.
    pub(crate) fn dtype(&self) -> DataType {
        match self {
            Self::Fixed(dtype, _) => *dtype,
            Self::Bytes(..) => DataType::Bytes,
        }
    }

    /// Returns the number of elements so far.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Fixed(dtype, data) => data.len() / dtype.size().unwrap_or(1),
            Self::Bytes(builder, _) => builder.len(),
        }
    }

    /// Whether there is no element yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends an element to a BYTES tensor.
    ///
    /// # Errors
    /// [`salver_core::ErrorKind::InvalidInput`] if this is no BYTES tensor,
    /// [`salver_core::ErrorKind::TooLarge`] beyond 4 GiB.
    pub(crate) fn push_bytes(&mut self, element: &[u8]) -> Result<()> {
        let Self::Bytes(builder, total) = self else {
            return Err(Error::invalid_input(format!("expected a value of type {}, got text", self.dtype())));
        };
        let sum = total.checked_add(element.len()).filter(|&sum| u32::try_from(sum).is_ok());
        let Some(sum) = sum else {
            return Err(Error::too_large("the elements of a BYTES tensor exceed 4 GiB together"));
        };
        builder.push(element);
        *total = sum;
        Ok(())
    }

    /// Ends the growing and makes the tensor.
    ///
    /// # Errors
    /// [`salver_core::ErrorKind::InvalidInput`] if the number of elements is not what `shape` says.
    pub(crate) fn finish(
        self,
        name: impl Into<std::sync::Arc<str>>,
        shape: impl Into<salver_core::Shape>,
    ) -> Result<salver_core::Tensor> {
        match self {
            Self::Fixed(dtype, data) => salver_core::Tensor::new(name, dtype, shape, data.into()),
            Self::Bytes(builder, _) => salver_core::Tensor::from_elements(name, shape, builder.finish()),
        }
    }
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
        Packed::Fixed(dtype, data) => match dtype {
            DataType::Bool => one::<bool>(reader, peek, data),
            DataType::Int8 => one::<i8>(reader, peek, data),
            DataType::Int16 => one::<i16>(reader, peek, data),
            DataType::Int32 => one::<i32>(reader, peek, data),
            DataType::Int64 => one::<i64>(reader, peek, data),
            DataType::Uint8 => one::<u8>(reader, peek, data),
            DataType::Uint16 => one::<u16>(reader, peek, data),
            DataType::Uint32 => one::<u32>(reader, peek, data),
            DataType::Uint64 => one::<u64>(reader, peek, data),
            DataType::Fp16 => one::<half::f16>(reader, peek, data),
            DataType::Bf16 => one::<half::bf16>(reader, peek, data),
            DataType::Fp32 => one::<f32>(reader, peek, data),
            DataType::Fp64 => one::<f64>(reader, peek, data),
            DataType::Bytes => Err(mismatch(reader, peek, DataType::Bytes)),
        },
    }
}

/// Reads one number from its text, which holds nothing else (a CSV field, a column value).
///
/// # Errors
/// As [`element`].
pub(crate) fn push_number(text: &[u8], out: &mut Packed) -> Result<()> {
    let mut reader = reader(text);
    let peek = reader.peek().map_err(|error| syntax(&error))?;
    if !peek.is_num() {
        return Err(mismatch(&reader, peek, out.dtype()));
    }
    element(&mut reader, peek, out)?;
    reader.finish().map_err(|error| syntax(&error))
}

/// Reads a list, nested anyhow up to `depth` levels, into `out` in the order of its elements.
///
/// # Errors
/// As [`element`], with the number of the element.
pub(crate) fn flat(reader: &mut Jiter<'_>, depth: usize, out: &mut Packed) -> Result<()> {
    match out {
        Packed::Bytes(..) => flat_by(reader, depth, |reader, peek| text(reader, peek, out)),
        Packed::Fixed(dtype, data) => match dtype {
            DataType::Bool => flat_by(reader, depth, |reader, peek| one::<bool>(reader, peek, data)),
            DataType::Int8 => flat_by(reader, depth, |reader, peek| one::<i8>(reader, peek, data)),
            DataType::Int16 => flat_by(reader, depth, |reader, peek| one::<i16>(reader, peek, data)),
            DataType::Int32 => flat_by(reader, depth, |reader, peek| one::<i32>(reader, peek, data)),
            DataType::Int64 => flat_by(reader, depth, |reader, peek| one::<i64>(reader, peek, data)),
            DataType::Uint8 => flat_by(reader, depth, |reader, peek| one::<u8>(reader, peek, data)),
            DataType::Uint16 => flat_by(reader, depth, |reader, peek| one::<u16>(reader, peek, data)),
            DataType::Uint32 => flat_by(reader, depth, |reader, peek| one::<u32>(reader, peek, data)),
            DataType::Uint64 => flat_by(reader, depth, |reader, peek| one::<u64>(reader, peek, data)),
            DataType::Fp16 => flat_by(reader, depth, |reader, peek| one::<half::f16>(reader, peek, data)),
            DataType::Bf16 => flat_by(reader, depth, |reader, peek| one::<half::bf16>(reader, peek, data)),
            DataType::Fp32 => flat_by(reader, depth, |reader, peek| one::<f32>(reader, peek, data)),
            DataType::Fp64 => flat_by(reader, depth, |reader, peek| one::<f64>(reader, peek, data)),
            DataType::Bytes => flat_by(reader, depth, |reader, peek| Err(mismatch(reader, peek, DataType::Bytes))),
        },
    }
}

/// Walks a nested list without recursion. Monomorphic per element type: this is the hot loop.
fn flat_by(
    reader: &mut Jiter<'_>,
    limit: usize,
    mut push: impl FnMut(&mut Jiter<'_>, Peek) -> Result<()>,
) -> Result<()> {
    let mut next = reader.next_array().map_err(|error| syntax(&error))?;
    let mut depth = 1usize;
    let mut count = 0usize;
    loop {
        if depth > limit {
            return Err(too_deep(reader.current_index(), limit));
        }
        match next {
            Some(Peek::Array) => {
                depth += 1;
                next = reader.known_array().map_err(|error| syntax(&error))?;
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
        next = reader.array_step().map_err(|error| syntax(&error))?;
    }
}

fn text(reader: &mut Jiter<'_>, peek: Peek, out: &mut Packed) -> Result<()> {
    if peek != Peek::String {
        return Err(mismatch(reader, peek, DataType::Bytes));
    }
    let text = reader.known_str().map_err(|error| syntax(&error))?;
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
        Err(error) => Err(syntax(&error)),
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
