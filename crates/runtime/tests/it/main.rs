//! The runtime from outside: swaps under load, bad versions, and models that load at first use.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing it did not expect")]

mod bad_versions;
mod ensembles;
mod on_demand;
mod support;
mod swaps;
