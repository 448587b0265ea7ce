//! Opens sessions: the options that hold for every model, and those of one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{BuilderResult, GraphOptimizationLevel, SessionBuilder};
use salver_core::{Error, InstanceGroup, Result};

use crate::device::Device;
use crate::message;

/// What a model says about how its sessions run.
#[derive(Debug, Clone)]
pub(crate) struct SessionOptions {
    threads: usize,
    inter_threads: usize,
    cores: Vec<usize>,
}

impl SessionOptions {
    /// Takes them from a group of instances; none: one thread.
    pub(crate) fn new(group: Option<&InstanceGroup>) -> Self {
        Self {
            threads: group.map_or(1, |group| group.threads.max(1)),
            inter_threads: group.map_or(1, |group| group.inter_threads.max(1)),
            cores: group.map(|group| group.cores.clone()).unwrap_or_default(),
        }
    }

    /// Where the threads beyond the worker's own may run, as ONNX Runtime reads it: for each the
    /// numbers from 1 of its cores. None: anywhere.
    fn affinities(&self) -> Option<String> {
        if self.threads == 1 || self.cores.is_empty() {
            return None;
        }
        let cores: Vec<String> = self.cores.iter().map(|core| (core + 1).to_string()).collect();
        Some(vec![cores.join(","); self.threads - 1].join(";"))
    }
}

/// Opens the model at `path` on `device`.
///
/// # Errors
/// What is wrong with the file or the device, naming it.
pub(crate) fn open(
    environment: &Environment,
    path: &Path,
    device: Device,
    options: &SessionOptions,
) -> Result<Session> {
    check_file(path)?;
    // The `ort` crate panics on value types that it has no name for, such as sequences of sequences.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let builder = Session::builder(environment).map_err(|error| message::of_load(&error, path))?;
        let builder = configure(builder, options).map_err(|error| message::of_load(&error, path))?;
        let mut builder = on_device(builder, device, options)?;
        builder.commit_from_file(path).map_err(|error| message::of_load(&error, path))
    }));
    opened.unwrap_or_else(|_| {
        Err(Error::unsupported(format!("{}: an input or output has a type that Salver does not know", path.display())))
    })
}

fn check_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Error::invalid_input(format!("{}: not a file", path.display()))),
        Err(error) => Err(Error::invalid_input(format!("{}: {error}", path.display()))),
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the `ort` crate returns its builders inside errors; this runs once a load"
)]
fn configure(builder: SessionBuilder, options: &SessionOptions) -> BuilderResult {
    let builder = builder
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads)?
        .with_inter_threads(options.inter_threads)?
        .with_parallel_execution(options.inter_threads > 1)?
        // Threads that spin take the cores from the workers of other models, and from the sockets.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // A plan would be kept for each combination of input shapes that was ever seen, without bound.
        .with_memory_pattern(false)?;
    match options.affinities() {
        Some(affinities) => builder.with_config_entry("session.intra_op_thread_affinities", affinities),
        None => Ok(builder),
    }
}

fn on_device(builder: SessionBuilder, device: Device, options: &SessionOptions) -> Result<SessionBuilder> {
    let providers = device.providers(options.threads);
    if providers.is_empty() {
        return Ok(builder);
    }
    // A provider that is refused lacks a library of its own, which the message names.
    builder.with_execution_providers(providers).map_err(|error| message::of_device(&error, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(threads: usize, cores: &[usize]) -> SessionOptions {
        SessionOptions::new(Some(&InstanceGroup { threads, cores: cores.to_vec(), ..InstanceGroup::default() }))
    }

    #[test]
    fn threads_beyond_the_workers_own_stay_on_the_cores_of_the_model() {
        assert_eq!(options(3, &[0, 2]).affinities().as_deref(), Some("1,3;1,3"));
        assert_eq!(options(1, &[0, 2]).affinities(), None);
        assert_eq!(options(3, &[]).affinities(), None);
        assert_eq!(SessionOptions::new(None).affinities(), None);
    }
}
