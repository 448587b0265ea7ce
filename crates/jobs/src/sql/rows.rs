//! Reads jobs to change them, and writes back what has changed: many at a time.

use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Row, Session, Sql, Value, sql};

use crate::standing::{Change, MOST_EVENTS, Standing, clean};
use crate::types::{Answer, Gate, JobId, State};

/// Rows of one statement: SQLite takes 32,766 values, PostgreSQL 65,535.
pub(super) const CHUNK: usize = 1000;

/// What [`Standing`] needs.
pub(super) const COLUMNS: &str = "seq, id, state, token, beats, done, total, attempts, troubles, losses, lost_alone, \
                                  alone, lease, retries, ttl, not_before, started, ended, expires, reason, untold, \
                                  has_callback";

/// Returns the number of a state in the tables. Never changed: partial indexes name them.
pub(super) const fn code(state: State) -> i64 {
    match state {
        State::Scheduled => 0,
        State::Queued => 1,
        State::Running => 2,
        State::Done => 3,
        State::Failed => 4,
        State::Dead => 5,
        State::Cancelled => 6,
        State::Expired => 7,
    }
}

pub(super) fn state(row: &Row) -> Result<State> {
    let number = row.int("state")?;
    let state = State::ALL.into_iter().find(|state| code(*state) == number);
    state.ok_or_else(|| Error::new(ErrorKind::Engine, format!("a job has the state {number}, which is none")))
}

pub(super) fn id(row: &Row, column: &str) -> Result<JobId> {
    parsed(&row.text(column)?)
}

pub(super) fn parsed(id: &str) -> Result<JobId> {
    id.parse().map_err(|_| Error::new(ErrorKind::Engine, format!("the job '{id}' has an id that is none")))
}

pub(super) fn standing(row: &Row) -> Result<Standing> {
    Ok(Standing {
        seq: row.int("seq")?,
        id: id(row, "id")?,
        state: state(row)?,
        token: row.int("token")?,
        beats: row.int("beats")?,
        lease_ms: row.int("lease")?,
        done: row.int("done")?,
        total: row.int("total")?,
        attempts: row.int("attempts")?,
        troubles: row.int("troubles")?,
        losses: row.int("losses")?,
        lost_alone: row.int("lost_alone")?,
        alone: row.int("alone")? != 0,
        retries: row.int("retries")?,
        ttl_ms: row.int("ttl")?,
        not_before: row.maybe_int("not_before")?,
        started: row.maybe_int("started")?,
        ended: row.maybe_int("ended")?,
        expires: row.maybe_int("expires")?,
        reason: row.maybe_text("reason")?,
        untold: row.int("untold")? != 0,
        has_callback: row.int("has_callback")? != 0,
        is_over: false,
        change: Change::None,
        lines: Vec::new(),
    })
}

/// Returns those of these jobs that there are, and holds them until the transaction ends. All take
/// them in the same order, so that no two wait for each other.
pub(super) async fn load(session: &mut Session, ids: &[JobId]) -> Result<Vec<Standing>> {
    let mut standings = Vec::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        let ids = ids.iter().map(JobId::to_string);
        let statement = select(COLUMNS).then(" FROM jobs WHERE id IN ").list(ids).then(" ORDER BY seq {for update}");
        for row in session.all(statement.once()).await? {
            standings.push(standing(&row)?);
        }
    }
    Ok(standings)
}

pub(super) fn select(columns: &'static str) -> Sql {
    sql("SELECT ").then(columns)
}

