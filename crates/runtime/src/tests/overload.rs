//! P4: overload degrades, it does not collapse. The engine is a slow fake, so that making the
//! load is not the limit. Times are printed, not asserted; `SALVER_OVERLOAD_SECONDS` makes it last.

use salver_core::InstanceGroup;

use super::*;

const RUN: Duration = Duration::from_millis(4);
const PLACES: usize = 64;

/// How the requests of a while ended.
#[derive(Debug, Default)]
struct Ended {
    good: Vec<Duration>,
    refused: Vec<Duration>,
    other: usize,
}

impl Ended {
    fn note(&mut self, result: &Result<InferResponse>, took: Duration) {
        match result {
            Ok(_) => self.good.push(took),
            Err(error) if error.kind() == ErrorKind::Overloaded && error.retry_after().is_some() => {
                self.refused.push(took);
            }
            Err(_) => self.other += 1,
        }
    }
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
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
    let ended = Arc::new(Mutex::new(Ended::default()));
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
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    std::mem::take(&mut *ended.lock())
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

    let rows_before: usize = fixture.engine.batch_rows().iter().sum();
    let mut ended = open_loop(&fixture, 3.0 * peak, lasting).await;
    let rows: usize = fixture.engine.batch_rows().iter().sum::<usize>() - rows_before;
    let goodput = ended.good.len() as f64 / lasting.as_secs_f64();
    let after = Instant::now();
    fixture.answer(&[1., 1.]).await.unwrap();
    eprintln!(
        "peak {peak:.0}/s; at three times that for {seconds} s: goodput {goodput:.0}/s ({:.2} of the peak), {} refused \
         (p99 {:?}), answers p99 {:?}; the next request took {:?}",
        goodput / peak,
        ended.refused.len(),
        p99(&mut ended.refused),
        p99(&mut ended.good),
        after.elapsed(),
    );
    assert!(!ended.refused.is_empty() && ended.other == 0);
    // What was refused never reached the engine, and what was taken was answered.
    assert_eq!(rows, ended.good.len());
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
    let mut times = Vec::new();
    for _ in 0..50 {
        let asked = Instant::now();
        let request = request_to("quiet".parse().unwrap(), &[1., 1.]);
        fixture.runtime.infer(request, Context::default()).await.unwrap();
        times.push(asked.elapsed());
    }
    stop.cancel();
    for caller in busy {
        caller.await.unwrap();
    }
    eprintln!("beside a model under full load, another answers with p99 {:?}; a run takes {RUN:?}", p99(&mut times));
    let batches = fixture.engine.batches();
    let quiet = batches.iter().filter(|batch| batch.model == "quiet").count();
    assert_eq!(quiet, 50, "each of its requests ran by itself, at once");
}
