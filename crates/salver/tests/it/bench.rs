//! `salver bench`: every way to measure, each for a moment; the figures themselves are not judged.

use serde_json::Value;

use crate::serving::ready;
use crate::support::{demo_model, refuse, repository, serve, succeed};

const SHORT: [&str; 6] = ["--connections", "2", "--duration", "200ms", "--warmup", "0ms"];

/// Runs `salver bench ARGS` and returns its JSON.
#[track_caller]
fn report(args: &[&str]) -> Value {
    let json = succeed(&[&["bench"], args, &SHORT, &["--json"]].concat());
    serde_json::from_str(&json).unwrap()
}

/// Asserts that run `idx` got answers and no errors.
#[track_caller]
fn assert_answered(report: &Value, idx: usize) {
    let run = &report["runs"][idx];
    assert!(run["requests"].as_u64().unwrap() > 0 && run["errors"] == 0, "{report:#}");
}

#[tokio::test]
async fn a_server_is_measured_in_every_form_and_against_the_constant() {
    let server = serve(&[demo_model("iris").to_str().unwrap(), "--bench"]);
    ready(&server).await;
    let url = server.url("");
    let server = ["--server", &url];
    for protocol in ["http-json", "http-binary", "grpc"] {
        let protocol = ["--protocol", protocol];
        assert_answered(&report(&[&server[..], &protocol].concat()), 0);
        assert_answered(&report(&[&server[..], &protocol, &["--vary"]].concat()), 0);
        let pairs = report(&[&server[..], &protocol, &["--pairs", "2"]].concat());
        (0..4).for_each(|idx| assert_answered(&pairs, idx));
        assert!(pairs["ratio"]["median"].as_f64().unwrap() > 0.0, "{pairs:#}");
    }
    let text = succeed(&[&["bench", "--pairs", "2"], &server[..], &SHORT].concat());
    assert!(text.contains("model / constant: median"), "{text}");
    refuse(&["bench", "--server", &url, "--model", "nobody"], &["nobody"]);
}

#[tokio::test]
async fn a_rate_is_given_or_taken_from_the_peak() {
    let server = serve(&[demo_model("iris").to_str().unwrap()]);
    ready(&server).await;
    let url = server.url("");
    let fixed = report(&["--server", &url, "--rate", "100"]);
    assert_eq!((&fixed["runs"][0]["requests"], &fixed["runs"][0]["rate"]), (&20.into(), &100.0.into()), "{fixed:#}");
    let shared = report(&["--server", &url, "--rate-of-peak", "0.5"]);
    let (peak, run) = (&shared["runs"][0], &shared["runs"][1]);
    let share = run["rate"].as_f64().unwrap() / peak["per_second"].as_f64().unwrap();
    assert!((share - 0.5).abs() < 1e-9, "{shared:#}");
    assert_answered(&shared, 1);
    refuse(&["bench", "--server", &url, "--constant", "--duration", "10ms"], &["--bench", "404"]);
}

#[tokio::test]
async fn any_server_can_be_asked_by_its_address() {
    let server = serve(&[demo_model("iris").to_str().unwrap()]);
    ready(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body.json");
    std::fs::write(&body, "[[5.1, 3.5, 1.4, 0.2]]").unwrap();
    let body = body.to_str().unwrap();
    let url = server.url("/models/iris/predict");
    assert_answered(&report(&["--url", &url, "--input", body]), 0);
    refuse(&["bench", "--url", &server.url("/nowhere"), "--input", body], &["404"]);
    refuse(&["bench", "--url", &url], &["--input"]);
}

#[test]
fn a_model_is_measured_without_a_server() {
    let iris = demo_model("iris");
    let iris = iris.to_str().unwrap();
    let in_process = report(&["--in-process", iris]);
    assert_answered(&in_process, 0);
    let sweep = report(&["--raw", iris, "--batches", "1,4", "--shapes", "1x1,2x1"]);
    let cells = sweep["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4, "{sweep:#}");
    assert!(cells.iter().all(|cell| cell["rows_per_second"].as_f64().unwrap() > 0.0), "{sweep:#}");
    assert!(cells.contains(&sweep["best"]), "{sweep:#}");
    let folder = repository().join("examples/demo");
    refuse(&["bench", "--raw", folder.to_str().unwrap()], &["iris", "digits"]);
    refuse(&["bench", "--raw", iris, "--shapes", "2"], &["2x1"]);
}
