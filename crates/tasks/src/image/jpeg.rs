//! JPEG: what a file says of itself, then its pixels.
//!
//! The markers are walked over first: size, memory, number of scans and whether the file has an
//! end are known before the decoder sees it.

use salver_core::{Error, Result};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::exif::Orientation;
use super::picture::{MAX_PIXELS, Picture, Size, Wanted, check};

/// The most scans of a file, and the most pixels of all of them: encoders write about ten scans, and
/// each costs a walk over the whole picture, however few bytes it has.
const MAX_SCANS: usize = 64;
const MAX_SCANNED_PIXELS: u64 = 10 * MAX_PIXELS;

/// What the markers of a file say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) size: Size,
    /// The sampling factors of each component, across and down.
    samplings: Vec<(u8, u8)>,
    n_scans: usize,
    progressive: bool,
}

impl Outline {
    /// Walks over the markers up to the end of the picture.
    ///
    /// # Errors
    /// `InvalidInput` for a file that breaks off or has no frame, or a kind that is not decoded.
    pub(crate) fn read(file: &[u8]) -> Result<Self> {
        let mut outline = None;
        let mut n_scans = 0;
        let mut rest = file.get(2..).unwrap_or_default();
        loop {
            let (marker, after) = next_marker(rest).ok_or_else(cut_off)?;
            match marker {
                END => break,
                // Restart markers and those without a body.
                0xd0..=0xd8 | 0x01 => {
                    rest = after;
                    continue;
                }
                _ => {}
            }
            let body = segment(after).ok_or_else(cut_off)?;
            rest = &after[body.len() + 2..];
            match marker {
                0xc0..=0xc2 if outline.is_none() => outline = Some(Self::of_frame(body, marker == 0xc2)?),
                0xc4 | 0xc8 | 0xcc => {}
                0xc0..=0xcf => return Err(unsupported(marker)),
                START_OF_SCAN => {
                    n_scans += 1;
                    rest = skip_scan(rest);
                }
                _ => {}
            }
        }
        let outline = outline.filter(|_| n_scans > 0).ok_or_else(|| Error::invalid_input("it has no picture in it"))?;
        Ok(Self { n_scans, ..outline })
    }

    fn of_frame(body: &[u8], progressive: bool) -> Result<Self> {
        let &[precision, high, low, wide, narrow, n_components, ref components @ ..] = body else {
            return Err(cut_off());
        };
        if precision != 8 {
            return Err(Error::invalid_input(format!("it has {precision} bits to a sample; only 8 are decoded")));
        }
        let size = Size::new(u16::from_be_bytes([wide, narrow]).into(), u16::from_be_bytes([high, low]).into());
        let (components, _) = components.as_chunks::<3>();
        let samplings: Vec<_> = components.iter().map(|[_, sampling, _]| (sampling >> 4, sampling & 15)).collect();
        let valid = samplings.iter().all(|&(across, down)| (1..=4).contains(&across) && (1..=4).contains(&down));
        if !valid || samplings.len() != usize::from(n_components) || !matches!(n_components, 1 | 3 | 4) {
            return Err(Error::invalid_input("its components make no sense; expected 1, 3 or 4 of them"));
        }
        Ok(Self { size, samplings, n_scans: 0, progressive })
    }

    /// Returns what decoding takes: the pixels, and where they come in several scans, the
    /// coefficients of all of them.
    fn memory(&self) -> u64 {
        let channels = if self.samplings.len() == 1 { 1 } else { 3 };
        let pixels = self.size.pixels() * channels;
        if !self.progressive && self.n_scans == 1 {
            return pixels;
        }
        let greatest = |side: fn(&(u8, u8)) -> u8| u64::from(self.samplings.iter().map(side).max().unwrap_or(1));
        let (across, down) = (greatest(|sampling| sampling.0), greatest(|sampling| sampling.1));
        let units = u64::from(self.size.width).div_ceil(8 * across) * u64::from(self.size.height).div_ceil(8 * down);
        let blocks: u64 = self.samplings.iter().map(|&(across, down)| u64::from(across) * u64::from(down)).sum();
        pixels + units * blocks * 64 * size_of::<i16>() as u64
    }
}

const END: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Finds the next marker, and returns it with what comes after it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        rest = &rest[memchr::memchr(0xff, rest)?..];
        // Any number of 0xff may come before a marker.
        rest = &rest[rest.iter().position(|&byte| byte != 0xff)?..];
        match rest {
            [0, ..] => {}
            [marker, after @ ..] => return Some((*marker, after)),
            [] => return None,
        }
    }
}

/// Returns the body of a segment: it starts with its length.
fn segment(bytes: &[u8]) -> Option<&[u8]> {
    let [high, low, ..] = *bytes else { return None };
    bytes.get(2..usize::from(u16::from_be_bytes([high, low])))
}

/// Skips the data of a scan, in which 0xff is followed by zero or a restart marker.
fn skip_scan(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(0xff, rest) {
        match rest.get(at + 1) {
            Some(0 | 0xd0..=0xd7) => rest = &rest[at + 2..],
            Some(0xff) => rest = &rest[at + 1..],
            _ => return &rest[at..],
        }
    }
    &[]
}

#[cold]
fn cut_off() -> Error {
    Error::invalid_input("it breaks off before its end; send the whole file")
}

fn unsupported(marker: u8) -> Error {
    let kind = match marker {
        0xc3 => "lossless",
        0xc9..=0xcb => "arithmetic-coded",
        _ => "hierarchical",
    };
    Error::invalid_input(format!("it is {kind} (marker ff{marker:02x}); send a baseline or progressive one"))
}

/// Decodes a file.
pub(super) fn decode(file: &[u8], wanted: Wanted) -> Result<Picture> {
    let outline = Outline::read(file)?;
    check(outline.size, outline.memory())?;
    let allowed = (MAX_SCANNED_PIXELS / outline.size.pixels()).min(MAX_SCANS as u64);
    if outline.n_scans as u64 > allowed {
        return Err(Error::too_large(format!(
            "it has {} scans; at most {allowed} are taken of {} pixels, save it again",
            outline.n_scans, outline.size
        )));
    }
    let damaged = |error: zune_jpeg::errors::DecodeErrors| Error::invalid_input(format!("it is damaged: {error:?}"));
    let limit = usize::from(u16::MAX);
    let options = DecoderOptions::default().set_max_width(limit).set_max_height(limit).set_strict_mode(false);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(damaged)?;
    let (out, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        Some(ColorSpace::YCbCr | ColorSpace::RGB | ColorSpace::CMYK | ColorSpace::YCCK) => (ColorSpace::RGB, 3),
        other => return Err(Error::invalid_input(format!("its colours are not known: {other:?}"))),
    };
    // Lenient towards what stands between headers, strict about markers in the data. Data that is
    // missing before a proper end becomes grey, as it does with libjpeg.
    decoder.set_options(options.jpeg_set_out_colorspace(out).jpeg_set_max_scans(MAX_SCANS).set_strict_mode(true));
    let expected = Some((outline.size.width as usize, outline.size.height as usize));
    if decoder.dimensions() != expected {
        return Err(Error::invalid_input("it states two different sizes"));
    }
    let mut pixels = vec![0; usize::try_from(outline.size.pixels()).unwrap_or(usize::MAX) * channels];
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    let orientation = decoder.exif().map(|exif| Orientation::of_exif(exif)).unwrap_or_default();
    Ok(Picture { orientation, ..Picture::of(outline.size, channels, pixels, wanted) })
}

#[cfg(test)]
mod tests;
