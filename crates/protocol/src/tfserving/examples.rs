//! Examples, the rows of `:classify` and `:regress`, into the inputs of a model.
//!
//! In TensorFlow the graph itself takes examples apart. Here a feature belongs to the input of its
//! name, or to the column of its name where an input has named columns; others are ignored, as
//! TensorFlow ignores what a graph does not ask for. The features of a context count for every
//! example that has none of that name. REST and gRPC share this; each reads values in its own way.

use jiter::{Jiter, Peek};
use salver_core::{DataType, Dim, Elements, Error, ModelInfo, Result, Shape, Tensor, TensorSpec};

use crate::json::nested::{self, Leaves};
use crate::json::packed::Packed;
use crate::json::read::{self, OrNotJson as _};

/// The most bytes that the features of a context may take, counted once for each example that uses
/// them: they are memory that no byte of the request paid for.
const MOST_SHARED: usize = 16 << 20;

/// Where the values of a feature go.
struct Slot<'a> {
    name: &'a str,
    dtype: DataType,
}

/// The values of a feature, of its input's type.
enum Values {
    Fixed(Vec<u8>, usize),
    Texts(Elements),
}

/// The features of one example, or of the context: one entry for each slot.
pub(crate) struct Features(Vec<Option<Values>>);

/// One input: what came so far.
struct Sink<'a> {
    spec: &'a TensorSpec,
    /// The slot of its own name; those of its columns follow.
    first: usize,
    columns: usize,
    packed: Packed,
    /// How many values each example has, once one came.
    len: Option<usize>,
}

/// Collects examples.
pub(crate) struct Examples<'a> {
    slots: Vec<Slot<'a>>,
    context: Features,
    /// Bytes taken from the context so far.
    shared: usize,
    /// The inputs, in the model's order.
    sinks: Vec<Sink<'a>>,
    n_rows: usize,
}

impl<'a> Examples<'a> {
    pub(crate) fn new(info: &'a ModelInfo) -> Self {
        let (mut slots, mut sinks) = (Vec::new(), Vec::new());
        for (input, spec) in info.signature.inputs.iter().enumerate() {
            let columns = info.columns.get(input).map(Vec::as_slice).unwrap_or_default();
            let (first, packed) = (slots.len(), Packed::new(spec.dtype, 0));
            sinks.push(Sink { spec, first, columns: columns.len(), packed, len: None });
            slots.push(Slot { name: &spec.name, dtype: spec.dtype });
            slots.extend(columns.iter().map(|name| Slot { name, dtype: spec.dtype }));
        }
        let context = Features(slots.iter().map(|_| None).collect());
        Self { slots, context, shared: 0, sinks, n_rows: 0 }
    }

    /// Reads features by name: `read` appends the values of the one called as it is told, or says
    /// that there is none.
    ///
    /// # Errors
    /// Those of `read`, naming the feature.
    pub(crate) fn features(&self, mut read: impl FnMut(&str, &mut Packed) -> Result<bool>) -> Result<Features> {
        let feature = |slot: &Slot<'_>| {
            let mut packed = Packed::new(slot.dtype, 0);
            let found = read(slot.name, &mut packed).map_err(|error| error.context(in_feature(slot.name)))?;
            Ok(found.then(|| Values::of(packed)))
        };
        self.slots.iter().map(feature).collect::<Result<_>>().map(Features)
    }

    /// Takes what all examples share.
    pub(crate) fn set_context(&mut self, context: Features) {
        self.context = context;
    }

    /// Takes the next example.
    ///
    /// # Errors
    /// `InvalidInput` for a missing feature, and for one with another number of values than before;
    /// `TooLarge` where the context is copied too often.
    pub(crate) fn push(&mut self, example: &Features) -> Result<()> {
        let row = self.n_rows;
        for sink in &mut self.sinks {
            let mut values = SharedValues { example, context: &self.context, shared: &mut self.shared };
            let pushed = sink.push(&self.slots, &mut values);
            pushed.map_err(|error| error.context(format!("example {row}")))?;
        }
        self.n_rows += 1;
        Ok(())
    }

    /// Makes the inputs, each with as many rows as there were examples.
    ///
    /// # Errors
    /// `InvalidInput` where the values do not fill the shape of an input.
    pub(crate) fn finish(self) -> Result<Vec<Tensor>> {
        if self.n_rows == 0 {
            return Err(Error::invalid_input("Input is empty: there must be an example"));
        }
        let given = self.sinks.into_iter().filter(|sink| !(sink.spec.optional && sink.len.unwrap_or(0) == 0));
        let tensor = |Sink { spec, packed, len, .. }: Sink<'_>| {
            let shape = shape(spec, self.n_rows, len.unwrap_or(0));
            packed.finish(&*spec.name, shape.map_err(|error| error.context(in_feature(&spec.name)))?)
        };
        given.map(tensor).collect()
    }
}

