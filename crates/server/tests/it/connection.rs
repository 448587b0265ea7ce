//! HTTP/1.1 on the wire: framing, pipelining, clients that go away.

use crate::server::{OIP_BODY, TestServer};

const ECHO: &str = "/v2/models/echo/infer";

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    raw.send(format!(
        "POST /v2/models/slow/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{OIP_BODY}",
        OIP_BODY.len()
    ))
    .await;
    server.fake.wait_inside(1).await;
    drop(raw);
    server.fake.wait_inside(0).await;
}

#[tokio::test]
async fn pipelined_requests_are_all_answered_in_order() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.send(get("/version") + &get("/health") + &get("/nowhere") + &get("/version")).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let reply = raw.reply().await.unwrap();
        seen.push((reply.status, reply.text().chars().take(6).collect::<String>()));
    }
    let seen: Vec<_> = seen.iter().map(|(status, text)| (*status, text.as_str())).collect();
    assert_eq!(seen, [(200, "3.18.0"), (200, "OK"), (404, "{\"erro"), (200, "3.18.0")]);
}

#[tokio::test]
async fn two_lengths_are_refused_and_the_connection_ends() {
    let server = TestServer::start().await;
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: chunked\r\nx: y\r\ncontent-length: 5\r\n",
    ] {
        let mut raw = server.raw().await;
        raw.send(format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n0\r\n\r\n")).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.closes()), (400, true), "{lengths}");
        assert!(raw.is_closed().await, "{lengths}");
    }
}

#[tokio::test]
async fn bad_lengths_and_codings_are_refused_and_the_connection_ends() {
    let server = TestServer::start().await;
    for bad in [
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: 0x5",
        "Content-Length: -1",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let mut raw = server.raw().await;
        raw.send(format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\n{bad}\r\n\r\n0\r\n\r\n")).await;
        assert_eq!(raw.reply().await.unwrap().status, 400, "{bad}");
        assert!(raw.is_closed().await, "{bad}");
    }
}

#[tokio::test]
async fn chunked_bodies_and_100_continue_work_and_keep_the_connection() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    raw.send(format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    for piece in [&OIP_BODY[..10], &OIP_BODY[10..]] {
        raw.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
    }
    raw.send("0\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
    raw.send(format!(
        "POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        OIP_BODY.len()
    ))
    .await;
    assert_eq!(raw.reply().await.unwrap().status, 100);
    raw.send(OIP_BODY).await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_error_keeps_the_connection() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    for (path, status) in
        [(ECHO, 200), ("/v2/models/nobody/infer", 404), ("/v2/models/failing/infer", 500), (ECHO, 200)]
    {
        assert_eq!(raw.post(path, "", OIP_BODY).await.status, status, "{path}");
    }
    assert_eq!(raw.post(ECHO, "", "{").await.status, 400);
    assert_eq!(raw.post(ECHO, "", OIP_BODY).await.status, 200);
}

#[tokio::test]
async fn a_panicking_handler_is_a_500_and_nothing_more() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let reply = raw.post("/v2/models/panicking/infer", "", OIP_BODY).await;
    assert_eq!(reply.status, 500);
    assert!(reply.json()["error"].is_string());
    assert_eq!(raw.post(ECHO, "", OIP_BODY).await.status, 200);
}

#[tokio::test]
async fn garbage_is_refused() {
    let server = TestServer::start().await;
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"PRI * HTTP/3.0\r\n\r\n"]
    {
        let mut raw = server.raw().await;
        raw.send(bytes).await;
        raw.send("\r\n\r\n").await;
        if let Some(reply) = raw.reply().await {
            assert_eq!(reply.status, 400, "{bytes:?}");
        }
    }
    assert_eq!(server.get("/v2").await.status, 200);
}

/// Answered where work takes long: on other threads than the connection's.
const INDEX: &str = "/v2/repository/index";

/// Waits until the server has seen what was sent before.
async fn let_it_look(server: &TestServer) {
    for _ in 0..4 {
        assert_eq!(server.get("/health").await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_end_the_connection() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    raw.send("POST /api/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n").await;
    let_it_look(&server).await;
    raw.send("{}").await;
    let reply = raw.reply().await.unwrap();
    assert_eq!((reply.status, reply.closes()), (404, false));
    assert_eq!(raw.get("/health", "").await.status, 200);
}

#[tokio::test]
async fn a_body_in_pieces_is_read_whole_on_other_threads() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    raw.send(format!("POST {INDEX} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{{\"ready\"")).await;
    let_it_look(&server).await;
    raw.send(": tru").await;
    let_it_look(&server).await;
    raw.send("e}").await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
    let reply = raw.post(INDEX, "", "{\"ready\": tru").await;
    assert_eq!(reply.status, 400, "{}", reply.text());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_on_other_threads_too() {
    let server = TestServer::with(|options| options.limits.body_bytes = 1000).await;
    for first in [10, 2000] {
        let mut raw = server.raw().await;
        let piece = |len: usize| format!("{len:x}\r\n{}\r\n", " ".repeat(len));
        raw.send(format!("POST {INDEX} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
        raw.send(piece(first)).await;
        let_it_look(&server).await;
        raw.send(piece(1500)).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.closes()), (413, true), "{first}");
    }
}
