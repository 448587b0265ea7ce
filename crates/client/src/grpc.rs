//! The server over gRPC, in the Open Inference Protocol.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use salver_core::{
    BoxFuture, Context, Error, Infer, InferRequest, InferResponse, ModelInfo, ModelRef, Result, Selector,
};
use salver_protocol::oip_grpc::{self, inference};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::base::BaseUrl;
use crate::cache;
use crate::deadline::within;
use crate::known::Known;
use crate::metadata;
use crate::status::from_grpc;

type Stub = inference::grpc_inference_service_client::GrpcInferenceServiceClient<Channel>;

/// A client of one server over gRPC. Clones share a connection and what is known of the models.
#[derive(Clone)]
pub struct GrpcClient {
    stub: Stub,
    known: Arc<Known>,
}

impl GrpcClient {
    /// Makes a client of the server at `base`, such as `http://127.0.0.1:8081`. Connects on first
    /// need; must be called within an async runtime.
    ///
    /// # Errors
    /// `InvalidInput` for an address that cannot be one.
    pub fn new(base: &str) -> Result<Self> {
        let base: BaseUrl = base.parse()?;
        let endpoint = Endpoint::from_shared(format!("http://{}", base.authority()))
            .map_err(|error| Error::invalid_input(format!("server address '{base}'")).with_source(error))?
            .tcp_nodelay(true);
        let stub = Stub::new(endpoint.connect_lazy())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Ok(Self { stub, known: Arc::default() })
    }

    /// Fetches what the server tells of a model; `describe` knows it from then on.
    ///
    /// # Errors
    /// `NotFound` for an unknown model, `NotReady` for a server that is not reached.
    pub async fn metadata(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        let (name, version) = wire_ref(model);
        let reply = self.stub.clone().model_metadata(inference::ModelMetadataRequest { name, version }).await;
        let reply = reply.map_err(|status| from_grpc(&status))?.into_inner();
        let info = Arc::new(metadata::from_message(reply, model)?);
        self.known.insert(&info);
        Ok(info)
    }

    /// Whether the server is ready: every model that should serve does.
    ///
    /// # Errors
    /// `NotReady` for a server that is not reached.
    pub async fn is_ready(&self) -> Result<bool> {
        let reply = self.stub.clone().server_ready(inference::ServerReadyRequest {}).await;
        Ok(reply.map_err(|status| from_grpc(&status))?.into_inner().ready)
    }

    async fn infer_now(&self, request: InferRequest, ctx: &Context) -> Result<InferResponse> {
        let mut message = tonic::Request::new(oip_grpc::encode_request(&request)?);
        add_context(&mut message, ctx)?;
        let reply = self.stub.clone().model_infer(message).await.map_err(|status| from_grpc(&status))?;
        let cache = cache::outcome(reply.metadata().as_ref());
        let decoded = oip_grpc::decode_response(reply.into_inner()).map_err(|error| {
            Error::engine("the server's reply to an inference request is not understood").with_source(error)
        })?;
        let response = self.known.complete(decoded, async |model| self.metadata(&model).await).await?;
        Ok(InferResponse { cache, ..response })
    }
}

impl Infer for GrpcClient {
    fn infer(&self, request: InferRequest, ctx: Context) -> BoxFuture<'_, Result<InferResponse>> {
        async move { within(ctx.deadline, self.infer_now(request, &ctx)).await }.boxed()
    }

    /// Describes what was fetched before, by [`GrpcClient::metadata`] or with an answer.
    fn describe(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        self.known.describe(model)
    }
}

fn add_context<T>(message: &mut tonic::Request<T>, ctx: &Context) -> Result<()> {
    let text = |name: &str, value: &str| {
        MetadataValue::try_from(value)
            .map_err(|_| Error::invalid_input(format!("{name} holds characters that metadata cannot")))
    };
    if !ctx.id.is_empty() {
        let id = text("the request id", &ctx.id)?;
        message.metadata_mut().insert("x-request-id", id);
    }
    if let Some(trace) = &ctx.traceparent {
        let trace = text("traceparent", trace)?;
        message.metadata_mut().insert("traceparent", trace);
    }
    if let Some(deadline) = ctx.deadline {
        message.set_timeout(deadline.saturating_duration_since(Instant::now()));
    }
    cache::add_wish(message.metadata_mut().as_mut(), ctx.cache);
    Ok(())
}

/// The two strings by which gRPC names a model.
fn wire_ref(model: &ModelRef) -> (String, String) {
    match &model.selector {
        Selector::Latest => (model.name.to_string(), String::new()),
        Selector::Version(version) => (model.name.to_string(), version.to_string()),
        Selector::Label(label) => (format!("{}@{label}", model.name), String::new()),
    }
}
