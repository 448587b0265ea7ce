//! The response cache through the real binary: over every protocol, and with a Redis that goes
//! and comes back while it is in use (P22; `SALVER_OUTAGE_SECONDS` makes it stay away for longer).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use salver_client::{Form, GrpcClient, HttpClient, JobFilter, JobState};
use salver_core::{CacheOutcome, CacheUse, Context, ErrorKind, Infer, InferResponse};
use salver_testkit::{RedisServer, ServerProcess};
use serde_json::json;
use tempfile::TempDir;

use crate::serving::{iris_request, ready};
use crate::support::{PATIENCE, demo_model, options, refuse, succeed};

/// Whether Redis is in use.
const SHARED_UP: &str = "salver_dependency_up{dependency=\"shared_cache\"}";

/// The demo's iris model with `[cache]` in its `model.toml`.
fn cached_iris() -> TempDir {
    iris_with("ttl_s = 3600")
}

/// The demo's iris model with these settings of its cache.
fn iris_with(cache: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("iris");
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(demo_model("iris").join("model.onnx"), to.join("model.onnx")).unwrap();
    let manifest = std::fs::read_to_string(demo_model("iris").join("model.toml")).unwrap();
    std::fs::write(to.join("model.toml"), format!("{manifest}\n[cache]\n{cache}\n")).unwrap();
    folder
}

/// Serves the cached model; `redis` is a URL.
async fn serve(folder: &TempDir, redis: Option<&str>) -> (ServerProcess, HttpClient) {
    let options = options().arg(folder.path().join("iris").to_str().unwrap());
    let options = match redis {
        Some(url) => options.env("SALVER_CACHE_REDIS", url),
        None => options,
    };
    let server = options.start();
    let client = ready(&server).await;
    (server, client)
}

/// A flower that was not asked about before, and is an iris all the same.
fn flower(number: usize) -> [f32; 4] {
    [5.1 + number as f32 / 4096.0, 3.5, 1.4, 0.2]
}

async fn ask(infer: &dyn Infer, flower: &[f32], cache: CacheUse) -> InferResponse {
    infer.infer(iris_request(flower), Context { cache, ..Context::new("a") }).await.unwrap()
}

async fn outcome(infer: &dyn Infer, flower: &[f32], cache: CacheUse) -> Option<CacheOutcome> {
    ask(infer, flower, cache).await.cache
}

