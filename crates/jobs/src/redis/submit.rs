//! Takes jobs in: each once, however often it is submitted.

use salver_core::{Error, ErrorKind, Result};

use super::scripts::Call;
use super::{RedisQueue, fields, scripts};
use crate::standing::millis;
use crate::submission::{Submission, draining, not_replayable};
use crate::types::{Content, JobId, Millis, NewJob, State, Submitted};

impl RedisQueue {
    pub(super) async fn take_in(&self, job: NewJob, now: Millis) -> Result<Submitted> {
        let new = Submission::new(job, now)?;
        let (outcome, id): (String, String) = self.run(call(&new)).await?;
        match outcome.as_str() {
            "new" => Ok(Submitted::New(new.id)),
            "known" => Ok(Submitted::Known(fields::id(&id)?)),
            "differs" => Ok(Submitted::Differs(fields::id(&id)?)),
            _ => Err(draining()),
        }
    }

    pub(super) async fn submit_anew(&self, of: JobId, now: Millis) -> Result<Option<JobId>> {
        let new = JobId::random();
        let outcome: Option<String> = self.run(scripts::REPLAY.call().arg(of).arg(new).arg(now)).await?;
        let Some(outcome) = outcome else { return Ok(None) };
        match outcome.as_str() {
            "new" => Ok(Some(new)),
            "draining" => Err(draining()),
            state => match State::ALL.into_iter().find(|known| known.as_str() == state) {
                Some(state) => Err(not_replayable(of, state)),
                None => {
                    Err(Error::new(ErrorKind::Engine, format!("the job {of} has the state '{state}', which is none")))
                }
            },
        }
    }
}

fn call(new: &Submission) -> Call {
    let Submission { id, model, content, total, options, owner, caller, key, replaces, now } = new;
    let Content { form, content_type, header_len, body } = content;
    // The length keeps an owner with a colon from passing for another one with another key.
    let name = key.as_ref().map(|key| format!("{}:{owner}:{}", owner.len(), key.name)).unwrap_or_default();
    let digest = key.as_ref().map(|key| key.digest.as_str()).unwrap_or_default();
    let replaces = replaces.map(|id| id.to_string()).unwrap_or_default();
    let call = scripts::SUBMIT.call().arg(*id).arg(name).arg(digest).arg(replaces).arg(&body[..]);
    let given = [
        ("state", Some(new.state().as_str().to_owned())),
        ("model", Some(model.clone())),
        ("caller", Some(caller.clone())),
        ("priority", Some(options.priority.to_string())),
        ("form", Some(form.as_str().to_owned())),
        ("total", Some(total.to_string())),
        ("time_limit", Some(millis(options.time_limit).to_string())),
        ("ttl", Some(millis(options.result_ttl).to_string())),
        ("retries", Some(options.retries.to_string())),
        ("created", Some(now.to_string())),
        ("not_before", options.not_before.map(|time| time.to_string())),
        ("content_type", content_type.clone()),
        ("header_len", header_len.map(|len| len.to_string())),
        ("callback", options.callback_url.clone()),
    ];
    given
        .into_iter()
        .filter_map(|(field, value)| Some((field, value?)))
        .fold(call, |call, (field, value)| call.arg(field).arg(value))
}
