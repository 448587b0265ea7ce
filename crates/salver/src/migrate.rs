//! `salver migrate`: what of another server's repository is served as it is, line by line.
//!
//! No model is loaded and no engine is started. What the readers of serving say is joined with
//! whether each graph fits its configuration, which serving finds out from the engine.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use salver_core::{Backing, Batching, ModelSpec, Signature, TensorSpec};
use salver_repository::migrate::{ModelReport, Note, Report, Status};
use salver_repository::onnx::{OnnxSummary, summarize};
use salver_runtime::Unloaded;
use serde_json::{Value, json};

use crate::cli::{MigrateFrom, MigrateOptions};
use crate::{out, preview};

/// Runs the command; the exit code tells whether everything is served.
///
/// # Errors
/// Where the path does not exist or holds no model.
pub(crate) fn run(options: &MigrateOptions) -> Result<ExitCode> {
    let (from, path) = match &options.from {
        MigrateFrom::Triton { path } => ("triton", path),
        MigrateFrom::Tfserving { path } => ("tfserving", path),
    };
    let mut report = match from {
        "triton" => Report::triton(path)?,
        _ => Report::tfserving(path)?,
    };
    check_fits(&mut report.models);
    let serves = report.serves();
    if options.json {
        out::json(&as_json(from, &report))?;
    } else {
        print(&report, options.all);
    }
    Ok(if serves { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Joins each graph with its configuration and each ensemble with the models that it calls, as
/// serving does.
fn check_fits(models: &mut [ModelReport]) {
    let unloaded = |spec: &Arc<ModelSpec>| {
        let summary = is_of_graph(spec).then(|| summarize(&spec.artifact).ok()).flatten();
        Unloaded { spec: spec.clone(), graph: summary.and_then(|summary| signature(spec, &summary)) }
    };
    let serving = models.iter().filter(|model| model.serves());
    let unloaded: Vec<Unloaded> = serving.flat_map(|model| &model.specs).map(unloaded).collect();
    for (one, fits) in unloaded.iter().zip(salver_runtime::check_fits(&unloaded)) {
        let what = if is_of_graph(&one.spec) { "graph" } else { "ensemble_scheduling" };
        if let (Err(error), Some(model)) = (fits, models.iter_mut().find(|model| *model.name == *one.spec.name)) {
            model.refuse(&one.spec.artifact, what, error.message());
        }
    }
}

fn is_of_graph(spec: &ModelSpec) -> bool {
    !matches!(spec.backing, Backing::Ensemble(_))
}

/// What an engine would say of a graph; none: it may know more than the file tells.
fn signature(spec: &ModelSpec, summary: &OnnxSummary) -> Option<Signature> {
    let Signature { inputs, outputs, .. } = preview::known_signature(spec, summary)?;
    let batching = Batching::of(&inputs, &outputs);
    Some(Signature { inputs, outputs, batching })
}

fn as_json(from: &str, report: &Report) -> Value {
    let note = |note: &Note| {
        json!({
            "file": note.file,
            "line": note.line,
            "status": note.status.as_str(),
            "what": note.what,
            "why": note.why,
            "todo": note.todo,
        })
    };
    let notes = |notes: &[Note]| notes.iter().map(note).collect::<Vec<_>>();
    let tensor =
        |spec: &TensorSpec| json!({ "name": &*spec.name, "datatype": spec.dtype.as_str(), "shape": spec.wire_shape() });
    let version = |spec: &ModelSpec| {
        let summary = is_of_graph(spec).then(|| summarize(&spec.artifact).ok()).flatten();
        let graph = summary.and_then(|summary| preview::known_signature(spec, &summary));
        json!({
            "version": spec.version,
            "artifact": spec.artifact,
            "inputs": graph.as_ref().map(|graph| graph.inputs.iter().map(tensor).collect::<Vec<_>>()),
            "outputs": graph.as_ref().map(|graph| graph.outputs.iter().map(tensor).collect::<Vec<_>>()),
        })
    };
    let model = |model: &ModelReport| {
        json!({
            "name": model.name,
            "path": model.path,
            "serves": model.serves(),
            "versions": model.specs.iter().map(|spec| version(spec)).collect::<Vec<_>>(),
            "notes": notes(&model.notes),
        })
    };
    json!({
        "from": from,
        "serves": report.serves(),
        "models": report.models.iter().map(model).collect::<Vec<_>>(),
        "notes": notes(&report.notes),
        "serve": report.paths,
    })
}

fn print(report: &Report, all: bool) {
    let mut models = out::Rows::new(&["model", "verdict", "versions", ">serves", ">ignored", ">needs", ">refused"]);
    for model in &report.models {
        let count = |status| model.notes.iter().filter(|note| note.status == status).count().to_string();
        let versions: Vec<String> = model.specs.iter().map(|spec| spec.version.to_string()).collect();
        models.push([
            model.name.clone(),
            verdict(model).to_owned(),
            versions.join(", "),
            count(Status::Serves),
            count(Status::Ignored),
            count(Status::Needs),
            count(Status::Refused),
        ]);
    }
    models.print();
    let notes = report.notes.iter().chain(report.models.iter().flat_map(|model| &model.notes));
    let shown: Vec<&Note> = notes.filter(|note| all || note.status != Status::Serves).collect();
    if !shown.is_empty() {
        out::line("");
        let mut lines = out::Rows::new(&["where", "", "what", "why"]);
        for note in shown {
            lines.push([place(note), note.status.as_str().to_owned(), note.what.clone(), note.why.clone()]);
        }
        lines.print();
    }
    print_todo(report);
    out::line("");
    out::line(summary(report));
}

/// Says once what to do about each kind of thing that is refused, and where these are.
fn print_todo(report: &Report) {
    let mut todo: Vec<(&str, Vec<String>)> = Vec::new();
    let notes = report.models.iter().flat_map(|model| &model.notes).filter(|note| !note.todo.is_empty());
    for note in notes {
        match todo.iter_mut().find(|(what, _)| *what == note.todo) {
            Some((_, places)) => places.push(place(note)),
            None => todo.push((note.todo, vec![place(note)])),
        }
    }
    for (what, places) in todo {
        out::line("");
        out::line(out::printable(&format!("{}:", places.join(", "))));
        out::line(format!("  {what}."));
    }
}

fn verdict(model: &ModelReport) -> &'static str {
    let needs = model.notes.iter().any(|note| note.status == Status::Needs);
    match (model.serves(), needs) {
        (true, false) => "serves",
        (true, true) => "serves, see needs",
        (false, _) => "refused",
    }
}

fn place(note: &Note) -> String {
    match note.line {
        Some(line) => format!("{}:{line}", note.file),
        None => note.file.clone(),
    }
}

fn summary(report: &Report) -> String {
    let serving = report.models.iter().filter(|model| model.serves()).count();
    let mut text = format!("{serving} of {} models serve as they are.", report.models.len());
    let starts = report.notes.iter().all(|note| note.status != Status::Refused);
    if serving > 0 && starts {
        text.push_str(" Serve them: salver serve");
        for path in &report.paths {
            // Writing into a String cannot fail.
            let _ = write!(text, " {}", path.display());
        }
    }
    text
}
