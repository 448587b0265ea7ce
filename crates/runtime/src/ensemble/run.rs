//! One request through the steps of an ensemble.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use salver_core::{
    AsyncCall, BoxFuture as CallFuture, Context, Error, ErrorKind, InferRequest, InferResponse, ModelRef, OnFailure,
    Parameters, Result, Shape, Tensor,
};
use tokio::time::timeout_at;

use super::counters::Ended;
use super::graph::{From, Graph, Node, Wanted};
use super::value::{Candidate, Form, Mask, Value, gather};
use super::{Ensemble, each};

/// The most ensembles within each other.
pub(super) const MAX_DEPTH: u8 = 16;
/// The most rows of a request: rows without bytes cost nothing to send.
const MAX_ROWS: usize = 1 << 20;

/// Calls a model.
pub(crate) trait Call: Send + Sync {
    /// Runs one request.
    fn call<'a>(&'a self, request: InferRequest, ctx: Context) -> CallFuture<'a, Result<InferResponse>>;
}

/// What all steps of one request share.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) ensemble: &'a Ensemble,
    pub(super) parameters: &'a Parameters,
    pub(super) ctx: &'a Context,
    pub(super) n_rows: usize,
}

/// What became of a step: the places of its values.
type Stepped = (usize, Result<Vec<(usize, Value)>>);

/// Answers one request.
pub(super) async fn run(ensemble: &Ensemble, call: AsyncCall<'_>) -> Result<Vec<Tensor>> {
    let AsyncCall { inputs, parameters, ctx } = call;
    if ctx.depth >= MAX_DEPTH {
        return Err(Error::engine(format!("more than {MAX_DEPTH} ensembles call each other in a row")));
    }
    let graph = &ensemble.graph;
    let n_rows = if graph.has_rows { inputs.first().map_or(1, Tensor::rows) } else { 1 };
    if n_rows > MAX_ROWS {
        return Err(Error::invalid_input(format!("{n_rows} rows, at most {MAX_ROWS} are allowed for an ensemble")));
    }
    let mut values = vec![Value::ABSENT; graph.n_values];
    for (place, tensor) in inputs.into_iter().enumerate() {
        values[place] = Value::new(tensor, Mask::All);
    }
    let ctx = &Context { depth: ctx.depth + 1, ..ctx.clone() };
    let run = Run { ensemble, parameters, ctx, n_rows };
    match graph.is_chain {
        true => run.one_by_one(&mut values).await?,
        false => run.side_by_side(&mut values).await?,
    }
    graph.outputs.iter().map(|output| run.gather(output, &values, &Mask::All)).collect()
}

