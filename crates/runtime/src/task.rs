//! Requests of models with a task: people's data in, parts through the queue, answers out.
//!
//! Encoding happens under the request's place, so that an overloaded server does not spend its
//! processor on what it would refuse. Work that takes long has as many threads as there are cores,
//! and none of them is one that reads sockets. The parts of a request join batches on their own;
//! together they have one place, which is free again when the last of them is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use salver_core::{
    Batching, Context, Encoded, Error, ErrorKind, InferRequest, InferResponse, Inputs, Instance, Parameters,
    PartLimits, Result, Task, Tensor, Timings,
};
use salver_telemetry::TaskMetrics;
use tokio::time::timeout_at;

use crate::interface::{self, Interface};
use crate::places::Place;
use crate::run::{Answer, Seat};
use crate::slot::Slot;

/// Bytes of outputs that are decoded on the thread that waited for them.
const SMALL_OUTPUT: usize = 1 << 20;

impl Slot {
    /// Runs one admitted request through the model's task.
    pub(crate) async fn infer_task(
        &self,
        task: &Arc<dyn Task>,
        request: &mut InferRequest,
        ctx: &Context,
        mut place: Place,
        arrived: Instant,
    ) -> Result<InferResponse> {
        let wanted = interface::select(&self.info.name, &task.signature().outputs, &request.outputs)?;
        let inputs = task.signature().check(&self.info.name, std::mem::take(&mut request.inputs))?;
        if !place.hold(bytes_of(&inputs)) {
            return Err(self.no_memory());
        }
        let (mut place, Encoded { parts, notes }) = self.encode(task, inputs, ctx.deadline, place).await?;
        if !place.hold(parts.iter().map(|part| bytes_of(part)).sum()) {
            return Err(self.no_memory());
        }
        let place = Arc::new(place);
        let run = |inputs: Vec<Tensor>| self.run_part(inputs, &request.parameters, ctx, &place, arrived);
        let answers: Vec<Answer> = try_join_all(parts.into_iter().map(run)).await?;
        let timings = answers.iter().map(|answer| answer.timings).reduce(joined).unwrap_or_default();
        let outputs = answers.into_iter().map(|answer| answer.outputs).collect();
        let decoded = self.decode(task, outputs, notes, ctx.deadline).await?;
        let outputs = if wanted.is_empty() { decoded } else { pick(&decoded, &wanted)? };
        Ok(InferResponse { model: self.info.clone(), id: request.id.take(), outputs, timings, cache: None, cost: None })
    }

    /// Encodes under `place`, which comes back with the result: where the caller leaves meanwhile,
    /// the work still goes on to its end, and counts until then.
    async fn encode(
        &self,
        task: &Arc<dyn Task>,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
        place: Place,
    ) -> Result<(Place, Encoded)> {
        let (max_rows, buckets) = (self.max_part_rows(), self.interface.buckets());
        let (is_quick, task) = (task.is_quick(&inputs), task.clone());
        let encode = move || {
            let encoded = task.encode(inputs, PartLimits { max_rows, buckets: &buckets });
            encoded.map(|encoded| (place, encoded))
        };
        let (took, done) = self.compute(is_quick, deadline, encode).await?;
        self.note(|metrics| metrics.observe_preprocess(took));
        done
    }

    async fn decode(
        &self,
        task: &Arc<dyn Task>,
        outputs: Vec<Vec<Tensor>>,
        notes: salver_core::Notes,
        deadline: Option<Instant>,
    ) -> Result<Vec<Tensor>> {
        let is_quick = outputs.iter().map(|part| bytes_of(part)).sum::<usize>() < SMALL_OUTPUT;
        let task = task.clone();
        let (took, decoded) = self.compute(is_quick, deadline, move || task.decode(outputs, notes)).await?;
        self.note(|metrics| metrics.observe_postprocess(took));
        decoded
    }

