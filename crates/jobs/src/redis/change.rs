//! Changes jobs that are there: reads one, decides, and writes it if nobody else did meanwhile.

use redis::cmd;
use salver_core::{Error, Result};

use super::fields::{self, Fields};
use super::{MOST_JOBS, RedisQueue, scripts};
use crate::standing::{Standing, clean};
use crate::submission::LARGEST_BODY;
use crate::types::{Answer, Filter, Held, Hold, JobId, Millis, Outcome, State};

/// How often a job is read again that others change at the same time.
const MOST_TRIES: usize = 20;

/// What is written with a job.
#[derive(Default, Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) answer: Option<&'a Answer>,
    /// When somebody is to be told next, where that changes; none: never.
    pub(super) callback: Option<Option<Millis>>,
}

impl RedisQueue {
    /// Changes a job as `decide` does. False: there is no such job, or `decide` said no.
    pub(super) async fn change(
        &self,
        id: JobId,
        beside: Beside<'_>,
        decide: impl Fn(&mut Standing) -> bool,
    ) -> Result<bool> {
        for _ in 0..MOST_TRIES {
            let command = cmd("HGETALL").arg(self.key("job", id)).take();
            let found = command.query_async(&mut self.redis.connection()).await;
            let found: Fields = found.map_err(|error| self.failed(error))?;
            if found.is_empty() {
                return Ok(false);
            }
            let before = fields::standing(id, &found)?;
            let mut after = before.clone();
            if !decide(&mut after) {
                return Ok(false);
            }
            let rev = found.get("rev").map_or("0", String::as_str);
            if self.save(rev, &before, after, beside).await? {
                return Ok(true);
            }
        }
        Err(Error::not_ready("others change the same job all the time; try again shortly"))
    }

    /// Writes a job if it still is as it was read.
    async fn save(&self, rev: &str, before: &Standing, after: Standing, beside: Beside<'_>) -> Result<bool> {
        let (before, now) = (fields::of(before), fields::of(&after));
        let changed: Vec<_> = now.into_iter().zip(before).filter(|(now, before)| now != before).collect();
        let (set, gone): (Vec<_>, Vec<_>) = changed.into_iter().map(|(now, _)| now).partition(|now| now.1.is_some());
        let mut set: Vec<_> = set.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
        if let Some(answer) = beside.answer {
            set.push(("answer_type", clean(&answer.content_type)));
            set.extend(answer.header_len.map(|len| ("answer_header_len", len.to_string())));
        }
        let mut call = scripts::SAVE.call().arg(after.id).arg(rev).arg(set.len());
        for (name, value) in set {
            call = call.arg(name).arg(value);
        }
        call = gone.iter().fold(call.arg(gone.len()), |call, (name, _)| call.arg(*name));
        call = call.arg(after.lines.len());
        for line in &after.lines {
            call = call.arg(format!("{} {}", line.at_ms, line.text));
        }
        call = match beside.callback.filter(|_| after.has_callback) {
            None => call.arg("as it is"),
            Some(None) => call.arg("never"),
            Some(Some(next)) => call.arg(next),
        };
        if let Some(answer) = beside.answer {
            call = call.arg(&answer.body[..]);
        }
        self.run(call).await
    }

    /// Notes how a run ended.
    pub(super) async fn end(&self, hold: Hold, outcome: Outcome, now: Millis) -> Result<bool> {
        let outcome = match outcome {
            Outcome::Done(answer) if answer.body.len() > LARGEST_BODY => {
                let n_bytes = answer.body.len();
                Outcome::Failed(format!("its answer has {n_bytes} bytes; Redis keeps up to {LARGEST_BODY}"))
            }
            other => other,
        };
        let answer = match &outcome {
            Outcome::Done(answer) => Some(answer),
            Outcome::Failed(_) | Outcome::Troubled(_) | Outcome::Lost(_) | Outcome::GivenBack => None,
        };
        self.change(hold.id, Beside { answer, ..Beside::default() }, |standing| {
            let holds = standing.is_held_by(hold);
            if holds {
                standing.finish(&outcome, now);
            }
            holds
        })
        .await
    }

    /// Takes a job from a worker that gave no sign of life since.
    pub(super) async fn lose_one(&self, held: Held, now: Millis) -> Result<bool> {
        self.change(held.hold.id, Beside::default(), |standing| {
            let is_silent = standing.is_held_by(held.hold) && standing.beats == held.beats;
            if is_silent {
                standing.lose(now);
            }
            is_silent
        })
        .await
    }

    /// Removes jobs that have ended, some at a time.
    pub(super) async fn remove(&self, filter: Filter) -> Result<u64> {
        let Filter { states, model, created_before_ms } = filter;
        let meant = |state: &State| state.has_ended() && (states.is_empty() || states.contains(state));
        let mut n_removed = 0;
        // To the script, nothing means any.
        if model.as_deref() == Some("") {
            return Ok(n_removed);
        }
        for state in State::ALL.into_iter().filter(meant) {
            let mut after = Some(0);
            while let Some(seq) = after {
                let call = scripts::PURGE.call().arg(state.as_str()).arg(seq).arg(MOST_JOBS);
                let call = call.arg(model.as_deref().unwrap_or_default());
                let before = created_before_ms.map(|before| before.to_string()).unwrap_or_default();
                let (last, n): (Option<i64>, u64) = self.run(call.arg(before)).await?;
                (after, n_removed) = (last, n_removed + n);
            }
        }
        Ok(n_removed)
    }
}
