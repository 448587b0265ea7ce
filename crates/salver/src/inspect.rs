//! `salver inspect`: what a model file takes, gives and consists of.
//!
//! Reads the file itself; no engine is loaded. What only a configuration says (columns, labels,
//! metrics, the task) is shown where there is one.

mod builtin;
mod declared;
mod python;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use salver_core::{Backing, DataType, ModelInfo, ModelSource as _, ModelSpec, Task, TensorSpec};
use salver_repository::onnx::{OnnxDim, OnnxSummary, OnnxType, OnnxValue, summarize};
use salver_repository::{Kind, Repository};
use serde_json::{Value, json};

use crate::cli::InspectOptions;
use crate::units::bytes;
use crate::{curl, out, preview};

/// Where the curl lines point to: the server's default address.
const SERVER: &str = "http://127.0.0.1:8080";

/// Runs the command.
///
/// # Errors
/// Where the path is no model, or the file is none.
pub(crate) fn run(options: &InspectOptions) -> Result<()> {
    let (kind, specs) = specs(&options.path)?;
    let (in_python, graphs): (Vec<_>, Vec<_>) = specs.into_iter().partition(|spec| spec.python.is_some());
    let in_python: Vec<_> = in_python.iter().filter_map(|spec| Some((spec, spec.python.as_ref()?))).collect();
    let (functions, graphs): (Vec<_>, Vec<_>) =
        graphs.into_iter().partition(|spec| matches!(spec.backing, Backing::Builtin(_)));
    let (graphs, declared): (Vec<_>, Vec<_>) = graphs.into_iter().partition(|spec| spec.backing == Backing::Artifact);
    let mut models = Vec::with_capacity(graphs.len());
    for spec in graphs {
        let summary = summarize(&spec.artifact)?;
        let task = preview::task(&spec, &summary);
        let info = describe(&spec, &summary, task.as_ref().ok().and_then(Option::as_ref));
        models.push(Inspected { kind, info, spec, summary, task });
    }
    if options.json {
        let of_python = in_python.iter().map(|(spec, python)| python::json(kind, spec, python));
        let of_functions = functions.iter().map(|spec| builtin::json(kind, spec));
        let of_declared = declared.iter().map(|spec| declared::json(kind, spec));
        let all = models.iter().map(Inspected::json).chain(of_python).chain(of_functions).chain(of_declared);
        let all: Vec<Value> = all.collect();
        return match all.as_slice() {
            [only] => out::json(only),
            several => out::json(several),
        };
    }
    models.iter().for_each(Inspected::print);
    in_python.iter().for_each(|(spec, python)| python::print(kind, spec, python));
    functions.iter().for_each(|spec| builtin::print(kind, spec));
    declared.iter().for_each(|spec| declared::print(kind, spec));
    let mut flags: BTreeSet<String> = declared.iter().filter_map(|spec| declared::flag(spec)).collect();
    if !in_python.is_empty() {
        flags.insert("--allow-python".to_owned());
    }
    let flags: String = flags.iter().map(|flag| format!(" {flag}")).collect();
    out::line(format!("Serve it: salver serve {}{}", options.path.display(), out::printable(&flags)));
    for model in &models {
        out::line(format!("Ask it:   {}", curl::predict(SERVER, &model.info)));
    }
    Ok(())
}

/// What `path` is, and every version of every model there.
fn specs(path: &Path) -> Result<(Kind, Vec<Arc<ModelSpec>>)> {
    let repository = Repository::open(&[path.to_owned()])?;
    let mut specs = Vec::new();
    for entry in repository.scan() {
        specs.extend(entry.versions.with_context(|| format!("model {}", entry.name))?);
    }
    match repository.kinds().next() {
        Some((_, kind)) if !specs.is_empty() => Ok((kind, specs)),
        Some(_) | None => bail!("there is no model in {}", path.display()),
    }
}

struct Inspected {
    kind: Kind,
    spec: Arc<ModelSpec>,
    summary: OnnxSummary,
    /// Or why it does not fit the graph.
    task: salver_core::Result<Option<Arc<dyn Task>>>,
    info: ModelInfo,
}

impl Inspected {
    fn print(&self) {
        let summary = &self.summary;
        let opset = |(domain, version): (&String, &i64)| match domain.as_str() {
            "" => format!("opset {version}"),
            domain => format!("{domain} {version}"),
        };
        let opsets: Vec<String> = summary.opsets.iter().map(opset).collect();
        let operators: Vec<String> = summary.operators.iter().map(|(name, count)| operator(name, *count)).collect();
        out::line(format!("{} version {}: {}", self.spec.name, self.spec.version, self.spec.artifact.display()));
        out::line(format!("  found in    {}", self.kind));
        out::line(format!("  task        {}", self.spec.task.name()));
        match &self.task {
            Ok(None) => {}
            Ok(Some(task)) => {
                out::line(format!("  takes       {}", out::printable(&preview::tensors(&task.signature().inputs))));
                out::line(format!("  gives       {}", out::printable(&preview::tensors(&task.signature().outputs))));
            }
            Err(error) => out::line(format!("  error       {}", out::printable(error.message()))),
        }
        out::line(format!("  format      ONNX IR {}, {}", summary.ir_version, opsets.join(", ")));
        if !summary.producer.is_empty() {
            out::line(format!("  made by     {}", out::printable(&summary.producer)));
        }
        out::line(format!("  size        {}", bytes(summary.file_bytes)));
        let weights = bytes(summary.parameter_bytes);
        out::line(format!("  parameters  {} ({weights})", thousands(summary.parameter_count)));
        out::line(format!("  operators   {}", out::printable(&operators.join(", "))));
        for file in &summary.external_files {
            out::line(format!("  weights in  {}", out::printable(file)));
        }
        for (name, value) in &self.spec.metrics {
            out::line(format!("  {name:<11} {value} (measured when the model was made)"));
        }
        let mut table = out::Rows::new(&["", "name", "type", "columns or labels"]);
        for value in &summary.inputs {
            let columns = columns(&self.spec, &value.name, summary.inputs.len()).join(", ");
            table.push(["input", &value.name, &value.kind.to_string(), &columns]);
        }
        for value in &summary.outputs {
            let labels = self.spec.labels.get(&value.name).or_else(|| self.spec.labels.get(""));
            let labels = labels.map(|labels| labels.join(", ")).unwrap_or_default();
            table.push(["output", &value.name, &value.kind.to_string(), &labels]);
        }
        table.print();
    }

