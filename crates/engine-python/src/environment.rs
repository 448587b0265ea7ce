//! Which interpreter runs a model, and the environments that are made from requirements.
//!
//! An environment is made once for the same requirements and interpreter, in the user's cache,
//! under a lock: two servers that start at once do not make it twice. A file is written last that
//! says it is complete; one without it is made anew.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::FlockOperation;
use salver_core::{Error, PythonEnvironment, PythonSpec, Result};
use sha2::{Digest as _, Sha256};

use crate::{PythonOptions, Requirements};

/// Goes up when environments are made in another way.
const REVISION: &str = "1";
/// What the worker itself needs.
const OWN_NEEDS: &str = "numpy";
/// A long line about versions for other Pythons, in front of what is wrong.
const PIP_NOISE: &str = "Ignored the following versions that require a different python version";
/// Of what pip prints, the last lines are shown.
const SHOWN_LINES: usize = 8;

/// See the module's description.
pub(crate) struct Environments {
    interpreter: PathBuf,
    requirements: Requirements,
    cache: Option<PathBuf>,
}

impl Environments {
    pub(crate) fn new(options: &PythonOptions) -> Self {
        let named = options.interpreter.as_deref().map(program);
        Self {
            interpreter: named.unwrap_or_else(|| PathBuf::from("python3")),
            requirements: options.requirements,
            cache: options.cache.clone().or_else(default_cache),
        }
    }

    pub(crate) fn default_interpreter(&self) -> &Path {
        &self.interpreter
    }

    /// Returns the interpreter of a model; makes its environment where that is not there yet, which
    /// may take minutes.
    ///
    /// # Errors
    /// `Unsupported` where there is no such interpreter, `Engine` where an environment cannot be
    /// made.
    pub(crate) fn interpreter(&self, python: &PythonSpec) -> Result<PathBuf> {
        match &python.environment {
            PythonEnvironment::Interpreter(path) => Ok(program(path)),
            PythonEnvironment::Requirements(file) if self.requirements == Requirements::Installed => self.made(file),
            PythonEnvironment::Requirements(_) | PythonEnvironment::Server => Ok(self.interpreter.clone()),
        }
    }

    fn made(&self, file: &Path) -> Result<PathBuf> {
        let context = |error: Error| error.context(file.display());
        let text = fs::read(file).map_err(|error| Error::engine("read").with_source(error)).map_err(context)?;
        let Some(cache) = &self.cache else {
            return Err(Error::unsupported("no place for environments: set SALVER_CACHE or HOME"));
        };
        let version = self.call(&self.interpreter, &["-c", "import sys; print(sys.version, sys.prefix)"], file)?;
        let mut digest = Sha256::new();
        for part in [REVISION.as_bytes(), self.interpreter.as_os_str().as_encoded_bytes(), version.as_bytes(), &text] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let digest: String = digest.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
        let folder = cache.join("python").join(digest);
        self.make(&folder, file).map_err(context)?;
        Ok(folder.join("bin/python"))
    }

    fn make(&self, folder: &Path, file: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::engine(format!("an environment cannot be made in {}", folder.display())).with_source(error)
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.with_extension("lock")).map_err(failed)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let complete = folder.join("complete");
        if complete.exists() {
            return Ok(());
        }
        tracing::info!(requirements = %file.display(), folder = %folder.display(), "making a Python environment");
        self.fill(folder, file).inspect_err(|_| {
            // What is left of it would be made anew anyway.
            let _ = fs::remove_dir_all(folder);
        })?;
        fs::write(&complete, "").map_err(failed)
    }

    fn fill(&self, folder: &Path, file: &Path) -> Result<()> {
        let program = folder.join("bin/python");
        self.call(
            &self.interpreter,
            &[OsStr::new("-m"), OsStr::new("venv"), OsStr::new("--clear"), folder.as_os_str()],
            file,
        )?;
        let install = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"];
        let arguments: Vec<&OsStr> = install.iter().map(OsStr::new).collect();
        let arguments = [arguments.as_slice(), &[OsStr::new("-r"), file.as_os_str(), OsStr::new(OWN_NEEDS)]].concat();
        self.call(&program, &arguments, file).map(drop)
    }

    /// Runs a program beside the requirements and returns what it printed.
    fn call(&self, program: &Path, arguments: &[impl AsRef<OsStr>], file: &Path) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(file.parent().unwrap_or(Path::new("."))).stdin(Stdio::null());
        let output = command.output().map_err(|error| {
            Error::unsupported(format!("'{}' cannot be started: {error}", program.display())).with_source(error)
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let printed = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> =
            printed.lines().filter(|line| !line.trim().is_empty() && !line.contains(PIP_NOISE)).collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        Err(Error::engine(format!("'{}' could not make the environment:\n{shown}", program.display())))
    }
}

/// Returns the interpreter of a virtual environment, or the file itself. A name alone is looked for
/// in the PATH; anything else must not depend on the model's folder, where a worker runs.
fn program(path: &Path) -> PathBuf {
    let path = if path.is_dir() { path.join("bin/python") } else { path.to_owned() };
    if path.components().count() == 1 { path } else { std::path::absolute(&path).unwrap_or(path) }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `$SALVER_CACHE`, else the user's cache folder by the XDG rules.
fn default_cache() -> Option<PathBuf> {
    let xdg = || variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|cache| cache.join("salver"));
    let home = || variable("HOME").map(|home| home.join(".cache/salver"));
    variable("SALVER_CACHE").or_else(xdg).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_found_from_anywhere() {
        assert_eq!(program(Path::new("python3.12")), Path::new("python3.12"));
        assert!(program(Path::new("env/bin/python")).is_absolute());
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(program(folder.path()), folder.path().join("bin/python"));
    }
}
