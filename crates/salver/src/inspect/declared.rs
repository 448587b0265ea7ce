//! Models that are nothing but a `model.toml`: made of other models, rows of a store, another server.

use std::fmt::Write as _;

use salver_core::{
    Backing, EnsembleSpec, FeatureRows, FeatureSpec, FeaturesSpec, KeyType, ModelSpec, OnFailure, RemoteApi,
    RemoteSpec, Source, StepSpec,
};
use salver_repository::Kind;
use serde_json::{Value, json};

use crate::out;

/// Prints it.
pub(super) fn print(kind: Kind, spec: &ModelSpec) {
    out::line(format!("{} version {}: {}", spec.name, spec.version, spec.artifact.display()));
    out::line(format!("  found in    {kind}"));
    match &spec.backing {
        Backing::Ensemble(ensemble) => print_ensemble(ensemble),
        Backing::Features(features) => print_features(features),
        Backing::Remote(remote) => print_remote(remote),
        Backing::Artifact | Backing::Builtin(_) => {}
    }
}

/// The same as JSON.
pub(super) fn json(kind: Kind, spec: &ModelSpec) -> Value {
    let mut shown = json!({
        "model": &*spec.name,
        "version": spec.version,
        "artifact": spec.artifact,
        "kind": kind.to_string(),
        "runs": spec.engine,
    });
    let (name, part) = match &spec.backing {
        Backing::Ensemble(ensemble) => ("ensemble", ensemble_json(ensemble)),
        Backing::Features(features) => ("features", features_json(features)),
        Backing::Remote(remote) => ("remote", remote_json(remote)),
        Backing::Artifact | Backing::Builtin(_) => return shown,
    };
    shown[name] = part;
    shown
}

/// What `salver serve` needs to be told for it.
pub(super) fn flag(spec: &ModelSpec) -> Option<String> {
    match &spec.backing {
        Backing::Features(features) => Some(format!("--feature-store {}=URL", features.store)),
        Backing::Remote(remote) => Some(format!("--remote-allow {}", host(&remote.url))),
        Backing::Artifact | Backing::Builtin(_) | Backing::Ensemble(_) => None,
    }
}

fn print_ensemble(ensemble: &EnsembleSpec) {
    let mut models: Vec<String> = ensemble.models().map(ToString::to_string).collect();
    models.sort_unstable();
    models.dedup();
    let n_steps = ensemble.steps.len();
    let steps = if n_steps == 1 { "1 step".to_owned() } else { format!("{n_steps} steps") };
    out::line(format!("  runs        {steps}; salver graph shows them on a running server"));
    out::line(format!("  calls       {}", out::printable(&models.join(", "))));
    let mut table = out::Rows::new(&["", "name", "model or source", "reads", "under"]);
    for step in &ensemble.steps {
        let reads = if ensemble.by_name { reads(step, "by name") } else { reads(step, "") };
        table.push(["step", &step.name, &step.model.to_string(), &reads, &conditions(step)]);
    }
    for output in &ensemble.outputs {
        table.push(["output", &output.name, &sources(&output.from), "", ""]);
    }
    if ensemble.outputs.is_empty() {
        table.push(["output", "", "every output that no step reads", "", ""]);
    }
    table.print();
}

/// What a step's inputs are read from; `others` stands for those that are not named.
fn reads(step: &StepSpec, others: &str) -> String {
    let named = step.inputs.iter().map(|(input, from)| format!("{input} = {}", sources(from)));
    let named: Vec<String> = named.collect();
    if named.is_empty() { others.to_owned() } else { named.join(", ") }
}

/// The first that is there, of several.
fn sources(from: &[Source]) -> String {
    let all: Vec<String> = from.iter().map(ToString::to_string).collect();
    all.join(" or ")
}

