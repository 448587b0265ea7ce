//! Entry points for fuzzing: one per decoder of outside bytes, each total and without a panic.
//!
//! `fuzz/` at the root of the repository wraps them for `cargo fuzz`; the tests here run them over
//! the committed corpus and its mutations on the stable toolchain. Seeds: `corpus/TARGET/`.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use salver_core::{DataType, InferRequest, InferResponse, ModelInfo, Result, Tensor};

use crate::{Limits, mlflow_scoring, npy, oip_grpc, oip_rest, openai, plain, samples, tfserving};

/// Feeds `data` to the REST decoders of the inference protocol, and what they accept to the encoders.
///
/// The first line is the value of the length header, empty for none; the body follows.
pub fn oip_rest(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let header = std::str::from_utf8(&data[..end]).unwrap_or_default();
    let header_len = oip_rest::parse_header_len(header).ok();
    let body = Bytes::copy_from_slice(data.get(end + 1..).unwrap_or_default());
    for info in [samples::one_input(DataType::Fp32, &[-1, -1]), samples::one_input(DataType::Bytes, &[-1, 1])] {
        let describe = || Ok(Arc::new(info));
        let decoded =
            oip_rest::decode_infer(body.clone(), header_len, samples::reference(), describe, &Limits::default());
        if let Ok((request, options)) = decoded {
            // Encoders are total too; outputs without a JSON form are errors, not panics.
            let _ = oip_rest::encode_request(&request, oip_rest::Form::Binary);
            let _ = oip_rest::encode_request(&request, oip_rest::Form::Json);
            let _ = oip_rest::encode_infer(&echo(request), &options).map(read_back);
        }
    }
    let _ = oip_rest::decode_response(body.clone(), header_len);
    let _ = oip_rest::decode_index_request(&body);
    let _ = oip_rest::decode_load_request(&body);
}

/// Feeds `data` to the decoders of generate requests and of settings, and what they accept to the
/// encoders.
pub fn generate(data: &[u8]) {
    for info in models() {
        if let Ok(request) = oip_rest::decode_generate(data, samples::reference(), &info, &Limits::default()) {
            let response = echo(request);
            let _ = oip_rest::encode_generate(&response);
            let _ = oip_rest::encode_event(&response);
        }
    }
    let _ = oip_rest::decode_trace_update(data);
    let _ = oip_rest::decode_log_update(data);
}

fn read_back(reply: crate::Reply) -> Result<oip_rest::Decoded> {
    oip_rest::decode_response(reply.body, reply.inference_header_len)
}

/// Feeds `data`, an encoded `ModelInferRequest` or `ModelInferResponse`, to the gRPC decoders.
pub fn oip_grpc(data: &[u8]) {
    if let Ok(message) = oip_grpc::inference::ModelInferRequest::decode(data)
        && let Ok((request, options)) = oip_grpc::decode_infer(message, &Limits::default())
    {
        let _ = oip_grpc::encode_request(&request);
        let _ = oip_grpc::encode_infer(&echo(request), &options).and_then(oip_grpc::decode_response);
    }
    if let Ok(message) = oip_grpc::inference::ModelInferResponse::decode(data) {
        let _ = oip_grpc::decode_response(message);
    }
}

/// Answers a request with its own inputs.
fn echo(request: InferRequest) -> InferResponse {
    InferResponse { id: request.id, ..samples::response(samples::two_inputs(), request.inputs) }
}

/// Feeds `data` to the TF Serving decoder, and what it accepts to the encoder.
pub fn tfserving(data: &[u8]) {
    for info in models() {
        if let Ok((request, form)) = tfserving::decode_predict(data, samples::reference(), &info, &Limits::default()) {
            let _ = tfserving::encode_predict(&echo(request), form);
        }
    }
}

/// Feeds `data` to the MLflow scoring decoders, as JSON and as CSV, and what they accept to the encoder.
pub fn mlflow(data: &[u8]) {
    for info in models() {
        for kind in [mlflow_scoring::ContentType::Json, mlflow_scoring::ContentType::Csv] {
            let decoded =
                mlflow_scoring::decode_invocations(data, kind, samples::reference(), &info, &Limits::default());
            if let Ok(request) = decoded {
                let _ = mlflow_scoring::encode_invocations(&echo(request));
            }
        }
    }
}

/// Feeds `data` to the plain decoder, JSON or `.npy`, and what it accepts to the encoder.
pub fn plain(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    for info in models() {
        let decoded = plain::decode_predict(body.clone(), None, samples::reference(), &info, &Limits::default());
        if let Ok(request) = decoded {
            let _ = plain::encode_predict(&echo(request));
        }
    }
}

/// Feeds `data` to the plain decoder of models of texts and pictures, and what it accepts to the
/// encoder. The first line is the content type, empty for none; the body follows.
pub fn tasks(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let content_type = std::str::from_utf8(&data[..end]).ok().map(str::trim_end).filter(|media| !media.is_empty());
    let body = Bytes::copy_from_slice(data.get(end + 1..).unwrap_or_default());
    for info in [samples::text_entities(), samples::text_classes(), samples::zero_shot(), samples::pictures()] {
        let decoded =
            plain::decode_predict(body.clone(), content_type, samples::reference(), &info, &Limits::default());
        if let Ok(request) = decoded {
            let outputs = request.inputs.into_iter().map(|tensor| tensor.rename("entities")).collect();
            let _ = plain::encode_predict(&samples::response(info, outputs));
        }
    }
}

/// Feeds `data` to the decoder of OpenAI's embeddings, and answers what it accepts.
pub fn openai(data: &[u8]) {
    let Ok((request, options)) = openai::decode_embeddings(data, &Limits::default()) else {
        return;
    };
    let rows = request.inputs.first().map_or(0, Tensor::rows);
    if let Ok(vectors) = Tensor::from_slice("embedding", [rows, 3], &vec![0.5f32; rows * 3]) {
        let _ = openai::encode_embeddings(&samples::response(samples::text_vectors(), vec![vectors]), options);
    }
}

/// Feeds `data` to the `.npy` decoder, and what it accepts to the encoder.
pub fn npy(data: &[u8]) {
    if let Ok(tensor) = npy::decode("x", Bytes::copy_from_slice(data)) {
        let _ = npy::encode(&tensor).and_then(|bytes| npy::decode("x", bytes));
    }
}

/// Models that differ in how the protocols of tables and rows read a body.
fn models() -> [ModelInfo; 5] {
    let one = |dtype| samples::one_input(dtype, &[-1, -1]);
    [one(DataType::Fp32), one(DataType::Bytes), samples::two_inputs(), samples::iris(), samples::columns()]
}

#[cfg(test)]
mod tests;
