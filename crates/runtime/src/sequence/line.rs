//! The line of a slot whose requests belong to sequences: how they come in, how workers, the watch
//! and those who leave take them out, and how the slot goes.
//!
//! Each worker has an instance, and serves the sequences that sit there. A slot that leaves takes no
//! new sequence and has gone once those that have begun are over: they end, rest for too long, or
//! meet the bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use salver_core::{Context, Error, InferRequest, InferResponse, Result, Tensor};
use tokio::sync::{Notify, oneshot};

use super::Member;
use super::rules::Rules;
use super::table::{Limits, Removed, SequenceId, Step, Table, Taken};
use crate::desk::Due;
use crate::interface;
use crate::places::Place;
use crate::policy::Decision;
use crate::queue::{Entry, Expiry, Lane};
use crate::run::{After, Answer, Job, Reply, Runner, Seat};
use crate::slot::{Refusal, Slot};
use crate::waiter::Waiter;
use crate::waiting::{LOOK, Line, Work};

/// The longest that sequences which have begun may keep a slot that is to go.
const LONGEST_LEAVE: Duration = Duration::from_mins(5);

/// What is kept of a sequence.
type State = Arc<[Tensor]>;

/// See the module's description.
pub(crate) struct Sequences {
    rules: Rules,
    keeps_state: bool,
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Told when there may be no sequence left.
    gone: Notify,
}

struct Inner {
    table: Table<Entry<Job>, State>,
    n_arrived: u64,
    standing: Standing,
}

/// How far a slot is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Serves,
    /// Sequences that have begun go on.
    Leaves,
    /// None goes on.
    Left,
    /// Workers end.
    Closed,
}

/// A batch: requests, and what is known of each.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) entries: Vec<Entry<Job>>,
    pub(crate) steps: Vec<Step<State>>,
}

impl Sequences {
    /// Nobody waits yet. `rows` is the most that a batch may have.
    pub(crate) fn new(config: &salver_core::SequenceBatching, rows: usize, instances: usize) -> Self {
        let rules = Rules::new(config, rows);
        let keeps_state = !config.states.is_empty();
        let limits = Limits { instances, seats: rules.seats(), max_idle: config.max_idle, keeps_state };
        let inner = Inner { table: Table::new(limits), n_arrived: 0, standing: Standing::Serves };
        Self { rules, keeps_state, inner: Mutex::new(inner), wake: Condvar::new(), gone: Notify::new() }
    }

    /// Whether a request may go on with a sequence of this id here.
    pub(crate) fn goes_on(&self, id: &SequenceId, now: Instant) -> bool {
        let inner = self.inner.lock();
        inner.standing < Standing::Left && inner.table.is_open(id, now)
    }

    /// Whether there is any sequence.
    pub(crate) fn has_any(&self) -> bool {
        !self.inner.lock().table.is_empty()
    }

    /// Whether a failed batch says nothing of its rows: the model may have taken some of them in.
    pub(crate) fn fails_as_a_whole(&self) -> bool {
        self.rules.has_fixed_rows() && !self.keeps_state
    }

    /// Whether a request's row in the batch is that of its sequence.
    pub(crate) fn has_fixed_rows(&self) -> bool {
        self.rules.has_fixed_rows()
    }

    /// Notes that requests ran, and keeps what they left.
    pub(crate) fn ran(&self, steps: &[Step<State>], kept: Vec<State>) {
        let (mut inner, now) = (self.inner.lock(), Instant::now());
        let mut kept = kept.into_iter();
        steps.iter().for_each(|step| inner.table.ran(step.serial, kept.next(), now));
        if inner.standing >= Standing::Left {
            // It has no next request, and others wait for its seat.
            inner.table.forget_resting();
        }
        self.changed(inner);
    }

    /// Calls the workers: sequences may have got seats; and those who wait for the last one to go.
    fn changed(&self, inner: MutexGuard<'_, Inner>) {
        let is_empty = inner.table.is_empty();
        drop(inner);
        self.wake.notify_all();
        if is_empty {
            self.gone.notify_waiters();
        }
    }

    /// Takes no new sequence any more, and returns once those that have begun are over.
    pub(crate) async fn leave(&self, model: &str) {
        self.reach(Standing::Leaves);
        let gone = async {
            loop {
                let mut gone = std::pin::pin!(self.gone.notified());
                gone.as_mut().enable();
                let is_over = {
                    let inner = self.inner.lock();
                    inner.table.is_empty() || inner.standing >= Standing::Left
                };
                if is_over {
                    return;
                }
                gone.await;
            }
        };
        if tokio::time::timeout(LONGEST_LEAVE, gone).await.is_err() {
            tracing::warn!(model, "sequences of a version that is to go do not end: they are cut off");
        }
        self.hurry();
    }

