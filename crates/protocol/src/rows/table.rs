//! One input that takes a whole table: its cells come in the order of the keys, and leave in the order
//! of the columns.

use jiter::{Jiter, Peek};
use salver_core::{DataType, ElementsBuilder, Result, Tensor};

use crate::json::nested::{self, Leaves};
use crate::json::packed::Packed;

/// One input that takes a whole table.
pub(super) struct Table {
    cells: Packed,
    leaves: Leaves,
    width: usize,
    n_rows: usize,
    /// The columns of the open row, in the order of its keys.
    open: Vec<usize>,
    /// Of BYTES the columns of all rows, since text cannot be moved before the end.
    text_columns: Vec<u32>,
    in_order: bool,
    scratch: Vec<u8>,
}

impl Table {
    pub(super) fn new(dtype: DataType, leaves: Leaves, width: usize) -> Self {
        Self {
            cells: Packed::new(dtype, width),
            leaves,
            width,
            n_rows: 0,
            open: Vec::with_capacity(width),
            text_columns: Vec::new(),
            in_order: true,
            scratch: Vec::new(),
        }
    }

    pub(super) fn cell(&mut self, reader: &mut Jiter<'_>, peek: Peek, column: usize) -> Result<()> {
        self.open.push(column);
        nested::leaf(reader, peek, self.leaves, &mut self.cells)
    }

    pub(super) fn text(&mut self, text: &str, column: usize) -> Result<()> {
        self.open.push(column);
        nested::push_text(text, &mut self.cells)
    }

    /// Whether the open row has a cell.
    pub(super) fn has_begun_row(&self) -> bool {
        !self.open.is_empty()
    }

    /// Returns the number of complete rows.
    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Puts the cells of the open row into the order of the columns. A row is complete or absent.
    pub(super) fn end_row(&mut self) {
        if self.open.len() != self.width {
            return;
        }
        let is_ordered = self.open.iter().enumerate().all(|(place, &column)| place == column);
        match &mut self.cells {
            Packed::Fixed(dtype, data) if !is_ordered => {
                let size = dtype.size().unwrap_or(1);
                let row = data.len() - self.width * size;
                self.scratch.clear();
                self.scratch.extend_from_slice(&data[row..]);
                for (cell, &column) in self.scratch.chunks_exact(size).zip(&self.open) {
                    data[row + column * size..][..size].copy_from_slice(cell);
                }
            }
            Packed::Fixed(..) => {}
            Packed::Bytes(..) => {
                self.in_order &= is_ordered;
                self.text_columns.extend(self.open.iter().map(|&column| u32::try_from(column).unwrap_or(u32::MAX)));
            }
        }
        self.open.clear();
        self.n_rows += 1;
    }

    pub(super) fn finish(self, name: &str) -> Result<Tensor> {
        let tensor = self.cells.finish(name, [self.n_rows, self.width])?;
        let Some(elements) = tensor.elements().filter(|_| !self.in_order) else {
            return Ok(tensor);
        };
        let mut builder = ElementsBuilder::default();
        let mut cell_of = vec![0; self.width];
        for (row, columns) in self.text_columns.chunks_exact(self.width).enumerate() {
            for (cell, &column) in columns.iter().enumerate() {
                cell_of[column as usize] = row * self.width + cell;
            }
            cell_of.iter().for_each(|&cell| builder.push(elements.get(cell).unwrap_or_default()));
        }
        Tensor::from_elements(name, tensor.shape().clone(), builder.finish())
    }
}
