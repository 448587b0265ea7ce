//! One call: in line, past the circuit, within its time, tried again where that may help, and charged
//! the moment it is known that somebody charges for it.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::HeaderMap;
use parking_lot::Mutex;
use salver_core::{Bill, Context, Cost, Error, ErrorKind, Prices, Result};
use salver_outbound::{Ask, Miss, Reply, Unread, Upstream};
use salver_telemetry::{RemoteMetrics, RemoteOutcome};
use tokio::sync::Semaphore;

use crate::breaker::{Breaker, Ticket, Verdict};
use crate::budget::{self, Budget};
use crate::status::{Failed, Remote};

/// The most that is read of an answer that is none.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
/// A pause that is longer is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Answers from this size on are read away from the async threads.
const OFFLOAD_BYTES: usize = 1 << 20;

/// Makes these calls, so many at a time, and returns what came of each in their order. One alone takes
/// no more memory than it needs: it may wait for long, and there may be thousands.
pub(crate) async fn side_by_side<F: Future>(mut calls: Vec<F>, at_once: usize) -> Vec<F::Output> {
    match (calls.pop(), calls.is_empty()) {
        (None, _) => Vec::new(),
        (Some(only), true) => {
            drop(calls);
            vec![Box::pin(only).await]
        }
        (Some(last), false) => {
            calls.push(last);
            Box::pin(stream::iter(calls).buffered(at_once).collect()).await
        }
    }
}

/// Tokens that a server has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// What was found in an answer of success. What is used is charged, whatever else the answer is worth.
pub(crate) struct Reading<T> {
    pub(crate) usage: Option<Usage>,
    /// What it says; else why it cannot be used.
    pub(crate) value: Result<T, String>,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) path: Cow<'static, str>,
    /// All that is sent besides what HTTP needs.
    pub(crate) headers: Cow<'a, HeaderMap>,
    /// None: the path is got.
    pub(crate) body: Option<Bytes>,
}

/// How calls are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Duration,
    pub(crate) max_concurrency: usize,
    pub(crate) retries: u32,
    pub(crate) max_answer_bytes: usize,
    pub(crate) prices: Prices,
}

/// Calls one server for one model.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) remote: Remote,
    pub(crate) options: CallOptions,
    upstream: Upstream,
    places: Semaphore,
    breaker: Mutex<Breaker>,
    budget: Mutex<Budget>,
    metrics: RemoteMetrics,
    chance: RandomState,
}

impl Caller {
    pub(crate) fn new(remote: Remote, upstream: Upstream, options: CallOptions, metrics: RemoteMetrics) -> Self {
        Self {
            remote,
            upstream,
            places: Semaphore::new(options.max_concurrency),
            breaker: Mutex::default(),
            budget: Mutex::new(Budget::new(Instant::now())),
            metrics,
            chance: RandomState::new(),
            options,
        }
    }

    /// Asks until there is an answer, or another attempt is not worth it.
    ///
    /// # Errors
    /// As [`salver_core::AsyncModel::run`].
    pub(crate) async fn ask<T, R>(&self, question: &Question<'_>, ctx: &Context, read: R) -> Result<T>
    where
        T: Send + 'static,
        R: Fn(&HeaderMap, Bytes) -> Reading<T> + Clone + Send + 'static,
    {
        self.budget.lock().earn();
        let mut last: Option<Error> = None;
        for tries in 0.. {
            let ticket = match self.line_up().await {
                Ok(ticket) => ticket,
                // What the server itself said tells more.
                Err(refusal) => return Err(last.unwrap_or(refusal)),
            };
            let failed = match self.attempt(question, ctx, ticket, read.clone()).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            match self.pause(&failed, tries, ctx) {
                None => return Err(failed.error),
                Some(pause) => tokio::time::sleep(pause).await,
            }
            last = Some(failed.error);
        }
        Err(last.unwrap_or_else(|| Error::engine("a call without an attempt")))
    }

    /// Says how long to wait before the next attempt; none: there is none.
    fn pause(&self, failed: &Failed, tries: u32, ctx: &Context) -> Option<Duration> {
        if !failed.may_retry || tries >= self.options.retries {
            return None;
        }
        let now = Instant::now();
        let wait = budget::wait(tries, self.chance.hash_one(now));
        let wait = failed.error.retry_after().map_or(wait, |asked| asked.max(wait));
        let is_late = ctx.deadline.is_some_and(|deadline| deadline.saturating_duration_since(now) <= wait);
        let is_worth_it = wait <= LONGEST_WAIT && !is_late && self.budget.lock().spend(now);
        is_worth_it.then_some(wait)
    }

    /// Waits for a place, unless the circuit is open.
    async fn line_up(&self) -> Result<Attempt<'_>> {
        if let Some(left) = self.breaker.lock().refusal(Instant::now()) {
            return Err(self.circuit_open(left));
        }
        // Never closed, so this cannot fail.
        let place = self.places.acquire().await.ok();
        let admitted = self.breaker.lock().admit(Instant::now());
        let ticket = admitted.map_err(|left| self.circuit_open(left))?;
        let attempt = Attempt { caller: self, ticket, end: None, _place: place, _in_flight: self.metrics.in_flight() };
        Ok(attempt)
    }

    fn circuit_open(&self, left: Duration) -> Error {
        let text = "it failed again and again, so it is left alone for a moment; try again later";
        Error::not_ready(self.remote.message(text)).with_retry_after(left)
    }

