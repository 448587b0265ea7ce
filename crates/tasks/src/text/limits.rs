//! What a text has to keep to before a tokenizer sees it.
//!
//! Tokenizers take time and memory by the length of a text, and some by the square of the length of
//! a word.

use salver_core::{Error, Result};

/// The most bytes of a text.
const MAX_BYTES: usize = 1 << 20;

/// The most characters between two places where a word may end.
const MAX_WORD: usize = 4096;

/// Returns a text that a tokenizer may have.
///
/// # Errors
/// `InvalidInput` where it is not UTF-8, `TooLarge` where it exceeds a limit.
pub(super) fn checked(bytes: &[u8]) -> Result<&str> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::too_large(format!(
            "the text has {} bytes, at most {MAX_BYTES} are allowed; split it",
            bytes.len()
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::invalid_input(format!("the text is not UTF-8 at byte {}; send it as UTF-8", error.valid_up_to()))
    })?;
    match long_word(text) {
        None => Ok(text),
        Some(start) => Err(Error::too_large(format!(
            "the word at character {start} has more than {MAX_WORD} characters; is this text? break it up with spaces"
        ))),
    }
}

/// Returns the character at which a word begins that is too long.
fn long_word(text: &str) -> Option<usize> {
    if text.len() <= MAX_WORD {
        return None;
    }
    let mut length = 0;
    text.chars().enumerate().find_map(|(idx, character)| {
        length = if breaks_word(character) { 0 } else { length + 1 };
        (length > MAX_WORD).then(|| idx + 1 - length)
    })
}

/// Whether a word may end at `character`: white space, and scripts that are written without it.
fn breaks_word(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '\u{0E00}'..='\u{109F}'         // Thai, Lao, Tibetan, Myanmar
            | '\u{1100}'..='\u{11FF}'       // Hangul Jamo
            | '\u{1780}'..='\u{17FF}'       // Khmer
            | '\u{1950}'..='\u{1AAF}'       // Tai scripts
            | '\u{2E80}'..='\u{A4CF}'       // CJK, kana, Bopomofo, Yi
            | '\u{A960}'..='\u{D7FF}'       // Hangul, Javanese, more of Myanmar and Tai
            | '\u{F900}'..='\u{FAFF}'       // CJK compatibility
            | '\u{FE30}'..='\u{FE4F}'
            | '\u{FF00}'..='\u{FFEF}'       // full width and half width
            | '\u{1B000}'..='\u{1B16F}'     // more kana
            | '\u{20000}'..='\u{3FFFF}'     // more CJK
        )
}

#[cfg(test)]
mod tests {
    use salver_core::ErrorKind;

    use super::*;

    #[track_caller]
    fn refused(text: &[u8], kind: ErrorKind, expected: &str) {
        let error = checked(text).unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, expected));
    }

    #[test]
    fn texts_of_any_script_pass() {
        for text in ["", "Hello", "Привет, мир", "👩‍👩‍👧‍👧 ok", "สวัสดี", "\u{0}\u{1b}[0m", "e\u{301}\u{301}"]
        {
            assert_eq!(checked(text.as_bytes()).unwrap(), text);
        }
        for word in ["一", "あ", "가", "ก", "word "] {
            let text = word.repeat(MAX_BYTES / word.len());
            assert_eq!(checked(text.as_bytes()).unwrap().len(), text.len(), "{word}");
        }
    }

    #[test]
    fn what_exceeds_a_limit_is_refused() {
        refused(
            &[b' '; MAX_BYTES + 1],
            ErrorKind::TooLarge,
            "the text has 1048577 bytes, at most 1048576 are allowed; split it",
        );
        let words = |length: usize| format!("für {} und", "ß".repeat(length));
        assert!(checked(words(MAX_WORD).as_bytes()).is_ok());
        refused(
            words(MAX_WORD + 1).as_bytes(),
            ErrorKind::TooLarge,
            "the word at character 4 has more than 4096 characters; is this text? break it up with spaces",
        );
        for character in ["a", "_", "7", "👩\u{200d}"] {
            let text = character.repeat(1 + MAX_WORD);
            assert_eq!(checked(text.as_bytes()).unwrap_err().kind(), ErrorKind::TooLarge, "{character}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        refused(b"caf\xe9", ErrorKind::InvalidInput, "the text is not UTF-8 at byte 3; send it as UTF-8");
    }
}
