//! `[builtin]`: a function that the server has itself, and what it needs to know.

use std::path::PathBuf;

use salver_core::{
    BuiltinSpec, CropSpec, DataType, DecodeSpec, Error, LabelsSpec, PixelLayout, Result as Checked, TokenPadding,
    TokenizeSpec, TopKSpec,
};
use serde::Deserialize;
use toml::Spanned;

use super::BUILTIN;
use super::fault::Fault;
use super::image::{Pixels, Side, is_positive, per_channel, rescale};
use super::schema::{File, Labels};
use super::text::{Classes, Scores, Tokens, WhenOverlong};
use crate::task::TOKENIZER;

/// `[builtin]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Builtin {
    /// What is computed.
    function: Spanned<Function>,
    /// The file of the tokenizer; none: `tokenizer.json`.
    tokenizer: Option<Spanned<String>>,
    /// The most tokens; none: as the tokenizer says.
    max_length: Option<Spanned<Tokens>>,
    /// What happens to longer texts.
    overlong: Option<Spanned<WhenOverlong>>,
    /// How long texts become.
    pad: Option<Spanned<Pad>>,
    /// Whether the types of tokens are answered too.
    token_type_ids: Option<Spanned<bool>>,
    /// Height and width of pictures.
    size: Option<Spanned<[Side; 2]>>,
    /// How pixels are made of others.
    filter: Option<Spanned<Pixels>>,
    /// The element type of pictures.
    dtype: Option<Spanned<String>>,
    /// How pixels lie in the answer.
    layout: Option<Spanned<Layout>>,
    /// Whether boxes are parts of the picture's width and height.
    relative: Option<Spanned<bool>>,
    /// What values are multiplied with.
    rescale: Option<Spanned<f64>>,
    /// What is taken away from each channel after that.
    mean: Option<Spanned<Vec<f64>>>,
    /// What each channel is divided by after that.
    std: Option<Spanned<Vec<f64>>>,
    /// How many are answered, best first.
    k: Option<Spanned<Classes>>,
    /// The element type of what is scored.
    ids: Option<Spanned<String>>,
    /// How scores are made.
    scores: Option<Spanned<Scores>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Function {
    Tokenize,
    Crop,
    TopK,
    Labels,
    Image,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Crop => "crop",
            Self::TopK => "top-k",
            Self::Labels => "labels",
            Self::Image => "image",
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pad {
    Max,
    Longest,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layout {
    Nchw,
    Nhwc,
}

/// Reads the function; none: another engine runs the model. Its files are found by [`resolve`].
pub(super) fn spec(file: &File) -> Result<Option<BuiltinSpec>, Fault> {
    let is_builtin = file.engine.as_ref().map_or(file.builtin.is_some(), |engine| engine.get_ref() == BUILTIN);
    match (&file.builtin, &file.engine) {
        (None, Some(engine)) if is_builtin => {
            Err(Fault::invalid(engine, "needs a table [builtin] beside it, with `function`"))
        }
        (Some(table), _) if !is_builtin => {
            Err(Fault::invalid(table, format_args!("needs engine = \"{BUILTIN}\" at the top of the file")))
        }
        (Some(table), _) => {
            check_alone(file, table)?;
            let spec = read(file, table.get_ref())?;
            check_batching(file, &spec, table.get_ref())?;
            Ok(Some(spec))
        }
        (None, _) => Ok(None),
    }
}

/// The function says everything else about the model.
fn check_alone(file: &File, table: &Spanned<Builtin>) -> Result<(), Fault> {
    let alone = "has no place beside [builtin]: the function says what goes in and out";
    if let Some(task) = &file.task {
        return Err(Fault::invalid(task, alone));
    }
    if let Some(input) = file.input.first() {
        return Err(Fault::invalid(&input.name, alone));
    }
    if let Some(output) = file.output.first() {
        return Err(Fault::invalid(&output.name, alone));
    }
    if file.artifact.is_some() {
        return Err(Fault::invalid(table, "stands beside artifact; a function has no such file, leave it out"));
    }
    let function = table.get_ref().function.get_ref();
    match &file.labels {
        Some(labels) if *function != Function::Labels => Err(Fault::invalid(
            labels,
            format_args!("belongs to the function labels, not to {}; leave it out", function.name()),
        )),
        _ => Ok(()),
    }
}

/// Answers whose shape comes from the whole request are not put together.
fn check_batching(file: &File, spec: &BuiltinSpec, table: &Builtin) -> Result<(), Fault> {
    let Some(batching) = file.batching.as_ref().map(Spanned::get_ref) else { return Ok(()) };
    let merges = batching.max_rows.is_some_and(|rows| rows.get() > 1)
        || !batching.preferred_rows.is_empty()
        || batching.padding.is_some();
    if !merges || !spec.stands_alone() {
        return Ok(());
    }
    let message = "makes answers of any shape, so each request runs by itself: leave max_rows, preferred_rows and \
                   padding out of [batching]";
    match &table.pad {
        Some(pad) => Err(Fault::invalid(pad, format_args!("\"longest\" {message}"))),
        None => Err(Fault::invalid(&table.function, format_args!("\"image\" without `size` {message}, or set it"))),
    }
}

fn read(file: &File, table: &Builtin) -> Result<BuiltinSpec, Fault> {
    check_keys(table)?;
    Ok(match table.function.get_ref() {
        Function::Tokenize => BuiltinSpec::Tokenize(tokenize(table)),
        Function::Crop => BuiltinSpec::Crop(crop(table)?),
        Function::TopK => BuiltinSpec::TopK(top_k(table)?),
        Function::Labels => BuiltinSpec::Labels(labels(file, table)?),
        Function::Image => BuiltinSpec::Image(DecodeSpec {
            size: table.size.as_ref().map(|size| sides(size.get_ref())),
            filter: table.filter.as_ref().map(|filter| filter.get_ref().filter()).unwrap_or_default(),
        }),
    })
}

/// Refuses keys that mean nothing to the function.
fn check_keys(table: &Builtin) -> Result<(), Fault> {
    use Function::{Crop, Image, Labels, Tokenize, TopK};
    let function = *table.function.get_ref();
    belongs(table.tokenizer.as_ref(), function, &[Tokenize])?;
    belongs(table.max_length.as_ref(), function, &[Tokenize])?;
    belongs(table.overlong.as_ref(), function, &[Tokenize])?;
    belongs(table.pad.as_ref(), function, &[Tokenize])?;
    belongs(table.token_type_ids.as_ref(), function, &[Tokenize])?;
    belongs(table.size.as_ref(), function, &[Crop, Image])?;
    belongs(table.filter.as_ref(), function, &[Image])?;
    belongs(table.dtype.as_ref(), function, &[Crop])?;
    belongs(table.layout.as_ref(), function, &[Crop])?;
    belongs(table.relative.as_ref(), function, &[Crop])?;
    belongs(table.rescale.as_ref(), function, &[Crop])?;
    belongs(table.mean.as_ref(), function, &[Crop])?;
    belongs(table.std.as_ref(), function, &[Crop])?;
    belongs(table.k.as_ref(), function, &[TopK, Labels])?;
    belongs(table.ids.as_ref(), function, &[TopK])?;
    belongs(table.scores.as_ref(), function, &[Labels])
}

fn belongs<T>(key: Option<&Spanned<T>>, function: Function, to: &[Function]) -> Result<(), Fault> {
    match key {
        Some(place) if !to.contains(&function) => {
            let to: Vec<&str> = to.iter().map(|function| function.name()).collect();
            let message =
                format_args!("belongs to the function {}, not to {}; leave it out", to.join(" and "), function.name())
                    .to_string();
            Err(Fault::invalid(place, message))
        }
        _ => Ok(()),
    }
}

fn needed<'a, T>(key: Option<&'a Spanned<T>>, table: &Builtin, what: &str) -> Result<&'a T, Fault> {
    let missing = || Fault::invalid(&table.function, format_args!("\"{}\" {what}", table.function.get_ref().name()));
    key.map(Spanned::get_ref).ok_or_else(missing)
}

