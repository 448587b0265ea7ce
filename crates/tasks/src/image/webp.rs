//! WebP: of animated ones the first frame.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};
use salver_core::{Error, Result};

use super::exif::Orientation;
use super::picture::{MAX_DECODER_BYTES, Picture, Size, Wanted, check};

/// What the decoder takes for each pixel at worst: an animated one with alpha has a frame and a
/// canvas of four channels.
const BYTES_PER_PIXEL: u64 = 8;

/// Decodes a file.
pub(super) fn decode(file: &[u8], wanted: Wanted) -> Result<Picture> {
    let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(damaged)?;
    decoder.set_memory_limit(usize::try_from(MAX_DECODER_BYTES).unwrap_or(usize::MAX));
    let (width, height) = decoder.dimensions();
    let size = Size::new(width, height);
    check(size, size.pixels() * BYTES_PER_PIXEL)?;
    if !chunks(file, HEADER).all(|chunk| chunk.fits(size)) {
        return Err(Error::invalid_input(format!("it says that it has {size} pixels, but a frame in it has more")));
    }
    let length = decoder.output_buffer_size().ok_or_else(|| Error::invalid_input("its size makes no sense"))?;
    let mut pixels = vec![0; length];
    decoder.read_image(&mut pixels).map_err(damaged)?;
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let exif = decoder.exif_metadata().unwrap_or_default();
    let orientation = exif.as_deref().map(Orientation::of_exif).unwrap_or_default();
    Ok(Picture { orientation, ..Picture::of(size, channels, pixels, wanted) })
}

/// Where the chunks of a file begin.
const HEADER: usize = 12;

/// Where the chunks of a frame of an animation begin.
const FRAME_HEADER: usize = 16;

/// A part of a file, by its name of four letters.
struct Chunk<'a> {
    name: &'a [u8],
    body: &'a [u8],
}

/// Walks over chunks, up to the first that breaks off.
fn chunks(bytes: &[u8], start: usize) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (name, after) = rest.split_at_checked(4)?;
        let (length, after) = after.split_at_checked(4)?;
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        // The last one may be shorter than it says, and odd ones are padded.
        let body = &after[..length.min(after.len())];
        rest = after.get(length.checked_add(length % 2)?..).unwrap_or_default();
        Some(Chunk { name, body })
    })
}

impl Chunk<'_> {
    /// Whether the frames in here are not larger than the picture: the decoder takes the memory for
    /// a frame before it compares.
    fn fits(&self, size: Size) -> bool {
        let frame = match (self.name, self.body) {
            (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, w, wide, h, high, ..]) => {
                let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
                Size::new(side(*w, *wide), side(*h, *high))
            }
            (b"VP8L", [0x2f, a, b, c, d, ..]) => {
                let bits = u32::from_le_bytes([*a, *b, *c, *d]);
                Size::new((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
            }
            (b"ANMF", body) => return chunks(body, FRAME_HEADER).all(|chunk| chunk.fits(size)),
            _ => return true,
        };
        frame.width <= size.width && frame.height <= size.height
    }
}

fn damaged(error: DecodingError) -> Error {
    match error {
        DecodingError::MemoryLimitExceeded | DecodingError::ImageTooLarge => {
            Error::too_large("it needs too much memory")
        }
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::invalid_input("it breaks off before its end; send the whole file")
        }
        other => Error::invalid_input(format!("it is damaged: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_in_a_small_picture_is_refused() {
        let mut file = include_bytes!("../../corpus/picture/animated.webp").to_vec();
        assert_eq!(decode(&file, Wanted::Colour).unwrap().size, Size::new(8, 8));
        let start = file.windows(3).position(|bytes| bytes == [0x9d, 0x01, 0x2a]).unwrap();
        file[start + 3..start + 7].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
        let error = decode(&file, Wanted::Colour).unwrap_err();
        assert_eq!(error.message(), "it says that it has 8x8 pixels, but a frame in it has more");
    }
}
