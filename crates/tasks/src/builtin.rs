//! Steps of pipelines that need no graph: small functions, as models of their own.
//!
//! Pure: what comes out depends on nothing but what goes in. A function computes each row by
//! itself, so rows of several requests give together what they give alone.

mod labels;
mod model;
mod top_k;
mod view;

use std::fmt::Debug;
use std::sync::Arc;

use salver_core::{Backing, BuiltinSpec, Engine, Error, Model, ModelSpec, Result, Signature, Tensor};

use self::labels::Labels;
use self::model::Builtin;
use self::top_k::TopK;
pub(crate) use self::view::View;
use crate::image::{Cropper, Decoder};
use crate::text::Encoder;

/// A function of tensors.
pub(crate) trait Function: Debug + Send + Sync {
    /// Returns what goes in and out; both by rows.
    fn signature(&self) -> &Signature;

    /// Computes the outputs, in the signature's order. The inputs are checked against the signature
    /// and in its order.
    ///
    /// # Errors
    /// `InvalidInput` or `TooLarge` naming the input, and its row where one is to blame.
    fn run(&self, inputs: &[View<'_>]) -> Result<Vec<Tensor>>;

    /// Returns an estimate of the memory that it holds.
    fn memory_bytes(&self) -> u64 {
        1 << 10
    }
}

/// The engine of models that the server computes itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltinEngine;

impl Engine for BuiltinEngine {
    fn name(&self) -> &'static str {
        "builtin"
    }

    fn platform(&self) -> &'static str {
        "salver_builtin"
    }

    fn describe(&self) -> String {
        "compiled in; tokenize, crop, top-k, labels, image".to_owned()
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>> {
        let Backing::Builtin(builtin) = &spec.backing else {
            return Err(Error::invalid_input(format!(
                "{}: the engine 'builtin' loads no files; a model.toml with [builtin] says what it computes",
                spec.artifact.display()
            )));
        };
        let function = make(builtin).map_err(|error| error.context(format_args!("builtin '{}'", builtin.name())))?;
        Ok(Arc::new(Builtin::new(function)))
    }
}

fn make(spec: &BuiltinSpec) -> Result<Arc<dyn Function>> {
    Ok(match spec {
        BuiltinSpec::Tokenize(spec) => Arc::new(Encoder::new(spec)?),
        BuiltinSpec::Crop(spec) => Arc::new(Cropper::new(spec)?),
        BuiltinSpec::TopK(spec) => Arc::new(TopK::new(spec)),
        BuiltinSpec::Labels(spec) => Arc::new(Labels::new(spec)?),
        BuiltinSpec::Image(spec) => Arc::new(Decoder::new(spec)?),
    })
}

#[cfg(test)]
pub(crate) mod tests;
