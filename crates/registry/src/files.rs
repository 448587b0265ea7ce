//! Files of runs and models: paths that lead to blobs.
//!
//! A path is a row, its bytes are a blob that never changes. Files of a registered version cannot
//! be replaced or deleted, and the version keeps a list of its own of what it is made of.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Row, Session, sql};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{Registry, names};

/// What locations in this store begin with.
pub(crate) const ARTIFACTS: &str = "mlflow-artifacts:/";
/// Held by whoever changes which files there are, or says what a version is made of: of the two, the
/// second has to see what the first did.
pub(crate) const FILES: &str = "files";
/// Paths that are looked at together.
const PAGE: i64 = 1_000;

/// A file or folder, as it stands in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name within the folder that was listed.
    pub path: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Bytes; none for folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<i64>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// Within what it belongs to.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: i64,
}

/// Returns the path in this store that a location leads to.
pub(crate) fn path_of(location: &str) -> Option<&str> {
    location.strip_prefix(ARTIFACTS).map(|path| path.trim_matches('/'))
}

/// What sorts behind every path below `folder`: '0' follows '/' in the order of bytes.
fn below(folder: &str) -> [String; 2] {
    [format!("{folder}/"), format!("{folder}0")]
}

/// The path itself and all folders that it is in.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(idx, _)| &path[..idx]).chain([path])
}

impl Registry {
    /// Streams a file in; it is there once all of it is, and replaces what was there.
    ///
    /// # Errors
    /// `InvalidInput` for a path that leaves its place or is a folder; `Conflict` where a registered
    /// version is made of other bytes; those of the stream and the store.
    pub async fn put_file<S, E>(&self, path: &str, bytes: S) -> Result<FileInfo>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = names::artifact_path(path)?;
        let blob = self.blobs.put(bytes).await?;
        let (digest, size) = (blob.digest.to_string(), blob.size.cast_signed());
        let mut session = self.database.write().await?;
        session.hold(FILES).await?;
        // Cleared away between the put and now: rare, and the collector does so under the same hold.
        if !self.blobs.exists(&blob.digest).await? {
            return Err(Error::not_ready("the bytes were cleared away before they had a name; send them again")
                .with_retry_after(Duration::from_secs(1)));
        }
        self.make_way(&mut session, &path, &digest).await?;
        let statement = sql("INSERT INTO artifacts VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE \
                             SET digest = excluded.digest, size = excluded.size, written = excluded.written")
        .bind(&path)
        .bind(&digest)
        .bind(size)
        .bind(self.now());
        session.execute(statement).await?;
        session.commit().await?;
        Ok(FileInfo { path, digest, size })
    }

    /// Refuses a file where a folder is, below a file, or in the place of a registered one.
    async fn make_way(&self, session: &mut Session, path: &str, digest: &str) -> Result<()> {
        let statement = sql("SELECT path FROM artifacts WHERE path >= ? AND path < ? LIMIT 1").bind_all(below(path));
        if session.first(statement).await?.is_some() {
            return Err(Error::invalid_input(format!("Invalid path: '{path}' is a folder")));
        }
        let above = ancestors(path).filter(|above| *above != path);
        let statement = sql("SELECT path FROM artifacts WHERE path IN ").list(above).then(" LIMIT 1");
        if let Some(row) = session.first(statement).await? {
            return Err(Error::invalid_input(format!("Invalid path: '{}' is a file", row.text("path")?)));
        }
        let known = session.first(sql("SELECT digest FROM artifacts WHERE path = ?").bind(path)).await?;
        match known.map(|row| row.text("digest")).transpose()? {
            Some(known) if known != digest => refuse_if_registered(session, path).await,
            _ => Ok(()),
        }
    }

    /// Lists one level of a folder, by name; nothing for what is no folder.
    ///
    /// # Errors
    /// `InvalidInput` for a path that leaves its place; those of the database.
    pub async fn list_files(&self, folder: Option<&str>) -> Result<Vec<Listed>> {
        let folder = folder.map(str::trim).filter(|folder| !folder.is_empty()).map(names::artifact_path).transpose()?;
        let prefix = folder.map(|folder| format!("{folder}/")).unwrap_or_default();
        let mut session = self.database.read().await?;
        let (mut from, mut listed) = (prefix.clone(), Vec::new());
        loop {
            let statement = sql("SELECT path, size FROM artifacts WHERE path >= ? ORDER BY path LIMIT ?");
            let rows = session.all(statement.bind(&from).bind(PAGE)).await?;
            let (count, mut last_folder) = (rows.len(), None);
            for row in rows {
                let path = row.text("path")?;
                let Some(rest) = path.strip_prefix(&prefix) else {
                    return Ok(listed);
                };
                match rest.split_once('/') {
                    None => {
                        listed.push(Listed { path: rest.to_owned(), is_dir: false, file_size: Some(row.int("size")?) });
                        last_folder = None;
                    }
                    Some((name, _)) if last_folder.as_deref() == Some(name) => {}
                    Some((name, _)) => {
                        listed.push(Listed { path: name.to_owned(), is_dir: true, file_size: None });
                        last_folder = Some(name.to_owned());
                    }
                }
                from = path;
            }
            if (count as i64) < PAGE {
                return Ok(listed);
            }
            // A folder with many files below it is passed in one step.
            from = match last_folder {
                Some(name) => format!("{prefix}{name}0"),
                // No path has a control character, and PostgreSQL takes no NUL.
                None => format!("{from}\u{1}"),
            };
        }
    }

    /// Returns what a path leads to.
    ///
    /// # Errors
    /// `NotFound` for nothing; `InvalidInput` for a folder, or a path that leaves its place.
    pub async fn file(&self, path: &str) -> Result<FileInfo> {
        let path = names::artifact_path(path)?;
        let mut session = self.database.read().await?;
        let statement = sql("SELECT digest, size FROM artifacts WHERE path = ?").bind(&path);
        if let Some(row) = session.first(statement).await? {
            return Ok(FileInfo { digest: row.text("digest")?, size: row.int("size")?, path });
        }
        let statement = sql("SELECT path FROM artifacts WHERE path >= ? AND path < ? LIMIT 1").bind_all(below(&path));
        Err(match session.first(statement).await? {
            Some(_) => Error::invalid_input(format!("'{path}' is a folder, expected a file")),
            None => Error::not_found(format!("No such artifact: '{path}'")),
        })
    }

    /// Streams a file's bytes, or a range of them.
    ///
    /// # Errors
    /// `NotFound` where the blob is gone; those of the store.
    pub async fn read_file(
        &self,
        file: &FileInfo,
        range: Option<Range<u64>>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let digest = file.digest.parse().map_err(|_| Error::engine("a digest in the database is none"))?;
        Ok(self.blobs.get(&digest, range).await?.1)
    }

    /// Deletes a file, or a folder with all there is below it; nothing is fine too.
    ///
    /// # Errors
    /// `Conflict` where a registered version is made of it; `InvalidInput` for a path that leaves its
    /// place.
    pub async fn delete_files(&self, path: &str) -> Result<()> {
        let path = names::artifact_path(path)?;
        let mut session = self.database.write().await?;
        session.hold(FILES).await?;
        refuse_if_registered(&mut session, &path).await?;
        let [from, to] = below(&format!("{ARTIFACTS}{path}"));
        let statement = sql("SELECT name, version FROM model_versions WHERE location >= ? AND location < ? LIMIT 1");
        if let Some(row) = session.first(statement.bind(&from).bind(&to)).await? {
            return Err(registered(&path, &row.text("name")?, row.int("version")?));
        }
        let [from, to] = below(&path);
        let statement = sql("DELETE FROM artifacts WHERE path = ? OR (path >= ? AND path < ?)");
        session.execute(statement.bind(&path).bind(&from).bind(&to)).await?;
        session.commit().await
    }

    /// Returns the files that a version is made of.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn version_files(&self, name: &str, version: i64) -> Result<Vec<FileInfo>> {
        let mut session = self.database.read().await?;
        crate::models::read_version(&mut session, name, version).await?;
        read_files(&mut session, name, version).await
    }
}

