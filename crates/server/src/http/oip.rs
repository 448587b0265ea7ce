//! The Open Inference Protocol over REST, with Triton's repository, configuration and statistics
//! extensions.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use salver_core::{BoxFuture, Error, ErrorKind, InferRequest, InferResponse, ModelRef, ModelState, Result, Tensor};
use salver_jobs::{Content, Form};
use salver_protocol::oip_rest::{self, ReplyOptions};
use salver_protocol::{Limits, Reply};

use super::AppState;
use super::exchange::{self, INFERENCE_HEADER_LEN, manage, plain_response, reply_or};
use super::target::Target;
use crate::answer::{Protocol, number_work, text_work};
use crate::app::App;
use crate::call::Call;
use crate::shared_memory::InUse;

/// The extensions that are always offered, REST and gRPC alike.
const EXTENSIONS: &[&str] = &[
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
    "trace",
];

/// Returns the extensions that are offered, in alphabetical order.
pub(crate) fn extensions(app: &App) -> Vec<&'static str> {
    let mut all = EXTENSIONS.to_vec();
    if app.regions.is_some() {
        all.push("system_shared_memory");
    }
    all.sort_unstable();
    all
}

struct OipRest {
    target: ModelRef,
    header_len: Option<usize>,
    options: ReplyOptions,
    memory: InUse,
}

impl Protocol for OipRest {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        let text = self.header_len.unwrap_or(raw.len()).min(raw.len());
        text_work(text).saturating_add(raw.len() - text)
    }

    fn described(&self) -> Option<&ModelRef> {
        // Only where the body is nothing but data.
        (self.header_len == Some(0)).then_some(&self.target)
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        let limits: &Limits = app.protocol_limits();
        let describe = || app.services.infer.describe(&self.target);
        let (request, options) = oip_rest::decode_infer(raw, self.header_len, self.target.clone(), describe, limits)?;
        self.options = options;
        self.memory.attach(app, &mut self.options.shared)?;
        Ok(request)
    }

    fn missing(&self) -> usize {
        self.memory.missing()
    }

    fn complete(&mut self, request: &mut InferRequest) -> Result<()> {
        self.memory.fetch(request)
    }

    fn job_of(&self, raw: &Bytes, app: &App) -> Option<(ModelRef, Content)> {
        let header_len = self.header_len.map(|len| len as u64);
        let ask = || Content { form: Form::Oip, content_type: None, header_len, body: raw.clone() };
        app.may_defer(&self.target).then(|| (self.target.clone(), ask()))
    }

    fn encode_work(&self, response: &InferResponse) -> usize {
        let work = |output: &Tensor| match self.options.is_text(output.name()) {
            true => number_work(output.payload_len()),
            false => output.payload_len(),
        };
        response.outputs.iter().map(work).fold(0, usize::saturating_add)
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        self.memory.write(|| self.options.shared_blobs(response))?;
        oip_rest::encode_infer(response, &self.options)
    }

    fn encode_error(error: &Error) -> Reply {
        oip_rest::encode_error(error)
    }
}

/// Reads the length of the JSON part; repeated fields must agree.
pub(super) fn header_len(headers: &HeaderMap) -> Result<Option<usize>> {
    let mut found = None;
    for value in headers.get_all(&INFERENCE_HEADER_LEN) {
        let len = oip_rest::parse_header_len(&String::from_utf8_lossy(value.as_bytes()))?;
        if found.is_some_and(|earlier| earlier != len) {
            return Err(Error::invalid_input("header Inference-Header-Content-Length is given twice, and differs"));
        }
        found = Some(len);
    }
    Ok(found)
}

pub(super) async fn infer(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    let call = exchange::call_of(&app, &request);
    infer_for(&app, target, &call, request).await
}

/// Answers a request of which the edge has noted `call`: what [`super::direct`] recognised.
pub(crate) fn infer_for<'a>(
    app: &'a Arc<App>,
    target: Target,
    call: &'a Call,
    request: Request<Body>,
) -> BoxFuture<'a, Response<Body>> {
    let make = move |parts: &Parts| {
        let (target, header_len) = (target.model_ref()?, header_len(&parts.headers)?);
        Ok(OipRest { target, header_len, options: ReplyOptions::json(), memory: InUse::new(app, &call.held) })
    };
    Box::pin(exchange::infer_for(app, call, request, make))
}

