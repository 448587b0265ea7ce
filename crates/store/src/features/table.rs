//! Rows in PostgreSQL: a table with a column of keys.
//!
//! Every column is asked for as its text, so that one reader knows the values of both stores, and no
//! change of a column's type upsets a prepared statement. Names in the statement were checked to be
//! letters, digits and `_`, and are quoted; keys are parameters.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use salver_core::{DataType, Error, ErrorKind, FeatureSpec, FeaturesSpec, KeyType, Result};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::answer::Row;
use super::connections::Connections;
use super::key::{Key, shown};
use super::value::MAX_FIELD_BYTES;

/// When to ask again while a store is away.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Codes for a database that starts, stops, takes nobody in, or knows somebody else by this name.
const AWAY: [&str; 4] = ["57P01", "57P02", "57P03", "53300"];
/// The code for a statement that took too long.
const TOO_LONG: &str = "57014";

/// The table of one model.
pub(super) struct Table {
    connections: Arc<Connections>,
    store: String,
    statement: Arc<str>,
    key_type: KeyType,
    n_features: usize,
    timeout: Duration,
}

impl Table {
    pub(super) fn new(
        connections: Arc<Connections>,
        schema: Option<&str>,
        table: &str,
        key_column: &str,
        spec: &FeaturesSpec,
    ) -> Self {
        Self {
            connections,
            store: spec.store.to_string(),
            statement: statement(schema, table, key_column, spec.key_type, &spec.features).into(),
            key_type: spec.key_type,
            n_features: spec.features.len(),
            timeout: spec.timeout,
        }
    }

    /// Reads the rows of `keys`, in one round trip.
    pub(super) async fn fetch(&self, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let texts = match self.key_type {
            KeyType::Int64 => Vec::new(),
            KeyType::Text => keys.iter().map(text).collect::<Result<_>>()?,
        };
        let found = match self.ask(keys, &texts, true).await {
            // The connection was lost since the last request, or the database was started again.
            Err(error) if is_lost(&error) => self.ask(keys, &texts, false).await,
            found => found,
        };
        self.in_order(keys, found.map_err(|error| self.failed(error))?)
    }

    async fn ask(&self, keys: &[Key], texts: &[&str], may_reuse: bool) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut lease = self.connections.lease(self.timeout, may_reuse).await?;
        let query = sqlx::query(AssertSqlSafe(self.statement.clone()));
        let query = match self.key_type {
            KeyType::Int64 => query.bind(numbers(keys)),
            KeyType::Text => query.bind(texts),
        };
        // One more than there should be shows that a key has several.
        let limit = i64::try_from(keys.len()).unwrap_or(i64::MAX - 1) + 1;
        let rows = query.bind(limit).fetch_all(lease.connection()).await;
        match &rows {
            Err(error) if error.as_database_error().is_none() || is_lost(error) => {}
            Ok(_) | Err(_) => lease.give_back(),
        }
        rows
    }

    fn in_order(&self, keys: &[Key], found: Vec<PgRow>) -> Result<Vec<Option<Row>>> {
        let mut rows: Vec<Option<Row>> = vec![None; keys.len()];
        for row in found {
            let place: i64 = row.try_get(0).map_err(|error| self.failed(error))?;
            let idx = usize::try_from(place - 1).unwrap_or(usize::MAX);
            let (Some(slot), Some(key)) = (rows.get_mut(idx), keys.get(idx)) else {
                return Err(Error::engine(format!("the feature store '{}' answers what was not asked", self.store)));
            };
            if slot.is_some() {
                return Err(Error::engine(format!(
                    "the feature store '{}' has several rows for key {key}: expected one; make the column of keys unique",
                    self.store
                )));
            }
            *slot = Some(self.row(&row)?);
        }
        Ok(rows)
    }

    fn row(&self, row: &PgRow) -> Result<Row> {
        let field = |idx| {
            let text: Option<String> = row.try_get(idx).map_err(|error| self.failed(error))?;
            Ok(text.map(|text| Bytes::from(text.into_bytes())))
        };
        (1..=self.n_features).map(field).collect()
    }

    fn failed(&self, error: sqlx::Error) -> Error {
        let store = &self.store;
        let Some(database) = error.as_database_error() else {
            return self.away(error);
        };
        let code = database.code().unwrap_or_default().into_owned();
        if code == TOO_LONG {
            let text = format!("the feature store '{store}' did not answer within {} ms", self.timeout.as_millis());
            return Error::new(ErrorKind::Deadline, text);
        }
        // Of class 28 and 3D: it does not let us in, or there is no such database.
        if AWAY.contains(&&*code) || code.starts_with("28") || code.starts_with("3D") {
            return self.away(error);
        }
        let message = shown(database.message().as_bytes(), 200);
        Error::engine(format!("the feature store '{store}' refused the lookup: {message} (SQLSTATE {code})"))
            .with_source(error)
    }

    fn away(&self, error: sqlx::Error) -> Error {
        Error::not_ready(format!("the feature store '{}' cannot be reached; try again shortly", self.store))
            .with_retry_after(RETRY_AFTER)
            .with_source(error)
    }
}

