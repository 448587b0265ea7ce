//! How a graph takes pictures, told by the shape of its input and by what the model's files say.

use salver_core::{Batching, Colours, Dim, Error, ImageSpec, Resize, Result, Signature, TensorSpec};

use super::fit::Sizing;
use super::picture::{MAX_PIXELS, Size, Wanted};
use super::tones::{Channel, Layout, Writer};

/// What is made of pictures, and how.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) spec: TensorSpec,
    pub(crate) sizing: Sizing,
    pub(crate) wanted: Wanted,
    pub(crate) writer: Writer,
    /// The most rows that the graph takes at once; none: any number.
    pub(crate) max_rows: Option<usize>,
}

impl Input {
    /// Settles what the graph's only input and the model's files leave open.
    ///
    /// # Errors
    /// `InvalidInput` naming the setting that does not fit or is missing.
    pub(crate) fn new(spec: &ImageSpec, graph: &Signature) -> Result<Self> {
        let [input] = graph.inputs.as_slice() else {
            return Err(Error::invalid_input(format!(
                "the graph has {} inputs; a model of pictures takes one",
                graph.inputs.len()
            )));
        };
        let frame = Frame::read(input, spec.colours)?;
        let colours = frame.colours(input, spec.colours)?;
        let sizing = sizing(spec, &frame, input)?;
        let writer = Writer::new(frame.layout, sizing.out, input.dtype, &channels(spec, colours, input)?)?;
        let wanted = if colours == Colours::Grey { Wanted::Brightness } else { Wanted::Colour };
        Ok(Self { spec: input.clone(), sizing, wanted, writer, max_rows: max_rows(input, graph.batching)? })
    }

    /// Returns the shape of the graph's input for this many pictures.
    pub(crate) fn shape(&self, n_rows: usize) -> salver_core::Shape {
        let (height, width) = (self.sizing.out.height as usize, self.sizing.out.width as usize);
        let dims = &self.spec.shape;
        let fixed = |dim: &Dim, otherwise: usize| if let Dim::Fixed(extent) = *dim { extent } else { otherwise };
        let rest: Vec<usize> = match &dims[1..] {
            [flat] => vec![fixed(flat, height * width)],
            [_, _] => vec![height, width],
            [first, _, last] => match self.writer.layout() {
                Layout::Planes => vec![fixed(first, self.writer.n_channels()), height, width],
                Layout::Pixels => vec![height, width, fixed(last, self.writer.n_channels())],
            },
            _ => Vec::new(),
        };
        std::iter::once(n_rows).chain(rest).collect()
    }
}

/// What the shape of an input says.
#[derive(Debug, Clone, Copy)]
struct Frame {
    layout: Layout,
    channels: usize,
    height: Option<u32>,
    width: Option<u32>,
    /// The pixels of a flat row.
    flat: Option<usize>,
}

impl Frame {
    fn read(input: &TensorSpec, colours: Option<Colours>) -> Result<Self> {
        let side = |dim: Dim| match dim {
            Dim::Fixed(extent) => u32::try_from(extent).ok(),
            Dim::Free => None,
        };
        // With colours given, a free extent may be that of the channels.
        let given = colours.map(n_channels);
        let channels = |dim: Dim| match dim {
            Dim::Fixed(extent @ (1 | 3)) if given.is_none_or(|given| given == extent) => Some(extent),
            _ => None,
        };
        let frame = |layout, channels, height, width| Self {
            layout,
            channels,
            height: side(height),
            width: side(width),
            flat: None,
        };
        match *input.shape.as_slice() {
            [_, first, second, third] => match (channels(first), channels(third)) {
                (Some(n_channels), None) => Ok(frame(Layout::Planes, n_channels, second, third)),
                (None, Some(n_channels)) => Ok(frame(Layout::Pixels, n_channels, first, second)),
                (Some(_), Some(_)) if given.is_none() => {
                    Err(unclear(input, "which of its extents are the channels; give `colours`"))
                }
                // As most graphs have them.
                (Some(n_channels), Some(_)) => Ok(frame(Layout::Planes, n_channels, second, third)),
                (None, None) => Err(unclear(input, "where its 1 or 3 channels are; give its shape as an [[input]]")),
            },
            [_, height, width] => Ok(frame(Layout::Planes, 1, height, width)),
            [_, flat] => {
                let flat = match flat {
                    Dim::Fixed(extent) => Some(extent),
                    Dim::Free => None,
                };
                Ok(Self { layout: Layout::Planes, channels: 1, height: None, width: None, flat })
            }
            _ => Err(unclear(
                input,
                "how a picture lies in it; expected [n,channels,height,width], [n,height,width,channels], \
                 [n,height,width] or [n,height*width]",
            )),
        }
    }

    fn colours(&self, input: &TensorSpec, given: Option<Colours>) -> Result<Colours> {
        let colours = given.unwrap_or(if self.channels == 1 { Colours::Grey } else { Colours::Rgb });
        if n_channels(colours) == self.channels {
            return Ok(colours);
        }
        Err(Error::invalid_input(format!(
            "`colours` says {} channels, but input '{}' has shape {:?}: {}",
            n_channels(colours),
            input.name,
            input.wire_shape(),
            self.channels
        )))
    }
}

