//! `[remote]`: what it becomes, and what is refused.

use salver_core::{ErrorKind, RemoteApi, RemoteSpec, TensorSpec};

use super::*;

#[track_caller]
fn spec(text: &str) -> RemoteSpec {
    let manifest = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    match manifest.backing {
        Some(Backing::Remote(spec)) => (*spec).clone(),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let text = format!("[remote]\nurl = \"https://a.example/v1\"\n{text}");
    let error = parse(&text).expect_err(&text);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    assert!(error.message().contains(expected), "{text}: {error}");
}

#[test]
fn every_key_is_read() {
    let spec = spec(
        r#"
        engine = "http"
        [remote]
        api = "openai-chat"
        url = "https://api.example.com/v1"
        model = "gpt-4o-mini"
        key_env = "OPENAI_API_KEY"
        timeout_ms = 1500
        max_concurrency = 8
        max_in_flight = 16
        retries = 3
        max_answer_mb = 2
        price_per_1k_input_tokens = "0.00015"
        price_per_1k_output_tokens = 0.0006
        price_per_call = 1
        system = "You label texts."
        headers = { "X-Team" = "ml" }
        "#,
    );
    assert_eq!(spec.api, RemoteApi::OpenAiChat { system: Some("You label texts.".to_owned()) });
    assert_eq!((spec.url.as_str(), spec.model.as_deref()), ("https://api.example.com/v1", Some("gpt-4o-mini")));
    assert_eq!((spec.key_env.as_deref(), spec.timeout), (Some("OPENAI_API_KEY"), Duration::from_millis(1500)));
    assert_eq!((spec.max_concurrency, spec.max_in_flight, spec.retries), (8, 16, 3));
    assert_eq!(spec.max_answer_bytes, 2 << 20);
    let prices = [spec.prices.per_1k_input_tokens, spec.prices.per_1k_output_tokens, spec.prices.per_call];
    assert_eq!(prices.map(|price| price.to_string()), ["0.00015", "0.0006", "1"]);
    assert_eq!(spec.headers, BTreeMap::from([("x-team".to_owned(), "ml".to_owned())]));
}

#[test]
fn little_has_to_be_said() {
    let spec = spec("[remote]\napi = \"openai-embeddings\"\nurl = \"http://127.0.0.1:1/v1\"");
    assert_eq!(spec.api, RemoteApi::OpenAiEmbeddings { dimensions: None });
    assert_eq!((spec.timeout, spec.max_concurrency, spec.max_in_flight), (Duration::from_secs(30), 64, 1024));
    assert_eq!((spec.retries, spec.max_answer_bytes), (2, 64 << 20));
    assert_eq!((spec.model, spec.key_env, spec.prices), (None, None, Default::default()));
}

#[test]
fn the_open_inference_protocol_takes_declared_tensors() {
    let spec = spec(
        r#"
        engine = "http"
        [remote]
        api = "oip-v2"
        url = "https://models.example"
        version = "3"
        [[input]]
        name = "x"
        dtype = "FP32"
        shape = [-1, 4]
        [[input]]
        name = "note"
        dtype = "BYTES"
        shape = [-1]
        optional = true
        [[output]]
        name = "y"
        dtype = "INT64"
        shape = [-1]
        "#,
    );
    let RemoteApi::OipV2 { version, tensors: Some(tensors) } = spec.api else { panic!("{:?}", spec.api) };
    assert_eq!(version.as_deref(), Some("3"));
    assert_eq!(tensors.inputs[0], TensorSpec::new("x", salver_core::DataType::Fp32, &[-1, 4]));
    assert!(tensors.inputs[1].optional);
    assert_eq!(tensors.outputs, [TensorSpec::new("y", salver_core::DataType::Int64, &[-1])]);
}

#[test]
fn what_cannot_be_is_refused_with_its_line() {
    refused("api = \"grpc\"", "line 3: remote.api must be one of openai-chat, openai-embeddings, oip-v2, got 'grpc'");
    let chat = |text: &str, expected: &str| refused(&format!("api = \"openai-chat\"\n{text}"), expected);
    chat("model = \"\"", "line 4: remote.model must be a text of 1 to 512 bytes");
    chat("version = \"1\"", "belongs to api = \"oip-v2\", not to \"openai-chat\"");
    chat("dimensions = 3", "belongs to api = \"openai-embeddings\"");
    chat("retries = 11", "must be from 0 to 10, got 11");
    chat("timeout_ms = 0", "must be from 1 to 3600000");
    chat("price_per_call = -1", "'-1' is not an amount");
    chat("price_per_call = \"1e-3\"", "'1e-3' is not an amount");
    chat("price_per_call = 0.0000000000001", "at most 12 places");
    chat("key_env = \"sk-abc\"", "must be the name of an environment variable");
    chat("key_env = \"SALVER_CALLBACK_SECRET\"", "begins with SALVER_");
    chat("secret = 1", "unknown field");
    for header in ["Authorization", "host", "content-length", "Transfer-Encoding", "proxy-authorization", "te"] {
        chat(&format!("headers = {{ {header} = \"x\" }}"), "is written by the server itself");
    }
    chat("headers = { \"a b\" = \"x\" }", "is not the name of a header");
    chat("headers = { a = \"x\\r\\nb: y\" }", "visible characters");
    chat("headers = { a = \"x\", A = \"y\" }", "given twice");
    chat("[[input]]\nname = \"x\"", "belongs to api = \"oip-v2\"");
    refused("api = \"openai-embeddings\"\nsystem = \"x\"", "belongs to api = \"openai-chat\"");
    refused(
        "api = \"oip-v2\"\n[[input]]\nname = \"x\"\ndtype = \"FP32\"\nshape = [1]",
        "needs an [[output]] beside it",
    );
    refused("api = \"oip-v2\"\n[[input]]\nname = \"x\"\n[[output]]\nname = \"y\"", "needs dtype and shape");
    let whole = |text: &str, expected: &str| {
        let error = parse(text).expect_err(text);
        assert!(error.message().contains(expected), "{text}: {error}");
    };
    whole("engine = \"http\"", "line 1: engine: a remote model needs a table [remote]");
    whole("engine = \"onnx\"\n[remote]\napi = \"oip-v2\"\nurl = \"http://a\"", "needs engine = \"http\"");
    let remote = "[remote]\napi = \"oip-v2\"\nurl = \"http://a\"";
    whole(&format!("task = \"tabular\"\n{remote}"), "no place in a remote model");
    whole(&format!("artifact = \"a.onnx\"\n{remote}"), "leave it out");
    whole(&format!("{remote}\n[instances]\ncount = 1"), "max_concurrency");
    for url in ["", "a.example", "ftp://a", "https://a b", "file:///etc/passwd"] {
        whole(&format!("[remote]\napi = \"oip-v2\"\nurl = \"{url}\""), "must be an address such as");
    }
}

#[test]
fn every_key_stands_in_the_documentation_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/remote.md");
    let page = std::fs::read_to_string(path).expect("docs/remote.md");
    check_keys(&page, "[remote]", "[remote]\nno_such_key = 1");
}

#[test]
fn the_documented_example_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/remote.md");
    let page = std::fs::read_to_string(path).expect("docs/remote.md");
    let (_, rest) = page.split_once("```toml\n").expect("an example");
    spec(rest.split_once("```").expect("its end").0);
}
