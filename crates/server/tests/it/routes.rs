//! The table of routes: paths, methods, and the shape of what is said where there is none.

use serde_json::Value;

use crate::server::TestServer;

#[tokio::test]
async fn what_is_read_answers_get_and_head() {
    let server = TestServer::with(|options| options.constant_route = true).await;
    for path in [
        "/",
        "/health",
        "/ping",
        "/version",
        "/metrics",
        "/openapi.json",
        "/api/v1/models",
        "/api/v1/models/echo",
        "/api/v1/models/echo/graph",
        "/api/v1/models/echo@stable/graph?format=svg",
        "/api/v1/models/echo/versions/1/graph",
        "/models",
        "/models/echo",
        "/models/echo@stable",
        "/models/echo/versions/1",
        "/v1/models",
        "/v1/models/echo",
        "/v1/models/echo/versions/1",
        "/v1/models/echo/labels/stable",
        "/V1/MODELS/echo",
        "/v1/models/echo/metadata",
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/stats",
        "/v2/models/echo",
        "/v2/models/echo/versions/1",
        "/v2/models/echo/ready",
        "/v2/models/echo/versions/2/ready",
        "/v2/models/echo/config",
        "/v2/models/echo/stats",
        "/v2/cudasharedmemory/status",
    ] {
        let mut raw = server.raw().await;
        let got = raw.get(path, "").await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        assert!(!got.body.is_empty(), "{path}");
        raw.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let head = raw.reply_to("HEAD").await.unwrap();
        assert_eq!(head.status, 200, "HEAD {path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "HEAD {path}");
        // Nothing but the head was sent, so the connection is in step.
        assert_eq!(raw.get("/health", "").await.text(), "OK", "after HEAD {path}");
    }
}

#[tokio::test]
async fn unknown_paths_are_404_with_an_error() {
    let server = TestServer::start().await;
    for path in [
        "/nowhere",
        "/v2/nothing",
        "/v2/models/echo/other",
        "/v2/models/echo/versions/one",
        "/v2/models/echo/versions/9",
        "/v2/models/nobody",
        "/api/v1/models/nobody",
        "/api/v1/models/nobody/graph",
        "/api/v1/models/echo/versions/9/graph",
        "/api/v1/other",
        "/v2/models/echo/",
        "/v3",
        "//v2",
        "/bench/constant",
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{path}");
        assert!(reply.json()["error"].is_string(), "{path}");
    }
    assert!(server.get("/models/nobody").await.json()["error"]["message"].is_string());
}

#[tokio::test]
async fn wrong_methods_are_405_and_name_the_right_ones() {
    let server = TestServer::start().await;
    for (method, path, allow) in [
        ("POST", "/v2", "GET,HEAD"),
        ("DELETE", "/v2/health/live", "GET,HEAD"),
        ("GET", "/v2/models/echo/infer", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("PUT", "/v2/models/echo", "GET,HEAD"),
        ("GET", "/invocations", "POST"),
        ("POST", "/ping", "GET,HEAD"),
        ("GET", "/models/echo/predict", "POST"),
        ("POST", "/metrics", "GET,HEAD"),
    ] {
        let mut raw = server.raw().await;
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
        assert!(reply.json().is_object(), "{method} {path}");
    }
    assert_eq!(server.get("/invocations").await.json()["error_code"], "BAD_REQUEST");
}

#[tokio::test]
async fn tf_serving_says_malformed_where_others_say_404_or_405() {
    let server = TestServer::start().await;
    for (method, path) in [("GET", "/v1/models/echo:predict"), ("POST", "/v1/models/echo"), ("GET", "/v1/other")] {
        let mut raw = server.raw().await;
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!(reply.status, 400, "{method} {path}");
        assert_eq!(reply.json()["error"], format!("Malformed request: {method} {path}"));
    }
    for (verb, status) in [("classify", 400), ("regress", 400), ("explain", 501)] {
        assert_eq!(server.post(&format!("/v1/models/echo:{verb}"), "{}").await.status, status);
    }
    for (path, text) in [
        ("/v1/models/nobody", "Servable not found for request: Latest(nobody)"),
        ("/v1/models/echo/versions/9", "Servable not found for request: Specific(echo, 9)"),
    ] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, &reply.json()["error"]), (404, &Value::from(text)));
    }
}

#[tokio::test]
async fn names_in_paths_are_decoded_and_never_reach_further() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/v2/models/%65cho").await.status, 200);
    for path in [
        "/v2/models/%2e%2e",
        "/v2/models/a%2Fb",
        "/v2/models/..%2F..%2Fetc",
        "/v2/models/a%00b",
        "/v2/models/%ff",
        "/v1/models/a%2Fb",
        "/models/a%5Cb",
    ] {
        let reply = server.get(path).await;
        assert!(matches!(reply.status, 400 | 404), "{path}: {}", reply.status);
        assert!(reply.json()["error"].is_string() || reply.json()["error"]["message"].is_string(), "{path}");
    }
    let reply = server.post("/v2/repository/models/..%2Fx/load", "").await;
    assert_eq!(reply.status, 400);
    assert!(server.fake.changes.lock().unwrap().is_empty());
    assert_eq!(server.get("/v2/models/echo/versions/99999999999999999999").await.status, 400);
}

