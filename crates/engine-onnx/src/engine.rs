//! The engine: finds and loads the library once for the process, then opens models with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ort::environment::Environment;
use ort::logging::LogLevel;
use parking_lot::Mutex;
use salver_core::{Engine, Error, Model, ModelSpec, Result};

use crate::install;
use crate::library::{Found, OLDEST, Place, PlaceStatus, Places, VERSION};
use crate::model::OnnxModel;
use crate::raw;

/// Where to find ONNX Runtime, and whether to fetch it.
#[derive(Debug, Clone, Default)]
pub struct OnnxOptions {
    /// The library to load (`--ort-lib`); none: `ORT_DYLIB_PATH`, else the search.
    pub library: Option<PathBuf>,
    /// The folder to keep the library in; none: `SALVER_CACHE`, else the user's cache folder.
    pub cache: Option<PathBuf>,
    /// Whether the library is fetched when it is found nowhere.
    pub fetch: Fetch,
}

/// Whether the library is fetched when it is found nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fetch {
    /// On first need, with pip.
    #[default]
    Allowed,
    /// Not at all.
    Never,
}

/// Every place of the search and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The places in the order of the search.
    pub places: Vec<PlaceStatus>,
    /// The library that would be loaded.
    pub chosen: Option<Found>,
    /// The version that `install` gets.
    pub pinned_version: &'static str,
    /// How to get it, in words.
    pub instructions: String,
}

/// ONNX Runtime, on the CPU or what else the library has a provider for.
pub struct OnnxEngine {
    places: Places,
    fetch: Fetch,
    /// What fetching said when it failed; it is tried once.
    fetch_error: Mutex<Option<Error>>,
    /// Whether the last attempt to have the library failed.
    is_missing: AtomicBool,
}

struct Runtime {
    environment: Environment,
    library: Found,
}

/// One for the process, for good: ONNX Runtime has one environment, and models point to it.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();
/// Held while the library is looked for, fetched and loaded.
static LOADING: Mutex<()> = Mutex::new(());

impl OnnxEngine {
    /// Makes an engine; nothing is looked for yet.
    pub fn new(options: &OnnxOptions) -> Self {
        Self {
            places: Places::new(options),
            fetch: options.fetch,
            fetch_error: Mutex::new(None),
            is_missing: AtomicBool::new(false),
        }
    }

    /// Returns the library that was loaded, once one was.
    pub fn library(&self) -> Option<&'static Found> {
        RUNTIME.get().map(|runtime| &runtime.library)
    }

    /// Looks at every place; reads the cached library as a whole.
    pub fn status(&self) -> Status {
        let mut places: Vec<PlaceStatus> = self.places.order().iter().map(|&place| self.places.look(place)).collect();
        for place in &mut places {
            if let (Place::Cache, Ok(found)) = (place.place, &place.found)
                && let Err(reason) = install::is_intact(&found.path)
            {
                place.found = Err(reason);
            }
        }
        let chosen = places.iter().find_map(|place| place.found.clone().ok());
        let instructions = install::instructions(self.places.cache.as_deref());
        Status { places, chosen, pinned_version: VERSION, instructions }
    }

    /// Puts the library into the cache: with pip, or out of a package file that is here already.
    /// Returns its path.
    ///
    /// # Errors
    /// `InvalidInput` for another file than the pinned package, `Unsupported` where no package is
    /// known for this machine, `Full` without room, else `Engine`.
    pub fn install(&self, from: Option<&Path>) -> Result<PathBuf> {
        let cache = self.places.cache.as_deref().ok_or_else(|| {
            Error::invalid_input("there is no cache folder: set SALVER_CACHE to one that can be written")
        })?;
        install::install(cache, from)
    }

    fn runtime(&self) -> Result<&'static Runtime> {
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime);
        }
        let _loading = LOADING.lock();
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime);
        }
        let runtime = self.find_and_load()?;
        Ok(RUNTIME.get_or_init(|| runtime))
    }

    fn find_and_load(&self) -> Result<Runtime> {
        let mut reasons = Vec::new();
        for &place in self.places.order() {
            let status = self.places.look(place);
            match status.found.and_then(load) {
                Ok(runtime) => return Ok(runtime),
                Err(reason) => {
                    let path = status.path.map(|path| format!(" {}", path.display())).unwrap_or_default();
                    reasons.push(format!("{place}{path}: {reason}"));
                }
            }
        }
        if self.places.named.is_none() && self.fetch == Fetch::Allowed {
            match self.fetch().and_then(|found| load(found).map_err(Error::engine)) {
                Ok(runtime) => return Ok(runtime),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(self.missing(&reasons))
    }

    /// Fetches the library, once: without network that takes a while, and every model would wait.
    fn fetch(&self) -> Result<Found> {
        let mut failed = self.fetch_error.lock();
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        let cache = self.places.cache.as_deref().ok_or_else(|| Error::unsupported("there is no cache folder"))?;
        match install::install(cache, None) {
            Ok(path) => Ok(Found { path, version: Some(VERSION.to_owned()) }),
            Err(error) => {
                *failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn missing(&self, reasons: &[String]) -> Error {
        Error::unsupported(format!(
            "ONNX Runtime {}.{} or newer is not there ({}). To get it, {}",
            OLDEST.0,
            OLDEST.1,
            reasons.join("; "),
            install::instructions(self.places.cache.as_deref())
        ))
    }
}

impl Engine for OnnxEngine {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn platform(&self) -> &'static str {
        "onnxruntime_onnx"
    }

    fn describe(&self) -> String {
        match self.library() {
            Some(found) => format!("ONNX Runtime {}", found.version.as_deref().unwrap_or("of unknown version")),
            None if self.is_missing.load(Ordering::Relaxed) => {
                "ONNX Runtime is not available here; `salver runtime status` says why".to_owned()
            }
            None => format!("ONNX Runtime, loaded on first need ({VERSION} where it is fetched)"),
        }
    }

    fn prepare(&self) -> Result<()> {
        let prepared = self.runtime().map(|_| ());
        self.is_missing.store(prepared.is_err(), Ordering::Relaxed);
        prepared
    }

    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>> {
        let Runtime { environment, library } = self.runtime()?;
        Ok(Arc::new(OnnxModel::load(environment, &library.path, spec)?))
    }
}

/// Loads a library into the process; why it cannot be is said in words.
fn load(found: Found) -> Result<Runtime, String> {
    raw::return_freed_memory();
    let builder = ort::init_from(&found.path).map_err(|error| error.to_string())?;
    let environment = builder.with_name("salver").with_telemetry(false).with_logger(Arc::new(log)).build();
    let environment = environment.map_err(|error| error.to_string())?;
    // Anything below would cross into Rust only to be thrown away.
    environment.set_log_level(LogLevel::Warning);
    Ok(Runtime { environment, library: found })
}

/// ONNX Runtime also logs each error that it returns; who handles those logs them already.
fn log(level: LogLevel, category: &str, id: &str, _location: &str, message: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, id, "{message}"),
        _ => tracing::debug!(target: "onnxruntime", category, id, "{message}"),
    }
}

#[cfg(test)]
mod tests;
