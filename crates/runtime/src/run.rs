//! Runs one batch on one instance and answers its requests.
//!
//! A batch that fails is halved until the request at fault stands alone, so a row that fails alone
//! fails alone. A batch whose instance ended under it fails as a whole: each half would cost another
//! instance. An instance that panicked, that failed on a lone request, that ended, or that did not
//! come back in time, is replaced.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use salver_core::{Error, ErrorKind, Inputs, Instance, Result, Tensor, Timings};
use salver_telemetry::Replaced;
use tokio::sync::oneshot;

use crate::assemble::{self, Member};
use crate::desk::Desk;
use crate::padding::Padding;
use crate::pieces::Inlet;
use crate::places::Place;
use crate::queue::{Entry, Lane};
use crate::restore::Held;
use crate::slot::Slot;
use crate::statistics::Execution;

mod pieces;
mod ragged;
mod steps;

/// A request that waits for a runner.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) inputs: Vec<Tensor>,
    /// The length of padded inputs; 0 where none are.
    pub(crate) length: usize,
    pub(crate) deadline: Option<Instant>,
    /// Where answers go one by one; none: there is one.
    pub(crate) outlet: Option<Box<Outlet>>,
    /// Taken when a runner takes the request.
    pub(crate) reply: Option<Reply>,
}

/// The way of several answers to the caller of a decoupled model.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) inlet: Inlet,
    /// The request's id.
    pub(crate) id: Option<String>,
    /// The outputs wanted.
    pub(crate) wanted: Vec<usize>,
}

/// The way back to the caller, and the place that the request takes until it is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    pub(crate) deadline: Option<Instant>,
    pub(crate) sender: oneshot::Sender<Result<Answer>>,
    pub(crate) seat: Seat,
}

/// What a request takes of its model's places until it is answered.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not looked at")]
pub(crate) enum Seat {
    /// A place.
    Own(Place),
    /// A share of one: the request is a part of another.
    Part(Arc<Place>),
}

impl Reply {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Gives the place back and answers: whoever has an answer finds room to ask again. A caller
    /// that has left is no error.
    pub(crate) fn send(self, result: Result<Answer>) {
        let Self { sender, seat, .. } = self;
        drop(seat);
        let _ = sender.send(result);
    }
}

/// What a runner answers: the graph's outputs.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) timings: Timings,
}

/// Runs batches of one slot, one after the other.
pub(crate) struct Runner {
    pub(crate) held: Held,
    pub(crate) desk: Arc<Desk>,
}

/// Whether a runner may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It may take the next batch.
    Next,
    /// Its instance is gone. The requests of the batch from there on did not run.
    Gone(usize),
    /// It was given up meanwhile: its thread has to end.
    GivenUp,
}

/// Outputs of each request, and how long each step took.
struct Done {
    outputs: Vec<Vec<Tensor>>,
    execution: Execution,
}

impl Runner {
    pub(crate) fn new(held: Held) -> Self {
        Self { held, desk: Arc::default() }
    }

    /// Runs what a caller still waits for. Leaves in `batch` what did not run because the instance
    /// is gone.
    pub(crate) fn run_batch(&mut self, slot: &Slot, batch: &mut Vec<Entry<Job>>) -> After {
        let now = Instant::now();
        batch.retain_mut(|entry| still_wanted(slot, entry, now));
        if batch.is_empty() {
            return After::Next;
        }
        if !self.held.look(slot) {
            return After::Gone(0);
        }
        let _online = batch.iter().any(|entry| entry.lane != Lane::Background).then(|| slot.shared().online());
        self.desk.lay_out(batch.iter_mut().filter_map(|entry| entry.payload.reply.take()));
        let after = self.run_group(slot, batch, 0, now);
        match after {
            After::Gone(from) => self.take_back(batch, from),
            After::Next | After::GivenUp => batch.clear(),
        }
        after
    }

    /// Leaves in `batch` what has a reply to come from `from` on.
    fn take_back(&self, batch: &mut Vec<Entry<Job>>, from: usize) {
        batch.drain(..from);
        for (entry, reply) in batch.iter_mut().zip(self.desk.take_back(from)) {
            entry.payload.reply = reply;
        }
        batch.retain(|entry| entry.payload.reply.is_some());
    }

