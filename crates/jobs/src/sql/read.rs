//! Answers questions. Nothing here waits for the writer.

use std::time::Duration;

use salver_core::Result;
use salver_store::Database;
use salver_store::database::{Row, Session, Sql, sql};

use super::rows::{self, code};
use crate::page::{LONGEST_PAGE, place};
use crate::standing::{count, history};
use crate::types::{Answer, Event, Filter, Held, Hold, Job, JobId, Page, Progress, State, Stats};

/// What [`job`] needs.
const COLUMNS: &str = "seq, id, model, state, done, total, priority, attempts, losses, reason, created, not_before, \
                       started, ended, expires, replay_of";

pub(super) async fn get(database: &Database, id: JobId) -> Result<Option<Job>> {
    let statement = rows::select(COLUMNS).then(
        ", untold, lines.at AS line_at, lines.text AS line FROM jobs LEFT JOIN (SELECT seq AS place, job, at, text FROM \
         job_events) AS lines ON job = seq WHERE id = ? ORDER BY place",
    );
    let rows = database.read().await?.all(statement.bind(id.to_string())).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut job = job(first)?;
    job.history = history(&job, lines(&rows)?, first.int("untold")? != 0);
    Ok(Some(job))
}

/// Returns what was written down of a job.
fn lines(rows: &[Row]) -> Result<Vec<Event>> {
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        if let (Some(at_ms), Some(text)) = (row.maybe_int("line_at")?, row.maybe_text("line")?) {
            lines.push(Event { at_ms, text });
        }
    }
    Ok(lines)
}

fn job(row: &Row) -> Result<Job> {
    Ok(Job {
        id: rows::id(row, "id")?,
        model: row.text("model")?,
        state: rows::state(row)?,
        progress: Progress { done: row.int("done")?.unsigned_abs(), total: row.int("total")?.unsigned_abs() },
        priority: u8::try_from(row.int("priority")?).unwrap_or(u8::MAX),
        attempts: count(row.int("attempts")?),
        losses: count(row.int("losses")?),
        reason: row.maybe_text("reason")?,
        created_ms: row.int("created")?,
        not_before_ms: row.maybe_int("not_before")?,
        started_ms: row.maybe_int("started")?,
        ended_ms: row.maybe_int("ended")?,
        expires_ms: row.maybe_int("expires")?,
        replay_of: row.maybe_text("replay_of")?.map(|id| rows::parsed(&id)).transpose()?,
        history: Vec::new(),
    })
}

pub(super) async fn answer(database: &Database, id: JobId) -> Result<Option<Answer>> {
    let statement = sql("SELECT content_type, header_len, bytes FROM jobs JOIN job_answers ON job = seq \
                         WHERE id = ? AND state = 3");
    let row = database.read().await?.first(statement.bind(id.to_string())).await?;
    let answer = row.map(|row| {
        let header_len = row.maybe_int("header_len")?.map(i64::unsigned_abs);
        Ok(Answer { content_type: row.text("content_type")?, header_len, body: row.blob("bytes")? })
    });
    answer.transpose()
}

pub(super) async fn held(database: &Database) -> Result<Vec<Held>> {
    let rows = database.read().await?.all(sql("SELECT id, token, beats, lease FROM jobs WHERE state = 2")).await?;
    let held = rows.iter().map(|row| {
        let hold = Hold { id: rows::id(row, "id")?, token: row.int("token")? };
        let lease = Duration::from_millis(row.int("lease")?.unsigned_abs());
        Ok(Held { hold, beats: row.int("beats")?, lease })
    });
    held.collect()
}

pub(super) async fn list(database: &Database, filter: Filter, after: Option<String>, limit: usize) -> Result<Page> {
    let limit = limit.clamp(1, LONGEST_PAGE);
    let before = after.as_deref().map(place).transpose()?.unwrap_or(i64::MAX);
    // What moves from one state to another meanwhile must not be seen twice.
    let mut session = database.snapshot().await?;
    let mut found = Vec::new();
    for part in parts(&filter) {
        let statement = rows::select(COLUMNS).then(" FROM jobs WHERE seq < ?").bind(before).join(part);
        let statement = statement.then(" ORDER BY seq DESC LIMIT ?").bind(limit as i64 + 1);
        found.extend(numbered(&mut session, statement).await?);
    }
    found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|(seq, _)| format!("{seq:x}"));
    Ok(Page { jobs: found.into_iter().map(|(_, job)| job).collect(), next })
}

