//! The queue in Redis.
//!
//! Every call that changes something is one Lua script (`redis/scripts/*.lua`), which Redis runs whole or
//! not at all and, where `appendfsync always` is set, answers when it is on disk. What becomes of a job
//! that a worker held is decided by the code that the other engines use (`standing.rs`): the job is
//! read, changed, and written only if nobody else changed it meanwhile.
//!
//! All calls share one connection, and Redis syncs once for all that came in together: so many callers
//! share the price. Nothing is kept in this process.

mod change;
mod claim;
mod fields;
mod opening;
mod read;
mod scripts;
mod submit;

use std::fmt;
use std::time::Duration;

use futures::future::try_join_all;
use redis::{FromRedisValue, RedisError};
use salver_core::{BoxFuture, Error, ErrorKind, Result};
use salver_store::Redis;

use self::change::Beside;
use self::scripts::Call;
use crate::queue::Queue;
use crate::types::{
    Answer, Beat, Callback, Cleared, Filter, Gate, Held, Hold, Job, JobId, Lease, Millis, NewJob, Outcome, Page, Stats,
    Submitted,
};

/// How long a reply is waited for; a Redis that stands still is as one that is away.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// Jobs that one script hands out, clears away or looks at: nobody else is served meanwhile.
const MOST_JOBS: usize = 500;

/// A queue in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisQueue {
    redis: Redis,
    /// What the names of all keys begin with.
    prefix: String,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisQueue({}, {})", self.redis.place(), self.prefix)
    }
}

impl RedisQueue {
    /// Names the queue in the Redis at `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME]`; the
    /// other parameters and kinds of address are those of [`Redis::lazy`]. Calls answer `NotReady`
    /// while it cannot be reached. Call it on a Tokio runtime.
    ///
    /// # Errors
    /// `InvalidInput` for an address that is none.
    pub fn new(url: &str) -> Result<Self> {
        let (url, name) = opening::parse(url)?;
        let redis = Redis::lazy(&url, "the queue of jobs", REPLY_LIMIT)?;
        // All keys have the same part in braces: a cluster keeps them on one node.
        Ok(Self { redis, prefix: format!("{{{name}}}:") })
    }

    fn key(&self, kind: &str, name: impl fmt::Display) -> String {
        format!("{}{kind}:{name}", self.prefix)
    }

    async fn run<T: FromRedisValue>(&self, call: Call) -> Result<T> {
        let reply = call.run(&self.prefix, &mut self.redis.connection()).await;
        reply.map_err(|error| self.failed(error))
    }

    /// Turns what went wrong into what a caller may act on.
    fn failed(&self, error: RedisError) -> Error {
        let place = self.redis.place();
        let text = error.to_string();
        // In a script, older versions say so in the text only.
        let is_full = |code: &str| error.code() == Some(code) || text.contains(&format!("-{code} "));
        let (kind, text) = match (error.code(), error.detail()) {
            _ if is_full("OOM") || is_full("MISCONF") => {
                (ErrorKind::Full, format!("the queue's Redis at {place} has no room left: {text}"))
            }
            (Some(code), detail) => {
                let detail = detail.unwrap_or_default();
                (ErrorKind::NotReady, format!("the queue's Redis at {place} refuses: {code} {detail}"))
            }
            (None, _) => (ErrorKind::NotReady, format!("the queue's Redis at {place} does not answer: {error}")),
        };
        Error::new(kind, text).with_source(error)
    }
}

