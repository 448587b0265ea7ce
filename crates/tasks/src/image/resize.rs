//! Resizing, of the part that the model sees only.
//!
//! In two passes, as Pillow does it: first across, then down, rounded to 8 bits in between.

use std::ops::Range;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use salver_core::{Error, Filter, Result};

use super::fit::{Fit, Span};
use super::picture::{Picture, Size};

/// Resizes a picture as it is stored. Returns what the model sees of it, and where that lies in it.
///
/// # Errors
/// `InvalidInput` where the library refuses the sizes.
pub(crate) fn resize(picture: Picture, fit: Fit, filter: Filter) -> Result<(Picture, Fit)> {
    // A picture that lies on its side goes down first: that is across once it stands.
    let order = if picture.orientation.transpose { [Side::Down, Side::Across] } else { [Side::Across, Side::Down] };
    let Some(kernel) = kernel(filter) else {
        return Ok(if fit.across.is_resized() || fit.down.is_resized() { pick(&picture, fit) } else { (picture, fit) });
    };
    let mut now = Resizing { picture, across: fit.across.into(), down: fit.down.into() };
    for side in order {
        if now.line(side).span.is_resized() {
            now = now.pass(side, kernel)?;
        }
    }
    Ok((now.picture, Fit { across: now.across.span, down: now.down.span }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Across,
    Down,
}

/// A picture between passes.
struct Resizing {
    picture: Picture,
    across: Line,
    down: Line,
}

/// A side of a picture between passes.
#[derive(Clone, Copy)]
struct Line {
    span: Span,
    /// How many pixels were left out before the first one.
    cut: u32,
}

impl From<Span> for Line {
    fn from(span: Span) -> Self {
        Self { span, cut: 0 }
    }
}

/// A filter, and how far from its centre it sees, in pixels of the coarser picture.
#[derive(Clone, Copy)]
struct Kernel {
    filter: FilterType,
    reach: f64,
}

fn kernel(filter: Filter) -> Option<Kernel> {
    let (filter, reach) = match filter {
        Filter::Nearest => return None,
        Filter::Bilinear => (FilterType::Bilinear, 1.0),
        Filter::Bicubic => (FilterType::CatmullRom, 2.0),
        Filter::Lanczos => (FilterType::Lanczos3, 3.0),
    };
    Some(Kernel { filter, reach })
}

impl Kernel {
    /// Returns the pixels of a side that are looked at once it is its turn.
    fn sight(self, span: Span) -> Range<u32> {
        if !span.is_resized() {
            return span.start..span.start + span.len;
        }
        // One more on either side, for what is lost in rounding.
        let reach = self.reach * span.scale().max(1.0) + 1.0;
        let first = (f64::from(span.start) * span.scale() - reach).max(0.0);
        let end = (f64::from(span.start + span.len) * span.scale() + reach).ceil().min(f64::from(span.from));
        first as u32..end as u32
    }
}

impl Resizing {
    fn line(&self, side: Side) -> Line {
        if side == Side::Across { self.across } else { self.down }
    }

    /// Resizes one side; of the other, only what is still looked at stays.
    fn pass(self, side: Side, kernel: Kernel) -> Result<Self> {
        let (Line { span, cut }, other) = match side {
            Side::Across => (self.across, self.down),
            Side::Down => (self.down, self.across),
        };
        let length = if side == Side::Across { self.picture.size.width } else { self.picture.size.height };
        let start = f64::from(span.start) * span.scale() - f64::from(cut);
        // Rounding may not carry it over the edge.
        let extent = (f64::from(span.len) * span.scale()).min(f64::from(length) - start);
        let kept = kernel.sight(other.span);
        let (kept_start, kept_len) = (f64::from(kept.start - other.cut), kept.end - kept.start);
        let (size, options) = match side {
            Side::Across => (
                Size::new(span.len, kept_len),
                ResizeOptions::new().crop(start, kept_start, extent, f64::from(kept_len)),
            ),
            Side::Down => (
                Size::new(kept_len, span.len),
                ResizeOptions::new().crop(kept_start, start, f64::from(kept_len), extent),
            ),
        };
        let options = options.resize_alg(ResizeAlg::Convolution(kernel.filter));
        let pixels = match self.picture.channels {
            1 => convolve::<U8>(&self.picture, size, &options)?,
            _ => convolve::<U8x3>(&self.picture, size, &options)?,
        };
        let picture = Picture { size, pixels, ..self.picture };
        let line = Line::from(span.done());
        let other = if other.span.is_resized() { Line { cut: kept.start, ..other } } else { other.span.done().into() };
        let (across, down) = if side == Side::Across { (line, other) } else { (other, line) };
        Ok(Self { picture, across, down })
    }
}

fn convolve<P: PixelTrait>(picture: &Picture, to: Size, options: &ResizeOptions) -> Result<Vec<u8>> {
    let refused = |error: &dyn std::fmt::Display| Error::invalid_input(format!("it cannot be resized: {error}"));
    let source = TypedImageRef::<P>::from_buffer(picture.size.width, picture.size.height, &picture.pixels)
        .map_err(|error| refused(&error))?;
    let mut pixels = vec![0; usize::try_from(to.pixels()).unwrap_or(usize::MAX) * picture.channels];
    let mut target = TypedImage::<P>::from_buffer(to.width, to.height, &mut pixels).map_err(|error| refused(&error))?;
    Resizer::new().resize_typed(&source, &mut target, options).map_err(|error| refused(&error))?;
    Ok(pixels)
}

/// Takes the nearest pixels.
fn pick(picture: &Picture, fit: Fit) -> (Picture, Fit) {
    let orientation = picture.orientation;
    let (columns, rows) = (nearest(fit.across, orientation.flip_x), nearest(fit.down, orientation.flip_y));
    let (width, channels) = (picture.size.width as usize, picture.channels);
    let mut pixels = Vec::with_capacity(columns.len() * rows.len() * channels);
    for row in rows {
        let row = &picture.pixels[row * width * channels..][..width * channels];
        for column in &columns {
            pixels.extend_from_slice(&row[column * channels..][..channels]);
        }
    }
    let size = Size::new(fit.across.len, fit.down.len);
    let fit = Fit { across: fit.across.done(), down: fit.down.done() };
    (Picture { size, pixels, ..*picture }, fit)
}

/// Returns the pixel of a side that stands for each that the model sees. Of two that are equally
/// near it is the later one of the upright picture.
fn nearest(span: Span, flip: bool) -> Vec<usize> {
    let (upright, scale) = (if flip { span.reversed() } else { span }, span.scale());
    // Added up step by step, as Pillow does it: a product would now and then round to the next one.
    let places = std::iter::successors(Some(scale * 0.5), |place| Some(place + scale));
    let last = span.from.saturating_sub(1);
    let seen = places.skip(upright.start as usize).take(upright.len as usize).map(|place| (place as u32).min(last));
    if !flip {
        return seen.map(|place| place as usize).collect();
    }
    let mut stored: Vec<usize> = seen.map(|place| (last - place) as usize).collect();
    stored.reverse();
    stored
}

#[cfg(test)]
mod tests;
