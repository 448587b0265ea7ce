//! A registry as files: rows as JSON lines, blobs beside them. The same for both databases, so it is
//! also the way from one to the other.
//!
//! `registry.json` is written last: a folder without it is no backup.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _};
use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Kind, Row, Session, Value, sql};
use salver_store::{Blobs, Digest, make_folder, sync_folder};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use crate::{Registry, schema};

/// What a backup says of itself.
const MANIFEST: &str = "registry.json";
/// Rows that are written together: well below the number of values that SQLite takes.
const ROWS: usize = 200;

/// What was saved or brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The step of the schema that the rows are of.
    pub schema: i64,
    /// Rows of all tables.
    pub rows: u64,
    /// Files' bytes, each kind once.
    pub blobs: u64,
    /// Their size.
    pub bytes: u64,
}

/// A table: statements cannot be made of names, so they are here as they are.
struct Table {
    name: &'static str,
    select: &'static str,
    insert: &'static str,
    columns: &'static [(&'static str, Kind)],
}

macro_rules! tables {
    ($($name:ident { $($column:ident : $kind:ident),* $(,)? })*) => {
        &[$(Table {
            name: stringify!($name),
            select: concat!("SELECT * FROM ", stringify!($name)),
            insert: concat!("INSERT INTO ", stringify!($name), tables!(@columns $($column)*), " VALUES "),
            columns: &[$((stringify!($column), Kind::$kind)),*],
        }),*]
    };
    (@columns $first:ident $($rest:ident)*) => {
        concat!(" (", stringify!($first), $(", ", stringify!($rest),)* ")")
    };
}

/// Every table, those first that others refer to; numbers that count by themselves are left out.
const TABLES: &[Table] = tables! {
    experiments { experiment_id: Int, name: Text, artifact_location: Text, lifecycle_stage: Text, creation_time: Int,
        last_update_time: Int }
    experiment_tags { experiment_id: Int, key: Text, value: Text }
    runs { run_id: Text, experiment_id: Int, run_name: Text, user_id: Text, status: Text, start_time: Int,
        end_time: Int, artifact_uri: Text, lifecycle_stage: Text }
    run_tags { run_id: Text, key: Text, value: Text }
    params { run_id: Text, key: Text, value: Text }
    metrics { run_id: Text, key: Text, timestamp: Int, step: Int, value: Real, is_nan: Int }
    latest_metrics { run_id: Text, key: Text, timestamp: Int, step: Int, value: Real, is_nan: Int }
    datasets { experiment_id: Int, name: Text, digest: Text, source_type: Text, source: Text, schema: Text,
        profile: Text }
    dataset_inputs { run_id: Text, experiment_id: Int, name: Text, digest: Text }
    dataset_input_tags { run_id: Text, name: Text, digest: Text, key: Text, value: Text }
    run_models { run_id: Text, model_id: Text, direction: Text, step: Int }
    logged_models { model_id: Text, experiment_id: Int, name: Text, artifact_uri: Text, status: Text,
        model_type: Text, source_run_id: Text, creation_time: Int, last_update_time: Int, lifecycle_stage: Text }
    logged_model_tags { model_id: Text, key: Text, value: Text }
    logged_model_params { model_id: Text, key: Text, value: Text }
    logged_model_metrics { model_id: Text, key: Text, timestamp: Int, step: Int, run_id: Text, value: Real,
        is_nan: Int, dataset_name: Text, dataset_digest: Text }
    registered_models { name: Text, creation_time: Int, last_update_time: Int, description: Text, user_id: Text,
        newest_version: Int }
    registered_model_tags { name: Text, key: Text, value: Text }
    model_versions { name: Text, version: Int, creation_time: Int, last_update_time: Int, description: Text,
        user_id: Text, stage: Text, source: Text, location: Text, run_id: Text, run_link: Text, model_id: Text,
        digest: Text, size: Int, signature: Text }
    model_version_files { name: Text, version: Int, path: Text, digest: Text, size: Int }
    model_version_tags { name: Text, version: Int, key: Text, value: Text }
    model_aliases { name: Text, alias: Text, version: Int }
    stage_times { name: Text, version: Int, stage: Text, since: Int, until: Int, who: Text }
    artifacts { path: Text, digest: Text, size: Int, written: Int }
    audit { time: Int, who: Text, what: Text, subject: Text, before: Text, after: Text }
};

