//! The `dynamic_batching` block of `config.pbtxt`, with its limits.
//!
//! What the settings do is the runtime's business.

use std::collections::BTreeMap;

use salver_core::{BatchRule, DynamicBatching, QueuePolicy};

use crate::limits::PRIORITY_LIMIT;
use crate::schema::triton::{self as proto, model_queue_policy::TimeoutAction};
use crate::text::{Checked, Fault};

pub(super) fn dynamic_batching(batching: &proto::ModelDynamicBatching, batch: BatchRule) -> Checked<DynamicBatching> {
    convert(batching, batch).map_err(|fault| fault.within("dynamic_batching", "dynamic_batching"))
}

fn convert(batching: &proto::ModelDynamicBatching, batch: BatchRule) -> Checked<DynamicBatching> {
    let levels = levels(batching.priority_levels)?;
    let mut policies = BTreeMap::new();
    for (&priority, policy) in &batching.priority_queue_policy {
        let path = format!("priority_queue_policy[{priority}]");
        let priority = level(&path, "the key of priority_queue_policy", priority, levels)?;
        policies.insert(priority, queue_policy(policy));
    }
    Ok(DynamicBatching {
        max_rows: None,
        preferred_batch_size: preferred_sizes(&batching.preferred_batch_size, batch)?,
        max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        preserve_ordering: batching.preserve_ordering,
        priority_levels: levels,
        default_priority_level: default_level(batching.default_priority_level, levels)?,
        default_queue_policy: batching.default_queue_policy.as_ref().map(queue_policy),
        priority_queue_policy: policies,
        padding: None,
    })
}

fn levels(written: u64) -> Checked<u32> {
    let levels = u32::try_from(written).ok().filter(|levels| *levels <= PRIORITY_LIMIT);
    levels.ok_or_else(|| {
        let message = format!("priority_levels must be from 0 to {PRIORITY_LIMIT}, got {written}");
        Fault::invalid("priority_levels", message)
    })
}

/// As in Triton, where there are levels, the default has to be said.
fn default_level(written: u64, levels: u32) -> Checked<u32> {
    match (levels, written) {
        (0, 0) => Ok(0),
        (_, written) => level("default_priority_level", "default_priority_level", written, levels),
    }
}

fn level(path: &str, shown: &str, written: u64, levels: u32) -> Checked<u32> {
    let level = u32::try_from(written).ok().filter(|level| (1..=levels).contains(level));
    level.ok_or_else(|| {
        Fault::invalid(path, format!("{shown} must be from 1 to priority_levels ({levels}), got {written}"))
    })
}

pub(super) fn preferred_sizes(sizes: &[i32], batch: BatchRule) -> Checked<Vec<usize>> {
    let most = match batch {
        BatchRule::Never => 0,
        BatchRule::Max(rows) => rows,
        BatchRule::Derive { limit } => limit.unwrap_or(usize::MAX),
    };
    let check = |(idx, &size): (usize, &i32)| {
        let valid = usize::try_from(size).ok().filter(|size| (1..=most).contains(size));
        valid.ok_or_else(|| {
            let message = format!("preferred_batch_size must be from 1 to max_batch_size ({most}), got {size}");
            Fault::invalid(format!("preferred_batch_size[{idx}]"), message)
        })
    };
    let mut checked = sizes.iter().enumerate().map(check).collect::<Checked<Vec<_>>>()?;
    checked.sort_unstable();
    checked.dedup();
    Ok(checked)
}

fn queue_policy(policy: &proto::ModelQueuePolicy) -> QueuePolicy {
    QueuePolicy {
        delay_on_timeout: policy.timeout_action() == TimeoutAction::Delay,
        default_timeout_microseconds: policy.default_timeout_microseconds,
        allow_timeout_override: policy.allow_timeout_override,
        max_queue_size: policy.max_queue_size,
    }
}