// Only replies of inference are compressed: see `manage`.
pub(super) async fn live() -> Response<Body> {
    plain_response(oip_rest::live())
}

pub(super) async fn ready(State(app): AppState) -> Response<Body> {
    plain_response(oip_rest::ready(app.is_ready(), &app.degraded()))
}

pub(super) async fn server_metadata(State(app): AppState) -> Response<Body> {
    let services = &app.services;
    let reply = oip_rest::server_metadata(
        &services.server_name,
        &services.server_version,
        &extensions(&app),
        &services.control.engines(),
    );
    plain_response(reply)
}

pub(super) async fn model_list(State(app): AppState) -> Response<Body> {
    plain_response(oip_rest::model_list(&app.model_names()))
}

pub(super) async fn model_ready(State(app): AppState, target: Target) -> Response<Body> {
    let outcome = target.model_ref().map(|model| {
        let ready = app.services.control.is_model_ready(&model);
        oip_rest::model_ready(&model.name, ready)
    });
    reply_or(outcome, oip_rest::encode_error)
}

pub(super) async fn model_metadata(State(app): AppState, target: Target) -> Response<Body> {
    let metadata = async {
        let model = target.model_ref()?;
        let info = app.describe(&model).await?;
        Ok(oip_rest::model_metadata(&info, &app.ready_versions(&model.name)))
    };
    reply_or(metadata.await, oip_rest::encode_error)
}

pub(super) async fn model_config(State(app): AppState, target: Target) -> Response<Body> {
    let config = async {
        let model = target.model_ref()?;
        Ok(oip_rest::model_config(&model.name, &app.config(&model).await?))
    };
    reply_or(config.await, oip_rest::encode_error)
}

pub(super) async fn model_statistics(State(app): AppState, target: Target) -> Response<Body> {
    let outcome = target.model_ref().and_then(|model| app.services.control.statistics(Some(&model)));
    // Triton's clients expect 400 here for an unknown model.
    let outcome = outcome.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::invalid_input(error.message().to_owned()),
        _ => error,
    });
    reply_or(outcome.map(|all| oip_rest::statistics(&all)), oip_rest::encode_error)
}

pub(super) async fn all_statistics(State(app): AppState) -> Response<Body> {
    let outcome = app.services.control.statistics(None);
    reply_or(outcome.map(|all| oip_rest::statistics(&all)), oip_rest::encode_error)
}

pub(super) async fn repository_index(State(app): AppState, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |body: Bytes| {
        let ready_only = oip_rest::decode_index_request(&body)?;
        Ok(oip_rest::repository_index(&index(&app, ready_only)))
    })
    .await
}

/// Lists versions, all of them or those that serve.
pub(crate) fn index(app: &App, ready_only: bool) -> Vec<salver_core::ModelStatus> {
    let mut index = app.services.control.index();
    index.retain(|status| !ready_only || status.state == Some(ModelState::Ready));
    index
}

pub(super) async fn load(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |body: Bytes| {
        let by = oip_rest::decode_load_request(&body)?;
        app.load(&target.name()?, by).await?;
        Ok(Reply::json(200, Bytes::new()))
    })
    .await
}

pub(super) async fn unload(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |body: Bytes| {
        oip_rest::decode_unload_request(&body)?;
        app.check_explicit_control()?;
        app.services.control.unload(&target.name()?).await?;
        Ok(Reply::json(200, Bytes::new()))
    })
    .await
}

pub(super) async fn no_cuda_regions() -> Response<Body> {
    plain_response(Reply::json(200, Bytes::from_static(b"[]")))
}

/// There is nothing to do, as for a region that was never registered.
pub(super) async fn unregister_cuda() -> Response<Body> {
    plain_response(Reply::json(200, Bytes::new()))
}

/// No region of CUDA is ever there.
pub(crate) fn no_cuda_region(name: &str) -> Error {
    let shown: String = name.chars().take(128).collect();
    Error::not_found(format!("Unable to find cuda shared memory region: '{shown}'"))
}

pub(super) async fn no_cuda_status(Path(region): Path<String>) -> Response<Body> {
    plain_response(oip_rest::encode_error(&no_cuda_region(&region)))
}

pub(super) async fn no_cuda_memory() -> Response<Body> {
    let error =
        Error::unsupported("shared memory of CUDA is not offered: models take their inputs from the host's memory");
    plain_response(oip_rest::encode_error(&error))
}
