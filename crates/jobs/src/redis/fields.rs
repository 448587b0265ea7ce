//! What is known of a job, as a hash in Redis holds it. What is 0, false or none is left out.

use std::collections::HashMap;

use salver_core::{Error, ErrorKind, Result};

use crate::standing::{Change, Standing, count};
use crate::types::{Job, JobId, Progress, State};

/// The fields of a job.
pub(super) type Fields = HashMap<String, String>;

fn broken(text: String) -> Error {
    Error::new(ErrorKind::Engine, text)
}

/// Reads the name of a job.
pub(super) fn id(text: &str) -> Result<JobId> {
    text.parse().map_err(|_| broken(format!("the job '{text}' has an id that is none")))
}

fn maybe_int(fields: &Fields, name: &str) -> Result<Option<i64>> {
    let number = fields.get(name).map(|text| text.parse());
    number.transpose().map_err(|_| broken(format!("the field '{name}' of a job is no number")))
}

fn int(fields: &Fields, name: &str) -> Result<i64> {
    Ok(maybe_int(fields, name)?.unwrap_or(0))
}

/// Returns its number.
pub(super) fn seq(fields: &Fields) -> Result<i64> {
    int(fields, "seq")
}

fn state(fields: &Fields) -> Result<State> {
    let name = fields.get("state").map(String::as_str).unwrap_or_default();
    let state = State::ALL.into_iter().find(|state| state.as_str() == name);
    state.ok_or_else(|| broken(format!("a job has the state '{name}', which is none")))
}

/// Whether its last lines stand in no history.
pub(super) fn is_untold(fields: &Fields) -> bool {
    fields.contains_key("untold")
}

pub(super) fn job(id: JobId, fields: &Fields) -> Result<Job> {
    Ok(Job {
        id,
        model: fields.get("model").cloned().unwrap_or_default(),
        state: state(fields)?,
        progress: Progress { done: int(fields, "done")?.unsigned_abs(), total: int(fields, "total")?.unsigned_abs() },
        priority: u8::try_from(int(fields, "priority")?).unwrap_or(u8::MAX),
        attempts: count(int(fields, "attempts")?),
        losses: count(int(fields, "losses")?),
        reason: fields.get("reason").cloned(),
        created_ms: int(fields, "created")?,
        not_before_ms: maybe_int(fields, "not_before")?,
        started_ms: maybe_int(fields, "started")?,
        ended_ms: maybe_int(fields, "ended")?,
        expires_ms: maybe_int(fields, "expires")?,
        replay_of: fields.get("replay_of").map(|text| self::id(text)).transpose()?,
        history: Vec::new(),
    })
}

pub(super) fn standing(id: JobId, fields: &Fields) -> Result<Standing> {
    Ok(Standing {
        seq: int(fields, "seq")?,
        id,
        state: state(fields)?,
        token: int(fields, "token")?,
        beats: int(fields, "beats")?,
        lease_ms: int(fields, "lease")?,
        done: int(fields, "done")?,
        total: int(fields, "total")?,
        attempts: int(fields, "attempts")?,
        troubles: int(fields, "troubles")?,
        losses: int(fields, "losses")?,
        lost_alone: int(fields, "lost_alone")?,
        alone: fields.contains_key("alone"),
        retries: int(fields, "retries")?,
        ttl_ms: int(fields, "ttl")?,
        not_before: maybe_int(fields, "not_before")?,
        started: maybe_int(fields, "started")?,
        ended: maybe_int(fields, "ended")?,
        expires: maybe_int(fields, "expires")?,
        reason: fields.get("reason").cloned(),
        untold: is_untold(fields),
        has_callback: fields.contains_key("callback"),
        is_over: false,
        change: Change::None,
        lines: Vec::new(),
    })
}

/// Returns the fields of what may change.
pub(super) fn of(standing: &Standing) -> Vec<(&'static str, Option<String>)> {
    let number = |number: i64| Some(number).filter(|number| *number != 0).map(|number| number.to_string());
    let flag = |flag: bool| flag.then(|| "1".to_owned());
    let time = |time: Option<i64>| time.map(|time| time.to_string());
    vec![
        ("state", Some(standing.state.as_str().to_owned())),
        ("token", number(standing.token)),
        ("beats", number(standing.beats)),
        ("done", number(standing.done)),
        ("attempts", number(standing.attempts)),
        ("troubles", number(standing.troubles)),
        ("losses", number(standing.losses)),
        ("lost_alone", number(standing.lost_alone)),
        ("alone", flag(standing.alone)),
        ("not_before", time(standing.not_before)),
        ("started", time(standing.started)),
        ("ended", time(standing.ended)),
        ("expires", time(standing.expires)),
        ("reason", standing.reason.clone()),
        ("untold", flag(standing.untold)),
    ]
}
