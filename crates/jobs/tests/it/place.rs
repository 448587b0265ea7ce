//! A queue of a test's own: an empty database, and short words for what tests do with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use salver_jobs::{
    Answer, Content, Form, Hold, Job, JobId, Lease, Millis, NewJob, Options, Outcome, Queue, State, Submitted, queue_at,
};
use salver_store::Database;
use salver_store::database::sql;
use salver_testkit::{Postgres, RedisServer};
use tempfile::TempDir;

/// Runs each of these functions over an empty place of every kind of queue.
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
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(place) = crate::place::Place::redis().await {
                    Box::pin(super::$name(place)).await;
                }
            })+
        }
    };
}

/// When every test begins.
pub(crate) const NOW: Millis = 1_700_000_000_000;
/// How long a worker of these tests may give no sign of life.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

pub(crate) struct Place {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) url: String,
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

    /// None: there is no Redis here, and the test is skipped.
    pub(crate) async fn redis() -> Option<Self> {
        let server = RedisServer::shared()?;
        Some(Self::in_redis(server).await)
    }

    /// Opens a queue of its own in this Redis.
    pub(crate) async fn in_redis(server: &RedisServer) -> Self {
        let url = format!("{}?prefix={}", server.url(), server.prefix());
        Self::at(TempDir::new().unwrap(), url).await
    }

    async fn at(folder: TempDir, url: String) -> Self {
        Self { queue: open(&url).await, url, _folder: folder }
    }

    /// Opens the queue with connections of its own, as another server would.
    pub(crate) async fn other(&self) -> Arc<dyn Queue> {
        open(&self.url).await
    }

    /// Returns the database, past the queue.
    pub(crate) async fn database(&self) -> Database {
        Database::open(&self.url).await.unwrap()
    }

    /// Counts what is kept, past the queue: jobs, bodies, answers, lines of
    /// histories, or whatever else goes with the jobs.
    pub(crate) async fn count(&self, what: &str) -> i64 {
        if !self.url.starts_with("redis://") {
            let statement = match what {
                "jobs" => "SELECT COUNT(*) AS n FROM jobs",
                "bodies" => "SELECT COUNT(*) AS n FROM job_bodies",
                "answers" => "SELECT COUNT(*) AS n FROM job_answers",
                "lines" => "SELECT COUNT(*) AS n FROM job_events",
                "the rest" => "SELECT COUNT(*) AS n FROM job_callbacks",
                other => panic!("no table of {other}"),
            };
            let mut session = self.database().await.read().await.unwrap();
            return session.first(sql(statement)).await.unwrap().unwrap().int("n").unwrap();
        }
        let mut redis = self.redis_itself().await;
        let keys = async |kind: &str| -> Vec<String> {
            redis::cmd("KEYS").arg(self.key(kind)).query_async(&mut redis.clone()).await.unwrap()
        };
        let n_keys = match what {
            "jobs" => keys("job:*").await.len(),
            "bodies" => keys("body:*").await.len(),
            "answers" => keys("answer:*").await.len(),
            "lines" => {
                let mut n_lines = 0;
                for key in keys("history:*").await {
                    let length = redis::cmd("LLEN").arg(key).query_async::<usize>(&mut redis).await;
                    n_lines += length.unwrap();
                }
                n_lines
            }
            // All but what stays: how all is laid out, and the last number.
            "the rest" => keys("*").await.len() - keys("format").await.len() - keys("seq").await.len(),
            other => panic!("no keys of {other}"),
        };
        i64::try_from(n_keys).unwrap()
    }

    /// Returns the name of a key in Redis.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.url.split_once("?prefix=").unwrap().1)
    }

    /// Lets go of the queue, and opens it anew.
    pub(crate) async fn again(mut self) -> Self {
        self.reopen().await;
        self
    }

    /// Connects to Redis, past the queue.
    pub(crate) async fn redis_itself(&self) -> redis::aio::MultiplexedConnection {
        let url = self.url.split('?').next().unwrap();
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
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
        self.queue.claim(most, true, LEASE, NOW).await.unwrap()
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

async fn open(url: &str) -> Arc<dyn Queue> {
    let queue = queue_at(url).unwrap();
    queue.prepare().await.unwrap();
    queue
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
        caller: "ann's machine".into(),
        idempotency_key: None,
        replaces: None,
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
