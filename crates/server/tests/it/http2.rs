//! HTTP/2 without TLS on the same port: plain routes, limits, shutdown.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use salver_protocol::oip_grpc::inference::ModelReadyRequest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::server::{OIP_BODY, TestServer};

const ECHO: &str = "/v2/models/echo/infer";

async fn connect(server: &TestServer) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(server.http).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://localhost{path}")).body(Full::new(body.into())).unwrap()
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, Bytes) {
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn plain_routes_answer() {
    let server = TestServer::start().await;
    let (mut sender, _connection) = connect(&server).await;
    let (status, headers, body) = send(&mut sender, post(ECHO, OIP_BODY)).await;
    assert_eq!(status, 200);
    assert!(headers.contains_key("x-request-id") && !headers.contains_key("connection"));
    assert!(body.starts_with(b"{\"model_name\":\"echo\""));
    assert_eq!(send(&mut sender, post("/nowhere", "")).await.0, 404);
}

#[tokio::test]
async fn limits_hold() {
    let server = TestServer::with(|options| {
        options.limits.body_bytes = 1000;
        options.limits.headers = 10;
        options.limits.uri_bytes = 100;
    })
    .await;
    let (mut sender, _connection) = connect(&server).await;
    let padded = |len: usize| format!("{OIP_BODY}{}", " ".repeat(len - OIP_BODY.len()));
    assert_eq!(send(&mut sender, post(ECHO, padded(1000))).await.0, 200);
    assert_eq!(send(&mut sender, post(ECHO, padded(1001))).await.0, 413);
    let with_fields = |count: usize| {
        let mut request = post(ECHO, OIP_BODY);
        for n in 0..count {
            let name: http::HeaderName = format!("x-{n}").parse().unwrap();
            request.headers_mut().insert(name, http::HeaderValue::from_static("1"));
        }
        request
    };
    // `content-length` is the tenth.
    assert_eq!(send(&mut sender, with_fields(9)).await.0, 200);
    assert_eq!(send(&mut sender, with_fields(10)).await.0, 431);
    assert_eq!(send(&mut sender, post(&format!("/{}", "p".repeat(100)), "")).await.0, 414);
    assert_eq!(send(&mut sender, post(ECHO, OIP_BODY)).await.0, 200);
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let server = TestServer::with(|options| options.limits.idle_timeout = std::time::Duration::from_millis(50)).await;
    let (mut sender, connection) = connect(&server).await;
    assert_eq!(send(&mut sender, post(ECHO, OIP_BODY)).await.0, 200);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn replies_that_nobody_reads_end_their_connection() {
    let server = TestServer::with(|options| options.limits.idle_timeout = std::time::Duration::from_millis(50)).await;
    let message = ModelReadyRequest { name: "echo".to_owned(), version: String::new() };
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut framed).unwrap();
    let mut call = post("/inference.GRPCInferenceService/ModelReady", framed);
    call.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    for request in [post(ECHO, OIP_BODY), call] {
        let stream = TcpStream::connect(server.http).await.unwrap();
        let mut closed = http2::Builder::new(TokioExecutor::new());
        closed.initial_stream_window_size(0);
        let (mut sender, connection) = closed.handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let reply = sender.send_request(request).await.unwrap();
        assert_eq!(reply.status(), 200);
        // Nothing of the body fits into a window of nothing, and this client never opens it.
        let ended = tokio::time::timeout(std::time::Duration::from_secs(30), connection).await;
        assert!(ended.is_ok(), "the connection is kept for a client that does not read");
    }
}

#[tokio::test]
async fn shutdown_answers_what_is_open_and_then_closes() {
    let server = TestServer::start().await;
    let (mut sender, connection) = connect(&server).await;
    let open = sender.send_request(post("/v2/models/slow/infer", OIP_BODY));
    let open = tokio::spawn(open);
    server.fake.wait_inside(1).await;
    server.shutdown.cancel();
    server.fake.gate.add_permits(1);
    assert_eq!(open.await.unwrap().unwrap().status(), 200);
    connection.await.unwrap().unwrap();
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn another_authority_is_refused_unless_it_is_grpc() {
    let server = TestServer::start().await;
    let request = |uri: &str, kind: &'static str| {
        let request = Request::post(uri).header("content-type", kind).header("te", "trailers");
        request.body(Full::new(Bytes::from_static(&[0; 5]))).unwrap()
    };
    let (mut sender, _connection) = connect(&server).await;
    let (status, _, body) = send(&mut sender, request("http://evil.example/v2/models/echo/infer", "text/plain")).await;
    assert_eq!(status, 403, "{body:?}");
    // Clients of gRPC name what they like, and no browser is one.
    let call = request("http://salver.internal/inference.GRPCInferenceService/ServerLive", "application/grpc");
    let (status, headers, body) = send(&mut sender, call).await;
    assert!(status == 200 && !headers.contains_key("grpc-status"), "{headers:?}");
    assert_eq!(&body[..], [0, 0, 0, 0, 2, 8, 1]);
}
