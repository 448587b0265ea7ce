//! The whole test run.
//!
//! Order: build, fetch ONNX Runtime, Rust tests, Python environment, Python clients. Everything
//! that is made lies in the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::root;

/// Runs the chosen halves.
pub(crate) fn run(rust: bool, python: bool, pytest: &[String]) -> Result<()> {
    let mut skipped = Vec::new();
    if rust {
        say("building");
        cargo(&["build", "--workspace", "--all-targets"])?;
    }
    let binary = target().join("debug").join("salver");
    if let Err(reason) = call(Command::new(&binary).args(["runtime", "install"])) {
        skip(&mut skipped, "onnxruntime", &reason)?;
    }
    if rust {
        say("Rust tests");
        cargo(&["test", "--workspace"])?;
        if skipped.is_empty() {
            say("Rust tests that fetch ONNX Runtime");
            cargo(&["test", "--workspace", "--test", "it", "--", "--ignored"])?;
        }
    }
    if python {
        say("Python clients");
        match environment() {
            Ok(interpreter) => clients(&interpreter, &binary, pytest)?,
            Err(reason) => skip(&mut skipped, "python clients", &reason)?,
        }
    }
    for name in &skipped {
        say(&format!("SKIPPED: {name}"));
    }
    say(&format!("all tests that ran have passed; {} group(s) skipped", skipped.len()));
    Ok(())
}

/// Notes a group of tests that cannot run here.
fn skip(skipped: &mut Vec<&'static str>, name: &'static str, reason: &anyhow::Error) -> Result<()> {
    say(&format!("SKIPPING {name}: {reason:#}"));
    if std::env::var("SALVER_REQUIRE_SERVICES").is_ok_and(|value| value == "1") {
        bail!("{name} is required here (SALVER_REQUIRE_SERVICES=1)");
    }
    skipped.push(name);
    Ok(())
}

fn clients(interpreter: &Path, binary: &Path, pytest: &[String]) -> Result<()> {
    let mut tests = Command::new(interpreter);
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance", "tests/docs"]).args(pytest);
    call(tests.env("SALVER_BIN", binary).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(root()))
}

/// Returns the interpreter of an environment with the clients, made anew when the pins change.
fn environment() -> Result<PathBuf> {
    let pins = root().join("tests/conformance/requirements.txt");
    let text = fs::read(&pins).with_context(|| format!("read {}", pins.display()))?;
    let digest: String = Sha256::digest(&text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let folder = target().join(format!("venv-{digest}"));
    let interpreter = folder.join("bin/python");
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(interpreter);
    }
    call(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("make a virtual environment (Debian: apt-get install python3-venv)")?;
    call(
        Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&pins),
    )
    .context("install the Python clients with pip")?;
    fs::write(&complete, "").context("mark the environment as complete")?;
    Ok(interpreter)
}

fn target() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").map(|folder| root().join(folder));
    chosen.unwrap_or_else(|| root().join("target"))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    call(Command::new(cargo).args(arguments).current_dir(root()))
}

fn call(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    if status.success() {
        return Ok(());
    }
    bail!("{} ended with {status}", command.get_program().display())
}

#[expect(clippy::print_stderr, reason = "a chore speaks to the person who started it")]
fn say(line: &str) {
    eprintln!("==> {line}");
}
