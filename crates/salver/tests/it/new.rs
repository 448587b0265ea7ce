//! `salver new`, and what `salver check` says of what was made and of what is wrong in it.

use std::path::Path;

use salver_client::HttpClient;
use salver_core::{Context, Infer as _, InferRequest, ModelRef, Parameters, Tensor};
use serde_json::Value;

use crate::serving::ready;
use crate::support::{refuse, run, serve, succeed};

const TASKS: [&str; 7] = [
    "tensor",
    "tabular",
    "text-classification",
    "text-embedding",
    "token-classification",
    "zero-shot",
    "image-classification",
];

/// Makes a model folder, called as its task, below `root`.
fn make(root: &Path, task: &str) -> String {
    let folder = root.join(task).to_str().unwrap().to_owned();
    let said = succeed(&["new", &folder, "--task", task]);
    for part in ["model.toml", "model.onnx", "salver check", "salver serve", "curl http://127.0.0.1:8080/models/"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    folder
}

/// What a model answers, with its outputs by name.
struct Answer(Vec<Tensor>);

impl Answer {
    fn output(&self, name: &str) -> &Tensor {
        self.0.iter().find(|output| **output.name() == *name).unwrap()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.output(name).to_vec().unwrap()
    }

    /// The first element of an output of texts.
    fn text(&self, name: &str) -> String {
        String::from_utf8(self.output(name).elements().unwrap().get(0).unwrap().to_vec()).unwrap()
    }
}

async fn ask(client: &HttpClient, model: &str, inputs: Vec<Tensor>) -> Answer {
    let model: ModelRef = model.parse().unwrap();
    let request = InferRequest { model, id: None, inputs, outputs: vec![], parameters: Parameters::new() };
    Answer(client.infer(request, Context::new("new")).await.unwrap().outputs)
}

fn bytes(name: &str, value: &[u8]) -> Tensor {
    Tensor::from_elements(name, [1], [value].into_iter().collect()).unwrap()
}

fn text(value: &str) -> Vec<Tensor> {
    vec![bytes("text", value.as_bytes())]
}

#[test]
fn every_new_folder_passes_the_check_and_is_shown() {
    let root = tempfile::tempdir().unwrap();
    for task in TASKS {
        let folder = make(root.path(), task);
        let said = succeed(&["check", &folder]);
        assert!(said.contains("1 of 1 load"), "{said}");
        if task != "tensor" {
            assert!(said.contains(&format!("{task} version 1: {task}\n  takes  ")), "{said}");
            let inspected = succeed(&["inspect", &folder]);
            assert!(inspected.contains("  takes  ") && inspected.contains("  gives  "), "{inspected}");
        }
    }
    let checked: Value = serde_json::from_str(&succeed(&["check", "--json", root.path().to_str().unwrap()])).unwrap();
    assert!(checked.as_array().unwrap().iter().all(|entry| entry["state"] == "ready"), "{checked}");
}

#[tokio::test]
async fn every_new_folder_answers_something_sensible() {
    let root = tempfile::tempdir().unwrap();
    for task in TASKS {
        make(root.path(), task);
    }
    let server = serve(&[root.path().to_str().unwrap()]);
    let client = ready(&server).await;
    let x = Tensor::from_slice("x", [1, 2], &[1f32, 2.0]).unwrap();
    assert_eq!(ask(&client, "tensor", vec![x]).await.floats("y"), [9.0]);
    for (visits, plan, stays) in [(20i64, "pro", true), (0, "basic", false)] {
        let row = vec![Tensor::from_slice("visits", [1], &[visits]).unwrap(), bytes("plan", plan.as_bytes())];
        let scores = ask(&client, "tabular", row).await.floats("probabilities");
        assert_eq!(scores[0] > scores[1], stays, "{plan}: {scores:?}");
    }
    assert_eq!(ask(&client, "text-classification", text("This is great!")).await.text("label"), "positive");
    let vector = ask(&client, "text-embedding", text("the team won")).await.floats("embedding");
    assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5, "{vector:?}");
    let answer = ask(&client, "token-classification", text("Ada Lovelace was in London")).await;
    let entities: Vec<Value> = serde_json::from_str(&answer.text("entities")).unwrap();
    let found: Vec<&str> = entities.iter().map(|entity| entity["text"].as_str().unwrap()).collect();
    assert_eq!(found, ["Ada Lovelace", "London"]);
    for (said, label) in [("the team won the match", "sports"), ("a song of the band", "music")] {
        assert_eq!(ask(&client, "zero-shot", text(said)).await.text("label"), label);
    }
    let picture = std::fs::read(root.path().join("image-classification/picture.png")).unwrap();
    assert_eq!(ask(&client, "image-classification", vec![bytes("image", &picture)]).await.text("label"), "red");
}

