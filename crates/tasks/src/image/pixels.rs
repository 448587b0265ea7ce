//! Picture files to pixels and nothing more: the first half of a task, for pipelines that go on
//! with the picture.

use salver_core::{
    Batching, DataType, DecodeSpec, Elements, Error, Filter, Resize, Result, Shape, Signature, Tensor, TensorSpec,
};

use super::decode::decode;
use super::fit::Sizing;
use super::picture::{MAX_PIXELS, Picture, Size, Wanted};
use super::tones::{Channel, Layout, Writer};
use super::{NAME, upright, write};
use crate::builtin::{Function, View};
use crate::parts;

/// `image`: decodes files, and brings pictures to a size where one is set.
#[derive(Debug)]
pub(crate) struct Decoder {
    signature: Signature,
    /// None: each picture keeps its size.
    drawing: Option<Drawing>,
    filter: Filter,
}

/// How pictures of one size become a tensor.
#[derive(Debug)]
struct Drawing {
    sizing: Sizing,
    writer: Writer,
}

impl Drawing {
    fn new(resize: Resize, out: Size) -> Result<Self> {
        let same = |source| Channel { source, invert: false, rescale: 1.0, mean: 0.0, std: 1.0 };
        let writer = Writer::new(Layout::Pixels, out, DataType::Uint8, &[0, 1, 2].map(same))?;
        Ok(Self { sizing: Sizing { resize, crop: None, out }, writer })
    }

    fn shape(&self, rows: usize) -> Shape {
        let out = self.sizing.out;
        Shape::new(&[rows, out.height as usize, out.width as usize, 3])
    }
}

impl Decoder {
    /// # Errors
    /// `InvalidInput` for a size that pictures are not made in.
    pub(crate) fn new(spec: &DecodeSpec) -> Result<Self> {
        let drawing = match spec.size {
            None => None,
            Some((height, width)) => {
                let size = Size::new(width, height);
                if !(1..=MAX_PIXELS).contains(&size.pixels()) {
                    return Err(Error::invalid_input(format!(
                        "size: pictures of {size} pixels are not made; expected 1 to {MAX_PIXELS} pixels"
                    )));
                }
                Some(Drawing::new(Resize::Exact { height, width }, size)?)
            }
        };
        let (height, width) = spec.size.map_or((-1, -1), |(height, width)| (height.into(), width.into()));
        let signature = Signature {
            inputs: vec![TensorSpec::new(NAME, DataType::Bytes, &[-1])],
            outputs: vec![TensorSpec::new(NAME, DataType::Uint8, &[-1, height, width, 3])],
            batching: Batching::Rows { limit: None },
        };
        Ok(Self { signature, drawing, filter: spec.filter })
    }

    fn draw(&self, drawing: &Drawing, picture: Picture, out: &mut [u8]) -> Result<()> {
        write(picture, drawing.sizing, self.filter, &drawing.writer, out)
    }

    /// Brings all pictures to the size that is set.
    fn resized(&self, drawing: &Drawing, files: &Elements) -> Result<Tensor> {
        let row_bytes = drawing.writer.row_bytes();
        parts::check_bytes(NAME, files.len(), row_bytes)?;
        let mut data = vec![0; files.len() * row_bytes];
        for (row, (file, out)) in files.iter().zip(data.chunks_exact_mut(row_bytes)).enumerate() {
            let drawn = decode(file, Wanted::Colour).and_then(|picture| self.draw(drawing, picture, out));
            drawn.map_err(|error| in_row(row, &error))?;
        }
        Tensor::new(NAME, DataType::Uint8, drawing.shape(files.len()), data.into())
    }

    /// Keeps the size of the pictures, which has to be one.
    fn as_they_are(&self, files: &Elements) -> Result<Tensor> {
        let mut data = Vec::new();
        let mut first: Option<Drawing> = None;
        for (row, file) in files.iter().enumerate() {
            let picture = decode(file, Wanted::Colour).map_err(|error| in_row(row, &error))?;
            let size = upright(&picture);
            let drawing = match &mut first {
                Some(drawing) if drawing.sizing.out != size => return Err(unequal(row, size, drawing.sizing.out)),
                Some(drawing) => drawing,
                None => {
                    let drawing = Drawing::new(Resize::Keep, size)?;
                    parts::check_bytes(NAME, files.len(), drawing.writer.row_bytes())?;
                    data.reserve_exact(files.len() * drawing.writer.row_bytes());
                    first.insert(drawing)
                }
            };
            let start = data.len();
            data.resize(start + drawing.writer.row_bytes(), 0);
            self.draw(drawing, picture, &mut data[start..]).map_err(|error| in_row(row, &error))?;
        }
        let shape = first.map_or_else(|| Shape::new(&[0, 0, 0, 3]), |drawing| drawing.shape(files.len()));
        Tensor::new(NAME, DataType::Uint8, shape, data.into())
    }
}

impl Function for Decoder {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<Vec<Tensor>> {
        let files = inputs[0].elements()?;
        let pixels = match &self.drawing {
            Some(drawing) => self.resized(drawing, files)?,
            None => self.as_they_are(files)?,
        };
        Ok(vec![pixels])
    }
}

fn in_row(row: usize, error: &Error) -> Error {
    error.clone().context(format_args!("input '{NAME}', row {row}"))
}

fn unequal(row: usize, size: Size, first: Size) -> Error {
    Error::invalid_input(format!(
        "input '{NAME}', row {row}: the picture has {size} pixels, but that of row 0 has {first}; send one picture at \
         a time, or set `size` in the model's [builtin]"
    ))
}

#[cfg(test)]
mod tests;