/// The features of an example, and behind them those of the context.
struct SharedValues<'f> {
    example: &'f Features,
    context: &'f Features,
    shared: &'f mut usize,
}

impl<'f> SharedValues<'f> {
    fn get(&mut self, slot: usize) -> Result<Option<&'f Values>> {
        if let Some(values) = &self.example.0[slot] {
            return Ok(Some(values));
        }
        let Some(values) = &self.context.0[slot] else {
            return Ok(None);
        };
        *self.shared = self.shared.saturating_add(values.byte_len().max(1));
        if *self.shared <= MOST_SHARED {
            return Ok(Some(values));
        }
        let most = MOST_SHARED >> 20;
        Err(Error::too_large(format!("the features of 'context' would take more than {most} MiB over all examples")))
    }
}

impl Sink<'_> {
    /// Takes the input of one example: by its own name, or column by column.
    fn push(&mut self, slots: &[Slot<'_>], values: &mut SharedValues<'_>) -> Result<()> {
        let name = slots[self.first].name;
        let count = match values.get(self.first)? {
            Some(whole) => whole.append_to(&mut self.packed)?,
            None if self.columns > 0 => self.push_columns(slots, values)?,
            None if self.spec.optional => 0,
            None => return Err(lacks(name)),
        };
        let expected = *self.len.get_or_insert(count);
        if count == expected {
            return Ok(());
        }
        let message = format!("has {count} values, those before have {expected}");
        Err(Error::invalid_input(message).context(in_feature(name)))
    }

    fn push_columns(&mut self, slots: &[Slot<'_>], values: &mut SharedValues<'_>) -> Result<usize> {
        for (place, slot) in slots.iter().enumerate().skip(self.first + 1).take(self.columns) {
            let column = values.get(place)?.ok_or_else(|| lacks(slot.name))?;
            let count = column.append_to(&mut self.packed)?;
            if count != 1 {
                let message = format!("has {count} values, a column takes 1");
                return Err(Error::invalid_input(message).context(in_feature(slot.name)));
            }
        }
        Ok(self.columns)
    }
}

impl Values {
    fn of(packed: Packed) -> Self {
        let count = packed.len();
        match packed {
            Packed::Fixed(_, data) => Self::Fixed(data, count),
            Packed::Bytes(builder, _) => Self::Texts(builder.finish()),
        }
    }

    fn byte_len(&self) -> usize {
        match self {
            Self::Fixed(data, _) => data.len(),
            Self::Texts(texts) => texts.total_len() + 8 * texts.len(),
        }
    }

    /// Appends all of them to a tensor of their type, and returns how many that were.
    fn append_to(&self, sink: &mut Packed) -> Result<usize> {
        match (self, sink) {
            (Self::Fixed(more, count), Packed::Fixed(_, data)) => {
                data.extend_from_slice(more);
                Ok(*count)
            }
            (Self::Texts(texts), sink) => {
                texts.iter().try_for_each(|text| sink.push_bytes(text))?;
                Ok(texts.len())
            }
            (Self::Fixed(..), Packed::Bytes(..)) => Err(Error::engine("a feature was read as another type")),
        }
    }
}

fn in_feature(name: &str) -> String {
    format!("feature '{}'", read::clip(name))
}

fn lacks(name: &str) -> Error {
    Error::invalid_input(format!("lacks the feature '{}'", read::clip(name)))
}

/// Returns the shape of `rows` examples of `len` values each. One free extent beside the rows is
/// what the values say.
fn shape(spec: &TensorSpec, rows: usize, len: usize) -> Result<Shape> {
    let inner = spec.shape.get(1..).unwrap_or_default();
    let fixed = inner.iter().try_fold(1usize, |product, dim| match dim {
        Dim::Fixed(extent) => product.checked_mul(*extent),
        Dim::Free => Some(product),
    });
    let n_free = inner.iter().filter(|dim| **dim == Dim::Free).count();
    let fits = match (fixed, n_free) {
        (Some(fixed), 0) => fixed == len,
        (Some(fixed), 1) => fixed > 0 && len.is_multiple_of(fixed),
        (None | Some(_), _) => false,
    };
    if !fits || spec.shape.is_empty() {
        return Err(Error::invalid_input(format!(
            "{len} values of an example do not make the shape {:?} of the input; use 'predict' for shapes that \
             examples cannot tell",
            spec.wire_shape()
        )));
    }
    let free = len.checked_div(fixed.unwrap_or(1)).unwrap_or(0);
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free => free,
    };
    Ok(std::iter::once(rows).chain(inner.iter().map(extent)).collect())
}

