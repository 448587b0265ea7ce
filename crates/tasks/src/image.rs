//! Pictures to tensors, and scores to labels.
//!
//! The path of a picture: decode → the part that the model sees, resized → tables that invert,
//! rescale and normalise, written as the graph lays pictures out. Each step touches the pixels
//! once; turning a picture upright costs nothing, because the last step reads them in that order.

mod crops;
mod decode;
mod exif;
mod fit;
mod input;
mod jpeg;
mod picture;
mod pixels;
mod png;
mod resize;
mod tones;
mod webp;

use std::ops::Range;
use std::sync::Arc;

use salver_core::{
    Batching, DataType, Elements, Encoded, Error, ImageSpec, Notes, PartLimits, Resize, Result, Shape, Signature, Task,
    Tensor, TensorSpec,
};

pub(crate) use self::crops::Cropper;
use self::fit::Sizing;
use self::input::Input;
use self::picture::{Picture, Size};
pub(crate) use self::pixels::Decoder;
use self::tones::Writer;
use crate::parts;
use crate::scores::Ranking;

/// The input that requests name.
const NAME: &str = "image";

/// How many bytes of files, and pixels read and written, take well under a millisecond.
const QUICK_BYTES: usize = 32 << 10;
const QUICK_PIXELS: u64 = 64 << 10;

pub(crate) use self::decode::fuzz;

pub(crate) fn make(spec: &ImageSpec, graph: &Signature) -> Result<Arc<dyn Task>> {
    let input = Input::new(spec, graph)?;
    let (output, scores) = scores(graph, spec.labels.len())?;
    let ranking = Ranking::new(scores, &spec.labels, spec.scores, spec.top_k.unwrap_or(5))?;
    let signature = Signature {
        inputs: vec![TensorSpec::new(NAME, DataType::Bytes, &[-1])],
        outputs: ranking.outputs(),
        batching: Batching::Rows { limit: None },
    };
    Ok(Arc::new(Pictures { signature, input, output, ranking, filter: spec.filter }))
}

/// A model of pictures.
#[derive(Debug)]
struct Pictures {
    signature: Signature,
    input: Input,
    /// Which of the graph's outputs has the scores.
    output: usize,
    ranking: Ranking,
    filter: salver_core::Filter,
}

/// The rows of each part.
struct Parts(Vec<Range<usize>>);

impl Task for Pictures {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn is_quick(&self, inputs: &[Tensor]) -> bool {
        let Some(files) = inputs.first().and_then(Tensor::elements) else { return true };
        if files.total_len() > QUICK_BYTES {
            return false;
        }
        let made = self.input.sizing.out.pixels();
        let pixels =
            files.iter().map(|file| decode::peek(file).map_or(QUICK_PIXELS, Size::pixels).saturating_add(made));
        pixels.fold(0, u64::saturating_add) < QUICK_PIXELS
    }

    fn encode(&self, inputs: Vec<Tensor>, limits: PartLimits<'_>) -> Result<Encoded> {
        let files = inputs.first().and_then(Tensor::elements).cloned().unwrap_or_default();
        let row_bytes = self.input.writer.row_bytes();
        parts::check_bytes(NAME, files.len(), row_bytes)?;
        let max_rows = self.input.max_rows.unwrap_or(usize::MAX).min(limits.max_rows);
        let ranges = parts::in_order(files.len(), PartLimits { max_rows, ..limits });
        let parts = ranges.iter().map(|rows| self.part(&files, rows.clone())).collect::<Result<_>>()?;
        Ok(Encoded { parts, notes: Box::new(Parts(ranges)) })
    }

    fn decode(&self, outputs: Vec<Vec<Tensor>>, notes: Notes) -> Result<Vec<Tensor>> {
        let Parts(ranges) = *notes.downcast().map_err(|_| Error::engine("the notes are those of another task"))?;
        let mut scores = Vec::new();
        for (part, rows) in outputs.iter().zip(ranges) {
            let tensor = part.get(self.output).ok_or_else(|| Error::engine("the output with the scores is missing"))?;
            scores.extend(parts::floats(tensor, rows.len())?.0);
        }
        self.ranking.rank(&scores)
    }

