//! Parts of pictures, each brought to one size: what stands between a detector and a classifier.
//!
//! A part is resampled as Pillow's `resize(size, BILINEAR, box=…)` does it, but in FP32 and without
//! rounding: where a box and the size asked for are equal, pixels stay what they are.

use std::ops::Range;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use salver_core::{
    Batching, CropSpec, DataType, Element as _, Error, PixelLayout, Result, Shape, Signature, Tensor, TensorSpec,
};

use super::picture::Size;
use crate::builtin::{Function, View};
use crate::parts::{self, MAX_TENSOR_BYTES};

/// The most pixels that all boxes of a request may cover: a second or two of work.
const MAX_COVERED: u64 = 1 << 30;
/// How many pixels are made numbers of at a time.
const STRIP: usize = 1 << 16;
/// How far the filter sees, in pixels of the coarser side, and one for what is lost in rounding.
const REACH: f64 = 1.0;

/// `crop`: cuts parts out of pictures.
#[derive(Debug)]
pub(crate) struct Cropper {
    signature: Signature,
    out: Size,
    layout: PixelLayout,
    is_relative: bool,
    rescale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Cropper {
    /// # Errors
    /// `InvalidInput` naming the setting that cannot be.
    pub(crate) fn new(spec: &CropSpec) -> Result<Self> {
        let (height, width) = spec.size;
        let (high, wide) = (i64::from(height), i64::from(width));
        let crops = match spec.layout {
            PixelLayout::Nchw => [-1, -1, 3, high, wide],
            PixelLayout::Nhwc => [-1, -1, high, wide, 3],
        };
        let signature = Signature {
            inputs: vec![
                TensorSpec::new("image", spec.dtype, &[-1, -1, -1, 3]),
                TensorSpec::new("boxes", DataType::Fp32, &[-1, -1, 4]),
            ],
            outputs: vec![TensorSpec::new("crops", DataType::Fp32, &crops)],
            batching: Batching::Rows { limit: None },
        };
        let out = Size::new(width, height);
        if out.pixels() == 0 || row_bytes(out) > MAX_TENSOR_BYTES {
            let most = MAX_TENSOR_BYTES >> 20;
            return Err(Error::invalid_input(format!(
                "size: crops of {out} pixels take more than {most} MiB, or none"
            )));
        }
        let (mean, std) = (per_channel("mean", &spec.mean, 0.0)?, per_channel("std", &spec.std, 1.0)?);
        let is_relative = spec.relative;
        Ok(Self { signature, out, layout: spec.layout, is_relative, rescale: spec.rescale, mean, std })
    }

    /// Writes one part; `bytes` are zeros.
    fn write(&self, pixels: &[F32x3], bytes: &mut [u8]) {
        let cells = bytes.as_chunks_mut::<4>().0;
        for (idx, pixel) in pixels.iter().enumerate() {
            for (channel, value) in pixel.0.iter().enumerate() {
                let value = (value * self.rescale - self.mean[channel]) / self.std[channel];
                let at = match self.layout {
                    PixelLayout::Nchw => channel * pixels.len() + idx,
                    PixelLayout::Nhwc => idx * 3 + channel,
                };
                cells[at] = value.to_le_bytes();
            }
        }
    }
}

impl Function for Cropper {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<Vec<Tensor>> {
        let (images, boxes) = (inputs[0], inputs[1]);
        let (rows, count) = (images.rows(), boxes.shape()[1]);
        let each = row_bytes(self.out);
        parts::check_bytes("boxes", rows, each.saturating_mul(count))?;
        let mut crops = vec![0; rows * count * each];
        let mut places = crops.chunks_exact_mut(each);
        let mut covered = 0;
        for row in 0..rows {
            let picture = Pixels::of(images, row)?;
            for idx in 0..count {
                let at = (row * count + idx) * 4;
                let corners: Vec<f32> = boxes.floats(at..at + 4).collect();
                let (Some(bytes), Some(area)) = (places.next(), Area::new(&corners, picture.size, self.is_relative))
                else {
                    continue;
                };
                covered += area.kept_pixels(self.out);
                check_covered(covered)?;
                let pixels = picture.resample(&area, self.out);
                let pixels =
                    pixels.map_err(|error| error.context(format_args!("input 'boxes', row {row}, box {idx}")))?;
                self.write(&pixels, bytes);
            }
        }
        let dims: Vec<usize> = match self.layout {
            PixelLayout::Nchw => vec![rows, count, 3, self.out.height as usize, self.out.width as usize],
            PixelLayout::Nhwc => vec![rows, count, self.out.height as usize, self.out.width as usize, 3],
        };
        Ok(vec![Tensor::new("crops", DataType::Fp32, Shape::new(&dims), crops.into())?])
    }
}

/// Returns the bytes of one part.
fn row_bytes(size: Size) -> usize {
    usize::try_from(size.pixels()).unwrap_or(usize::MAX).saturating_mul(3 * size_of::<f32>())
}

fn per_channel(name: &str, values: &[f32], otherwise: f32) -> Result<[f32; 3]> {
    match *values {
        [] => Ok([otherwise; 3]),
        [one] => Ok([one; 3]),
        [red, green, blue] => Ok([red, green, blue]),
        _ => Err(Error::invalid_input(format!("{name} has {} numbers; expected one or three", values.len()))),
    }
}

fn check_covered(pixels: u64) -> Result<()> {
    if pixels <= MAX_COVERED {
        return Ok(());
    }
    Err(Error::too_large(format!(
        "the boxes cover more than {} million pixels together, which is all that is cut in one run; send fewer boxes, \
         or smaller pictures",
        MAX_COVERED / 1_000_000
    )))
}

/// One side of a part.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Side {
    start: f64,
    extent: f64,
    /// The length of the picture's side.
    from: u32,
}

