//! Pictures are well-formed, complete and harmless.

use std::time::Duration;

use super::*;
use crate::graph::Statistics;
use crate::graph::tests::recommender;

/// Reads the tags of a document and checks that they are nested as XML has it: a reader of no more
/// than what is drawn here. Returns its text, unescaped.
#[track_caller]
fn texts(svg: &str) -> Vec<String> {
    let (mut open, mut texts, mut rest) = (Vec::new(), Vec::new(), svg.trim_end());
    while let Some(tag) = rest.strip_prefix('<') {
        let (tag, behind) = tag.split_once('>').expect("a tag that is not closed");
        match (tag.strip_prefix('/'), tag.strip_suffix('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name.to_owned()), "{svg}"),
            (None, Some(alone)) => check_attributes(alone),
            (None, None) => {
                check_attributes(tag);
                open.push(tag.split(' ').next().unwrap().to_owned());
            }
        }
        let (text, next) = behind.split_at(behind.find('<').unwrap_or(behind.len()));
        if !text.is_empty() {
            texts.push(unescaped(text));
        }
        rest = next;
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest:?}");
    texts
}

fn check_attributes(tag: &str) {
    assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    // What is not between quotation marks.
    let names: Vec<&str> = tag.split('"').step_by(2).collect();
    let is_harmless = |name: &&str| !["script", " on", "href"].iter().any(|bad| name.contains(bad));
    assert!(names.iter().all(is_harmless), "{tag}");
}

fn unescaped(text: &str) -> String {
    assert!(!text.contains('>') || text.contains('{'), "{text}");
    let known = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let all: usize = known.iter().map(|(entity, _)| text.matches(entity).count()).sum();
    assert_eq!(text.matches('&').count(), all, "{text}");
    known.iter().fold(text.to_owned(), |text, (entity, c)| text.replace(entity, c))
}

#[test]
fn a_picture_tells_all_there_is_to_a_step() {
    let mut graph = recommender();
    let before = graph.clone();
    graph.steps[2].statistics = Statistics { runs: 118, failed: 3, skipped: 0, fallbacks: 3, total_ms: 147.5 };
    let drawn = draw(&Look::since(graph, &before, Duration::from_secs(1)));
    let texts = texts(&drawn);
    for part in [
        "recommender/1 · the last 1.0 s",
        "inputs",
        "user_id",
        "score",
        "score@stable",
        "when not features.is_new",
        "each item of a list",
        "within 20 ms",
        "else score@previous",
        "else nothing",
        "118 runs/s · 1.25 ms",
        "3.0/s failed · 3.0/s by fallback",
        "idle · no run yet",
        "outputs",
        "films",
        // At the wires.
        "user_id → key",
        "row → user",
        "films → film",
        "when",
        "n → k",
        "ids → films",
    ] {
        assert!(texts.iter().any(|text| text == part), "{part:?} in {texts:#?}");
    }
    assert!(!texts.iter().any(|text| text.contains("0.5 →")), "constants have no wire");
    assert!(texts.iter().any(|text| text.contains("least ← 0.5")), "they stand where the box is pointed at");
    assert_eq!(drawn.matches("only-when\"").count(), 1, "features decide about popular and give it nothing");
}

#[test]
fn what_others_wrote_stays_text() {
    let mut graph = recommender();
    let evil = "</title><script>alert(\"1\")</script>&'\u{1b}[31m\u{ffff}";
    graph.name = evil.to_owned();
    graph.steps[0].model = evil.to_owned();
    graph.steps[2].when = Some(evil.to_owned());
    graph.inputs.push(evil.to_owned());
    graph.outputs[0].name = evil.to_owned();
    let drawn = draw(&Look::so_far(graph));
    let texts = texts(&drawn);
    assert!(!drawn.contains("<script") && !drawn.contains('\u{1b}'), "{drawn}");
    assert!(texts.iter().any(|text| text.contains("<script>alert(\"1\")</script>&'\u{fffd}[31m")), "{texts:#?}");
}

#[test]
fn long_names_are_clipped_and_stand_in_full_where_they_are_pointed_at() {
    let mut graph = recommender();
    let long = "x".repeat(128);
    graph.steps[0].name.clone_from(&long);
    graph.inputs.extend((0..100).map(|idx| format!("i{idx}")));
    let texts = texts(&draw(&Look::so_far(graph)));
    assert!(texts.contains(&format!("{}…", "x".repeat(43))) && texts.iter().any(|text| text.starts_with(&long)));
    assert!(texts.contains(&"… 78 more".to_owned()) && !texts.contains(&"i50".to_owned()), "{texts:#?}");
}

#[test]
fn graphs_that_make_no_sense_are_drawn_nevertheless() {
    let mut graph = recommender();
    graph.steps[0].inputs[0].from = vec!["best.ids".to_owned(), "features.row".to_owned()];
    graph.steps[0].after = vec!["best".to_owned()];
    texts(&draw(&Look::so_far(graph)));
    let empty = Graph { inputs: Vec::new(), steps: Vec::new(), outputs: Vec::new(), ..recommender() };
    texts(&draw(&Look::so_far(empty)));
}

#[test]
fn the_largest_ensemble_has_a_picture_of_a_bounded_size() {
    let mut graph = recommender();
    let step = graph.steps[0].clone();
    let named = |idx: usize| format!("s{idx}");
    graph.steps = (0..256)
        .map(|idx| Step {
            name: named(idx),
            inputs: (0..idx).map(|before| Value { name: "x".to_owned(), from: vec![format!("s{before}.y")] }).collect(),
            after: (0..idx).map(named).collect(),
            ..step.clone()
        })
        .collect();
    let drawn = draw(&Look::so_far(graph));
    assert!(drawn.len() < 32 << 20, "{}", drawn.len());
}
