//! How pictures are prepared: `preprocessor_config.json`, with the defaults of the class it names.

use salver_core::{Colours, Error, Filter, Resize, Result};

use super::files::{Channels, Folder, Preprocessor, Size};
use crate::model_toml;
use crate::task::ImageDraft;

const FILE: &str = "preprocessor_config.json";
/// The longest side.
const MAX_SIDE: u32 = 8192;

/// Classes that do something of their own with pictures.
const OTHERS: [&str; 5] = ["Levit", "PoolFormer", "EfficientNet", "Perceiver", "TimmWrapper"];
/// Classes to which a size that is one number is a square; to others listed it is the shorter side.
const SQUARE: [&str; 3] = ["ViT", "DeiT", "Beit"];
const SHORTEST: [&str; 6] = ["ConvNext", "CLIP", "Bit", "MobileNetV1", "MobileNetV2", "MobileViT"];
/// Classes whose default filter is bicubic; that of the others is bilinear.
const BICUBIC: [&str; 4] = ["CLIP", "DeiT", "Beit", "Bit"];
/// The class that turns red, green and blue round, and does not normalise.
const FLIPPING: &str = "MobileViT";

/// Fills in what `draft` leaves open.
pub(super) fn fill(draft: ImageDraft, found: &Folder) -> Result<ImageDraft> {
    let Some(file) = &found.preprocessor else {
        // What `model.toml` says of the size shows that it describes the rest as well.
        return if draft.resize.is_some() { Ok(draft) } else { Err(missing()) };
    };
    let of_file = match described(file) {
        Ok(of_file) => of_file,
        // What `model.toml` says goes before what cannot be done.
        Err(_) if draft.resize.is_some() => return Ok(draft),
        Err(error) => return Err(error.context(FILE)),
    };
    // A size of one's own is one without the crop that belongs to another.
    let crop = draft.crop.or(of_file.crop.filter(|_| draft.resize.is_none()));
    Ok(ImageDraft {
        resize: draft.resize.or(of_file.resize),
        crop,
        filter: draft.filter.or(of_file.filter),
        colours: draft.colours.or(of_file.colours),
        rescale: draft.rescale.or(of_file.rescale),
        mean: draft.mean.or(of_file.mean),
        std: draft.std.or(of_file.std),
        ..draft
    })
}

fn missing() -> Error {
    Error::invalid_input(format!(
        "there is no {FILE} that says how pictures are prepared; write a {} with task = \"image-classification\" and \
         [image] with resize, crop, filter, mean and std",
        model_toml::MANIFEST
    ))
}

fn described(file: &Preprocessor) -> Result<ImageDraft> {
    let class = file.image_processor_type.as_deref().or(file.feature_extractor_type.as_deref()).unwrap_or_default();
    let is_one_of = |classes: &[&str]| classes.iter().any(|name| class.starts_with(name));
    if is_one_of(&OTHERS) {
        return Err(not_built_in(&format!("{class} has a way of its own to prepare pictures")));
    }
    if file.do_pad == Some(true) {
        return Err(not_built_in("do_pad = true"));
    }
    if file.rescale_offset == Some(true) {
        return Err(not_built_in("rescale_offset = true"));
    }
    let (resize, crop) = match class.starts_with("ConvNext") {
        true => convnext(file)?,
        false => sizes(file, class, is_one_of(&SQUARE), is_one_of(&SHORTEST))?,
    };
    let default = if is_one_of(&BICUBIC) { 3 } else { 2 };
    let normalizes = normalizes(file, class)?;
    Ok(ImageDraft {
        resize: Some(resize),
        crop,
        filter: Some(filter(file.resample.unwrap_or(default))?),
        colours: file.do_flip_channel_order.unwrap_or(class.starts_with(FLIPPING)).then_some(Colours::Bgr),
        rescale: rescale(file)?,
        mean: channels(file.image_mean.as_ref().filter(|_| normalizes), "image_mean", f32::is_finite)?,
        std: channels(file.image_std.as_ref().filter(|_| normalizes), "image_std", |std| std > 0.0)?,
        ..ImageDraft::default()
    })
}

/// Defaults of classes differ too much to guess.
fn normalizes(file: &Preprocessor, class: &str) -> Result<bool> {
    match (file.do_normalize, file.image_mean.is_some(), file.image_std.is_some()) {
        (Some(false), _, _) => Ok(false),
        (_, true, true) => Ok(true),
        (None, false, false) if class.starts_with(FLIPPING) => Ok(false),
        _ => Err(unclear("do_normalize, image_mean and image_std")),
    }
}

