//! A decoded picture, and what one may cost.

use salver_core::{Error, Result};

use super::exif::Orientation;

/// The most pixels of a picture, whether as it came or resized.
pub(crate) const MAX_PIXELS: u64 = 64_000_000;

/// The most memory that decoding may take, in bytes.
pub(crate) const MAX_DECODER_BYTES: u64 = 256 << 20;

/// Pixels across and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Size {
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    pub(crate) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Returns the size with rows and columns changing places.
    pub(crate) fn transposed(self) -> Self {
        Self { width: self.height, height: self.width }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Which channels are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One, also of a picture in colour.
    Brightness,
    /// Red, green and blue; a grey picture keeps its one.
    Colour,
}

/// Rows of pixels of 8 bits for each channel, as they are stored in the file.
///
/// `Debug` leaves the pixels out: people's pictures stay out of logs and panics.
pub(crate) struct Picture {
    pub(crate) size: Size,
    /// One, grey; or three: red, green, blue.
    pub(crate) channels: usize,
    /// `height * width * channels` bytes.
    pub(crate) pixels: Vec<u8>,
    pub(crate) orientation: Orientation,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}, {} channels, {:?})", self.size, self.channels, self.orientation)
    }
}

impl Picture {
    /// Keeps the wanted channels of pixels that have `given` of them: one (grey), two (grey and
    /// alpha), three (red, green, blue) or four (alpha last).
    pub(crate) fn of(size: Size, given: usize, mut pixels: Vec<u8>, wanted: Wanted) -> Self {
        let channels = match (given, wanted) {
            (1 | 2, _) | (_, Wanted::Brightness) => 1,
            (_, Wanted::Colour) => 3,
        };
        if channels != given {
            let n_pixels = pixels.len() / given;
            match (given, channels) {
                (2, _) => compact::<2, 1>(&mut pixels, |pixel| [pixel[0]]),
                (3, _) => compact::<3, 1>(&mut pixels, |pixel| [brightness(pixel[0], pixel[1], pixel[2])]),
                (_, 1) => compact::<4, 1>(&mut pixels, |pixel| [brightness(pixel[0], pixel[1], pixel[2])]),
                _ => compact::<4, 3>(&mut pixels, |pixel| [pixel[0], pixel[1], pixel[2]]),
            }
            pixels.truncate(n_pixels * channels);
        }
        Self { size, channels, pixels, orientation: Orientation::default() }
    }
}

/// Makes pixels of `M` bytes of those of `N`, in place; `M` is less.
fn compact<const N: usize, const M: usize>(pixels: &mut [u8], keep: impl Fn(&[u8; N]) -> [u8; M]) {
    for idx in 0..pixels.len() / N {
        let mut pixel = [0; N];
        pixel.copy_from_slice(&pixels[idx * N..][..N]);
        pixels[idx * M..][..M].copy_from_slice(&keep(&pixel));
    }
}

/// ITU-R 601-2 in 16 bits of fraction, as Pillow's `convert("L")`.
fn brightness(red: u8, green: u8, blue: u8) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000;
    (sum >> 16) as u8
}

/// Checks a picture before it is decoded; `bytes` is what decoding takes.
///
/// # Errors
/// `InvalidInput` without pixels, `TooLarge` beyond [`MAX_PIXELS`] or [`MAX_DECODER_BYTES`].
pub(crate) fn check(size: Size, bytes: u64) -> Result<()> {
    if size.pixels() == 0 {
        return Err(Error::invalid_input(format!("the picture has {size} pixels; expected at least one")));
    }
    if size.pixels() > MAX_PIXELS {
        return Err(Error::too_large(format!(
            "the picture has {size} pixels; at most {} million are taken, send a smaller one",
            MAX_PIXELS / 1_000_000
        )));
    }
    if bytes > MAX_DECODER_BYTES {
        return Err(Error::too_large(format!(
            "decoding the {size} picture takes {} MiB; at most {} MiB are allowed, send a smaller one or another format",
            bytes >> 20,
            MAX_DECODER_BYTES >> 20
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_dropped_and_colours_become_brightness() {
        let size = Size::new(2, 1);
        let of = |given, pixels: &[u8], wanted| Picture::of(size, given, pixels.to_vec(), wanted);
        assert_eq!(of(2, &[7, 0, 8, 255], Wanted::Colour).pixels, [7, 8]);
        assert_eq!(of(4, &[1, 2, 3, 0, 4, 5, 6, 9], Wanted::Colour).pixels, [1, 2, 3, 4, 5, 6]);
        // Pillow: 255*299/1000 = 76, 255*587/1000 = 150; equal channels stay.
        assert_eq!(of(3, &[255, 0, 0, 0, 255, 0], Wanted::Brightness).pixels, [76, 150]);
        assert_eq!(of(4, &[9, 9, 9, 0, 254, 254, 254, 0], Wanted::Brightness).pixels, [9, 254]);
        assert_eq!(of(1, &[3, 4], Wanted::Colour).channels, 1);
    }

    #[test]
    fn bombs_are_refused_by_their_size() {
        assert!(check(Size::new(8_000, 8_000), 192_000_000).is_ok());
        let error = check(Size::new(60_000, 60_000), 0).unwrap_err();
        assert_eq!(
            error.message(),
            "the picture has 60000x60000 pixels; at most 64 million are taken, send a smaller one"
        );
        assert_eq!(error.kind(), salver_core::ErrorKind::TooLarge);
        assert!(check(Size::new(8_000, 8_000), 600_000_000).is_err());
        assert!(check(Size::new(0, 5), 0).is_err());
        assert!(check(Size::new(u32::MAX, u32::MAX), 0).is_err());
    }
}
