//! From a server's status and message back to an error kind.
//!
//! Not every kind survives the way: a server that is too busy answers 503 in one protocol and 429
//! in another. What stays true is whether the caller may try again.

use std::time::Duration;

use salver_core::{Error, ErrorKind};

/// Makes an error of an HTTP reply that is not a success.
pub(crate) fn from_http(status: u16, body: &[u8], retry_after: Option<&str>) -> Error {
    let kind = match status {
        400 | 405 | 415 | 422 => ErrorKind::InvalidInput,
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Forbidden,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        410 => ErrorKind::Gone,
        413 | 414 | 431 => ErrorKind::TooLarge,
        429 => ErrorKind::Overloaded,
        499 => ErrorKind::Cancelled,
        501 => ErrorKind::Unsupported,
        502 | 503 => ErrorKind::NotReady,
        408 | 504 => ErrorKind::Deadline,
        507 => ErrorKind::Full,
        402..=499 => ErrorKind::InvalidInput,
        _ => ErrorKind::Engine,
    };
    let error = Error::new(kind, message(status, body));
    match retry_after.and_then(|seconds| seconds.trim().parse().ok()) {
        Some(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
        None => error,
    }
}

/// Makes an error of a gRPC status.
pub(crate) fn from_grpc(status: &tonic::Status) -> Error {
    use tonic::Code;
    let kind = match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::AlreadyExists => {
            ErrorKind::InvalidInput
        }
        Code::DeadlineExceeded => ErrorKind::Deadline,
        Code::NotFound => ErrorKind::NotFound,
        Code::PermissionDenied => ErrorKind::Forbidden,
        Code::ResourceExhausted => ErrorKind::Overloaded,
        Code::Aborted => ErrorKind::Conflict,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Unavailable => ErrorKind::NotReady,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorKind::Engine,
    };
    let text = match status.message() {
        "" => format!("the server answered {:?}", status.code()),
        message => message.to_owned(),
    };
    Error::new(kind, text)
}

/// The text of an error body, in whichever shape it came.
fn message(status: u16, body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let from_json = json.as_ref().and_then(|value| {
        let error = value.get("error");
        let texts = [error, error.and_then(|error| error.get("message")), value.get("message")];
        texts.into_iter().flatten().find_map(serde_json::Value::as_str)
    });
    let text = from_json.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let shown: String = text.trim().chars().take(2000).collect();
    if shown.is_empty() { format!("the server answered {status} without a word") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_own_http_status() {
        use ErrorKind::*;
        for kind in [
            InvalidInput,
            TooLarge,
            Unauthenticated,
            Forbidden,
            NotFound,
            Conflict,
            Overloaded,
            NotReady,
            Deadline,
            Cancelled,
            Unsupported,
            Engine,
            Gone,
            Full,
        ] {
            assert_eq!(from_http(kind.http_status(), b"", None).kind(), kind);
        }
    }

    #[test]
    fn retryable_kinds_stay_retryable_over_grpc() {
        for kind in [ErrorKind::Overloaded, ErrorKind::NotReady] {
            let status = tonic::Status::new(tonic::Code::from(kind.grpc_code()), "busy");
            assert!(from_grpc(&status).kind().is_retryable(), "{kind:?}");
        }
        assert!(!from_grpc(&tonic::Status::invalid_argument("bad")).kind().is_retryable());
    }

    #[test]
    fn the_message_is_found_in_every_error_shape() {
        for body in [
            r#"{"error":"no such model"}"#,
            r#"{"error":{"kind":"not_found","message":"no such model"}}"#,
            r#"{"error_code":"BAD_REQUEST","message":"no such model"}"#,
            "no such model\n",
        ] {
            assert_eq!(from_http(404, body.as_bytes(), None).message(), "no such model");
        }
        assert!(from_http(500, b"", None).message().contains("500"));
    }

    #[test]
    fn a_hint_when_to_come_back_is_kept() {
        assert_eq!(from_http(429, b"", Some("3")).retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(from_http(429, b"", Some("soon")).retry_after(), None);
    }
}
