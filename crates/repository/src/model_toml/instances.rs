//! `[instances]` to the terms of Triton's `instance_group`: how many, how wide, and where.

use std::thread;

use salver_core::{Error, InstanceGroup};

use super::fault::Fault;
use super::schema::Instances;

/// Puts the keys of `[instances]` together. Without a count, the cores are shared out.
pub(super) fn instance_group(instances: &Instances) -> Result<InstanceGroup, Fault> {
    let place = match &instances.device {
        None => Place::default(),
        Some(device) => Place::parse(device.get_ref()).map_err(|error| Fault::new(device, &error))?,
    };
    let threads = instances.threads.map_or(1, |threads| threads.count());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // A GPU runs one batch well at a time.
    let fitting = if place.gpus.is_empty() { (cores / threads).max(1) } else { 1 };
    Ok(InstanceGroup {
        count: instances.count.map_or(fitting, |count| count.count()),
        kind: place.kind.to_owned(),
        gpus: place.gpus,
        accelerator: place.accelerator.map(str::to_owned),
        threads,
        inter_threads: instances.inter_threads.map_or(1, |threads| threads.count()),
        cores: instances.cores.iter().map(|core| core.count()).collect(),
        ..InstanceGroup::default()
    })
}

/// A device in Triton's terms.
struct Place {
    kind: &'static str,
    gpus: Vec<i32>,
    accelerator: Option<&'static str>,
}

impl Default for Place {
    fn default() -> Self {
        Self { kind: "KIND_CPU", gpus: Vec::new(), accelerator: None }
    }
}

impl Place {
    fn parse(device: &str) -> Result<Self, Error> {
        match device.split_once(':') {
            None if device == "cpu" => Ok(Self::default()),
            None if device == "openvino" => Ok(Self { accelerator: Some("openvino"), ..Self::default() }),
            Some(("cuda", number)) => Self::gpu(device, number, None),
            Some(("tensorrt", number)) => Self::gpu(device, number, Some("tensorrt")),
            _ => Err(unknown(device)),
        }
    }

    fn gpu(device: &str, number: &str, accelerator: Option<&'static str>) -> Result<Self, Error> {
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        let gpu = number.parse::<u8>().ok().filter(|_| is_plain).ok_or_else(|| unknown(device))?;
        Ok(Self { kind: "KIND_GPU", gpus: vec![gpu.into()], accelerator })
    }
}

fn unknown(device: &str) -> Error {
    Error::invalid_input(format!(
        "must be 'cpu', 'cuda:N', 'tensorrt:N' (N from 0 to 255) or 'openvino', got '{}'",
        device.escape_debug()
    ))
}
