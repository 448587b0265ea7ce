//! Requests of models that wait instead of computing: no line, no batch, no worker.
//!
//! A place and the server's memory for what waits bound them as they bound all others. The future
//! of the call is the caller's own, so a caller that leaves ends it, and so does its deadline.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt as _;
use salver_core::{
    AsyncCall, AsyncModel, Bill, Context, Cost, Error, InferRequest, InferResponse, ModelSpec, Result, TaskSpec,
    Tensor, Timings,
};
use tokio::time::timeout_at;

use crate::interface;
use crate::places::Place;
use crate::run::panic_text;
use crate::slot::Slot;
use crate::statistics::Execution;

impl Slot {
    /// Runs one admitted request.
    pub(crate) async fn infer_async(
        &self,
        model: &dyn AsyncModel,
        request: &mut InferRequest,
        ctx: &Context,
        mut place: Place,
        arrived: Instant,
    ) -> Result<InferResponse> {
        let wanted = interface::select(&self.info.name, &self.interface.wire.outputs, &request.outputs)?;
        let inputs = self.interface.accept(&self.info.name, std::mem::take(&mut request.inputs))?;
        if !place.hold(inputs.iter().map(Tensor::payload_len).sum()) {
            return Err(self.no_memory());
        }
        let rows = if self.interface.wire.is_batched() { inputs.first().map_or(1, Tensor::rows) } else { 1 };
        let bill = Bill::part_of(ctx.bill.clone());
        let own = Context { bill: Some(bill.clone()), ..ctx.clone() };
        let call = AsyncCall { inputs, parameters: &request.parameters, ctx: &own };
        let answered = self.within(ctx.deadline, model.run(call)).await;
        let cost = Some(bill.total()).filter(|total| *total > Cost::ZERO);
        let outputs = match answered.and_then(|outputs| self.interface.present(&wanted, outputs)) {
            Ok(outputs) => outputs,
            Err(error) => {
                self.counters.failed(arrived.elapsed());
                return Err(error.with_cost(cost));
            }
        };
        let took = arrived.elapsed();
        let timings = Timings { compute_infer: took, batch_rows: rows, ..Timings::default() };
        self.metrics.observe_batch(rows);
        self.metrics.observe_execution(timings.compute_input, took, timings.compute_output);
        let execution = Execution {
            rows,
            compute_input: timings.compute_input,
            compute_infer: took,
            compute_output: timings.compute_output,
        };
        self.counters.executed(execution, std::iter::once((timings, took)));
        Ok(InferResponse { model: self.info.clone(), id: request.id.take(), outputs, timings, cache: None, cost })
    }

    async fn within(
        &self,
        deadline: Option<Instant>,
        run: impl Future<Output = Result<Vec<Tensor>>>,
    ) -> Result<Vec<Tensor>> {
        let run = AssertUnwindSafe(run).catch_unwind();
        let ran = match deadline {
            None => run.await,
            Some(deadline) => timeout_at(deadline.into(), run).await.map_err(|_| self.ran_too_long())?,
        };
        ran.unwrap_or_else(|panic| {
            let reason = panic_text(panic.as_ref());
            tracing::error!(model = &*self.info.name, reason, "the model panicked");
            Err(Error::engine(format!("model '{}' failed on this request", self.info.name)))
        })
    }
}

/// Refuses settings that a model without instances cannot have.
pub(crate) fn check(spec: &ModelSpec) -> Result<()> {
    let setting = match &spec.task {
        _ if spec.config.sequence_batching.is_some() => "sequence_batching".to_owned(),
        _ if !spec.config.warmup.is_empty() => "model_warmup".to_owned(),
        TaskSpec::Tensor | TaskSpec::Rows => return Ok(()),
        task => format!("task = \"{}\"", task.name()),
    };
    let engine = spec.engine.as_deref().unwrap_or_default();
    Err(Error::unsupported(format!("a model of engine '{engine}' cannot have {setting}: leave it out")))
}
