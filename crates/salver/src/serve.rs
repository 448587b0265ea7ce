//! `salver serve`: listens, loads, tells what is there, and stops without losing a request.
//!
//! Order at the start: listeners first, so that health and readiness answer while models load.
//! Order at the end: the server finishes what is in flight, the registry is left, then the runtime
//! takes models down.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use salver_core::{Infer as _, ModelControl as _, ModelName, ModelRef, ModelSource, ModelState, ModelStatus};
use salver_repository::{Repository, Uploads};
use salver_runtime::Runtime;
use salver_server::EventLoops;
use salver_telemetry::Metrics;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::production::{Following, OpenRegistry};
use crate::queue::{OpenQueue, Working};
use crate::reload::Reload;
use crate::settings::ServeOptions;
use crate::sources::Sources;
use crate::{curl, out, wiring};

/// Where models are looked for when no path is given.
const DEFAULT_PATH: &str = "./models";

/// Exit code of a process that was told twice to stop.
const EXIT_INTERRUPTED: i32 = 130;

/// Runs the command.
///
/// # Errors
/// Where an address cannot be used, a path holds nothing to serve, or requests were dropped at the end.
pub(crate) async fn run(options: &ServeOptions) -> Result<()> {
    init_logging(options)?;
    let mut options = options.clone();
    options.paths = paths(&options.paths, Path::new(DEFAULT_PATH));
    let serving = Serving::bind(&options).await?;
    let stop = serving.stopping();
    let loaded = tokio::select! {
        loaded = serving.load() => loaded,
        () = stop.cancelled() => Ok(()),
    };
    if loaded.is_ok() && !stop.is_cancelled() {
        serving.announce_models();
        stop.cancelled().await;
    }
    let finished = serving.finish().await;
    loaded.and(finished)
}

/// Starts logging as the settings say.
///
/// # Errors
/// Where the level is not understood.
pub(crate) fn init_logging(options: &ServeOptions) -> Result<()> {
    wiring::init_logging(&options.log_level, options.log_format)
}

/// A server on its addresses, with its models.
pub(crate) struct Serving {
    runtime: Arc<Runtime>,
    following: Option<Following>,
    queue: Option<(OpenQueue, Arc<Metrics>, ServeOptions)>,
    working: Mutex<Option<Working>>,
    http: SocketAddr,
    grpc: Option<SocketAddr>,
    stop: CancellationToken,
    signals: JoinHandle<()>,
    server: JoinHandle<salver_core::Result<()>>,
    /// Until everything else is down.
    loops: Arc<EventLoops>,
    has_paths: bool,
}

impl Serving {
    /// Takes the addresses, says so on standard output, and answers from then on. No model is
    /// loaded yet.
    ///
    /// # Errors
    /// Where an address or a path cannot be used, or an address is exposed without a word.
    pub(crate) async fn bind(options: &ServeOptions) -> Result<Self> {
        check_exposure(options)?;
        // Before anybody can see the server and tell it to stop.
        let signals = Signals::listen().context("listen for signals")?;
        let metrics = Metrics::new();
        let paths = Arc::new(Repository::open(&options.paths)?);
        let registry = OpenRegistry::open(options)?;
        let of_registry = registry.as_ref().map(|registry| registry.served.clone() as Arc<dyn ModelSource>);
        let sources = Arc::new(Sources::new(paths.clone(), of_registry).with_uploads(uploads(options)?));
        let runtime = wiring::served(sources.clone(), &metrics, options)?;
        let records = registry.as_ref().map(|registry| registry.registry.clone());
        let queue = OpenQueue::open(options)?;
        let mut services = wiring::services(&runtime, metrics.clone(), records, options);
        services.jobs = queue.as_ref().map(|queue| queue.jobs(options));
        services.reload = Reload::allowed(options.reload_config_from.as_deref(), paths, runtime.clone())?;
        let bound = salver_server::bind(services, wiring::server_options(options)).await?;
        let (http, grpc) = (bound.http_addr(), bound.grpc_addr());
        let stop = CancellationToken::new();
        let signals = tokio::spawn(signals.pass_on(stop.clone()));
        let loops = Arc::new(event_loops(options.threads)?);
        let server = tokio::spawn(bound.serve(loops.clone(), stop.clone()));
        let following = registry.map(|registry| Following::begin(registry, sources, runtime.clone()));
        out::line(format!("http listening on {http}"));
        if let Some(grpc) = grpc {
            out::line(format!("grpc listening on {grpc}"));
        }
        let has_paths = !options.paths.is_empty();
        let queue = queue.map(|queue| (queue, metrics, options.clone()));
        let working = Mutex::default();
        Ok(Self { runtime, following, queue, working, http, grpc, stop, signals, server, loops, has_paths })
    }

