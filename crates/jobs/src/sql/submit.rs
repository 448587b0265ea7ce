//! Takes jobs in: each once, however often it is submitted.

use std::collections::HashMap;

use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Session, Value, sql};

use super::rows::{self, CHUNK, code, int};
use super::standing::{Standing, millis};
use super::writer::Ask;
use crate::types::{Content, Gate, JobId, Millis, NewJob, Options, State, Submitted};

/// A longer key is refused.
const LONGEST_KEY: usize = 255;
/// A larger body is refused: neither database takes a row of a gigabyte.
const LARGEST_BODY: usize = 512 << 20;

/// A job to take in.
pub(super) struct Submission {
    id: JobId,
    model: String,
    pub(super) content: Content,
    total: i64,
    options: Options,
    owner: String,
    key: Option<Key>,
    now: Millis,
}

/// Names a submission of an owner, and tells it from others under the same name.
struct Key {
    name: String,
    digest: String,
}

/// A job whose content is to be submitted anew.
pub(super) struct Replay {
    pub(super) of: JobId,
    pub(super) id: JobId,
    pub(super) now: Millis,
}

impl Submission {
    /// Checks a job.
    ///
    /// # Errors
    /// `InvalidInput` for what cannot be kept; `TooLarge` for a body without end.
    pub(super) fn new(job: NewJob, now: Millis) -> Result<Self> {
        let NewJob { model, content, total, options, owner, idempotency_key } = job;
        let model = model.to_string();
        let texts =
            [Some(&owner), idempotency_key.as_ref(), content.content_type.as_ref(), options.callback_url.as_ref()];
        if texts.iter().flatten().any(|text| text.contains('\0')) {
            return Err(Error::invalid_input(
                "owner, key, content type and callback of a job may not contain zero bytes",
            ));
        }
        if [Some(&owner), idempotency_key.as_ref()].iter().flatten().any(|text| text.len() > LONGEST_KEY) {
            return Err(Error::invalid_input(format!("an idempotency key has at most {LONGEST_KEY} bytes")));
        }
        if !(1..=9).contains(&options.priority) {
            let text = format!("priority {}: expected 1 (goes first) to 9 (goes last)", options.priority);
            return Err(Error::invalid_input(text));
        }
        if content.body.len() > LARGEST_BODY {
            let text = format!("the body of a job has at most {LARGEST_BODY} bytes, this one {}", content.body.len());
            return Err(Error::too_large(text));
        }
        let key = idempotency_key.map(|name| Key { name, digest: digest(&model, &content, &options) });
        Ok(Self { id: JobId::random(), model, content, total: int(total), options, owner, key, now })
    }

    fn values(&self) -> Vec<Value> {
        let is_early = self.options.not_before.is_some_and(|time| time > self.now);
        vec![
            self.id.to_string().into(),
            self.model.as_str().into(),
            self.content.form.as_str().into(),
            code(if is_early { State::Scheduled } else { State::Queued }).into(),
            i64::from(self.options.priority).into(),
            self.total.into(),
            self.owner.as_str().into(),
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

/// Returns what tells a submission from another one. Each part begins with its length, so that none
/// can pass for two.
fn digest(model: &str, content: &Content, options: &Options) -> String {
    let Options { priority, not_before, time_limit, retries, result_ttl, callback_url } = options;
    // A delay is counted from each submission, so the moment is another one when it is repeated.
    let is_put_off = not_before.is_some();
    let choices = format!("{priority} {is_put_off} {time_limit:?} {retries} {result_ttl:?} {callback_url:?}");
    let Content { form, content_type, header_len, body } = content;
    let kind = format!("{} {content_type:?} {header_len:?}", form.as_str());
    let mut hasher = blake3::Hasher::new();
    for part in [model.as_bytes(), choices.as_bytes(), kind.as_bytes(), body] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn draining() -> Error {
    Error::not_ready("the queue drains: it takes no more jobs until somebody runs `salver jobs resume`")
}

/// What stands under a key: a job, and the digest of its submission.
type Found = Option<(JobId, String)>;

/// Takes jobs in.
pub(super) async fn submit(session: &mut Session, asks: &mut [Ask<Submission, Submitted>], gate: Gate) -> Result<()> {
    let (firsts, of) = firsts(asks);
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
        ask.answer = Some(answer(&ask.question, &found[first], &inserted, gate));
    }
    Ok(())
}

/// Returns the places of those that no earlier one has the key of; and for each which one of these
/// stands for it.
fn firsts(asks: &[Ask<Submission, Submitted>]) -> (Vec<usize>, Vec<usize>) {
    let mut firsts = Vec::with_capacity(asks.len());
    let mut keys = HashMap::new();
    let of = asks.iter().enumerate().map(|(idx, ask)| {
        let next = firsts.len();
        let name = ask.question.key.as_ref().map(|key| (ask.question.owner.as_str(), key.name.as_str()));
        let first = name.map_or(next, |name| *keys.entry(name).or_insert(next));
        firsts.extend((first == next).then_some(idx));
        first
    });
    let of = of.collect();
    (firsts, of)
}

fn answer(new: &Submission, found: &Found, inserted: &HashMap<JobId, i64>, gate: Gate) -> Result<Submitted> {
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
        let head = sql("INSERT INTO jobs (id, model, form, state, priority, total, owner, idempotency_key, digest, \
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
        let text = format!(
            "the job {} is {}; only those that failed or are dead can be replayed",
            standing.id, standing.state
        );
        return Ok(Err(Error::new(ErrorKind::Conflict, text)));
    }
    if gate == Gate::Draining {
        return Ok(Err(draining()));
    }
    // A job that was dangerous still is: `alone` stays.
    let statement = sql("INSERT INTO jobs (id, model, form, state, priority, total, owner, time_limit, ttl, retries, \
                         size, has_callback, alone, created, replay_of) \
                         SELECT CAST(? AS TEXT), model, form, 1, priority, total, owner, time_limit, ttl, retries, \
                         size, has_callback, alone, CAST(? AS BIGINT), id FROM jobs WHERE seq = ? RETURNING seq");
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