    fn example(&self) -> Vec<Tensor> {
        let sizing = &self.input.sizing;
        let size = match sizing.resize {
            Resize::Shortest(side) => Size::new(side, side),
            Resize::Exact { .. } | Resize::Keep => sizing.out,
        };
        let files: Elements = png::gradient(size).into_iter().collect();
        Tensor::from_elements(NAME, Shape::new(&[files.len()]), files).into_iter().collect()
    }
}

impl Pictures {
    /// Makes a part of consecutive rows.
    fn part(&self, files: &Elements, rows: Range<usize>) -> Result<Vec<Tensor>> {
        let (shape, row_bytes) = (self.input.shape(rows.len()), self.input.writer.row_bytes());
        let mut data = vec![0; rows.len() * row_bytes];
        for (row, out) in rows.zip(data.chunks_exact_mut(row_bytes)) {
            let file = files.get(row).unwrap_or_default();
            self.picture(file, out).map_err(|error| error.context(format_args!("input '{NAME}', row {row}")))?;
        }
        Ok(vec![Tensor::new(self.input.spec.name.clone(), self.input.spec.dtype, shape, data.into())?])
    }

    fn picture(&self, file: &[u8], out: &mut [u8]) -> Result<()> {
        let picture = decode::decode(file, self.input.wanted)?;
        write(picture, self.input.sizing, self.filter, &self.input.writer, out)
    }
}

/// Returns the size of a picture as it stands upright.
fn upright(picture: &Picture) -> Size {
    if picture.orientation.transpose { picture.size.transposed() } else { picture.size }
}

/// Brings a picture to size and writes it upright.
fn write(picture: Picture, sizing: Sizing, filter: salver_core::Filter, writer: &Writer, out: &mut [u8]) -> Result<()> {
    let fit = sizing.fit(upright(&picture))?.as_stored(picture.orientation);
    let (picture, fit) = resize::resize(picture, fit, filter)?;
    writer.write(&picture, fit, out);
    Ok(())
}

/// Finds the output with the scores: the only one of floats with two dimensions, or of several the
/// one that is called so.
fn scores(graph: &Signature, n_labels: usize) -> Result<(usize, &TensorSpec)> {
    const NAMES: [&str; 5] = ["logits", "scores", "probabilities", "probs", "output"];
    let fits = |spec: &TensorSpec| {
        let classes = spec.shape.last().map_or(0, |dim| dim.to_wire());
        let known = n_labels == 0 || classes == -1 || usize::try_from(classes).is_ok_and(|classes| classes == n_labels);
        spec.dtype.is_float() && spec.shape.len() == 2 && known
    };
    let floats = || graph.outputs.iter().enumerate().filter(|(_, spec)| spec.dtype.is_float());
    let fitting: Vec<_> = floats().filter(|(_, spec)| fits(spec)).collect();
    match fitting.as_slice() {
        [one] => return Ok(*one),
        // The ranking says best what is wrong with an only one.
        [] if floats().count() == 1 => return floats().next().ok_or_else(|| Error::engine("no output")),
        _ => {}
    }
    let named = NAMES.iter().find_map(|name| fitting.iter().find(|(_, spec)| &*spec.name == *name));
    named.copied().ok_or_else(|| {
        let shown = graph.outputs.iter().map(|spec| format!("{} {} {:?}", spec.name, spec.dtype, spec.wire_shape()));
        Error::invalid_input(format!(
            "none of the graph's outputs is known to have the scores: {}; expected one of FP32 [n,classes], or one called \
             'logits', 'scores' or 'probabilities'",
            shown.collect::<Vec<_>>().join(", ")
        ))
    })
}

#[cfg(test)]
pub(crate) mod tests;
