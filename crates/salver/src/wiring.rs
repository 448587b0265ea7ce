//! Joins the parts: the only place that names concrete engines, sources and the runtime.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use salver_core::{Backing, Engine, ModelControl as _, ModelEntry, ModelName, ModelSource, ModelState, SharedCache};
use salver_engine_http::{HttpEngine, HttpOptions};
use salver_engine_onnx::{Fetch, OnnxEngine, OnnxOptions};
use salver_engine_python::{PythonEngine, PythonOptions, Requirements};
use salver_engine_rten::RtenEngine;
use salver_outbound::Listed;
use salver_registry::Registry;
use salver_repository::Repository;
use salver_runtime::{Backoff, CacheOptions, ResidencyOptions, Runtime, RuntimeOptions, TuningOptions};
use salver_server::{Limits, ServerOptions, Services};
use salver_store::RedisCache;
use salver_tasks::{BuiltinEngine, Tasks};
use salver_telemetry::{LogFormat, Metrics};

use crate::cli::{EngineArgs, PythonRequirements};
use crate::features;
use crate::memory::ServerMemory;
use crate::progress::Progress;
use crate::settings::{ControlMode, LimitOptions, LogStyle, ServeOptions};

/// How long finding the best batch of one model may take at its first load.
const SWEEP: Duration = Duration::from_secs(2);
/// How often `--reload` looks at the folders.
const RELOAD: Duration = Duration::from_millis(500);

/// Makes the ONNX Runtime engine; nothing is loaded yet.
pub(crate) fn onnx_engine(args: &EngineArgs) -> OnnxEngine {
    let fetch = if args.no_runtime_install { Fetch::Never } else { Fetch::Allowed };
    OnnxEngine::new(&OnnxOptions { library: args.ort_lib.clone(), cache: None, fetch })
}

/// Makes the engine of workers; none is started yet.
pub(crate) fn python_engine(args: &EngineArgs) -> PythonEngine {
    PythonEngine::new(&PythonOptions {
        is_allowed: args.allow_python,
        interpreter: args.python.clone(),
        requirements: match args.python_requirements {
            PythonRequirements::Install => Requirements::Installed,
            PythonRequirements::Ignore => Requirements::Given,
        },
        ..PythonOptions::default()
    })
}

/// Makes the engine of other servers; nothing is asked yet.
fn http_engine(args: &EngineArgs, metrics: &Arc<Metrics>) -> HttpEngine {
    let options = HttpOptions {
        listed: Listed::new(args.remote_allow.iter().cloned(), "--remote-allow"),
        user_agent: format!("salver/{}", env!("CARGO_PKG_VERSION")),
    };
    HttpEngine::new(options, metrics.clone())
}

/// Makes the engines, best one first.
///
/// # Errors
/// Where the address of a feature store is none.
pub(crate) fn engines(args: &EngineArgs, metrics: &Arc<Metrics>) -> Result<Vec<Arc<dyn Engine>>> {
    engines_with(args, python_engine(args), metrics)
}

fn engines_with(args: &EngineArgs, python: PythonEngine, metrics: &Arc<Metrics>) -> Result<Vec<Arc<dyn Engine>>> {
    let features = features::engine(&args.feature_store, metrics)?;
    Ok(vec![
        Arc::new(onnx_engine(args)),
        Arc::new(RtenEngine::new()),
        Arc::new(python),
        Arc::new(BuiltinEngine),
        Arc::new(features),
        Arc::new(http_engine(args, metrics)),
    ])
}

/// Makes a runtime over `paths`; nothing is loaded yet.
///
/// # Errors
/// Where a path does not exist or holds nothing that can be served.
pub(crate) fn runtime(
    paths: &[PathBuf],
    args: &EngineArgs,
    metrics: &Arc<Metrics>,
    options: RuntimeOptions,
) -> Result<Arc<Runtime>> {
    let source = Repository::open(paths)?;
    Ok(Runtime::new(engines(args, metrics)?, Arc::new(source), metrics.clone(), options))
}

/// Makes the runtime of a server over any source; nothing is loaded yet.
///
/// # Errors
/// Where the settings contradict each other.
pub(crate) fn served(
    source: Arc<dyn ModelSource>,
    metrics: &Arc<Metrics>,
    options: &ServeOptions,
) -> Result<Arc<Runtime>> {
    let python = python_engine(&options.engine);
    let engines = engines_with(&options.engine, python.clone(), metrics)?;
    Ok(Runtime::new(engines, source, metrics.clone(), runtime_options(options, python)?))
}