    /// Runs `group`, which begins at `first` within the batch.
    fn run_group(&mut self, slot: &Slot, group: &[Entry<Job>], first: usize, taken: Instant) -> After {
        let result = self.run(slot, group);
        if !self.desk.came_back() {
            return After::GivenUp;
        }
        let error = match result {
            Ok(done) => {
                self.held.prove(slot);
                self.answer(slot, group, first, done, taken);
                return After::Next;
            }
            Err(error) => error,
        };
        self.held.review(slot, &error, group.len() == 1);
        let error = name(slot, error);
        let is_gone = self.held.is_gone(slot);
        if group.len() == 1 || is_gone || error.kind() == ErrorKind::NotReady {
            self.refuse(slot, group, first, &error);
            return if is_gone { After::Gone(first + group.len()) } else { After::Next };
        }
        tracing::debug!(model = &*slot.info.name, requests = group.len(), %error, "batch failed, halving it");
        let (front, back) = group.split_at(group.len() / 2);
        match self.run_group(slot, front, first, taken) {
            After::Next => self.run_group(slot, back, first + front.len(), taken),
            early => early,
        }
    }

    fn run(&mut self, slot: &Slot, group: &[Entry<Job>]) -> Result<Done> {
        let padding = slot.interface.padding.as_ref();
        if let [Entry { payload: Job { outlet: Some(outlet), .. }, .. }] = group {
            return self.run_pieces(slot, &group[0], outlet);
        }
        match &slot.interface.ragged {
            None => self.guarded(slot, |instance| execute(instance, group, padding, slot)),
            Some(ragged) => self.guarded(slot, |instance| ragged::execute(instance, group, ragged, slot)),
        }
    }

    /// Lets `run` have the instance, under the eyes of the watch; a panic is an error.
    fn guarded<T>(&mut self, slot: &Slot, run: impl FnOnce(&mut dyn Instance) -> Result<T>) -> Result<T> {
        let instance = self.held.instance(slot)?;
        if slot.watches() {
            self.desk.starts(Instant::now(), instance.interrupt());
        }
        match catch_unwind(AssertUnwindSafe(|| run(instance))) {
            Ok(result) => result,
            Err(panic) => {
                let reason = panic_text(panic.as_ref());
                tracing::error!(model = &*slot.info.name, reason, "the engine panicked; its instance is replaced");
                self.held.lose(slot, Replaced::Panic, format!("the engine panicked: {reason}"));
                Err(Error::engine("the engine failed on this request"))
            }
        }
    }

    fn refuse(&self, slot: &Slot, group: &[Entry<Job>], first: usize, error: &Error) {
        let is_lost = group.len() > 1 && self.held.is_gone(slot);
        let error = if is_lost { error.clone().of_lost_batch() } else { error.clone() };
        group.iter().for_each(|entry| slot.counters.failed(entry.arrived.elapsed()));
        self.desk.answer(first, group.iter(), |reply, _| slot.deliver(reply, Err(error.clone())));
    }

    fn answer(&self, slot: &Slot, group: &[Entry<Job>], first: usize, done: Done, taken: Instant) {
        let Done { outputs, execution } = done;
        slot.metrics.observe_batch(execution.rows);
        slot.metrics.observe_execution(execution.compute_input, execution.compute_infer, execution.compute_output);
        group.iter().for_each(|entry| slot.metrics.observe_queue(taken.saturating_duration_since(entry.arrived)));
        let timings = |entry: &Entry<Job>| Timings {
            queue: taken.saturating_duration_since(entry.arrived),
            compute_input: execution.compute_input,
            compute_infer: execution.compute_infer,
            compute_output: execution.compute_output,
            batch_rows: execution.rows,
        };
        let now = Instant::now();
        // Counted before anybody is answered: whoever has an answer finds it in the statistics.
        let counted = group.iter().map(|entry| (timings(entry), now.saturating_duration_since(entry.arrived)));
        slot.counters.executed(execution, counted);
        self.desk.answer(first, group.iter().zip(outputs), |reply, (entry, outputs)| {
            slot.deliver(reply, Ok(Answer { outputs, timings: timings(entry) }));
        });
    }
}

