//! A queue of a test's own: an empty database, and short words for what tests do with it.

use std::time::Duration;

use bytes::Bytes;
use salver_jobs::{
    Answer, Content, Form, Hold, Job, JobId, Lease, Millis, NewJob, Options, Outcome, Queue, SqlQueue, State, Submitted,
};
use salver_store::Database;
use salver_testkit::Postgres;
use tempfile::TempDir;

/// Runs each of these functions over an empty place of every kind of database.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                Box::pin(super::$name(crate::place::Place::sqlite().await)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(place) = crate::place::Place::postgres().await {
                    Box::pin(super::$name(place)).await;
                }
            })+
        }
    };
}

/// When every test begins.
pub(crate) const NOW: Millis = 1_700_000_000_000;

pub(crate) struct Place {
    pub(crate) queue: SqlQueue,
    url: String,
    _folder: TempDir,
}

impl Place {
    pub(crate) async fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("jobs.db").display());
        Self::at(folder, url).await
    }

    /// None: there is no PostgreSQL here, and the test is skipped.
    pub(crate) async fn postgres() -> Option<Self> {
        let url = Postgres::shared()?.database();
        Some(Self::at(TempDir::new().unwrap(), url).await)
    }

    async fn at(folder: TempDir, url: String) -> Self {
        Self { queue: open(&url).await, url, _folder: folder }
    }

    /// Opens the queue with connections of its own, as another server would.
    pub(crate) async fn other(&self) -> SqlQueue {
        open(&self.url).await
    }

    /// Returns the database, past the queue.
    pub(crate) async fn database(&self) -> Database {
        Database::open(&self.url).await.unwrap()
    }

    /// Lets go of the queue, and opens it again.
    pub(crate) async fn reopen(&mut self) {
        self.queue = self.other().await;
    }

    pub(crate) async fn submit(&self, job: NewJob) -> JobId {
        new(self.queue.submit(job, NOW).await.unwrap())
    }

    /// Submits jobs with these bodies, one after the other.
    pub(crate) async fn submit_all(&self, bodies: &[&str]) -> Vec<JobId> {
        let mut ids = Vec::new();
        for body in bodies {
            ids.push(self.submit(job(body)).await);
        }
        ids
    }

    /// Claims what there is, for an idle worker, and returns the bodies.
    pub(crate) async fn claim(&self, most: usize) -> Vec<Lease> {
        self.queue.claim(most, true, NOW).await.unwrap()
    }

    pub(crate) async fn claim_one(&self) -> Lease {
        self.claim(1).await.pop().expect("a job that is queued")
    }

    pub(crate) async fn finish(&self, hold: Hold, outcome: Outcome) -> bool {
        self.queue.finish(hold, outcome, NOW).await.unwrap()
    }

    pub(crate) async fn get(&self, id: JobId) -> Job {
        self.queue.get(id).await.unwrap().expect("a job that is there")
    }

    pub(crate) async fn state(&self, id: JobId) -> State {
        self.get(id).await.state
    }

    /// Takes a job from its worker.
    pub(crate) async fn lose(&self, id: JobId) -> u64 {
        let mut held = self.queue.held().await.unwrap();
        held.retain(|held| held.hold.id == id);
        self.queue.lose(held, NOW).await.unwrap()
    }

    /// Returns the history of a job, a line each.
    pub(crate) async fn history(&self, id: JobId) -> Vec<String> {
        self.get(id).await.history.into_iter().map(|line| line.text).collect()
    }
}

async fn open(url: &str) -> SqlQueue {
    SqlQueue::open(Database::open(url).await.unwrap()).await.unwrap()
}

#[track_caller]
pub(crate) fn new(submitted: Submitted) -> JobId {
    match submitted {
        Submitted::New(id) => id,
        other => panic!("expected a new job, got {other:?}"),
    }
}

pub(crate) fn job(body: &str) -> NewJob {
    NewJob {
        model: "iris@champion".parse().unwrap(),
        content: Content {
            form: Form::Oip,
            content_type: Some("application/json".into()),
            header_len: Some(7),
            body: Bytes::copy_from_slice(body.as_bytes()),
        },
        total: 3,
        options: Options::default(),
        owner: "ann".into(),
        idempotency_key: None,
    }
}

pub(crate) fn with_options(body: &str, options: Options) -> NewJob {
    NewJob { options, ..job(body) }
}

pub(crate) fn with_key(body: &str, key: &str) -> NewJob {
    NewJob { idempotency_key: Some(key.into()), ..job(body) }
}

pub(crate) fn answer(body: &str) -> Answer {
    Answer { content_type: "application/json".into(), header_len: None, body: Bytes::copy_from_slice(body.as_bytes()) }
}

pub(crate) fn done(body: &str) -> Outcome {
    Outcome::Done(answer(body))
}

pub(crate) fn bodies(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| std::str::from_utf8(&lease.content.body).unwrap()).collect()
}

pub(crate) fn ttl(seconds: u64) -> Options {
    Options { result_ttl: Duration::from_secs(seconds), ..Options::default() }
}