#[test]
fn what_is_there_already_and_what_no_model_is_called_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let there = make(root.path(), "tensor");
    let before = std::fs::read(Path::new(&there).join("model.toml")).unwrap();
    refuse(&["new", &there, "--task", "tabular"], &[&there, "there already", "another name"]);
    assert_eq!(std::fs::read(Path::new(&there).join("model.toml")).unwrap(), before);
    for name in ["a b", ".hidden", "a..b"] {
        let folder = root.path().join(name);
        refuse(&["new", folder.to_str().unwrap(), "--task", "tensor"], &["gives the model its name", name]);
        assert!(!folder.exists());
    }
    refuse(&["new", "..", "--task", "tensor"], &["has no name"]);
    refuse(&["new", "x", "--task", "guess"], &["guess", "text-classification"]);
    let help = succeed(&["new", "--help"]);
    for part in ["zero-shot", "A vector for a text", "salver new mood --task text-classification"] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

/// Changes the `model.toml` of a new folder, and returns what `check` then says.
fn check_with(task: &str, from: &str, to: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let folder = make(root.path(), task);
    let path = Path::new(&folder).join("model.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let after = before.replacen(from, to, 1);
    assert_ne!(before, after, "{from}");
    std::fs::write(&path, after).unwrap();
    let said = run(&["check", &folder]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.out
}

#[track_caller]
fn check_fault(task: &str, from: &str, to: &str, line_of: &str, parts: &[&str]) {
    let said = check_with(task, from, to);
    let root = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(Path::new(&make(root.path(), task)).join("model.toml")).unwrap();
    let text = text.replacen(from, to, 1);
    let line = text.lines().position(|line| line.starts_with(line_of)).unwrap() + 1;
    assert!(said.contains(&format!("model.toml: line {line}:")), "line {line} in {said}");
    for part in parts {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn check_names_the_line_of_what_does_not_fit_the_graph() {
    // What the reader of model.toml finds by itself.
    check_fault("tabular", "type = \"int\"", "type = \"itn\"", "type = \"itn\"", &["itn"]);
    // What only the graph tells.
    let age = "name    = \"age\"";
    check_fault(
        "tabular",
        "[\"basic\", \"plus\", \"pro\"]",
        "[\"basic\", \"plus\"]",
        age,
        &["make 5 values", "takes 6"],
    );
    let visits = "name = \"visits\"";
    check_fault(
        "tabular",
        "type = \"int\"",
        "type = \"text\"",
        visits,
        &["column 'visits'", "does not fit", "FP32 [-1, 6]"],
    );
    let labels = "labels = [";
    check_fault("text-classification", "\"negative\", ", "", labels, &["1 labels", "logits"]);
    check_fault("image-classification", "\"red\", ", "", labels, &["2 labels", "logits"]);
}

#[test]
fn check_names_a_tokenizer_that_is_not_there() {
    let said = check_with("text-classification", "\"tokenizer.json\"", "\"tokeniser.json\"");
    assert!(said.contains("tokeniser.json") && said.contains("text.tokenizer"), "{said}");
}
