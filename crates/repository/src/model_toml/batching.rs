//! `[batching]` to the terms of Triton's `dynamic_batching`, and what its keys must agree on.

use std::collections::BTreeMap;

use salver_core::{DynamicBatching, QueuePolicy};
use toml::Spanned;

use super::fault::Fault;
use super::schema::{Batching, Level, OnTimeout, Padding, Policy, Rows};
use crate::limits::PRIORITY_LIMIT;

/// Puts the keys of `[batching]` together.
pub(super) fn dynamic_batching(batching: Option<&Spanned<Batching>>) -> Result<DynamicBatching, Fault> {
    let none = Batching::default();
    let batching = batching.map_or(&none, Spanned::get_ref);
    let max_rows = batching.max_rows.map(Rows::count);
    let levels = batching.priorities.map_or(0, |levels| levels.get());
    Ok(DynamicBatching {
        max_rows,
        preferred_batch_size: preferred_rows(&batching.preferred_rows, max_rows)?,
        max_queue_delay_microseconds: batching.max_delay_ms.microseconds(),
        preserve_ordering: batching.preserve_order,
        priority_levels: levels,
        default_priority_level: default_priority(batching.default_priority.as_ref(), levels)?,
        default_queue_policy: Some(queue_policy(own_policy(batching))),
        priority_queue_policy: level_policies(batching, levels)?,
        padding: batching.padding.as_ref().map(padding).transpose()?,
    })
}

/// Refuses the table where requests wait for others instead of being computed: they form no batches.
pub(super) fn check_absent(batching: Option<&Spanned<Batching>>, instead: &str) -> Result<(), Fault> {
    match batching {
        Some(batching) => Err(Fault::invalid(batching, format_args!("has no place here, leave it out: {instead}"))),
        None => Ok(()),
    }
}

fn preferred_rows(preferred: &[Spanned<Rows>], max_rows: Option<usize>) -> Result<Vec<usize>, Fault> {
    let most = max_rows.unwrap_or(DynamicBatching::DEFAULT_MAX_ROWS);
    if let Some(beyond) = preferred.iter().find(|rows| rows.get_ref().count() > most) {
        let got = beyond.get_ref().count();
        return Err(Fault::invalid(beyond, format_args!("must be from 1 to batching.max_rows ({most}), got {got}")));
    }
    let mut sizes: Vec<usize> = preferred.iter().map(|rows| rows.get_ref().count()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

/// Without a word, requests that name no level are the least urgent.
fn default_priority(level: Option<&Spanned<Level>>, levels: u32) -> Result<u32, Fault> {
    match level {
        None => Ok(levels),
        Some(level) => check_level(level, level.get_ref().get(), levels),
    }
}

fn check_level<T>(place: &Spanned<T>, level: u32, levels: u32) -> Result<u32, Fault> {
    match level {
        _ if levels == 0 => {
            Err(Fault::invalid(place, format_args!("needs batching.priorities beside it, from 1 to {PRIORITY_LIMIT}")))
        }
        level if (1..=levels).contains(&level) => Ok(level),
        level => {
            Err(Fault::invalid(place, format_args!("must be from 1 to batching.priorities ({levels}), got {level}")))
        }
    }
}

fn own_policy(batching: &Batching) -> Policy {
    Policy {
        timeout_ms: batching.timeout_ms,
        on_timeout: batching.on_timeout,
        timeout_override: batching.timeout_override,
        max_queue: batching.max_queue,
    }
}

fn level_policies(batching: &Batching, levels: u32) -> Result<BTreeMap<u32, QueuePolicy>, Fault> {
    let base = own_policy(batching);
    let mut policies = BTreeMap::new();
    for (key, policy) in &batching.priority {
        // Digits only: `+1` and `01` would be second names of a level.
        let number = key.get_ref().parse::<u32>().ok().filter(|level| level.to_string() == *key.get_ref());
        let Some(level) = number else {
            let got = key.get_ref().escape_debug();
            return Err(Fault::invalid(key, format_args!("'{got}' must be a number from 1 to batching.priorities")));
        };
        let merged = Policy {
            timeout_ms: policy.timeout_ms.or(base.timeout_ms),
            on_timeout: policy.on_timeout.or(base.on_timeout),
            timeout_override: policy.timeout_override.or(base.timeout_override),
            max_queue: policy.max_queue.or(base.max_queue),
        };
        policies.insert(check_level(key, level, levels)?, queue_policy(merged));
    }
    Ok(policies)
}

fn queue_policy(policy: Policy) -> QueuePolicy {
    QueuePolicy {
        delay_on_timeout: policy.on_timeout == Some(OnTimeout::Delay),
        default_timeout_microseconds: policy.timeout_ms.map_or(0, |timeout| u64::from(timeout.get()) * 1000),
        allow_timeout_override: policy.timeout_override.unwrap_or(true),
        max_queue_size: policy.max_queue.map_or(0, |length| length.get()),
    }
}

fn padding(padding: &Spanned<Padding>) -> Result<salver_core::Padding, Fault> {
    let Padding { inputs, outputs, buckets } = padding.get_ref();
    if inputs.is_empty() {
        return Err(Fault::invalid(padding, "inputs must name at least one input and what it is padded with"));
    }
    if let Some(pair) = buckets.windows(2).find(|pair| pair[0].get_ref() >= pair[1].get_ref()) {
        let (before, after) = (pair[0].get_ref().get(), pair[1].get_ref().get());
        return Err(Fault::invalid(&pair[1], format_args!("must ascend, got {after} after {before}")));
    }
    Ok(salver_core::Padding {
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        buckets: buckets.iter().map(|length| length.get_ref().count()).collect(),
    })
}
