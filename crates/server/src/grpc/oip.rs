//! `inference.GRPCInferenceService`: the Open Inference Protocol with Triton's extensions.
//!
//! Methods of extensions that are not offered answer UNIMPLEMENTED.

use std::sync::Arc;

use salver_core::{CacheOutcome, Context, Cost, Error, InferRequest, InferResponse, ModelRef};
use salver_protocol::oip_grpc::{self, ReplyOptions, inference as wire};
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};
use wire::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use wire::{ModelInferRequest, ModelInferResponse};

use super::stream;
use crate::answer::{Answer, Protocol, answer, log_failure, payload_len};
use crate::app::App;
use crate::call::Call;
use crate::http::oip::{extensions, index, no_cuda_region};
use crate::settings;
use crate::shared_memory::InUse;

/// The version that answered, as over HTTP.
const MODEL_VERSION: &str = crate::call::MODEL_VERSION_NAME;
/// Where the answer came from, as over HTTP.
const CACHE: &str = crate::call::CACHE_NAME;
/// What others charged, as over HTTP.
const COST: &str = crate::call::COST_NAME;

pub(super) fn service(app: Arc<App>) -> GrpcInferenceServiceServer<OipGrpc> {
    let limit = app.limits().body_bytes;
    // Replies are not compressed: most clients accept gzip without a thought, and would pay for
    // it on every call.
    GrpcInferenceServiceServer::new(OipGrpc { app })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(limit)
}

pub(super) struct OipGrpc {
    app: Arc<App>,
}

pub(super) fn raw_len(message: &ModelInferRequest) -> usize {
    let typed = message.inputs.iter().filter_map(|input| input.contents.as_ref()).map(typed_len);
    message.raw_input_contents.iter().map(bytes::Bytes::len).chain(typed).sum()
}

/// Returns the number of typed elements, weighed as eight bytes each.
fn typed_len(contents: &wire::InferTensorContents) -> usize {
    let counts = [
        contents.bool_contents.len(),
        contents.int_contents.len(),
        contents.int64_contents.len(),
        contents.uint_contents.len(),
        contents.uint64_contents.len(),
        contents.fp32_contents.len(),
        contents.fp64_contents.len(),
        contents.bytes_contents.len(),
    ];
    counts.iter().sum::<usize>().saturating_mul(8)
}

/// One call.
#[derive(Default)]
struct Unary {
    options: ReplyOptions,
    memory: InUse,
}

impl Protocol for Unary {
    type Raw = ModelInferRequest;
    type Reply = ModelInferResponse;
    type Refusal = Status;

    fn decode_work(&self, raw: &ModelInferRequest) -> usize {
        raw_len(raw)
    }

    fn encode_work(&self, response: &InferResponse) -> usize {
        payload_len(response)
    }

    fn decode(&mut self, raw: ModelInferRequest, app: &App) -> salver_core::Result<InferRequest> {
        let (request, options) = oip_grpc::decode_infer(raw, app.protocol_limits())?;
        self.options = options;
        self.memory.attach(app, &mut self.options.shared)?;
        Ok(request)
    }

    fn missing(&self) -> usize {
        self.memory.missing()
    }

    fn complete(&mut self, request: &mut InferRequest) -> salver_core::Result<()> {
        self.memory.fetch(request)
    }

    fn encode(&self, response: &InferResponse) -> salver_core::Result<ModelInferResponse> {
        self.memory.write(|| self.options.shared_blobs(response))?;
        oip_grpc::encode_infer(response, &self.options)
    }

    fn encode_error(error: &Error) -> Status {
        refusal(error)
    }
}

/// Renders an error, with the time to wait where it is known.
pub(super) fn refusal(error: &Error) -> Status {
    let mut status = oip_grpc::encode_error(error);
    note_retry(&mut status, error);
    note_cost(status.metadata_mut(), error.cost());
    status
}

/// Adds the time to wait, where it is known.
pub(super) fn note_retry(status: &mut Status, error: &Error) {
    if let Some(after) = error.retry_after() {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        // The name that gRPC clients honour.
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(ms));
    }
}

fn call_of<T>(app: &App, request: &Request<T>) -> Call {
    let noted = request.extensions().get::<Call>().cloned();
    noted.unwrap_or_else(|| Call::new(request.metadata().as_ref(), &app.memory))
}

pub(super) fn context<T>(app: &App, request: &Request<T>) -> Result<Context, Status> {
    call_of(app, request).context(request.metadata().as_ref()).map_err(|error| refusal(&error))
}

