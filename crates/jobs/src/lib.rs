//! Work that outlives its request: a durable queue, leases, workers, results.
//!
//! Knows no protocol and no socket. A [`Queue`] keeps jobs; a [`Crew`] takes them out, has them run by
//! whatever implements [`Work`], and takes jobs from workers that give no sign of life.

mod bell;
mod clock;
mod crew;
mod jobs;
mod policy;
mod queue;
mod sql;
mod types;
mod watch;
mod work;

pub use bell::{Bell, Watch};
pub use clock::{Clock, system_clock};
pub use crew::{Crew, CrewOptions, Observe};
pub use jobs::{Jobs, expired};
pub use policy::MOST_LOSSES;
pub use queue::Queue;
pub use sql::SqlQueue;
pub use types::*;
pub use work::{Done, Work};
