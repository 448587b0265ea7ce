//! A queue does what a much simpler one does that only remembers.
//!
//! Operations are dealt at random; after each, every job must be as the simple one has it.

use std::time::Duration;

use proptest::prelude::*;
use salver_core::ErrorKind;
use salver_jobs::{
    Beat, Gate, Held, Hold, JobId, MOST_LOSSES, Millis, NewJob, Options, Outcome, Queue, State, Submitted,
};

use crate::place::{LEASE, NOW, Place, done, job};

const TTL_MS: Millis = 20_000;
const RETRIES: u32 = 1;

#[derive(Debug, Clone)]
enum Op {
    Submit { priority: u8, delay_ms: Option<Millis>, key: Option<u8>, body: u8, replaces: Option<usize> },
    Claim { most: usize, is_idle: bool },
    Finish { hold: usize, how: u8 },
    Renew { hold: usize },
    Watch,
    Lose,
    Cancel { job: usize },
    Replay { job: usize },
    Clear { later_ms: Millis },
    SetGate { gate: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let key = prop::option::of(0..4u8);
    let delay = prop::option::weighted(0.3, -1000..5000i64);
    prop_oneof![
        6 => (1..=3u8, delay, key, 0..2u8, prop::option::of(any::<usize>())).prop_map(
            |(priority, delay_ms, key, body, replaces)| Op::Submit { priority, delay_ms, key, body, replaces }
        ),
        8 => (0..4usize, any::<bool>()).prop_map(|(most, is_idle)| Op::Claim { most, is_idle }),
        8 => (any::<usize>(), 0..6u8).prop_map(|(hold, how)| Op::Finish { hold, how }),
        2 => any::<usize>().prop_map(|hold| Op::Renew { hold }),
        4 => Just(Op::Watch),
        4 => Just(Op::Lose),
        1 => any::<usize>().prop_map(|job| Op::Cancel { job }),
        2 => any::<usize>().prop_map(|job| Op::Replay { job }),
        3 => (-3000..6000i64).prop_map(|later_ms| Op::Clear { later_ms }),
        1 => (0..6usize).prop_map(|gate| Op::SetGate { gate }),
    ]
}

#[derive(Debug, Clone)]
struct Known {
    id: JobId,
    key: Option<(u8, NewJob)>,
    priority: u8,
    state: State,
    token: i64,
    beats: i64,
    attempts: u32,
    troubles: u32,
    losses: u32,
    lost_alone: u32,
    alone: bool,
    not_before: Millis,
    ended: Option<Millis>,
}

impl Known {
    fn end(&mut self, state: State, now: Millis) {
        (self.state, self.ended) = (state, Some(now));
    }

    fn lose(&mut self, now: Millis) {
        self.losses += 1;
        self.lost_alone += u32::from(self.alone);
        self.alone = true;
        match self.lost_alone == MOST_LOSSES {
            true => self.end(State::Dead, now),
            false => self.state = State::Queued,
        }
    }
}

#[derive(Debug)]
struct Model {
    jobs: Vec<Known>,
    gate: Gate,
    now: Millis,
    /// All holds that were ever given.
    holds: Vec<Hold>,
    watched: Vec<Held>,
}

impl Model {
    fn held(&mut self, hold: Hold) -> Option<&mut Known> {
        let is = |job: &&mut Known| job.id == hold.id && job.token == hold.token && job.state == State::Running;
        self.jobs.iter_mut().find(is)
    }

    fn some<T: Copy>(from: &[T], place: usize) -> Option<T> {
        (!from.is_empty()).then(|| from[place % from.len()])
    }

    fn some_job(&self, place: usize) -> Option<JobId> {
        (!self.jobs.is_empty()).then(|| self.jobs[place % self.jobs.len()].id)
    }

    fn job(&mut self, id: JobId) -> &mut Known {
        self.jobs.iter_mut().find(|job| job.id == id).unwrap()
    }

    fn add(&mut self, id: JobId, key: Option<(u8, NewJob)>, priority: u8, not_before: Option<Millis>) {
        let state = if not_before.is_some_and(|time| time > self.now) { State::Scheduled } else { State::Queued };
        let not_before = not_before.unwrap_or(0);
        self.jobs.push(Known {
            id,
            key,
            priority,
            state,
            token: 0,
            beats: 0,
            attempts: 0,
            troubles: 0,
            losses: 0,
            lost_alone: 0,
            alone: false,
            not_before,
            ended: None,
        });
    }