fn tokenize(table: &Builtin) -> TokenizeSpec {
    TokenizeSpec {
        tokenizer: PathBuf::from(table.tokenizer.as_ref().map_or(TOKENIZER, |name| name.get_ref())),
        max_length: table.max_length.as_ref().map(|length| length.get_ref().count()),
        overlong: table.overlong.as_ref().map(|overlong| overlong.get_ref().rule()).unwrap_or_default(),
        pad: match table.pad.as_ref().map(Spanned::get_ref) {
            Some(Pad::Longest) => TokenPadding::Longest,
            Some(Pad::Max) | None => TokenPadding::Max,
        },
        token_types: table.token_type_ids.as_ref().is_some_and(|asked| *asked.get_ref()),
    }
}

fn crop(table: &Builtin) -> Result<CropSpec, Fault> {
    let size = needed(table.size.as_ref(), table, "needs size = [height, width] beside it")?;
    let dtype = element_type(table.dtype.as_ref(), &[DataType::Uint8, DataType::Fp32])?;
    let numbers = |list: &Option<Spanned<Vec<f64>>>, what: &str, fits: fn(f32) -> bool| {
        list.as_ref().map(|list| per_channel(list, what, fits)).transpose()
    };
    Ok(CropSpec {
        dtype: dtype.unwrap_or(DataType::Uint8),
        size: sides(size),
        layout: match table.layout.as_ref().map(Spanned::get_ref) {
            Some(Layout::Nhwc) => PixelLayout::Nhwc,
            Some(Layout::Nchw) | None => PixelLayout::Nchw,
        },
        relative: table.relative.as_ref().is_some_and(|relative| *relative.get_ref()),
        rescale: table.rescale.as_ref().map(rescale).transpose()?.unwrap_or(1.0),
        mean: numbers(&table.mean, "numbers", f32::is_finite)?.unwrap_or_default(),
        std: numbers(&table.std, "numbers above zero", is_positive)?.unwrap_or_default(),
    })
}

