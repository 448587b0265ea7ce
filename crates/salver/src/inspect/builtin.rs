//! What a function takes and gives that the server has itself.

use salver_core::{Engine as _, ModelSpec, Result, Signature};
use salver_repository::Kind;
use salver_tasks::BuiltinEngine;
use serde_json::{Value, json};

use crate::{out, preview};

/// Prints it.
pub(super) fn print(kind: Kind, spec: &ModelSpec) {
    out::line(format!("{} version {}: {}", spec.name, spec.version, spec.artifact.display()));
    out::line(format!("  found in    {kind}"));
    out::line("  runs        a built-in function");
    match signature(spec) {
        Ok(signature) => {
            out::line(format!("  takes       {}", out::printable(&preview::tensors(&signature.inputs))));
            out::line(format!("  gives       {}", out::printable(&preview::tensors(&signature.outputs))));
        }
        Err(error) => out::line(format!("  error       {}", out::printable(error.message()))),
    }
}

/// The same as JSON.
pub(super) fn json(kind: Kind, spec: &ModelSpec) -> Value {
    let signature = signature(spec);
    let known = signature.as_ref().ok();
    json!({
        "model": &*spec.name,
        "version": spec.version,
        "artifact": spec.artifact,
        "kind": kind.to_string(),
        "runs": "builtin",
        "takes": known.map(|signature| super::specs_json(&signature.inputs)),
        "gives": known.map(|signature| super::specs_json(&signature.outputs)),
        "error": signature.as_ref().err().map(salver_core::Error::message),
    })
}

/// Loads the function, which is no more work than reading its files.
fn signature(spec: &ModelSpec) -> Result<Signature> {
    BuiltinEngine.load(spec).map(|model| model.signature().clone())
}
