//! Where the shared library of ONNX Runtime is looked for, and what is found there.
//!
//! Nothing here loads a library or changes a file. In order: the path that was named, the folder
//! `lib` beside the program, the cache, an installed Python package. A library that only the
//! system's search path knows is never taken: it may be too old for the interface used here.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::OnnxOptions;
use crate::{install, process};

/// The version that is fetched.
pub(crate) const VERSION: &str = "1.31.1";
/// The oldest version that has the interface used here.
pub(crate) const OLDEST: (u32, u32) = (1, 31);
/// How long Python may take to say where its package is.
const PYTHON_LIMIT: Duration = Duration::from_secs(10);
/// Prints the folder of the package without importing it. The working folder is not searched: a
/// folder there must not decide which code is loaded.
const PYTHON_PROBE: &str = "import sys; sys.path[:] = [p for p in sys.path if p]; import importlib.util as u; \
                            s = u.find_spec('onnxruntime'); print(s.origin if s else '')";

/// A place where the library may be, in the order of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The path given by `--ort-lib` or `ORT_DYLIB_PATH`. If there is one, no other place counts.
    Named,
    /// The folder `lib` beside the program.
    BesideProgram,
    /// The cache, where `salver runtime install` puts it.
    Cache,
    /// An installed Python package `onnxruntime`.
    Python,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named => "named by --ort-lib or ORT_DYLIB_PATH",
            Self::BesideProgram => "beside the program",
            Self::Cache => "cache",
            Self::Python => "Python package",
        })
    }
}

/// A library file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Its version, where the file's name says it.
    pub version: Option<String>,
}

/// One place of the search and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceStatus {
    /// Which place.
    pub place: Place,
    /// The file or folder looked at; none where there is nothing to look at.
    pub path: Option<PathBuf>,
    /// The library, or in words why none can be used.
    pub found: Result<Found, String>,
}

/// The places to look at.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) named: Option<PathBuf>,
    pub(crate) beside_program: Option<PathBuf>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) python: &'static str,
}

impl Places {
    /// Takes them from the options, then the environment.
    pub(crate) fn new(options: &OnnxOptions) -> Self {
        let named = options.library.clone().or_else(|| env_path("ORT_DYLIB_PATH"));
        let program = env::current_exe().ok();
        Self {
            named: named.map(|path| std::path::absolute(&path).unwrap_or(path)),
            beside_program: program.and_then(|program| Some(program.parent()?.join("lib"))),
            cache: options.cache.clone().or_else(default_cache),
            python: "python3",
        }
    }

    /// Returns the places that count, in order.
    pub(crate) fn order(&self) -> &'static [Place] {
        match self.named {
            Some(_) => &[Place::Named],
            None => &[Place::BesideProgram, Place::Cache, Place::Python],
        }
    }

    /// Looks at one place.
    pub(crate) fn look(&self, place: Place) -> PlaceStatus {
        let (path, found) = match place {
            Place::Named => (self.named.clone(), look_at_named(self.named.as_deref())),
            Place::BesideProgram => (self.beside_program.clone(), look_in(self.beside_program.as_deref())),
            Place::Cache => {
                let path = self.cache.as_deref().map(install::cached_library);
                let found = look_at_cached(path.as_deref());
                (path, found)
            }
            Place::Python => match python_folder(self.python) {
                Ok(folder) => {
                    let found = look_in(Some(&folder));
                    (Some(folder), found)
                }
                Err(reason) => (None, Err(reason)),
            },
        };
        PlaceStatus { place, path, found }
    }
}

fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `$SALVER_CACHE`, else the user's cache folder by the XDG rules.
fn default_cache() -> Option<PathBuf> {
    let xdg = || env_path("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|cache| cache.join("salver"));
    let home = || env_path("HOME").map(|home| home.join(".cache/salver"));
    env_path("SALVER_CACHE").or_else(xdg).or_else(home)
}

fn look_at_named(path: Option<&Path>) -> Result<Found, String> {
    let path = path.ok_or("not set")?;
    if path.is_dir() {
        return look_in(Some(path));
    }
    if !path.is_file() {
        return Err("no such file".to_owned());
    }
    // Whoever names a file may have renamed it: what it is shows when it is loaded.
    let version = path.file_name().and_then(|name| Version::of_file(name.to_str()?)).flatten();
    Ok(Found { path: path.to_owned(), version: version.map(|version| version.to_string()) })
}

/// Returns the newest usable library of a folder.
fn look_in(folder: Option<&Path>) -> Result<Found, String> {
    let folder = folder.ok_or("unknown")?;
    let entries = std::fs::read_dir(folder).map_err(|_| "no such folder".to_owned())?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let versions = names.filter_map(|name| Some((Version::of_file(&name)?, name)));
    let Some((version, name)) = versions.max() else {
        return Err("no library there".to_owned());
    };
    match version {
        Some(version) if (version.major, version.minor) < OLDEST => {
            Err(format!("version {version} is too old, {}.{} is the oldest that works", OLDEST.0, OLDEST.1))
        }
        version => Ok(Found { path: folder.join(name), version: version.map(|version| version.to_string()) }),
    }
}

fn look_at_cached(path: Option<&Path>) -> Result<Found, String> {
    let path = path.ok_or("no cache folder: neither SALVER_CACHE nor HOME is set")?;
    install::is_complete(path)?;
    Ok(Found { path: path.to_owned(), version: Some(VERSION.to_owned()) })
}

fn python_folder(python: &str) -> Result<PathBuf, String> {
    let printed = process::output(Command::new(python).args(["-c", PYTHON_PROBE]), PYTHON_LIMIT)?;
    package_libraries(&printed).ok_or_else(|| format!("`{python}` has no package onnxruntime"))
}

/// Reads the path of the package's first file, as the probe prints it.
fn package_libraries(printed: &str) -> Option<PathBuf> {
    let package = Path::new(printed.trim_end()).parent()?;
    package.is_absolute().then(|| package.join("capi"))
}

/// A version as in a file's name. Ordered, so that the newest of several is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// Reads `libonnxruntime.so.1.31.1` or `libonnxruntime.1.31.1.dylib`. Outer none: another file;
    /// inner none: the library without a version in its name.
    fn of_file(name: &str) -> Option<Option<Self>> {
        let rest = name.strip_prefix("libonnxruntime.")?;
        if rest == "so" || rest == "dylib" {
            return Some(None);
        }
        let digits = rest.strip_prefix("so.").or_else(|| rest.strip_suffix(".dylib"))?;
        let parts: Vec<u32> = digits.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let (major, minor, patch) = match *parts.as_slice() {
            [major] => (major, 0, 0),
            [major, minor] => (major, minor, 0),
            [major, minor, patch] => (major, minor, patch),
            _ => return None,
        };
        Some(Some(Self { major, minor, patch }))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests;
