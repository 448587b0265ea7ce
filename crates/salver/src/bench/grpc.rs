//! Calls of one gRPC method over shared HTTP/2 connections.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use salver_client::BaseUrl;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::{CallError, Caller};
use super::outgoing::Outgoing;

/// Calls that share one connection.
pub(crate) const CALLS_PER_CONNECTION: usize = 16;

/// What stands before a message: whether it is compressed, and its length.
const FRAME_LEN: usize = 5;

/// One call at a time on a shared connection.
pub(crate) struct GrpcCaller {
    send: SendRequest<Full<Bytes>>,
    uri: Uri,
    outgoing: Outgoing,
    /// Keeps the connection's task alive.
    _connection: Arc<JoinSet<()>>,
}

impl GrpcCaller {
    /// Opens connections for `calls` calls of `method`, the path of one, at a time; what they send is framed already.
    ///
    /// # Errors
    /// Where a connection cannot be opened.
    pub(crate) async fn open(base: &BaseUrl, method: &str, outgoing: &Outgoing, calls: usize) -> Result<Vec<Self>> {
        let uri: Uri = base.url(method).parse()?;
        let mut callers = Vec::with_capacity(calls);
        while callers.len() < calls {
            let (send, connection) = connect(base).await.with_context(|| format!("connect to {base}"))?;
            let share = CALLS_PER_CONNECTION.min(calls - callers.len());
            callers.extend((0..share).map(|_| Self {
                send: send.clone(),
                uri: uri.clone(),
                outgoing: outgoing.clone(),
                _connection: connection.clone(),
            }));
        }
        Ok(callers)
    }

    /// Calls once and returns the message of the reply.
    ///
    /// # Errors
    /// What the server or the connection said.
    pub(crate) async fn exchange(&mut self) -> Result<Bytes, CallError> {
        let lost = |error: hyper::Error| CallError::Lost(error.to_string());
        let message = self.outgoing.next()?;
        let mut request = Request::post(self.uri.clone()).body(Full::new(message)).unwrap_or_default();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        self.send.ready().await.map_err(lost)?;
        let reply = self.send.send_request(request).await.map_err(lost)?;
        check_status(reply.headers(), false)?;
        let collected = reply.into_body().collect().await.map_err(lost)?;
        if let Some(trailers) = collected.trailers() {
            check_status(trailers, true)?;
        }
        let body = collected.to_bytes();
        if body.len() < FRAME_LEN {
            return Err(CallError::Refused("the reply holds no message".to_owned()));
        }
        Ok(body.slice(FRAME_LEN..))
    }
}

impl Caller for GrpcCaller {
    async fn call(&mut self) -> Result<(), CallError> {
        self.exchange().await.map(drop)
    }
}

async fn connect(base: &BaseUrl) -> Result<(SendRequest<Full<Bytes>>, Arc<JoinSet<()>>)> {
    let stream = TcpStream::connect(base.host_port()).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Its end shows as a lost call.
        let _ = connection.await;
    });
    Ok((send, Arc::new(tasks)))
}

/// Puts gRPC's five bytes before a message: not compressed, and its length.
///
/// # Errors
/// Where the message is longer than the protocol can say.
pub(crate) fn frame(message: &[u8]) -> Result<Bytes> {
    let len = u32::try_from(message.len()).context("the request is too large for a gRPC message")?;
    let mut framed = BytesMut::with_capacity(FRAME_LEN + message.len());
    framed.put_u8(0);
    framed.put_u32(len);
    framed.put_slice(message);
    Ok(framed.freeze())
}

fn check_status(headers: &HeaderMap, required: bool) -> Result<(), CallError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        None if !required => Ok(()),
        status => {
            let message = text("grpc-message").unwrap_or_default();
            Err(CallError::Refused(format!("grpc-status {}: {message}", status.unwrap_or("missing"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_flag_a_length_and_the_message() {
        assert_eq!(&frame(b"abc").unwrap()[..], b"\0\0\0\0\x03abc");
    }

    #[test]
    fn only_status_zero_is_success() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(value))])
        };
        assert!(check_status(&with("0"), true).is_ok());
        assert!(check_status(&with("3"), false).is_err());
        assert!(check_status(&HeaderMap::new(), false).is_ok());
        assert!(check_status(&HeaderMap::new(), true).is_err());
    }
}