impl<'a> Run<'a> {
    fn graph(self) -> &'a Graph {
        &self.ensemble.graph
    }

    async fn one_by_one(self, values: &mut [Value]) -> Result<()> {
        for idx in 0..self.graph().steps.len() {
            let (_, stepped) = self.start(idx, values).await;
            put(values, stepped?);
        }
        Ok(())
    }

    /// Starts each step as soon as those that it needs are done. The first that fails ends all others.
    async fn side_by_side(self, values: &mut [Value]) -> Result<()> {
        let steps = &self.graph().steps;
        let mut waiting: Vec<usize> = (0..steps.len()).collect();
        let mut done = vec![false; steps.len()];
        let mut running = FuturesUnordered::new();
        loop {
            waiting.retain(|&idx| {
                let is_due = steps[idx].needs.iter().all(|&need| done[need]);
                if is_due {
                    running.push(self.start(idx, values));
                }
                !is_due
            });
            let Some((idx, stepped)) = running.next().await else {
                return Ok(());
            };
            put(values, stepped?);
            done[idx] = true;
        }
    }

    /// Gathers what a step needs, and returns what runs it.
    fn start(self, idx: usize, values: &[Value]) -> BoxFuture<'a, Stepped> {
        let node = &self.graph().steps[idx];
        let prepared = self.prepare(node, values);
        let (inputs, mask) = match prepared {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                node.counters.skipped();
                let nothing = node.outputs.iter().map(|(_, place)| (*place, Value::ABSENT)).collect();
                return std::future::ready((idx, Ok(nothing))).boxed();
            }
            // Nobody was called yet: what does not fit is the request's, whatever the step reads.
            Err(error) => return std::future::ready((idx, Err(error.context(step_name(node))))).boxed(),
        };
        async move {
            let timer = node.counters.start();
            let stepped = match self.attempts(node, inputs, &mask).await {
                Ok(outputs) => self.keep(node, outputs, &mask).inspect(|_| timer.end(Ended::Well)),
                Err(error) => {
                    timer.end(Ended::Failed);
                    self.failed(node, error)
                }
            };
            (idx, stepped.map_err(|error| in_step(node, error)))
        }
        .boxed()
    }

    /// Returns the rows that a step runs for, and its inputs; none: there is no such row.
    fn prepare(self, node: &Node, values: &[Value]) -> Result<Option<(Vec<Tensor>, Mask)>> {
        let mut mask = Mask::All;
        for input in &node.inputs {
            let there = input.from.iter().fold(Mask::None, |there, from| match from {
                From::Constant(_) => Mask::All,
                From::Place(place) => there.or(&values[*place].mask, self.n_rows),
            });
            mask = mask.and(&there, self.n_rows);
        }
        if let Some(when) = &node.when
            && mask != Mask::None
        {
            mask = mask.and(&when.rows(values, self.n_rows)?, self.n_rows);
        }
        if mask == Mask::None {
            return Ok(None);
        }
        let inputs = node.inputs.iter().map(|input| self.gather(input, values, &mask)).collect::<Result<_>>()?;
        Ok(Some((inputs, mask)))
    }

    fn gather(self, wanted: &Wanted, values: &[Value], mask: &Mask) -> Result<Tensor> {
        let candidate = |from| match from {
            &From::Place(place) => Candidate::Value(&values[place]),
            From::Constant(constant) => Candidate::Constant(constant),
        };
        let candidates: Vec<Candidate<'_>> = wanted.from.iter().map(candidate).collect();
        let has_rows = self.graph().has_rows;
        let row = wanted.spec.shape.iter().skip(usize::from(has_rows));
        let form = Form {
            name: &wanted.spec.name,
            dtype: wanted.spec.dtype,
            row: row.map(|dim| dim.extent().unwrap_or(1)).collect::<Shape>(),
            has_rows,
        };
        gather(&form, &candidates, mask, self.n_rows)
    }

    /// Calls the model; where that fails, its fallback.
    async fn attempts(self, node: &Node, inputs: Vec<Tensor>, mask: &Mask) -> Result<Vec<Tensor>> {
        let rows = mask.rows(self.n_rows).count();
        let Some(fallback) = &node.fallback else {
            return self.attempt(node, &node.model, inputs, rows).await;
        };
        match self.attempt(node, &node.model, inputs.clone(), rows).await {
            Err(error) if !self.is_over() && error.kind() != ErrorKind::Cancelled => {
                tracing::debug!(step = &*node.name, model = %node.model, %fallback, %error, "step falls back");
                node.counters.fell_back();
                self.attempt(node, fallback, inputs, rows).await
            }
            answered => answered,
        }
    }

    fn is_over(self) -> bool {
        self.ctx.is_expired(Instant::now())
    }

    async fn attempt(self, node: &Node, model: &ModelRef, inputs: Vec<Tensor>, rows: usize) -> Result<Vec<Tensor>> {
        let Some(limit) = node.timeout else {
            return self.once_or_each(node, model, inputs, rows, self.ctx.clone()).await;
        };
        let until = Instant::now() + limit;
        let deadline = self.ctx.deadline.map_or(until, |deadline| deadline.min(until));
        let ctx = Context { deadline: Some(deadline), ..self.ctx.clone() };
        let call = self.once_or_each(node, model, inputs, rows, ctx);
        match timeout_at(deadline.into(), call).await {
            Ok(Err(error)) if error.kind() != ErrorKind::Deadline => Err(error),
            Ok(Ok(outputs)) => Ok(outputs),
            // Whoever noticed it first.
            Ok(Err(_)) | Err(_) => {
                let limit = limit.as_millis();
                Err(Error::new(ErrorKind::Deadline, format!("model '{model}' did not answer within {limit} ms")))
            }
        }
    }

    async fn once_or_each(
        self,
        node: &Node,
        model: &ModelRef,
        inputs: Vec<Tensor>,
        rows: usize,
        ctx: Context,
    ) -> Result<Vec<Tensor>> {
        match node.is_each {
            false => self.call(node, model, inputs, ctx).await,
            true => each::call(self, node, model, inputs, rows, ctx).await,
        }
    }

    /// Calls a model once. Outputs come in the order of the step's.
    pub(super) async fn call(
        self,
        node: &Node,
        model: &ModelRef,
        inputs: Vec<Tensor>,
        ctx: Context,
    ) -> Result<Vec<Tensor>> {
        let is_all = node.outputs.len() == node.info.signature.outputs.len();
        let names = || node.outputs.iter().map(|(name, _)| name.clone()).collect();
        let request = InferRequest {
            model: model.clone(),
            id: None,
            inputs,
            outputs: if is_all && *model == node.model { Vec::new() } else { names() },
            parameters: self.parameters.clone(),
        };
        let response = self.ensemble.call.call(request, ctx).await?;
        // What the file names was checked against the model of that time; another may be there now.
        let is_known = Arc::ptr_eq(&response.model, &node.info);
        let fits = |((name, _), output): (&(Arc<str>, usize), &Tensor)| {
            let expected = node.info.signature.output(name);
            output.name() == name && expected.is_some_and(|expected| expected.dtype == output.dtype())
        };
        let outputs = response.outputs;
        let is_fit = outputs.len() == node.outputs.len() && (is_known || node.outputs.iter().zip(&outputs).all(fits));
        match is_fit || node.outputs.is_empty() {
            true => Ok(outputs),
            false => Err(Error::engine(format!(
                "model '{model}' is not what it was when the ensemble was loaded: it gave {}",
                outputs.iter().map(|output| format!("{output:?}")).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Gives outputs their places; rows of which the model says that it has no answer go.
    fn keep(self, node: &Node, outputs: Vec<Tensor>, mask: &Mask) -> Result<Vec<(usize, Value)>> {
        let places = node.outputs.iter().map(|(_, place)| *place);
        let named = places.zip(outputs);
        let Some(mark) = node.present else {
            return Ok(named.map(|(place, tensor)| (place, Value::new(tensor, mask.clone()))).collect());
        };
        let mut named: Vec<(usize, Tensor)> = named.collect();
        let rows = mask.rows(self.n_rows).count();
        let found = named.iter().find(|(place, _)| *place == mark).and_then(|(_, tensor)| tensor.to_vec::<bool>());
        let found = found.filter(|found| found.len() == rows).ok_or_else(|| {
            Error::engine("`present` needs one truth value for each row, and the model gave something else")
        })?;
        let mut marks = found.iter();
        let there = (0..self.n_rows).map(|row| mask.holds(row) && marks.next().copied().unwrap_or(false));
        let there = Mask::new(there.collect());
        if self.graph().has_rows && found.contains(&false) {
            let which: Vec<usize> = found.iter().enumerate().filter(|(_, is)| **is).map(|(row, _)| row).collect();
            for (_, tensor) in &mut named {
                *tensor = super::rows::select(tensor, which.iter().copied())?;
            }
        }
        Ok(named.into_iter().map(|(place, tensor)| (place, Value::new(tensor, there.clone()))).collect())
    }

    /// Says what becomes of the request where a step failed.
    fn failed(self, node: &Node, error: Error) -> Result<Vec<(usize, Value)>> {
        if node.on_failure == OnFailure::Fail || self.is_over() || error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        tracing::debug!(step = &*node.name, model = %node.model, %error, "step failed, going on without it");
        Ok(node.outputs.iter().map(|(_, place)| (*place, Value::ABSENT)).collect())
    }
}

fn put(values: &mut [Value], stepped: Vec<(usize, Value)>) {
    for (place, value) in stepped {
        values[place] = value;
    }
}

/// Names the step. What a step says of its input is the caller's fault only where the caller gave it.
fn in_step(node: &Node, error: Error) -> Error {
    let error = match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::TooLarge if !node.is_first => error.with_kind(ErrorKind::Engine),
        _ => error,
    };
    error.context(step_name(node))
}

fn step_name(node: &Node) -> String {
    format!("step '{}'", node.name)
}