fn n_channels(colours: Colours) -> usize {
    match colours {
        Colours::Grey => 1,
        Colours::Rgb | Colours::Bgr => 3,
    }
}

fn unclear(input: &TensorSpec, what: &str) -> Error {
    Error::invalid_input(format!(
        "input '{}' has shape {:?}, which does not say {what}",
        input.name,
        input.wire_shape()
    ))
}

/// Settles the size that pictures come to.
fn sizing(spec: &ImageSpec, frame: &Frame, input: &TensorSpec) -> Result<Sizing> {
    let crop = spec.crop.map(|(height, width)| Size::new(width, height));
    let exact = match spec.resize {
        Some(Resize::Exact { height, width }) => Some(Size::new(width, height)),
        _ => None,
    };
    let named = crop.or(exact);
    let size = |name: &str| Error::invalid_input(name.to_owned());
    let shape = || format!("input '{}' has shape {:?}", input.name, input.wire_shape());
    let out = match (named, frame.height, frame.width) {
        (Some(named), height, width) => {
            let fits = height.is_none_or(|height| height == named.height)
                && width.is_none_or(|width| width == named.width)
                && frame.flat.is_none_or(|flat| flat as u64 == named.pixels());
            if !fits {
                let setting = if crop.is_some() { "crop" } else { "resize" };
                return Err(size(&format!(
                    "`{setting}` makes pictures {} high and {} wide, but {}",
                    named.height,
                    named.width,
                    shape()
                )));
            }
            named
        }
        (None, Some(height), Some(width)) => Size::new(width, height),
        (None, ..) => {
            return Err(size(&format!(
                "{}, which does not say how high and wide pictures are; set `crop` or `resize` to [height, width]",
                shape()
            )));
        }
    };
    if let (Some(Resize::Shortest(short)), None) = (spec.resize, crop) {
        return Err(size(&format!(
            "`resize = {short}` keeps proportions, but the model takes {} high and {} wide; add `crop`, or set `resize` \
             to [height, width]",
            out.height, out.width
        )));
    }
    let zero = matches!(spec.resize, Some(Resize::Shortest(0))) || exact.is_some_and(|size| size.pixels() == 0);
    if zero || !(1..=MAX_PIXELS).contains(&out.pixels()) || exact.is_some_and(|size| size.pixels() > MAX_PIXELS) {
        return Err(size(&format!("pictures of {out} pixels are not made; expected 1 to {MAX_PIXELS} pixels")));
    }
    let resize = spec.resize.unwrap_or(match crop {
        // "Straight to what the graph takes", unless only a part of it is wanted.
        Some(_) => Resize::Keep,
        None => Resize::Exact { height: out.height, width: out.width },
    });
    Ok(Sizing { resize, crop, out })
}

fn channels(spec: &ImageSpec, colours: Colours, input: &TensorSpec) -> Result<Vec<Channel>> {
    let sources: &[usize] = match colours {
        Colours::Grey => &[0],
        Colours::Rgb => &[0, 1, 2],
        Colours::Bgr => &[2, 1, 0],
    };
    let rescale = spec.rescale.unwrap_or(if input.dtype.is_float() { 1.0 / 255.0 } else { 1.0 });
    let each = |name: &str, values: &[f32], otherwise: f32| -> Result<Vec<f32>> {
        match values {
            [] => Ok(vec![otherwise; sources.len()]),
            [one] => Ok(vec![*one; sources.len()]),
            many if many.len() == sources.len() => Ok(many.to_vec()),
            many => Err(Error::invalid_input(format!(
                "`{name}` has {} numbers; expected {}, one for each channel",
                many.len(),
                sources.len()
            ))),
        }
    };
    let (means, stds) = (each("mean", &spec.mean, 0.0)?, each("std", &spec.std, 1.0)?);
    let numbers = [("rescale", &[rescale][..]), ("mean", &means), ("std", &stds)];
    if let Some((name, _)) = numbers.iter().find(|(_, values)| values.iter().any(|value| !value.is_finite())) {
        return Err(Error::invalid_input(format!("`{name}` is not finite; expected a number")));
    }
    if stds.contains(&0.0) {
        return Err(Error::invalid_input("`std` is zero; pictures are divided by it"));
    }
    let of = |(&source, (mean, std)): (&usize, (f32, f32))| Channel { source, invert: spec.invert, rescale, mean, std };
    Ok(sources.iter().zip(means.into_iter().zip(stds)).map(of).collect())
}

/// Returns the most rows of a part.
fn max_rows(input: &TensorSpec, batching: Batching) -> Result<Option<usize>> {
    match (input.shape.first(), batching) {
        (Some(Dim::Free), Batching::Rows { limit }) => Ok(limit.map(Into::into)),
        (Some(Dim::Free), Batching::Fixed) => Ok(None),
        (Some(Dim::Fixed(1)), _) => Ok(Some(1)),
        _ => Err(unclear(input, "that it takes any number of pictures, or one; give it a first extent of -1 or 1")),
    }
}