    /// Runs one part of a request like a request of its own.
    async fn run_part(
        &self,
        inputs: Vec<Tensor>,
        parameters: &Parameters,
        ctx: &Context,
        place: &Arc<Place>,
        arrived: Instant,
    ) -> Result<Answer> {
        let inputs = self.interface.accept(&self.info.name, inputs).map_err(of_task)?;
        let (mut waiter, crew, expiry) =
            self.line_up(inputs, None, parameters, ctx, Seat::Part(place.clone()), arrived)?;
        if let Some(crew) = crew {
            crew.lead(self).await;
        }
        let mut answer = waiter.answer(ctx.deadline, expiry, arrived).await?;
        answer.outputs = self.interface.present(&[], answer.outputs)?;
        Ok(answer)
    }

    /// Runs `work` here where it is quick, else where it holds up nobody; says how long it took.
    async fn compute<T: Send + 'static>(
        &self,
        is_quick: bool,
        deadline: Option<Instant>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Duration, T)> {
        let timed = move || {
            let started = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(work));
            (started.elapsed(), done)
        };
        let (took, done) = if is_quick { timed() } else { Box::pin(self.offload(deadline, timed)).await? };
        let done = done.map_err(|_| Error::engine(format!("the task of model '{}' failed", self.info.name)))?;
        Ok((took, done))
    }

    async fn offload<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let cores = self.shared().compute.clone();
        let run = async move {
            // Nobody closes the semaphore.
            let permit = cores.acquire_owned().await.ok();
            let run = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(permit);
                done
            });
            run.await
        };
        let done = match deadline {
            None => run.await,
            Some(deadline) => timeout_at(deadline.into(), run).await.map_err(|_| {
                let text = format!("the deadline passed while the request was prepared for model '{}'", self.info.name);
                Error::new(ErrorKind::Deadline, text)
            })?,
        };
        done.map_err(|error| Error::engine("preparing the request ended early").with_source(error))
    }

    fn note(&self, observe: impl FnOnce(&TaskMetrics)) {
        self.task_metrics.as_ref().inspect(|metrics| observe(metrics));
    }

    /// The most rows of a part: what a batch holds, and what the model takes.
    fn max_part_rows(&self) -> usize {
        max_part_rows(&self.interface, self.batching.max_rows)
    }
}

fn max_part_rows(interface: &Interface, batch: usize) -> usize {
    match interface.wire.batching {
        Batching::Fixed => 1,
        Batching::Rows { limit } => limit.map_or(batch, |limit| batch.min(limit.get())).max(1),
    }
}

/// Runs the task's own example: what it makes of people's data has to fit the model.
///
/// # Errors
/// What the task or the engine says of it.
pub(crate) fn try_example(task: &dyn Task, interface: &Interface, instance: &mut dyn Instance) -> Result<()> {
    let mut run = || {
        let limits = PartLimits { max_rows: 1, buckets: &interface.buckets() };
        let Encoded { parts, notes } = task.encode(task.example(), limits)?;
        let run = |inputs| {
            let inputs = interface.accept("the task's example", inputs)?;
            interface.present(&[], instance.run(Inputs::Direct(&inputs))?)
        };
        let outputs = parts.into_iter().map(run).collect::<Result<_>>()?;
        task.decode(outputs, notes)
    };
    run().map(drop).map_err(|error| error.context("the task does not fit the model: its example does not run"))
}

fn bytes_of(tensors: &[Tensor]) -> usize {
    tensors.iter().map(Tensor::payload_len).sum()
}

/// The time of a request is that of its slowest part in the queue, and of all of them in the engine.
fn joined(one: Timings, other: Timings) -> Timings {
    Timings {
        queue: one.queue.max(other.queue),
        compute_input: one.compute_input + other.compute_input,
        compute_infer: one.compute_infer + other.compute_infer,
        compute_output: one.compute_output + other.compute_output,
        batch_rows: one.batch_rows.max(other.batch_rows),
    }
}

fn pick(outputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>> {
    let output = |&idx: &usize| outputs.get(idx).cloned();
    let picked = wanted.iter().map(output).collect::<Option<_>>();
    picked.ok_or_else(|| Error::engine("the task gave fewer outputs than it declares"))
}

/// What a task made of a request does not fit the model: nobody's input is at fault.
fn of_task(error: Error) -> Error {
    Error::engine(format!("the task made what the model does not take: {}", error.message()))
}
