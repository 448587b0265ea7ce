//! What requests say in headers and what replies say back.

use crate::server::{OIP_BODY, TestServer};

const ECHO: &str = "/v2/models/echo/infer";

#[tokio::test]
async fn a_request_id_comes_back_and_reaches_the_model() {
    let server = TestServer::start().await;
    let reply = server.raw().await.post(ECHO, "x-request-id: abc-1\r\n", OIP_BODY).await;
    assert_eq!(reply.header("x-request-id"), Some("abc-1"));
    assert_eq!(&*server.fake.latest.lock().unwrap().as_ref().unwrap().id, "abc-1");
    for (given, kept) in [("a".repeat(128), true), ("a".repeat(129), false), ("a b".to_owned(), false)] {
        let reply = server.raw().await.get("/v2", &format!("x-request-id: {given}\r\n")).await;
        assert_eq!(reply.header("x-request-id") == Some(given.as_str()), kept, "{given}");
    }
    let made = server.get("/nowhere").await;
    assert_eq!(made.header("x-request-id").unwrap().len(), 32);
}

#[tokio::test]
async fn trace_and_deadline_reach_the_model() {
    let server = TestServer::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = format!("traceparent: {trace}\r\nx-salver-timeout-ms: 5000\r\n");
    let reply = server.raw().await.post(ECHO, &headers, OIP_BODY).await;
    assert_eq!(reply.status, 200);
    let ctx = server.fake.latest.lock().unwrap().take().unwrap();
    assert_eq!(ctx.traceparent.as_deref(), Some(trace));
    assert!(ctx.deadline.unwrap() <= std::time::Instant::now() + std::time::Duration::from_secs(5));
}

#[tokio::test]
async fn the_version_that_answered_is_named() {
    let server = TestServer::start().await;
    assert_eq!(server.post(ECHO, OIP_BODY).await.header("x-salver-model-version"), Some("2"));
    let older = server.post("/v2/models/echo/versions/1/infer", OIP_BODY).await;
    assert_eq!(older.header("x-salver-model-version"), Some("1"));
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let server = TestServer::start().await;
    let reply = server.post("/v2/models/busy/infer", OIP_BODY).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    let reply = server.post("/v1/models/busy:predict", r#"{"instances":[[1.0,2.0]]}"#).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("2")));
}

#[tokio::test]
async fn causes_stay_inside() {
    let server = TestServer::start().await;
    let reply = server.post("/v2/models/failing/infer", OIP_BODY).await;
    assert_eq!(reply.status, 500);
    assert!(!reply.text().contains("secret"), "{}", reply.text());
}

#[tokio::test]
async fn cors_is_off_unless_asked_for() {
    let server = TestServer::start().await;
    let reply = server.raw().await.get("/v2", "Origin: https://a.example\r\n").await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let mut raw = server.raw().await;
    raw.send(
        "OPTIONS /v2 HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
    )
    .await;
    assert_eq!(raw.reply().await.unwrap().status, 405);
}

#[tokio::test]
async fn only_named_origins_may_read() {
    let server = TestServer::with(|options| options.cors = vec!["https://a.example".to_owned()]).await;
    for (origin, allowed) in [("https://a.example", Some("https://a.example")), ("https://b.example", None)] {
        let reply = server.raw().await.get("/v2", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(reply.header("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(reply.header("vary"), Some("origin"));
    }
    let mut raw = server.raw().await;
    raw.send(
        "OPTIONS /models/echo/predict HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\n\
              Access-Control-Request-Method: POST\r\n\r\n",
    )
    .await;
    let reply = raw.reply().await.unwrap();
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://a.example"));
    assert!(reply.header("access-control-allow-methods").unwrap().contains("POST"));
}

#[tokio::test]
async fn every_origin_may_read_if_the_star_says_so() {
    let server = TestServer::with(|options| options.cors = vec!["*".to_owned()]).await;
    let reply = server.raw().await.get("/nowhere", "Origin: https://b.example\r\n").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (404, Some("*")));
}

/// A server that listens on loopback has been reached by a name that leads there.
#[tokio::test]
async fn a_request_for_another_host_is_refused() {
    let server = TestServer::start().await;
    for path in ["/", "/v2/health/live", "/metrics", "/v2/models/echo", "/nowhere"] {
        let mut raw = server.raw().await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: evil.example:{}\r\n\r\n", server.http.port())).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!(reply.status, 403, "{path}");
        assert!(reply.text().contains("--allowed-host NAME"), "{}", reply.text());
    }
    let mut raw = server.raw().await;
    raw.send(format!(
        "POST {ECHO} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {}\r\n\r\n{OIP_BODY}",
        OIP_BODY.len()
    ))
    .await;
    assert_eq!(raw.reply().await.unwrap().status, 403);
    assert!(server.fake.latest.lock().unwrap().is_none(), "it reached the model");
    let named = TestServer::with(|options| options.allowed_hosts = vec!["models.example".to_owned()]).await;
    for (host, status) in [("models.example", 200), ("localhost", 200), ("evil.example", 403)] {
        let mut raw = named.raw().await;
        raw.send(format!("GET /v2 HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(raw.reply().await.unwrap().status, status, "{host}");
    }
}

#[tokio::test]
async fn a_server_for_other_machines_answers_to_every_name() {
    let anywhere = |options: &mut salver_server::ServerOptions| options.http.set_ip([0, 0, 0, 0].into());
    let server = TestServer::with(anywhere).await;
    let mut raw = server.raw().await;
    raw.send("GET /v2 HTTP/1.1\r\nHost: salver.models.svc:8080\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let server = TestServer::with(|options| options.cors = vec!["https://a.example".to_owned()]).await;
    let load = "/v2/repository/models/echo/load";
    for (origin, status) in
        [("https://evil.example", 403), ("null", 403), ("https://a.example", 200), ("http://localhost", 200)]
    {
        // As a form sends it, without asking before.
        let headers = format!("Content-Type: text/plain\r\nOrigin: {origin}\r\n");
        let reply = server.raw().await.post(load, &headers, "").await;
        assert_eq!(reply.status, status, "{origin}: {}", reply.text());
        assert_eq!(reply.text().contains("--cors ORIGIN"), status == 403);
        assert_eq!(server.raw().await.get("/v2", &headers).await.status, 200, "{origin}");
    }
    for method in ["PUT", "PATCH", "DELETE", "FROB"] {
        let mut raw = server.raw().await;
        let head = "Host: localhost\r\nOrigin: https://evil.example\r\nContent-Length: 0";
        raw.send(format!("{method} /api/v1/models/echo/cache HTTP/1.1\r\n{head}\r\n\r\n")).await;
        assert_eq!(raw.reply().await.unwrap().status, 403, "{method}");
    }
}
