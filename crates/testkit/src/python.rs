//! A Python for tests of workers.
//!
//! `cargo xtask test` names one that has numpy and more in `SALVER_TEST_PYTHON`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::service::skip;

/// Returns an interpreter that can import `packages`; none where there is none, which is said.
///
/// # Panics
/// If there is none and `SALVER_REQUIRE_SERVICES=1`.
pub fn python(packages: &[&str]) -> Option<PathBuf> {
    let interpreter = std::env::var_os("SALVER_TEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let mut command = Command::new(&interpreter);
    command.args(["-c", &format!("import {}", packages.join(", "))]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return Some(interpreter);
    }
    let packages = packages.join(", ");
    skip("python", &format!("{} has no {packages}; set SALVER_TEST_PYTHON to one with them", interpreter.display()));
    None
}
