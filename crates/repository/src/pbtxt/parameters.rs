//! The `parameters` of `config.pbtxt` that have a meaning here; all others are only shown.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use salver_core::ModelConfig;

use crate::limits::{COUNT_LIMIT, RUN_TIMEOUT_LIMIT_MS};
use crate::schema::triton::ModelParameter;
use crate::text::{Checked, Fault};

type Parameters = BTreeMap<String, ModelParameter>;

/// Returns the threads of one execution, as Triton's ONNX Runtime backend takes them; 0 means all
/// cores.
pub(super) fn intra_threads(parameters: &Parameters) -> Checked<Option<usize>> {
    threads(parameters, "intra_op_thread_count")
}

/// Returns how many operators of one execution may run at a time; 0 means all cores.
pub(super) fn inter_threads(parameters: &Parameters) -> Checked<Option<usize>> {
    threads(parameters, "inter_op_thread_count")
}

fn threads(parameters: &Parameters, key: &str) -> Checked<Option<usize>> {
    let all_cores = || thread::available_parallelism().map_or(1, usize::from);
    let written = number(parameters, key, COUNT_LIMIT)?;
    Ok(written.map(|count| if count == 0 { all_cores() } else { usize::try_from(count).unwrap_or(usize::MAX) }))
}

/// Returns the longest that one run may take; 0 means any time. Not a parameter of Triton's.
pub(super) fn run_timeout(parameters: &Parameters) -> Checked<Option<Duration>> {
    match number(parameters, "run_timeout_ms", RUN_TIMEOUT_LIMIT_MS)? {
        None => Ok(Some(ModelConfig::DEFAULT_RUN_TIMEOUT)),
        Some(0) => Ok(None),
        Some(limit) => Ok(Some(Duration::from_millis(limit.into()))),
    }
}

fn number(parameters: &Parameters, key: &str, most: u32) -> Checked<Option<u32>> {
    let Some(parameter) = parameters.get(key) else {
        return Ok(None);
    };
    let value = parameter.string_value.trim();
    let number = value.parse::<u32>().ok().filter(|number| *number <= most);
    number.map(Some).ok_or_else(|| {
        let message = format!("parameter '{key}' must be a number from 0 to {most}, got '{}'", value.escape_debug());
        Fault::invalid(format!("parameters[{key}]"), message)
    })
}