    /// Loads what the settings say; models that do not load show in the index.
    ///
    /// # Errors
    /// Where the settings contradict each other.
    pub(crate) async fn load(&self) -> Result<()> {
        if let Some(following) = &self.following {
            following.first_look(self.has_paths).await;
        }
        if let Some((queue, ..)) = &self.queue {
            queue.opened().await;
        }
        self.runtime.start().await?;
        let first_loads = self.following.as_ref().map(Following::serve);
        // Jobs that stood in the queue ask models that are there by then.
        if let Some((queue, metrics, options)) = &self.queue {
            let first_loads = async move {
                if let Some(first_loads) = first_loads {
                    first_loads.await;
                }
            };
            *self.working.lock() = Some(queue.begin(self.runtime.clone(), metrics, options, first_loads));
        }
        Ok(())
    }

    /// Returns the address of HTTP.
    pub(crate) fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Returns the address of gRPC, where it has one of its own.
    pub(crate) fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Returns what serves the models.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns why no version of a model serves, if none does.
    pub(crate) fn problem(&self, name: &str) -> Option<String> {
        wiring::problem(&self.runtime, name)
    }

    /// Returns what is cancelled when the server is told to stop.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops the server, finishes what is in flight, then takes the models down.
    ///
    /// # Errors
    /// Where requests were still in flight after the grace and were dropped.
    pub(crate) async fn finish(self) -> Result<()> {
        self.stop.cancel();
        let served = self.server.await.context("the server's task")?;
        if let Some(working) = self.working.into_inner() {
            working.end().await;
        }
        if let Some(following) = self.following {
            following.end().await;
        }
        self.runtime.shutdown().await;
        self.signals.abort();
        drop(self.loops);
        Ok(served?)
    }

    /// Tells people which models serve and how to ask them.
    fn announce_models(&self) {
        let index = self.runtime.index();
        let ready = index.iter().filter(|status| status.state == Some(ModelState::Ready)).count();
        tracing::info!(ready, failed = failures(&index).len(), "models loaded");
        if !self.has_paths && index.is_empty() {
            out::line(format!(
                "No models yet: give a model's path (salver serve iris.onnx), or put models into {DEFAULT_PATH} and \
                 start again."
            ));
            if self.following.is_some() {
                out::line(format!(
                    "Or register one with MLflow (MLFLOW_TRACKING_URI=http://{}) and put it into production.",
                    self.http
                ));
            }
        }
        if !out::is_terminal() || index.is_empty() {
            return;
        }
        print_index(&index);
        let http = format!("http://{}", self.http);
        let ready = index.iter().filter(|status| status.state == Some(ModelState::Ready));
        let examples = ready.filter_map(|status| {
            let name = ModelName::new(&status.name).ok()?;
            Some(curl::predict(&http, &*self.runtime.describe(&ModelRef::latest(name)).ok()?))
        });
        if let Some(shortest) = examples.min_by_key(String::len) {
            out::line(format!("Try: {shortest}"));
        }
        out::line(format!("Page, API and metrics: {http}/  {http}/openapi.json  {http}/metrics"));
    }
}

