//! Rows of a table: named columns to the tensors that a graph takes.
//!
//! What does not fit between the columns and the graph is found when the task is made (`plan`); what
//! does not fit in a request names its row and column. Outputs are the graph's own.

mod column;
mod number;
mod outputs;
mod plan;

use std::sync::Arc;

use salver_core::{
    Batching, Elements, ElementsBuilder, Encoded, Error, Notes, PartLimits, Result, Shape, Signature, TabularSpec,
    Task, Tensor, TensorSpec,
};

use self::column::{Column, Slots};
use self::plan::{Plan, Target};
use crate::parts;

/// The most bytes that one input of the graph may become: one-hot columns make a request wider.
const MAX_INPUT_BYTES: usize = 256 << 20;

/// Up to so many values, and so many bytes, are brought into place in well under a millisecond.
const QUICK_CELLS: usize = 16 << 10;
const QUICK_BYTES: usize = 256 << 10;

/// Makes the task of a model of rows.
///
/// # Errors
/// `InvalidInput` naming the column, what the graph takes, and what to change.
pub(crate) fn make(spec: &TabularSpec, graph: &Signature) -> Result<Arc<dyn Task>> {
    let Plan { columns, targets } = plan::make(spec, graph)?;
    let inputs: Vec<TensorSpec> = columns.iter().map(Column::wire).collect();
    let outputs = plan::outputs(graph)?;
    let signature = Signature { inputs, outputs, batching: Batching::Rows { limit: None } };
    let takes_one_row = plan::takes_one_row(graph);
    let row_cells = targets.iter().map(|target| target.width).sum();
    Ok(Arc::new(Tabular { columns, targets, signature, takes_one_row, row_cells }))
}

#[derive(Debug)]
struct Tabular {
    /// Parallel to the signature's inputs.
    columns: Vec<Column>,
    /// Parallel to the graph's inputs.
    targets: Vec<Target>,
    signature: Signature,
    /// Whether the graph fixes its first dimension to one.
    takes_one_row: bool,
    /// The values that the graph gets for a row.
    row_cells: usize,
}

impl Task for Tabular {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn is_quick(&self, inputs: &[Tensor]) -> bool {
        let rows = inputs.first().map_or(1, Tensor::rows);
        let bytes: usize = inputs.iter().map(Tensor::payload_len).sum();
        rows.saturating_mul(self.row_cells) <= QUICK_CELLS && bytes <= QUICK_BYTES
    }

    fn encode(&self, inputs: Vec<Tensor>, limits: PartLimits<'_>) -> Result<Encoded> {
        let given = self.given(&inputs)?;
        let rows = inputs.first().map_or(1, Tensor::rows);
        let whole = self.targets.iter().map(|target| self.fill(target, &given, rows)).collect::<Result<Vec<_>>>()?;
        let limits = PartLimits { max_rows: if self.takes_one_row { 1 } else { limits.max_rows }, ..limits };
        let ranges = parts::in_order(rows, limits);
        let parts = match ranges.as_slice() {
            [_] => vec![whole],
            several => {
                let cut = |range: &std::ops::Range<usize>| {
                    whole.iter().map(|tensor| tensor.slice_rows(range.clone())).collect::<Result<Vec<_>>>()
                };
                several.iter().map(cut).collect::<Result<_>>()?
            }
        };
        Ok(Encoded { parts, notes: Box::new(rows) })
    }

    fn decode(&self, outputs: Vec<Vec<Tensor>>, notes: Notes) -> Result<Vec<Tensor>> {
        let rows = notes.downcast::<usize>().map_err(|_| Error::engine("the notes of another task came back"))?;
        outputs::join(&self.signature.outputs, outputs, *rows)
    }

    fn example(&self) -> Vec<Tensor> {
        self.columns.iter().filter_map(|column| column.example().ok()).collect()
    }
}

impl Tabular {
    /// Finds the tensor of each column; none where it may be left out and is.
    fn given<'a>(&self, inputs: &'a [Tensor]) -> Result<Vec<Option<&'a Tensor>>> {
        let rows = inputs.first().map_or(1, Tensor::rows);
        let mut given = Vec::with_capacity(self.columns.len());
        for (idx, column) in self.columns.iter().enumerate() {
            let is_it = |tensor: &&Tensor| **tensor.name() == *column.name;
            // Mostly all are there, in order.
            let tensor = inputs.get(idx).filter(is_it).or_else(|| inputs.iter().find(is_it));
            match tensor {
                None if !column.is_optional() => {
                    return Err(Error::invalid_input(format!(
                        "column '{}' is missing; give it in every row",
                        column.name
                    )));
                }
                Some(tensor) if tensor.dtype() != column.dtype || tensor.rows() != rows => {
                    return Err(Error::invalid_input(format!(
                        "column '{}' is {} {}, expected {} with {rows} rows",
                        column.name,
                        tensor.dtype(),
                        tensor.shape(),
                        column.dtype
                    )));
                }
                tensor => given.push(tensor),
            }
        }
        Ok(given)
    }

    /// Makes one input of the graph.
    fn fill(&self, target: &Target, given: &[Option<&Tensor>], rows: usize) -> Result<Tensor> {
        let shape = if target.is_flat { Shape::new(&[rows]) } else { Shape::new(&[rows, target.width]) };
        let Some(size) = target.dtype.size() else {
            let texts = self.texts(target, given, rows)?;
            return Tensor::from_elements(target.name.clone(), shape, texts);
        };
        let row = target.width * size;
        let bytes = rows.checked_mul(row).filter(|&bytes| bytes <= MAX_INPUT_BYTES);
        let mut data = vec![0; bytes.ok_or_else(|| too_large(target, rows))?];
        let mut at = 0;
        for &idx in &target.columns {
            let column = &self.columns[idx];
            column.encode(given[idx], target.dtype, Slots { data: &mut data, row, at })?;
            at += column.width() * size;
        }
        Tensor::new(target.name.clone(), target.dtype, shape, data.into())
    }

    fn texts(&self, target: &Target, given: &[Option<&Tensor>], rows: usize) -> Result<Elements> {
        let columns: Vec<(&Column, Option<&Elements>)> =
            target.columns.iter().map(|&idx| (&self.columns[idx], given[idx].and_then(Tensor::elements))).collect();
        if let [(column, Some(elements))] = columns[..]
            && column.takes_any_text()
        {
            return Ok(elements.clone());
        }
        let longest = |(column, elements): &(&Column, Option<&Elements>)| {
            let given = elements.map_or(0, Elements::total_len);
            column.filling_len().checked_mul(rows).and_then(|filled| filled.checked_add(given))
        };
        let total = columns.iter().map(longest).try_fold(0usize, |sum, bytes| sum.checked_add(bytes?));
        if total.is_none_or(|total| total > MAX_INPUT_BYTES) {
            return Err(too_large(target, rows));
        }
        let mut builder = ElementsBuilder::default();
        for row in 0..rows {
            for (column, elements) in &columns {
                builder.push(column.text(elements.and_then(|elements| elements.get(row)), row)?);
            }
        }
        Ok(builder.finish())
    }
}

#[cold]
fn too_large(target: &Target, rows: usize) -> Error {
    Error::too_large(format!(
        "{rows} rows make more than {} MiB of the model's input '{}' ({} values for each row); send fewer rows at a time",
        MAX_INPUT_BYTES >> 20,
        target.name,
        target.width
    ))
}

#[cfg(test)]
mod tests;
