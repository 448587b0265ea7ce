//! The engine of models that other servers answer for: OpenAI's chat completions and embeddings, and
//! the Open Inference Protocol.
//!
//! A request is one future, without a thread or a task: a place in line, a call, its answer. What may be
//! reached is a list that whoever runs the server gives; keys come from the environment and go to the
//! server alone. Nothing of what callers send beside their data goes on: no header, no key.

mod breaker;
mod budget;
mod call;
mod chat;
mod embeddings;
mod oip;
mod status;

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use salver_core::{
    AsyncCall, AsyncModel, Backing, Batching, BoxFuture, Engine, Error, Instance, Model, ModelSpec, Placement,
    RemoteApi, RemoteSpec, RemoteTensors, Result, Signature, Tensor,
};
use salver_outbound::{Listed, Lookup, SystemLookup, Upstream, UpstreamOptions};
use salver_telemetry::Metrics;

use crate::call::{CallOptions, Caller};
use crate::oip::OipModel;
use crate::status::{Remote, Secret};

/// The engine's name.
const NAME: &str = "http";
/// The longest that a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Shorter than the five seconds after which common servers close a connection without a request.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// What remote models may do.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// What may be reached.
    pub listed: Listed,
    /// How the server calls itself there.
    pub user_agent: String,
}

/// Loads models that other servers answer for.
#[derive(Debug)]
pub struct HttpEngine {
    options: HttpOptions,
    lookup: Arc<dyn Lookup>,
    metrics: Arc<Metrics>,
}

impl HttpEngine {
    /// Connects to nothing yet.
    pub fn new(options: HttpOptions, metrics: Arc<Metrics>) -> Self {
        Self { options, lookup: Arc::new(SystemLookup), metrics }
    }

    fn open(&self, spec: &ModelSpec) -> Result<RemoteModel> {
        let Backing::Remote(remote) = &spec.backing else {
            return Err(Error::invalid_input("engine 'http' needs a model.toml with a table [remote]"));
        };
        let named = |error: Error| error.context("remote.url");
        let target = self.options.listed.target(base(remote)).map_err(named)?;
        let key = remote.key_env.as_deref().map(key).transpose()?;
        if key.is_some() && remote.url.starts_with("http://") {
            tracing::warn!(model = %spec.name, "the key of this model goes out over http, where others may read it");
        }
        let headers = headers(remote, key.as_ref())?;
        let options = UpstreamOptions {
            connect_limit: CONNECT_LIMIT.min(remote.timeout),
            idle_limit: IDLE_LIMIT,
            user_agent: self.options.user_agent.clone(),
        };
        let upstream = Upstream::new(target, &self.options.listed, self.lookup.clone(), &options)?;
        let asked = Remote {
            name: spec.name.to_string(),
            model: remote.model.clone().unwrap_or_else(|| spec.name.to_string()),
            place: upstream.place(),
            key_env: remote.key_env.clone(),
            key,
        };
        let metrics = self.metrics.model(&spec.name, spec.version).remote();
        let caller = Caller::new(asked, upstream, call_options(remote), metrics);
        let (api, signature) = api(spec, remote, &caller, &headers)?;
        let max_in_flight = remote.max_in_flight;
        Ok(RemoteModel { inner: Arc::new(Inner { caller, headers, api, signature, max_in_flight }) })
    }
}

fn call_options(remote: &RemoteSpec) -> CallOptions {
    CallOptions {
        timeout: remote.timeout,
        max_concurrency: remote.max_concurrency,
        retries: remote.retries,
        max_answer_bytes: remote.max_answer_bytes,
        prices: remote.prices,
    }
}

/// Returns the address that paths go on from. That of the Open Inference Protocol may be written with
/// the `/v2` that its paths begin with.
fn base(remote: &RemoteSpec) -> &str {
    let url = remote.url.trim_end_matches('/');
    match remote.api {
        RemoteApi::OipV2 { .. } => url.strip_suffix("/v2").unwrap_or(url),
        RemoteApi::OpenAiChat { .. } | RemoteApi::OpenAiEmbeddings { .. } => url,
    }
}

