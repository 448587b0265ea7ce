//! The whole test run.
//!
//! Order: Python environment, build, fetch ONNX Runtime, Rust tests, Python clients. Everything that
//! is made lies in the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::root;

/// Runs the chosen halves.
pub(crate) fn run(rust: bool, python: bool, pytest: &[String]) -> Result<()> {
    let mut skipped = Vec::new();
    let interpreter = match environment() {
        Ok(interpreter) => Some(interpreter),
        Err(reason) => {
            skip(&mut skipped, "python clients and s3", &reason)?;
            None
        }
    };
    if rust {
        say("building");
        cargo(&["build", "--workspace", "--all-targets"], None)?;
    }
    // Another build may be named, such as one for release.
    let named = std::env::var_os("SALVER_BIN").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| target().join("debug").join("salver"));
    let runtime = call(Command::new(&binary).args(["runtime", "install"]));
    if let Err(reason) = &runtime {
        skip(&mut skipped, "onnxruntime", reason)?;
    }
    if rust {
        say("Rust tests");
        cargo(&["test", "--workspace"], interpreter.as_deref())?;
        if runtime.is_ok() {
            say("Rust tests that fetch ONNX Runtime");
            cargo(&["test", "--workspace", "--test", "it", "--", "--ignored"], interpreter.as_deref())?;
        }
    }
    if let Some(interpreter) = interpreter.filter(|_| python) {
        say("Python clients");
        clients(&interpreter, &binary, pytest)?;
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

/// Returns the interpreter of an environment with the clients and moto, made anew when the pins change.
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
    .context("install the Python packages with pip")?;
    fs::write(&complete, "").context("mark the environment as complete")?;
    Ok(interpreter)
}

fn target() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").map(|folder| root().join(folder));
    chosen.unwrap_or_else(|| root().join("target"))
}

/// Tests that start moto, an S3 in Python, find it with the `interpreter`.
fn cargo(arguments: &[&str], interpreter: Option<&Path>) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let interpreter = interpreter.map(|path| ("SALVER_TEST_PYTHON", path));
    call(Command::new(cargo).args(arguments).envs(interpreter).current_dir(root()))
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