fn registered(path: &str, name: &str, version: i64) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("'{path}' belongs to version {version} of registered model '{name}', whose files never change"),
    )
}

async fn refuse_if_registered(session: &mut Session, path: &str) -> Result<()> {
    let locations = ancestors(path).map(|path| format!("{ARTIFACTS}{path}"));
    let statement = sql("SELECT name, version FROM model_versions WHERE location IN ").list(locations).then(" LIMIT 1");
    match session.first(statement).await? {
        Some(row) => Err(registered(path, &row.text("name")?, row.int("version")?)),
        None => Ok(()),
    }
}

pub(crate) async fn read_files(session: &mut Session, name: &str, version: i64) -> Result<Vec<FileInfo>> {
    let statement =
        sql("SELECT path, digest, size FROM model_version_files WHERE name = ? AND version = ? ORDER BY path");
    let rows = session.all(statement.bind(name).bind(version)).await?;
    rows.iter()
        .map(|row| Ok(FileInfo { path: row.text("path")?, digest: row.text("digest")?, size: row.int("size")? }))
        .collect()
}

/// Returns the files in a folder of this store, by path.
pub(crate) async fn files_in(session: &mut Session, folder: &str) -> Result<Vec<FileInfo>> {
    let prefix = format!("{folder}/").len();
    let statement = sql("SELECT path, digest, size FROM artifacts WHERE path >= ? AND path < ? ORDER BY path");
    let rows = session.all(statement.bind_all(below(folder))).await?;
    let file = |row: &Row| {
        let path = row.text("path")?.split_off(prefix);
        Ok(FileInfo { path, digest: row.text("digest")?, size: row.int("size")? })
    };
    rows.iter().map(file).collect()
}

/// Notes what a new version is made of, where its files are in this store; returns their digest.
pub(crate) async fn freeze(session: &mut Session, name: &str, version: i64, location: &str) -> Result<Option<String>> {
    let Some(folder) = path_of(location) else {
        return Ok(None);
    };
    let [from, to] = below(folder);
    let prefix = (from.chars().count() + 1) as i64;
    let statement = sql("INSERT INTO model_version_files (name, version, path, digest, size) \
                         SELECT ?, ?, SUBSTR(path, CAST(? AS INTEGER)), digest, size FROM artifacts WHERE path >= ? AND path < ?")
    .bind(name)
    .bind(version)
    .bind(prefix)
    .bind_all([&from, &to]);
    session.execute(statement).await?;
    let files = read_files(session, name, version).await?;
    if files.is_empty() {
        return Ok(None);
    }
    let size: i64 = files.iter().map(|file| file.size).sum();
    let digest = digest_of(&files);
    let statement = sql("UPDATE model_versions SET digest = ?, size = ? WHERE name = ? AND version = ?")
        .bind(&digest)
        .bind(size)
        .bind(name)
        .bind(version);
    session.execute(statement).await?;
    Ok(Some(digest))
}

/// SHA-256 over paths and digests, by path: equal for the same files wherever they are.
pub(crate) fn digest_of(files: &[FileInfo]) -> String {
    let mut hash = Sha256::new();
    let sorted: BTreeSet<(&str, &str)> = files.iter().map(|file| (file.path.as_str(), file.digest.as_str())).collect();
    for (path, digest) in sorted {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update(digest);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