/// Writes what has changed, with new lines of histories and callbacks that are due now; removes the
/// bodies that nobody needs any more.
pub(super) async fn save(session: &mut Session, standings: &mut [Standing]) -> Result<()> {
    let of = |change| move |standing: &&Standing| standing.change == change;
    let beats: Vec<_> = standings.iter().filter(of(Change::Beat)).map(beat_values).collect();
    let all: Vec<_> = standings.iter().filter(of(Change::All)).map(values).collect();
    for chunk in beats.chunks(CHUNK) {
        let head = sql("UPDATE jobs SET beats = v.column2, done = v.column3 FROM (VALUES ");
        session.execute(head.rows(chunk.to_vec()).then(") AS v WHERE jobs.seq = v.column1").once()).await?;
    }
    for chunk in all.chunks(CHUNK) {
        let head = sql("UPDATE jobs SET state = v.column2, token = v.column3, beats = v.column4, done = v.column5, \
                        attempts = v.column6, troubles = v.column7, losses = v.column8, lost_alone = v.column9, \
                        alone = v.column10, not_before = v.column11, started = v.column12, ended = v.column13, \
                        expires = v.column14, reason = v.column15, untold = v.column16, lease = v.column17 FROM (VALUES ");
        session.execute(head.rows(chunk.to_vec()).then(") AS v WHERE jobs.seq = v.column1").once()).await?;
    }
    tell(session, standings).await?;
    let over = standings.iter().filter(|standing| standing.is_over);
    let is_needless = |standing: &&Standing| matches!(standing.state, State::Done | State::Cancelled);
    let needless: Vec<i64> = over.clone().filter(is_needless).map(|standing| standing.seq).collect();
    remove(session, "DELETE FROM job_bodies WHERE job IN ", &needless).await?;
    let awaited = over.filter(|standing| standing.has_callback);
    let due: Vec<_> = awaited.map(|standing| [standing.seq.into(), standing.ended.into()]).collect();
    for chunk in due.chunks(CHUNK) {
        let head = sql("UPDATE job_callbacks SET next = v.column2 FROM (VALUES ").rows(chunk.to_vec());
        session.execute(head.then(") AS v WHERE job_callbacks.job = v.column1").once()).await?;
    }
    Ok(())
}

/// Keeps what jobs answered.
pub(super) async fn answers(session: &mut Session, answers: &[(i64, &Answer)]) -> Result<()> {
    for chunk in answers.chunks(CHUNK) {
        let rows = chunk.iter().map(|(seq, answer)| {
            let content_type = Value::from(clean(&answer.content_type));
            [(*seq).into(), content_type, answer.header_len.map(int).into(), answer.body.clone().into()]
        });
        let head = sql("INSERT INTO job_answers (job, content_type, header_len, bytes) VALUES ");
        session.execute(head.rows(rows).once()).await?;
    }
    Ok(())
}

/// Returns whether jobs come in and go out.
pub(super) async fn gate(session: &mut Session) -> Result<Gate> {
    let Some(row) = session.first(sql("SELECT gate FROM job_gate")).await? else { return Ok(Gate::Open) };
    let name = row.text("gate")?;
    let gate = Gate::ALL.into_iter().find(|gate| gate.as_str() == name);
    gate.ok_or_else(|| Error::new(ErrorKind::Engine, format!("the queue's gate is '{name}', which is none")))
}

/// Returns a number as the tables hold it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Runs a statement that ends with a list of jobs.
pub(super) async fn remove(session: &mut Session, statement: &'static str, jobs: &[i64]) -> Result<()> {
    for jobs in jobs.chunks(CHUNK) {
        session.execute(sql(statement).list(jobs.iter().copied()).once()).await?;
    }
    Ok(())
}

fn beat_values(standing: &Standing) -> Vec<Value> {
    vec![standing.seq.into(), standing.beats.into(), standing.done.into()]
}

fn values(standing: &Standing) -> Vec<Value> {
    vec![
        standing.seq.into(),
        code(standing.state).into(),
        standing.token.into(),
        standing.beats.into(),
        standing.done.into(),
        standing.attempts.into(),
        standing.troubles.into(),
        standing.losses.into(),
        standing.lost_alone.into(),
        standing.alone.into(),
        standing.not_before.into(),
        standing.started.into(),
        standing.ended.into(),
        standing.expires.into(),
        Value::from(&standing.reason),
        standing.untold.into(),
        standing.lease_ms.into(),
    ]
}

/// Adds new lines to histories, and takes the oldest from those that have become too long.
async fn tell(session: &mut Session, standings: &mut [Standing]) -> Result<()> {
    let mut jobs = Vec::new();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for standing in standings.iter_mut().filter(|standing| !standing.lines.is_empty()) {
        let seq = standing.seq;
        jobs.push(seq);
        rows.extend(standing.lines.drain(..).map(|line| vec![seq.into(), line.at_ms.into(), line.text.into()]));
    }
    for chunk in rows.chunks(CHUNK) {
        let head = sql("INSERT INTO job_events (job, at, text) VALUES ");
        session.execute(head.rows(chunk.to_vec()).once()).await?;
    }
    for jobs in jobs.chunks(CHUNK) {
        let old = sql("DELETE FROM job_events WHERE seq IN (SELECT seq FROM (SELECT seq, ROW_NUMBER() OVER \
                       (PARTITION BY job ORDER BY seq DESC) AS place FROM job_events WHERE job IN ");
        let old = old.list(jobs.iter().copied()).then(") AS lines WHERE place > ?)").bind(MOST_EVENTS as i64);
        session.execute(old.once()).await?;
    }
    Ok(())
}
