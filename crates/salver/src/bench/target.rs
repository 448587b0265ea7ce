//! What is called over sockets: a route and the bytes of its request, made once.

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use salver_client::{BaseUrl, Form, HttpClient};
use salver_core::{InferRequest, ModelRef};
use salver_protocol::{Limits, oip_grpc, oip_rest, paths};

use super::grpc::GrpcCaller;
use super::http::HttpCaller;
use super::load::{CallError, Figures, Plan};
use super::{load, request};
use crate::cli::{BenchOptions, BenchProtocol};

/// The route that answers without a model.
const CONSTANT: &str = "/bench/constant";

/// Something to call over sockets.
pub(crate) struct Target {
    base: BaseUrl,
    label: String,
    is_constant: bool,
    wire: Wire,
}

enum Wire {
    /// A whole HTTP/1.1 request.
    Http { request: Bytes, body: Bytes },
    /// A gRPC message without its frame.
    Grpc { message: Bytes },
}

impl Target {
    /// Prepares inference requests, and checks the answer to one.
    ///
    /// # Errors
    /// Where the server is not reached or does not answer as it should.
    pub(crate) async fn model(client: &HttpClient, options: &BenchOptions) -> Result<Self> {
        let model: ModelRef = options.model.parse()?;
        let info = client.metadata(&model).await?;
        let own = options.input.as_deref().map(std::fs::read).transpose().context("read the --input file")?;
        let sample = match &own {
            Some(body) => decode_own(body.clone(), &model)?,
            None => request::sample(&info, model.clone(), options.rows)?,
        };
        let wire = match (options.protocol, own) {
            (BenchProtocol::HttpJson, Some(body)) => http(client.base(), &model, body.into(), None),
            (BenchProtocol::HttpJson, None) => encoded(client.base(), &sample, Form::Json)?,
            (BenchProtocol::HttpBinary, _) => encoded(client.base(), &sample, Form::Binary)?,
            (BenchProtocol::Grpc, _) => {
                Wire::Grpc { message: oip_grpc::encode_request(&sample)?.encode_to_vec().into() }
            }
        };
        let label = format!("{} {}", model, options.protocol.as_str());
        let target = Self { base: client.base().clone(), label, is_constant: false, wire };
        target.check_answer(&info.name).await.context("check one answer before measuring")?;
        Ok(target)
    }

    /// Prepares requests to the constant route, with the body that `model` has.
    ///
    /// # Errors
    /// Where the server has no such route.
    pub(crate) async fn constant(client: &HttpClient, model: &Self) -> Result<Self> {
        let body = match &model.wire {
            Wire::Http { body, .. } => body.clone(),
            Wire::Grpc { message } => message.clone(),
        };
        let request = post(client.base(), CONSTANT, &body, None);
        let mut caller = HttpCaller::new(client.base().host_port(), request.clone());
        let head = caller.exchange().await.map_err(anyhow::Error::msg)?;
        if head.status != 200 {
            bail!("the server answers {} on {CONSTANT}; start it with --bench", head.status);
        }
        Ok(Self {
            base: client.base().clone(),
            label: format!("{CONSTANT} http"),
            is_constant: true,
            wire: Wire::Http { request, body },
        })
    }

    /// Returns what people read.
    pub(crate) fn label(&self) -> String {
        self.label.clone()
    }

    /// Whether this is the yardstick and not a model.
    pub(crate) fn is_constant(&self) -> bool {
        self.is_constant
    }

    /// Measures this target.
    ///
    /// # Errors
    /// Where no connection can be opened.
    pub(crate) async fn measure(&self, connections: usize, plan: Plan) -> Result<Figures> {
        match &self.wire {
            Wire::Http { request, .. } => {
                let caller = || HttpCaller::new(self.base.host_port(), request.clone());
                load::run((0..connections).map(|_| caller()).collect(), plan).await
            }
            Wire::Grpc { message } => load::run(GrpcCaller::open(&self.base, message, connections).await?, plan).await,
        }
    }

    /// Asks once and decodes what comes.
    async fn check_answer(&self, model: &str) -> Result<()> {
        let decoded = match &self.wire {
            Wire::Http { request, .. } => {
                let mut caller = HttpCaller::new(self.base.host_port(), request.clone());
                let head = caller.exchange().await.map_err(anyhow::Error::msg)?;
                let body = Bytes::copy_from_slice(caller.body(&head));
                if head.status != 200 {
                    bail!("status {}: {}", head.status, String::from_utf8_lossy(&body));
                }
                oip_rest::decode_response(body, head.inference_header_len)?
            }
            Wire::Grpc { message } => {
                let mut callers = GrpcCaller::open(&self.base, message, 1).await?;
                let caller = callers.first_mut().context("a connection")?;
                let reply = caller.exchange().await.map_err(|error| match error {
                    CallError::Refused(text) | CallError::Lost(text) => anyhow::Error::msg(text),
                })?;
                oip_grpc::decode_response(oip_grpc::inference::ModelInferResponse::decode(reply)?)?
            }
        };
        if decoded.model_name != model || decoded.outputs.is_empty() {
            bail!("the answer is of model '{}' with {} outputs", decoded.model_name, decoded.outputs.len());
        }
        Ok(())
    }
}

fn decode_own(body: Vec<u8>, model: &ModelRef) -> Result<InferRequest> {
    let unknown = || Err(salver_core::Error::invalid_input("the body must name its tensors"));
    let decoded = oip_rest::decode_infer(body.into(), None, model.clone(), unknown, &Limits::default());
    Ok(decoded.context("read the --input file as a JSON inference request")?.0)
}

fn encoded(base: &BaseUrl, sample: &InferRequest, form: Form) -> Result<Wire> {
    let encoded = oip_rest::encode_request(sample, form)?;
    Ok(http(base, &sample.model, encoded.body, encoded.header_len))
}

fn http(base: &BaseUrl, model: &ModelRef, body: Bytes, header_len: Option<usize>) -> Wire {
    let path = format!("/v2/models/{}/infer", paths::model(model));
    Wire::Http { request: post(base, &path, &body, header_len), body }
}

/// Writes a whole HTTP/1.1 request.
fn post(base: &BaseUrl, path: &str, body: &[u8], header_len: Option<usize>) -> Bytes {
    let kind = if header_len.is_some() { "application/octet-stream" } else { "application/json" };
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
        let request = post(&base, "/v2/models/iris/infer", b"{}", Some(2));
        assert_eq!(
            std::str::from_utf8(&request).unwrap(),
            "POST /ml/v2/models/iris/infer HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\
             content-type: application/octet-stream\r\ninference-header-content-length: 2\r\n\
             content-length: 2\r\n\r\n{}"
        );
    }
}