impl Queue for RedisQueue {
    fn prepare(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.open())
    }

    fn submit(&self, job: NewJob, now: Millis) -> BoxFuture<'_, Result<Submitted>> {
        Box::pin(self.take_in(job, now))
    }

    fn unfinished(&self, caller: &str, most: u64) -> BoxFuture<'_, Result<u64>> {
        let caller = caller.to_owned();
        Box::pin(async move { Ok(self.count_unfinished(&caller).await?.min(most)) })
    }

    fn claim(&self, most: usize, is_idle: bool, lease: Duration, now: Millis) -> BoxFuture<'_, Result<Vec<Lease>>> {
        Box::pin(self.clone().claim_for_sure(most, is_idle, lease, now))
    }

    fn renew(&self, beats: Vec<Beat>) -> BoxFuture<'_, Result<Vec<bool>>> {
        Box::pin(async move {
            let calls = beats.chunks(MOST_JOBS).map(|beats| {
                let beat = |call: Call, beat: &Beat| call.arg(beat.hold.id).arg(beat.hold.token).arg(beat.done);
                self.run::<Vec<bool>>(beats.iter().fold(scripts::RENEW.call(), beat))
            });
            Ok(try_join_all(calls).await?.concat())
        })
    }

    fn finish(&self, hold: Hold, outcome: Outcome, now: Millis) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.end(hold, outcome, now))
    }

    fn held(&self) -> BoxFuture<'_, Result<Vec<Held>>> {
        Box::pin(self.read_held())
    }

    fn lose(&self, held: Vec<Held>, now: Millis) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut n_lost = 0;
            for held in held.chunks(MOST_JOBS) {
                let lost = try_join_all(held.iter().map(|held| self.lose_one(*held, now))).await?;
                n_lost += lost.into_iter().filter(|lost| *lost).count() as u64;
            }
            Ok(n_lost)
        })
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(self.read(id))
    }

    fn answer(&self, id: JobId) -> BoxFuture<'_, Result<Option<Answer>>> {
        Box::pin(self.read_answer(id))
    }

    fn list(&self, filter: Filter, after: Option<String>, limit: usize) -> BoxFuture<'_, Result<Page>> {
        Box::pin(self.page(filter, after, limit))
    }

    fn cancel(&self, id: JobId, now: Millis) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(async move {
            self.change(id, Beside::default(), |standing| {
                let is_open = !standing.state.has_ended();
                if is_open {
                    standing.cancel(now);
                }
                is_open
            })
            .await?;
            self.read(id).await
        })
    }

    fn replay(&self, id: JobId, now: Millis) -> BoxFuture<'_, Result<Option<JobId>>> {
        Box::pin(self.submit_anew(id, now))
    }

    fn set_gate(&self, gate: Gate) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.run(scripts::GATE.call().arg(gate.as_str())))
    }

    fn purge(&self, filter: Filter) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.remove(filter))
    }

    fn clear(&self, now: Millis, forget_before: Millis) -> BoxFuture<'_, Result<Cleared>> {
        Box::pin(async move {
            let clear = |set: &str, time: String| scripts::CLEAR.call().arg(set).arg(time).arg(MOST_JOBS);
            let begun = self.run(clear("due", now.to_string())).await?;
            let expired = self.run(clear("expiring", now.to_string())).await?;
            let forgotten = self.run(clear("forgetting", format!("({forget_before}"))).await?;
            Ok(Cleared { begun, expired, forgotten })
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        Box::pin(self.count())
    }

    fn callbacks(&self, most: usize, now: Millis, again: Millis) -> BoxFuture<'_, Result<Vec<Callback>>> {
        Box::pin(async move {
            let call = scripts::CALLBACKS.call().arg(most.min(MOST_JOBS)).arg(now).arg(again);
            let due: Vec<(String, String, u32)> = self.run(call).await?;
            due.into_iter().map(|(id, url, attempts)| Ok(Callback { id: fields::id(&id)?, url, attempts })).collect()
        })
    }

    fn put_off(&self, id: JobId, until: Millis) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.run(scripts::PUT_OFF.call().arg(id).arg(until)))
    }

    fn called_back(&self, id: JobId, again: Option<Millis>, note: String, now: Millis) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let beside = Beside { callback: Some(again), ..Beside::default() };
            self.change(id, beside, |standing| {
                standing.note(&note, now);
                true
            })
            .await
            .map(drop)
        })
    }
}
