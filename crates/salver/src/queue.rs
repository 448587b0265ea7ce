//! The queue of jobs as a server and `salver worker` have it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use salver_core::Infer;
use salver_jobs::{
    Bell, Callbacks, Crew, CrewOptions, Jobs, JobsOptions, Messenger, Millis, Observe, Queue, Stats, queue_at,
    system_clock,
};
use salver_server::JobWork;
use salver_store::make_folder;
use salver_telemetry::{JobMetrics, Metrics};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::settings::ServeOptions;
use crate::{callbacks, wiring};

/// How long to wait before a queue that cannot be opened is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How long the start waits for a queue: what is ready should take jobs.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long jobs wait at the start for models that are being loaded: those of models that are there
/// should not wait for ever for one that takes its time.
const LOADING: Duration = Duration::from_secs(60);

/// A queue that the settings name. It is being opened until [`OpenQueue::opened`].
pub(crate) struct OpenQueue {
    queue: Arc<dyn Queue>,
    bell: Bell,
    messenger: Option<Arc<dyn Messenger>>,
    is_open: watch::Receiver<bool>,
    _opening: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl OpenQueue {
    /// Opens what the settings say; none: they say not to.
    ///
    /// # Errors
    /// Where a folder cannot be written or a URL is none.
    pub(crate) fn open(options: &ServeOptions) -> Result<Option<Self>> {
        if !options.jobs {
            ensure!(options.queue.is_none(), "--queue names a queue of jobs, which --jobs=false leaves out");
            return Ok(None);
        }
        let messenger = callbacks::messenger(options)?;
        let queue = match &options.queue {
            Some(url) => queue_at(url.expose()).context("--queue")?,
            None => {
                let folder = options.data.join("jobs");
                let hint = || format!("keep jobs in {} (--data DIR, or --jobs=false)", folder.display());
                make_folder(&options.data).and_then(|()| make_folder(&folder)).with_context(hint)?;
                let file = folder.join("jobs.db");
                let file = file.to_str().with_context(|| format!("{} is not UTF-8", file.display()))?;
                queue_at(&format!("sqlite://{file}")).with_context(hint)?
            }
        };
        let (opened, is_open) = watch::channel(false);
        let preparing = queue.clone();
        let opening = AbortOnDrop(tokio::spawn(async move {
            prepare(&*preparing).await;
            opened.send_replace(true);
            // Whoever looks later is still to see it.
            opened.closed().await;
        }));
        Ok(Some(Self { queue, bell: Bell::default(), messenger, is_open, _opening: opening }))
    }

    /// Waits a while until the queue is open.
    pub(crate) async fn opened(&self) {
        let mut is_open = self.is_open.clone();
        let _ = tokio::time::timeout(PATIENCE, is_open.wait_for(|is_open| *is_open)).await;
    }

    /// Returns the queue for those who submit and ask.
    pub(crate) fn jobs(&self, options: &ServeOptions) -> Jobs {
        let options = JobsOptions {
            most: options.max_jobs,
            most_per_caller: NonZeroU64::new(options.max_jobs_per_caller),
            messenger: self.messenger.clone(),
        };
        Jobs::new(self.queue.clone(), self.bell.clone(), system_clock(), options)
    }

    /// Begins to work on what stands in the queue, once `first_loads` are over.
    pub(crate) fn begin(
        &self,
        infer: Arc<dyn Infer>,
        metrics: &Metrics,
        options: &ServeOptions,
        first_loads: impl Future<Output = ()> + Send + 'static,
    ) -> Working {
        let stop = CancellationToken::new();
        let work = JobWork::new(infer, wiring::server_options(options).limits.protocol);
        let observer = Arc::new(Observer(metrics.jobs()));
        observer.reached(*self.is_open.borrow());
        let crew_options = CrewOptions {
            jobs: options.job_workers,
            lease: Duration::from_millis(options.job_lease_ms),
            keep: Duration::from_secs(options.job_keep_days * 24 * 3600),
            grace: Duration::from_millis(options.shutdown_grace_ms),
            ..CrewOptions::default()
        };
        let queue = self.queue.clone();
        let callbacks = self.messenger.clone().map(|messenger| {
            let (queue, options) = (queue.clone(), callbacks::options(options));
            Callbacks::new(queue, messenger, self.bell.clone(), system_clock(), observer.clone(), options)
        });
        let crew = Crew::new(queue, Arc::new(work), self.bell.clone(), system_clock(), observer, crew_options);
        let (mut is_open, stopping) = (self.is_open.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let is_there = async {
                if tokio::time::timeout(LOADING, first_loads).await.is_err() {
                    tracing::warn!("some models are still loading; jobs of the others begin meanwhile");
                }
                // Its sender lives as long as this process works.
                let _ = is_open.wait_for(|is_open| *is_open).await;
            };
            if stopping.run_until_cancelled(is_there).await.is_none() {
                return;
            }
            // The crew ends first: what its last jobs have to tell is sent, too.
            let over = CancellationToken::new();
            let telling = callbacks.map(|callbacks| tokio::spawn(callbacks.run(over.clone())));
            crew.run(stopping).await;
            over.cancel();
            if let Some(Err(panic)) = match telling {
                Some(telling) => Some(telling.await),
                None => None,
            } {
                tracing::error!(%panic, "the messages that jobs have ended");
            }
        });
        Working { stop, task }
    }
}

/// Brings the queue up to date, as long as that takes.
async fn prepare(queue: &dyn Queue) {
    let mut said = false;
    while let Err(error) = queue.prepare().await {
        if !std::mem::replace(&mut said, true) {
            tracing::error!(%error, cause = ?error, "the queue of jobs cannot be opened; trying on");
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Workers in this process.
pub(crate) struct Working {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Working {
    /// Lets jobs that run end within the grace, and gives the others back.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        if let Err(panic) = self.task.await {
            tracing::error!(%panic, "the workers of jobs");
        }
    }
}

struct Observer(JobMetrics);

impl Observe for Observer {
    fn ended(&self, outcome: &'static str, took: Duration) {
        self.0.ran(outcome, took);
    }

    fn lost(&self, jobs: u64) {
        self.0.lost(jobs);
    }

    fn told(&self, outcome: &'static str) {
        self.0.told(outcome);
    }

    fn reached(&self, answers: bool) {
        self.0.answers(answers);
    }

    fn stats(&self, stats: &Stats, now: Millis) {
        for (state, jobs) in
            [("scheduled", stats.scheduled), ("queued", stats.queued), ("running", stats.running), ("dead", stats.dead)]
        {
            self.0.depth(state, jobs);
        }
        let age = stats.oldest_queued_ms.map_or(0, |oldest| now.saturating_sub(oldest));
        self.0.oldest(Duration::from_millis(u64::try_from(age).unwrap_or(0)));
    }
}
