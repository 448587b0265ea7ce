//! What models do for people: texts, pictures and rows of a table to tensors, and a model's
//! outputs to answers.
//!
//! Walls off tokenisers and picture codecs. [`Tasks`] makes a [`Task`] of what a model's files say
//! and what its graph takes; everything that can be wrong between the two is found there, before
//! the model serves. [`BuiltinEngine`] offers pieces of it as models of their own, for pipelines.

mod builtin;
pub mod fuzz;
mod image;
mod parts;
mod scores;
mod tabular;
mod text;

use std::sync::Arc;

pub use self::builtin::BuiltinEngine;
use salver_core::{ModelSpec, Result, Signature, Task, TaskMaker, TaskSpec};

/// Makes every task there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tasks;

impl TaskMaker for Tasks {
    fn make(&self, spec: &ModelSpec, graph: &Signature) -> Result<Option<Arc<dyn Task>>> {
        let made = match &spec.task {
            TaskSpec::Tensor | TaskSpec::Rows => return Ok(None),
            TaskSpec::Tabular(table) => tabular::make(table, graph),
            TaskSpec::Text(text) => text::make(text, graph),
            TaskSpec::Image(image) => image::make(image, graph),
        };
        made.map(Some).map_err(|error| error.context(format_args!("task '{}'", spec.task.name())))
    }
}
