//! `tensorflow.serving.PredictionService` and `tensorflow.serving.ModelService`.
//!
//! `SessionRun` has no service here: it answers UNIMPLEMENTED, as any unknown method does.

use std::sync::Arc;

use salver_core::{Context, Error, ErrorKind, InferRequest, InferResponse, ModelRef, Result};
use salver_protocol::tfserving_grpc::{self as codec, Method, PredictRequest, serving as wire};
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status};
use wire::model_service_server::{ModelService, ModelServiceServer};
use wire::prediction_service_server::{PredictionService, PredictionServiceServer};

use super::oip::{context, note_origin};
use crate::answer::{Answer, Protocol, answer, log_failure, payload_len};
use crate::app::App;
use crate::http::tfserving::{not_found, versions};

/// Inference.
pub(super) fn prediction(app: Arc<App>) -> PredictionServiceServer<Predictions> {
    let limit = app.limits().body_bytes;
    PredictionServiceServer::new(Predictions { app })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(limit)
}

/// What is served.
pub(super) fn models(app: Arc<App>) -> ModelServiceServer<Models> {
    let limit = app.limits().body_bytes;
    ModelServiceServer::new(Models { app })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(limit)
}

pub(super) struct Predictions {
    app: Arc<App>,
}

pub(super) struct Models {
    app: Arc<App>,
}

type Reply<T> = Result<Response<T>, Status>;

fn refusal(error: &Error) -> Status {
    let mut status = codec::encode_error(error);
    super::oip::note_retry(&mut status, error);
    super::oip::note_cost(status.metadata_mut(), error.cost());
    status
}

/// `Predict`.
struct Predict;

impl Protocol for Predict {
    type Raw = PredictRequest;
    type Reply = wire::PredictResponse;
    type Refusal = Status;

    fn decode_work(&self, raw: &PredictRequest) -> usize {
        raw.data_len()
    }

    fn encode_work(&self, response: &InferResponse) -> usize {
        payload_len(response)
    }

    fn decode(&mut self, raw: PredictRequest, app: &App) -> Result<InferRequest> {
        codec::decode_predict(raw, app.protocol_limits())
    }

    fn encode(&self, response: &InferResponse) -> Result<wire::PredictResponse> {
        Ok(codec::encode_predict(response))
    }

    fn encode_error(error: &Error) -> Status {
        refusal(error)
    }
}

/// `Classify`, `Regress` and `MultiInference`: several questions about the same examples.
struct OfExamples {
    model: ModelRef,
    methods: Vec<Method>,
    n_examples: usize,
}

impl Protocol for OfExamples {
    type Raw = Option<wire::Input>;
    type Reply = wire::MultiInferenceResponse;
    type Refusal = Status;

    fn decode_work(&self, raw: &Self::Raw) -> usize {
        raw.as_ref().map_or(0, codec::examples_len)
    }

    fn encode_work(&self, response: &InferResponse) -> usize {
        payload_len(response)
    }

    fn described(&self) -> Option<&ModelRef> {
        Some(&self.model)
    }

    fn decode(&mut self, raw: Self::Raw, app: &App) -> Result<InferRequest> {
        let info = app.services.infer.describe(&self.model)?;
        let outputs = codec::tasks_outputs(&self.methods, &info)?;
        let (request, n_examples) = codec::decode_examples(raw.as_ref(), self.model.clone(), outputs, &info)?;
        self.n_examples = n_examples;
        Ok(request)
    }

    fn encode(&self, response: &InferResponse) -> Result<Self::Reply> {
        codec::multi_inference(response, &self.methods, self.n_examples)
    }

    fn encode_error(error: &Error) -> Status {
        refusal(error)
    }
}

impl Predictions {
    /// Answers one request, with the headers that say where the answer came from.
    async fn answer<P: Protocol<Refusal = Status>>(
        &self,
        protocol: P,
        raw: P::Raw,
        ctx: Context,
        model: Result<ModelRef>,
    ) -> Reply<P::Reply> {
        match answer(&self.app, protocol, raw, ctx).await {
            Ok(Answer { reply, version, cache, cost }) => {
                let mut response = Response::new(reply);
                note_origin(response.metadata_mut(), version, cache, cost);
                Ok(response)
            }
            Err(error) => Err(P::encode_error(&match model {
                Ok(model) => not_found(&model, error),
                Err(_) => error,
            })),
        }
    }

    async fn examples(
        &self,
        spec: Option<&wire::ModelSpec>,
        method: Method,
        input: Option<wire::Input>,
        ctx: Context,
    ) -> Reply<wire::InferenceResult> {
        codec::check_signature(spec).map_err(|error| refusal(&error))?;
        let model = codec::model_ref(spec).map_err(|error| refusal(&error))?;
        let protocol = OfExamples { model: model.clone(), methods: vec![method], n_examples: 0 };
        let reply = self.answer(protocol, input, ctx, Ok(model)).await?;
        let (metadata, mut message, extensions) = reply.into_parts();
        let result = message.results.pop().unwrap_or_default();
        Ok(Response::from_parts(metadata, result, extensions))
    }
}

