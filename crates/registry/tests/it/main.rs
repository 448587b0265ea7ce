//! The contract of the registry, over SQLite and over a PostgreSQL that the tests start themselves.
//!
//! MLflow's own client drives the same calls elsewhere (`tests/conformance`); here stands what the
//! crate itself promises: what never changes, who is first, what is left after a crash.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

#[macro_use]
mod place;

mod audit;
mod basics;
mod consistency;
mod damage;
mod dice;
mod drops;
mod files;
mod keeping;
mod linear;
mod opening;
mod race;
mod search;
mod signatures;
mod versions;
