//! The `dynamic_batching` and `instance_group` blocks of `config.pbtxt`, with their limits.
//!
//! What they do is the runtime's business.

use std::collections::BTreeMap;
use std::thread;

use salver_core::{BatchRule, DynamicBatching, Error, InstanceGroup, QueuePolicy, Result};

use crate::schema::triton::{self as proto, model_queue_policy::TimeoutAction};

/// The most instances of a group, and the most threads of an instance: a typing error must not
/// take all memory.
pub(crate) const COUNT_LIMIT: usize = 1024;

const THREADS: &str = "intra_op_thread_count";

pub(super) fn dynamic_batching(batching: &proto::ModelDynamicBatching, batch: BatchRule) -> Result<DynamicBatching> {
    let context = |error: Error| error.context("dynamic_batching");
    let preferred = preferred_sizes(&batching.preferred_batch_size, batch).map_err(context)?;
    let levels = u32::try_from(batching.priority_levels)
        .map_err(|_| context(Error::invalid_input("priority_levels is out of range")))?;
    let level = |field: &str, level: u64| match u32::try_from(level) {
        Ok(level) if (1..=levels).contains(&level) => Ok(level),
        _ => Err(context(Error::invalid_input(format!(
            "{field} must be from 1 to priority_levels ({levels}), got {level}"
        )))),
    };
    let default_priority_level = match (levels, batching.default_priority_level) {
        (0, 0) => 0,
        (_, default) => level("default_priority_level", default)?,
    };
    let mut policies = BTreeMap::new();
    for (&priority, policy) in &batching.priority_queue_policy {
        policies.insert(level("the key of priority_queue_policy", priority)?, queue_policy(policy));
    }
    Ok(DynamicBatching {
        max_rows: None,
        preferred_batch_size: preferred,
        max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        preserve_ordering: batching.preserve_ordering,
        priority_levels: levels,
        default_priority_level,
        default_queue_policy: batching.default_queue_policy.as_ref().map(queue_policy),
        priority_queue_policy: policies,
        padding: None,
    })
}

fn preferred_sizes(sizes: &[i32], batch: BatchRule) -> Result<Vec<usize>> {
    let most = match batch {
        BatchRule::Never => 0,
        BatchRule::Max(rows) => rows,
        BatchRule::Derive { limit } => limit.unwrap_or(usize::MAX),
    };
    let check = |&size: &i32| {
        let valid = usize::try_from(size).ok().filter(|size| (1..=most).contains(size));
        valid.ok_or_else(|| {
            Error::invalid_input(format!("preferred_batch_size must be from 1 to max_batch_size ({most}), got {size}"))
        })
    };
    let mut checked = sizes.iter().map(check).collect::<Result<Vec<_>>>()?;
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

/// No group and no thread count: none, the runtime decides. A thread count alone: Triton's default
/// group, so that the count has an effect.
pub(super) fn instance_groups(config: &proto::ModelConfig) -> Result<Vec<InstanceGroup>> {
    let threads = threads(config)?;
    let default = proto::ModelInstanceGroup::default();
    let groups = match (config.instance_group.as_slice(), threads) {
        ([], None) => &[],
        ([], Some(_)) => std::slice::from_ref(&default),
        (groups, _) => groups,
    };
    groups.iter().map(|group| instance_group(group, threads.unwrap_or(1))).collect()
}

fn instance_group(group: &proto::ModelInstanceGroup, threads: usize) -> Result<InstanceGroup> {
    let count = usize::try_from(group.count).ok().filter(|count| *count <= COUNT_LIMIT);
    let Some(count) = count else {
        return Err(Error::invalid_input(format!(
            "instance_group '{}': count must be from 1 to {COUNT_LIMIT}, got {}",
            group.name.escape_debug(),
            group.count
        )));
    };
    Ok(InstanceGroup {
        name: group.name.clone(),
        count: count.max(1),
        kind: group.kind().as_str_name().to_owned(),
        gpus: group.gpus.clone(),
        threads,
        ..InstanceGroup::default()
    })
}

/// Reads the thread count that Triton's ONNX Runtime backend takes; 0 means all cores.
fn threads(config: &proto::ModelConfig) -> Result<Option<usize>> {
    let Some(parameter) = config.parameters.get(THREADS) else {
        return Ok(None);
    };
    let value = parameter.string_value.trim();
    match value.parse::<usize>() {
        Ok(0) => Ok(Some(thread::available_parallelism().map_or(1, usize::from))),
        Ok(threads) if threads <= COUNT_LIMIT => Ok(Some(threads)),
        _ => Err(Error::invalid_input(format!(
            "parameter '{THREADS}' must be a number from 0 to {COUNT_LIMIT}, got '{}'",
            value.escape_debug()
        ))),
    }
}
