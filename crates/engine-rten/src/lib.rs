//! The rten engine: neural models in pure Rust, always there.
//!
//! It needs no library on the machine, but knows no tree or linear models (`ai.onnx.ml`) and no
//! text; what it cannot load it refuses with a word on how to get ONNX Runtime, which can. It sets
//! no bound on the memory that a graph asks for: a file whose shapes ask for terabytes ends the
//! process. Serve files that you trust.

mod convert;
mod declared;
mod model;

use std::sync::Arc;

use salver_core::{Engine, Model, ModelSpec, Result};

use crate::model::RtenModel;

/// Ends each message that says what this engine cannot do.
const INSTALL_HINT: &str = "this model needs ONNX Runtime, which `salver runtime install` gets";

/// See the crate's description.
#[derive(Debug, Clone, Copy, Default)]
pub struct RtenEngine;

impl RtenEngine {
    /// Makes the engine.
    pub fn new() -> Self {
        Self
    }
}

impl Engine for RtenEngine {
    fn name(&self) -> &'static str {
        "rten"
    }

    fn platform(&self) -> &'static str {
        "rten_onnx"
    }

    fn describe(&self) -> String {
        "rten, compiled in; neural models in standard operators".to_owned()
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(RtenModel::load(&spec.artifact)?))
    }
}
