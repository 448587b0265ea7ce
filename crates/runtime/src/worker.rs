//! A worker thread: takes what queued while it was busy, runs it as one batch, answers.
//!
//! The only loop that waits. A batch that fails is halved until the request at fault stands
//! alone, so a row that fails alone fails alone; an instance that panicked is replaced.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use salver_core::{BatchLayout, Error, ErrorKind, Inputs, Instance, Placement, Result, Tensor, Timings};

use crate::assemble;
use crate::queue::Entry;
use crate::slot::{Answer, Job, Slot};
use crate::statistics::Execution;

/// Runs until the slot is closed and its queue is empty.
pub(crate) fn work(slot: &Arc<Slot>, placement: Placement, instance: Box<dyn Instance>) {
    give_way();
    let mut worker = Worker { slot, placement, instance: Some(instance) };
    let mut batch = Vec::new();
    while slot.next_batch(&mut batch) {
        let now = Instant::now();
        batch.retain_mut(|entry| still_wanted(slot, entry, now));
        let alive = std::mem::take(&mut batch);
        if !alive.is_empty() {
            worker.run_group(alive, now);
        }
        slot.ran(now.elapsed());
    }
}

/// Asks the system not to interrupt other threads when this one wakes (`SCHED_BATCH`).
///
/// A worker that interrupts the thread that reads the sockets runs a batch of one, while the
/// requests that would have joined it are still unread. On an idle machine nothing changes. Left
/// alone where somebody has given the process another priority; a refusal does no harm.
fn give_way() {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    // The middle of this crate's scale is the ordinary niceness, 0.
    const ORDINARY: u8 = 49;
    let is_ordinary = rustix::process::getpriority_process(None).is_ok_and(|nice| nice == 0);
    if let Ok(priority) = ThreadPriority::try_from(ORDINARY)
        && is_ordinary
    {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, policy) {
            tracing::debug!(?error, "a worker thread keeps the ordinary scheduling policy");
        }
    }
}

/// Drops requests whose caller has gone, and answers those whose deadline has passed.
fn still_wanted(slot: &Slot, entry: &mut Entry<Job>, now: Instant) -> bool {
    let job = &mut entry.payload;
    if job.reply.is_closed() {
        return false;
    }
    if job.deadline.is_none_or(|deadline| now < deadline) {
        return true;
    }
    slot.counters.failed(now - entry.arrived);
    let waited = (now - entry.arrived).as_millis();
    let error = Error::new(
        ErrorKind::Deadline,
        format!("the deadline passed while the request waited {waited} ms in the queue of model '{}'", slot.info.name),
    );
    // Send by replacing the sender: the entry is dropped right after.
    let (unused, _) = tokio::sync::oneshot::channel();
    let _ = std::mem::replace(&mut job.reply, unused).send(Err(error));
    false
}

struct Worker<'a> {
    slot: &'a Arc<Slot>,
    placement: Placement,
    /// Empty after a panic, until a new one could be made.
    instance: Option<Box<dyn Instance>>,
}

/// Outputs of each request, and how long each step took.
struct Done {
    outputs: Vec<Vec<Tensor>>,
    execution: Execution,
}

impl Worker<'_> {
    fn run_group(&mut self, mut group: Vec<Entry<Job>>, taken: Instant) {
        match self.run(&group) {
            Ok(done) => self.answer(group, done, taken),
            Err(error) if group.len() == 1 => {
                for entry in group {
                    self.slot.counters.failed(entry.arrived.elapsed());
                    let _ = entry.payload.reply.send(Err(error.clone()));
                }
            }
            Err(error) => {
                tracing::debug!(model = &*self.slot.info.name, requests = group.len(), %error, "batch failed, halving it");
                let second = group.split_off(group.len() / 2);
                self.run_group(group, taken);
                self.run_group(second, taken);
            }
        }
    }

    fn run(&mut self, group: &[Entry<Job>]) -> Result<Done> {
        if self.instance.is_none() {
            self.instance = Some(self.slot.instance(&self.placement)?);
        }
        let Some(instance) = self.instance.as_mut() else {
            return Err(Error::engine("no instance"));
        };
        match catch_unwind(AssertUnwindSafe(|| execute(instance.as_mut(), group))) {
            Ok(result) => result.map_err(|error| self.name(error)),
            Err(panic) => {
                self.instance = None;
                let reason = panic_text(panic.as_ref());
                tracing::error!(model = &*self.slot.info.name, reason, "the engine panicked; its instance is replaced");
                Err(self.name(Error::engine("the engine failed on this request")))
            }
        }
    }

    fn name(&self, error: Error) -> Error {
        error.context(format_args!("model '{}' version {}", self.slot.info.name, self.slot.info.version))
    }

    fn answer(&self, group: Vec<Entry<Job>>, done: Done, taken: Instant) {
        let Done { outputs, execution } = done;
        self.slot.metrics.observe_batch(execution.rows);
        let timings = |entry: &Entry<Job>| Timings {
            queue: taken.saturating_duration_since(entry.arrived),
            compute_input: execution.compute_input,
            compute_infer: execution.compute_infer,
            compute_output: execution.compute_output,
            batch_rows: execution.rows,
        };
        // Counted before anybody is answered: whoever has an answer finds it in the statistics.
        self.slot.counters.executed(execution, group.iter().map(|entry| (timings(entry), entry.arrived.elapsed())));
        for (entry, outputs) in group.into_iter().zip(outputs) {
            let timings = timings(&entry);
            let _ = entry.payload.reply.send(Ok(Answer { outputs, timings }));
        }
    }
}

fn execute(instance: &mut dyn Instance, group: &[Entry<Job>]) -> Result<Done> {
    let started = Instant::now();
    let rows: Vec<usize> = group.iter().map(|entry| entry.rows).collect();
    if let [alone] = group {
        let outputs = instance.run(Inputs::Direct(&alone.payload.inputs))?;
        let execution = timed(rows[0], started, started, Instant::now());
        return Ok(Done { outputs: vec![outputs], execution });
    }
    let requests: Vec<&[Tensor]> = group.iter().map(|entry| entry.payload.inputs.as_slice()).collect();
    let (assembled, merged) = match assemble::layout(&requests) {
        Some(layout) => {
            stage(instance, &requests, &layout)?;
            (Instant::now(), instance.run(Inputs::Staged(&layout))?)
        }
        None => {
            let inputs = assemble::merge(&requests)?;
            (Instant::now(), instance.run(Inputs::Direct(&inputs))?)
        }
    };
    let ran = Instant::now();
    let outputs = assemble::split(&merged, &rows)?;
    Ok(Done { outputs, execution: timed(rows.iter().sum(), started, assembled, ran) })
}

fn stage(instance: &mut dyn Instance, requests: &[&[Tensor]], layout: &BatchLayout) -> Result<()> {
    let buffer = instance.input_buffer(layout)?;
    assemble::stage(requests, layout, buffer)
}

fn timed(rows: usize, started: Instant, assembled: Instant, ran: Instant) -> Execution {
    Execution {
        rows,
        compute_input: assembled - started,
        compute_infer: ran - assembled,
        compute_output: Instant::now().saturating_duration_since(ran).max(Duration::ZERO),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