#[tokio::test]
async fn extensions_for_later_say_so() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/v2/systemsharedmemory/status").await.status, 501);
    // Nobody has started the log of this process, so nobody can change it.
    assert_eq!(server.get("/v2/logging").await.status, 501);
}

#[tokio::test]
async fn generate_answers_by_name_and_as_events() {
    let server = TestServer::start().await;
    let expected = r#"{"id":"7","model_name":"echo","model_version":"2","y":[1.0,2.5]}"#;
    let body = r#"{"id":"7","x":[1,2.5],"other":true}"#;
    let reply = server.post("/v2/models/echo/generate", body).await;
    assert_eq!((reply.status, reply.text()), (200, expected.to_owned()));
    let mut raw = server.raw().await;
    let head = format!("Host: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    raw.send(format!("POST /v2/models/echo/generate_stream HTTP/1.1\r\n{head}{body}")).await;
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut raw.stream, &mut text).await.unwrap();
    assert!(text.contains("content-type: text/event-stream; charset=utf-8\r\n"), "{text}");
    assert!(text.contains(&format!("data: {expected}\n\n")), "{text}");
    for (model, status) in [("failing", 500), ("busy", 503), ("nobody", 404)] {
        for route in ["generate", "generate_stream"] {
            let reply = server.post(&format!("/v2/models/{model}/{route}"), r#"{"x":[1,2]}"#).await;
            assert_eq!(reply.status, status, "{model} {route}");
            assert!(reply.json()["error"].is_string() && !reply.text().contains("secret"), "{model} {route}");
        }
    }
}

#[tokio::test]
async fn readiness_follows_the_models() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/v2/health/ready").await.json()["ready"], true);
    server.fake.is_ready.store(false, std::sync::atomic::Ordering::SeqCst);
    let reply = server.get("/v2/health/ready").await;
    assert_eq!((reply.status, &reply.json()["ready"]), (400, &Value::from(false)));
    assert_eq!(server.get("/v2/health/live").await.status, 200);
    assert_eq!(server.get("/v2/models/nobody/ready").await.status, 400);
    assert_eq!(server.get("/v2/models/nobody/stats").await.status, 400);
}