/// Text in PostgreSQL is UTF-8 without NUL.
fn text(key: &Key) -> Result<&str> {
    let Key::Text(bytes) = key else {
        return Ok("");
    };
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| Error::invalid_input(format!("key {key}: expected text in UTF-8 without a NUL")))
}

fn numbers(keys: &[Key]) -> Vec<i64> {
    let number = |key: &Key| match key {
        Key::Number(number) => Some(*number),
        Key::Text(_) => None,
    };
    keys.iter().filter_map(number).collect()
}

fn is_lost(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(database) => database.code().is_some_and(|code| AWAY[..2].contains(&&*code)),
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)),
    }
}

/// Rows come with the place of their key, from 1, so that nobody has to compare keys again.
fn statement(
    schema: Option<&str>,
    table: &str,
    key_column: &str,
    key_type: KeyType,
    features: &[FeatureSpec],
) -> String {
    let mut sql = "SELECT k.n".to_owned();
    for feature in features {
        let column = format!("t.\"{}\"", feature.field);
        let text = match (feature.dtype, feature.size) {
            // Commas and quotes in texts are JSON's business.
            (DataType::Bytes, 2..) => format!("to_json({column})::text"),
            _ => format!("{column}::text"),
        };
        // Writing into a String cannot fail.
        let _ = write!(sql, ", left({text}, {})", MAX_FIELD_BYTES + 1);
    }
    let keys = match key_type {
        KeyType::Int64 => "bigint[]",
        KeyType::Text => "text[]",
    };
    let schema = schema.map(|schema| format!("\"{schema}\".")).unwrap_or_default();
    let _ = write!(
        sql,
        " FROM unnest($1::{keys}) WITH ORDINALITY AS k(key, n) JOIN {schema}\"{table}\" AS t ON t.\"{key_column}\" = \
         k.key LIMIT $2"
    );
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(field: &str, dtype: DataType, size: usize) -> FeatureSpec {
        FeatureSpec { name: "f".into(), field: field.to_owned(), dtype, size, is_packed: false, default: None }
    }

    #[test]
    fn names_are_quoted_and_keys_are_parameters() {
        let features = [feature("age", DataType::Fp32, 1), feature("tags", DataType::Bytes, 2)];
        let sql = statement(Some("shop"), "users", "id", KeyType::Int64, &features);
        assert_eq!(
            sql,
            "SELECT k.n, left(t.\"age\"::text, 1048577), left(to_json(t.\"tags\")::text, 1048577) FROM \
             unnest($1::bigint[]) WITH ORDINALITY AS k(key, n) JOIN \"shop\".\"users\" AS t ON t.\"id\" = k.key LIMIT $2"
        );
        let sql = statement(None, "users", "id", KeyType::Text, &features);
        assert!(sql.contains("unnest($1::text[])") && sql.contains("JOIN \"users\""), "{sql}");
    }
}