/// Prints one line for each version.
pub(crate) fn print_index(index: &[ModelStatus]) {
    let mut table = out::Rows::new(&["model", ">version", "state", "reason"]);
    let mut sorted: Vec<&ModelStatus> = index.iter().collect();
    sorted.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
    for status in sorted {
        table.push([
            status.name.clone(),
            status.version.map(|version| version.to_string()).unwrap_or_default(),
            state_name(status).unwrap_or_else(|| "not loaded".to_owned()),
            status.reason.clone(),
        ]);
    }
    table.print();
}

/// Returns the state in lower case, if the version ever had one.
pub(crate) fn state_name(status: &ModelStatus) -> Option<String> {
    status.state.map(|state| format!("{state:?}").to_lowercase())
}

/// Returns the entries that failed.
pub(crate) fn failures(index: &[ModelStatus]) -> Vec<&ModelStatus> {
    let failed = |status: &&ModelStatus| match status.state {
        Some(ModelState::Failed) => true,
        None => !status.reason.is_empty(),
        Some(_) => false,
    };
    index.iter().filter(failed).collect()
}

/// Returns `given`, or the default path where nothing was given and it is there.
fn paths(given: &[PathBuf], default: &Path) -> Vec<PathBuf> {
    if given.is_empty() && default.is_dir() { vec![default.to_owned()] } else { given.to_vec() }
}

/// Opens where files of clients are kept, if they are taken; otherwise removes what an earlier
/// server has left there.
fn uploads(options: &ServeOptions) -> Result<Option<Uploads>> {
    let folder = options.data.join("uploads");
    if options.allow_model_upload {
        return Ok(Some(Uploads::open(&folder).context("--allow-model-upload")?));
    }
    if let Err(error) = Uploads::clear(&folder) {
        tracing::warn!(%error, "files that clients once sent stay");
    }
    Ok(None)
}

/// Starts the threads that serve connections; one that is to do everything is there already.
fn event_loops(threads: Option<usize>) -> Result<EventLoops> {
    match threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)) {
        1 => Ok(EventLoops::none()),
        count => EventLoops::start(count).context("start the threads that serve connections"),
    }
}

/// Refuses addresses that others can reach, unless that was asked for.
fn check_exposure(options: &ServeOptions) -> Result<()> {
    for addr in options.exposed() {
        if !options.insecure {
            bail!(
                "{addr} can be reached from other machines, and nobody is asked for a key: \
                 whoever reaches it may use every model. Add --insecure if that is wanted, or use 127.0.0.1"
            );
        }
        tracing::warn!(%addr, "--insecure: whoever reaches this address may use every model");
    }
    Ok(())
}

/// SIGTERM and SIGINT, caught from the moment this exists.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Cancels `stop` on the first signal and ends the process on the second one.
    async fn pass_on(mut self, stop: CancellationToken) {
        self.next().await;
        tracing::info!("stopping: finishing what is in flight; a second signal stops at once");
        stop.cancel();
        self.next().await;
        tracing::warn!("stopped by a second signal");
        std::process::exit(EXIT_INTERRUPTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_folder_is_the_default_only_where_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let default = folder.path().join("models");
        assert!(paths(&[], &default).is_empty());
        std::fs::create_dir(&default).unwrap();
        assert_eq!(paths(&[], &default), std::slice::from_ref(&default));
        assert_eq!(paths(&["a.onnx".into()], &default), [PathBuf::from("a.onnx")]);
    }

    #[test]
    fn exposure_needs_a_word() {
        let mut options = ServeOptions::defaults().unwrap();
        options.http = "0.0.0.0:0".parse().unwrap();
        let error = check_exposure(&options).unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:0") && error.contains("--insecure"), "{error}");
        options.insecure = true;
        check_exposure(&options).unwrap();
    }
}