fn key(variable: &str) -> Result<Secret> {
    match std::env::var(variable) {
        Ok(key) if !key.trim().is_empty() => Ok(Secret::new(key.trim().to_owned())),
        _ => Err(Error::unsupported(format!(
            "remote.key_env: the environment variable {variable} holds no key; set it where the server is started"
        ))),
    }
}

/// Returns all that goes out beside the body, of whatever call.
fn headers(remote: &RemoteSpec, key: Option<&Secret>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &remote.headers {
        let wrong = || Error::invalid_input(format!("remote.headers: '{name}' cannot be sent"));
        let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
        headers.insert(name, HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?);
    }
    if let Some(key) = key {
        let value = HeaderValue::try_from(format!("Bearer {}", key.expose()));
        let mut value = value.map_err(|_| {
            Error::invalid_input("remote.key_env: the key in this variable has characters that a header cannot hold")
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}

/// Settles how the server is spoken to, and what the model takes and gives. Blocking.
fn api(spec: &ModelSpec, remote: &RemoteSpec, caller: &Caller, headers: &HeaderMap) -> Result<(Api, Signature)> {
    match &remote.api {
        RemoteApi::OpenAiChat { system } => Ok((Api::Chat { system: system.clone() }, chat::signature())),
        RemoteApi::OpenAiEmbeddings { dimensions } => {
            Ok((Api::Embeddings { dimensions: *dimensions }, embeddings::signature(*dimensions)))
        }
        RemoteApi::OipV2 { version, tensors } => {
            let model = OipModel::new(spec.name.clone(), &caller.remote.model, version.as_deref());
            let signature = match tensors {
                Some(tensors) => declared(tensors),
                None => fetched(&model, caller, headers)?,
            };
            Ok((Api::Oip(model), signature))
        }
    }
}

fn declared(tensors: &RemoteTensors) -> Signature {
    let (inputs, outputs) = (tensors.inputs.clone(), tensors.outputs.clone());
    Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs }
}

/// Asks the server. Loads run on threads that may block.
fn fetched(model: &OipModel, caller: &Caller, headers: &HeaderMap) -> Result<Signature> {
    let handle = tokio::runtime::Handle::try_current()
        .map_err(|_| Error::engine("a remote model can only be loaded where asynchronous work runs"))?;
    handle
        .block_on(model.signature(caller, headers))
        .map_err(|error| error.context("what it takes and gives is not known; [[input]] and [[output]] can declare it"))
}

impl Engine for HttpEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn platform(&self) -> &'static str {
        "remote"
    }

    fn describe(&self) -> String {
        match self.options.listed.len() {
            0 => "no other server may be reached".to_owned(),
            count => format!("other servers, {count} listed"),
        }
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>> {
        let opened = self.open(spec).map_err(|error| error.context(spec.artifact.display()))?;
        Ok(Arc::new(opened))
    }
}

/// How a server is spoken to.
#[derive(Debug)]
enum Api {
    Chat { system: Option<String> },
    Embeddings { dimensions: Option<usize> },
    Oip(OipModel),
}

/// A model that another server answers for.
struct RemoteModel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    caller: Caller,
    headers: HeaderMap,
    api: Api,
    signature: Signature,
    max_in_flight: usize,
}

impl Model for RemoteModel {
    fn signature(&self) -> &Signature {
        &self.inner.signature
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn asynchronous(&self) -> Option<Arc<dyn AsyncModel>> {
        Some(self.inner.clone())
    }

    fn instance(&self, _: &Placement) -> Result<Box<dyn Instance>> {
        Err(Error::unsupported("a remote model is not computed here"))
    }
}

impl AsyncModel for Inner {
    fn run<'a>(&'a self, call: AsyncCall<'a>) -> BoxFuture<'a, Result<Vec<Tensor>>> {
        let (caller, headers) = (&self.caller, &self.headers);
        match &self.api {
            Api::Chat { system } => Box::pin(chat::run(caller, headers, system.as_deref(), call)),
            Api::Embeddings { dimensions } => Box::pin(embeddings::run(caller, headers, *dimensions, call)),
            Api::Oip(model) => Box::pin(model.run(caller, headers, &self.signature, call)),
        }
    }

    fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }
}

#[cfg(test)]
mod tests;