async fn metric(client: &HttpClient, name: &str) -> u64 {
    let text = String::from_utf8(client.get("/metrics").await.unwrap().body.to_vec()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn the_same_question_over_any_protocol_is_one_entry() {
    let (server, client) = serve(&cached_iris(), None).await;
    let grpc = GrpcClient::new(&format!("http://{}", server.grpc())).unwrap();
    let ways: [(&str, &dyn Infer); 3] = [
        ("JSON", &client.clone().with_form(Form::Json)),
        ("binary", &client.clone().with_form(Form::Binary)),
        ("gRPC", &grpc),
    ];
    let first = ask(ways[0].1, &flower(0), CacheUse::Use).await;
    assert_eq!(first.cache, Some(CacheOutcome::Miss));
    for (name, way) in ways {
        let response = ask(way, &flower(0), CacheUse::Use).await;
        assert_eq!(response.cache, Some(CacheOutcome::Hit), "{name}");
        assert_eq!(response.outputs[0].to_vec::<f32>(), first.outputs[0].to_vec::<f32>(), "{name}");
        assert_eq!(outcome(way, &flower(0), CacheUse::Bypass).await, Some(CacheOutcome::Bypass), "{name}");
        assert_eq!(outcome(way, &flower(0), CacheUse::Refresh).await, Some(CacheOutcome::Miss), "{name}");
    }
    let requests = "salver_cache_requests_total{model=\"iris\",version=\"1\",result=\"hit\"}";
    assert_eq!((metric(&client, requests).await, metric(&client, "salver_cache_entries").await), (3, 1));
    let statistics = client.get("/v2/models/iris/stats").await.unwrap().json().unwrap();
    assert_eq!(statistics["model_stats"][0]["inference_stats"]["cache_hit"]["count"], 3);
    assert_eq!(statistics["model_stats"][0]["inference_stats"]["success"]["count"], 10);
}

#[tokio::test]
async fn a_client_is_told_of_the_job_that_computes_its_answer() {
    let (server, client) = serve(&iris_with("on_miss = \"job\""), None).await;
    let error = client.infer(iris_request(&flower(0)), Context::new("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.retry_after().is_some() && error.message().contains("/api/v1/jobs/"), "{error}");
    let id = client.jobs(&JobFilter::default(), 10, None).await.unwrap().jobs.remove(0).id;
    assert!(error.message().contains(&id), "{error}");
    assert_eq!(client.wait_for_job(&id, PATIENCE).await.unwrap().status, JobState::Done);
    assert_eq!(outcome(&client, &flower(0), CacheUse::Use).await, Some(CacheOutcome::Hit));

    let body = || bytes::Bytes::from_static(b"[[5.9, 3.0, 5.1, 1.8]]");
    let ask = async || client.predict(&"iris".parse().unwrap(), "application/json", body()).await.unwrap();
    let job = ask().await.job().unwrap().expect("a job");
    assert_eq!(client.wait_for_job(&job.id, PATIENCE).await.unwrap().status, JobState::Done);
    assert_eq!(ask().await.job().unwrap(), None);

    let grpc = GrpcClient::new(&format!("http://{}", server.grpc())).unwrap();
    assert_eq!(outcome(&grpc, &flower(1), CacheUse::Use).await, Some(CacheOutcome::Miss));
}

#[tokio::test]
async fn a_redis_that_cannot_be_reached_at_the_start_is_a_warning() {
    let (server, client) = serve(&cached_iris(), Some("redis://:topsecret@127.0.0.1:1")).await;
    let line = server.wait_for_line("the shared cache does not answer");
    assert!(line.contains("WARN") && line.contains("127.0.0.1:1"), "{line}");
    assert_eq!(outcome(&client, &flower(0), CacheUse::Use).await, Some(CacheOutcome::Miss));
    assert_eq!(outcome(&client, &flower(0), CacheUse::Use).await, Some(CacheOutcome::Hit));
    assert_eq!(metric(&client, SHARED_UP).await, 0);
    assert!(!server.lines().iter().any(|line| line.contains("topsecret")), "{:#?}", server.lines());
}

#[test]
fn impossible_cache_settings_are_refused_without_the_password() {
    let bad = "http://:topsecret@host";
    refuse(&["serve", "--cache-redis", bad], &["--cache-redis", "redis://"]);
    refuse(&["serve", "--cache-redis", "rediss://:topsecret@host#insecure"], &["always checked", "sslrootcert"]);
    refuse(&["serve", "--cache-redis", "redis://host", "--cache-bytes", "0"], &["--cache-bytes"]);
    let said = crate::support::run(&["serve", "--cache-redis", bad]);
    assert!(!format!("{said:?}").contains("topsecret"), "{said:?}");
    let shown = succeed(&["config", "--cache-redis", "redis://:topsecret@host", "--json"]);
    assert!(shown.contains("***@host") && !shown.contains("topsecret"), "{shown}");
}

/// Two servers over one Redis.
struct Pair {
    one: HttpClient,
    other: HttpClient,
    _servers: [ServerProcess; 2],
    n_asked: AtomicUsize,
}

impl Pair {
    async fn start(redis: &RedisServer) -> Self {
        let folder = cached_iris();
        let (first, one) = serve(&folder, Some(&redis.url())).await;
        let (second, other) = serve(&folder, Some(&redis.url())).await;
        Self { one, other, _servers: [first, second], n_asked: AtomicUsize::new(0) }
    }

    fn new_flower(&self) -> [f32; 4] {
        flower(self.n_asked.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks both servers the same new questions until the second one has an answer of the first.
    async fn share(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let flower = self.new_flower();
            assert_eq!(outcome(&self.one, &flower, CacheUse::Use).await, Some(CacheOutcome::Miss));
            match outcome(&self.other, &flower, CacheUse::Use).await {
                Some(CacheOutcome::Shared) => break,
                // The first server writes in the background.
                other => assert_eq!(other, Some(CacheOutcome::Miss)),
            }
            assert!(Instant::now() < end, "nothing is shared");
        }
    }

    /// Waits until both servers know whether Redis is there; they are ready all the while.
    async fn until_up(&self, up: bool) {
        let end = Instant::now() + PATIENCE;
        for client in [&self.one, &self.other] {
            while metric(client, SHARED_UP).await != u64::from(up) {
                assert!(Instant::now() < end, "the shared cache never was up: {up}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let readiness = client.get("/v2/health/ready").await.unwrap().json().unwrap();
            let expected =
                if up { json!({"ready": true}) } else { json!({"ready": true, "degraded": ["shared_cache"]}) };
            assert_eq!(readiness, expected);
        }
    }

    /// Asks new questions of both servers all the time; returns how many were answered, each as
    /// without a cache. A request that fails ends the test.
    async fn load(&self, stop: &AtomicBool, n_answered: &AtomicUsize) {
        let near = |a: &InferResponse, b: &InferResponse| {
            let (a, b): (Vec<f32>, Vec<f32>) = (a.outputs[0].to_vec().unwrap(), b.outputs[0].to_vec().unwrap());
            a.len() == 3 && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5)
        };
        while !stop.load(Ordering::Relaxed) {
            let flower = self.new_flower();
            for client in [&self.one, &self.other] {
                let cached = ask(client, &flower, CacheUse::Use).await;
                let computed = ask(client, &flower, CacheUse::Bypass).await;
                assert!(near(&cached, &computed), "{cached:?} {computed:?}");
                n_answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Waits until so many more requests were answered.
async fn progress(n_answered: &AtomicUsize, more: usize) {
    let (goal, end) = (n_answered.load(Ordering::Relaxed) + more, Instant::now() + PATIENCE);
    while n_answered.load(Ordering::Relaxed) < goal {
        assert!(Instant::now() < end, "requests are stuck");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Goes on without Redis for a while; returns for how long and how many were answered.
async fn without(n_answered: &AtomicUsize) -> (Duration, usize) {
    let seconds = std::env::var("SALVER_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (before, began) = (n_answered.load(Ordering::Relaxed), Instant::now());
    progress(n_answered, 50).await;
    while began.elapsed() < Duration::from_secs(seconds) {
        progress(n_answered, 50).await;
    }
    (began.elapsed(), n_answered.load(Ordering::Relaxed) - before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_redis_dies_freezes_and_comes_back() {
    let Some(mut redis) = RedisServer::start() else { return };
    let pair = Arc::new(Pair::start(&redis).await);
    pair.share().await;
    let (stop, n_answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (pair, stop, n_answered) = (pair.clone(), stop.clone(), n_answered.clone());
            tokio::spawn(async move { pair.load(&stop, &n_answered).await })
        })
        .collect();
    progress(&n_answered, 20).await;

    redis.kill();
    pair.until_up(false).await;
    let dead = without(&n_answered).await;
    assert!(metric(&pair.one, "salver_cache_shared_errors_total").await > 0);
    redis.restart();
    pair.until_up(true).await;
    pair.share().await;

    redis.freeze();
    pair.until_up(false).await;
    let frozen = without(&n_answered).await;
    redis.thaw();
    pair.until_up(true).await;
    pair.share().await;

    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    println!(
        "P22: {} answers in {:.0?} without Redis and {} in {:.0?} with one that hangs, each right and none refused",
        dead.1, dead.0, frozen.1, frozen.0
    );
}
