//! Keys and values that belong to something: tags and parameters. All their tables look alike.

use std::collections::HashMap;

use salver_core::Result;
use salver_store::database::{Session, Sql, Value, sql};

use crate::names;
use crate::types::Tag;

/// Owners in one statement: well below the number of values that SQLite takes.
pub(crate) const CHUNK: usize = 500;

/// Statements of one table of keys and values whose owner is one column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tags {
    /// `INSERT … VALUES `, to be followed by rows of owner, key and value.
    insert: &'static str,
    /// What follows them where a key may be there.
    replace: &'static str,
    /// Selects the value of one key of one owner.
    find: &'static str,
    /// Deletes one key of one owner, and returns its value.
    delete: &'static str,
    /// Selects owner, key and value, up to the list of owners.
    select: &'static str,
}

macro_rules! table {
    ($name:literal, $owner:literal) => {
        Tags {
            insert: concat!("INSERT INTO ", $name, " (", $owner, ", key, value) VALUES "),
            replace: concat!(" ON CONFLICT (", $owner, ", key) DO UPDATE SET value = excluded.value"),
            find: concat!("SELECT value FROM ", $name, " WHERE ", $owner, " = ? AND key = ?"),
            delete: concat!("DELETE FROM ", $name, " WHERE ", $owner, " = ? AND key = ? RETURNING value"),
            select: concat!("SELECT ", $owner, " AS owner, key, value FROM ", $name, " WHERE ", $owner, " IN "),
        }
    };
}

pub(crate) const EXPERIMENT_TAGS: Tags = table!("experiment_tags", "experiment_id");
pub(crate) const RUN_TAGS: Tags = table!("run_tags", "run_id");
pub(crate) const PARAMS: Tags = table!("params", "run_id");
pub(crate) const MODEL_TAGS: Tags = table!("registered_model_tags", "name");
pub(crate) const LOGGED_TAGS: Tags = table!("logged_model_tags", "model_id");
pub(crate) const LOGGED_PARAMS: Tags = table!("logged_model_params", "model_id");

impl Tags {
    /// Sets keys of one owner; the last of several with one key counts.
    pub(crate) async fn set(self, session: &mut Session, owner: impl Into<Value>, tags: &[Tag]) -> Result<()> {
        if tags.is_empty() {
            return Ok(());
        }
        let owner = owner.into();
        let rows = distinct(tags).into_iter().map(|tag| [owner.clone(), (&tag.key).into(), (&tag.value).into()]);
        session.execute(sql(self.insert).rows(rows).then(self.replace)).await.map(drop)
    }

    /// Returns one tag.
    pub(crate) async fn find(self, session: &mut Session, owner: impl Into<Value>, key: &str) -> Result<Option<Tag>> {
        one(session, sql(self.find).bind(owner).bind(key), key).await
    }

    /// Deletes a tag and returns it; none: it was not there.
    pub(crate) async fn delete(self, session: &mut Session, owner: impl Into<Value>, key: &str) -> Result<Option<Tag>> {
        one(session, sql(self.delete).bind(owner).bind(key), key).await
    }

    /// Returns the tags of each owner, by key.
    pub(crate) async fn of_texts(self, session: &mut Session, owners: &[&str]) -> Result<HashMap<String, Vec<Tag>>> {
        let mut found: HashMap<String, Vec<Tag>> = HashMap::new();
        for owners in owners.chunks(CHUNK) {
            let statement = sql(self.select).list(owners.iter().copied()).then(" ORDER BY key");
            for row in session.all(statement).await? {
                let tag = Tag { key: row.text("key")?, value: row.text("value")? };
                found.entry(row.text("owner")?).or_default().push(tag);
            }
        }
        Ok(found)
    }

    /// Returns the tags of each owner that has a number, by key.
    pub(crate) async fn of_numbers(self, session: &mut Session, owners: &[i64]) -> Result<HashMap<i64, Vec<Tag>>> {
        let mut found: HashMap<i64, Vec<Tag>> = HashMap::new();
        for owners in owners.chunks(CHUNK) {
            let statement = sql(self.select).list(owners.iter().copied()).then(" ORDER BY key");
            for row in session.all(statement).await? {
                let tag = Tag { key: row.text("key")?, value: row.text("value")? };
                found.entry(row.int("owner")?).or_default().push(tag);
            }
        }
        Ok(found)
    }
}

/// Runs a statement that returns the value of one key.
pub(crate) async fn one(session: &mut Session, statement: Sql, key: &str) -> Result<Option<Tag>> {
    let row = session.first(statement).await?;
    row.map(|row| Ok(Tag { key: key.to_owned(), value: row.text("value")? })).transpose()
}

/// Leaves the last of each key.
pub(crate) fn distinct(tags: &[Tag]) -> Vec<&Tag> {
    let last: HashMap<&str, usize> = tags.iter().enumerate().map(|(idx, tag)| (tag.key.as_str(), idx)).collect();
    tags.iter().enumerate().filter(|(idx, tag)| last[tag.key.as_str()] == *idx).map(|(_, tag)| tag).collect()
}

/// Checks the keys of tags of experiments, runs and logged models.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check(tags: &[Tag]) -> Result<()> {
    tags.iter().try_for_each(|tag| names::tag_key(&tag.key))
}

/// Checks that keys are there and not too long.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check_lengths(tags: &[Tag]) -> Result<()> {
    match tags.iter().find(|tag| tag.key.is_empty() || tag.key.chars().count() > names::MAX_KEY) {
        Some(tag) => names::tag_key(&tag.key),
        None => Ok(()),
    }
}