/// Models loaded right here, without a server.
pub(crate) struct LocalModels {
    /// Runs them.
    pub runtime: Arc<Runtime>,
    /// The only one.
    pub name: ModelName,
}

/// Loads the one model at `path`, and what it calls of the models beside it.
///
/// # Errors
/// Where it does not load, or there are several.
pub(crate) async fn open_local(path: &Path, args: &EngineArgs, options: RuntimeOptions) -> Result<LocalModels> {
    let only = only_model(path)?;
    let paths = with_members(path, &only);
    let name = only.name;
    let runtime = runtime(&paths, args, &Metrics::new(), options)?;
    let loading = Progress::spinner(format!("loading model {name}"));
    runtime.start().await?;
    drop(loading);
    if let Some(reason) = problem(&runtime, &name) {
        bail!("model {name} of {} does not load: {reason}", path.display());
    }
    Ok(LocalModels { runtime, name })
}

/// Returns the one model at `path`.
///
/// # Errors
/// Where there is none, or several.
pub(crate) fn only_model(path: &Path) -> Result<ModelEntry> {
    let mut entries = Repository::open(&[path.to_owned()])?.scan();
    match (entries.pop(), entries.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => bail!("there is no model in {}", path.display()),
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(|entry| &*entry.name).collect();
            bail!("{} holds several models: {}; give the path of one", path.display(), names.join(", "))
        }
    }
}

/// Adds the folders of the models that an ensemble calls and that lie beside it.
fn with_members(path: &Path, only: &ModelEntry) -> Vec<PathBuf> {
    let mut paths = vec![path.to_owned()];
    let Some(beside) = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned)) else {
        return paths;
    };
    let mut known = BTreeSet::from([only.name.clone()]);
    let mut due = called(only);
    while let Some(name) = due.pop() {
        let folder = beside.join(&*name);
        if known.insert(name)
            && let Ok(member) = only_model(&folder)
        {
            due.extend(called(&member));
            paths.push(folder);
        }
    }
    paths
}

/// Returns the models that an ensemble calls.
fn called(entry: &ModelEntry) -> Vec<ModelName> {
    let ensembles = entry.versions.iter().flatten().filter_map(|spec| match &spec.backing {
        Backing::Ensemble(ensemble) => Some(ensemble),
        _ => None,
    });
    ensembles.flat_map(|ensemble| ensemble.models()).map(|model| model.name.clone()).collect()
}

/// Returns why no version of `name` serves, if none does.
pub(crate) fn problem(runtime: &Runtime, name: &str) -> Option<String> {
    let all = runtime.index();
    let versions: Vec<_> = all.iter().filter(|status| status.name == name).collect();
    if versions.iter().any(|status| status.state == Some(ModelState::Ready)) {
        return None;
    }
    let reason = versions.iter().map(|status| &status.reason).find(|reason| !reason.is_empty());
    Some(reason.cloned().unwrap_or_else(|| "it is not loaded".to_owned()))
}

/// The options of a runtime that serves a few requests, or none.
pub(crate) fn for_a_moment() -> RuntimeOptions {
    RuntimeOptions { tasks: Some(Arc::new(Tasks)), ..RuntimeOptions::default() }
}

/// The options of a runtime that schedules as a server does where nothing is set; what it finds
/// out about a model is not kept.
pub(crate) fn as_served() -> RuntimeOptions {
    let tuning = Some(TuningOptions { budget: SWEEP, notes: None });
    RuntimeOptions { tuning, ..for_a_moment() }
}

/// Turns settings into the runtime's options.
///
/// # Errors
/// Where the address of the shared cache is none, or there is nothing to share.
fn runtime_options(options: &ServeOptions, workers: PythonEngine) -> Result<RuntimeOptions> {
    let control = match options.model_control {
        _ if options.reload => salver_runtime::ControlMode::Poll(RELOAD),
        ControlMode::None => salver_runtime::ControlMode::None,
        ControlMode::Poll => salver_runtime::ControlMode::Poll(Duration::from_millis(options.poll_interval_ms)),
        ControlMode::Explicit => salver_runtime::ControlMode::Explicit,
    };
    let millis = Duration::from_millis;
    let residency = (options.memory_limit > 0).then(|| ResidencyOptions {
        memory_limit: options.memory_limit,
        load_wait: millis(options.load_wait_ms),
        meter: Arc::new(ServerMemory { workers }),
    });
    Ok(RuntimeOptions {
        control,
        load: options.load_model.clone(),
        pin: options.pin_model.clone(),
        residency,
        generated_warmup: true,
        load_timeout: (options.load_timeout_ms > 0).then(|| millis(options.load_timeout_ms)),
        max_queue: options.max_queue,
        slow: (options.slow_ms > 0).then(|| millis(options.slow_ms)),
        tuning: options.tune.then(|| TuningOptions { budget: SWEEP, notes: Some(options.data.join("tuning")) }),
        max_waiting_bytes: Some(options.limits.buffered_limit_bytes),
        cache: cache_options(options)?,
        no_jobs: no_jobs(options),
        tasks: Some(Arc::new(Tasks)),
        backoff: Backoff::default(),
    })
}

