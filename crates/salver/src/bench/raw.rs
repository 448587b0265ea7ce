//! The engine alone: how many rows per second it computes at best.
//!
//! Every batch size with every shape (instances and threads of each), as the instances' own
//! threads call it: no queue, no batching, no copies. What a server reaches is measured against
//! the best of these cells.

mod cell;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use salver_core::{Engine, InstanceGroup, Model, ModelSpec, Placement, Tensor};
use salver_telemetry::Metrics;
use serde::Serialize;

use self::cell::{Caller, Window};
use super::request::{self, Size};
use super::{load, progress};
use crate::cli::{BenchOptions, RawShape};
use crate::{out, wiring};

/// What one batch size and shape gave.
#[derive(Debug, Clone, Serialize)]
struct Cell {
    #[serde(flatten)]
    shape: RawShape,
    batch: usize,
    rows_per_second: f64,
    #[serde(flatten)]
    runs: cell::Runs,
}

/// Every cell, and the best one.
#[derive(Debug, Serialize)]
pub(super) struct Sweep {
    model: String,
    engine: String,
    length: usize,
    cores: usize,
    cells: Vec<Cell>,
    best: Option<Cell>,
}

/// Measures the model at `path`. Blocks while it does.
///
/// # Errors
/// Where the model does not load, or a run fails.
pub(super) fn measure(path: &Path, options: &BenchOptions) -> Result<Sweep> {
    let entry = wiring::only_model(path)?;
    let versions = entry.versions.with_context(|| format!("read {}", path.display()))?;
    let spec = versions.last().with_context(|| format!("{} has no version", path.display()))?;
    let engine = engine(spec, options)?;
    let cores = load::cores();
    let shapes = if options.shapes.is_empty() { usual_shapes(cores) } else { options.shapes.clone() };
    let measuring = progress(options, shapes.len() * options.batches.len());
    let mut cells = Vec::new();
    for shape in shapes {
        let loaded = Loaded::new(engine.as_ref(), spec, shape)?;
        for &batch in &options.batches {
            cells.push(loaded.measure(batch, options).with_context(|| format!("a batch of {batch} rows"))?);
        }
    }
    drop(measuring);
    let best = cells.iter().max_by(|a, b| a.rows_per_second.total_cmp(&b.rows_per_second)).cloned();
    let (model, engine) = (spec.name.to_string(), engine.describe());
    Ok(Sweep { model, engine, length: options.length, cores, cells, best })
}

/// Picks the engine as the server does: the one that is asked for, else the first that is there.
fn engine(spec: &ModelSpec, options: &BenchOptions) -> Result<Arc<dyn Engine>> {
    let mut refusal = None;
    for engine in wiring::engines(&options.engine, &Metrics::new()) {
        if spec.engine.as_deref().is_some_and(|name| name != engine.name()) {
            continue;
        }
        match engine.prepare() {
            Ok(()) => return Ok(engine),
            Err(error) => refusal = Some(error),
        }
    }
    match refusal {
        Some(error) => Err(error).with_context(|| format!("the engine of model {}", spec.name)),
        None => bail!("the engine of model {} is unknown", spec.name),
    }
}

/// One instance with all cores, and an instance of one thread for each core.
fn usual_shapes(cores: usize) -> Vec<RawShape> {
    let mut shapes = vec![RawShape { instances: 1, threads: cores }, RawShape { instances: cores, threads: 1 }];
    shapes.dedup();
    shapes
}

/// A model loaded for one shape.
struct Loaded {
    shape: RawShape,
    model: Arc<dyn Model>,
}

impl Loaded {
    fn new(engine: &dyn Engine, spec: &ModelSpec, shape: RawShape) -> Result<Self> {
        let mut spec = spec.clone();
        let group = InstanceGroup { count: shape.instances, threads: shape.threads, ..InstanceGroup::default() };
        spec.config.instance_groups = vec![group];
        Ok(Self { shape, model: engine.load(&spec)? })
    }

    fn measure(&self, batch: usize, options: &BenchOptions) -> Result<Cell> {
        let window = Window { warmup: options.warmup, duration: options.duration };
        let size = Size { rows: batch, length: options.length };
        let callers = (0..self.shape.instances).map(|_| self.caller(size)).collect::<Result<_>>()?;
        let runs = cell::measure(callers, window)?;
        Ok(Cell { shape: self.shape, batch, rows_per_second: runs.per_second * batch as f64, runs })
    }

    /// An instance with input of its own.
    fn caller(&self, size: Size) -> Result<Caller> {
        let placement = Placement { device: "cpu".to_owned(), threads: self.shape.threads, core: None };
        let inputs: Vec<Tensor> = request::tensors(self.model.signature(), size)?;
        if let Some(fixed) = inputs.iter().find(|tensor| tensor.rows() != size.rows) {
            bail!("input '{}' has shape {}; give --batches {}", fixed.name(), fixed.shape(), fixed.rows());
        }
        Ok(Caller { instance: self.model.instance(&placement)?, inputs })
    }
}

impl Sweep {
    /// Prints it.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            return out::json(self);
        }
        out::line(format!(
            "{} in {}, called directly; free dimensions {}; this machine has {} cores",
            self.model, self.engine, self.length, self.cores
        ));
        let mut rows = out::Rows::new(&[
            ">instances",
            ">threads",
            ">batch",
            ">rows/s",
            ">runs",
            ">p50 ms",
            ">p99 ms",
            ">cores used",
        ]);
        for cell in &self.cells {
            rows.push([
                cell.shape.instances.to_string(),
                cell.shape.threads.to_string(),
                cell.batch.to_string(),
                format!("{:.1}", cell.rows_per_second),
                cell.runs.runs.to_string(),
                format!("{:.3}", cell.runs.p50_ms),
                format!("{:.3}", cell.runs.p99_ms),
                format!("{:.2}", cell.runs.cores_used),
            ]);
        }
        rows.print();
        if let Some(best) = &self.best {
            out::line(format!(
                "best: {:.1} rows/s with {}x{}, {} row(s) a run",
                best.rows_per_second, best.shape.instances, best.shape.threads, best.batch
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_shapes_use_every_core_once() {
        assert_eq!(usual_shapes(1), [RawShape { instances: 1, threads: 1 }]);
        let on_four = usual_shapes(4);
        assert!(on_four.iter().all(|shape| shape.instances * shape.threads == 4), "{on_four:?}");
        assert_eq!(on_four.len(), 2);
    }
}