/// An empty name stands for all regions.
fn name_or_all(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty())
}

/// Tells what others charged, if anybody did.
pub(super) fn note_cost(metadata: &mut MetadataMap, cost: Option<Cost>) {
    // A decimal number is always good metadata.
    if let Some(value) = cost.and_then(|cost| MetadataValue::try_from(cost.to_string()).ok()) {
        metadata.insert(COST, value);
    }
}

pub(super) fn note_origin(metadata: &mut MetadataMap, version: u64, cache: Option<CacheOutcome>, cost: Option<Cost>) {
    note_cost(metadata, cost);
    metadata.insert(MODEL_VERSION, MetadataValue::from(version));
    if let Some(outcome) = cache {
        metadata.insert(CACHE, MetadataValue::from_static(outcome.as_str()));
    }
}

impl OipGrpc {
    fn target(&self, name: &str, version: &str) -> Result<ModelRef, Status> {
        oip_grpc::model_ref(name, version).map_err(|error| refusal(&error))
    }

    fn done<T>(&self, id: &str, outcome: salver_core::Result<T>) -> Result<Response<T>, Status> {
        outcome.map(Response::new).map_err(|error| {
            log_failure(id, None, &error);
            refusal(&error)
        })
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GrpcInferenceService for OipGrpc {
    async fn server_live(&self, _: Request<wire::ServerLiveRequest>) -> Reply<wire::ServerLiveResponse> {
        Ok(Response::new(wire::ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<wire::ServerReadyRequest>) -> Reply<wire::ServerReadyResponse> {
        Ok(Response::new(wire::ServerReadyResponse { ready: self.app.is_ready() }))
    }

    async fn model_ready(&self, request: Request<wire::ModelReadyRequest>) -> Reply<wire::ModelReadyResponse> {
        let message = request.get_ref();
        let model = self.target(&message.name, &message.version)?;
        Ok(Response::new(wire::ModelReadyResponse { ready: self.app.services.control.is_model_ready(&model) }))
    }

    async fn server_metadata(&self, _: Request<wire::ServerMetadataRequest>) -> Reply<wire::ServerMetadataResponse> {
        let services = &self.app.services;
        let extensions = extensions(&self.app);
        let message = oip_grpc::server_metadata(&services.server_name, &services.server_version, &extensions);
        Ok(Response::new(message))
    }

    async fn model_metadata(&self, request: Request<wire::ModelMetadataRequest>) -> Reply<wire::ModelMetadataResponse> {
        let message = request.get_ref();
        let model = self.target(&message.name, &message.version)?;
        let info = self.app.describe(&model).await;
        let outcome = info.map(|info| oip_grpc::model_metadata(&info, &self.app.ready_versions(&model.name)));
        self.done(&context(&self.app, &request)?.id, outcome)
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Reply<ModelInferResponse> {
        let (ctx, memory) = {
            let call = call_of(&self.app, &request);
            let ctx = call.context(request.metadata().as_ref()).map_err(|error| refusal(&error))?;
            (ctx, InUse::new(&self.app, &call.held))
        };
        match answer(&self.app, Unary { memory, ..Unary::default() }, request.into_inner(), ctx).await {
            Ok(Answer { reply, version, cache, cost }) => {
                let mut response = Response::new(reply);
                note_origin(response.metadata_mut(), version, cache, cost);
                Ok(response)
            }
            Err(error) => Err(Unary::encode_error(&error)),
        }
    }

    type ModelStreamInferStream = stream::Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Reply<Self::ModelStreamInferStream> {
        let ctx = context(&self.app, &request)?;
        Ok(Response::new(stream::answers(self.app.clone(), ctx, request.into_inner())))
    }

    async fn model_config(&self, request: Request<wire::ModelConfigRequest>) -> Reply<wire::ModelConfigResponse> {
        let message = request.get_ref();
        let model = self.target(&message.name, &message.version)?;
        let config = self.app.config(&model).await;
        self.done(&context(&self.app, &request)?.id, config.map(|config| oip_grpc::model_config(&model.name, &config)))
    }

    async fn model_statistics(
        &self,
        request: Request<wire::ModelStatisticsRequest>,
    ) -> Reply<wire::ModelStatisticsResponse> {
        let message = request.get_ref();
        let model = match message.name.as_str() {
            "" => None,
            name => Some(self.target(name, &message.version)?),
        };
        let statistics = self.app.services.control.statistics(model.as_ref());
        self.done(&context(&self.app, &request)?.id, statistics.map(|all| oip_grpc::statistics(&all)))
    }

    async fn repository_index(
        &self,
        request: Request<wire::RepositoryIndexRequest>,
    ) -> Reply<wire::RepositoryIndexResponse> {
        let all = index(&self.app, request.get_ref().ready);
        Ok(Response::new(oip_grpc::repository_index(&all)))
    }

    async fn repository_model_load(
        &self,
        request: Request<wire::RepositoryModelLoadRequest>,
    ) -> Reply<wire::RepositoryModelLoadResponse> {
        let id = context(&self.app, &request)?.id;
        let message = request.into_inner();
        let outcome = async {
            let by = oip_grpc::decode_load_request(message.parameters)?;
            let model = oip_grpc::model_ref(&message.model_name, "")?;
            self.app.load(&model.name, by).await
        };
        self.done(&id, outcome.await.map(|()| wire::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<wire::RepositoryModelUnloadRequest>,
    ) -> Reply<wire::RepositoryModelUnloadResponse> {
        let id = context(&self.app, &request)?.id;
        let message = request.into_inner();
        let outcome = async {
            oip_grpc::decode_unload_request(&message.parameters)?;
            self.app.check_explicit_control()?;
            let model = oip_grpc::model_ref(&message.model_name, "")?;
            self.app.services.control.unload(&model.name).await
        };
        self.done(&id, outcome.await.map(|()| wire::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<wire::SystemSharedMemoryStatusRequest>,
    ) -> Reply<wire::SystemSharedMemoryStatusResponse> {
        let id = context(&self.app, &request)?.id;
        let outcome = self.app.regions().and_then(|regions| regions.status(name_or_all(&request.get_ref().name)));
        self.done(&id, outcome.map(oip_grpc::region_status))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<wire::SystemSharedMemoryRegisterRequest>,
    ) -> Reply<wire::SystemSharedMemoryRegisterResponse> {
        let id = context(&self.app, &request)?.id;
        let register = |message| {
            let regions = self.app.regions()?;
            regions.register(oip_grpc::decode_register(message, self.app.protocol_limits())?)
        };
        self.done(&id, register(request.into_inner()).map(|()| wire::SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<wire::SystemSharedMemoryUnregisterRequest>,
    ) -> Reply<wire::SystemSharedMemoryUnregisterResponse> {
        let id = context(&self.app, &request)?.id;
        let outcome = self.app.regions().map(|regions| regions.unregister(name_or_all(&request.get_ref().name)));
        self.done(&id, outcome.map(|()| wire::SystemSharedMemoryUnregisterResponse {}))
    }

    // There are no regions of CUDA: nothing can be registered. Clients that clear up are served.
    async fn cuda_shared_memory_status(
        &self,
        request: Request<wire::CudaSharedMemoryStatusRequest>,
    ) -> Reply<wire::CudaSharedMemoryStatusResponse> {
        match name_or_all(&request.get_ref().name) {
            None => Ok(Response::new(wire::CudaSharedMemoryStatusResponse::default())),
            Some(name) => Err(refusal(&no_cuda_region(name))),
        }
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<wire::CudaSharedMemoryRegisterRequest>,
    ) -> Reply<wire::CudaSharedMemoryRegisterResponse> {
        Err(not_offered("CUDA shared memory"))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<wire::CudaSharedMemoryUnregisterRequest>,
    ) -> Reply<wire::CudaSharedMemoryUnregisterResponse> {
        Ok(Response::new(wire::CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(&self, request: Request<wire::TraceSettingRequest>) -> Reply<wire::TraceSettingResponse> {
        let message = request.get_ref();
        let outcome = || {
            let update = oip_grpc::decode_trace_update(message)?;
            let model = match message.model_name.as_str() {
                "" => None,
                name => Some(oip_grpc::model_ref(name, "")?),
            };
            settings::trace(&self.app, model.as_ref(), Some(update))
        };
        self.done(&context(&self.app, &request)?.id, outcome().map(|settings| oip_grpc::trace_settings(&settings)))
    }

    async fn log_settings(&self, request: Request<wire::LogSettingsRequest>) -> Reply<wire::LogSettingsResponse> {
        let update = oip_grpc::decode_log_update(request.get_ref());
        let outcome = update.and_then(|update| settings::log(&self.app, update));
        self.done(&context(&self.app, &request)?.id, outcome.map(|settings| oip_grpc::log_settings(&settings)))
    }
}

fn not_offered(what: &str) -> Status {
    Status::unimplemented(format!("{what}: this extension is not offered"))
}
