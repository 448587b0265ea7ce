//! Steps that run for each item of a list.
//!
//! A model that takes rows gets the items as rows, as many at a time as it takes; any other model is
//! called for each of them. What is no list goes along with every item.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use salver_core::{Batching, Context, DataType, Elements, Error, ModelRef, Result, Shape, Tensor, TensorSpec};

use super::graph::Node;
use super::rows;
use super::run::Run;

/// The most calls for one request at a time.
const MAX_CALLS: usize = 32;
/// The most rows of a call where the model itself sets no limit.
const MAX_ROWS: usize = 64;
/// What the items of one call should take at most, as long as there is more than one.
const MAX_BYTES: usize = 1 << 20;
/// The most items of one request.
const MAX_ITEMS: usize = 65_536;

/// Calls `model` for the items of `inputs`, which hold so many rows.
pub(super) async fn call(
    run: Run<'_>,
    node: &Node,
    model: &ModelRef,
    inputs: Vec<Tensor>,
    n_rows: usize,
    ctx: Context,
) -> Result<Vec<Tensor>> {
    let has_rows = run.ensemble.graph.has_rows;
    let n_items = n_items(node, &inputs, has_rows)?;
    let n_all = if has_rows { n_rows.saturating_mul(n_items) } else { n_items };
    if n_all > MAX_ITEMS {
        return Err(Error::invalid_input(format!("lists of {n_all} items in all; at most {MAX_ITEMS} are allowed")));
    }
    let flat =
        node.inputs.iter().zip(inputs).map(|(input, tensor)| Flat::new(input.is_list, tensor, n_items, has_rows));
    let flat: Vec<Flat> = flat.collect::<Result<_>>()?;
    let (takes_rows, most) = match node.info.signature.batching {
        Batching::Rows { .. } => (true, node.limit.map_or(MAX_ROWS, |limit| limit.get().min(MAX_ROWS))),
        Batching::Fixed => (false, 1),
    };
    let most = most.min((MAX_BYTES / flat.iter().map(Flat::row_bytes).sum::<usize>().max(1)).max(1));
    let calls = (0..n_all).step_by(most).map(|first| {
        let (flat, ctx) = (&flat, ctx.clone());
        async move {
            let rows = first..(first + most).min(n_all);
            let inputs = flat.iter().map(|flat| {
                flat.part(rows.clone()).and_then(|part| if takes_rows { Ok(part) } else { rows::out_of_row(part) })
            });
            let outputs = run.call(node, model, inputs.collect::<Result<_>>()?, ctx).await?;
            if takes_rows { Ok(outputs) } else { outputs.into_iter().map(rows::as_row).collect() }
        }
    });
    let parts: Vec<Vec<Tensor>> = stream::iter(calls).buffered(MAX_CALLS).try_collect().await?;
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    let joined = |(name, _): &(Arc<str>, usize)| {
        let pieces: Vec<Tensor> = parts.iter_mut().filter_map(Iterator::next).collect();
        let whole = if pieces.is_empty() { nothing(node, name, takes_rows)? } else { rows::concat(name, pieces)? };
        if has_rows { rows::unflatten(whole, n_rows, n_items) } else { Ok(whole) }
    };
    node.outputs.iter().map(joined).collect()
}

/// Returns how many items there are: in each row, where there are rows.
fn n_items(node: &Node, inputs: &[Tensor], has_rows: bool) -> Result<usize> {
    let lists = node.inputs.iter().zip(inputs).filter(|(input, _)| input.is_list).map(|(_, tensor)| tensor);
    let extent = |list: &Tensor| list.shape().get(usize::from(has_rows)).copied().unwrap_or(0);
    let mut items = None;
    for list in lists {
        match items {
            Some((first, expected)) if expected != extent(list) => {
                return Err(Error::invalid_input(format!(
                    "list '{first}' has {expected} items, list '{}' has {}",
                    list.name(),
                    extent(list)
                )));
            }
            _ => items = Some((list.name().clone(), extent(list))),
        }
    }
    Ok(items.map_or(0, |(_, items)| items))
}

/// An input, from which the rows of some items are made.
enum Flat {
    /// Each item is a row.
    List(Tensor),
    /// Each row goes along with so many items.
    Along(Tensor, usize),
}

impl Flat {
    fn new(is_list: bool, tensor: Tensor, n_items: usize, has_rows: bool) -> Result<Self> {
        match (is_list, has_rows) {
            (true, true) => rows::flatten(tensor).map(Self::List),
            (true, false) => Ok(Self::List(tensor)),
            (false, true) => Ok(Self::Along(tensor, n_items)),
            (false, false) => rows::as_row(tensor).map(|tensor| Self::Along(tensor, n_items)),
        }
    }

    fn row_bytes(&self) -> usize {
        let (Self::List(tensor) | Self::Along(tensor, _)) = self;
        tensor.payload_len() / tensor.rows().max(1)
    }

    /// Returns the rows of some items: no more is copied at a time than one call takes.
    fn part(&self, items: Range<usize>) -> Result<Tensor> {
        match self {
            Self::List(tensor) => tensor.slice_rows(items),
            Self::Along(tensor, n_items) => rows::select(tensor, items.map(|item| item / (*n_items).max(1))),
        }
    }
}

/// Makes the output of no items. Extents that the model leaves open are nothing too.
fn nothing(node: &Node, name: &Arc<str>, takes_rows: bool) -> Result<Tensor> {
    let spec = node.info.signature.output(name);
    let spec = spec.ok_or_else(|| Error::engine(format!("model '{}' has no output '{name}'", node.model)))?;
    let item = spec.shape.get(usize::from(takes_rows)..).unwrap_or_default();
    let shape: Shape = std::iter::once(0).chain(item.iter().map(|dim| dim.extent().unwrap_or(0))).collect();
    empty(spec, shape)
}

fn empty(spec: &TensorSpec, shape: Shape) -> Result<Tensor> {
    match spec.dtype {
        DataType::Bytes => Tensor::from_elements(spec.name.clone(), shape, Elements::default()),
        dtype => Tensor::new(spec.name.clone(), dtype, shape, bytes::Bytes::new()),
    }
}
