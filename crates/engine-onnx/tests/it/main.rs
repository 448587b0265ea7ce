//! The engine against the real library, where it is to be had.

mod contract;
mod edges;
mod installing;
mod interrupt;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
mod models;
mod options;

use std::sync::OnceLock;

use salver_core::Engine;
use salver_engine_onnx::{OnnxEngine, OnnxOptions};

/// Returns the engine, or `None` (said aloud) where there is no library and none can be fetched.
///
/// # Panics
/// If `SALVER_REQUIRE_SERVICES=1` and there is none.
#[expect(clippy::print_stderr, reason = "a test that is left out must be seen to be")]
fn engine() -> Option<&'static OnnxEngine> {
    static ENGINE: OnceLock<Option<OnnxEngine>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let engine = OnnxEngine::new(&OnnxOptions::default());
        match engine.prepare() {
            Ok(()) => Some(engine),
            Err(error) if std::env::var("SALVER_REQUIRE_SERVICES").is_ok_and(|value| value == "1") => {
                panic!("SALVER_REQUIRE_SERVICES=1, but {error}")
            }
            Err(error) => {
                eprintln!("SKIPPED: tests of the engine 'onnx': {error}");
                None
            }
        }
    });
    engine.as_ref()
}
