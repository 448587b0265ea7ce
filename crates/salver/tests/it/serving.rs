//! A real server: models in, predictions out, and a clean end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use salver_client::{Form, GrpcClient, HttpClient};
use salver_core::{Context, ErrorKind, Infer, InferRequest, ModelRef, Parameters, Tensor};
use salver_testkit::ServerProcess;
use serde_json::Value;

use crate::support::{PATIENCE, demo_model, options, refuse, repository, serve, succeed};

pub(crate) async fn ready(server: &ServerProcess) -> HttpClient {
    let client = HttpClient::new(&server.url("")).unwrap();
    let end = Instant::now() + PATIENCE;
    while !client.is_ready().await.unwrap() {
        assert!(Instant::now() < end, "never ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client
}

pub(crate) fn iris_request(rows: &[f32]) -> InferRequest {
    let inputs = vec![Tensor::from_slice("X", [rows.len() / 4, 4], rows).unwrap()];
    let model: ModelRef = "iris".parse().unwrap();
    InferRequest { model, id: Some("seven".to_owned()), inputs, outputs: vec![], parameters: Parameters::new() }
}

/// What every implementation of [`Infer`] must do, over a server with the iris model.
async fn infer_suite(infer: Arc<dyn Infer>, name: &str) {
    let setosa = [5.1, 3.5, 1.4, 0.2];
    let response = infer.infer(iris_request(&setosa), Context::new("a")).await.unwrap();
    assert_eq!((&*response.model.name, response.model.version, response.id.as_deref()), ("iris", 1, Some("seven")));
    let output = &response.outputs[0];
    assert_eq!((&**output.name(), &output.shape()[..]), ("probabilities", &[1, 3][..]), "{name}");
    let probabilities: Vec<f32> = output.to_vec().unwrap();
    assert!(probabilities[0] > 0.9, "{name}: {probabilities:?}");
    let model: ModelRef = "iris".parse().unwrap();
    assert_eq!(&*infer.describe(&model).unwrap().signature.inputs[0].name, "X", "{name}");

    let two = [setosa, setosa].concat();
    let response = infer.infer(iris_request(&two), Context::new("b")).await.unwrap();
    assert_eq!(&response.outputs[0].shape()[..], &[2, 3], "{name}");

    let mut odd = iris_request(&setosa);
    odd.inputs = vec![Tensor::from_slice("X", [1, 3], &[1f32, 2.0, 3.0]).unwrap()];
    let error = infer.infer(odd, Context::new("c")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
    assert!(error.message().contains("[1,3]"), "{name}: {error}");

    let mut nobody = iris_request(&setosa);
    nobody.model = "nobody".parse().unwrap();
    let error = infer.infer(nobody, Context::new("d")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{name}: {error}");
    assert!(error.message().contains("nobody"), "{name}: {error}");

    let late = Context { deadline: Some(Instant::now()), ..Context::new("e") };
    let error = infer.infer(iris_request(&setosa), late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{name}: {error}");
}

#[tokio::test]
async fn every_client_keeps_the_promises_of_infer() {
    let server = serve(&[demo_model("iris").to_str().unwrap()]);
    let client = ready(&server).await;
    infer_suite(Arc::new(client.clone().with_form(Form::Json)), "HTTP JSON").await;
    infer_suite(Arc::new(client.with_form(Form::Binary)), "HTTP binary").await;
    let grpc = format!("http://{}", server.grpc());
    infer_suite(Arc::new(GrpcClient::new(&grpc).unwrap()), "gRPC").await;
    infer_suite(Arc::new(GrpcClient::new(&server.url("")).unwrap()), "gRPC on the HTTP port").await;
}

#[tokio::test]
async fn a_broken_model_shows_its_reason_and_the_others_serve() {
    let broken = repository().join("tests/models/broken/truncated.onnx");
    let server = serve(&[demo_model("iris").to_str().unwrap(), broken.to_str().unwrap()]);
    let client = HttpClient::new(&server.url("")).unwrap();
    let end = Instant::now() + PATIENCE;
    let state = |index: &Value, name: &str| {
        let entry = index.as_array().unwrap().iter().find(|entry| entry["name"] == name).cloned();
        entry.unwrap_or(Value::Null)
    };
    let failed = loop {
        let index = client.index().await.unwrap();
        let (iris, truncated) = (state(&index, "iris"), state(&index, "truncated"));
        if iris["state"] == "READY" && truncated["reason"].as_str().is_some_and(|reason| !reason.is_empty()) {
            break truncated;
        }
        assert!(Instant::now() < end, "{index}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(failed["state"], "UNAVAILABLE", "{failed}");
    assert!(!client.is_ready().await.unwrap());
    client.infer(iris_request(&[5.1, 3.5, 1.4, 0.2]), Context::new("a")).await.unwrap();
    let table = succeed(&["models", "--server", &server.url("")]);
    assert!(table.contains("truncated") && table.contains("failed"), "{table}");
}

#[tokio::test]
async fn predict_asks_a_running_server_by_name() {
    let server = options().arg(demo_model("iris").to_str().unwrap()).without_grpc().start();
    ready(&server).await;
    let url = server.url("");
    let table = succeed(&["predict", "iris", "--server", &url, "--input", "[[5.1,3.5,1.4,0.2]]"]);
    assert!(table.contains("setosa"), "{table}");
    let csv = demo_model("iris").join("held_out.csv");
    let json = succeed(&["predict", "iris/1", "--server", &url, "--input", csv.to_str().unwrap(), "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["predictions"].as_array().unwrap().len(), 45);
    refuse(&["predict", "nobody", "--server", &url, "--input", "[1]"], &["nobody"]);
}

#[tokio::test]
async fn a_signal_ends_the_server_with_success() {
    for signal in ["-TERM", "-INT"] {
        let mut server = serve(&[demo_model("iris").to_str().unwrap()]);
        ready(&server).await;
        let sent = std::process::Command::new("kill").args([signal, &server.pid().to_string()]).status().unwrap();
        assert!(sent.success());
        assert!(server.wait().success(), "{signal}");
        let lines = server.lines();
        assert!(!lines.iter().any(|line| line.contains("ERROR") || line.contains("panicked")), "{lines:#?}");
    }
}

#[test]
fn a_signal_counts_from_the_moment_the_server_shows_itself() {
    for _ in 0..20 {
        let mut server = serve(&[demo_model("digits").to_str().unwrap()]);
        server.terminate();
        assert!(server.wait().success(), "{:#?}", server.lines());
    }
}

#[tokio::test]
async fn a_server_without_models_is_ready_and_says_how_to_give_it_one() {
    let server = serve(&[]);
    ready(&server).await;
    let line = server.wait_for_line("No models yet");
    assert!(line.contains("salver serve iris.onnx") && line.contains("./models"), "{line}");
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_warned_about_at_every_start() {
    let server = serve(&[demo_model("iris").to_str().unwrap(), "--http", "0.0.0.0:0", "--insecure"]);
    let line = server.wait_for_line("--insecure");
    assert!(line.contains("WARN") && line.contains("0.0.0.0"), "{line}");
}
