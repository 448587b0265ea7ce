//! Requests that belong together: sequences of a stateful model.
//!
//! A slot with `sequence_batching` has its own line: `table.rs` says which requests may run, and
//! where; `filling.rs` adds what the model has to know beside the request's own inputs; `line.rs` is
//! the shell around both; `run/steps.rs` runs a batch. The ordinary path knows nothing of it.

mod filling;
mod leaving;
mod line;
mod params;
mod rules;
pub(crate) mod table;

pub(crate) use self::filling::{Filling, Row};
pub(crate) use self::leaving::Leaving;
pub(crate) use self::line::{Sequences, Steps};
pub(crate) use self::params::{Member, continued};

use salver_core::{ModelConfig, SequenceStrategy};

/// Whether the answers of a stateful model keep the order of its requests.
pub(crate) fn keeps_order(config: &ModelConfig) -> bool {
    let strategy = config.sequence_batching.as_ref().map(|sequences| &sequences.strategy);
    matches!(strategy, Some(SequenceStrategy::Oldest { preserve_ordering: true, .. }))
}
