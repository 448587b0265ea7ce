//! base64 as people have it: either alphabet, padded or not, wrapped lines, or a `data:` address.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use salver_core::{Error, Result};

/// Returns the bytes that `text` stands for.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] saying what is not base64.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>> {
    let text = payload(text)?.trim_ascii();
    if text.contains(|character: char| character.is_ascii_whitespace()) {
        return decode_one_line(&text.split_ascii_whitespace().collect::<String>());
    }
    decode_one_line(text)
}

/// Leaves out `data:image/png;base64,`.
fn payload(text: &str) -> Result<&str> {
    let Some(address) = text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).and(text.get(5..)) else {
        return Ok(text);
    };
    match address.split_once(',') {
        Some((media, data)) if media.to_ascii_lowercase().ends_with(";base64") => Ok(data),
        _ => Err(Error::invalid_input("expected base64 in the 'data:' address, as in data:image/png;base64,iVBO…")),
    }
}

fn decode_one_line(text: &str) -> Result<Vec<u8>> {
    let is_url_safe = text.bytes().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if is_url_safe { &URL_SAFE_PAD_INDIFFERENT } else { &STANDARD_PAD_INDIFFERENT };
    engine.decode(text).map_err(|error| Error::invalid_input(format!("expected base64: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[u8]) {
        assert_eq!(decode(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn every_common_spelling_is_read() {
        let bytes = [0xfb, 0xff, 0xfe, 0x01];
        for text in ["+//+AQ==", "+//+AQ", "-__-AQ==", "-__-AQ", "+//+\r\nAQ==\n", " +//+AQ== "] {
            check(text, &bytes);
            check(&format!("data:image/png;base64,{text}"), &bytes);
        }
        check("DATA:image/svg+xml;charset=utf-8;BASE64,AQ", &[1]);
        check("", b"");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["cat.jpg", "+_AQ", "A", "data:image/png,iVBO", "data:", "données:", "AQ==AQ==", "\u{e9}"] {
            let error = decode(text).unwrap_err();
            assert!(error.message().contains("expected base64"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_any_encoder_writes_is_read_back(bytes: Vec<u8>) {
            use ::base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
            for text in [STANDARD.encode(&bytes), STANDARD_NO_PAD.encode(&bytes), URL_SAFE.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                prop_assert_eq!(&decode(&text).unwrap(), &bytes);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = decode(&text);
            let _ = decode(&format!("data:{text}"));
        }
    }
}
