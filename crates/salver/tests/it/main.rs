//! The real binary, as people and service managers meet it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod bench;
mod cache;
mod cli;
mod demo;
mod many_models;
mod new;
mod registry;
mod serving;
mod support;
mod top;
