//! What is called over sockets, checked once before it is measured.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use prost::Message as _;
use salver_client::{BaseUrl, HttpClient};
use salver_core::{InferRequest, ModelRef};
use salver_protocol::{Limits, oip_grpc, oip_rest, tfserving_grpc};

use super::load::{Figures, Plan};
use super::wire::{PREDICT, Wire, infer_path};
use super::{request, size};
use crate::cli::{BenchOptions, BenchProtocol};

/// The route that answers without a model.
const CONSTANT: &str = "/bench/constant";

/// The gRPC method that does: through the same listener, limits and layers as the others.
const CONSTANT_METHOD: &str = "/inference.GRPCInferenceService/ServerLive";

/// Something to call over sockets.
pub(crate) struct Target {
    label: String,
    is_constant: bool,
    wire: Wire,
}

impl Target {
    /// Prepares inference requests, and checks the answer to one.
    ///
    /// # Errors
    /// Where the server is not reached or does not answer as it should.
    pub(crate) async fn model(client: &HttpClient, options: &BenchOptions) -> Result<Self> {
        let model: ModelRef = options.model.parse()?;
        let info = client.metadata(&model).await?;
        let own = read_input(options)?;
        let sample = match &own {
            Some(body) => decode_own(body.clone(), &model)?,
            None => request::sample(&info, model.clone(), size(options))?,
        };
        let wire = match own {
            Some(body) if options.protocol == BenchProtocol::HttpJson => {
                Wire::post(client.base(), &infer_path(&model), body)
            }
            _ => Wire::of_requests(client.base(), sample, options)?,
        };
        let label = format!("{} {}", model, options.protocol.as_str());
        let target = Self { label, is_constant: false, wire };
        target.check_answer(&info.name).await.context("check one answer before measuring")?;
        Ok(target)
    }

    /// Prepares POST requests to any server, and checks that it answers them.
    ///
    /// # Errors
    /// Where the server is not reached or answers with another status than 200 or 202.
    pub(crate) async fn url(url: &str, options: &BenchOptions) -> Result<Self> {
        let base: BaseUrl = url.parse()?;
        let body = read_input(options)?.context("--url needs the body to send; give it with --input")?;
        let path = if base.path("").is_empty() { "/" } else { "" };
        let (bodies, kind) = bodies(body, options.input.as_deref().unwrap_or(Path::new("")));
        let wire = Wire::post_in_turn(&base, path, &bodies, kind)?;
        let target = Self { label: url.to_owned(), is_constant: false, wire };
        target.wire.ask().await.with_context(|| format!("ask {url} before measuring"))?;
        Ok(target)
    }

    /// Prepares requests to what answers without a model, with the same body as this target has.
    ///
    /// # Errors
    /// Where the server has no such route.
    pub(crate) async fn constant(&self) -> Result<Self> {
        let (label, wire) = match &self.wire {
            Wire::Http { base, body, .. } => (format!("{CONSTANT} http"), Wire::post(base, CONSTANT, body.clone())),
            // The message's fields are unknown to that method; protobuf skips them.
            Wire::Grpc { base, message, .. } => {
                ("ServerLive grpc".to_owned(), Wire::grpc(base, CONSTANT_METHOD, message.clone()))
            }
        };
        wire.ask().await.with_context(|| format!("ask {CONSTANT}; is the server started with --bench?"))?;
        Ok(Self { label, is_constant: true, wire })
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
        self.wire.measure(connections, plan).await
    }

    /// Asks once and decodes what comes.
    async fn check_answer(&self, model: &str) -> Result<()> {
        let reply = self.wire.ask().await?;
        let decoded = match &self.wire {
            Wire::Http { .. } => oip_rest::decode_response(reply.body, reply.header_len)?,
            Wire::Grpc { method, .. } if *method == PREDICT => return check_predicted(reply.body, model),
            Wire::Grpc { .. } => {
                oip_grpc::decode_response(oip_grpc::inference::ModelInferResponse::decode(reply.body)?)?
            }
        };
        if decoded.model_name != model || decoded.outputs.is_empty() {
            bail!("the answer is of model '{}' with {} outputs", decoded.model_name, decoded.outputs.len());
        }
        Ok(())
    }
}

fn check_predicted(message: Bytes, model: &str) -> Result<()> {
    let reply = tfserving_grpc::serving::PredictResponse::decode(message)?;
    let name = reply.model_spec.unwrap_or_default().name;
    if name != model || reply.outputs.is_empty() {
        bail!("the answer is of model '{name}' with {} outputs", reply.outputs.len());
    }
    Ok(())
}

fn read_input(options: &BenchOptions) -> Result<Option<Bytes>> {
    let read = options.input.as_deref().map(std::fs::read).transpose();
    Ok(read.context("read the --input file")?.map(Bytes::from))
}

/// Returns what an --input file says to send, and of which type it is: each line of a `.jsonl` file,
/// else all of it.
fn bodies(content: Bytes, file: &Path) -> (Vec<Bytes>, &'static str) {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let kind = match ending.as_str() {
        "jsonl" => {
            let lines = content.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            return (lines.map(|line| content.slice_ref(line)).collect(), "application/json");
        }
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/json",
    };
    (vec![content], kind)
}

fn decode_own(body: Bytes, model: &ModelRef) -> Result<InferRequest> {
    let unknown = || Err(salver_core::Error::invalid_input("the body must name its tensors"));
    let decoded = oip_rest::decode_infer(body, None, model.clone(), unknown, &Limits::default());
    let (request, options) = decoded.context("read the --input file as a JSON inference request")?;
    anyhow::ensure!(options.shared.is_empty(), "a request that names shared memory is sent with --url");
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_file_says_what_is_sent() {
        let content = Bytes::from_static(b"{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n");
        let (each, kind) = bodies(content.clone(), Path::new("texts.jsonl"));
        assert_eq!((each.len(), &each[1][..], kind), (2, b"{\"text\": \"b\"}".as_slice(), "application/json"));
        assert_eq!(bodies(content.clone(), Path::new("a.JPG")), (vec![content.clone()], "image/jpeg"));
        assert_eq!(bodies(content.clone(), Path::new("body")), (vec![content], "application/json"));
    }
}