/// Reads the body of `:classify` or `:regress` into the inputs of a model.
///
/// # Errors
/// `InvalidInput` naming the example and the feature.
pub(super) fn from_json(body: &[u8], info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    read::check_depth(body, depth)?;
    let mut reader = read::reader(body);
    // The context may stand after the examples that need it.
    let (mut context, mut examples) = (None, None);
    read::members(
        &mut reader,
        "the request",
        &["signature_name", "context", "examples"],
        depth,
        |reader, key| match key {
            "signature_name" => super::check_signature(reader),
            "context" => {
                context = Some(read::skip(reader, depth)?);
                Ok(())
            }
            _ => {
                examples = Some(read::skip(reader, depth)?);
                Ok(())
            }
        },
    )?;
    reader.finish().or_not_json()?;
    let examples = examples.ok_or_else(|| Error::invalid_input("the request has no 'examples'"))?;
    let mut rows = Examples::new(info);
    if let Some(context) = context {
        let mut reader = read::reader(context);
        let peek = reader.peek().or_not_json()?;
        let features = features(&rows, &mut reader, peek, depth).map_err(|error| error.context("'context'"))?;
        rows.set_context(features);
    }
    list(&mut rows, examples, depth).map_err(|error| error.context("'examples'"))?;
    rows.finish()
}

fn list(rows: &mut Examples<'_>, json: &[u8], depth: usize) -> Result<()> {
    let mut reader = read::reader(json);
    if reader.peek().or_not_json()? != Peek::Array {
        return Err(Error::invalid_input("must be a list of objects"));
    }
    let mut next = reader.known_array().or_not_json()?;
    while let Some(peek) = next {
        let row = rows.n_rows;
        let features =
            features(rows, &mut reader, peek, depth).map_err(|error| error.context(format!("example {row}")))?;
        rows.push(&features)?;
        next = reader.array_step().or_not_json()?;
    }
    Ok(())
}

/// Reads one example: an object of values, or of lists of them.
fn features(rows: &Examples<'_>, reader: &mut Jiter<'_>, peek: Peek, depth: usize) -> Result<Features> {
    if peek != Peek::Object {
        return Err(Error::invalid_input("an example must be an object of features"));
    }
    let mut found: Vec<Option<Values>> = rows.slots.iter().map(|_| None).collect();
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        match rows.slots.iter().position(|slot| slot.name == name) {
            None => drop(read::skip(reader, depth)?),
            Some(slot) if found[slot].is_some() => return Err(read::duplicate(name, "an example")),
            Some(slot) => {
                let values = values(reader, rows.slots[slot].dtype)
                    .map_err(|error| error.context(in_feature(rows.slots[slot].name)))?;
                found[slot] = Some(Values::of(values));
            }
        }
        key = reader.next_key().or_not_json()?;
    }
    Ok(Features(found))
}

fn values(reader: &mut Jiter<'_>, dtype: DataType) -> Result<Packed> {
    let mut packed = Packed::new(dtype, 0);
    let peek = reader.peek().or_not_json()?;
    if peek != Peek::Array {
        nested::leaf(reader, peek, Leaves::Base64Objects, &mut packed)?;
        return Ok(packed);
    }
    let mut next = reader.known_array().or_not_json()?;
    while let Some(peek) = next {
        nested::leaf(reader, peek, Leaves::Base64Objects, &mut packed)?;
        next = reader.array_step().or_not_json()?;
    }
    Ok(packed)
}
