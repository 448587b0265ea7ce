//! A loaded model: which of its instances share a session.
//!
//! On the CPU all instances run one session at the same time, which ONNX Runtime allows and
//! `tests/it` tries out. Other providers promise no such thing, so each of their instances has a
//! session of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ort::environment::Environment;
use salver_core::{Error, Instance, Model, ModelSpec, Placement, Result, Signature};

use crate::device::Device;
use crate::graph::Graph;
use crate::instance::OnnxInstance;
use crate::session::{self, SessionOptions};

/// A model file, and the first session that was opened with it.
pub(crate) struct OnnxModel {
    environment: &'static Environment,
    library: &'static Path,
    path: PathBuf,
    options: SessionOptions,
    first: Arc<Graph>,
    /// Where the first session runs.
    device: Device,
    /// Whether an instance has the first session for itself.
    is_taken: AtomicBool,
    memory_bytes: u64,
    /// The inputs that the configuration names.
    declared: Vec<String>,
}

impl OnnxModel {
    /// Opens the first session: on the CPU if any instance is to run there, which then share it.
    pub(crate) fn load(environment: &'static Environment, library: &'static Path, spec: &ModelSpec) -> Result<Self> {
        let path = &spec.artifact;
        let groups = &spec.config.instance_groups;
        let named = groups.iter().flat_map(|group| group.devices());
        let devices: Vec<Device> = named.map(|name| Device::parse(&name)).collect::<Result<_>>()?;
        devices.iter().try_for_each(|device| device.check(library))?;
        let is_on_cpu = devices.is_empty() || devices.contains(&Device::Cpu);
        let device = if is_on_cpu { Device::Cpu } else { devices[0] };
        let options = SessionOptions::new(groups.first());
        let declared: Vec<String> = spec.config.inputs.iter().map(|input| input.name.to_string()).collect();
        Ok(Self {
            first: open(environment, path, device, &options, &declared)?,
            environment,
            library,
            options,
            declared,
            device,
            is_taken: AtomicBool::new(false),
            memory_bytes: memory_bytes(path),
            path: path.clone(),
        })
    }

    fn graph(&self, device: Device) -> Result<Arc<Graph>> {
        let is_shared = device == Device::Cpu;
        if device == self.device && (is_shared || !self.is_taken.swap(true, Ordering::Relaxed)) {
            return Ok(self.first.clone());
        }
        device.check(self.library)?;
        open(self.environment, &self.path, device, &self.options, &self.declared)
    }
}

fn open(
    environment: &Environment,
    path: &Path,
    device: Device,
    options: &SessionOptions,
    declared: &[String],
) -> Result<Arc<Graph>> {
    let session = session::open(environment, path, device, options)?;
    Ok(Arc::new(Graph::new(&session, declared).map_err(|error: Error| error.context(path.display()))?))
}

impl Model for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.first.signature
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn instance(&self, placement: &Placement) -> Result<Box<dyn Instance>> {
        let device = Device::parse(&placement.device)?;
        Ok(Box::new(OnnxInstance::new(self.graph(device)?)?))
    }
}

/// The file, and the files of external data beside it, which begin with its name by custom.
fn memory_bytes(path: &Path) -> u64 {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return 0;
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let parts = files.filter(|file| file.file_name().to_str().is_some_and(|other| other.starts_with(name)));
    parts.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