#[tonic::async_trait]
impl PredictionService for Predictions {
    async fn predict(&self, request: Request<PredictRequest>) -> Reply<wire::PredictResponse> {
        let ctx = context(&self.app, &request)?;
        let message = request.into_inner();
        // A precondition that failed only here: the other methods call it an invalid argument.
        codec::check_signature(message.model_spec.as_ref())
            .map_err(|error| Status::new(Code::FailedPrecondition, error.message()))?;
        let model = codec::model_ref(message.model_spec.as_ref());
        self.answer(Predict, message, ctx, model).await
    }

    async fn classify(&self, request: Request<wire::ClassificationRequest>) -> Reply<wire::ClassificationResponse> {
        let ctx = context(&self.app, &request)?;
        let wire::ClassificationRequest { model_spec, input } = request.into_inner();
        let reply = self.examples(model_spec.as_ref(), Method::Classify, input, ctx).await?;
        Ok(reply.map(|wire::InferenceResult { model_spec, result }| wire::ClassificationResponse {
            model_spec,
            result: match result {
                Some(wire::inference_result::Result::ClassificationResult(result)) => Some(result),
                Some(wire::inference_result::Result::RegressionResult(_)) | None => None,
            },
        }))
    }

    async fn regress(&self, request: Request<wire::RegressionRequest>) -> Reply<wire::RegressionResponse> {
        let ctx = context(&self.app, &request)?;
        let wire::RegressionRequest { model_spec, input } = request.into_inner();
        let reply = self.examples(model_spec.as_ref(), Method::Regress, input, ctx).await?;
        Ok(reply.map(|wire::InferenceResult { model_spec, result }| wire::RegressionResponse {
            model_spec,
            result: match result {
                Some(wire::inference_result::Result::RegressionResult(result)) => Some(result),
                Some(wire::inference_result::Result::ClassificationResult(_)) | None => None,
            },
        }))
    }

    async fn multi_inference(
        &self,
        request: Request<wire::MultiInferenceRequest>,
    ) -> Reply<wire::MultiInferenceResponse> {
        let ctx = context(&self.app, &request)?;
        let wire::MultiInferenceRequest { tasks, input } = request.into_inner();
        let (model, methods) = codec::decode_tasks(&tasks).map_err(|error| refusal(&error))?;
        let protocol = OfExamples { model: model.clone(), methods, n_examples: 0 };
        self.answer(protocol, input, ctx, Ok(model)).await
    }

    async fn get_model_metadata(
        &self,
        request: Request<wire::GetModelMetadataRequest>,
    ) -> Reply<wire::GetModelMetadataResponse> {
        let id = context(&self.app, &request)?.id;
        let message = request.into_inner();
        let outcome = async {
            let model = codec::model_ref(message.model_spec.as_ref())?;
            codec::check_metadata_fields(&message)?;
            let info = self.app.describe(&model).await.map_err(|error| not_found(&model, error))?;
            Ok(codec::metadata(&info))
        };
        done(&id, outcome.await)
    }
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn get_model_status(
        &self,
        request: Request<wire::GetModelStatusRequest>,
    ) -> Reply<wire::GetModelStatusResponse> {
        let id = context(&self.app, &request)?.id;
        let status = codec::model_ref(request.get_ref().model_spec.as_ref()).and_then(|model| {
            let versions = versions(&self.app, &model).map_err(|error| codec::unknown_status(&model, error))?;
            Ok(codec::status(&versions))
        });
        done(&id, status)
    }

    async fn handle_reload_config_request(
        &self,
        request: Request<wire::ReloadConfigRequest>,
    ) -> Reply<wire::ReloadConfigResponse> {
        let id = context(&self.app, &request)?.id;
        let Some(reload) = &self.app.services.reload else {
            return Err(Status::new(
                Code::FailedPrecondition,
                "clients may not replace the served models; start the server from a models.config and with \
                 --reload-config-from DIR, the folder that all base_paths must lie in",
            ));
        };
        match reload.reload(codec::reload_config(request.get_ref())).await {
            Err(error) if error.kind() == ErrorKind::NotReady => {
                log_failure(&id, None, &error);
                Err(Status::new(Code::FailedPrecondition, error.message()))
            }
            outcome => {
                done(&id, outcome.map(|()| wire::ReloadConfigResponse { status: Some(wire::StatusProto::default()) }))
            }
        }
    }
}

fn done<T>(id: &str, outcome: Result<T>) -> Reply<T> {
    outcome.map(Response::new).map_err(|error| {
        log_failure(id, None, &error);
        refusal(&error)
    })
}
