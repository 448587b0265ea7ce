//! One good request and the error shapes of every protocol.

use serde_json::json;

use crate::server::{OIP_BODY, TestServer};

#[tokio::test]
async fn oip_json() {
    let server = TestServer::start().await;
    let reply = server.post("/v2/models/echo/infer", OIP_BODY).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({"model_name":"echo","model_version":"2",
               "outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.5,2.0]}]})
    );
    let missing = server.post("/v2/models/nobody/infer", OIP_BODY).await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["error"], "Request for unknown model: 'nobody' is not found");
    let wrong = server.post("/v2/models/echo/infer", OIP_BODY.replace("[1,2]", "[2,1]")).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["error"].as_str().unwrap().contains("Expected [-1,2], got [2,1]"), "{}", wrong.text());
}

#[tokio::test]
async fn oip_binary() {
    let server = TestServer::start().await;
    let blob = [1.5f32, 2.0].map(f32::to_le_bytes).concat();
    let head = r#"{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}"#;
    let body = [head.as_bytes(), &blob].concat();
    let len = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    let reply = server.raw().await.post("/v2/models/echo/infer", &len, &body).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/octet-stream")));
    let split: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(&reply.body[split..], &blob);
    for bad in ["Inference-Header-Content-Length: abc\r\n", "Inference-Header-Content-Length: -1\r\n", ""] {
        assert_eq!(server.raw().await.post("/v2/models/echo/infer", bad, &body).await.status, 400, "{bad}");
    }
    let twice = format!("{len}{len}");
    assert_eq!(server.raw().await.post("/v2/models/echo/infer", &twice, &body).await.status, 200);
    let differing = format!("{len}Inference-Header-Content-Length: 3\r\n");
    assert_eq!(server.raw().await.post("/v2/models/echo/infer", &differing, &body).await.status, 400);
}

#[tokio::test]
async fn oip_raw_binary_of_a_model_with_one_input() {
    let server = TestServer::start().await;
    let blob = [1.5f32, 2.0].map(f32::to_le_bytes).concat();
    let reply = server.raw().await.post("/v2/models/echo/infer", "Inference-Header-Content-Length: 0\r\n", &blob).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.body.ends_with(&blob));
}

#[tokio::test]
async fn tf_serving_rows_and_columns() {
    let server = TestServer::start().await;
    let rows = server.post("/v1/models/echo:predict", r#"{"instances":[[1.5,2.0],[3.0,4.0]]}"#).await;
    assert_eq!((rows.status, rows.json()), (200, json!({"predictions":[[1.5,2.0],[3.0,4.0]]})));
    let columns = server.post("/V1/Models/echo/labels/stable:Predict", r#"{"inputs":[[1.5,2.0]]}"#).await;
    assert_eq!((columns.status, columns.json()), (200, json!({"outputs":[[1.5,2.0]]})));
    assert_eq!(columns.header("x-salver-model-version"), Some("1"));
    let missing = server.post("/v1/models/nobody:predict", r#"{"instances":[1]}"#).await;
    assert_eq!(missing.json(), json!({"error":"Servable not found for request: Latest(nobody)"}));
    assert_eq!(missing.status, 404);
    assert_eq!(server.post("/v1/models/echo:predict", "{").await.status, 400);
}

#[tokio::test]
async fn mlflow_invocations() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let json = "Content-Type: application/json\r\n";
    let body = r#"{"dataframe_split":{"columns":["a","b"],"data":[[1.5,2.0]]}}"#;
    let reply = raw.post("/invocations", json, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.json()["predictions"].is_array());
    let bad = raw.post("/invocations", json, "[]").await;
    assert_eq!((bad.status, &bad.json()["error_code"]), (400, &json!("BAD_REQUEST")));
    for header in ["", "Content-Type: text/plain\r\n", "Content-Type: \u{e9}\r\n"] {
        let reply = raw.post("/invocations", header, body).await;
        assert_eq!(reply.status, 415, "{header}");
        assert!(reply.header("content-type").unwrap().starts_with("text/plain"), "{header}");
    }
    assert_eq!(raw.get("/ping", "").await.text(), "\n");
    assert_eq!(raw.get("/version", "").await.text(), "3.18.0");
}

#[tokio::test]
async fn plain_predictions() {
    let server = TestServer::start().await;
    for path in ["/models/echo/predict", "/models/echo@stable/predict", "/models/echo/versions/1/predict"] {
        let reply = server.post(path, r#"[{"a":1.5,"b":2.0}]"#).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.json()["model"], "echo", "{path}");
    }
    let bad = server.post("/models/echo/predict", "{").await;
    assert_eq!((bad.status, &bad.json()["error"]["kind"]), (400, &json!("invalid_input")));
    assert_eq!(server.post("/models/nobody/predict", "[]").await.status, 404);
    // What the server shows as an example works.
    let example = server.get("/models/echo").await.json()["example"].clone();
    let body = match &example {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    assert_eq!(server.post("/models/echo/predict", body).await.status, 200, "{example}");
}

#[tokio::test]
async fn what_reading_and_writing_took_is_told_to_the_model_once_for_each_answer() {
    let server = TestServer::start().await;
    for (path, body) in [
        ("/v2/models/echo/infer", OIP_BODY),
        ("/v1/models/echo:predict", r#"{"instances":[[1.5,2.0]]}"#),
        ("/models/echo/predict", r#"[{"a":1.5,"b":2.0}]"#),
    ] {
        assert_eq!(server.post(path, body).await.status, 200, "{path}");
        assert_eq!(server.fake.observed.take(), 1, "{path}");
    }
    // Large enough to be decoded and encoded away from the async threads.
    let rows = vec!["[1.5,2.0]"; 200_000].join(",");
    let large = server.post("/v1/models/echo:predict", format!("{{\"instances\":[{rows}]}}")).await;
    assert_eq!((large.status, server.fake.observed.take()), (200, 1));
    assert_eq!(server.post("/v2/models/echo/infer", "{").await.status, 400);
    assert_eq!(server.fake.observed.take(), 0);
}
