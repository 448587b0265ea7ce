//! Bytes of a file to a picture.
//!
//! The format is told by content. What a picture costs is looked at before anything is decoded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use salver_core::{Error, Result};

use super::picture::{Picture, Size, Wanted};
use super::{jpeg, png, webp};

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    Webp,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
        }
    }
}

/// Decodes a file.
///
/// # Errors
/// `InvalidInput` for another format or damaged bytes, `TooLarge` for a picture beyond the limits.
pub(crate) fn decode(file: &[u8], wanted: Wanted) -> Result<Picture> {
    let format = format(file)?;
    // The codecs read bytes of strangers: a fault of theirs costs that request only.
    let decoded = catch_unwind(AssertUnwindSafe(|| unguarded(format, file, wanted)));
    let decoded = decoded.unwrap_or_else(|_| Err(Error::invalid_input("the decoder gave up on it")));
    decoded.map_err(|error| error.context(format_args!("this {} picture", format.name())))
}

fn unguarded(format: Format, file: &[u8], wanted: Wanted) -> Result<Picture> {
    match format {
        Format::Jpeg => jpeg::decode(file, wanted),
        Format::Png => png::decode(file, wanted),
        Format::Webp => webp::decode(file, wanted),
    }
}

/// Decodes as [`crate::fuzz::picture`] says.
pub(crate) fn fuzz(file: &[u8]) {
    let _ = peek(file);
    for wanted in [Wanted::Colour, Wanted::Brightness] {
        if let Ok(picture) = format(file).and_then(|format| unguarded(format, file, wanted)) {
            let expected = picture.size.pixels() * picture.channels as u64;
            assert_eq!(picture.pixels.len() as u64, expected, "{} with {} channels", picture.size, picture.channels);
        }
    }
}

/// Returns the size of a picture where that takes next to no time to find out.
pub(crate) fn peek(file: &[u8]) -> Option<Size> {
    match format(file).ok()? {
        Format::Jpeg => jpeg::Outline::read(file).ok().map(|outline| outline.size),
        Format::Png => {
            // The header is the first chunk and has a fixed place.
            let number = |at: usize| Some(u32::from_be_bytes(file.get(at..at + 4)?.try_into().ok()?));
            Some(Size::new(number(16)?, number(20)?))
        }
        Format::Webp => None,
    }
}

fn format(file: &[u8]) -> Result<Format> {
    match file {
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::Webp),
        _ => Err(unknown(file)),
    }
}

/// Says what a file is instead of a picture that can be decoded.
fn unknown(file: &[u8]) -> Error {
    const KNOWN: [(&[u8], &str); 15] = [
        (b"", "it is empty"),
        (b"GIF8", "it is a GIF"),
        (b"BM", "it is a BMP"),
        (b"II\x2a\0", "it is a TIFF"),
        (b"MM\0\x2a", "it is a TIFF"),
        (b"\0\0\x01\0", "it is an ICO"),
        (b"\xff\x0a", "it is a JPEG XL"),
        (b"\0\0\0\x0cJXL ", "it is a JPEG XL"),
        (b"\0\0\0\x0cjP  ", "it is a JPEG 2000"),
        (b"8BPS", "it is a Photoshop file"),
        (b"%PDF", "it is a PDF"),
        (b"<", "it is XML or HTML, perhaps an SVG or an error page"),
        (b"data:", "it is a data URL; send the bytes themselves"),
        (b"/9j/", "it is a JPEG in base64; send the bytes themselves"),
        (b"iVBORw0KGgo", "it is a PNG in base64; send the bytes themselves"),
    ];
    let known =
        KNOWN.iter().find(|(start, _)| if start.is_empty() { file.is_empty() } else { file.starts_with(start) });
    let is = match (known, file.get(4..12)) {
        (Some((_, is)), _) => (*is).to_owned(),
        (None, Some(b"ftypavif" | b"ftypavis")) => "it is an AVIF".to_owned(),
        (None, Some([b'f', b't', b'y', b'p', b'h' | b'm', ..])) => "it is a HEIC or a film".to_owned(),
        (None, _) => format!("it starts with the bytes {:02x?}", &file[..file.len().min(8)]),
    };
    Error::invalid_input(format!("expected a picture as JPEG, PNG or WebP, but {is}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_refused_by_name() {
        let message = |file: &[u8]| decode(file, Wanted::Colour).unwrap_err().message().to_owned();
        assert_eq!(message(b"GIF89a.."), "expected a picture as JPEG, PNG or WebP, but it is a GIF");
        assert_eq!(message(b""), "expected a picture as JPEG, PNG or WebP, but it is empty");
        assert_eq!(message(b"\0\0\0\x20ftypavif"), "expected a picture as JPEG, PNG or WebP, but it is an AVIF");
        assert_eq!(
            message(b"\x01\x02"),
            "expected a picture as JPEG, PNG or WebP, but it starts with the bytes [01, 02]"
        );
        assert!(message(b"/9j/4AAQ").contains("base64"), "{}", message(b"/9j/4AAQ"));
    }

    #[test]
    fn a_bomb_of_a_png_is_refused_before_it_is_decoded() {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        file.extend([60_000u32.to_be_bytes(), 60_000u32.to_be_bytes()].concat());
        assert_eq!(peek(&file), Some(Size::new(60_000, 60_000)));
        file.extend([8, 2, 0, 0, 0]);
        // The header's checksum.
        file.extend([0xbe, 0xad, 0xbe, 0xef]);
        let error = decode(&file, Wanted::Colour).unwrap_err();
        assert!(error.message().starts_with("this PNG picture: "), "{error}");
    }
}
