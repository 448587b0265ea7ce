//! A job that is to be taken in: checked, and told apart from others under its key.

use salver_core::{Error, ErrorKind, Result};

use crate::types::{Content, JobId, Millis, NewJob, Options, State};

/// A longer key is refused.
const LONGEST_KEY: usize = 255;
/// A larger body is refused: neither database takes a row of a gigabyte, nor Redis a value of more.
pub(crate) const LARGEST_BODY: usize = 512 << 20;

/// A job to take in.
pub(crate) struct Submission {
    pub(crate) id: JobId,
    pub(crate) model: String,
    pub(crate) content: Content,
    pub(crate) total: i64,
    pub(crate) options: Options,
    pub(crate) owner: String,
    pub(crate) caller: String,
    pub(crate) key: Option<Key>,
    pub(crate) replaces: Option<JobId>,
    pub(crate) now: Millis,
}

/// Names a submission of an owner, and tells it from others under the same name.
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) digest: String,
}

impl Submission {
    /// Checks a job.
    ///
    /// # Errors
    /// `InvalidInput` for what cannot be kept; `TooLarge` for a body without end.
    pub(crate) fn new(job: NewJob, now: Millis) -> Result<Self> {
        let NewJob { model, content, total, options, owner, caller, idempotency_key, replaces } = job;
        let model = model.to_string();
        let texts = [
            Some(&owner),
            Some(&caller),
            idempotency_key.as_ref(),
            content.content_type.as_ref(),
            options.callback_url.as_ref(),
        ];
        if texts.iter().flatten().any(|text| text.contains('\0')) {
            return Err(Error::invalid_input(
                "owner, caller, key, content type and callback of a job may not contain zero bytes",
            ));
        }
        if [Some(&owner), Some(&caller), idempotency_key.as_ref()].iter().flatten().any(|text| text.len() > LONGEST_KEY)
        {
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
        Ok(Self {
            id: JobId::random(),
            model,
            content,
            total: i64::try_from(total).unwrap_or(i64::MAX),
            options,
            owner,
            caller,
            key,
            replaces,
            now,
        })
    }

    /// Where it stands first.
    pub(crate) fn state(&self) -> State {
        let is_early = self.options.not_before.is_some_and(|time| time > self.now);
        if is_early { State::Scheduled } else { State::Queued }
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

pub(crate) fn draining() -> Error {
    Error::not_ready("the queue drains: it takes no more jobs until somebody runs `salver jobs resume`")
}

/// Refuses to replay a job in this state.
pub(crate) fn not_replayable(id: JobId, state: State) -> Error {
    let text = format!("the job {id} is {state}; only those that failed or are dead can be replayed");
    Error::new(ErrorKind::Conflict, text)
}
