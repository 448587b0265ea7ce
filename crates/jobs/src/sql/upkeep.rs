//! Clears away what is over, and keeps the messages to those who wait for an end.

use salver_core::Result;
use salver_store::database::{Session, Sql, sql};

use super::rows::{self, CHUNK};
use super::writer::Ask;
use crate::standing::{Standing, count};
use crate::types::{Callback, Cleared, JobId, Millis, State};

/// Jobs of one kind that one call clears away, so that no transaction takes long.
pub(super) const MOST_CLEARED: usize = 500;

/// Scheduled jobs whose time has come.
pub(super) const TO_BEGIN: &str =
    "SELECT seq FROM jobs WHERE state = 0 AND not_before <= ? ORDER BY not_before LIMIT ?";
/// Jobs that ended in one state and whose answers expire.
pub(super) const TO_EXPIRE: &str = "SELECT seq FROM jobs WHERE state = ? AND expires <= ? ORDER BY expires LIMIT ?";
/// Expired jobs that ended long ago.
pub(super) const TO_FORGET: &str = "SELECT seq FROM jobs WHERE state = 7 AND ended < ? ORDER BY ended LIMIT ?";

/// A moment, and how long jobs that ended are remembered.
pub(super) struct Clear {
    pub(super) now: Millis,
    pub(super) forget_before: Millis,
}

/// Somebody who sends messages.
pub(super) struct Due {
    pub(super) most: usize,
    pub(super) now: Millis,
    pub(super) again: Millis,
}

/// A message that was not tried.
pub(super) struct PutOff {
    pub(super) id: JobId,
    pub(super) until: Millis,
}

/// What became of a message.
pub(super) struct Note {
    pub(super) id: JobId,
    pub(super) again: Option<Millis>,
    pub(super) text: String,
    pub(super) now: Millis,
}

/// Clears away.
pub(super) async fn clear(session: &mut Session, asks: &mut [Ask<Clear, Cleared>]) -> Result<()> {
    for ask in asks {
        let Clear { now, forget_before } = ask.question;
        let begun = begin(session, now).await?;
        let expired = expire(session, now).await?;
        let forgotten = forget(session, forget_before).await?;
        ask.answer = Some(Ok(Cleared { begun, expired, forgotten }));
    }
    Ok(())
}

async fn begin(session: &mut Session, now: Millis) -> Result<u64> {
    let jobs = some(session, sql(TO_BEGIN).bind(now), MOST_CLEARED).await?;
    rows::remove(session, "UPDATE jobs SET state = 1 WHERE seq IN ", &jobs).await?;
    Ok(jobs.len() as u64)
}

async fn expire(session: &mut Session, now: Millis) -> Result<u64> {
    let mut jobs = Vec::new();
    for state in [State::Done, State::Failed, State::Dead, State::Cancelled] {
        let most = MOST_CLEARED - jobs.len();
        jobs.extend(some(session, sql(TO_EXPIRE).bind(rows::code(state)).bind(now), most).await?);
    }
    rows::remove(session, "DELETE FROM job_answers WHERE job IN ", &jobs).await?;
    rows::remove(session, "DELETE FROM job_bodies WHERE job IN ", &jobs).await?;
    rows::remove(session, "UPDATE jobs SET state = 7 WHERE seq IN ", &jobs).await?;
    Ok(jobs.len() as u64)
}

/// Jobs whose answers have not expired stay: their submitters were told until when.
async fn forget(session: &mut Session, before: Millis) -> Result<u64> {
    let jobs = some(session, sql(TO_FORGET).bind(before), MOST_CLEARED).await?;
    take_away(session, &jobs).await?;
    Ok(jobs.len() as u64)
}

async fn some(session: &mut Session, statement: Sql, most: usize) -> Result<Vec<i64>> {
    let statement = statement.bind(most as i64).then(" {for update skip locked}");
    session.all(statement).await?.iter().map(|row| row.int("seq")).collect()
}

/// Removes jobs that have ended, with all that is known of them.
pub(super) async fn remove(session: &mut Session, asks: &mut [Ask<Vec<i64>, u64>]) -> Result<()> {
    for ask in asks {
        let mut ended = Vec::new();
        for jobs in ask.question.chunks(CHUNK) {
            let statement = sql("SELECT seq FROM jobs WHERE seq IN ").list(jobs.iter().copied());
            let statement = statement.then(" AND state > 2 ORDER BY seq {for update}");
            let rows = session.all(statement.once()).await?;
            ended.extend(rows.iter().map(|row| row.int("seq")).collect::<Result<Vec<i64>>>()?);
        }
        take_away(session, &ended).await?;
        ask.answer = Some(Ok(ended.len() as u64));
    }
    Ok(())
}

async fn take_away(session: &mut Session, jobs: &[i64]) -> Result<()> {
    let statements = [
        "DELETE FROM job_bodies WHERE job IN ",
        "DELETE FROM job_answers WHERE job IN ",
        "DELETE FROM job_events WHERE job IN ",
        "DELETE FROM job_callbacks WHERE job IN ",
        "DELETE FROM jobs WHERE seq IN ",
    ];
    for statement in statements {
        rows::remove(session, statement, jobs).await?;
    }
    Ok(())
}

/// Hands out messages that are due, and puts each off.
pub(super) async fn due(session: &mut Session, asks: &mut [Ask<Due, Vec<Callback>>]) -> Result<()> {
    for ask in asks {
        let Due { most, now, again } = ask.question;
        let statement = sql("SELECT job, url, job_callbacks.attempts AS tried, id FROM job_callbacks JOIN jobs ON \
                             seq = job WHERE next <= ? ORDER BY next LIMIT ? {for update skip locked}");
        let rows = session.all(statement.bind(now).bind(most.min(CHUNK) as i64)).await?;
        let jobs: Vec<i64> = rows.iter().map(|row| row.int("job")).collect::<Result<_>>()?;
        if !jobs.is_empty() {
            let put_off = sql("UPDATE job_callbacks SET attempts = attempts + 1, next = ? WHERE job IN ").bind(again);
            session.execute(put_off.list(jobs).once()).await?;
        }
        let callbacks = rows.iter().map(|row| {
            Ok(Callback { id: rows::id(row, "id")?, url: row.text("url")?, attempts: count(row.int("tried")?) })
        });
        ask.answer = Some(Ok(callbacks.collect::<Result<_>>()?));
    }
    Ok(())
}

/// Takes messages back that were not tried. Those that were told of meanwhile stay as they are.
pub(super) async fn put_off(session: &mut Session, asks: &mut [Ask<PutOff, ()>]) -> Result<()> {
    for ask in asks {
        let statement = sql("UPDATE job_callbacks SET attempts = attempts - 1, next = ? WHERE next IS NOT NULL AND \
                             attempts > 0 AND job = (SELECT seq FROM jobs WHERE id = ?)");
        session.execute(statement.bind(ask.question.until).bind(ask.question.id.to_string())).await?;
        ask.answer = Some(Ok(()));
    }
    Ok(())
}

/// Notes what became of a message. Its address stays: who replays the job is told as well.
pub(super) async fn note(session: &mut Session, standing: Option<&mut Standing>, note: &Note) -> Result<()> {
    let Some(standing) = standing else { return Ok(()) };
    standing.note(&note.text, note.now);
    let statement = sql("UPDATE job_callbacks SET next = ? WHERE job = ?");
    session.execute(statement.bind(note.again).bind(standing.seq)).await.map(drop)
}
