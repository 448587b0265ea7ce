//! What the files of a model in Python say of it: nothing of its code runs.

use std::path::Path;

use salver_core::{ModelSpec, Predictor, PythonEnvironment, PythonSpec, PythonTensor, TensorSpec};
use salver_repository::Kind;
use serde_json::{Value, json};

use crate::{out, preview};

/// Prints it.
pub(super) fn print(kind: Kind, spec: &ModelSpec, python: &PythonSpec) {
    out::line(format!("{} version {}: {}", spec.name, spec.version, spec.artifact.display()));
    out::line(format!("  found in    {kind}"));
    out::line(format!("  task        {}", spec.task.name()));
    out::line(format!("  runs        {}, in worker processes (--allow-python)", predictor(python)));
    out::line(format!("  with        {}", environment(python)));
    for (what, tensors) in [("takes", &python.inputs), ("gives", &python.outputs)] {
        let known = match tensors.is_empty() {
            true => "as the model says when it is loaded".to_owned(),
            false => preview::tensors(&specs(tensors)),
        };
        out::line(format!("  {what:<11} {}", out::printable(&known)));
    }
    for (name, value) in &spec.metrics {
        out::line(format!("  {name:<11} {value} (measured when the model was made)"));
    }
}

/// The same as JSON.
pub(super) fn json(kind: Kind, spec: &ModelSpec, python: &PythonSpec) -> Value {
    json!({
        "model": &*spec.name,
        "version": spec.version,
        "artifact": spec.artifact,
        "kind": kind.to_string(),
        "task": spec.task.name(),
        "runs": predictor(python),
        "with": environment(python),
        "takes": super::specs_json(&specs(&python.inputs)),
        "gives": super::specs_json(&specs(&python.outputs)),
        "metrics": spec.metrics,
    })
}

fn specs(tensors: &[PythonTensor]) -> Vec<TensorSpec> {
    tensors.iter().map(|tensor| tensor.spec.clone()).collect()
}

fn predictor(python: &PythonSpec) -> String {
    match &python.predictor {
        Predictor::Class(None) => "the class of the file".to_owned(),
        Predictor::Class(Some(name)) => format!("the class {name}"),
        Predictor::Adapter(name) => format!("the adapter {name}"),
    }
}

fn environment(python: &PythonSpec) -> String {
    let shown = |path: &Path| path.display().to_string();
    match &python.environment {
        PythonEnvironment::Server => "the Python of --python".to_owned(),
        PythonEnvironment::Interpreter(path) => shown(path),
        PythonEnvironment::Requirements(path) => format!("an environment made of {}", shown(path)),
    }
}
