//! The gRPC services and what they have in common: which requests are theirs, how their bodies
//! are bounded, and which status a refused message gets.

mod health;
mod oip;
mod pieces;
mod stream;
mod tfserving;
mod turns;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use percent_encoding::percent_decode;
use salver_protocol::oip_grpc::FILE_DESCRIPTOR_SET;
use salver_protocol::tfserving_grpc;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::Limits;
use crate::app::App;
use crate::body::BodyError;

/// Bytes that gRPC puts around a message, generously.
const FRAMING_BYTES: usize = 64;

/// Every service. An unknown one is UNIMPLEMENTED.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tfserving_grpc::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Routes::new(oip::service(app.clone()))
        .add_service(tfserving::prediction(app.clone()))
        .add_service(tfserving::models(app.clone()))
        .add_service(health::service(app.clone()))
        .add_service(reflection().build_v1().expect("the descriptors come from the build and were decoded in a test"))
        .add_service(
            reflection().build_v1alpha().expect("the descriptors come from the build and were decoded in a test"),
        )
        .prepare()
        .into_axum_router()
}

/// Whether a content type asks for gRPC; `application/grpc-web` is another protocol.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
        None => false,
    }
}

/// Whether the client may keep the call open for as long as it likes.
pub(crate) fn is_streaming(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    matches!(method, "ModelStreamInfer" | "ServerReflectionInfo" | "Watch")
}

/// Returns the most bytes of a call with one message.
pub(crate) fn body_limit(limits: &Limits) -> usize {
    limits.body_bytes.saturating_add(FRAMING_BYTES)
}

/// Gives a body's errors their gRPC status.
pub(crate) fn guard<B>(body: B) -> impl http_body::Body<Data = Bytes, Error = Status>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Unpin,
{
    body.map_err(|error| {
        let code = match error {
            BodyError::TooLarge { .. } => Code::ResourceExhausted,
            BodyError::NoRoom => Code::Unavailable,
            BodyError::TooSlow(_) => Code::DeadlineExceeded,
            BodyError::Broken(source) => return Status::from_error(Box::new(source)),
        };
        Status::new(code, error.to_string())
    })
}

/// Corrects the code of a call that tonic refused before any handler saw it.
pub(crate) fn correct_status(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let code = headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    let message = headers.get("grpc-message").map(|text| percent_decode(text.as_bytes()).decode_utf8_lossy());
    if let (Some(code), Some(message)) = (code, message)
        && let Some(corrected) = corrected(code, &message)
    {
        response.headers_mut().insert("grpc-status", HeaderValue::from(corrected as i32));
    }
    response
}

/// tonic answers INTERNAL or OUT_OF_RANGE to what is the client's mistake.
fn corrected(code: Code, message: &str) -> Option<Code> {
    const CLIENTS_FAULT: [&str; 5] = [
        "failed to decode Protobuf message",
        "Error decompressing",
        "protocol error: received message",
        "Unexpected EOF decoding stream",
        "Missing request message",
    ];
    match code {
        Code::OutOfRange => Some(Code::ResourceExhausted),
        Code::Internal if CLIENTS_FAULT.iter().any(|start| message.starts_with(start)) => Some(Code::InvalidArgument),
        _ => None,
    }
}

/// Corrects the code of a status as [`correct_status`] does.
fn correct(status: Status) -> Status {
    match corrected(status.code(), status.message()) {
        Some(code) => Status::new(code, status.message()),
        None => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_itself_is_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["", "application/json", "application/grpc-web", "application/grpc-web+proto", "application/grpcs"] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn the_clients_mistakes_are_told_apart_from_ours() {
        assert_eq!(corrected(Code::OutOfRange, "too large"), Some(Code::ResourceExhausted));
        assert_eq!(corrected(Code::Internal, "failed to decode Protobuf message: x"), Some(Code::InvalidArgument));
        assert_eq!(corrected(Code::Internal, "the engine failed"), None);
        assert_eq!(corrected(Code::NotFound, "Error decompressing"), None);
    }

    #[test]
    fn reflection_knows_its_descriptors() {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tfserving_grpc::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        assert!(builder.build_v1().is_ok());
    }
}
