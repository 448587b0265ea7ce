//! What the registry has in production is served: another process changes it, the server follows.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use salver_client::HttpClient;
use salver_core::{Context, Error, Infer as _};
use salver_registry::names::Stage;
use salver_registry::{NewRun, NewVersion, Registry, Transition};
use salver_store::{Blobs, Database};
use salver_testkit::ServerProcess;

use crate::serving::{iris_request, ready};
use crate::support::{PATIENCE, demo_model, refuse, serve};

const MLMODEL: &str = "flavors:\n  onnx:\n    data: model.onnx\nsignature:\n  inputs: '[{\"type\": \"double\", \"name\": \
                       \"a\"}, {\"type\": \"double\", \"name\": \"b\"}, {\"type\": \"double\", \"name\": \"c\"}, \
                       {\"type\": \"double\", \"name\": \"d\"}]'\n";
const SKLEARN: &str = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n";

/// Opens the registry of a server as a second server on the same database would.
async fn registry_of(server: &ServerProcess) -> Registry {
    let folder = server.folder().join("salver-data/registry");
    let database = Database::sqlite(&folder.join("registry.db")).await.unwrap();
    let blobs = Blobs::open(folder.join("artifacts").to_str().unwrap()).unwrap();
    Registry::open(database, blobs, Arc::new(|| 0)).await.unwrap()
}

async fn register(registry: &Registry, name: &str, files: &[(&str, &[u8])]) -> i64 {
    if registry.model(name).await.is_err() {
        registry.create_model("test", name, "", &[]).await.unwrap();
    }
    let new = NewRun {
        experiment_id: "0".to_owned(),
        user_id: String::new(),
        run_name: None,
        start_time: None,
        tags: Vec::new(),
    };
    let run = registry.create_run("test", new).await.unwrap().info;
    let source = format!("{}/model", run.artifact_uri);
    let root = source.strip_prefix("mlflow-artifacts:/").unwrap();
    for (path, content) in files {
        let bytes = futures::stream::iter([Ok::<_, Error>(Bytes::copy_from_slice(content))]);
        registry.put_file(&format!("{root}/{path}"), bytes).await.unwrap();
    }
    let new = NewVersion { name: name.to_owned(), source, run_id: Some(run.run_id), ..NewVersion::default() };
    registry.create_version("test", new).await.unwrap().version
}

async fn register_iris(registry: &Registry, note: &str) -> i64 {
    let model = fs::read(demo_model("iris").join("model.onnx")).unwrap();
    register(registry, "iris", &[("MLmodel", MLMODEL.as_bytes()), ("model.onnx", &model), ("note", note.as_bytes())])
        .await
}

async fn promote(registry: &Registry, name: &str, version: i64) {
    let to = Transition { stage: Stage::Production, archive_existing: true, replaces: None };
    registry.transition("test", name, version, to).await.unwrap();
}

async fn version_that_answers(client: &HttpClient) -> Option<u64> {
    let answer = client.infer(iris_request(&[5.1, 3.5, 1.4, 0.2]), Context::default()).await;
    answer.ok().map(|response| response.model.version)
}