    /// Lets no sequence go on.
    pub(crate) fn hurry(&self) {
        self.reach(Standing::Left);
        self.inner.lock().table.forget_resting();
        self.gone.notify_waiters();
    }

    fn reach(&self, standing: Standing) {
        let mut inner = self.inner.lock();
        inner.standing = inner.standing.max(standing);
    }

    /// Lets workers end once nothing waits.
    pub(crate) fn close(&self) {
        self.reach(Standing::Closed);
        self.wake.notify_all();
    }

    /// Takes out what has no time left, and forgets what has rested for too long.
    pub(crate) fn check(&self, slot: &Slot, now: Instant, due: &mut Due) -> Vec<Entry<Job>> {
        let mut inner = self.inner.lock();
        let Removed { meant, orphans } = inner.table.remove(|entry| due.is_over(entry.payload.deadline));
        let (n_over, next) = inner.table.reap(now);
        due.next = due.next.into_iter().chain(next).min();
        self.changed(inner);
        if n_over > 0 {
            tracing::debug!(model = &*slot.info.name, n_over, "sequences rested for too long and were ended");
        }
        slot.refuse_orphans(orphans);
        meant
    }

    /// Takes a request back that nobody waits for any more.
    pub(crate) fn withdraw(&self, slot: &Slot, id: u64) -> bool {
        let mut inner = self.inner.lock();
        let Removed { meant, orphans } = inner.table.remove(|entry| entry.id == id);
        self.changed(inner);
        slot.metrics.queue_shrank(meant.len());
        slot.refuse_orphans(orphans);
        !meant.is_empty()
    }

    /// Takes out everything that waits.
    pub(crate) fn take_all(&self) -> Vec<Entry<Job>> {
        let mut inner = self.inner.lock();
        let all = inner.table.remove_all();
        self.changed(inner);
        all
    }

    /// Notes that an instance is gone, and what it knew of its sequences.
    pub(crate) fn lost(&self, slot: &Slot, instance: usize) {
        let mut inner = self.inner.lock();
        let orphans = inner.table.lost(instance);
        self.changed(inner);
        slot.refuse_orphans(orphans);
    }

    /// Notes that a run on an instance was given up.
    pub(crate) fn gave_up(&self, slot: &Slot, instance: usize) {
        self.inner.lock().table.gave_up(instance, Instant::now());
        self.lost(slot, instance);
    }

    /// Puts requests back that did not run.
    pub(crate) fn put_back(&self, slot: &Slot, batch: &mut Steps) {
        let mut inner = self.inner.lock();
        let taken = batch.entries.drain(..).zip(batch.steps.drain(..)).map(|(request, step)| Taken { request, step });
        let n_taken = taken.len();
        let orphans: Vec<_> = taken.rev().filter_map(|taken| inner.table.put_back(taken)).collect();
        self.changed(inner);
        slot.metrics.queue_grew(n_taken);
        slot.refuse_orphans(orphans);
    }

    /// Blocks until an instance has something to do; moves a batch to run into `batch`.
    fn next_work(&self, slot: &Slot, instance: usize, batch: &mut Steps) -> Work {
        let look_at = slot.is_elsewhere.then(|| Instant::now() + LOOK);
        let mut inner = self.inner.lock();
        loop {
            let now = Instant::now();
            let (ready, oldest) = inner.table.view(instance);
            let is_closed = inner.standing == Standing::Closed;
            let until = match self.rules.decide(ready, oldest, now) {
                Decision::Idle if is_closed => return Work::End,
                Decision::Idle => None,
                Decision::WaitUntil(due) if !is_closed => Some(due),
                Decision::WaitUntil(_) => return self.take(slot, &mut inner, instance, usize::MAX, batch),
                Decision::Run(rows) => return self.take(slot, &mut inner, instance, rows, batch),
            };
            if look_at.is_some_and(|look_at| look_at <= now) {
                return Work::Look;
            }
            match until.into_iter().chain(look_at).min() {
                Some(due) => drop(self.wake.wait_until(&mut inner, due)),
                None => self.wake.wait(&mut inner),
            }
        }
    }

    fn take(&self, slot: &Slot, inner: &mut Inner, instance: usize, rows: usize, batch: &mut Steps) -> Work {
        let filling = slot.interface.filling.as_ref();
        let fit = |one: &Entry<Job>, own: Option<&State>, other: &Entry<Job>, its: Option<&State>| {
            one.key == other.key
                && filling.is_none_or(|filling| filling.fit(own.map(|state| &**state), its.map(|state| &**state)))
        };
        for Taken { request, step } in inner.table.take(instance, rows, fit) {
            batch.entries.push(request);
            batch.steps.push(step);
        }
        slot.metrics.queue_shrank(batch.entries.len());
        Work::Batch
    }

