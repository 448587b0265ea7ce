//! Where the blobs lie, and under which keys.
//!
//! The URL is read once, here. It holds no credentials: those come from the environment, and no
//! message repeats them.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use percent_encoding::percent_decode_str;
use salver_core::{Error, Result};
use uuid::Uuid;

use super::digest::Digest;
use super::errors::{self, elsewhere};
use crate::make_folder;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long nothing may come; a whole reply may take any time.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
const MAX_RETRIES: usize = 4;
const RETRY_LIMIT: Duration = Duration::from_secs(60);
const NOTE: &str = "multipart";

/// A folder or a bucket.
pub(super) struct Backend {
    pub(super) place: Place,
    /// Before every key.
    prefix: Path,
}

/// The folders of blobs, by the first byte of the digest: those that this process knows to last.
pub(super) struct Shards([AtomicBool; 256]);

pub(super) enum Place {
    Folder { store: LocalFileSystem, root: PathBuf, shards: Box<Shards> },
    Bucket { store: Box<AmazonS3>, name: String },
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Folder { root, .. } => write!(f, "{}", root.display()),
            Place::Bucket { name, .. } => write!(f, "s3://{name}/{}", self.prefix),
        }
    }
}

impl Backend {
    pub(super) fn open(url: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            return open_bucket(bucket, prefix, environment);
        }
        let folder = match url.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => {
                percent_decode_str(path).decode_utf8().map_err(|_| refused())?.into_owned()
            }
            None if !url.is_empty() && !url.contains("://") => url.to_owned(),
            _ => return Err(refused()),
        };
        open_folder(folder.into())
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        match &self.place {
            Place::Folder { store, .. } => store,
            Place::Bucket { store, .. } => &**store,
        }
    }

    /// Returns the bucket; none: it is a folder.
    pub(super) fn bucket(&self) -> Option<&AmazonS3> {
        match &self.place {
            Place::Folder { .. } => None,
            Place::Bucket { store, .. } => Some(store),
        }
    }

    pub(super) fn failed(&self, doing: impl fmt::Display, error: object_store::Error) -> Error {
        errors::failed(self, doing, error)
    }

    pub(super) fn blobs(&self) -> Path {
        self.prefix.clone().join("blobs").join("sha256")
    }

    pub(super) fn blob(&self, digest: &Digest) -> Path {
        let name = digest.to_string();
        self.blobs().join(&name[..2]).join(name)
    }

    /// Returns the digest whose blob lies at `key`; none: something else does.
    pub(super) fn digest_of(&self, key: &Path) -> Option<Digest> {
        let digest = key.filename()?.parse().ok()?;
        (self.blob(&digest) == *key).then_some(digest)
    }

    /// Makes room for a blob: a name in a folder lasts only as long as the folder's own.
    ///
    /// `object_store` syncs the folders that it makes itself, but two that put at once meet a folder
    /// that the other has made and not synced yet.
    pub(super) async fn prepare(&self, digest: &Digest) -> Result<()> {
        let Place::Folder { root, shards, .. } = &self.place else {
            return Ok(());
        };
        let lasts = &shards.0[usize::from(digest.as_bytes()[0])];
        if !lasts.load(Ordering::Acquire) {
            let shard = root.join("blobs/sha256").join(format!("{:02x}", digest.as_bytes()[0]));
            let made = elsewhere(move || make_folder(&shard)).await?;
            made.map_err(|error| errors::local(format_args!("make room for blob {digest}"), error))?;
            lasts.store(true, Ordering::Release);
        }
        Ok(())
    }

    pub(super) fn uploads(&self) -> Path {
        self.prefix.clone().join("uploads")
    }

    pub(super) fn new_upload(&self) -> Path {
        self.uploads().join(Uuid::now_v7().to_string())
    }

    /// Returns a key for the note about an upload in parts.
    pub(super) fn new_note(&self) -> Path {
        self.uploads().join(format!("{}.{NOTE}", Uuid::now_v7()))
    }
}

pub(super) fn is_note(key: &Path) -> bool {
    key.extension() == Some(NOTE)
}

fn open_folder(folder: PathBuf) -> Result<Backend> {
    let refuse =
        |error: std::io::Error| errors::local(format_args!("open the blob folder {}", folder.display()), error);
    make_folder(&folder).map_err(refuse)?;
    let root = folder.canonicalize().map_err(refuse)?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| refuse(error.into()))?.with_fsync(true);
    let shards = Box::new(Shards([const { AtomicBool::new(false) }; 256]));
    Ok(Backend { place: Place::Folder { store, root, shards }, prefix: Path::default() })
}

fn open_bucket(bucket: &str, prefix: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Backend> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(is_name) {
        return Err(refused());
    }
    // No escapes, no queries: what stands there is the key.
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._=/".contains(&byte)) {
        return Err(refused());
    }
    let prefix = Path::parse(prefix).map_err(|_| refused())?;
    let settings: Vec<(String, String)> =
        environment.into_iter().filter(|(name, _)| name.starts_with("AWS_")).collect();
    let store = s3(bucket, &settings).map_err(|error| {
        Error::invalid_input("the AWS_… variables are not settings of an S3 store").with_source(error)
    })?;
    Ok(Backend { place: Place::Bucket { store: Box::new(store), name: bucket.to_owned() }, prefix })
}

fn s3(bucket: &str, settings: &[(String, String)]) -> object_store::Result<AmazonS3> {
    // The HTTP client takes the provider of the process; one that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_LIMIT)
        .with_read_timeout(SILENCE_LIMIT);
    let is_plain = |(name, value): &(String, String)| name.starts_with("AWS_ENDPOINT") && value.starts_with("http://");
    if settings.iter().any(is_plain) {
        // Without TLS there need not be certificates on this machine, and a slim image has none.
        client = client.with_no_system_certificates(true);
    }
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: MAX_RETRIES, retry_timeout: RETRY_LIMIT };
    let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
    for (name, value) in settings {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_bucket_name(bucket).build()
}

/// Does not repeat the URL: it may hold what it should not.
fn refused() -> Error {
    Error::invalid_input("the blob store's URL: expected a path, file:///PATH or s3://BUCKET[/PREFIX]")
}
