//! The registry of a server: opens it, serves what it says is to be served, and closes it.
//!
//! A registry that cannot be reached takes nothing away: models of paths are served, the registry's
//! as long as this process has them, and the registry is asked again and again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use salver_core::{ModelName, ModelSource as _};
use salver_registry::Registry;
use salver_registry::serving::{Endpoint, FirstLook, Served};
use salver_runtime::Runtime;
use salver_store::{Blobs, Database, make_folder};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::settings::{Secret, ServeOptions};
use crate::sources::Sources;

/// How long models of paths wait for the registry's at the start.
const PATIENCE: Duration = Duration::from_secs(5);

/// A registry and its models that are served.
pub(crate) struct OpenRegistry {
    /// What the protocols of the registry work on.
    pub registry: Registry,
    /// What is served of it.
    pub served: Arc<Served>,
}

impl OpenRegistry {
    /// Opens what the settings say; none: they say not to. The database is not asked yet.
    ///
    /// # Errors
    /// Where a folder cannot be written, a URL is none, or endpoints cannot be.
    pub(crate) fn open(options: &ServeOptions) -> Result<Option<Self>> {
        Endpoint::check(&options.endpoint).context("--endpoint")?;
        if !options.registry {
            let is_empty = options.endpoint.is_empty();
            ensure!(is_empty, "--endpoint serves a model of the registry, which --registry=false leaves out");
            return Ok(None);
        }
        let registry = open_records(&options.data, options.database.as_ref(), options.artifacts.as_deref())
            .context("open the registry (--registry=false goes without)")?;
        let folder = options.data.join("registry");
        let hint = || format!("keep models of the registry in {}", folder.display());
        let served = Served::open(registry.clone(), options.endpoint.clone(), &folder.join("models"));
        Ok(Some(Self { registry, served: Arc::new(served.with_context(hint)?) }))
    }
}

/// Opens a registry's records and files. The database is not asked yet.
///
/// # Errors
/// Where a folder cannot be written or a URL is none.
pub(crate) fn open_records(data: &Path, database: Option<&Secret>, artifacts: Option<&str>) -> Result<Registry> {
    let folder = data.join("registry");
    let hint = || format!("keep the registry in {} (--data DIR)", folder.display());
    make_folder(data).and_then(|()| make_folder(&folder)).with_context(hint)?;
    let database = match database {
        Some(url) => Database::lazy(url.expose()).context("--database")?,
        None => Database::lazy(&format!("sqlite://{}", text(&folder.join("registry.db"))?)).with_context(hint)?,
    };
    let blobs = match artifacts {
        Some(url) => Blobs::open(url).context("--artifacts")?,
        None => Blobs::open(text(&folder.join("artifacts"))?).with_context(hint)?,
    };
    Ok(Registry::new(database, blobs, Arc::new(now)))
}

/// Follows a registry for a runtime.
pub(crate) struct Following {
    registry: OpenRegistry,
    follower: Arc<Follower>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Who is told of changes.
struct Follower {
    sources: Arc<Sources>,
    runtime: Arc<Runtime>,
    /// Nothing is loaded before the runtime has begun.
    is_serving: AtomicBool,
}

impl Following {
    /// Begins to follow; what changes is served from [`Following::serve`] on.
    pub(crate) fn begin(registry: OpenRegistry, sources: Arc<Sources>, runtime: Arc<Runtime>) -> Self {
        let follower = Arc::new(Follower { sources, runtime, is_serving: AtomicBool::new(false) });
        let stop = CancellationToken::new();
        let (served, told, stopped) = (registry.served.clone(), follower.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let follow = served.follow(|name| drop(told.refresh(name.clone())));
            stopped.run_until_cancelled(follow).await;
        });
        Self { registry, follower, stop, task }
    }

    /// Waits until the models to serve are known: without paths as long as it takes, since
    /// there is nothing else to serve; else for a short time.
    pub(crate) async fn first_look(&self, has_paths: bool) {
        let mut look = self.registry.served.first_look();
        if !has_paths {
            let _ = look.wait_for(|look| *look == FirstLook::Done).await;
            return;
        }
        let answered = look.wait_for(|look| *look != FirstLook::Pending);
        if tokio::time::timeout(PATIENCE, answered).await.is_err() {
            tracing::warn!("the registry takes its time; the models of the paths are served meanwhile");
        }
    }

    /// Loads what is to be served, also where other models are loaded on request only. What is
    /// returned ends when each of them is loaded or has failed to.
    pub(crate) fn serve(&self) -> impl Future<Output = ()> + Send + use<> {
        self.follower.is_serving.store(true, Ordering::Release);
        let entries = self.registry.served.scan().into_iter();
        let loads: Vec<_> = entries.map(|entry| self.follower.refresh(entry.name)).collect();
        async move {
            for load in loads {
                let _ = load.await;
            }
        }
    }

    /// Ends, and closes the registry.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "following the registry ended early");
        }
        self.registry.registry.close().await;
    }
}

impl Follower {
    /// Has the runtime look at one model of the registry again. What a path has is left to the paths.
    /// Returns a task that ends when that is done.
    fn refresh(self: &Arc<Self>, name: ModelName) -> JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            if !this.is_serving.load(Ordering::Acquire) {
                return;
            }
            let (sources, asked) = (this.sources.clone(), name.clone());
            // Whether a path has it is written in files.
            if let Ok(false) = tokio::task::spawn_blocking(move || sources.hides(&asked)).await {
                // It ends early only where the process does.
                let _ = this.runtime.refresh(name).await;
            }
        })
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
