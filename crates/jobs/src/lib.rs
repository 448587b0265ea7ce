//! Work that outlives its request: a durable queue, leases, workers, results.
//!
//! Knows no protocol and no socket. A [`Queue`] keeps jobs; a `Crew` takes them out and has them
//! run by whatever implements `Work`; a watch takes jobs from workers that give no sign of life.

mod policy;
mod queue;
mod sql;
mod types;

pub use policy::MOST_LOSSES;
pub use queue::Queue;
pub use sql::SqlQueue;
pub use types::*;
