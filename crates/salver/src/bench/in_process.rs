//! The same load without a server and sockets: batching, worker threads and engine alone.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use salver_core::{Context, Infer as _, InferRequest, ModelRef};
use salver_runtime::Runtime;

use super::load::{self, CallError, Caller, Pace};
use super::outgoing::Varied;
use super::report::{Report, Run};
use super::{plan, progress, request, size};
use crate::cli::BenchOptions;
use crate::wiring;

struct RuntimeCaller {
    runtime: Arc<Runtime>,
    request: InferRequest,
    varied: Option<Arc<Varied>>,
}

impl RuntimeCaller {
    fn next(&self) -> Result<InferRequest> {
        self.varied.as_ref().map_or_else(|| Ok(self.request.clone()), |varied| varied.next())
    }
}

impl Caller for RuntimeCaller {
    async fn call(&mut self) -> Result<(), CallError> {
        let request = self.next().map_err(|error| CallError::Refused(error.to_string()))?;
        let answer = self.runtime.infer(request, Context::new("bench")).await;
        answer.map(drop).map_err(|error| CallError::Refused(error.to_string()))
    }
}

/// Loads the model at `path` and measures it.
///
/// # Errors
/// Where it does not load.
pub(crate) async fn measure(path: &Path, options: &BenchOptions) -> Result<Report> {
    let local = wiring::open_local(path, &options.engine, wiring::as_served()).await?;
    let model = ModelRef::latest(local.name.clone());
    let info = local.runtime.describe(&model)?;
    let request = request::sample(&info, model, size(options))?;
    let varied = options.vary.then(|| Varied::new(request.clone())).transpose()?.map(Arc::new);
    local.runtime.infer(request.clone(), Context::new("bench")).await.context("check one answer before measuring")?;
    let runtime = &local.runtime;
    let caller = || RuntimeCaller { runtime: runtime.clone(), request: request.clone(), varied: varied.clone() };
    let measuring = progress(options, 1);
    let figures =
        load::run((0..options.connections).map(|_| caller()).collect(), plan(options, Pace::ClosedLoop)).await?;
    drop(measuring);
    local.runtime.shutdown().await;
    let what = format!("{} in process ({})", local.name, info.engine);
    Ok(Report::new(options, vec![Run { what, is_constant: false, rate: None, figures }]))
}