fn top_k(table: &Builtin) -> Result<TopKSpec, Fault> {
    let k = needed(table.k.as_ref(), table, "needs k beside it: how many are answered")?.count();
    Ok(TopKSpec { k, ids: element_type(table.ids.as_ref(), &[DataType::Int64, DataType::Bytes])? })
}

fn labels(file: &File, table: &Builtin) -> Result<LabelsSpec, Fault> {
    let needs = || Fault::invalid(&table.function, "\"labels\" needs labels = […] at the top of the file");
    let given = file.labels.as_ref().ok_or_else(needs)?;
    if matches!(given.get_ref(), Labels::List(list) if list.is_empty()) {
        return Err(Fault::invalid(given, "must have at least one label"));
    }
    Ok(LabelsSpec {
        // They may stand in a file.
        labels: Vec::new(),
        scores: table.scores.as_ref().map(|scores| scores.get_ref().rule()).unwrap_or_default(),
        k: table.k.as_ref().map_or(1, |k| k.get_ref().count()),
    })
}

fn element_type(name: Option<&Spanned<String>>, known: &[DataType]) -> Result<Option<DataType>, Fault> {
    let Some(name) = name else { return Ok(None) };
    let found = DataType::from_wire(name.get_ref()).filter(|dtype| known.contains(dtype));
    found.map(Some).ok_or_else(|| {
        let known: Vec<String> = known.iter().map(|dtype| format!("\"{dtype}\"")).collect();
        let got: String = name.get_ref().chars().take(64).flat_map(char::escape_debug).collect();
        Fault::invalid(name, format_args!("must be {}, got '{got}'", known.join(" or ")))
    })
}

fn sides(size: &[Side; 2]) -> (u32, u32) {
    (size[0].get(), size[1].get())
}

/// Puts in what stands in other files. `find` looks one up that belongs to the model.
pub(super) fn resolve(
    spec: &BuiltinSpec,
    labels: &mut Option<Vec<String>>,
    find: impl Fn(&str) -> Checked<PathBuf>,
) -> Checked<BuiltinSpec> {
    Ok(match spec {
        BuiltinSpec::Tokenize(spec) => {
            let tokenizer = find(&spec.tokenizer.to_string_lossy());
            let tokenizer = tokenizer.map_err(|error| error.context("builtin.tokenizer"))?;
            BuiltinSpec::Tokenize(TokenizeSpec { tokenizer, ..spec.clone() })
        }
        BuiltinSpec::Labels(spec) => {
            let labels = labels.take().unwrap_or_default();
            if labels.is_empty() {
                return Err(Error::invalid_input("labels: the file has none; write one a line"));
            }
            BuiltinSpec::Labels(LabelsSpec { labels, ..spec.clone() })
        }
        other @ (BuiltinSpec::Crop(_) | BuiltinSpec::TopK(_) | BuiltinSpec::Image(_)) => other.clone(),
    })
}