    /// Returns what is to be handed out.
    fn claim(&mut self, most: usize, is_idle: bool) -> Vec<Hold> {
        let mut next: Vec<usize> = (0..self.jobs.len()).filter(|idx| self.jobs[*idx].state == State::Queued).collect();
        next.sort_by_key(|idx| (self.jobs[*idx].priority, *idx));
        let first_alone = next.iter().position(|idx| self.jobs[*idx].alone).unwrap_or(next.len());
        let n_jobs = match first_alone {
            _ if self.gate == Gate::Paused => 0,
            0 => usize::from(is_idle && !next.is_empty()).min(most),
            alone => alone.min(most),
        };
        let hand_out = |idx: &usize| {
            let job = &mut self.jobs[*idx];
            (job.state, job.token, job.attempts) = (State::Running, job.token + 1, job.attempts + 1);
            Hold { id: job.id, token: job.token }
        };
        next[..n_jobs].iter().map(hand_out).collect()
    }

    fn finish(&mut self, hold: Hold, outcome: &Outcome) -> bool {
        let now = self.now;
        let Some(job) = self.held(hold) else { return false };
        match outcome {
            Outcome::Done(_) => job.end(State::Done, now),
            Outcome::Failed(_) => job.end(State::Failed, now),
            Outcome::Troubled(_) if job.troubles == RETRIES => job.end(State::Failed, now),
            Outcome::Troubled(_) => {
                (job.state, job.not_before) = (State::Scheduled, now + 1000 * (1 << job.troubles));
                job.troubles += 1;
            }
            Outcome::Lost(_) => job.lose(now),
            Outcome::GivenBack => job.state = State::Queued,
        }
        true
    }

    fn lose(&mut self, held: &[Held]) -> u64 {
        let now = self.now;
        let mut n_lost = 0;
        for held in held {
            let Some(job) = self.held(held.hold).filter(|job| job.beats == held.beats) else { continue };
            n_lost += 1;
            job.lose(now);
        }
        n_lost
    }