impl Table {
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join("tables").join(format!("{}.jsonl", self.name))
    }
}

impl Registry {
    /// Writes everything there is at this moment into a new folder.
    ///
    /// # Errors
    /// `Conflict` for a folder that is not empty; those of disk, database and store.
    pub async fn backup(&self, folder: &Path) -> Result<Saved> {
        if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!("'{}' is not empty; name a new folder", folder.display());
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        let tables = folder.join("tables");
        make_folder(folder).and_then(|()| make_folder(&tables)).map_err(|error| unusable(folder, error))?;
        let mut saved = Saved { schema: schema::HISTORY.len() as i64, ..Saved::default() };
        // One moment for all tables.
        let mut session = self.database.snapshot().await?;
        for table in TABLES {
            saved.rows += write_table(&mut session, table, &table.file(folder)).await?;
        }
        let statement = sql("SELECT digest FROM artifacts UNION SELECT digest FROM model_version_files");
        let digests = session.all(statement).await?;
        drop(session);
        let copies = Blobs::open(text(folder)?)?;
        for row in digests {
            let digest = digest(&row)?;
            saved.bytes += copy(&self.blobs, &copies, &digest).await?;
            saved.blobs += 1;
        }
        let manifest = serde_json::to_vec_pretty(&saved).unwrap_or_default();
        write_manifest(folder, &tables, &manifest).map_err(|error| unusable(folder, error))?;
        Ok(saved)
    }

    /// Brings back what [`Registry::backup`] wrote, into a registry that has nothing yet.
    ///
    /// # Errors
    /// `Conflict` for a registry that has something; `NotFound` for a folder that is no backup;
    /// `Unsupported` for one of a newer program.
    pub async fn restore(&self, folder: &Path) -> Result<Saved> {
        let manifest = std::fs::read(folder.join(MANIFEST)).map_err(|_| {
            Error::not_found(format!("'{}' holds no complete backup: {MANIFEST} is not there", folder.display()))
        })?;
        let saved: Saved = serde_json::from_slice(&manifest)
            .map_err(|error| Error::invalid_input(format!("{MANIFEST} of the backup is damaged: {error}")))?;
        if saved.schema > schema::HISTORY.len() as i64 {
            return Err(Error::unsupported(
                "the backup was written by a newer Salver; use that version or a newer one",
            ));
        }
        let copies = Blobs::open(text(folder)?)?;
        let (mut blobs, mut n_blobs) = (copies.list(), 0);
        while let Some(blob) = blobs.try_next().await? {
            copy(&copies, &self.blobs, &blob.digest).await?;
            n_blobs += 1;
        }
        check_count(folder, "files", n_blobs, saved.blobs)?;
        let mut session = self.database.write().await?;
        refuse_unless_empty(&mut session).await?;
        session.execute(sql("DELETE FROM experiments")).await?;
        let mut n_rows = 0;
        for table in TABLES {
            n_rows += read_table(&mut session, table, &table.file(folder)).await?;
        }
        check_count(folder, "rows", n_rows, saved.rows)?;
        let counters = "UPDATE counters SET value = (SELECT COALESCE(MAX(experiment_id), 0) FROM experiments) \
                        WHERE name = 'experiment'";
        session.execute(sql(counters)).await?;
        self.commit_change(session).await?;
        Ok(saved)
    }
}

fn check_count(folder: &Path, what: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let folder = folder.display();
    Err(Error::invalid_input(format!("the backup in '{folder}' is damaged: expected {expected} {what}, found {found}")))
}

async fn refuse_unless_empty(session: &mut Session) -> Result<()> {
    let statement = sql("SELECT (SELECT COUNT(*) FROM runs) + (SELECT COUNT(*) FROM registered_models) \
                         + (SELECT COUNT(*) FROM artifacts) + (SELECT COUNT(*) FROM experiments) AS things");
    let things = session.first(statement).await?.map_or(Ok(0), |row| row.int("things"))?;
    // The experiment that is always there.
    if things > 1 {
        let text = "the registry has something already; restore into an empty one (another --data or --database)";
        return Err(Error::new(ErrorKind::Conflict, text));
    }
    Ok(())
}