    fn json(&self) -> Value {
        let summary = &self.summary;
        let operator = |((domain, name), count): (&(String, String), &usize)| json!({ "domain": domain, "name": name, "count": count });
        json!({
            "model": &*self.spec.name,
            "version": self.spec.version,
            "artifact": self.spec.artifact,
            "kind": self.kind.to_string(),
            "task": self.spec.task.name(),
            "ir_version": summary.ir_version,
            "producer": summary.producer,
            "opsets": summary.opsets,
            "inputs": summary.inputs.iter().map(value_json).collect::<Vec<_>>(),
            "outputs": summary.outputs.iter().map(value_json).collect::<Vec<_>>(),
            "operators": summary.operators.iter().map(operator).collect::<Vec<_>>(),
            "parameter_count": summary.parameter_count,
            "parameter_bytes": summary.parameter_bytes,
            "file_bytes": summary.file_bytes,
            "external_files": summary.external_files,
            "metadata": summary.metadata,
            "columns": self.spec.columns,
            "labels": self.spec.labels,
            "metrics": self.spec.metrics,
            "takes": self.task.as_ref().ok().and_then(Option::as_ref).map(|task| specs_json(&task.signature().inputs)),
            "gives": self.task.as_ref().ok().and_then(Option::as_ref).map(|task| specs_json(&task.signature().outputs)),
            "task_error": self.task.as_ref().err().map(|error| error.message().to_owned()),
            "curl": curl::predict(SERVER, &self.info),
        })
    }
}

fn specs_json(specs: &[TensorSpec]) -> Value {
    let one = |spec: &TensorSpec| {
        json!({
            "name": &*spec.name,
            "datatype": spec.dtype.as_str(),
            "shape": spec.wire_shape(),
            "optional": spec.optional,
        })
    };
    specs.iter().map(one).collect()
}

fn operator((domain, name): &(String, String), count: usize) -> String {
    let name = if domain.is_empty() { name.clone() } else { format!("{domain}.{name}") };
    if count == 1 { name } else { format!("{name} x{count}") }
}

fn value_json(value: &OnnxValue) -> Value {
    let dims = match &value.kind {
        OnnxType::Tensor { dims: Some(dims), .. } => dims.iter().map(dim_json).collect(),
        OnnxType::Tensor { dims: None, .. } | OnnxType::Other(_) => Value::Null,
    };
    let datatype = match &value.kind {
        OnnxType::Tensor { dtype, .. } => dtype.map(DataType::as_str),
        OnnxType::Other(_) => None,
    };
    json!({ "name": value.name, "type": value.kind.to_string(), "datatype": datatype, "dims": dims })
}

fn dim_json(dim: &OnnxDim) -> Value {
    match dim {
        OnnxDim::Fixed(extent) => json!(extent),
        OnnxDim::Named(name) => json!(name),
        OnnxDim::Unknown => Value::Null,
    }
}

/// Describes the model as far as its files tell, for an example request.
fn describe(spec: &ModelSpec, summary: &OnnxSummary, task: Option<&Arc<dyn Task>>) -> ModelInfo {
    let signature = task.map_or_else(|| preview::signature(spec, summary), |task| task.signature().clone());
    let columns = |input: &TensorSpec| columns(spec, &input.name, signature.inputs.len());
    ModelInfo {
        name: spec.name.shared().clone(),
        version: spec.version,
        engine: spec.engine.clone().unwrap_or_default().into(),
        platform: String::new(),
        columns: signature.inputs.iter().map(columns).collect(),
        labels: vec![Vec::new(); signature.outputs.len()],
        signature,
        task: spec.task.name().to_owned(),
        metrics: spec.metrics.clone(),
        example: task.map(|task| task.example()).unwrap_or_default(),
        observer: None,
    }
}

/// The names of an input's columns: its own, or those of the only input.
fn columns(spec: &ModelSpec, input: &str, inputs: usize) -> Vec<String> {
    let of_only = || spec.columns.get("").filter(|_| inputs == 1);
    spec.columns.get(input).or_else(of_only).cloned().unwrap_or_default()
}

/// `1,234,567`.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_readable() {
        assert_eq!(thousands(3_818), "3,818");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
    }
}