    /// Asks once, within the time of an attempt.
    async fn attempt<T, R>(
        &self,
        question: &Question<'_>,
        ctx: &Context,
        mut attempt: Attempt<'_>,
        read: R,
    ) -> Result<T, Failed>
    where
        T: Send + 'static,
        R: Fn(&HeaderMap, Bytes) -> Reading<T> + Send + 'static,
    {
        let limit = self.options.timeout;
        let asked = tokio::time::timeout(limit, self.exchange(question, ctx, read)).await;
        let asked = asked.unwrap_or_else(|_| {
            let text = format!("no answer within {} ms (timeout_ms)", limit.as_millis());
            let error = Error::new(ErrorKind::Deadline, self.remote.message(&text));
            Err(failing(error, RemoteOutcome::Timeout, false))
        });
        attempt.end = Some(match &asked {
            Ok(_) => (RemoteOutcome::Success, Verdict::Alive),
            Err(failed) => (failed.outcome, failed.verdict),
        });
        asked
    }

    async fn exchange<T, R>(&self, question: &Question<'_>, ctx: &Context, read: R) -> Result<T, Failed>
    where
        T: Send + 'static,
        R: Fn(&HeaderMap, Bytes) -> Reading<T> + Send + 'static,
    {
        let ask = Ask { path: &question.path, headers: &question.headers, body: question.body.as_ref() };
        let reply = self.upstream.send(ask).await.map_err(|miss| self.missed(miss))?;
        let status = reply.status();
        if !(200..300).contains(&status) {
            let headers = reply.headers().clone();
            let body = reply.body(MAX_REFUSAL_BYTES).await.unwrap_or_default();
            return Err(self.remote.refused(status, &headers, &body));
        }
        self.charge(ctx, self.options.prices.per_call);
        let Reading { usage, value } = self.read(reply, read).await?;
        if let Some(usage) = usage {
            let prices = &self.options.prices;
            self.metrics.used(usage.input, usage.output);
            self.charge(ctx, prices.per_1k_input_tokens.per_thousand(usage.input));
            self.charge(ctx, prices.per_1k_output_tokens.per_thousand(usage.output));
        }
        value.map_err(|why| self.unusable(&why))
    }

    /// Reads an answer of success, away from the async threads if it is large.
    async fn read<T, R>(&self, reply: Reply, read: R) -> Result<Reading<T>, Failed>
    where
        T: Send + 'static,
        R: Fn(&HeaderMap, Bytes) -> Reading<T> + Send + 'static,
    {
        let most = self.options.max_answer_bytes;
        let headers = reply.headers().clone();
        let body = reply.body(most).await.map_err(|unread| match unread {
            Unread::TooLarge => self.unusable(&format!("it has more than {} MiB (max_answer_mb)", most >> 20)),
            Unread::Lost(why) => self.lost(&why),
        })?;
        if body.len() < OFFLOAD_BYTES {
            return Ok(read(&headers, body));
        }
        let reading = tokio::task::spawn_blocking(move || read(&headers, body)).await;
        reading.map_err(|_| self.unusable("reading it failed"))
    }

    /// Notes what is charged, here and on the request's bill.
    fn charge(&self, ctx: &Context, cost: Cost) {
        if cost == Cost::ZERO {
            return;
        }
        self.metrics.charged(cost.as_picos());
        ctx.bill.iter().for_each(|bill: &std::sync::Arc<Bill>| bill.add(cost));
    }

    fn missed(&self, miss: Miss) -> Failed {
        match miss {
            Miss::Refused(why) => {
                let error = Error::engine(self.remote.message(&format!("it may not be reached: {why}")));
                Failed { error, outcome: RemoteOutcome::Unreached, verdict: Verdict::Unknown, may_retry: false }
            }
            Miss::Unreached(why) => {
                let error = Error::not_ready(self.remote.message(&format!("it is not reached: {why}")));
                failing(error, RemoteOutcome::Unreached, true)
            }
            Miss::Lost(why) => self.lost(&why),
        }
    }

    /// Something was sent, and nobody knows what became of it: it is not sent again.
    fn lost(&self, why: &str) -> Failed {
        let error = Error::not_ready(self.remote.message(&format!("the connection ended before its answer: {why}")));
        failing(error, RemoteOutcome::Lost, false)
    }

    fn unusable(&self, why: &str) -> Failed {
        failing(self.remote.unusable(why), RemoteOutcome::Unusable, false)
    }
}

fn failing(error: Error, outcome: RemoteOutcome, may_retry: bool) -> Failed {
    Failed { error, outcome, verdict: Verdict::Failing, may_retry }
}

/// An attempt that has its place. One that is dropped before its end was given up.
struct Attempt<'c> {
    caller: &'c Caller,
    ticket: Ticket,
    end: Option<(RemoteOutcome, Verdict)>,
    _place: Option<tokio::sync::SemaphorePermit<'c>>,
    _in_flight: salver_telemetry::InFlight<'c>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let (outcome, verdict) = self.end.unwrap_or((RemoteOutcome::Abandoned, Verdict::Unknown));
        let metrics = &self.caller.metrics;
        metrics.attempted(outcome);
        let mut breaker = self.caller.breaker.lock();
        breaker.record(self.ticket, verdict, Instant::now());
        metrics.circuit_open(breaker.is_open());
    }
}
