//! Answers questions.

use std::time::Duration;

use redis::{Value, cmd, from_redis_value};
use salver_core::{Error, ErrorKind, Result};

use super::fields::{self, Fields};
use super::{MOST_JOBS, RedisQueue, scripts};
use crate::page::{LONGEST_PAGE, place};
use crate::standing::history;
use crate::types::{Answer, Event, Filter, Gate, Held, Hold, Job, JobId, Millis, Page, State, Stats};

impl RedisQueue {
    pub(super) async fn read(&self, id: JobId) -> Result<Option<Job>> {
        let (found, lines): (Fields, Vec<String>) = self.run(scripts::GET.call().arg(id)).await?;
        if found.is_empty() {
            return Ok(None);
        }
        let mut job = fields::job(id, &found)?;
        job.history = history(&job, lines.iter().map(|line| event(line)).collect(), fields::is_untold(&found));
        Ok(Some(job))
    }

    pub(super) async fn read_answer(&self, id: JobId) -> Result<Option<Answer>> {
        let found: Option<(String, Option<u64>, Vec<u8>)> = self.run(scripts::ANSWER.call().arg(id)).await?;
        Ok(found.map(|(content_type, header_len, body)| Answer { content_type, header_len, body: body.into() }))
    }

    pub(super) async fn read_held(&self) -> Result<Vec<Held>> {
        let held: Vec<(String, i64, i64, u64)> = self.run(scripts::HELD.call()).await?;
        let held = held.into_iter().map(|(id, token, beats, lease)| {
            let hold = Hold { id: fields::id(&id)?, token };
            Ok(Held { hold, beats, lease: Duration::from_millis(lease) })
        });
        held.collect()
    }

    /// Returns a page, looking at some jobs at a time.
    pub(super) async fn page(&self, filter: Filter, after: Option<String>, limit: usize) -> Result<Page> {
        let limit = limit.clamp(1, LONGEST_PAGE);
        // To the script, nothing means any.
        if filter.model.as_deref() == Some("") {
            return Ok(Page { jobs: Vec::new(), next: None });
        }
        let mut before = after.as_deref().map(place).transpose()?.map_or("+inf".to_owned(), |place| place.to_string());
        let mut jobs: Vec<(i64, Job)> = Vec::new();
        loop {
            let most = limit + 1 - jobs.len();
            let (last, found) = self.look(&filter, &before, most).await?;
            jobs.extend(found);
            match last {
                Some(last) if jobs.len() <= limit => before = last.to_string(),
                _ => break,
            }
        }
        let is_last = jobs.len() <= limit;
        jobs.truncate(limit);
        let next = jobs.last().filter(|_| !is_last).map(|(seq, _)| format!("{seq:x}"));
        Ok(Page { jobs: jobs.into_iter().map(|(_, job)| job).collect(), next })
    }

    /// Looks at some jobs: returns the number of the last one, and those that are meant.
    async fn look(&self, filter: &Filter, before: &str, most: usize) -> Result<(Option<i64>, Vec<(i64, Job)>)> {
        let Filter { states, model, created_before_ms } = filter;
        let is_any = model.is_none() && created_before_ms.is_none();
        let n_look = if is_any { most.min(MOST_JOBS) } else { MOST_JOBS };
        let created_before = created_before_ms.map(|before| before.to_string()).unwrap_or_default();
        let call = scripts::LIST.call().arg(before).arg(n_look).arg(most).arg(model.as_deref().unwrap_or_default());
        let wanted = State::ALL.into_iter().filter(|state| states.is_empty() || states.contains(state));
        let call = wanted.fold(call.arg(created_before), |call, state| call.arg(state.as_str()));
        let (last, found): (Option<i64>, Vec<Value>) = self.run(call).await?;
        let jobs = found.into_iter().map(|value| {
            let parts = from_redis_value(value).map_err(|error| self.failed(error.into()))?;
            let (id, fields): (String, Fields) = parts;
            Ok((fields::seq(&fields)?, fields::job(fields::id(&id)?, &fields)?))
        });
        Ok((last, jobs.collect::<Result<_>>()?))
    }

    pub(super) async fn count_unfinished(&self, caller: &str) -> Result<u64> {
        let question = cmd("HGET").arg(format!("{}unfinished", self.prefix)).arg(caller).take();
        let found = question.query_async(&mut self.redis.connection()).await;
        let found: Option<u64> = found.map_err(|error| self.failed(error))?;
        Ok(found.unwrap_or(0))
    }

    pub(super) async fn count(&self) -> Result<Stats> {
        let counted = self.run(scripts::STATS.call()).await?;
        let (scheduled, queued, running, dead, oldest, gate): (u64, u64, u64, u64, Option<Millis>, Option<String>) =
            counted;
        let gate = gate.map_or(Ok(Gate::Open), |name| {
            let gate = Gate::ALL.into_iter().find(|gate| gate.as_str() == name);
            gate.ok_or_else(|| Error::new(ErrorKind::Engine, format!("the queue's gate is '{name}', which is none")))
        })?;
        Ok(Stats { scheduled, queued, running, dead, oldest_queued_ms: oldest, gate })
    }
}

/// Reads a line of a history.
fn event(line: &str) -> Event {
    let (at, text) = line.split_once(' ').unwrap_or(("0", line));
    Event { at_ms: at.parse().unwrap_or_default(), text: text.to_owned() }
}