async fn until_answered_by(client: &HttpClient, version: i64) {
    let end = Instant::now() + PATIENCE;
    while version_that_answers(client).await != Some(version.unsigned_abs()) {
        assert!(Instant::now() < end, "version {version} never answers");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Returns the reason that the index gives for a model.
async fn reason(client: &HttpClient, name: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let index = client.index().await.unwrap();
        let rows = index.as_array().unwrap().iter().filter(|row| row["name"] == name);
        let reason = rows.filter_map(|row| row["reason"].as_str()).find(|reason| !reason.is_empty());
        if let Some(reason) = reason {
            return reason.to_owned();
        }
        assert!(Instant::now() < end, "{index}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_production_is_followed_without_a_failed_request() {
    for mode in ["none", "explicit"] {
        let server = serve(&["--model-control", mode]);
        let client = ready(&server).await;
        let registry = registry_of(&server).await;
        let first = register_iris(&registry, "one").await;
        promote(&registry, "iris", first).await;
        until_answered_by(&client, first).await;
        let second = register_iris(&registry, "two").await;
        let is_over = Arc::new(AtomicBool::new(false));
        let askers: Vec<_> = (0..2)
            .map(|_| {
                let (client, is_over) = (HttpClient::new(&server.url("")).unwrap(), is_over.clone());
                tokio::spawn(async move {
                    let mut answered = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        client.infer(iris_request(&[5.1, 3.5, 1.4, 0.2]), Context::default()).await.unwrap();
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for version in [second, first, second, first] {
            let began = Instant::now();
            promote(&registry, "iris", version).await;
            until_answered_by(&client, version).await;
            // A second is what is promised; the rest is for machines that do much else.
            assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        for asker in askers {
            assert!(asker.await.unwrap() > 0);
        }
        registry.close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_served_shows_its_reason_and_the_columns_of_a_signature_show() {
    let server = serve(&[]);
    let client = ready(&server).await;
    let registry = registry_of(&server).await;
    let pickled = register(&registry, "pickled", &[("MLmodel", SKLEARN.as_bytes()), ("model.pkl", b"code")]).await;
    promote(&registry, "pickled", pickled).await;
    assert!(reason(&client, "pickled").await.contains("export it to ONNX (skl2onnx)"));
    let first = register_iris(&registry, "one").await;
    promote(&registry, "iris", first).await;
    until_answered_by(&client, first).await;
    let described = client.description(&"iris@production".parse().unwrap()).await.unwrap();
    assert_eq!(described["inputs"][0]["columns"], serde_json::json!(["a", "b", "c", "d"]), "{described}");
    let second = register_iris(&registry, "two").await;
    let digest = registry.version_files("iris", second).await.unwrap();
    let digest = &digest.iter().find(|file| file.path == "note").unwrap().digest;
    let blob = server.folder().join("salver-data/registry/artifacts/blobs/sha256").join(&digest[..2]).join(digest);
    fs::write(blob, "twp").unwrap();
    promote(&registry, "iris", second).await;
    assert!(reason(&client, "iris").await.contains(digest.as_str()));
    assert_eq!(version_that_answers(&client).await, Some(first.unsigned_abs()));
    registry.close().await;
}

#[tokio::test]
async fn the_model_of_a_path_wins_and_the_registry_can_be_left_out() {
    let server = serve(&[demo_model("iris").to_str().unwrap()]);
    let client = ready(&server).await;
    let registry = registry_of(&server).await;
    register_iris(&registry, "one").await;
    let second = register_iris(&registry, "two").await;
    promote(&registry, "iris", second).await;
    server.wait_for_line("the registry's is not");
    assert_eq!(version_that_answers(&client).await, Some(1));
    registry.close().await;
    let server = serve(&["--registry=false"]);
    ready(&server).await;
    assert!(!server.folder().join("salver-data/registry").exists());
}

#[tokio::test]
async fn a_database_that_is_away_stops_no_model_of_a_path() {
    // Nobody listens on port 1.
    let database = "postgres://user:secret@127.0.0.1:1/registry";
    let server = serve(&[demo_model("iris").to_str().unwrap(), "--database", database]);
    let client = ready(&server).await;
    assert_eq!(version_that_answers(&client).await, Some(1));
    server.wait_for_line("the registry");
    assert!(!server.lines().iter().any(|line| line.contains("secret")), "{:#?}", server.lines());
}

#[test]
fn settings_that_cannot_be_are_refused_with_their_name() {
    refuse(
        &["serve", "--http", "127.0.0.1:0", "--data", "/proc/none"],
        &["/proc/none/registry", "--data", "--registry=false"],
    );
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    refuse(
        &["serve", "--http", "127.0.0.1:0", "--data", data, "--database", "mysql://secret"],
        &["--database", "postgres://"],
    );
    refuse(&["serve", "--http", "127.0.0.1:0", "--data", data, "--artifacts", "ftp://x"], &["--artifacts"]);
    assert!(Path::new(data).join("registry").exists());
}
