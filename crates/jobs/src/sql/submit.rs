//! Takes jobs in: each once, however often it is submitted.

use std::collections::{HashMap, HashSet};

use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Session, Value, sql};

use super::rows::{self, CHUNK, code, int};
use super::writer::Ask;
use crate::standing::{Standing, millis};
use crate::submission::{Key, Submission, draining, not_replayable};
use crate::types::{Content, Gate, JobId, Millis, State, Submitted};

/// A job whose content is to be submitted anew.
pub(super) struct Replay {
    pub(super) of: JobId,
    pub(super) id: JobId,
    pub(super) now: Millis,
}

impl Submission {
    fn values(&self) -> Vec<Value> {
        vec![
            self.id.to_string().into(),
            self.model.as_str().into(),
            self.content.form.as_str().into(),
            code(self.state()).into(),
            i64::from(self.options.priority).into(),
            self.total.into(),
            self.owner.as_str().into(),
            self.caller.as_str().into(),
            self.key.as_ref().map(|key| key.name.as_str()).into(),
            self.key.as_ref().map(|key| key.digest.as_str()).into(),
            millis(self.options.time_limit).into(),
            millis(self.options.result_ttl).into(),
            i64::from(self.options.retries).into(),
            (self.content.body.len() as i64).into(),
            self.options.callback_url.is_some().into(),
            self.now.into(),
            self.options.not_before.into(),
        ]
    }

    fn body(&self, seq: i64) -> [Value; 4] {
        let Content { content_type, header_len, body, .. } = &self.content;
        [seq.into(), content_type.into(), header_len.map(int).into(), body.clone().into()]
    }
}

/// What stands under a key: a job, and the digest of its submission.
type Found = Option<(JobId, String)>;

/// Takes jobs in.
pub(super) async fn submit(session: &mut Session, asks: &mut [Ask<Submission, Submitted>], gate: Gate) -> Result<()> {
    let replacing = replacing(session, asks).await?;
    if gate != Gate::Draining {
        let_go(session, &replacing).await?;
    }
    let is_replacing = |new: &Submission| new.replaces.is_some_and(|id| replacing.contains(&(new.id, id)));
    let (firsts, of) = firsts(asks, is_replacing);
    let submissions: Vec<&Submission> = firsts.iter().map(|idx| &asks[*idx].question).collect();
    let inserted = match gate {
        Gate::Draining => HashMap::new(),
        Gate::Open | Gate::Paused => insert(session, &submissions).await?,
    };
    let mut found: Vec<Found> = Vec::with_capacity(submissions.len());
    for submission in &submissions {
        found.push(match (&submission.key, inserted.contains_key(&submission.id)) {
            (None, _) => None,
            (Some(key), true) => Some((submission.id, key.digest.clone())),
            (Some(key), false) => look_up(session, &submission.owner, key).await?,
        });
    }
    for (ask, first) in asks.iter_mut().zip(of) {
        let found = found[first].as_ref().filter(|_| gate != Gate::Draining || !is_replacing(&ask.question));
        ask.answer = Some(answer(&ask.question, found, &inserted, gate));
    }
    Ok(())
}

/// Returns those that take a key over, each with the job that has it; held until the transaction ends.
async fn replacing(session: &mut Session, asks: &[Ask<Submission, Submitted>]) -> Result<HashSet<(JobId, JobId)>> {
    let wishes = asks.iter().filter_map(|Ask { question: new, .. }| Some((new.replaces?, new, new.key.as_ref()?)));
    let mut wishes: Vec<_> = wishes.collect();
    // All take them in the same order, so that no two wait for each other.
    wishes.sort_by_key(|(old, ..)| *old);
    let mut replacing = HashSet::new();
    for (old, new, key) in wishes {
        let statement = sql("SELECT seq FROM jobs WHERE id = ? AND owner = ? AND idempotency_key = ? AND state > 2");
        let statement = statement.bind(old.to_string()).bind(new.owner.as_str()).bind(key.name.as_str());
        if session.first(statement.then(" {for update}")).await?.is_some() {
            replacing.insert((new.id, old));
        }
    }
    Ok(replacing)
}

/// Takes their keys from jobs that are replaced.
async fn let_go(session: &mut Session, replacing: &HashSet<(JobId, JobId)>) -> Result<()> {
    let mut replaced: Vec<String> = replacing.iter().map(|(_, old)| old.to_string()).collect();
    replaced.sort_unstable();
    for replaced in replaced.chunks(CHUNK) {
        let statement = sql("UPDATE jobs SET idempotency_key = NULL, digest = NULL WHERE id IN ");
        session.execute(statement.list(replaced.iter().map(String::as_str)).once()).await?;
    }
    Ok(())
}

