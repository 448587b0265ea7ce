//! Tells those who asked for it that a job has ended.
//!
//! The queue keeps what is to be told, so it survives restarts; taking a message out puts it off, so no
//! two servers send it at once. It arrives at least once: who is killed between sending and noting
//! sends again. A receiver that is slow gets a few messages at a time; the others go past it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use salver_core::{BoxFuture, Result};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bell::Bell;
use crate::clock::Clock;
use crate::crew::Observe;
use crate::policy;
use crate::queue::Queue;
use crate::types::{Callback, Job, JobId, Millis};

/// How long the queue is left alone at least between two looks.
const REST: Duration = Duration::from_millis(50);
/// How long the queue is not asked after it could not be reached.
const TROUBLE: Duration = Duration::from_secs(1);
/// When a message is due again whose receiver had enough of them.
const BUSY: Duration = Duration::from_secs(10);

/// Sends messages.
pub trait Messenger: fmt::Debug + Send + Sync + 'static {
    /// Checks where a message is to go, before it is kept; returns it in its one spelling.
    ///
    /// # Errors
    /// `InvalidInput` for what may not be sent to.
    fn check(&self, url: &str) -> Result<String>;

    /// Says that a job has ended, once. It ends within the time limit of [`CallbackOptions`].
    fn send<'a>(&'a self, url: &'a str, job: &'a Job) -> BoxFuture<'a, Sent>;
}

/// What became of an attempt, in words for the job's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It arrived.
    Arrived(String),
    /// It did not, and may the next time.
    Failed(String),
    /// The receiver wants no such messages any more.
    Unwanted(String),
    /// It was not tried, because its receiver has enough of them at the moment.
    Busy,
}

/// How messages are sent.
#[derive(Debug, Clone)]
pub struct CallbackOptions {
    /// Attempts at a time.
    pub at_a_time: usize,
    /// How often the queue is looked at for jobs that other processes ended.
    pub poll: Duration,
    /// How long an attempt may take. Another process takes over after three times that.
    pub time_limit: Duration,
    /// How long attempts that are under way may go on at the end.
    pub grace: Duration,
    /// The wait after the first attempt; further ones are longer, up to 5760 times.
    pub first_wait: Duration,
}

impl Default for CallbackOptions {
    fn default() -> Self {
        Self {
            at_a_time: 64,
            poll: Duration::from_secs(1),
            time_limit: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            first_wait: Duration::from_secs(5),
        }
    }
}

/// See the module's description.
pub struct Callbacks {
    queue: Arc<dyn Queue>,
    messenger: Arc<dyn Messenger>,
    bell: Bell,
    clock: Clock,
    observer: Arc<dyn Observe>,
    options: CallbackOptions,
}

impl Callbacks {
    /// Nothing is sent before [`Callbacks::run`].
    pub fn new(
        queue: Arc<dyn Queue>,
        messenger: Arc<dyn Messenger>,
        bell: Bell,
        clock: Clock,
        observer: Arc<dyn Observe>,
        options: CallbackOptions,
    ) -> Arc<Self> {
        Arc::new(Self { queue, messenger, bell, clock, observer, options })
    }

    /// Sends until told to stop; attempts that are under way then may end.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        while !stop.is_cancelled() {
            while under_way.try_join_next().is_some() {}
            let room = self.options.at_a_time.saturating_sub(under_way.len());
            let due = if room == 0 { Vec::new() } else { self.due(room).await };
            let is_all = due.len() < room;
            due.into_iter().for_each(|callback| drop(under_way.spawn(self.clone().call(callback))));
            let pause = async {
                tokio::time::sleep(REST).await;
                if is_all {
                    self.bell.heard_end(self.options.poll).await;
                } else if room == 0 {
                    under_way.join_next().await;
                }
            };
            tokio::select! {
                () = pause => {}
                () = stop.cancelled() => {}
            }
        }
        let all = async { while under_way.join_next().await.is_some() {} };
        // What is not noted is due again by itself.
        let _ = tokio::time::timeout(self.options.grace, all).await;
    }

    async fn due(&self, most: usize) -> Vec<Callback> {
        let now = (self.clock)();
        match self.queue.callbacks(most, now, after(now, 3 * self.options.time_limit)).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "messages that jobs have ended cannot be read; trying on");
                tokio::time::sleep(TROUBLE).await;
                Vec::new()
            }
        }
    }

    /// Sends one message, and notes what became of it. Where that fails, it is due again by itself.
    async fn call(self: Arc<Self>, callback: Callback) {
        let Callback { id, url, attempts } = callback;
        let job = match self.queue.get(id).await {
            Ok(Some(job)) if job.state.has_ended() => job,
            // It was removed meanwhile.
            Ok(_) => return,
            Err(error) => return tracing::warn!(job = %id, %error, "what is to be told of a job cannot be read"),
        };
        let sent = self.messenger.send(&url, &job).await;
        let noted = self.note(id, attempts.saturating_add(1), sent).await;
        if let Err(error) = noted {
            tracing::warn!(job = %id, %error, "that a message was sent cannot be written down; it may be sent again");
        }
    }

    async fn note(&self, id: JobId, attempts: u32, sent: Sent) -> Result<()> {
        let now = (self.clock)();
        let again = policy::after_message(attempts, self.options.first_wait);
        let (outcome, again, text) = match (sent, again) {
            (Sent::Busy, _) => return self.queue.put_off(id, after(now, BUSY)).await,
            (Sent::Arrived(text), _) => ("sent", None, text),
            (Sent::Unwanted(text), _) => ("given_up", None, format!("{text}; it is not sent again")),
            (Sent::Failed(text), Some(wait)) => {
                ("failed", Some(after(now, wait)), format!("{text}; again in {wait:?}"))
            }
            (Sent::Failed(text), None) => ("given_up", None, format!("{text}; given up after {attempts} attempts")),
        };
        self.observer.told(outcome);
        self.queue.called_back(id, again, format!("callback: {text}"), now).await
    }
}

fn after(now: Millis, wait: Duration) -> Millis {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