#[tokio::test]
async fn models_are_listed_loaded_and_unloaded() {
    let server = TestServer::start().await;
    let all = server.post("/v2/repository/index", "").await.json();
    assert!(all.as_array().unwrap().iter().any(|entry| entry["state"] == "UNAVAILABLE"));
    let ready = server.post("/v2/repository/index", r#"{"ready":true}"#).await.json();
    assert!(ready.as_array().unwrap().iter().all(|entry| entry["state"] == "READY"));
    assert_eq!(server.post("/v2/repository/index", "[").await.status, 400);
    let loaded = server.post("/v2/repository/models/echo/load", "").await;
    assert_eq!((loaded.status, loaded.body.len()), (200, 0));
    assert_eq!(server.post("/v2/repository/models/nobody/load", "{}").await.status, 404);
    assert_eq!(server.post("/v2/repository/models/echo/unload", "{}").await.status, 200);
    assert_eq!(*server.fake.changes.lock().unwrap(), ["load echo", "load nobody", "unload echo"]);
}

#[tokio::test]
async fn without_explicit_control_nothing_is_loaded() {
    let server = TestServer::with(|options| options.explicit_control = false).await;
    assert_eq!(server.post("/v2/repository/models/echo/load", "").await.status, 503);
    assert_eq!(server.post("/v2/repository/models/echo/unload", "").await.status, 503);
    assert!(server.fake.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn browsers_get_a_page_and_programs_json() {
    let server = TestServer::start().await;
    let page = server.raw().await.get("/", "Accept: text/html,application/xhtml+xml\r\n").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let text = page.text();
    assert!(text.contains("curl http://localhost/models/echo/versions/2/predict"), "{text}");
    assert!(text.contains("&lt;script&gt;") && !text.contains("<script>"), "{text}");
    assert!(text.contains("fake: &lt;none&gt;"), "{text}");
    let json = server.get("/").await.json();
    assert_eq!(json["status"], "alive");
    assert_eq!(json["version"], "1.2.3");
}

#[tokio::test]
async fn the_document_tells_the_truth_about_the_routes() {
    let server = TestServer::with(|options| options.constant_route = true).await;
    let document = server.get("/openapi.json").await.json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let mut path = path.clone();
        while let (Some(start), Some(end)) = (path.find('{'), path.find('}')) {
            let value = match &path[start + 1..end] {
                "version" => "1",
                "label" => "stable",
                _ => "echo",
            };
            path.replace_range(start..=end, value);
        }
        for method in methods.as_object().unwrap().keys().filter(|key| ["get", "post", "head"].contains(&&***key)) {
            let method = method.to_uppercase();
            let mut raw = server.raw().await;
            raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
            let reply = raw.reply_to(&method).await.unwrap();
            assert!(!matches!(reply.status, 404 | 405), "{method} {path}: {} {}", reply.status, reply.text());
            assert!(!reply.text().contains("Malformed request"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_constant_route_reads_the_body_and_parses_nothing() {
    let server = TestServer::with(|options| {
        options.constant_route = true;
        options.limits.body_bytes = 100;
    })
    .await;
    let reply = server.post("/bench/constant", "not json").await;
    assert_eq!((reply.status, &reply.json()["model_name"]), (200, &Value::from("iris")));
    assert_eq!(server.post("/bench/constant", vec![0; 101]).await.status, 413);
}

#[tokio::test]
async fn what_is_in_memory_is_listed_and_pinned() {
    let server = TestServer::with(|options| options.explicit_control = true).await;
    let all = server.get("/api/v1/models").await.json();
    assert_eq!(
        (all["memory"]["resident_bytes"].as_u64(), all["memory"]["limit_bytes"].as_u64()),
        (Some(1 << 20), Some(1 << 30))
    );
    let row = |all: &Value, name: &str| {
        all["models"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap()
    };
    assert_eq!(row(&all, "busy")["resident"]["memory_bytes"], 4096);
    assert!(row(&all, "broken")["resident"].is_null() && row(&all, "broken")["reason"].is_string());
    for (verb, pinned) in [("pin", true), ("unpin", false)] {
        assert_eq!(server.post(&format!("/api/v1/models/busy/{verb}"), "").await.status, 200);
        let shown = server.get("/api/v1/models/busy").await.json();
        assert_eq!(shown["models"][0]["resident"]["pinned"], pinned);
        assert_eq!(server.post(&format!("/api/v1/models/nobody/{verb}"), "").await.status, 404);
    }
    for verb in ["load", "unload"] {
        assert_eq!(server.post(&format!("/api/v1/models/echo/{verb}"), "").await.status, 200, "{verb}");
    }
}

#[tokio::test]
async fn a_graph_is_json_or_a_picture() {
    let server = TestServer::start().await;
    let get =
        async |path: &str, headers: &str| server.raw().await.get(&format!("/api/v1/models/{path}"), headers).await;
    let shown = get("echo/versions/1/graph", "").await;
    assert_eq!((shown.json()["version"].as_u64(), shown.header("cache-control")), (Some(1), Some("no-store")));
    assert_eq!(shown.json()["steps"][0]["statistics"]["runs"], 3);
    let browser = "Accept: image/avif,image/svg+xml;q=0.9,*/*\r\n";
    for (path, headers) in [("echo/graph?format=svg", ""), ("echo@stable/graph", browser)] {
        let drawn = get(path, headers).await;
        assert_eq!((drawn.status, drawn.header("content-type")), (200, Some("image/svg+xml")), "{path}");
        assert!(drawn.text().starts_with("<svg ") && drawn.text().contains("x &lt; 0.5"), "{}", drawn.text());
        assert!(drawn.header("content-security-policy").unwrap().contains("default-src 'none'"));
    }
    let shown = get("echo/graph?format=json", browser).await;
    assert_eq!((shown.header("content-type"), shown.header("vary")), (Some("application/json"), Some("accept")));
    for (path, reason) in [
        ("busy/graph", "is no ensemble"),
        ("echo/graph?format=png", "expected json or svg, got 'png'"),
        ("echo/graph?from=now", "unknown parameter 'from'"),
    ] {
        let refused = get(path, "").await;
        assert!(refused.status == 400 && refused.text().contains(reason), "{path}: {}", refused.text());
    }
}

#[tokio::test]
async fn cached_answers_are_purged_by_model_or_all() {
    let server = TestServer::start().await;
    for (path, status, purged) in [
        ("/api/v1/cache", 200, Some(7)),
        ("/api/v1/models/echo/cache", 200, Some(3)),
        ("/api/v1/models/nobody/cache", 404, None),
    ] {
        let mut raw = server.raw().await;
        raw.send(format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.json()["purged"].as_u64()), (status, purged), "{path}");
    }
}

#[tokio::test]
async fn nobody_loads_by_hand_without_explicit_control() {
    let server = TestServer::with(|options| options.explicit_control = false).await;
    for verb in ["load", "unload"] {
        let reply = server.post(&format!("/api/v1/models/echo/{verb}"), "").await;
        assert_eq!(reply.status, 503, "{}", reply.text());
    }
}
