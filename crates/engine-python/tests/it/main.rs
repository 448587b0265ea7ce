//! Real workers: the contract of engines, and what happens when a worker misbehaves.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod contract;
mod faults;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use salver_core::{
    ErrorKind, Inputs, Instance, Model, ModelSpec, Placement, Predictor, PythonEnvironment, PythonSpec, Result, Tensor,
};
use salver_engine_python::{PythonEngine, PythonOptions, Requirements};
use salver_testkit::{python, repository_path, spec_of};

/// Makes an engine on a Python with numpy; none where there is none.
fn engine(shares_answers: bool) -> Option<PythonEngine> {
    let interpreter = python(&["numpy", "onnxruntime"])?;
    Some(PythonEngine::new(&PythonOptions {
        is_allowed: true,
        interpreter: Some(interpreter),
        requirements: Requirements::Given,
        cache: None,
        shares_answers,
    }))
}

/// Makes the spec of a file under `tests/models/python`.
fn spec(file: &str, settings: &[(&str, &str)]) -> ModelSpec {
    of_file(repository_path("tests/models/python").join(file), settings)
}

fn of_file(artifact: PathBuf, settings: &[(&str, &str)]) -> ModelSpec {
    let folder = artifact.parent().unwrap().to_owned();
    let settings: BTreeMap<String, String> =
        settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let python = PythonSpec {
        folder,
        predictor: Predictor::Class(None),
        environment: PythonEnvironment::Server,
        inputs: Vec::new(),
        outputs: Vec::new(),
        memory_limit: None,
        start_timeout: PythonSpec::DEFAULT_START_TIMEOUT,
        variables: BTreeMap::new(),
        settings,
    };
    ModelSpec { engine: Some("python".to_owned()), python: Some(Arc::new(python)), ..spec_of(&artifact) }
}

fn instance(model: &dyn Model) -> Box<dyn Instance> {
    model.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).unwrap()
}

fn run(instance: &mut dyn Instance, rows: &[[f32; 2]]) -> Result<Vec<Tensor>> {
    let values: Vec<f32> = rows.iter().flatten().copied().collect();
    instance.run(Inputs::Direct(&[salver_testkit::tensor("x", &[rows.len(), 2], &values)]))
}

/// Checks that the worker answers as if nothing had been.
#[track_caller]
fn check_sound(instance: &mut dyn Instance) {
    assert!(instance.is_sound(true));
    let outputs = run(instance, &[[1.0, 2.0], [3.0, 4.0]]).unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[track_caller]
fn check_over(instance: &mut dyn Instance, result: Result<Vec<Tensor>>, words: &str) {
    let error = result.unwrap_err();
    assert!(error.message().contains(words), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert!(!instance.is_sound(true));
}
