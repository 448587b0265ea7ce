//! The contract suite, over the same graphs as the engines in this process.

use std::sync::Arc;

use salver_core::{DataType, Engine, Model, ModelSpec, Result};
use salver_engine_python::PythonEngine;
use salver_testkit::{EngineModels, engine_suite};

use crate::spec;

/// Runs the graph of each ONNX file in a worker.
struct OfGraphs(PythonEngine);

impl Engine for OfGraphs {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn platform(&self) -> &'static str {
        self.0.platform()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn prepare(&self) -> Result<()> {
        self.0.prepare()
    }

    fn load(&self, asked: &ModelSpec) -> Result<Arc<dyn Model>> {
        self.0.load(&spec("suite.py", &[("graph", asked.artifact.to_str().unwrap())]))
    }
}

fn check(shares_answers: bool) {
    let Some(engine) = crate::engine(shares_answers) else { return };
    // Damaged graphs are the business of the library in the worker: one that it ends is in `faults`.
    let models = EngineModels { identities: DataType::ALL.to_vec(), unsupported: Vec::new(), damaged: Vec::new() };
    engine_suite(&OfGraphs(engine), &models);
}

#[test]
fn python_keeps_the_contract_of_engines() {
    check(false);
}

#[test]
fn python_keeps_the_contract_of_engines_where_no_process_may_read_another() {
    check(true);
}
