//! Devices of workers. What a framework does on one is its own business; here it is only refused
//! where it cannot be there.

use std::path::Path;

use salver_core::{Error, Result};

/// Where the driver of NVIDIA lists its GPUs.
const GPUS: &str = "/proc/driver/nvidia/gpus";

/// Checks that `device` may be there: `cpu`, or `cuda:N` where the driver lists as many GPUs.
///
/// # Errors
/// `Unsupported` for any other.
pub(crate) fn check(device: &str) -> Result<()> {
    let number = device.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok());
    let refused = |why: String| Err(Error::unsupported(format!("device '{device}': {why}")));
    match number {
        None if device == "cpu" => Ok(()),
        None => refused("the engine 'python' knows 'cpu' and 'cuda:N'".to_owned()),
        Some(number) => {
            let count = Path::new(GPUS).read_dir().map_or(0, Iterator::count);
            if number < count { Ok(()) } else { refused(format!("the driver of this machine lists {count} GPUs")) }
        }
    }
}
