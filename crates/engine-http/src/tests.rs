//! What is loaded, and what is not.

use std::collections::BTreeMap;

use salver_core::{ErrorKind, ModelConfig, ModelName, Prices, TaskSpec};

use super::*;

fn remote(url: &str, key_env: Option<&str>) -> RemoteSpec {
    RemoteSpec {
        api: RemoteApi::OpenAiChat { system: None },
        url: url.to_owned(),
        model: None,
        key_env: key_env.map(str::to_owned),
        headers: BTreeMap::from([("x-team".to_owned(), "ml".to_owned())]),
        timeout: Duration::from_secs(1),
        max_concurrency: 1,
        max_in_flight: 7,
        retries: 0,
        max_answer_bytes: 1 << 20,
        prices: Prices::default(),
    }
}

fn spec(backing: Backing) -> ModelSpec {
    ModelSpec {
        name: ModelName::new("writer").unwrap(),
        version: 1,
        engine: Some(NAME.to_owned()),
        artifact: "writer/model.toml".into(),
        fingerprint: 0,
        task: TaskSpec::Tensor,
        columns: BTreeMap::new(),
        labels: BTreeMap::new(),
        metrics: BTreeMap::new(),
        checksums: Vec::new(),
        backing,
        python: None,
        keeps: None,
        config: ModelConfig::default(),
    }
}

fn load(remote: RemoteSpec, listed: &str) -> Result<Arc<dyn Model>> {
    let places = listed.split_whitespace().map(|text| text.parse().unwrap());
    let options = HttpOptions { listed: Listed::new(places, "--remote-allow"), user_agent: "test".into() };
    HttpEngine::new(options, Metrics::new()).load(&spec(Backing::Remote(remote.into())))
}

#[track_caller]
fn refused(remote: RemoteSpec, listed: &str, kind: ErrorKind, expected: &str) {
    let Err(error) = load(remote, listed) else { panic!("it was loaded") };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(expected), "{error}");
}

#[test]
fn only_what_is_listed_is_loaded() {
    let model = load(remote("https://a.example/v1", None), "a.example").unwrap();
    assert_eq!(model.asynchronous().unwrap().max_in_flight(), 7);
    assert!(model.instance(&Placement { device: "cpu".into(), threads: 1, core: None }).is_err());
    let unlisted = "may not be reached: whoever runs the server can allow it with --remote-allow a.example:443";
    refused(remote("https://a.example/v1", None), "", ErrorKind::Unsupported, unlisted);
    refused(remote("http://169.254.169.254/", None), "a.example", ErrorKind::Unsupported, "--remote-allow");
    refused(remote("http://a.example\\@evil/", None), "a.example evil", ErrorKind::InvalidInput, "backslashes");
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let expected = "the environment variable SURELY_NOT_SET holds no key";
    refused(remote("https://a.example", Some("SURELY_NOT_SET")), "a.example", ErrorKind::Unsupported, expected);
}

#[test]
fn what_goes_out_is_known_beforehand() {
    let key = Secret::new("sk-1".to_owned());
    let headers = headers(&remote("https://a.example", Some("KEY")), Some(&key)).unwrap();
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "content-type", "x-team"]);
    assert!(!format!("{headers:?} {key:?}").contains("sk-1"));
}

#[test]
fn the_protocols_own_path_may_be_written_or_not() {
    let oip = |url| RemoteSpec { api: RemoteApi::OipV2 { version: None, tensors: None }, ..remote(url, None) };
    assert_eq!([base(&oip("http://a/v2/")), base(&oip("http://a/x"))], ["http://a", "http://a/x"]);
    assert_eq!(base(&remote("http://a/v2/", None)), "http://a/v2");
}
