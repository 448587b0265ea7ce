use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use salver_core::Signature;

use super::*;

fn status(name: &str, version: Option<u64>, state: Option<ModelState>, reason: &str) -> ModelStatus {
    ModelStatus { name: name.to_owned(), version, state, reason: reason.to_owned() }
}

fn info(name: &str, inputs: Vec<TensorSpec>, columns: &[&str]) -> ModelInfo {
    ModelInfo {
        name: name.into(),
        version: 3,
        engine: "onnx".into(),
        platform: "onnxruntime_onnx".to_owned(),
        signature: Signature {
            inputs,
            outputs: vec![TensorSpec::new("y", DataType::Fp32, &[-1, 2])],
            batching: Batching::Rows { limit: NonZeroUsize::new(8) },
        },
        task: "tabular".to_owned(),
        columns: vec![columns.iter().map(|&column| column.to_owned()).collect()],
        labels: vec![vec!["no".to_owned(), "yes".to_owned()]],
        metrics: BTreeMap::from([("accuracy".to_owned(), 0.9778)]),
        example: Vec::new(),
        observer: None,
    }
}

fn ready(info: ModelInfo) -> Entry {
    Entry { status: status(&info.name, Some(info.version), Some(ModelState::Ready), ""), info: Some(Arc::new(info)) }
}

fn page(models: &[Entry]) -> String {
    render(&View {
        server: ("salver", "1.2.3"),
        engines: &["onnx: ONNX Runtime".to_owned()],
        is_ready: true,
        degraded: &[],
        default_model: Some("iris"),
        explicit_control: true,
        host: "localhost:8080",
        models,
    })
}