/// Drops requests whose caller has gone, and answers those whose deadline has passed.
fn still_wanted(slot: &Slot, entry: &mut Entry<Job>, now: Instant) -> bool {
    let job = &mut entry.payload;
    if job.reply.as_ref().is_none_or(|reply| reply.sender.is_closed()) {
        if let Some(reply) = job.reply.take() {
            slot.left(reply.id);
        }
        return false;
    }
    if job.deadline.is_none_or(|deadline| now < deadline) {
        return true;
    }
    if let Some(reply) = job.reply.take() {
        slot.counters.failed(now.saturating_duration_since(entry.arrived));
        slot.deliver(reply, Err(slot.waited_too_long(now.saturating_duration_since(entry.arrived))));
    }
    false
}

fn name(slot: &Slot, error: Error) -> Error {
    error.context(format_args!("model '{}' version {}", slot.info.name, slot.info.version))
}

fn execute(instance: &mut dyn Instance, group: &[Entry<Job>], padding: Option<&Padding>, slot: &Slot) -> Result<Done> {
    let started = Instant::now();
    if let [alone] = group {
        let outputs = instance.run(Inputs::Direct(&alone.payload.inputs))?;
        let execution = timed(alone.rows, started, started, Instant::now());
        return Ok(Done { outputs: vec![outputs], execution });
    }
    let members: Vec<Member<'_>> = group.iter().map(member).collect();
    let (outputs, assembled, ran) = merged(instance, &members, padding, slot)?;
    let rows = members.iter().map(|member| member.rows).sum();
    Ok(Done { outputs, execution: timed(rows, started, assembled, ran) })
}

/// Runs several requests as one batch. Returns the outputs of each, when the batch was assembled and
/// when the engine came back.
fn merged(
    instance: &mut dyn Instance,
    members: &[Member<'_>],
    padding: Option<&Padding>,
    slot: &Slot,
) -> Result<(Vec<Vec<Tensor>>, Instant, Instant)> {
    let (merged, assembled) = run_merged(instance, members, padding, slot)?;
    let ran = Instant::now();
    Ok((assemble::split(&merged, members, padding)?, assembled, ran))
}

/// Runs several requests as one batch. Returns its outputs, and when the batch was assembled.
fn run_merged(
    instance: &mut dyn Instance,
    members: &[Member<'_>],
    padding: Option<&Padding>,
    slot: &Slot,
) -> Result<(Vec<Tensor>, Instant)> {
    match assemble::layout(members, padding) {
        Some(layout) => {
            let buffer = instance.input_buffer(&layout)?;
            let padded = assemble::stage(members, padding, &layout, buffer)?;
            if padding.is_some() {
                slot.metrics.observe_padding(padded.elements, padded.padding);
            }
            let assembled = Instant::now();
            Ok((instance.run(Inputs::Staged(&layout))?, assembled))
        }
        None => {
            let inputs = assemble::merge(members)?;
            let assembled = Instant::now();
            Ok((instance.run(Inputs::Direct(&inputs))?, assembled))
        }
    }
}

fn member(entry: &Entry<Job>) -> Member<'_> {
    Member { inputs: &entry.payload.inputs, rows: entry.rows, length: entry.payload.length }
}

fn timed(rows: usize, started: Instant, assembled: Instant, ran: Instant) -> Execution {
    Execution {
        rows,
        compute_input: assembled - started,
        compute_infer: ran - assembled,
        compute_output: Instant::now().saturating_duration_since(ran).max(Duration::ZERO),
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Says that a run of so many requests was given up after `limit`.
pub(crate) fn given_up(slot: &Slot, limit: Duration, n_requests: usize) -> Error {
    let limit_ms = limit.as_millis();
    let error = name(slot, Error::engine(format!("the engine did not come back within {limit_ms} ms")));
    if n_requests > 1 { error.of_lost_batch() } else { error }
}