fn conditions(step: &StepSpec) -> String {
    let parts = [
        step.when.as_ref().map(|when| format!("when {when}")),
        step.present.as_ref().map(|output| format!("present {output}")),
        (!step.each.is_empty()).then(|| format!("each {}", step.each.join(", "))),
        step.timeout.map(|timeout| format!("within {}", humantime::format_duration(timeout))),
        step.fallback.as_ref().map(|model| format!("else {model}")),
        (step.on_failure == OnFailure::Skip).then(|| "else nothing".to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn ensemble_json(ensemble: &EnsembleSpec) -> Value {
    let all = |from: &[Source]| from.iter().map(ToString::to_string).collect::<Vec<_>>();
    let step = |step: &StepSpec| {
        json!({
            "name": &*step.name,
            "model": step.model.to_string(),
            "inputs": step.inputs.iter().map(|(input, from)| (input.clone(), json!(all(from)))).collect::<serde_json::Map<_, _>>(),
            "when": step.when.as_ref().map(ToString::to_string),
            "present": step.present.as_deref(),
            "each": step.each,
            "timeout_ms": step.timeout.map(|timeout| timeout.as_millis().min(u128::from(u64::MAX)) as u64),
            "fallback": step.fallback.as_ref().map(ToString::to_string),
            "on_failure": if step.on_failure == OnFailure::Skip { "skip" } else { "fail" },
        })
    };
    let outputs = ensemble.outputs.iter().map(|output| json!({ "name": &*output.name, "from": all(&output.from) }));
    json!({
        "steps": ensemble.steps.iter().map(step).collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
    })
}

fn print_features(features: &FeaturesSpec) {
    out::line(format!("  runs        a look into the feature store '{}', {}", features.store, place(features)));
    out::line(format!("  takes       {} {}", features.key, key_type(features)));
    let gives = features.features.iter().map(feature).collect::<Vec<_>>().join(", ");
    let gives = features.joined.as_ref().map_or(gives.clone(), |joined| format!("{joined} ({gives})"));
    out::line(format!("  gives       {}, {}", out::printable(&gives), FeaturesSpec::FOUND));
}

fn place(features: &FeaturesSpec) -> String {
    match &features.rows {
        FeatureRows::Hash { before, after } => format!("hash {before}{{{}}}{after}", features.key),
        FeatureRows::Table { schema, table, key_column } => {
            let schema = schema.as_ref().map(|schema| format!("{schema}.")).unwrap_or_default();
            format!("table {schema}{table} by {key_column}")
        }
    }
}

fn key_type(features: &FeaturesSpec) -> &'static str {
    match features.key_type {
        KeyType::Int64 => "INT64",
        KeyType::Text => "BYTES",
    }
}

fn feature(feature: &FeatureSpec) -> String {
    let mut shown = format!("{} {}", feature.name, feature.dtype);
    if feature.size > 1 {
        // Writing to a text cannot fail.
        let _ = write!(shown, "[{}]", feature.size);
    }
    shown
}

fn features_json(features: &FeaturesSpec) -> Value {
    let one = |feature: &FeatureSpec| json!({ "name": &*feature.name, "datatype": feature.dtype.as_str(), "size": feature.size });
    json!({
        "store": &*features.store,
        "key": &*features.key,
        "key_datatype": key_type(features),
        "rows": place(features),
        "joined": features.joined.as_deref(),
        "features": features.features.iter().map(one).collect::<Vec<_>>(),
    })
}

fn print_remote(remote: &RemoteSpec) {
    let there = remote.model.as_ref().map(|model| format!(", as {model}")).unwrap_or_default();
    let there = format!("{}{there}", remote.url);
    out::line(format!("  runs        {} of another server: {}", api(remote), out::printable(&there)));
    let tries = if remote.retries == 0 { "once".to_owned() } else { format!("up to {} times", remote.retries + 1) };
    out::line(format!("  calls       {tries}, {} each", humantime::format_duration(remote.timeout)));
}

fn api(remote: &RemoteSpec) -> &'static str {
    match remote.api {
        RemoteApi::OpenAiChat { .. } => "OpenAI's chat completions",
        RemoteApi::OpenAiEmbeddings { .. } => "OpenAI's embeddings",
        RemoteApi::OipV2 { .. } => "the Open Inference Protocol",
    }
}

fn remote_json(remote: &RemoteSpec) -> Value {
    json!({
        "api": api(remote),
        "url": remote.url,
        "model": remote.model,
        "timeout_ms": remote.timeout.as_millis().min(u128::from(u64::MAX)) as u64,
        "retries": remote.retries,
    })
}

/// The host of an address, as `--remote-allow` has it.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}
