//! Pixels into a tensor: from 0 to 255 to the numbers that a model takes.
//!
//! A channel has 256 possible values, so each becomes a table: inverting, rescaling, normalising
//! and the type of the graph's input are settled when the model is loaded.

use half::{bf16, f16};
use salver_core::{DataType, Error, Result};

use super::fit::Fit;
use super::picture::{Picture, Size};

/// How a graph lays out a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A plane for each channel: `[channels, height, width]`.
    Planes,
    /// The channels of a pixel beside each other: `[height, width, channels]`.
    Pixels,
}

/// What becomes of the 256 values of a channel.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    /// Which channel of a picture in colour it is: red is 0.
    pub(crate) source: usize,
    /// Whether dark becomes light.
    pub(crate) invert: bool,
    pub(crate) rescale: f32,
    pub(crate) mean: f32,
    pub(crate) std: f32,
}

/// Writes pictures as a graph takes them.
#[derive(Debug)]
pub(crate) struct Writer {
    layout: Layout,
    size: Size,
    tables: Tables,
}

/// A table for each channel, by bytes of an element.
#[derive(Debug)]
enum Tables {
    One(Vec<Table<1>>),
    Two(Vec<Table<2>>),
    Four(Vec<Table<4>>),
    Eight(Vec<Table<8>>),
}

#[derive(Debug)]
struct Table<const N: usize> {
    source: usize,
    values: Box<[[u8; N]; 256]>,
}

