//! PNG: of animated ones the picture that programs without animation show.

use std::io::Cursor;

use png::{ColorType, Decoder, DecodingError, Limits, Transformations};
use salver_core::{Error, Result};

use super::exif::Orientation;
use super::picture::{MAX_DECODER_BYTES, Picture, Size, Wanted, check};

/// Decodes a file.
pub(super) fn decode(file: &[u8], wanted: Wanted) -> Result<Picture> {
    let limits = Limits { bytes: usize::try_from(MAX_DECODER_BYTES).unwrap_or(usize::MAX) };
    let mut decoder = Decoder::new_with_limits(Cursor::new(file), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes to colours, fewer than 8 bits to 8; of 16 bits the upper 8.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(damaged)?;
    let size = Size::new(header.width, header.height);
    // Four channels, and a row before and behind the filter.
    check(size, size.pixels() * 4)?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (color, _) = reader.output_color_type();
    let channels = match color {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err(Error::invalid_input("its palette is missing")),
    };
    let length = reader.output_buffer_size().ok_or_else(|| Error::invalid_input("its size makes no sense"))?;
    let mut pixels = vec![0; length];
    reader.next_frame(&mut pixels).map_err(damaged)?;
    // EXIF may stand behind the pixels; what else is wrong there does not matter.
    let _ = reader.finish();
    let orientation = reader.info().exif_metadata.as_deref().map(Orientation::of_exif).unwrap_or_default();
    Ok(Picture { orientation, ..Picture::of(size, channels, pixels, wanted) })
}

fn damaged(error: DecodingError) -> Error {
    match error {
        DecodingError::LimitsExceeded => Error::too_large("it needs too much memory"),
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::invalid_input("it breaks off before its end; send the whole file")
        }
        other => Error::invalid_input(format!("it is damaged: {other}")),
    }
}

/// Makes a file of a picture with some of every colour; none where it cannot be written.
pub(super) fn gradient(size: Size) -> Option<Vec<u8>> {
    let tone = |place: u32, length: u32| u8::try_from(place * 255 / length.max(1)).unwrap_or(u8::MAX);
    let rows = (0..size.height).flat_map(|y| (0..size.width).map(move |x| (x, y)));
    let pixels: Vec<u8> = rows.flat_map(|(x, y)| [tone(x, size.width), tone(y, size.height), 128]).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
    encoder.set_color(ColorType::Rgb);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(file)
}
