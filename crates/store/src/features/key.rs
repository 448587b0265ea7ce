//! The keys of a request: each of them once, and which row of the request asks for which.

use std::collections::HashMap;
use std::fmt;

use salver_core::{Error, KeyType, Result, Tensor};

/// The longest key in bytes.
pub(super) const MAX_KEY_BYTES: usize = 512;
/// The most keys of one request.
const MAX_ROWS: usize = 65_536;
/// What is shown of a key.
const SHOWN_CHARS: usize = 64;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A whole number.
    Number(i64),
    /// Text, or whatever else a client sends.
    Text(Vec<u8>),
}

/// Quotes a key for a message: escaped and, where it is long, cut off.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(bytes) => write!(f, "'{}'", shown(bytes, SHOWN_CHARS)),
        }
    }
}

/// Makes foreign bytes fit for a message.
pub(super) fn shown(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * limit)]);
    let mut shown: String = text.chars().take(limit).flat_map(char::escape_debug).collect();
    if text.chars().count() > limit || bytes.len() > 4 * limit {
        shown.push('…');
    }
    shown
}

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Each key once.
    pub(super) keys: Vec<Key>,
    /// For each row of the request, its key in `keys`.
    pub(super) key_of_row: Vec<usize>,
}

impl Asked {
    /// Reads the keys of a checked input.
    ///
    /// # Errors
    /// `InvalidInput` for a key that is too long, `TooLarge` for too many.
    pub(super) fn new(input: &Tensor, key_type: KeyType) -> Result<Self> {
        let rows = input.element_count();
        if rows > MAX_ROWS {
            return Err(Error::too_large(format!(
                "input '{}': a request may look up at most {MAX_ROWS} keys, got {rows}",
                input.name()
            )));
        }
        let keys: Vec<Key> = match key_type {
            KeyType::Int64 => input.to_vec().unwrap_or_default().into_iter().map(Key::Number).collect(),
            KeyType::Text => match input.elements() {
                Some(elements) => elements.iter().map(|text| text_key(input.name(), text)).collect::<Result<_>>()?,
                None => Vec::new(),
            },
        };
        Ok(Self::of(keys))
    }

    fn of(all: Vec<Key>) -> Self {
        let mut places = HashMap::with_capacity(all.len());
        let mut keys = Vec::with_capacity(all.len());
        let mut key_of_row = Vec::with_capacity(all.len());
        for key in all {
            let next = keys.len();
            let place = *places.entry(key).or_insert_with_key(|key| {
                keys.push(key.clone());
                next
            });
            key_of_row.push(place);
        }
        Self { keys, key_of_row }
    }
}

fn text_key(input: &str, text: &[u8]) -> Result<Key> {
    if text.len() > MAX_KEY_BYTES {
        return Err(Error::invalid_input(format!(
            "input '{input}': a key may have at most {MAX_KEY_BYTES} bytes, got one of {} that begins '{}'",
            text.len(),
            shown(text, 16)
        )));
    }
    Ok(Key::Text(text.to_vec()))
}