async fn write_table(session: &mut Session, table: &Table, file: &Path) -> Result<u64> {
    let created = tokio::fs::File::create(file).await.map_err(|error| unusable(file, error))?;
    let mut out = tokio::io::BufWriter::new(created);
    let mut count = 0;
    let mut rows = session.stream(sql(table.select));
    while let Some(row) = rows.next().await {
        let row = row?;
        let cells = table.columns.iter().map(|(column, kind)| Ok(json(row.value(column, *kind)?)));
        let mut line = Json::Array(cells.collect::<Result<_>>()?).to_string();
        line.push('\n');
        out.write_all(line.as_bytes()).await.map_err(|error| unusable(file, error))?;
        count += 1;
    }
    let synced = match out.flush().await {
        Ok(()) => out.get_ref().sync_all().await,
        failed => failed,
    };
    synced.map_err(|error| unusable(file, error))?;
    Ok(count)
}

/// A backup is complete where it has a manifest, so that comes last, whole, and after all else is on
/// the disk.
fn write_manifest(folder: &Path, tables: &Path, manifest: &[u8]) -> std::io::Result<()> {
    let part = folder.join(format!("{MANIFEST}.part"));
    let mut file = std::fs::File::create(&part)?;
    file.write_all(manifest)?;
    file.sync_all()?;
    sync_folder(tables)?;
    std::fs::rename(&part, folder.join(MANIFEST))?;
    sync_folder(folder)
}

/// Returns how many rows there were.
async fn read_table(session: &mut Session, table: &Table, file: &Path) -> Result<u64> {
    let opened = tokio::fs::File::open(file).await.map_err(|error| unusable(file, error))?;
    let mut lines = tokio::io::BufReader::new(opened).lines();
    let mut rows: Vec<Vec<Value>> = Vec::with_capacity(ROWS);
    let mut count = 0;
    loop {
        let line = lines.next_line().await.map_err(|error| unusable(file, error))?;
        if (line.is_none() || rows.len() == ROWS) && !rows.is_empty() {
            session.execute(sql(table.insert).rows(std::mem::take(&mut rows))).await?;
        }
        let Some(line) = line else {
            return Ok(count);
        };
        count += 1;
        let damaged = || Error::invalid_input(format!("'{}' of the backup is damaged", file.display()));
        let cells: Vec<Json> = serde_json::from_str(&line).map_err(|_| damaged())?;
        if cells.len() != table.columns.len() {
            return Err(damaged());
        }
        let values =
            cells.into_iter().zip(table.columns).map(|(cell, (_, kind))| value(cell, *kind).ok_or_else(damaged));
        rows.push(values.collect::<Result<_>>()?);
    }
}

/// Numbers go as text where JSON would round them.
fn json(value: Value) -> Json {
    match value {
        Value::Int(value) => value.map_or(Json::Null, Json::from),
        Value::Real(value) => Json::String(format!("{value:?}")),
        Value::Text(value) => value.map_or(Json::Null, |text| Json::String(text.to_string())),
        // No column of the registry holds bytes: `Kind` has none.
        Value::Blob(_) => Json::Null,
    }
}

fn value(cell: Json, kind: Kind) -> Option<Value> {
    match (kind, cell) {
        (Kind::Int, Json::Null) => Some(Value::Int(None)),
        (Kind::Int, Json::Number(number)) => Some(Value::Int(Some(number.as_i64()?))),
        (Kind::Real, Json::String(text)) => Some(Value::Real(text.parse().ok()?)),
        (Kind::Text, Json::Null) => Some(Value::Text(None)),
        (Kind::Text, Json::String(text)) => Some(Value::from(text)),
        _ => None,
    }
}

async fn copy(from: &Blobs, to: &Blobs, digest: &Digest) -> Result<u64> {
    let (size, bytes) = from.get(digest, None).await?;
    let put = to.put(bytes).await?;
    match put.digest == *digest {
        true => Ok(size),
        false => Err(Error::engine(format!("blob {digest} is damaged: its bytes have digest {}", put.digest))),
    }
}

fn digest(row: &Row) -> Result<Digest> {
    row.text("digest")?.parse().map_err(|_| Error::engine("a digest in the database is none"))
}

fn text(folder: &Path) -> Result<&str> {
    folder.to_str().ok_or_else(|| Error::invalid_input("the folder's name is not UTF-8"))
}

fn unusable(file: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull => ErrorKind::Full,
        _ => ErrorKind::InvalidInput,
    };
    Error::new(kind, format!("'{}' cannot be used: {error}", file.display())).with_source(error)
}
