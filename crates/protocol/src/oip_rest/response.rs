//! Writes inference responses: JSON, or JSON with binary tensors behind it.

use salver_core::{InferResponse, Result};

use super::{ReplyOptions, oip, tensors};
use crate::Reply;
use crate::json::write;

/// Writes a response as the request asked for it.
///
/// # Errors
/// `InvalidInput` for outputs that have no JSON form (FP16, BF16, BYTES that are not UTF-8) and
/// were not asked for as binary data, and for classes of an output that holds no numbers.
pub fn encode_infer(response: &InferResponse, options: &ReplyOptions) -> Result<Reply> {
    let outputs = options.classes.apply(response)?;
    let is_binary: Vec<bool> = outputs.iter().map(|output| options.is_binary(output.name())).collect();
    let blobs = || outputs.iter().zip(&is_binary).filter_map(|(output, binary)| binary.then_some(output));
    let blob_len: usize = blobs().map(oip::binary_len).sum();

    let mut body = Vec::with_capacity(256 + 96 * outputs.len() + blob_len);
    body.push(b'{');
    if let Some(id) = &response.id {
        body.extend_from_slice(b"\"id\":");
        write::string(&mut body, id);
        body.push(b',');
    }
    body.extend_from_slice(b"\"model_name\":");
    write::string(&mut body, &response.model.name);
    body.extend_from_slice(b",\"model_version\":\"");
    write::int(&mut body, response.model.version);
    body.extend_from_slice(b"\",\"outputs\":");
    write::try_list(&mut body, outputs.iter().zip(&is_binary), |body, (output, &binary)| {
        tensors::put(body, output, binary)
    })?;
    body.push(b'}');

    // As in Triton: where all blobs are empty, the body is JSON and says so.
    if blob_len == 0 {
        return Ok(Reply::json(200, body));
    }
    let json_len = body.len();
    for output in blobs() {
        oip::put_binary(output, &mut body)?;
    }
    Ok(Reply {
        status: 200,
        content_type: "application/octet-stream",
        inference_header_len: Some(json_len),
        body: body.into(),
    })
}