/// What stands between the tags, each piece with its spaces as a browser shows them.
fn text(page: &str) -> String {
    let body = page.split_once("<body>").map_or("", |(_, body)| body);
    let pieces = body.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    let joined = pieces.collect::<Vec<_>>().join(" ").replace("&quot;", "\"").replace("&#39;", "'");
    joined.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(models: &[Entry], expected: &[&str]) {
    let shown = text(&page(models));
    for part in expected {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[test]
fn a_model_shows_what_it_takes_and_gives_and_a_command() {
    let model = info("iris", vec![TensorSpec::new("x", DataType::Fp32, &[-1, 2])], &["width", "height"]);
    check(
        &[ready(model)],
        &[
            "salver 1.2.3 ready",
            "iris version 3 ready Engine onnx · task tabular · at most 8 rows a request · accuracy 0.9778",
            "Inputs Name Type Shape Columns x FP32 any × 2 width, height",
            "Outputs Name Type Shape Labels y FP32 any × 2 no, yes",
            r#"curl http://localhost:8080/models/iris/versions/3/predict -d '{"width":1.0,"height":1.0}'"#,
            "answered by iris",
            "Engines: onnx: ONNX Runtime.",
        ],
    );
}

#[test]
fn long_lists_are_folded() {
    let columns: Vec<String> = (0..13).map(|idx| format!("c{idx}")).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let spec = || vec![TensorSpec::new("x", DataType::Fp32, &[-1, 13])];
    assert!(page(&[ready(info("wide", spec(), &columns))]).contains("<summary>13 names</summary>c0, c1,"));
    assert!(!page(&[ready(info("wide", spec(), &columns[..12]))]).contains("<summary>"));
}

#[test]
fn an_input_too_large_to_show_is_asked_for_as_a_file() {
    let picture = || TensorSpec::new("x", DataType::Fp32, &[-1, 3, 224, 224]);
    let command = "curl http://localhost:8080/models/resnet/versions/3/predict";
    check(&[ready(info("resnet", vec![picture()], &[]))], &[&format!("{command} --data-binary @input.npy")]);
    let two = vec![picture(), TensorSpec::new("z", DataType::Fp32, &[-1])];
    check(&[ready(info("resnet", two, &[]))], &[&format!("{command} -d @input.json")]);
    let texts = vec![TensorSpec::new("x", DataType::Bytes, &[-1, 2000])];
    check(&[ready(info("resnet", texts, &[]))], &[&format!("{command} -d @input.json")]);
    // Small enough for an example, too long to read.
    let long = vec![TensorSpec::new("x", DataType::Fp32, &[-1, 600])];
    check(&[ready(info("resnet", long, &[]))], &["too long to show", "@input.npy"]);
}

#[test]
fn models_that_do_not_serve_show_why() {
    let models = [
        Entry { status: status("broken", None, None, "config.pbtxt: line 3"), info: None },
        Entry { status: status("corrupt", Some(1), Some(ModelState::Failed), "no ONNX file"), info: None },
        Entry { status: status("gone", Some(1), Some(ModelState::Gone), "unloaded"), info: None },
        Entry { status: status("later", None, None, ""), info: None },
        Entry { status: status("new", Some(2), Some(ModelState::Loading), ""), info: None },
    ];
    check(
        &models,
        &[
            "Models 0 of 5 ready",
            "broken – not loaded corrupt 1 failed gone 1 gone later – not loaded new 2 loading",
            "broken not loaded config.pbtxt: line 3",
            "corrupt version 1 failed no ONNX file",
            "gone version 1 gone unloaded Load it curl -X POST http://localhost:8080/v2/repository/models/gone/load",
            "later not loaded Load it curl -X POST http://localhost:8080/v2/repository/models/later/load",
            "new version 2 loading",
        ],
    );
}

#[test]
fn without_a_model_the_page_says_how_to_serve_one() {
    check(&[], &["No model yet", "salver serve iris.onnx", "./models"]);
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let bad = r#"<script>alert("x")</script>&'"#;
    let mut model = info("bad", vec![TensorSpec::new(bad, DataType::Fp32, &[-1, 1])], &[bad]);
    model.name = bad.into();
    model.engine = bad.into();
    model.task = bad.to_owned();
    model.labels = vec![vec![bad.to_owned()]];
    model.metrics = BTreeMap::from([(bad.to_owned(), 1.0)]);
    let mut entry = ready(model);
    entry.status.reason = bad.to_owned();
    let unloaded = Entry { status: status(bad, None, None, ""), info: None };
    let engines = [bad.to_owned()];
    let page = render(&View {
        server: (bad, bad),
        engines: &engines,
        is_ready: false,
        degraded: &["shared_cache"],
        default_model: Some(bad),
        explicit_control: true,
        host: "localhost:8080",
        models: &[entry, unloaded],
    });
    assert!(!page.contains("<script") && !page.contains(r#""x""#) && !page.contains("&'"), "{page}");
    // Every attribute holds what was meant: no quote of a name ends it early.
    for id in page.split(" id=\"").skip(1) {
        let id = id.split('"').next().unwrap();
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-.+".contains(&byte)), "{id}");
    }
}

#[test]
fn the_page_names_what_requests_do_without() {
    let state = |is_ready, degraded| {
        let (server, host) = (("salver", "1"), "localhost:8080");
        let (default_model, explicit_control) = (None, false);
        let page = render(&View {
            server,
            engines: &[],
            is_ready,
            degraded,
            default_model,
            explicit_control,
            host,
            models: &[],
        });
        text(&page).split_once(" Metrics").map(|(head, _)| head.to_owned()).unwrap()
    };
    assert_eq!(state(true, &[]), "salver 1 ready");
    assert_eq!(state(true, &["shared_cache", "job_queue"]), "salver 1 ready without shared cache and job queue");
    assert_eq!(state(false, &["shared_cache"]), "salver 1 not ready");
}

#[test]
fn commands_survive_a_shell() {
    let model = info("größe", vec![TensorSpec::new("x", DataType::Fp32, &[-1, 1])], &["it's"]);
    let entry = ready(model);
    let page = render(&View {
        server: ("salver", "1"),
        engines: &[],
        is_ready: true,
        degraded: &[],
        default_model: None,
        explicit_control: false,
        host: "[::1]:8080",
        models: &[entry],
    });
    let expected = r#"curl 'http://[::1]:8080/models/gr%C3%B6%C3%9Fe/versions/3/predict' -d '{"it'\''s":1.0}'"#;
    assert!(text(&page).contains(expected), "{page}");
}
