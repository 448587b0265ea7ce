//! P4: overload degrades, it does not collapse. The engine is a slow fake, so that making the
//! load is not the limit. Times are printed, not asserted; `SALVER_OVERLOAD_SECONDS` makes it last.

use hdrhistogram::Histogram;
use salver_core::InstanceGroup;

use super::*;

const RUN: Duration = Duration::from_millis(4);
const PLACES: usize = 64;

/// How the requests of a while ended, and what was seen meanwhile. As large after minutes as after
/// a second, so that memory that grows is the runtime's.
struct Ended {
    good: Histogram<u64>,
    refused: Histogram<u64>,
    other: usize,
    rows: usize,
    most_waiting: u64,
    /// Resident bytes of the process after the first second, and at most after it.
    memory: Option<(u64, u64)>,
    /// When no more requests began.
    load_ended: Instant,
}

impl Ended {
    fn new() -> Self {
        let times = || Histogram::new(3).unwrap();
        let (good, refused, load_ended) = (times(), times(), Instant::now());
        Self { good, refused, other: 0, rows: 0, most_waiting: 0, memory: None, load_ended }
    }

    fn note(&mut self, result: &Result<InferResponse>, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap();
        match result {
            Ok(_) => self.good.record(nanos).unwrap(),
            Err(error) if error.kind() == ErrorKind::Overloaded && error.retry_after().is_some() => {
                self.refused.record(nanos).unwrap();
            }
            Err(_) => self.other += 1,
        }
    }

    fn look(&mut self, fixture: &Fixture) {
        self.rows += fixture.engine.take_batches().iter().map(|batch| batch.rows).sum::<usize>();
        self.most_waiting = self.most_waiting.max(fixture.waiting());
        let now = salver_telemetry::resident_bytes().unwrap_or(0);
        let (first, most) = self.memory.unwrap_or((now, now));
        self.memory = Some((first, most.max(now)));
    }
}

fn p99(times: &Histogram<u64>) -> Duration {
    Duration::from_nanos(times.value_at_quantile(0.99))
}

/// As many callers as there are places, each asking again when it is answered.
async fn closed_loop(fixture: &Arc<Fixture>, lasting: Duration) -> f64 {
    let end = Instant::now() + lasting;
    let callers: Vec<_> = (0..PLACES)
        .map(|_| {
            let fixture = fixture.clone();
            tokio::spawn(async move {
                let mut answered = 0u32;
                while Instant::now() < end {
                    fixture.answer(&[1., 1.]).await.unwrap();
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    f64::from(answered) / lasting.as_secs_f64()
}

/// Starts `rate` requests a second whatever comes back.
async fn open_loop(fixture: &Arc<Fixture>, rate: f64, lasting: Duration) -> Ended {
    let ended = Arc::new(Mutex::new(Ended::new()));
    let mut next_look = Duration::from_secs(1);
    let (started, mut sent, mut calls) = (Instant::now(), 0u64, tokio::task::JoinSet::new());
    while started.elapsed() < lasting {
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        for _ in sent..due {
            let (fixture, ended) = (fixture.clone(), ended.clone());
            calls.spawn(async move {
                let asked = Instant::now();
                let result = fixture.runtime.infer(request(&[1., 1.]), Context::default()).await;
                ended.lock().note(&result, asked.elapsed());
            });
        }
        sent = due;
        while calls.try_join_next().is_some() {}
        if started.elapsed() >= next_look {
            next_look += Duration::from_millis(100);
            ended.lock().look(fixture);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ended.lock().load_ended = Instant::now();
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    let mut ended = std::mem::replace(&mut *ended.lock(), Ended::new());
    ended.look(fixture);
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_degrades_and_does_not_collapse() {
    let seconds = std::env::var("SALVER_OVERLOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let lasting = Duration::from_secs(seconds);
    let mut spec = version(1);
    spec.config.instance_groups = vec![InstanceGroup { count: 2, ..InstanceGroup::default() }];
    spec.config.dynamic_batching = Some(DynamicBatching { max_rows: Some(8), ..DynamicBatching::default() });
    let options = RuntimeOptions { max_queue: Some(PLACES), ..RuntimeOptions::default() };
    let fixture = Arc::new(Fixture::start(FakeEngine::new().taking(RUN), vec![spec], options).await);
    let peak = closed_loop(&fixture, Duration::from_secs(1)).await;

    drop(fixture.engine.take_batches());
    let ended = open_loop(&fixture, 3.0 * peak, lasting).await;
    let goodput = ended.good.len() as f64 / lasting.as_secs_f64();
    fixture.answer(&[1., 1.]).await.unwrap();
    let (first, most) = ended.memory.unwrap();
    eprintln!(
        "P4: peak {peak:.0}/s; at three times that for {seconds} s: goodput {goodput:.0}/s ({:.2} of the peak), {} \
         refused (p99 {:.2?}), answers p99 {:.1?}; at most {} waited ({PLACES} places, with those that run), {:.1} MB more in the process \
         than after a second; a request after the load was answered {:.1?} after its end",
        goodput / peak,
        ended.refused.len(),
        p99(&ended.refused),
        p99(&ended.good),
        ended.most_waiting,
        (most - first) as f64 / 1e6,
        ended.load_ended.elapsed(),
    );
    assert!(!ended.refused.is_empty() && ended.other == 0);
    assert!(ended.most_waiting <= PLACES as u64, "{} waited in {PLACES} places", ended.most_waiting);
    // What was refused never reached the engine, and what was taken was answered.
    assert_eq!(ended.rows as u64, ended.good.len());
    fixture.queued(0).await;
    assert_eq!(fixture.runtime.shared.waiting.taken(), 0);
}

/// Fairness: a model under full load does not keep another from answering.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_model_starves_no_other() {
    let engine = FakeEngine::new().taking(RUN);
    let fixture = Arc::new(Fixture::start(engine, vec![version(1)], RuntimeOptions::default()).await);
    let mut quiet = version(1);
    quiet.name = ModelName::new("quiet").unwrap();
    fixture.source.set("quiet", Ok(vec![quiet]));
    fixture.runtime.sync().await.unwrap();
    let stop = CancellationToken::new();
    let busy: Vec<_> = (0..PLACES)
        .map(|_| {
            let (fixture, stop) = (fixture.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    fixture.answer(&[1., 1.]).await.unwrap();
                }
            })
        })
        .collect();
    let mut times = Histogram::<u64>::new(3).unwrap();
    for _ in 0..50 {
        let asked = Instant::now();
        let request = request_to("quiet".parse().unwrap(), &[1., 1.]);
        fixture.runtime.infer(request, Context::default()).await.unwrap();
        times.record(u64::try_from(asked.elapsed().as_nanos()).unwrap()).unwrap();
    }
    stop.cancel();
    for caller in busy {
        caller.await.unwrap();
    }
    eprintln!("beside a model under full load, another answers with p99 {:?}; a run takes {RUN:?}", p99(&times));
    let batches = fixture.engine.batches();
    let quiet = batches.iter().filter(|batch| batch.model == "quiet").count();
    assert_eq!(quiet, 50, "each of its requests ran by itself, at once");
}