fn cache_options(options: &ServeOptions) -> Result<CacheOptions> {
    let shared: Option<Arc<dyn SharedCache>> = match &options.cache_redis {
        Some(_) if options.cache_bytes == 0 => {
            bail!("--cache-redis shares what is kept in memory, but --cache-bytes is 0: nothing is kept")
        }
        Some(url) => Some(Arc::new(RedisCache::new(url.expose()).context("--cache-redis")?)),
        None => None,
    };
    Ok(CacheOptions { bytes: options.cache_bytes, shared })
}

/// Returns why no job can fill the cache that this server answers from, if none can.
fn no_jobs(options: &ServeOptions) -> Option<String> {
    let why = match options {
        _ if !options.jobs => "--jobs=false leaves this server without a queue of jobs",
        _ if options.cache_bytes == 0 => "with --cache-bytes 0 no answer is kept",
        _ if options.job_workers == 0 && options.cache_redis.is_none() => {
            "with --job-workers 0 the jobs run elsewhere, and their answers reach this server only through a Redis \
             that both share (--cache-redis)"
        }
        _ => return None,
    };
    Some(why.to_owned())
}

/// Turns settings into the server's options.
pub(crate) fn server_options(options: &ServeOptions) -> ServerOptions {
    ServerOptions {
        http: options.http,
        grpc: options.grpc.addr(),
        limits: limits(&options.limits),
        cors: options.cors.clone(),
        allowed_hosts: options.allowed_host.clone(),
        constant_route: options.bench,
        shutdown_grace: options.shutdown_grace(),
        explicit_control: options.model_control == ControlMode::Explicit,
        client_shared_memory: options.allow_client_shm,
        caller_header: options.caller_header.clone(),
        triton_metrics: options.triton_metrics,
    }
}

fn limits(options: &LimitOptions) -> Limits {
    let millis = Duration::from_millis;
    Limits {
        body_bytes: options.body_limit_bytes,
        decompressed_ratio: options.decompression_ratio_limit,
        protocol: salver_protocol::Limits {
            max_inputs: options.max_inputs,
            max_outputs: options.max_outputs,
            json_depth: options.json_depth_limit,
            max_name_bytes: options.name_limit_bytes,
            max_body_bytes: options.body_limit_bytes,
        },
        header_bytes: options.header_limit_bytes,
        headers: options.max_headers,
        uri_bytes: options.uri_limit_bytes,
        header_timeout: millis(options.header_timeout_ms),
        idle_timeout: millis(options.idle_timeout_ms),
        min_body_rate: options.min_body_rate_bytes,
        body_grace: millis(options.body_grace_ms),
        h2_streams: options.max_streams,
        default_deadline: millis(options.default_timeout_ms),
        buffered_bytes: options.buffered_limit_bytes,
        connections: options.max_connections,
        drain_linger: millis(options.drain_linger_ms),
    }
}

/// Joins the runtime with what the server needs besides.
pub(crate) fn services(
    runtime: &Arc<Runtime>,
    metrics: Arc<Metrics>,
    registry: Option<Registry>,
    options: &ServeOptions,
) -> Services {
    Services {
        infer: runtime.clone(),
        control: runtime.clone(),
        metrics,
        server_name: "salver".to_owned(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        default_model: options.default_model.clone(),
        registry,
        jobs: None,
        reload: None,
    }
}

/// Starts logging as the settings say.
///
/// # Errors
/// Where the level is not understood.
pub(crate) fn init_logging(level: &str, style: LogStyle) -> Result<()> {
    let format = match style {
        LogStyle::Auto => LogFormat::Auto,
        LogStyle::Human => LogFormat::Human,
        LogStyle::Json => LogFormat::Json,
    };
    salver_telemetry::init_logging(level, format).map_err(anyhow::Error::msg).context("--log-level")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_flags_are_the_defaults_of_the_limits() {
        let options = ServeOptions::defaults().unwrap();
        assert_eq!(limits(&options.limits), Limits::default());
    }
}
