//! Commands that need no server: help, settings, files, and mistakes.

use serde_json::Value;

use crate::support::{demo_model, refuse, repository, run, salver, succeed};

#[test]
fn help_teaches_with_examples_and_a_sentence_for_every_option() {
    let help = succeed(&["--help"]);
    for part in ["salver demo", "salver serve iris.onnx", "salver predict iris", "Usage"] {
        assert!(help.contains(part), "{part:?} in {help}");
    }
    let serve = succeed(&["serve", "--help"]);
    for part in ["--http <ADDR>", "--model-control", "--load-model", "--default-model", "--insecure", "--max-inputs"] {
        assert!(serve.contains(part), "{part:?} in {serve}");
    }
    for command in
        ["config", "predict", "inspect", "models", "top", "graph", "check", "runtime", "completions", "demo", "bench"]
    {
        let help = succeed(&[command, "--help"]);
        assert!(help.contains("Usage: salver"), "{command}: {help}");
    }
}

#[test]
fn without_a_command_it_explains_itself() {
    let said = run(&[]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("salver demo"), "{said:#?}");
}

#[test]
fn the_version_goes_to_standard_output() {
    assert_eq!(succeed(&["--version"]).trim(), concat!("salver ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("salver.toml");
    std::fs::write(&file, "http = \"127.0.0.1:1111\"\ngrpc = \"off\"\nslow_ms = 77\n").unwrap();
    let output = salver()
        .args(["config", "--json", "--config", file.to_str().unwrap(), "--http", "127.0.0.1:3333"])
        .env("SALVER_HTTP", "127.0.0.1:2222")
        .env("SALVER_GRPC", "127.0.0.1:4444")
        .output()
        .unwrap();
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = |name: &str, value: &str, source: &str| {
        assert_eq!(config[name]["values"][0], value, "{name}");
        assert_eq!(config[name]["source"], source, "{name}");
    };
    check("http", "127.0.0.1:3333", "flag");
    check("grpc", "127.0.0.1:4444", "env SALVER_GRPC");
    check("slow_ms", "77", &format!("file {}", file.display()));
    check("log_level", "info", "default");
}

#[test]
fn the_environment_can_name_the_file_and_takes_switches() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("salver.toml");
    std::fs::write(&file, "bench = true\nload_model = ['a', 'b']\n").unwrap();
    let output = salver().arg("config").env("SALVER_CONFIG", &file).env("SALVER_INSECURE", "true").output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    for part in ["env SALVER_CONFIG", "env SALVER_INSECURE", "a, b", "salver.toml"] {
        assert!(table.contains(part), "{part:?} in {table}");
    }
}

#[test]
fn mistakes_are_named() {
    refuse(&["serve", "--http", "nowhere"], &["nowhere", "--http", "127.0.0.1:8080"]);
    refuse(&["serve", "--htp", "x"], &["--htp"]);
    refuse(&["serve", "/no/such/model.onnx", "--grpc", "off", "--http", "127.0.0.1:0"], &["/no/such/model.onnx"]);
    refuse(&["serve", "--grpc", "off", "--http", "0.0.0.0:0"], &["0.0.0.0:0", "--insecure"]);
    refuse(&["serve", "--config", "/no/such.toml"], &["/no/such.toml"]);
    refuse(&["serve", "--log-level", "info,=", "--grpc", "off", "--http", "127.0.0.1:0"], &["--log-level"]);
    refuse(&["models", "--server", "https://example.com"], &["https://example.com", "TLS"]);
    refuse(&["models", "--server", "http://127.0.0.1:1"], &["127.0.0.1:1", "salver serve"]);
    refuse(&["predict", "iris", "--input", "@/no/such.json"], &["/no/such.json"]);
    refuse(&["inspect", "/no/such.onnx"], &["/no/such.onnx"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    refuse(&["serve", "--http", &addr, "--grpc", "off"], &[&addr, "another program"]);
}

#[test]
fn inspect_shows_what_a_file_takes_gives_and_consists_of() {
    let path = demo_model("iris");
    let text = succeed(&["inspect", path.join("model.onnx").to_str().unwrap()]);
    for part in ["X", "probabilities", "MatMul", "opset 17", "440 bytes", "curl", "/models/model/predict"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let text = succeed(&["inspect", path.to_str().unwrap()]);
    for part in ["sepal_length", "setosa", "/models/iris/predict"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json: Value = serde_json::from_str(&succeed(&["inspect", path.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(json["inputs"][0]["name"], "X");
    assert_eq!(json["inputs"][0]["datatype"], "FP32");
    assert_eq!(json["parameter_bytes"].as_u64(), Some(json["parameter_count"].as_u64().unwrap() * 4));
}

#[test]
fn inspect_shows_models_that_are_made_of_a_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        (
            "whole",
            r#"
            engine = "ensemble"
            [[step]]
            model   = "users"
            present = "found"
            [[step]]
            name       = "guess"
            model      = "writer@live"
            inputs     = { text = ["users.name", { text = "nobody" }] }
            when       = "users.age >= 18"
            timeout_ms = 250
            fallback   = "other"
            [[output]]
            name = "said"
            from = ["guess.text", { text = "" }]
            "#,
        ),
        (
            "users",
            r#"
            engine = "features"
            [features]
            store     = "people"
            key       = "user"
            redis_key = "u:{key}:v1"
            missing   = "skip"
            [[feature]]
            name  = "name"
            dtype = "text"
            [[feature]]
            name  = "taste"
            dtype = "fp32"
            size  = 8
            "#,
        ),
        (
            "writer",
            r#"
            engine = "http"
            [remote]
            api   = "openai-chat"
            url   = "https://api.example.com/v1"
            model = "large"
            "#,
        ),
    ];
    for (name, text) in files {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("model.toml"), text).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let text = succeed(&["inspect", path]);
    for part in [
        "2 steps",
        "other, users, writer@live",
        "text = users.name or 'nobody'",
        "when users.age >= 18, within 250ms, else other",
        "present found",
        "guess.text or ''",
        "store 'people', hash u:{user}:v1",
        "user INT64",
        "name BYTES, taste FP32[8], found",
        "OpenAI's chat completions of another server: https://api.example.com/v1, as large",
        "--feature-store people=URL --remote-allow api.example.com",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json: Value = serde_json::from_str(&succeed(&["inspect", path, "--json"])).unwrap();
    let shown = |name: &str| json.as_array().unwrap().iter().find(|model| model["model"] == name).unwrap().clone();
    let steps = &shown("whole")["ensemble"]["steps"];
    assert_eq!(steps[1]["inputs"]["text"], serde_json::json!(["users.name", "'nobody'"]));
    assert_eq!((&steps[1]["timeout_ms"], &steps[1]["fallback"]), (&Value::from(250), &Value::from("other")));
    assert_eq!(steps[0]["present"], "found");
    assert_eq!(shown("users")["features"]["features"][1]["size"], 8);
    assert_eq!(shown("writer")["remote"]["url"], "https://api.example.com/v1");
}

#[test]
fn predict_loads_a_model_from_a_path() {
    let iris = demo_model("iris");
    let iris = iris.to_str().unwrap();
    let row = r#"{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}"#;
    assert!(succeed(&["predict", iris, "--input", row]).contains("setosa"));
    let json: Value = serde_json::from_str(&succeed(&["predict", iris, "--input", row, "--json"])).unwrap();
    assert_eq!(json["predictions"][0]["label"], "setosa");
    let csv = demo_model("iris").join("held_out.csv");
    let json = succeed(&["predict", iris, "--input", csv.to_str().unwrap(), "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["predictions"].as_array().unwrap().len(), 45);
    refuse(&["predict", iris, "--input", "{\"sepal_length\": 1}"], &["sepal_width"]);
}

#[test]
fn check_tells_what_loads_and_what_does_not() {
    let models = repository().join("tests/models");
    let good = demo_model("iris");
    assert!(succeed(&["check", good.to_str().unwrap()]).contains("ready"));
    let broken = models.join("broken/not_onnx.onnx");
    let said = run(&["check", good.to_str().unwrap(), broken.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.out.contains("not_onnx") && said.out.contains("1 of 2 load"), "{said:#?}");
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeed(&["completions", shell]);
        for command in ["serve", "predict", "model-control"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn runtime_status_names_every_place() {
    let said = run(&["runtime", "status"]);
    for place in ["cache", "Python package", "beside the program"] {
        assert!(said.out.contains(place), "{place}: {said:#?}");
    }
}
