//! A registry of a test's own: an empty database, an empty folder of blobs, a clock set by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use salver_core::{Error, Result};
use salver_registry::names::Stage;
use salver_registry::types::{ModelVersion, RunInfo, Tag};
use salver_registry::{FileInfo, NewRun, NewVersion, Registry, Transition};
use salver_store::database::sql;
use salver_store::{Blobs, Database};
use salver_testkit::Postgres;
use tempfile::TempDir;

/// Runs each of these functions over an empty place of every kind of database.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                Box::pin(super::$name(crate::place::Place::sqlite().await)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(place) = crate::place::Place::postgres().await {
                    Box::pin(super::$name(place)).await;
                }
            })+
        }
    };
}

/// When every place begins.
pub(crate) const START: i64 = 1_000_000;
/// Numbers databases.
static NEXT: AtomicI64 = AtomicI64::new(0);
/// Who does what nobody asks after.
pub(crate) const ANN: &str = "ann";

pub(crate) struct Place {
    pub(crate) registry: Registry,
    ground: Ground,
}

/// What a registry is opened on.
pub(crate) struct Ground {
    folder: TempDir,
    url: String,
    clock: Arc<AtomicI64>,
}

impl Ground {
    fn new(url: impl FnOnce(&Path) -> String) -> Self {
        let folder = TempDir::new().unwrap();
        let url = url(folder.path());
        Self { folder, url, clock: Arc::new(AtomicI64::new(START)) }
    }

    pub(crate) fn sqlite() -> Self {
        Self::new(|folder| format!("sqlite://{}", folder.join("registry.db").display()))
    }

    /// Opens the registry, with connections of its own, as another server would.
    pub(crate) async fn open(&self) -> Result<Registry> {
        let clock = self.clock.clone();
        let now = Arc::new(move || clock.load(Ordering::SeqCst));
        Registry::open(Database::open(&self.url).await?, self.blobs(), now).await
    }

    fn blobs(&self) -> Blobs {
        Blobs::open(self.folder.path().join("blobs").to_str().unwrap()).unwrap()
    }
}

impl Place {
    pub(crate) async fn sqlite() -> Self {
        Self::on(Ground::sqlite()).await
    }

    /// None: there is no PostgreSQL here.
    pub(crate) async fn postgres() -> Option<Self> {
        let url = tokio::task::spawn_blocking(|| Some(Postgres::shared()?.database())).await.unwrap()?;
        Some(Self::on(Ground::new(|_| url)).await)
    }

    pub(crate) async fn on(ground: Ground) -> Self {
        Self { registry: ground.open().await.unwrap(), ground }
    }

    /// Another database of the same kind that nobody has opened yet. In PostgreSQL it has a language
    /// of its own: letters are not those of ASCII alone.
    pub(crate) async fn new_database(&self) -> Ground {
        let Some((server, own)) = self.ground.url.rsplit_once('/').filter(|(server, _)| server.starts_with("postgres"))
        else {
            return Ground::sqlite();
        };
        let name = format!("{own}_{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let make = format!("CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'");
        // A statement is fixed text; this one cannot have values.
        let make = sql(Box::leak(make.into_boxed_str()));
        self.database().await.read().await.unwrap().execute(make).await.unwrap();
        Ground::new(|_| format!("{server}/{name}"))
    }

    /// Opens the same registry once more, as another server would.
    pub(crate) async fn open_again(&self) -> Result<Registry> {
        self.ground.open().await
    }

    /// The rows, past the registry.
    pub(crate) async fn database(&self) -> Database {
        Database::open(&self.ground.url).await.unwrap()
    }

    pub(crate) fn blobs(&self) -> Blobs {
        self.ground.blobs()
    }

    /// Where the bytes of a blob lie.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        self.ground.folder.path().join("blobs/blobs/sha256").join(&digest[..2]).join(digest)
    }

    pub(crate) fn set_time(&self, now: i64) {
        self.ground.clock.store(now, Ordering::SeqCst);
    }

    pub(crate) async fn run(&self) -> RunInfo {
        let new = NewRun { experiment_id: "0".to_owned(), start_time: Some(1), ..NewRun::default() };
        self.registry.create_run(ANN, new).await.unwrap().info
    }

    /// A model with this many versions whose files are elsewhere.
    pub(crate) async fn model(&self, name: &str, n_versions: usize) {
        self.registry.create_model(ANN, name, "", &[]).await.unwrap();
        for _ in 0..n_versions {
            self.registry.create_version(ANN, elsewhere(name)).await.unwrap();
        }
    }
}

/// A version whose files are not in this store.
pub(crate) fn elsewhere(name: &str) -> NewVersion {
    NewVersion { name: name.to_owned(), source: "s3://bucket/model".to_owned(), ..NewVersion::default() }
}

/// A version made of `folder` below the artifacts of a run.
pub(crate) fn of_run(name: &str, run: &RunInfo, folder: &str) -> NewVersion {
    let source = format!("{}/{folder}", run.artifact_uri);
    NewVersion { name: name.to_owned(), source, run_id: Some(run.run_id.clone()), ..NewVersion::default() }
}

/// Where files of a run are in the store.
pub(crate) fn path_of(run: &RunInfo, file: &str) -> String {
    format!("{}/{file}", run.artifact_uri.strip_prefix("mlflow-artifacts:/").unwrap())
}

pub(crate) fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

/// Into `stage`, with all others out of it.
pub(crate) fn alone_in(stage: Stage) -> Transition {
    Transition { stage, archive_existing: true, replaces: None }
}

/// Into `stage`, beside the others.
pub(crate) fn into(stage: Stage) -> Transition {
    Transition { stage, archive_existing: false, replaces: None }
}

pub(crate) async fn put(registry: &Registry, path: &str, bytes: impl Into<Bytes>) -> Result<FileInfo> {
    registry.put_file(path, stream::iter([Ok::<_, Error>(bytes.into())])).await
}

pub(crate) async fn read(registry: &Registry, path: &str) -> Result<Vec<u8>> {
    let file = registry.file(path).await?;
    let pieces: Vec<Bytes> = registry.read_file(&file, None).await?.try_collect().await?;
    Ok(pieces.concat())
}

/// What makes two answers about a version one state.
pub(crate) fn numbers(versions: &[ModelVersion]) -> Vec<i64> {
    versions.iter().map(|version| version.version).collect()
}
