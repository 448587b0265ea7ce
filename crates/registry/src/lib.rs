//! What is known of models: experiments and their runs, registered models with immutable versions,
//! stages and aliases, and who changed what.
//!
//! Knows no protocol and no socket; keeps its rows through `salver-store`.

pub mod fuzz;
pub mod names;
pub mod search;
