//! Work that outlives its request: a durable queue, leases, workers, results.
//!
//! Knows no protocol and no socket. A [`Queue`] keeps jobs; a [`Crew`] takes them out, has them run by
//! whatever implements [`Work`], and takes jobs from workers that give no sign of life.

mod bell;
mod bound;
mod callbacks;
mod clock;
mod crew;
mod jobs;
mod open;
mod page;
mod policy;
mod queue;
mod quota;
mod redis;
mod sql;
mod standing;
mod submission;
mod types;
mod watch;
mod work;

pub use self::redis::RedisQueue;
pub use bell::{Bell, Watch};
pub use callbacks::{CallbackOptions, Callbacks, Messenger, Sent};
pub use clock::{Clock, system_clock};
pub use crew::{Crew, CrewOptions, Observe};
pub use jobs::{Jobs, JobsOptions, expired};
pub use open::queue_at;
pub use policy::MOST_LOSSES;
pub use queue::Queue;
pub use sql::SqlQueue;
pub use types::*;
pub use work::{Done, Work};
