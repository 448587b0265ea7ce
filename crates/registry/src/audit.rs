//! Who changed what, when, from what, to what.

use salver_core::Result;
use salver_store::database::{Row, Session, sql};
use serde::Serialize;
use serde_json::Value;

use crate::Registry;

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditEntry {
    /// Ascends with time.
    pub id: i64,
    /// Milliseconds since 1970.
    pub time: i64,
    /// Who made it, as far as that is known.
    pub who: String,
    /// What was done, such as `version.stage`.
    pub what: String,
    /// What it was done to, such as `model/iris/3`.
    pub subject: String,
    /// What was there; none: nothing.
    pub before: Option<Value>,
    /// What is there now; none: nothing.
    pub after: Option<Value>,
}

/// A change on its way into the log.
pub(crate) struct Change<'a> {
    pub(crate) time: i64,
    pub(crate) who: &'a str,
    pub(crate) what: &'static str,
    pub(crate) subject: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl Change<'_> {
    /// Writes the entry; it is kept if the transaction is.
    pub(crate) async fn note(self, session: &mut Session) -> Result<()> {
        let text = |value: Option<Value>| value.map(|value| value.to_string());
        let statement = sql("INSERT INTO audit (time, who, what, subject, before, after) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(self.time)
            .bind(self.who)
            .bind(self.what)
            .bind(self.subject)
            .bind(&text(self.before))
            .bind(&text(self.after));
        session.execute(statement).await.map(drop)
    }
}

impl Registry {
    /// Returns the changes of one subject and of what belongs to it (`model/iris`,
    /// `experiment/3`), or of all; newest first, `limit` at most.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn history(&self, subject: Option<&str>, limit: usize) -> Result<Vec<AuditEntry>> {
        let mut statement = sql("SELECT * FROM audit");
        if let Some(subject) = subject {
            // '0' follows '/' in the order of bytes.
            let (from, to) = (format!("{subject}/"), format!("{subject}0"));
            statement =
                statement.then(" WHERE subject = ? OR (subject >= ? AND subject < ?)").bind_all([subject, &from, &to]);
        }
        let statement = statement.then(" ORDER BY id DESC LIMIT ?").bind(limit as i64);
        self.database.read().await?.all(statement).await?.iter().map(entry).collect()
    }
}

fn entry(row: &Row) -> Result<AuditEntry> {
    let value = |column| Ok(row.maybe_text(column)?.and_then(|text| serde_json::from_str(&text).ok()));
    Ok(AuditEntry {
        id: row.int("id")?,
        time: row.int("time")?,
        who: row.text("who")?,
        what: row.text("what")?,
        subject: row.text("subject")?,
        before: value("before")?,
        after: value("after")?,
    })
}