    fn clear(&mut self) -> (u64, u64) {
        let now = self.now;
        let (mut begun, mut expired) = (0, 0);
        for job in &mut self.jobs {
            if job.state == State::Scheduled && job.not_before <= now {
                job.state = State::Queued;
                begun += 1;
            }
            let is_over = job.state.has_ended() && job.state != State::Expired;
            if is_over && job.ended.is_some_and(|ended| ended + TTL_MS <= now) {
                job.state = State::Expired;
                expired += 1;
            }
        }
        (begun, expired)
    }
}

fn outcome(how: u8) -> Outcome {
    match how {
        0 | 1 => done("x"),
        2 => Outcome::Failed("no".into()),
        3 => Outcome::Troubled("busy".into()),
        4 => Outcome::Lost("gone".into()),
        _ => Outcome::GivenBack,
    }
}

async fn submit(queue: &dyn Queue, model: &mut Model, new: NewJob, key: Option<u8>) {
    let has = |job: &Known| key.is_some() && job.key.as_ref().map(|known| known.0) == key;
    let replaced = model.jobs.iter().position(|job| Some(job.id) == new.replaces && has(job) && job.state.has_ended());
    let known = model.jobs.iter().find(|job| has(job) && replaced.is_none());
    let is_same = |job: &Known| {
        let (_, submitted) = job.key.as_ref().unwrap();
        // A delay is counted from each submission: only whether there is one tells them apart.
        let told = |options: &Options| Options { not_before: options.not_before.map(|_| 0), ..options.clone() };
        (&submitted.content, told(&submitted.options)) == (&new.content, told(&new.options))
    };
    let expected = known.map(|job| if is_same(job) { Submitted::Known(job.id) } else { Submitted::Differs(job.id) });
    match (queue.submit(new.clone(), model.now).await, expected) {
        (Ok(Submitted::New(id)), None) => {
            assert_ne!(model.gate, Gate::Draining);
            if let Some(replaced) = replaced {
                model.jobs[replaced].key = None;
            }
            let (priority, not_before) = (new.options.priority, new.options.not_before);
            model.add(id, key.map(|key| (key, new)), priority, not_before);
        }
        (Err(refusal), None) => {
            assert_eq!((refusal.kind(), model.gate), (ErrorKind::NotReady, Gate::Draining), "{refusal:?}");
        }
        (submitted, expected) => assert_eq!(submitted.ok(), expected),
    }
}

async fn replay(queue: &dyn Queue, model: &mut Model, id: JobId) {
    let old = model.job(id).clone();
    match queue.replay(id, model.now).await {
        Ok(Some(new)) => {
            assert!(matches!(old.state, State::Failed | State::Dead) && model.gate != Gate::Draining);
            model.add(new, None, old.priority, None);
            model.job(new).alone = old.alone;
        }
        Ok(None) => panic!("{id} is there"),
        Err(refusal) => assert!(
            refusal.kind() == ErrorKind::NotReady && model.gate == Gate::Draining
                || refusal.kind() == ErrorKind::Conflict && !matches!(old.state, State::Failed | State::Dead),
            "{refusal:?}: {old:?}"
        ),
    }
}

async fn run(queue: &dyn Queue, model: &mut Model, op: Op) {
    match op {
        Op::Submit { priority, delay_ms, key, body, replaces } => {
            let not_before = delay_ms.map(|delay| model.now + delay);
            let result_ttl = Duration::from_millis(TTL_MS.unsigned_abs());
            let options = Options { priority, not_before, retries: RETRIES, result_ttl, ..Options::default() };
            let idempotency_key = key.map(|key| key.to_string());
            let replaces = replaces.and_then(|job| model.some_job(job));
            let new = NewJob { options, idempotency_key, replaces, ..job(&body.to_string()) };
            submit(queue, model, new, key).await;
        }
        Op::Claim { most, is_idle } => {
            let leases = queue.claim(most, is_idle, LEASE, model.now).await.unwrap();
            let holds: Vec<Hold> = leases.iter().map(|lease| lease.hold).collect();
            assert_eq!(holds, model.claim(most, is_idle));
            model.holds.extend(holds);
        }
        Op::Finish { hold, how } => {
            let Some(hold) = Model::some(&model.holds, hold) else { return };
            let finished = queue.finish(hold, outcome(how), model.now).await.unwrap();
            assert_eq!(finished, model.finish(hold, &outcome(how)));
        }
        Op::Renew { hold } => {
            let Some(hold) = Model::some(&model.holds, hold) else { return };
            let counts = queue.renew(vec![Beat { hold, done: 1 }]).await.unwrap();
            assert_eq!(counts, [model.held(hold).map(|job| job.beats += 1).is_some()]);
        }
        Op::Watch => model.watched = queue.held().await.unwrap(),
        Op::Lose => {
            let watched = model.watched.clone();
            assert_eq!(queue.lose(watched.clone(), model.now).await.unwrap(), model.lose(&watched));
        }
        Op::Cancel { job } => {
            let Some(id) = model.some_job(job) else { return };
            let now = model.now;
            let known = model.job(id);
            if !known.state.has_ended() {
                known.token += 1;
                known.end(State::Cancelled, now);
            }
            assert_eq!(queue.cancel(id, now).await.unwrap().unwrap().state, known.state);
        }
        Op::Replay { job } => {
            let Some(id) = model.some_job(job) else { return };
            replay(queue, model, id).await;
        }
        Op::Clear { later_ms } => {
            model.now += later_ms;
            let cleared = queue.clear(model.now, 0).await.unwrap();
            assert_eq!((cleared.begun, cleared.expired), model.clear());
        }
        Op::SetGate { gate } => {
            model.gate = Gate::ALL.get(gate).copied().unwrap_or_default();
            queue.set_gate(model.gate).await.unwrap();
        }
    }
}

async fn compare(queue: &dyn Queue, model: &Model) {
    for known in &model.jobs {
        let job = queue.get(known.id).await.unwrap().unwrap();
        let seen = (job.state, job.attempts, job.losses, job.ended_ms, job.priority);
        assert_eq!(seen, (known.state, known.attempts, known.losses, known.ended, known.priority), "{known:?}");
        assert_eq!(queue.answer(known.id).await.unwrap().is_some(), known.state == State::Done);
    }
    let held = queue.held().await.unwrap();
    let mut seen: Vec<_> = held.iter().map(|held| (held.hold.id, held.hold.token, held.beats)).collect();
    let running = model.jobs.iter().filter(|job| job.state == State::Running);
    let mut expected: Vec<_> = running.map(|job| (job.id, job.token, job.beats)).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    let stats = queue.stats().await.unwrap();
    let count = |state| model.jobs.iter().filter(|job| job.state == state).count() as u64;
    let counted = [State::Scheduled, State::Queued, State::Running, State::Dead].map(count);
    assert_eq!([stats.scheduled, stats.queued, stats.running, stats.dead], counted);
    assert_eq!(stats.gate, model.gate);
    let unfinished = model.jobs.iter().filter(|job| !job.state.has_ended()).count() as u64;
    assert_eq!(queue.unfinished("ann's machine", 20).await.unwrap(), unfinished.min(20));
}

async fn check(place: Place, ops: Vec<Op>) {
    let mut model = Model { jobs: Vec::new(), gate: Gate::Open, now: NOW, holds: Vec::new(), watched: Vec::new() };
    for op in ops {
        run(&*place.queue, &mut model, op).await;
        compare(&*place.queue, &model).await;
    }
}

fn block_on(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_does_as_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        block_on(async { check(Place::sqlite().await, ops).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn postgres_does_as_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        block_on(async {
            if let Some(place) = Place::postgres().await {
                check(place, ops).await;
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn redis_does_as_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        block_on(async {
            if let Some(place) = Place::redis().await {
                check(place, ops).await;
            }
        });
    }
}
