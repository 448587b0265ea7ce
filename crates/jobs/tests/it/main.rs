//! The contract of the queue, over SQLite, and over a PostgreSQL and a Redis that the tests start
//! themselves.
//!
//! What is asked here is asked through [`salver_jobs::Queue`]: another queue begins by passing it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

#[macro_use]
mod place;

mod alone;
mod callbacks;
mod clearing;
mod figures;
mod full;
mod intake;
mod listing;
mod model;
mod redis_itself;
mod running;
mod several;
