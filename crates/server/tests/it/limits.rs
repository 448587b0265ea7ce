//! Every limit at its value and one past it.

use std::time::Duration;

use crate::server::{OIP_BODY, TestServer};

const ECHO: &str = "/v2/models/echo/infer";

fn padded(len: usize) -> String {
    format!("{OIP_BODY}{}", " ".repeat(len - OIP_BODY.len()))
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken_and_one_byte_more_is_not() {
    let server = TestServer::with(|options| options.limits.body_bytes = 1000).await;
    assert_eq!(server.post(ECHO, padded(1000)).await.status, 200);
    let reply = server.post(ECHO, padded(1001)).await;
    assert_eq!(reply.status, 413);
    assert!(reply.json()["error"].as_str().unwrap().contains("1000 bytes"), "{}", reply.text());
}

#[tokio::test]
async fn a_claim_beyond_the_limit_is_refused_before_the_body_is_sent() {
    let server = TestServer::with(|options| options.limits.body_bytes = 1000).await;
    let mut raw = server.raw().await;
    raw.send(format!(
        "POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
    ))
    .await;
    let reply = raw.reply().await.unwrap();
    assert_eq!((reply.status, reply.closes()), (413, true));
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_client_that_sends_on_regardless_still_gets_to_read_the_refusal() {
    let server = TestServer::with(|options| options.limits.body_bytes = 1000).await;
    let body = vec![b' '; 8 << 20];
    // The whole body is sent before the first look at the reply.
    let reply = server.post(ECHO, &body).await;
    assert_eq!(reply.status, 413);
    let mut raw = server.raw().await;
    let head =
        format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    raw.send([head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()).await;
    assert_eq!(raw.reply().await.unwrap().status, 413);
}

#[tokio::test]
async fn a_chunked_body_is_counted_as_it_comes() {
    let server = TestServer::with(|options| options.limits.body_bytes = 1000).await;
    for (len, status) in [(1000, 200), (1001, 413)] {
        let mut raw = server.raw().await;
        let body = padded(len);
        let (first, second) = body.split_at(500);
        raw.send(format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
        raw.send(format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len())).await;
        assert_eq!(raw.reply().await.unwrap().status, status, "{len}");
    }
}

#[tokio::test]
async fn all_bodies_together_are_bounded_and_room_comes_back() {
    let server = TestServer::with(|options| options.limits.buffered_bytes = 2 * OIP_BODY.len()).await;
    let mut waiting = server.raw().await;
    let head =
        format!("POST /v2/models/slow/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", OIP_BODY.len());
    waiting.send(format!("{head}{OIP_BODY}")).await;
    server.fake.wait_inside(1).await;
    let reply = server.post(ECHO, padded(OIP_BODY.len() + 1)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(server.post(ECHO, OIP_BODY).await.status, 200);
    server.fake.gate.add_permits(1);
    assert_eq!(waiting.reply().await.unwrap().status, 200);
    assert_eq!(server.post(ECHO, padded(2 * OIP_BODY.len())).await.status, 200);
}

#[tokio::test]
async fn a_path_at_the_limit_is_looked_up_and_a_longer_one_is_not() {
    let server = TestServer::with(|options| options.limits.uri_bytes = 100).await;
    let path = |len: usize| format!("/v2?{}", "q".repeat(len - 4));
    assert_eq!(server.get(&path(100)).await.status, 200);
    let reply = server.get(&path(101)).await;
    assert_eq!((reply.status, reply.closes()), (414, true));
    assert!(reply.json()["error"].is_string());
}

#[tokio::test]
async fn header_fields_are_counted() {
    let server = TestServer::with(|options| options.limits.headers = 10).await;
    let fields = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    // `Host` is the tenth.
    assert_eq!(server.raw().await.get("/v2", &fields(9)).await.status, 200);
    assert_eq!(server.raw().await.get("/v2", &fields(10)).await.status, 431);
}

#[tokio::test]
async fn a_hundred_header_fields_are_the_default() {
    let server = TestServer::start().await;
    let fields = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    assert_eq!(server.raw().await.get("/v2", &fields(99)).await.status, 200);
    assert_eq!(server.raw().await.get("/v2", &fields(100)).await.status, 431);
}

#[tokio::test]
async fn header_bytes_are_counted() {
    let server = TestServer::with(|options| options.limits.header_bytes = 1000).await;
    // "host" and "localhost" and 32, "x" and its value and 32.
    let value = |total: usize| format!("x: {}\r\n", "v".repeat(total - 45 - 33));
    assert_eq!(server.raw().await.get("/v2", &value(1000)).await.status, 200);
    assert_eq!(server.raw().await.get("/v2", &value(1001)).await.status, 431);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let server = TestServer::with(|options| options.limits.header_timeout = Duration::from_millis(50)).await;
    let mut raw = server.raw().await;
    raw.send("GET /v2 HTTP/1.1\r\nHost: localhost\r\n").await;
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = TestServer::with(|options| options.limits.idle_timeout = Duration::from_millis(50)).await;
    let mut silent = server.raw().await;
    assert!(silent.is_closed().await);
    let mut used = server.raw().await;
    assert_eq!(used.get("/v2", "").await.status, 200);
    assert!(used.is_closed().await);
}

#[tokio::test]
async fn idle_time_does_not_run_while_a_model_works() {
    let server = TestServer::with(|options| options.limits.idle_timeout = Duration::from_millis(50)).await;
    let mut raw = server.raw().await;
    let slow = tokio::spawn(async move { raw.post("/v2/models/slow/infer", "", OIP_BODY).await });
    server.fake.wait_inside(1).await;
    // Another connection is closed for idleness in the meantime: the time has passed.
    assert!(server.raw().await.is_closed().await);
    server.fake.gate.add_permits(1);
    assert_eq!(slow.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_given_up() {
    let server = TestServer::with(|options| {
        options.limits.body_grace = Duration::from_millis(50);
        options.limits.min_body_rate = 1 << 20;
    })
    .await;
    let mut raw = server.raw().await;
    raw.send(format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{{")).await;
    let reply = raw.reply().await.unwrap();
    assert_eq!((reply.status, reply.closes()), (408, true));
    assert!(reply.json()["error"].as_str().unwrap().contains("too slowly"));
}

#[tokio::test]
async fn a_reply_that_nobody_reads_is_dropped() {
    let server = TestServer::with(|options| options.limits.idle_timeout = Duration::from_millis(100)).await;
    // Far more than the socket buffers of both sides hold.
    let rows = 4 << 20;
    let json = format!(
        r#"{{"parameters":{{"binary_data_output":true}},"inputs":[{{"name":"x","datatype":"FP32","shape":[{rows},2],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        rows * 8
    );
    let mut raw = server.raw().await;
    let head = format!(
        "POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: {}\r\nContent-Length: {}\r\n\r\n{json}",
        json.len(),
        json.len() + rows * 8
    );
    raw.send([head.as_bytes(), &vec![0; rows * 8]].concat()).await;
    server.shutdown.cancel();
    // The connection must not hold up the end: nobody reads from `raw`.
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_default_deadline_and_a_named_one_end_a_request() {
    let server = TestServer::with(|options| options.limits.default_deadline = Duration::from_millis(50)).await;
    assert_eq!(server.post("/v2/models/slow/infer", OIP_BODY).await.status, 504);
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let reply = raw.post("/v2/models/slow/infer", "x-salver-timeout-ms: 20\r\n", OIP_BODY).await;
    assert_eq!(reply.status, 504);
    // The work was dropped, and the connection goes on.
    server.fake.wait_inside(0).await;
    assert_eq!(raw.post(ECHO, "x-salver-timeout-ms: 20000\r\n", OIP_BODY).await.status, 200);
    assert_eq!(raw.post(ECHO, "x-salver-timeout-ms: soon\r\n", OIP_BODY).await.status, 400);
}

#[tokio::test]
async fn no_more_connections_are_served_than_allowed() {
    let server = TestServer::with(|options| options.limits.connections = 1).await;
    let mut first = server.raw().await;
    assert_eq!(first.get("/v2", "").await.status, 200);
    let mut second = server.raw().await;
    second.send("GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    // While the first is open the second waits; once it is gone it is served.
    assert_eq!(first.get("/v2", "").await.status, 200);
    let waiting = tokio::time::timeout(Duration::from_millis(50), second.reply()).await;
    assert!(waiting.is_err(), "served beside the only one allowed");
    drop(first);
    assert_eq!(second.reply().await.unwrap().status, 200);
}