/// The part of a picture that lies in a box.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    across: Side,
    down: Side,
}

impl Area {
    /// Clips a box of left, top, right and bottom; none: nothing of it lies in the picture, or it is
    /// none.
    fn new(corners: &[f32], size: Size, is_relative: bool) -> Option<Self> {
        let &[left, top, right, bottom] = corners else { return None };
        let side = |start: f32, end: f32, from: u32| {
            let unit = if is_relative { f64::from(from) } else { 1.0 };
            // A number that is none stays so, and is not less than another.
            let [start, end] = [start, end].map(|place| (f64::from(place) * unit).clamp(0.0, f64::from(from)));
            (start < end).then_some(Side { start, extent: end - start, from })
        };
        Some(Self { across: side(left, right, size.width)?, down: side(top, bottom, size.height)? })
    }

    fn kept_pixels(&self, out: Size) -> u64 {
        let len = |kept: Range<u32>| u64::from(kept.end - kept.start);
        len(self.across.kept(out.width)) * len(self.down.kept(out.height))
    }
}

impl Side {
    /// Returns the pixels that are looked at to make `out` of them.
    fn kept(self, out: u32) -> Range<u32> {
        let reach = REACH * (self.extent / f64::from(out)).max(1.0) + 1.0;
        let first = (self.start - reach).max(0.0);
        let end = (self.start + self.extent + reach).ceil().min(f64::from(self.from));
        first as u32..end as u32
    }

    /// Returns where it begins in the pixels that are looked at, and how long it is.
    fn within(self, kept: &Range<u32>) -> (f64, f64) {
        let start = self.start - f64::from(kept.start);
        // Rounding may not carry it over the edge.
        (start, self.extent.min(f64::from(kept.end - kept.start) - start))
    }
}

/// A picture in a tensor, its channels beside each other.
struct Pixels<'a> {
    data: &'a [u8],
    is_wide: bool,
    size: Size,
}

impl<'a> Pixels<'a> {
    fn of(images: View<'a>, row: usize) -> Result<Self> {
        let side = |extent: usize| {
            u32::try_from(extent).map_err(|_| Error::too_large(format!("input 'image' has a side of {extent} pixels")))
        };
        let size = Size::new(side(images.shape()[2])?, side(images.shape()[1])?);
        let is_wide = images.dtype() == DataType::Fp32;
        let each = images.bytes().len() / images.rows().max(1);
        Ok(Self { data: &images.bytes()[row * each..][..each], is_wide, size })
    }

    /// Returns the pixels of a part of some rows as numbers.
    fn numbers(&self, columns: &Range<u32>, rows: Range<u32>) -> Vec<F32x3> {
        let size = if self.is_wide { size_of::<f32>() } else { 1 };
        let mut pixels = Vec::with_capacity(columns.len() * rows.len());
        for row in rows {
            let start = row as usize * self.size.width as usize;
            let own = start + columns.start as usize..start + columns.end as usize;
            let bytes = &self.data[own.start * 3 * size..own.end * 3 * size];
            match self.is_wide {
                true => {
                    pixels.extend(bytes.as_chunks::<12>().0.iter().map(|pixel| {
                        F32x3::new([f32::get(&pixel[..4]), f32::get(&pixel[4..8]), f32::get(&pixel[8..])])
                    }))
                }
                false => pixels.extend(bytes.as_chunks::<3>().0.iter().map(|pixel| F32x3::new(pixel.map(f32::from)))),
            }
        }
        pixels
    }

    /// Brings a part to a size: across a few rows at a time, then down.
    fn resample(&self, area: &Area, out: Size) -> Result<Vec<F32x3>> {
        let (columns, rows) = (area.across.kept(out.width), area.down.kept(out.height));
        let middle = Size::new(out.width, rows.end - rows.start);
        if row_bytes(middle) > MAX_TENSOR_BYTES {
            return Err(Error::too_large(format!("a part of {middle} pixels is too high; send a smaller picture")));
        }
        let mut resizer = Resizer::new();
        let (start, extent) = area.across.within(&columns);
        let mut narrow = Vec::with_capacity(middle.width as usize * middle.height as usize);
        let step = u32::try_from((STRIP / columns.len()).max(1)).unwrap_or(u32::MAX);
        for first in rows.clone().step_by(step as usize) {
            let strip = first..rows.end.min(first.saturating_add(step));
            let from = Size::new(columns.end - columns.start, strip.end - strip.start);
            let options = ResizeOptions::new().crop(start, 0.0, extent, f64::from(from.height));
            let to = Size::new(out.width, from.height);
            narrow.extend(convolve(&mut resizer, &self.numbers(&columns, strip), from, to, options)?);
        }
        let (start, extent) = area.down.within(&rows);
        let options = ResizeOptions::new().crop(0.0, start, f64::from(out.width), extent);
        convolve(&mut resizer, &narrow, middle, out, options)
    }
}

fn convolve(
    resizer: &mut Resizer,
    pixels: &[F32x3],
    from: Size,
    to: Size,
    options: ResizeOptions,
) -> Result<Vec<F32x3>> {
    let refused = |error: &dyn std::fmt::Display| Error::invalid_input(format!("it cannot be resized: {error}"));
    let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let mut resized = vec![F32x3::new([0.0; 3]); usize::try_from(to.pixels()).unwrap_or(usize::MAX)];
    let source = TypedImageRef::new(from.width, from.height, pixels).map_err(|error| refused(&error))?;
    let mut target =
        TypedImage::from_pixels_slice(to.width, to.height, &mut resized).map_err(|error| refused(&error))?;
    resizer.resize_typed(&source, &mut target, &options).map_err(|error| refused(&error))?;
    drop(target);
    Ok(resized)
}

#[cfg(test)]
mod tests;
