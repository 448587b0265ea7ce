//! The queue of jobs as a server and `salver worker` have it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use salver_core::Infer;
use salver_jobs::{Bell, Crew, CrewOptions, Jobs, Millis, Observe, Queue, SqlQueue, Stats, system_clock};
use salver_server::JobWork;
use salver_store::{Database, make_folder};
use salver_telemetry::{JobMetrics, Metrics};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::settings::ServeOptions;
use crate::wiring;

/// How long to wait before a queue that cannot be opened is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A queue that the settings name. Nothing is asked of it yet.
pub(crate) struct OpenQueue {
    queue: Arc<SqlQueue>,
    bell: Bell,
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
        let database = match &options.queue {
            Some(url) => Database::lazy(url.expose()).context("--queue")?,
            None => {
                let folder = options.data.join("jobs");
                let hint = || format!("keep jobs in {} (--data DIR, or --jobs=false)", folder.display());
                make_folder(&options.data).and_then(|()| make_folder(&folder)).with_context(hint)?;
                let file = folder.join("jobs.db");
                let file = file.to_str().with_context(|| format!("{} is not UTF-8", file.display()))?;
                Database::lazy(&format!("sqlite://{file}")).with_context(hint)?
            }
        };
        Ok(Some(Self { queue: Arc::new(SqlQueue::new(database)), bell: Bell::default() }))
    }

    /// Returns the queue for those who submit and ask.
    pub(crate) fn jobs(&self, options: &ServeOptions) -> Jobs {
        Jobs::new(self.queue.clone(), self.bell.clone(), system_clock(), options.max_jobs)
    }

    /// Begins to work on what stands in the queue.
    pub(crate) fn begin(&self, infer: Arc<dyn Infer>, metrics: &Metrics, options: &ServeOptions) -> Working {
        let stop = CancellationToken::new();
        let work = JobWork::new(infer, wiring::server_options(options).limits.protocol);
        let observer = Arc::new(Observer(metrics.jobs()));
        let queue: Arc<dyn Queue> = self.queue.clone();
        let crew_options = CrewOptions {
            jobs: options.job_workers,
            lease: Duration::from_millis(options.job_lease_ms),
            grace: Duration::from_millis(options.shutdown_grace_ms),
            ..CrewOptions::default()
        };
        let crew = Crew::new(queue, Arc::new(work), self.bell.clone(), system_clock(), observer, crew_options);
        let (queue, stopping) = (self.queue.clone(), stop.clone());
        let task = tokio::spawn(async move {
            if prepare(&queue, &stopping).await {
                crew.run(stopping).await;
            }
        });
        Working { stop, task }
    }
}

/// Brings the queue's tables up to date; false: told to stop before that worked.
async fn prepare(queue: &SqlQueue, stop: &CancellationToken) -> bool {
    let mut said = false;
    loop {
        let prepared = tokio::select! {
            prepared = queue.prepare() => prepared,
            () = stop.cancelled() => return false,
        };
        match prepared {
            Ok(()) => return true,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, cause = ?error, "the queue of jobs cannot be opened; trying on");
                }
                let _ = tokio::time::timeout(TRY_AGAIN, stop.cancelled()).await;
            }
        }
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