async fn numbered(session: &mut Session, statement: Sql) -> Result<Vec<(i64, Job)>> {
    session.all(statement).await?.iter().map(|row| Ok((row.int("seq")?, job(row)?))).collect()
}

/// Returns a condition for each state that is meant: with one state the index gives the newest first.
fn parts(filter: &Filter) -> Vec<Sql> {
    let Filter { states, model, created_before_ms } = filter;
    let mut rest = sql("");
    if let Some(model) = model {
        rest = rest.then(" AND model = ?").bind(model);
    }
    if let Some(before) = created_before_ms {
        rest = rest.then(" AND created < ?").bind(*before);
    }
    let mut codes: Vec<i64> = states.iter().map(|state| code(*state)).collect();
    codes.sort_unstable();
    codes.dedup();
    match codes.is_empty() {
        true => vec![rest],
        false => codes.into_iter().map(|code| sql(" AND state = ?").bind(code).join(rest.clone())).collect(),
    }
}

/// Returns some jobs that have ended, from `after` on, oldest first.
pub(super) async fn ended(database: &Database, filter: &Filter, after: i64, most: usize) -> Result<Vec<i64>> {
    let ended: Vec<State> = State::ALL.into_iter().filter(|state| state.has_ended()).collect();
    let meant = |state: &State| filter.states.is_empty() || filter.states.contains(state);
    let states: Vec<State> = ended.into_iter().filter(meant).collect();
    if states.is_empty() {
        return Ok(Vec::new());
    }
    let mut session = database.snapshot().await?;
    let mut found = Vec::new();
    for part in parts(&Filter { states, ..filter.clone() }) {
        let statement = sql("SELECT seq FROM jobs WHERE seq > ?").bind(after).join(part);
        let rows = session.all(statement.then(" ORDER BY seq LIMIT ?").bind(most as i64)).await?;
        found.extend(rows.iter().map(|row| row.int("seq")).collect::<Result<Vec<i64>>>()?);
    }
    found.sort_unstable();
    found.truncate(most);
    Ok(found)
}

/// The jobs of a caller that have not ended, up to so many.
pub(super) const UNFINISHED: &str = "SELECT seq FROM jobs WHERE caller = ? AND state < 3 LIMIT ?";

pub(super) async fn unfinished(database: &Database, caller: &str, most: u64) -> Result<u64> {
    let jobs = sql(UNFINISHED).bind(caller).bind(rows::int(most));
    let statement = sql("SELECT COUNT(*) AS n FROM (").join(jobs).then(") AS found");
    let row = database.read().await?.first(statement).await?;
    row.map_or(Ok(0), |row| Ok(row.int("n")?.unsigned_abs()))
}

pub(super) async fn stats(database: &Database) -> Result<Stats> {
    let mut session = database.snapshot().await?;
    let mut stats = Stats { gate: rows::gate(&mut session).await?, ..Stats::default() };
    let statement = sql("SELECT state, COUNT(*) AS n FROM jobs WHERE state IN (0, 1, 2, 5) GROUP BY state");
    for row in session.all(statement).await? {
        let n_jobs = row.int("n")?.unsigned_abs();
        match rows::state(&row)? {
            State::Scheduled => stats.scheduled = n_jobs,
            State::Queued => stats.queued = n_jobs,
            State::Running => stats.running = n_jobs,
            State::Dead => stats.dead = n_jobs,
            State::Done | State::Failed | State::Cancelled | State::Expired => (),
        }
    }
    let oldest = sql("SELECT created FROM jobs WHERE state = 1 ORDER BY seq LIMIT 1");
    stats.oldest_queued_ms = session.first(oldest).await?.map(|row| row.int("created")).transpose()?;
    Ok(stats)
}
