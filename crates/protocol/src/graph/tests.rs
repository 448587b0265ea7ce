//! Graphs as servers tell them.

use std::time::Duration;

use salver_core::{EnsembleGraph, GraphStep, OnFailure, StepStatistics};
use serde_json::json;

use super::*;

fn step(name: &str, model: &str, inputs: &[(&str, &str)], after: &[&str]) -> Step {
    let value = |(name, from): &(&str, &str)| Value { name: (*name).to_owned(), from: vec![(*from).to_owned()] };
    Step {
        name: name.to_owned(),
        model: model.to_owned(),
        inputs: inputs.iter().map(value).collect(),
        after: after.iter().map(|&name| name.to_owned()).collect(),
        when: None,
        each: false,
        fallback: None,
        timeout_ms: None,
        on_failure: "fail".to_owned(),
        statistics: Statistics::default(),
    }
}

/// Features and candidates side by side, then scores, then the best; strangers get what is popular.
pub(crate) fn recommender() -> Graph {
    let score = Step {
        when: Some("not features.is_new".to_owned()),
        each: true,
        fallback: Some("score@previous".to_owned()),
        timeout_ms: Some(20),
        ..step(
            "score",
            "score@stable",
            &[("user", "features.row"), ("film", "candidates.films")],
            &["features", "candidates"],
        )
    };
    let popular = Step {
        when: Some("features.is_new".to_owned()),
        on_failure: "skip".to_owned(),
        ..step("popular", "popular/2", &[("n", "n")], &["features"])
    };
    Graph {
        name: "recommender".to_owned(),
        version: 1,
        inputs: vec!["user_id".to_owned(), "n".to_owned()],
        steps: vec![
            step("features", "user-features", &[("key", "user_id")], &[]),
            step("candidates", "candidates", &[("user", "user_id")], &[]),
            score,
            popular,
            step("best", "top-k", &[("scores", "score.scores"), ("k", "n"), ("least", "0.5")], &["score"]),
        ],
        outputs: vec![Value {
            name: "films".to_owned(),
            from: vec!["best.ids".to_owned(), "popular.films".to_owned()],
        }],
    }
}

#[test]
fn what_the_runtime_tells_is_json_and_reads_back() {
    let graph = EnsembleGraph {
        name: "e".into(),
        version: 3,
        inputs: vec!["x".into()],
        steps: vec![GraphStep {
            name: "first".into(),
            model: "inc@stable".parse().unwrap(),
            inputs: vec![("x".into(), vec!["x".to_owned(), "0".to_owned()])],
            after: Vec::new(),
            when: Some("x > 0.5".to_owned()),
            is_each: true,
            fallback: Some("inc/1".parse().unwrap()),
            timeout: Some(Duration::from_millis(250)),
            on_failure: OnFailure::Skip,
            statistics: StepStatistics {
                runs: 4,
                failed: 3,
                skipped: 2,
                fallbacks: 1,
                total: Duration::from_micros(1500),
            },
        }],
        outputs: vec![("y".into(), vec!["first.y".to_owned()])],
    };
    let graph = Graph::from(&graph);
    let told = serde_json::to_value(&graph).unwrap();
    let expected = json!({
        "name": "e", "version": 3, "inputs": ["x"],
        "steps": [{
            "name": "first", "model": "inc@stable", "inputs": [{ "name": "x", "from": ["x", "0"] }], "after": [],
            "when": "x > 0.5", "each": true, "fallback": "inc/1", "timeout_ms": 250, "on_failure": "skip",
            "statistics": { "runs": 4, "failed": 3, "skipped": 2, "fallbacks": 1, "total_ms": 1.5 },
        }],
        "outputs": [{ "name": "y", "from": ["first.y"] }],
    });
    assert_eq!(told, expected);
    assert_eq!(serde_json::from_value::<Graph>(told).unwrap(), graph);
}

#[test]
fn steps_that_do_not_wait_for_each_other_share_a_level() {
    assert_eq!(recommender().levels(), [vec![0, 1], vec![2, 3], vec![4]]);
    assert!(Graph { steps: Vec::new(), ..recommender() }.levels().is_empty());
    // What a server may say although it makes no sense.
    let mut odd = recommender();
    odd.steps[0].after = vec!["best".to_owned(), "features".to_owned(), "nobody".to_owned()];
    assert_eq!(odd.levels(), recommender().levels());
}

#[test]
fn a_name_is_an_input_an_output_of_a_step_or_a_constant() {
    let mut graph = recommender();
    graph.inputs.push("score.given".to_owned());
    let names = Names::of(&graph);
    assert_eq!(names.origin("n"), Origin::Input("n"));
    assert_eq!(names.origin("score.given"), Origin::Input("score.given"));
    assert_eq!(names.origin("score.a.b"), Origin::Step(2, "a.b"));
    for constant in ["0.5", "true", "'score.x'", "nobody.x"] {
        assert_eq!(names.origin(constant), Origin::Constant(constant));
    }
}

#[test]
fn texts_are_cut_by_the_columns_that_they_take() {
    for (text, most, expected) in
        [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("模型", 4, "模型"), ("模型", 3, "模…"), ("模型", 2, "…"), ("", 0, "")]
    {
        assert_eq!(clipped(text, most), expected);
        assert!(columns(expected) <= most.max(1));
    }
}
