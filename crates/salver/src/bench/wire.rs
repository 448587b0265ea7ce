//! An address and the bytes that go there, over HTTP/1.1 or gRPC.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use salver_client::{BaseUrl, Form};
use salver_core::{InferRequest, ModelRef};
use salver_protocol::{oip_grpc, oip_rest, paths, tfserving_grpc};

use super::grpc::{GrpcCaller, frame};
use super::http::HttpCaller;
use super::load::{self, CallError, Figures, Plan};
use super::outgoing::{Outgoing, Turns, Varied};
use crate::cli::{BenchOptions, BenchProtocol};

/// The type of most bodies.
const JSON: &str = "application/json";

/// The gRPC method of the Open Inference Protocol.
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The gRPC method of TF Serving.
pub(super) const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

/// What is sent, and where to.
pub(crate) enum Wire {
    /// Whole HTTP/1.1 requests, and the body of the first one.
    Http { base: BaseUrl, outgoing: Outgoing, body: Bytes },
    /// Framed messages to a gRPC method, and the first one.
    Grpc { base: BaseUrl, method: &'static str, outgoing: Outgoing, message: Bytes },
}

/// What came back for one request.
pub(crate) struct Reply {
    /// The body, or the message without its frame.
    pub(crate) body: Bytes,
    /// Where its JSON ends and its tensors begin.
    pub(crate) header_len: Option<usize>,
}

impl Wire {
    /// Sends `body` to a path of `base`, always the same.
    pub(crate) fn post(base: &BaseUrl, path: &str, body: Bytes) -> Self {
        let outgoing = Outgoing::Same(http_request(base, path, &body, JSON, None));
        Self::Http { base: base.clone(), outgoing, body }
    }

    /// Sends each of `bodies` in turn.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn post_in_turn(base: &BaseUrl, path: &str, bodies: &[Bytes], kind: &str) -> Result<Self> {
        let requests: Vec<Bytes> = bodies.iter().map(|body| http_request(base, path, body, kind, None)).collect();
        let body = bodies.first().cloned().unwrap_or_default();
        Ok(Self::Http { base: base.clone(), outgoing: Outgoing::InTurn(Arc::new(Turns::new(requests)?)), body })
    }

    /// Sends a framed message to `method`, always the same.
    pub(crate) fn grpc(base: &BaseUrl, method: &'static str, message: Bytes) -> Self {
        Self::Grpc { base: base.clone(), method, outgoing: Outgoing::Same(message.clone()), message }
    }

    /// Sends `sample` as the options say: in which form, and whether with other values each time.
    ///
    /// # Errors
    /// Where it cannot be encoded or varied.
    pub(crate) fn of_requests(base: &BaseUrl, sample: InferRequest, options: &BenchOptions) -> Result<Self> {
        let form = match options.protocol {
            BenchProtocol::HttpJson => Form::Json,
            BenchProtocol::HttpBinary => Form::Binary,
            BenchProtocol::Grpc => {
                let message = message_of(&sample)?;
                let outgoing = outgoing(sample, options.vary, message_of)?;
                return Ok(Self::Grpc { base: base.clone(), method: MODEL_INFER, outgoing, message });
            }
            BenchProtocol::TfservingGrpc => {
                let message = predict_of(&sample)?;
                let outgoing = outgoing(sample, options.vary, predict_of)?;
                return Ok(Self::Grpc { base: base.clone(), method: PREDICT, outgoing, message });
            }
        };
        let body = oip_rest::encode_request(&sample, form)?.body;
        let own_base = base.clone();
        let encode = move |request: &InferRequest| {
            let encoded = oip_rest::encode_request(request, form)?;
            let kind = if encoded.header_len.is_some() { "application/octet-stream" } else { JSON };
            Ok(http_request(&own_base, &infer_path(&request.model), &encoded.body, kind, encoded.header_len))
        };
        Ok(Self::Http { base: base.clone(), outgoing: outgoing(sample, options.vary, encode)?, body })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// Where no good answer comes.
    pub(crate) async fn ask(&self) -> Result<Reply> {
        match self {
            Self::Http { base, outgoing, .. } => {
                let mut caller = HttpCaller::new(base.host_port(), outgoing.clone());
                let head = caller.exchange().await.map_err(text)?;
                let body = Bytes::copy_from_slice(caller.body(&head));
                if !head.is_answer() {
                    bail!("status {}: {}", head.status, String::from_utf8_lossy(&body));
                }
                Ok(Reply { body, header_len: head.inference_header_len })
            }
            Self::Grpc { base, method, outgoing, .. } => {
                let mut callers = GrpcCaller::open(base, method, outgoing, 1).await?;
                let caller = callers.first_mut().context("a connection")?;
                Ok(Reply { body: caller.exchange().await.map_err(text)?, header_len: None })
            }
        }
    }

    /// Sends requests as `plan` says.
    ///
    /// # Errors
    /// Where no connection can be opened.
    pub(crate) async fn measure(&self, connections: usize, plan: Plan) -> Result<Figures> {
        match self {
            Self::Http { base, outgoing, .. } => {
                let caller = |_| HttpCaller::new(base.host_port(), outgoing.clone());
                load::run((0..connections).map(caller).collect(), plan).await
            }
            Self::Grpc { base, method, outgoing, .. } => {
                load::run(GrpcCaller::open(base, method, outgoing, connections).await?, plan).await
            }
        }
    }
}

fn text(error: CallError) -> anyhow::Error {
    match error {
        CallError::Refused(text) | CallError::Lost(text) => anyhow!(text),
    }
}

/// Encodes `sample` once, or a varied one for each call.
fn outgoing(
    sample: InferRequest,
    vary: bool,
    encode: impl Fn(&InferRequest) -> Result<Bytes> + Send + Sync + 'static,
) -> Result<Outgoing> {
    if !vary {
        return Ok(Outgoing::Same(encode(&sample)?));
    }
    let varied = Varied::new(sample)?;
    Ok(Outgoing::Varied(Arc::new(move || encode(&varied.next()?))))
}

fn message_of(request: &InferRequest) -> Result<Bytes> {
    frame(&oip_grpc::encode_request(request)?.encode_to_vec())
}

fn predict_of(request: &InferRequest) -> Result<Bytes> {
    frame(&tfserving_grpc::encode_request(request).encode_to_vec())
}

/// Returns the path of inference requests.
pub(crate) fn infer_path(model: &ModelRef) -> String {
    format!("/v2/models/{}/infer", paths::model(model))
}

/// Writes a whole HTTP/1.1 request.
fn http_request(base: &BaseUrl, path: &str, body: &[u8], kind: &str, header_len: Option<usize>) -> Bytes {
    let extra = header_len.map(|len| format!("inference-header-content-length: {len}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\n{extra}content-length: {}\r\n\r\n",
        base.path(path),
        base.authority(),
        body.len()
    );
    let mut request = BytesMut::with_capacity(head.len() + body.len());
    request.put_slice(head.as_bytes());
    request.put_slice(body);
    request.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete_http() {
        let base: BaseUrl = "http://127.0.0.1:8080/ml".parse().unwrap();
        let request = http_request(&base, "/v2/models/iris/infer", b"{}", "application/octet-stream", Some(2));
        assert_eq!(
            std::str::from_utf8(&request).unwrap(),
            "POST /ml/v2/models/iris/infer HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\
             content-type: application/octet-stream\r\ninference-header-content-length: 2\r\n\
             content-length: 2\r\n\r\n{}"
        );
    }
}