    /// Runs batches on one instance until the slot is closed.
    pub(crate) fn serve(&self, slot: &Arc<Slot>, mut runner: Runner) {
        let mut batch = Steps::default();
        while runner.held.restore(slot) {
            match self.next_work(slot, runner.held.idx(), &mut batch) {
                Work::End => return,
                Work::Look => {
                    runner.held.look(slot);
                }
                Work::Batch => match runner.run_steps(slot, self, &mut batch) {
                    After::Next | After::Gone(_) => {}
                    After::GivenUp => return,
                },
            }
        }
    }
}

impl Slot {
    /// Runs one admitted request of a sequence. Its inputs are left where they are: should the slot
    /// be leaving, another one takes them.
    pub(crate) async fn infer_step(
        &self,
        sequences: &Sequences,
        request: &mut InferRequest,
        ctx: &Context,
        mut place: Place,
        arrived: Instant,
    ) -> Result<InferResponse, Refusal> {
        let prepared = self.prepare_step(request, &mut place).map_err(Refusal::Error)?;
        let (member, wanted, inputs) = prepared;
        let (sender, answer) = oneshot::channel();
        let reply = Reply { id: 0, deadline: ctx.deadline, sender, seat: Seat::Own(place) };
        let key = self.key(&inputs, 0);
        let payload = Job { inputs, length: 0, deadline: ctx.deadline, outlet: None, reply: Some(reply) };
        let expiry = Expiry::Never;
        let entry = Entry { id: 0, rows: 1, lane: Lane::Level(1), arrived, expiry, key, payload };
        let id = self.push_step(sequences, &member, entry)?;
        let mut waiter = Waiter { slot: self, id, answer };
        let answer = waiter.answer(ctx.deadline, expiry, arrived).await.map_err(Refusal::Error)?;
        let Answer { outputs, timings } = answer;
        let outputs = self.interface.present(&wanted, outputs).map_err(Refusal::Error)?;
        Ok(InferResponse { model: self.info.clone(), id: request.id.take(), outputs, timings, cache: None, cost: None })
    }

    fn prepare_step(&self, request: &InferRequest, place: &mut Place) -> Result<(Member, Vec<usize>, Vec<Tensor>)> {
        let model = &*self.info.name;
        let member = Member::read(model, &request.parameters)?;
        self.interface.filling.as_ref().map_or(Ok(()), |filling| filling.check_id(&member.id))?;
        let wanted = interface::select(model, &self.interface.wire.outputs, &request.outputs)?;
        let inputs = self.interface.accept(model, request.inputs.clone())?;
        if self.interface.wire.is_batched() && inputs.first().is_some_and(|input| input.rows() != 1) {
            return Err(Error::invalid_input(format!(
                "inference request to model '{model}' must specify batch-size 1 due to requirements of sequence batcher"
            )));
        }
        match place.hold(inputs.iter().map(Tensor::payload_len).sum()) {
            true => Ok((member, wanted, inputs)),
            false => Err(self.no_memory()),
        }
    }

    fn push_step(&self, sequences: &Sequences, member: &Member, mut entry: Entry<Job>) -> Result<u64, Refusal> {
        if let Some(outage) = self.waiting.state.lock().outage(entry.arrived) {
            return Err(Refusal::Error(self.unavailable(&outage)));
        }
        let now = entry.arrived;
        let mut inner = sequences.inner.lock();
        let goes_on = inner.standing < Standing::Left && !member.place.starts && inner.table.is_open(&member.id, now);
        if inner.standing != Standing::Serves && !goes_on {
            return Err(Refusal::Draining);
        }
        let id = Line::Main.id(inner.n_arrived);
        entry.set_id(id);
        if inner.table.arrive(&member.id, member.place, now, entry).is_err() {
            return Err(Refusal::Error(Error::invalid_input(format!(
                "inference request for sequence {} to model '{}' must specify the START flag on the first request of \
                 the sequence",
                member.id, self.info.name
            ))));
        }
        inner.n_arrived += 1;
        if let Some(order) = &self.order {
            order.arrived(id);
        }
        drop(inner);
        self.metrics.queue_grew(1);
        sequences.wake.notify_all();
        Ok(id)
    }

    /// Answers requests whose sequence has gone before they ran.
    fn refuse_orphans(&self, orphans: Vec<Entry<Job>>) {
        self.metrics.queue_shrank(orphans.len());
        for entry in orphans {
            self.counters.failed(entry.arrived.elapsed());
            let text = format!(
                "the sequence of this request to model '{}' has ended before it could run; begin it anew, with the \
                 START flag on its first request",
                self.info.name
            );
            if let Some(reply) = entry.payload.reply {
                self.deliver(reply, Err(Error::invalid_input(text)));
            }
        }
    }
}