/// Returns the places of those that make a job unless it is there: of those with the same key the first
/// that takes it over, else the first; and for each which one of these stands for it.
fn firsts(asks: &[Ask<Submission, Submitted>], is_replacing: impl Fn(&Submission) -> bool) -> (Vec<usize>, Vec<usize>) {
    let mut firsts: Vec<usize> = Vec::with_capacity(asks.len());
    let mut keys = HashMap::new();
    let mut of = Vec::with_capacity(asks.len());
    for (idx, Ask { question: new, .. }) in asks.iter().enumerate() {
        let next = firsts.len();
        let name = new.key.as_ref().map(|key| (new.owner.as_str(), key.name.as_str()));
        let first = name.map_or(next, |name| *keys.entry(name).or_insert(next));
        of.push(first);
        match firsts.get_mut(first) {
            None => firsts.push(idx),
            Some(other) if is_replacing(new) && !is_replacing(&asks[*other].question) => *other = idx,
            Some(_) => (),
        }
    }
    (firsts, of)
}

fn answer(
    new: &Submission,
    found: Option<&(JobId, String)>,
    inserted: &HashMap<JobId, i64>,
    gate: Gate,
) -> Result<Submitted> {
    match (&new.key, found) {
        _ if inserted.contains_key(&new.id) => Ok(Submitted::New(new.id)),
        (Some(key), Some((id, digest))) if key.digest == *digest => Ok(Submitted::Known(*id)),
        (Some(_), Some((id, _))) => Ok(Submitted::Differs(*id)),
        _ if gate == Gate::Draining => Err(draining()),
        // The job that had the key was forgotten a moment ago, or the id is taken.
        _ => Err(Error::new(ErrorKind::Conflict, "the key of this job was just let go of; submit it again")),
    }
}

/// Returns the numbers of those that are new.
async fn insert(session: &mut Session, new: &[&Submission]) -> Result<HashMap<JobId, i64>> {
    let mut inserted = HashMap::with_capacity(new.len());
    for chunk in new.chunks(CHUNK) {
        let head =
            sql("INSERT INTO jobs (id, model, form, state, priority, total, owner, caller, idempotency_key, digest, \
                        time_limit, ttl, retries, size, has_callback, created, not_before) VALUES ");
        let statement = head.rows(chunk.iter().map(|new| new.values()));
        for row in session.all(statement.then(" ON CONFLICT DO NOTHING RETURNING seq, id").once()).await? {
            inserted.insert(rows::id(&row, "id")?, row.int("seq")?);
        }
    }
    let kept: Vec<(&Submission, i64)> = new.iter().filter_map(|new| Some((*new, *inserted.get(&new.id)?))).collect();
    for chunk in kept.chunks(CHUNK) {
        let head = sql("INSERT INTO job_bodies (job, content_type, header_len, bytes) VALUES ");
        session.execute(head.rows(chunk.iter().map(|(new, seq)| new.body(*seq))).once()).await?;
    }
    let calling = |(new, seq): &(&Submission, i64)| Some((*seq, new.options.callback_url.clone()?));
    for (seq, url) in kept.iter().filter_map(calling) {
        let insert = sql("INSERT INTO job_callbacks (job, url, attempts) VALUES (?, ?, 0)");
        session.execute(insert.bind(seq).bind(url)).await?;
    }
    Ok(inserted)
}

async fn look_up(session: &mut Session, owner: &str, key: &Key) -> Result<Found> {
    let statement = sql("SELECT id, digest FROM jobs WHERE owner = ? AND idempotency_key = ?");
    let row = session.first(statement.bind(owner).bind(key.name.as_str())).await?;
    row.map(|row| Ok((rows::id(&row, "id")?, row.text("digest")?))).transpose()
}

/// Submits anew what a job asked; the answer is that of the call.
pub(super) async fn replay(
    session: &mut Session,
    standing: Option<&mut Standing>,
    replay: &Replay,
    gate: Gate,
) -> Result<Result<Option<JobId>>> {
    let Some(standing) = standing else { return Ok(Ok(None)) };
    if !matches!(standing.state, State::Failed | State::Dead) {
        return Ok(Err(not_replayable(standing.id, standing.state)));
    }
    if gate == Gate::Draining {
        return Ok(Err(draining()));
    }
    // A job that was dangerous still is: `alone` stays.
    let statement = sql("INSERT INTO jobs (id, model, form, state, priority, total, owner, caller, time_limit, ttl, \
                         retries, size, has_callback, alone, created, replay_of) \
                         SELECT CAST(? AS TEXT), model, form, 1, priority, total, owner, caller, time_limit, ttl, \
                         retries, size, has_callback, alone, CAST(? AS BIGINT), id FROM jobs WHERE seq = ? \
                         RETURNING seq");
    let statement = statement.bind(replay.id.to_string()).bind(replay.now).bind(standing.seq);
    let row = session.first(statement).await?;
    let row = row.ok_or_else(|| Error::new(ErrorKind::Conflict, "the job was just removed"))?;
    let copies = [
        sql("INSERT INTO job_bodies (job, content_type, header_len, bytes) \
             SELECT CAST(? AS BIGINT), content_type, header_len, bytes FROM job_bodies WHERE job = ?"),
        sql("INSERT INTO job_callbacks (job, url, attempts) \
             SELECT CAST(? AS BIGINT), url, 0 FROM job_callbacks WHERE job = ?"),
    ];
    for copy in copies {
        session.execute(copy.bind(row.int("seq")?).bind(standing.seq)).await?;
    }
    standing.replayed(replay.id, replay.now);
    Ok(Ok(Some(replay.id)))
}