impl Writer {
    /// Makes the tables.
    ///
    /// # Errors
    /// `InvalidInput` for an element type that pictures do not become.
    pub(crate) fn new(layout: Layout, size: Size, dtype: DataType, channels: &[Channel]) -> Result<Self> {
        let tables = match dtype {
            DataType::Uint8 => Tables::One(tables(channels, |value| [value.round().clamp(0.0, 255.0) as u8])),
            DataType::Int8 => {
                Tables::One(tables(channels, |value| (value.round().clamp(-128.0, 127.0) as i8).to_le_bytes()))
            }
            DataType::Fp16 => Tables::Two(tables(channels, |value| f16::from_f32(value).to_le_bytes())),
            DataType::Bf16 => Tables::Two(tables(channels, |value| bf16::from_f32(value).to_le_bytes())),
            DataType::Fp32 => Tables::Four(tables(channels, f32::to_le_bytes)),
            DataType::Fp64 => Tables::Eight(tables(channels, |value| f64::from(value).to_le_bytes())),
            other => {
                return Err(Error::invalid_input(format!(
                    "the graph takes {other}; pictures become FP32, FP16, BF16, FP64, UINT8 or INT8"
                )));
            }
        };
        Ok(Self { layout, size, tables })
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn n_channels(&self) -> usize {
        self.extents().0
    }

    /// Returns the bytes of one picture.
    pub(crate) fn row_bytes(&self) -> usize {
        let (n_channels, width) = self.extents();
        usize::try_from(self.size.pixels()).unwrap_or(usize::MAX).saturating_mul(n_channels * width)
    }

    /// Returns the number of channels and the bytes of an element.
    fn extents(&self) -> (usize, usize) {
        match &self.tables {
            Tables::One(tables) => (tables.len(), 1),
            Tables::Two(tables) => (tables.len(), 2),
            Tables::Four(tables) => (tables.len(), 4),
            Tables::Eight(tables) => (tables.len(), 8),
        }
    }

    /// Writes the part of a picture that the model sees; `fit` is as the picture is stored, without
    /// anything left to resize. `out` has [`Writer::row_bytes`].
    pub(crate) fn write(&self, picture: &Picture, fit: Fit, out: &mut [u8]) {
        let walk = Walk::new(picture, fit, self.size);
        match &self.tables {
            Tables::One(tables) => self.fill(tables, &walk, out.as_chunks_mut().0),
            Tables::Two(tables) => self.fill(tables, &walk, out.as_chunks_mut().0),
            Tables::Four(tables) => self.fill(tables, &walk, out.as_chunks_mut().0),
            Tables::Eight(tables) => self.fill(tables, &walk, out.as_chunks_mut().0),
        }
    }

    fn fill<const N: usize>(&self, tables: &[Table<N>], walk: &Walk<'_>, out: &mut [[u8; N]]) {
        let (width, n_pixels) = (self.size.width as usize, out.len() / tables.len());
        for (idx, table) in tables.iter().enumerate() {
            let (cells, step) = match self.layout {
                Layout::Planes => (&mut out[idx * n_pixels..][..n_pixels], 1),
                Layout::Pixels => (&mut out[idx..], tables.len()),
            };
            if walk.is_padded {
                cells.iter_mut().step_by(step).for_each(|cell| *cell = table.values[0]);
            }
            let source = if walk.channels == 1 { 0 } else { table.source };
            for (y, &row) in walk.rows.iter().enumerate() {
                let cells = &mut cells[((walk.top + y) * width + walk.left) * step..];
                match walk.straight(row) {
                    // Most pictures, into most graphs.
                    Some(pixels) if step == 1 && walk.channels == 3 => {
                        for (cell, pixel) in cells.iter_mut().zip(pixels.as_chunks::<3>().0) {
                            *cell = table.values[usize::from(pixel[source])];
                        }
                    }
                    _ => {
                        let pixels = &walk.pixels[row + source..];
                        for (cell, &column) in cells.iter_mut().step_by(step).zip(&walk.columns) {
                            *cell = table.values[usize::from(pixels[column])];
                        }
                    }
                }
            }
        }
    }
}

fn tables<const N: usize>(channels: &[Channel], bytes: impl Fn(f32) -> [u8; N]) -> Vec<Table<N>> {
    let table = |channel: &Channel| {
        let value = |tone: usize| {
            let tone = if channel.invert { 255 - tone } else { tone } as f32;
            (tone * channel.rescale - channel.mean) / channel.std
        };
        Table { source: channel.source, values: Box::new(std::array::from_fn(|tone| bytes(value(tone)))) }
    };
    channels.iter().map(table).collect()
}

/// Where the pixels that a model sees lie in a picture, row by row as it stands upright.
struct Walk<'a> {
    pixels: &'a [u8],
    channels: usize,
    /// Where each row begins.
    rows: Vec<usize>,
    /// How far into a row each pixel lies.
    columns: Vec<usize>,
    top: usize,
    left: usize,
    is_padded: bool,
    is_straight: bool,
}

impl<'a> Walk<'a> {
    fn new(picture: &'a Picture, fit: Fit, out: Size) -> Self {
        let places = |start: u32, len: u32, step: usize, flip: bool| -> Vec<usize> {
            let places = (start..start + len).map(|place| place as usize * step);
            if flip { places.rev().collect() } else { places.collect() }
        };
        let (orientation, channels) = (picture.orientation, picture.channels);
        let across = places(fit.across.start, fit.across.len, channels, orientation.flip_x);
        let down = places(fit.down.start, fit.down.len, picture.size.width as usize * channels, orientation.flip_y);
        let (pad_x, pad_y) = (fit.across.pad as usize, fit.down.pad as usize);
        let (rows, columns, top, left) =
            if orientation.transpose { (across, down, pad_x, pad_y) } else { (down, across, pad_y, pad_x) };
        let is_padded = rows.len() < out.height as usize || columns.len() < out.width as usize;
        let is_straight = !orientation.transpose && !orientation.flip_x;
        Self { pixels: &picture.pixels, channels, rows, columns, top, left, is_padded, is_straight }
    }

    /// Returns the seen pixels of a row where they lie in their order beside each other.
    fn straight(&self, row: usize) -> Option<&'a [u8]> {
        let first = row + self.columns.first().filter(|_| self.is_straight)?;
        self.pixels.get(first..first + self.columns.len() * self.channels)
    }
}
