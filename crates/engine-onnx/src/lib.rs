//! ONNX Runtime as an engine, and how its shared library gets onto a machine.
//!
//! The library is not linked: it is found or fetched when it is first needed, then loaded once for
//! the process. `raw.rs` is the only home of `unsafe`.

mod device;
mod dtype;
mod engine;
mod graph;
mod install;
mod instance;
mod library;
mod message;
mod model;
mod process;
mod raw;
mod run_control;
mod session;
mod signature;

pub use engine::{Fetch, OnnxEngine, OnnxOptions, Status};
pub use library::{Found, Place, PlaceStatus};
