//! `[image]`: how a picture becomes what the graph takes.

use salver_core::{Colours, Filter, Resize};
use serde::Deserialize;
use toml::Spanned;

use super::fault::Fault;
use super::number::Whole;
use super::text::{Classes, Scores};
use crate::task::ImageDraft;

/// `[image]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Image {
    /// To which size; none: straight to what the graph takes.
    resize: Option<Size>,
    /// The part in the middle that is taken.
    crop: Option<Spanned<Part>>,
    /// How pixels are made of others.
    filter: Option<Pixels>,
    /// Which channels the graph takes.
    colours: Option<Channels>,
    /// What values are multiplied with.
    rescale: Option<Spanned<f64>>,
    /// What is taken away from each channel after that.
    mean: Option<Spanned<Vec<f64>>>,
    /// What each channel is divided by after that.
    std: Option<Spanned<Vec<f64>>>,
    /// Whether dark becomes light first.
    invert: bool,
    /// How scores are made.
    scores: Option<Scores>,
    /// The most classes of an answer.
    top_k: Option<Classes>,
}

/// Pixels of a side.
pub(super) type Side = Whole<1, 8192>;

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "must be the shorter side, [height, width] (whole numbers from 1 to 8192) or \"keep\"")]
enum Size {
    Shortest(Side),
    Exact([Side; 2]),
    Word(Word),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Keep,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "must be a side or [height, width], whole numbers from 1 to 8192")]
enum Part {
    Square(Side),
    Exact([Side; 2]),
}

/// How pixels are made of others.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pixels {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

impl Pixels {
    pub(super) fn filter(self) -> Filter {
        match self {
            Self::Nearest => Filter::Nearest,
            Self::Bilinear => Filter::Bilinear,
            Self::Bicubic => Filter::Bicubic,
            Self::Lanczos => Filter::Lanczos,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channels {
    Rgb,
    Bgr,
    Grey,
}

/// Checks the keys of `[image]`.
pub(super) fn draft(table: Option<&Image>) -> Result<ImageDraft, Fault> {
    let Some(table) = table else {
        return Ok(ImageDraft::default());
    };
    let draft = ImageDraft {
        scores: table.scores.map(Scores::rule),
        top_k: table.top_k.map(Whole::count),
        resize: table.resize.map(resize),
        crop: table.crop.as_ref().map(|part| match part.get_ref() {
            Part::Square(side) => (side.get(), side.get()),
            Part::Exact([height, width]) => (height.get(), width.get()),
        }),
        filter: table.filter.map(Pixels::filter),
        colours: table.colours.map(|colours| match colours {
            Channels::Rgb => Colours::Rgb,
            Channels::Bgr => Colours::Bgr,
            Channels::Grey => Colours::Grey,
        }),
        rescale: table.rescale.as_ref().map(rescale).transpose()?,
        mean: table.mean.as_ref().map(|mean| per_channel(mean, "numbers", f32::is_finite)).transpose()?,
        std: table.std.as_ref().map(|std| per_channel(std, "numbers above zero", is_positive)).transpose()?,
        invert: table.invert,
    };
    // The size before the crop may still come from another file.
    if let (Some(crop), Some(_), Err(error)) = (&table.crop, table.resize, draft.check_crop()) {
        return Err(Fault::new(crop, &error));
    }
    match (table.std.as_ref().or(table.mean.as_ref()), draft.check_channels()) {
        (Some(place), Err(error)) => Err(Fault::new(place, &error)),
        _ => Ok(draft),
    }
}

fn resize(size: Size) -> Resize {
    match size {
        Size::Shortest(side) => Resize::Shortest(side.get()),
        Size::Exact([height, width]) => Resize::Exact { height: height.get(), width: width.get() },
        Size::Word(Word::Keep) => Resize::Keep,
    }
}

pub(super) fn is_positive(number: f32) -> bool {
    number.is_finite() && number > 0.0
}

#[expect(clippy::cast_possible_truncation, reason = "what is too large or too small for it is refused")]
pub(super) fn rescale(factor: &Spanned<f64>) -> Result<f32, Fault> {
    let number = *factor.get_ref() as f32;
    if is_positive(number) {
        return Ok(number);
    }
    Err(Fault::invalid(factor, format_args!("must be a number above zero, got {}", factor.get_ref())))
}

#[expect(clippy::cast_possible_truncation, reason = "what is too large or too small for it is refused")]
pub(super) fn per_channel(list: &Spanned<Vec<f64>>, what: &str, fits: fn(f32) -> bool) -> Result<Vec<f32>, Fault> {
    let numbers: Vec<f32> = list.get_ref().iter().map(|&number| number as f32).collect();
    if matches!(numbers.len(), 1 | 3) && numbers.iter().all(|&number| fits(number)) {
        return Ok(numbers);
    }
    Err(Fault::invalid(list, format_args!("must be one or three {what}, got {:?}", list.get_ref())))
}
