//! The Open Inference Protocol: tensors as they are, in the binary form.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use salver_core::{
    AsyncCall, Batching, Context, InferRequest, ModelName, ModelRef, Parameters, Result, Shape, Signature, Tensor,
};
use salver_protocol::oip_rest::{self, Form, HEADER_LEN};
use salver_protocol::paths;
use serde_json::Value;

use crate::call::{Caller, Question, Reading};

/// A model there.
#[derive(Debug)]
pub(crate) struct OipModel {
    /// Its name here: the protocol's codec wants one.
    pub(crate) name: ModelName,
    /// Where it is, from the server's address on.
    path: String,
}

impl OipModel {
    pub(crate) fn new(name: ModelName, model: &str, version: Option<&str>) -> Self {
        let version = version.map(|version| format!("/versions/{}", paths::segment(version))).unwrap_or_default();
        Self { name, path: format!("/v2/models/{}{version}", paths::segment(model)) }
    }

    /// Asks what the model takes and gives.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn signature(&self, caller: &Caller, headers: &HeaderMap) -> Result<Signature> {
        let question = Question { path: self.path.clone().into(), headers: Cow::Borrowed(headers), body: None };
        caller.ask(&question, &Context::default(), |_, body| Reading { usage: None, value: metadata(&body) }).await
    }

    /// Answers a request.
    ///
    /// # Errors
    /// As any call; `Engine` for outputs that are not those of the signature.
    pub(crate) async fn run(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        signature: &Signature,
        call: AsyncCall<'_>,
    ) -> Result<Vec<Tensor>> {
        let rows = signature.is_batched().then(|| call.inputs.first().map_or(1, Tensor::rows));
        // Parameters act on scheduling here, which is done.
        let request = InferRequest {
            model: ModelRef::latest(self.name.clone()),
            id: None,
            inputs: call.inputs,
            outputs: Vec::new(),
            parameters: Parameters::default(),
        };
        let encoded = oip_rest::encode_request(&request, Form::Binary)?;
        let mut headers = headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(len) = encoded.header_len {
            headers.insert(HEADER_LEN, HeaderValue::from(len));
        }
        let path = format!("{}/infer", self.path).into();
        let question = Question { path, headers: Cow::Owned(headers), body: Some(encoded.body) };
        let wire = signature.clone();
        let read = move |headers: &HeaderMap, body| Reading { usage: None, value: outputs(headers, body, &wire, rows) };
        caller.ask(&question, call.ctx, read).await
    }
}

fn metadata(body: &[u8]) -> Result<Signature, String> {
    let value: Value = serde_json::from_slice(body).map_err(|_| "its description is not JSON")?;
    let tensors = |key: &str| {
        let found = value
            .get(key)
            .and_then(oip_rest::decode_tensor_specs)
            .filter(|specs| specs.len() <= 1024 && specs.iter().all(|spec| spec.shape.len() <= Shape::MAX_RANK));
        found.ok_or_else(|| format!("its description has no valid '{key}'"))
    };
    let (inputs, outputs) = (tensors("inputs")?, tensors("outputs")?);
    Ok(Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs })
}

/// Reads an answer into the order of the signature.
fn outputs(headers: &HeaderMap, body: Bytes, wire: &Signature, rows: Option<usize>) -> Result<Vec<Tensor>, String> {
    let header_len = match headers.get(HEADER_LEN).map(|value| value.to_str().unwrap_or_default()) {
        Some(text) => Some(oip_rest::parse_header_len(text).map_err(|error| error.to_string())?),
        None => None,
    };
    let decoded = oip_rest::decode_response(body, header_len).map_err(|error| crate::status::clip(error.message()))?;
    let mut found = decoded.outputs;
    let mut take = |spec: &salver_core::TensorSpec| {
        let place = found.iter().position(|tensor| *tensor.name() == spec.name);
        let tensor = found.swap_remove(place.ok_or_else(|| format!("it has no output '{}'", spec.name))?);
        let fits = tensor.dtype() == spec.dtype && spec.accepts(tensor.shape());
        if !fits || rows.is_some_and(|rows| tensor.rows() != rows) {
            let rows = rows.map(|rows| format!(" with {rows} rows")).unwrap_or_default();
            return Err(format!(
                "output '{}' is {} {}, expected {} {:?}{rows}",
                spec.name,
                tensor.dtype(),
                tensor.shape(),
                spec.dtype,
                spec.wire_shape()
            ));
        }
        Ok(tensor)
    };
    wire.outputs.iter().map(&mut take).collect()
}

#[cfg(test)]
mod tests {
    use salver_core::{DataType, TensorSpec};

    use super::*;

    #[test]
    fn a_description_becomes_a_signature() {
        let body = br#"{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}]}"#;
        let signature = metadata(body).unwrap();
        assert_eq!(signature.inputs, [TensorSpec::new("x", DataType::Fp32, &[-1, 4])]);
        assert!(signature.is_batched());
        for bad in ["", "{}", r#"{"inputs": [], "outputs": [{"name": "y", "datatype": "FP33", "shape": []}]}"#] {
            assert!(metadata(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_must_be_what_the_signature_says() {
        let spec = |name: &str, dtype| TensorSpec::new(name, dtype, &[-1]);
        let outputs_of = vec![spec("y", DataType::Int64), spec("z", DataType::Fp32)];
        let wire = Signature { inputs: vec![], outputs: outputs_of, batching: Batching::Rows { limit: None } };
        let read = |outputs_json: &str, rows| {
            let body = format!(r#"{{"model_name": "m", "outputs": [{outputs_json}]}}"#);
            outputs(&HeaderMap::new(), body.into(), &wire, Some(rows))
        };
        let y = r#"{"name": "y", "datatype": "INT64", "shape": [2], "data": [1, 2]}"#;
        let z = r#"{"name": "z", "datatype": "FP32", "shape": [2], "data": [1, 2]}"#;
        let tensors = read(&format!("{z}, {y}"), 2).unwrap();
        assert_eq!((&**tensors[0].name(), &**tensors[1].name()), ("y", "z"));
        assert!(read(&format!("{z}, {y}"), 3).unwrap_err().contains("3 rows"));
        assert!(read(y, 2).unwrap_err().contains("no output 'z'"));
        assert!(read(&format!("{y}, {}", z.replace("FP32", "FP64")), 2).is_err());
        assert!(outputs(&HeaderMap::new(), "nonsense".into(), &wire, None).is_err());
    }
}
