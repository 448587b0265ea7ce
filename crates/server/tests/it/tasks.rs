//! Texts, pictures and columns over every protocol, and OpenAI's embeddings.

use bytes::Bytes;
use salver_protocol::oip_grpc::inference as wire;
use serde_json::{Value, json};
use wire::model_infer_request::InferInputTensor;

use crate::grpc::client;
use crate::raw::RawReply;
use crate::server::TestServer;

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\xff";
const PICTURE_BASE64: &str = "iVBORw0KGgr/";

async fn predict(server: &TestServer, model: &str, content_type: &str, body: impl AsRef<[u8]>) -> RawReply {
    let header = match content_type {
        "" => String::new(),
        media => format!("Content-Type: {media}\r\n"),
    };
    server.raw().await.post(&format!("/models/{model}/predict"), &header, body).await
}

/// Returns the answer of the only row.
#[track_caller]
fn row(reply: &RawReply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let rows = reply.json()["predictions"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    rows[0].clone()
}

#[tokio::test]
async fn texts_and_their_answers() {
    let server = TestServer::start().await;
    let expected = json!({"label": "good", "score": 4.0, "tokens": 4, "truncated": false});
    for (media, body) in [("", r#"{"text": "good"}"#), ("", r#"[{"text": "good"}]"#), ("text/plain", "good")] {
        assert_eq!(row(&predict(&server, "sentiment", media, body).await), expected, "{body}");
    }
    let found = row(&predict(&server, "names", "", r#"{"text": "Ada"}"#).await);
    assert_eq!(found, json!({"entities": [{"text": "Ada"}], "tokens": 3, "truncated": false}));
    let asked = predict(&server, "asked", "", r#"{"text": ["t", "u"], "labels": ["a", "b"]}"#).await.json();
    assert_eq!(asked["predictions"], json!([{"label": "ab", "score": 2.0}, {"label": "ab", "score": 2.0}]));
    let vector = row(&predict(&server, "embedder", "", r#"{"text": "abc"}"#).await);
    assert_eq!(vector["embedding"], json!([3.0, 0.5, 0.0]));
    let people = predict(&server, "people", "", r#"[{"town": "Rome"}, {"age": 7}, {}]"#).await.json();
    assert_eq!(people["predictions"], json!([{"y": "Rome"}, {"y": ""}, {"y": ""}]));
    let wrong = predict(&server, "people", "", r#"[{"age": 7}, {"age": "old"}]"#).await;
    let message = wrong.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("row 1, 'age': expected FP64 (a number), got a string"), "{message}");
}

#[tokio::test]
async fn a_picture_is_the_same_over_every_protocol() {
    let server = TestServer::start().await;
    let expected = json!({"label": {"b64": PICTURE_BASE64}, "score": 9.0});
    let form =
        [b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"p\"\r\n\r\n", PICTURE, b"\r\n--XX--\r\n"];
    let form = form.concat();
    let coded = format!(r#"{{"image": "{PICTURE_BASE64}"}}"#).into_bytes();
    for (media, body) in [
        ("image/png", PICTURE),
        ("application/octet-stream", PICTURE),
        ("application/x-www-form-urlencoded", PICTURE),
        ("multipart/form-data; boundary=XX", &form[..]),
        ("application/json", &coded[..]),
    ] {
        assert_eq!(row(&predict(&server, "pictures", media, body).await), expected, "{media}");
    }
    let head = format!(
        r#"{{"inputs":[{{"name":"image","datatype":"BYTES","shape":[1],"parameters":{{"binary_data_size":{}}}}}],
            "outputs":[{{"name":"score"}},{{"name":"label","parameters":{{"binary_data":true}}}}]}}"#,
        PICTURE.len() + 4
    );
    let binary = [head.as_bytes(), &u32::to_le_bytes(PICTURE.len() as u32), PICTURE].concat();
    let header = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    let reply = server.raw().await.post("/v2/models/pictures/infer", &header, binary).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert!(reply.body.ends_with(PICTURE));
    let rows = format!(r#"{{"instances": [{{"b64": "{PICTURE_BASE64}"}}]}}"#);
    let reply = server.post("/v1/models/pictures:predict", rows).await.json();
    assert_eq!(reply["predictions"][0]["score"], json!([9.0]), "{reply}");
    let named = format!(r#"{{"inputs": {{"image": [{{"b64": "{PICTURE_BASE64}"}}]}}}}"#);
    let reply = server.post("/v1/models/pictures:predict", named).await.json();
    assert_eq!(reply["outputs"]["score"], json!([[9.0]]), "{reply}");
}

#[tokio::test]
async fn a_picture_over_grpc() {
    let server = TestServer::start().await;
    let mut client = client(server.grpc).await;
    let input = InferInputTensor {
        name: "image".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1],
        ..InferInputTensor::default()
    };
    let request = wire::ModelInferRequest {
        model_name: "pictures".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from([&u32::to_le_bytes(PICTURE.len() as u32)[..], PICTURE].concat())],
        ..wire::ModelInferRequest::default()
    };
    let reply = client.model_infer(request).await.unwrap().into_inner();
    assert_eq!(reply.outputs[0].name, "label");
    assert!(reply.raw_output_contents[0].ends_with(PICTURE));
}

#[tokio::test]
async fn what_a_model_shows_as_an_example_works() {
    let server = TestServer::start().await;
    for model in ["sentiment", "names", "embedder", "asked", "pictures", "people"] {
        let described = server.get(&format!("/models/{model}")).await.json();
        let reply = predict(&server, model, "application/json", described["example"].to_string()).await;
        assert_eq!(reply.status, 200, "{model}: {} {}", described["example"], reply.text());
    }
    let page = server.raw().await.get("/", "Accept: text/html\r\n").await.text().to_owned();
    assert!(page.contains("/models/pictures/versions/1/predict --data-binary @picture.jpg"), "{page}");
    assert!(page.contains("{&quot;text&quot;:&quot;good&quot;}"), "{page}");
}

#[tokio::test]
async fn embeddings_as_openai_answers_them() {
    let server = TestServer::start().await;
    let reply = server.post("/v1/embeddings", r#"{"model": "embedder", "input": ["ab", "abc"]}"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-salver-model-version"), Some("1"));
    assert_eq!(
        reply.json(),
        json!({
            "object": "list", "model": "embedder", "usage": {"prompt_tokens": 5, "total_tokens": 5},
            "data": [{"object": "embedding", "index": 0, "embedding": [2.0, 0.5, 0.0]},
                     {"object": "embedding", "index": 1, "embedding": [3.0, 0.5, 0.0]}],
        })
    );
    let coded = r#"{"model": "embedder", "input": "ab", "encoding_format": "base64", "dimensions": 3}"#;
    assert_eq!(server.post("/v1/embeddings", coded).await.json()["data"][0]["embedding"], "AAAAQAAAAD8AAAAA");
}

#[tokio::test]
async fn errors_of_embeddings_have_openais_form() {
    let server = TestServer::start().await;
    for (body, status, param, code) in [
        (r#"{"model": "nobody", "input": "x"}"#, 404, json!("model"), json!("model_not_found")),
        (r#"{"model": "echo", "input": "x"}"#, 400, json!("model"), Value::Null),
        (r#"{"model": "sentiment", "input": "x"}"#, 400, json!("model"), Value::Null),
        (r#"{"model": "embedder", "input": "x", "dimensions": 2}"#, 400, json!("dimensions"), Value::Null),
        (r#"{"model": "embedder", "input": [1, 2]}"#, 400, json!("input"), Value::Null),
        ("{", 400, Value::Null, Value::Null),
    ] {
        let reply = server.post("/v1/embeddings", body).await;
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["param"], &error["code"]), (status, &param, &code), "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    }
    let reply = server.get("/v1/embeddings").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert!(reply.json()["error"]["message"].is_string());
}

#[tokio::test]
async fn models_are_listed_for_clients_of_openai_and_tf_serving_alike() {
    let server = TestServer::start().await;
    let all = server.get("/v1/models").await.json();
    assert_eq!(all["object"], "list");
    let names: Vec<&Value> = all["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(json!(names), all["models"]);
    let one = server.get("/v1/models/embedder").await.json();
    assert_eq!(one["model_version_status"][0]["state"], "AVAILABLE");
    assert_eq!((&one["id"], &one["object"], &one["owned_by"]), (&json!("embedder"), &json!("model"), &json!("salver")));
    assert_eq!(all["data"][0]["created"], one["created"]);
    assert!(one["created"].as_u64().is_some_and(|created| created > 1_700_000_000), "{one}");
}