fn sizes(file: &Preprocessor, class: &str, is_square: bool, is_shortest: bool) -> Result<(Resize, Option<(u32, u32)>)> {
    if file.crop_pct.is_some() {
        return Err(not_built_in(&format!("crop_pct of {}", class.escape_debug())));
    }
    let resize = match file.size.filter(|_| file.do_resize.unwrap_or(true)) {
        None if file.do_resize == Some(false) => Resize::Keep,
        None => return Err(unclear("size")),
        Some(Size::Number(side)) if is_square => Resize::Exact { height: within(side)?, width: within(side)? },
        Some(Size::Number(side)) if is_shortest => Resize::Shortest(within(side)?),
        Some(Size::Sides { shortest_edge: Some(side), longest_edge: None, height: None, width: None }) => {
            Resize::Shortest(within(side)?)
        }
        Some(Size::Sides { shortest_edge: None, longest_edge: None, height: Some(height), width: Some(width) }) => {
            Resize::Exact { height: within(height)?, width: within(width)? }
        }
        Some(_) => return Err(not_built_in("a size other than shortest_edge, or height and width")),
    };
    let crop = match file.crop_size.filter(|_| file.do_center_crop.unwrap_or(true)) {
        None => None,
        Some(Size::Number(side)) => Some((within(side)?, within(side)?)),
        Some(Size::Sides { height: Some(height), width: Some(width), .. }) => Some((within(height)?, within(width)?)),
        Some(Size::Sides { .. }) => return Err(not_built_in("a crop_size other than height and width")),
    };
    Ok((resize, crop))
}

/// Below 384 pixels a part of `crop_pct` is taken out of the middle; larger ones are squeezed.
fn convnext(file: &Preprocessor) -> Result<(Resize, Option<(u32, u32)>)> {
    const SQUEEZED_FROM: u32 = 384;
    const DEFAULT_PART: f64 = 224.0 / 256.0;
    let side = match file.size {
        _ if file.do_resize == Some(false) => return Ok((Resize::Keep, None)),
        Some(Size::Number(side) | Size::Sides { shortest_edge: Some(side), .. }) => within(side)?,
        Some(Size::Sides { .. }) | None => return Err(not_built_in("a size other than shortest_edge")),
    };
    if side >= SQUEEZED_FROM {
        return Ok((Resize::Exact { height: side, width: side }, None));
    }
    let part = file.crop_pct.unwrap_or(DEFAULT_PART);
    let larger = (f64::from(side) / part).floor();
    if !(part > 0.0 && part <= 1.0 && larger <= f64::from(MAX_SIDE)) {
        return Err(Error::invalid_input(format!("crop_pct: expected a part from 0 to 1, got {part}")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    Ok((Resize::Shortest(larger as u32), Some((side, side))))
}

fn within(side: u32) -> Result<u32> {
    if (1..=MAX_SIDE).contains(&side) {
        return Ok(side);
    }
    Err(Error::invalid_input(format!("size: expected from 1 to {MAX_SIDE}, got {side}")))
}

/// Pillow's numbers.
fn filter(number: u32) -> Result<Filter> {
    match number {
        0 => Ok(Filter::Nearest),
        1 => Ok(Filter::Lanczos),
        2 => Ok(Filter::Bilinear),
        3 => Ok(Filter::Bicubic),
        other => Err(not_built_in(&format!("resample = {other}"))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what is too large or too small for it is refused")]
fn rescale(file: &Preprocessor) -> Result<Option<f32>> {
    let factor = match (file.do_rescale, file.rescale_factor) {
        (Some(false), _) => 1.0,
        (_, None) => return Ok(Some(1.0 / 255.0)),
        (_, Some(factor)) => factor as f32,
    };
    match factor.is_finite() && factor > 0.0 {
        true => Ok(Some(factor)),
        false => Err(Error::invalid_input(format!("rescale_factor: expected a number above zero, got {factor}"))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what is too large or too small for it is refused")]
fn channels(values: Option<&Channels>, key: &str, fits: fn(f32) -> bool) -> Result<Option<Vec<f32>>> {
    let numbers: Vec<f32> = match values {
        None => return Ok(None),
        Some(Channels::One(number)) => vec![*number as f32],
        Some(Channels::Each(numbers)) => numbers.iter().map(|&number| number as f32).collect(),
    };
    if matches!(numbers.len(), 1 | 3) && numbers.iter().all(|&number| number.is_finite() && fits(number)) {
        return Ok(Some(numbers));
    }
    Err(Error::invalid_input(format!("{key}: expected one or three numbers that can be, got {numbers:?}")))
}

fn unclear(keys: &str) -> Error {
    Error::invalid_input(format!(
        "it does not say {keys}; add that, or write a {} with task = \"image-classification\" and [image] with resize, \
         crop, filter, mean and std",
        model_toml::MANIFEST
    ))
}

fn not_built_in(what: &str) -> Error {
    Error::unsupported(format!(
        "{what}: this way of preparing pictures is not built in; if another one is right for the graph, write a {} with \
         task = \"image-classification\" and [image] with resize, crop, filter, mean and std",
        model_toml::MANIFEST
    ))
}
