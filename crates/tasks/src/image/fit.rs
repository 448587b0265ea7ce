//! Which part of a resized picture a model sees.
//!
//! Sizes are rounded as torchvision does: of the longer side the fraction is dropped, an odd
//! remainder of a centre crop is halved to the even number, and where the picture is smaller than
//! the crop, zeros come around it.

use salver_core::{Error, Resize, Result};

use super::exif::Orientation;
use super::picture::{MAX_PIXELS, Size};

/// How pictures are brought to the size that a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizing {
    pub(crate) resize: Resize,
    pub(crate) crop: Option<Size>,
    /// The size that the model takes.
    pub(crate) out: Size,
}

/// What becomes of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) across: Span,
    pub(crate) down: Span,
}

/// One side of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its length.
    pub(crate) from: u32,
    /// Its length after resizing.
    pub(crate) to: u32,
    /// Where the part begins that the model sees, of `to`.
    pub(crate) start: u32,
    /// How much of it the model sees.
    pub(crate) len: u32,
    /// How many zeros come before it.
    pub(crate) pad: u32,
}

impl Sizing {
    /// Fits a picture of this size.
    ///
    /// # Errors
    /// `InvalidInput` where it does not come to the size that the model takes, `TooLarge` where it
    /// is too large after resizing.
    pub(crate) fn fit(&self, size: Size) -> Result<Fit> {
        let resized = self.resized(size)?;
        if self.crop.is_none() && resized != self.out {
            return Err(Error::invalid_input(format!(
                "the picture has {size} pixels, but the model takes {}; send one of that size, or set `resize` or \
                 `crop` in the model's [image]",
                self.out
            )));
        }
        Ok(Fit {
            across: Span::middle(size.width, resized.width, self.out.width),
            down: Span::middle(size.height, resized.height, self.out.height),
        })
    }

    fn resized(&self, size: Size) -> Result<Size> {
        let resized = match self.resize {
            Resize::Keep => return Ok(size),
            Resize::Exact { height, width } => Size::new(width, height),
            Resize::Shortest(short) => {
                let longer = |long: u32, other: u32| u64::from(short) * u64::from(long) / u64::from(other.max(1));
                let (width, height) = if size.width <= size.height {
                    (u64::from(short), longer(size.height, size.width))
                } else {
                    (longer(size.width, size.height), u64::from(short))
                };
                if width.saturating_mul(height) > MAX_PIXELS {
                    return Err(Error::too_large(format!(
                        "the {size} picture becomes {width}x{height} when its shorter side is made {short}; at most {} \
                         million pixels are taken, send one that is less long",
                        MAX_PIXELS / 1_000_000
                    )));
                }
                let narrow = |side: u64| u32::try_from(side).unwrap_or(u32::MAX);
                Size::new(narrow(width), narrow(height))
            }
        };
        Ok(resized)
    }
}

impl Fit {
    /// Returns the same for the pixels as they are stored, given how the picture is to be turned.
    pub(crate) fn as_stored(self, orientation: Orientation) -> Self {
        let (across, down) = if orientation.transpose { (self.down, self.across) } else { (self.across, self.down) };
        let turned = |span: Span, flip: bool| if flip { span.reversed() } else { span };
        Self { across: turned(across, orientation.flip_x), down: turned(down, orientation.flip_y) }
    }
}

impl Span {
    fn middle(from: u32, to: u32, out: u32) -> Self {
        match to.checked_sub(out) {
            Some(over) => Self { from, to, start: half_to_even(over), len: out, pad: 0 },
            None => Self { from, to, start: 0, len: to, pad: (out - to) / 2 },
        }
    }

    /// Whether its length changes.
    pub(crate) fn is_resized(self) -> bool {
        self.from != self.to
    }

    /// Returns how many pixels become one.
    pub(crate) fn scale(self) -> f64 {
        f64::from(self.from) / f64::from(self.to)
    }

    /// Returns the side once only the part is left that the model sees.
    pub(crate) fn done(self) -> Self {
        Self { from: self.len, to: self.len, start: 0, ..self }
    }

    /// Returns the side when looked at from its other end.
    pub(crate) fn reversed(self) -> Self {
        Self { start: self.to - self.start - self.len, ..self }
    }
}

/// Halves; of two halves that are equally near, the even one.
fn half_to_even(number: u32) -> u32 {
    let half = number / 2;
    if number % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resize: Resize, (width, height): (u32, u32), expected: &str) {
        let crop = Size::new(224, 224);
        let fit = Sizing { resize, crop: Some(crop), out: crop }.fit(Size::new(width, height)).unwrap();
        let side = |span: Span| format!("{} at {} pad {} of {}", span.len, span.start, span.pad, span.to);
        assert_eq!(format!("{}; {}", side(fit.across), side(fit.down)), expected);
    }

    #[test]
    fn sizes_are_rounded_as_torchvision_does() {
        // 256 * 500 / 375 = 341.3; (341 - 224) / 2 = 58.5, to the even 58.
        check(Resize::Shortest(256), (500, 375), "224 at 58 pad 0 of 341; 224 at 16 pad 0 of 256");
        check(Resize::Shortest(256), (375, 500), "224 at 16 pad 0 of 256; 224 at 58 pad 0 of 341");
        // (339 - 224) / 2 = 57.5, to the even 58.
        check(Resize::Keep, (339, 227), "224 at 58 pad 0 of 339; 224 at 2 pad 0 of 227");
    }

    #[test]
    fn what_is_smaller_than_the_crop_stands_in_zeros() {
        check(Resize::Keep, (225, 101), "224 at 0 pad 0 of 225; 101 at 0 pad 61 of 101");
    }

    #[test]
    fn a_long_strip_is_refused_before_it_is_blown_up() {
        let out = Size::new(224, 224);
        let sizing = Sizing { resize: Resize::Shortest(224), crop: Some(out), out };
        let error = sizing.fit(Size::new(65_500, 1)).unwrap_err();
        assert!(error.message().contains("becomes 14672000x224"), "{error}");
    }

    #[test]
    fn another_size_than_the_models_is_refused() {
        let sizing = Sizing { resize: Resize::Keep, crop: None, out: Size::new(8, 9) };
        assert!(sizing.fit(Size::new(8, 9)).is_ok());
        let error = sizing.fit(Size::new(9, 8)).unwrap_err();
        assert!(error.message().starts_with("the picture has 9x8 pixels, but the model takes 8x9"), "{error}");
    }
}
