//! A registry in a temporary folder, followed as a server follows it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use salver_core::{ErrorKind, TaskSpec};
use salver_store::{Blobs, Database};

use super::*;
use crate::names::Stage;
use crate::{NewRun, NewVersion, Transition};

mod endpoints;

const ONNX: &str = "flavors:\n  onnx:\n    data: model.onnx\n";
const SKLEARN: &str = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n";

struct Fixture {
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Self::connect(folder.path()).await;
        Self { folder, registry }
    }

    /// As another server would.
    async fn connect(folder: &Path) -> Registry {
        let database = Database::sqlite(&folder.join("registry.db")).await.unwrap();
        let blobs = Blobs::open(folder.join("artifacts").to_str().unwrap()).unwrap();
        Registry::open(database, blobs, Arc::new(|| 0)).await.unwrap()
    }

    fn served(&self, endpoints: &[&str]) -> Served {
        let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        Served::open(self.registry.clone(), endpoints, &self.models()).unwrap()
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Registers the next version of a model, made of these files.
    async fn register(&self, name: &str, files: &[(&str, &str)]) -> i64 {
        let registry = &self.registry;
        if registry.model(name).await.is_err() {
            registry.create_model("who", name, "", &[]).await.unwrap();
        }
        let new = NewRun {
            experiment_id: "0".to_owned(),
            user_id: String::new(),
            run_name: None,
            start_time: None,
            tags: Vec::new(),
        };
        let run = registry.create_run("who", new).await.unwrap();
        let source = format!("{}/model", run.info.artifact_uri);
        let root = source.strip_prefix("mlflow-artifacts:/").unwrap();
        for (path, content) in files {
            let bytes = futures::stream::iter([Ok::<_, Error>(Bytes::from((*content).to_owned()))]);
            registry.put_file(&format!("{root}/{path}"), bytes).await.unwrap();
        }
        let new = NewVersion { name: name.to_owned(), source, run_id: Some(run.info.run_id), ..NewVersion::default() };
        registry.create_version("who", new).await.unwrap().version
    }

    async fn promote(&self, name: &str, version: i64) {
        self.put_into(Stage::Production, name, version).await;
    }

    /// Puts a version into a stage, alone.
    async fn put_into(&self, stage: Stage, name: &str, version: i64) {
        let to = Transition { stage, archive_existing: true, replaces: None };
        self.registry.transition("who", name, version, to).await.unwrap();
    }

    /// Registers a version and puts it into production.
    async fn put(&self, name: &str, files: &[(&str, &str)]) -> i64 {
        let version = self.register(name, files).await;
        self.promote(name, version).await;
        version
    }

    async fn blob_of(&self, name: &str, version: i64, path: &str) -> (PathBuf, String) {
        let files = self.registry.version_files(name, version).await.unwrap();
        let digest = files.into_iter().find(|file| file.path == path).unwrap().digest;
        (self.folder.path().join("artifacts/blobs/sha256").join(&digest[..2]).join(&digest), digest)
    }

    fn folders(&self) -> usize {
        let entries = fs::read_dir(self.models()).unwrap().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    }
}

fn onnx(content: &str) -> [(&'static str, &str); 2] {
    [("MLmodel", ONNX), ("model.onnx", content)]
}

/// Says what is shown: `name: versions`, or `name: reason`.
fn outline(served: &Served) -> String {
    let line = |entry: ModelEntry| match &entry.versions {
        Ok(specs) => {
            format!("{}: {}", entry.name, specs.iter().map(|spec| spec.version.to_string()).collect::<String>())
        }
        Err(error) => format!("{}: {}", entry.name, error.message()),
    };
    served.scan().into_iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Follows while `steps` runs, and ends with it.
async fn following(served: &Served, steps: impl Future<Output = ()>) {
    tokio::select! {
        () = served.follow(|_| {}) => unreachable!("it follows until it is dropped"),
        () = steps => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("still {}", outline(served)),
    }
}

async fn shown(served: &Served, expected: impl Fn(&str) -> bool) -> String {
    loop {
        let outline = outline(served);
        if expected(&outline) {
            return outline;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn first_look(served: &Served) {
    served.first_look().wait_for(|look| *look == FirstLook::Done).await.unwrap();
}

#[tokio::test]
async fn production_is_the_highest_version_of_the_stage_or_the_alias() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&[]);
    fixture.register("iris", &onnx("zero")).await;
    following(&served, async {
        first_look(&served).await;
        assert_eq!(outline(&served), "", "nothing is in production");
        fixture.put("iris", &onnx("one")).await;
        shown(&served, |outline| outline == "iris: 2").await;
        fixture.put("iris", &onnx("two")).await;
        shown(&served, |outline| outline == "iris: 3").await;
        fixture.promote("iris", 2).await;
        shown(&served, |outline| outline == "iris: 2").await;
        fixture.registry.set_alias("who", "iris", "production", 1).await.unwrap();
        shown(&served, |outline| outline == "iris: 1").await;
        fixture.registry.delete_alias("who", "iris", "production").await.unwrap();
        shown(&served, |outline| outline == "iris: 2").await;
        fixture.registry.delete_model("who", "iris").await.unwrap();
        shown(&served, str::is_empty).await;
    })
    .await;
}

#[tokio::test]
async fn an_entry_has_checksums_labels_and_files_of_its_version() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&[]);
    let version = fixture.put("iris", &onnx("one")).await;
    fixture.registry.set_alias("who", "iris", "champion", version).await.unwrap();
    following(&served, first_look(&served)).await;
    let entry = served.find("iris").unwrap();
    let labels: Vec<_> = entry.labels.into_iter().collect();
    assert_eq!(labels, [("champion".to_owned(), 1), ("production".to_owned(), 1)]);
    let spec = entry.versions.unwrap().remove(0);
    assert_eq!(fs::read_to_string(&spec.artifact).unwrap(), "one");
    assert_eq!((spec.checksums.len(), spec.artifact.starts_with(fixture.models())), (2, true));
}

/// Its bytes decide what a text becomes, as those of the graph decide what becomes of that.
#[tokio::test]
async fn a_tokenizer_is_checked_before_each_load_like_the_graph() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&[]);
    let config = r#"{ "architectures": ["BertModel"] }"#;
    let export = [("config.json", config), ("onnx/model.onnx", "one"), ("tokenizer.json", "{}")];
    fixture.put("exported", &export).await;
    let described = [("model.toml", "task = 'zero-shot'"), ("model.onnx", "two"), ("tokenizer.json", "{ }")];
    fixture.put("described", &described).await;
    following(&served, first_look(&served)).await;
    for (name, task) in [("exported", "text-embedding"), ("described", "zero-shot")] {
        let spec = served.find(name).unwrap().versions.unwrap().remove(0);
        let TaskSpec::Text(text) = &spec.task else {
            panic!("{:?}", spec.task);
        };
        let names: Vec<_> = spec.checksums.iter().map(|checksum| &checksum.path).collect();
        assert!(names.contains(&&text.tokenizer) && names.contains(&&spec.artifact), "{names:?}");
        assert_eq!((names.len(), spec.task.name()), (3, task));
    }
}

#[tokio::test]
async fn changes_of_other_servers_are_followed() {
    let fixture = Fixture::new().await;
    let other = Fixture::connect(fixture.folder.path()).await;
    let served = Served::open(other, Vec::new(), &fixture.models()).unwrap();
    following(&served, async {
        first_look(&served).await;
        fixture.put("iris", &onnx("one")).await;
        shown(&served, |outline| outline == "iris: 1").await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_served_says_why_and_stops_nobody_else() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&[]);
    fixture.put("good", &onnx("one")).await;
    fixture.put("pickled", &[("MLmodel", SKLEARN), ("model.pkl", "code")]).await;
    fixture.put("bare", &[("net.pt", "code")]).await;
    fixture.put("two words", &onnx("one")).await;
    fixture.registry.create_model("who", "away", "", &[]).await.unwrap();
    let source = "s3://bucket/model".to_owned();
    let new = NewVersion { name: "away".to_owned(), source, ..NewVersion::default() };
    fixture.registry.create_version("who", new).await.unwrap();
    fixture.promote("away", 1).await;
    following(&served, first_look(&served)).await;
    let reason = |name: &str| served.find(name).unwrap().versions.unwrap_err();
    assert!(served.find("good").unwrap().versions.is_ok());
    for (name, parts) in [
        ("pickled", &["model 'pickled': version 1: ", "a sklearn model", "(skl2onnx)"][..]),
        ("bare", &["'net.pt' is in a format that can run code"]),
        ("away", &["'s3://bucket/model', outside of this server's store"]),
        ("_two_words", &["model 'two words': ", "may hold letters"]),
    ] {
        let error = reason(name);
        assert!(parts.iter().all(|part| error.message().contains(part)), "{error}");
    }
    assert_eq!(reason("pickled").kind(), ErrorKind::Unsupported);
    assert_eq!(fixture.folders(), 1, "a pickle is not fetched");
}

#[tokio::test]
async fn a_damaged_or_missing_blob_is_named_and_the_version_before_it_stays() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&[]);
    following(&served, async {
        fixture.put("iris", &onnx("one")).await;
        shown(&served, |outline| outline == "iris: 1").await;
        let before = served.find("iris").unwrap().versions.unwrap().remove(0);
        let damaged = fixture.register("iris", &onnx("two")).await;
        let (blob, digest) = fixture.blob_of("iris", damaged, "model.onnx").await;
        let mut bytes = fs::read(&blob).unwrap();
        bytes[1] ^= 4;
        fs::write(&blob, bytes).unwrap();
        fixture.promote("iris", damaged).await;
        let reason = shown(&served, |outline| outline != "iris: 1").await;
        assert!(
            reason.contains("version 2") && reason.contains(&digest) && reason.contains("'model.onnx'"),
            "{reason}"
        );
        let gone = fixture.register("iris", &onnx("three")).await;
        let (blob, digest) = fixture.blob_of("iris", gone, "model.onnx").await;
        fs::remove_file(blob).unwrap();
        fixture.promote("iris", gone).await;
        let reason = shown(&served, |outline| outline.contains("version 3")).await;
        assert!(reason.contains(&format!("no blob {digest}")), "{reason}");
        assert!(before.artifact.exists(), "what serves may have to be loaded again");
    })
    .await;
}

#[tokio::test]
async fn a_copy_that_lost_a_bit_is_fetched_anew_at_the_next_start() {
    let fixture = Fixture::new().await;
    fixture.put("iris", &onnx("one")).await;
    let artifact = {
        let served = fixture.served(&[]);
        following(&served, first_look(&served)).await;
        served.find("iris").unwrap().versions.unwrap()[0].artifact.clone()
    };
    fs::write(&artifact, "onf").unwrap();
    let served = fixture.served(&[]);
    following(&served, first_look(&served)).await;
    assert_eq!(outline(&served), "iris: 1");
    assert_eq!(fs::read_to_string(artifact).unwrap(), "one");
}

#[tokio::test]
async fn copies_that_nothing_needs_are_removed() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&[]);
    following(&served, async {
        for (version, content) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
            fixture.put("iris", &onnx(content)).await;
            shown(&served, |outline| outline == format!("iris: {version}")).await;
        }
        while fixture.folders() != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fixture.registry.delete_model("who", "iris").await.unwrap();
        while fixture.folders() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_servers_on_one_folder_leave_each_others_copies_alone() {
    let fixture = Fixture::new().await;
    fixture.put("iris", &onnx("one")).await;
    let (first, second) = (fixture.served(&[]), fixture.served(&[]));
    following(&first, first_look(&first)).await;
    following(&second, first_look(&second)).await;
    let artifact = |served: &Served| served.find("iris").unwrap().versions.unwrap()[0].artifact.clone();
    let (of_first, of_second) = (artifact(&first), artifact(&second));
    assert!(of_first.starts_with(fixture.models()) && !of_second.starts_with(fixture.models()));
    drop(second);
    assert!(of_first.exists() && !of_second.exists());
}

#[tokio::test]
async fn a_database_that_is_away_at_first_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("later");
    let database = Database::lazy(&format!("sqlite://{}", place.join("registry.db").display())).unwrap();
    let blobs = Blobs::open(folder.path().join("artifacts").to_str().unwrap()).unwrap();
    let registry = Registry::new(database, blobs, Arc::new(|| 0));
    let served = Served::open(registry, Vec::new(), &folder.path().join("models")).unwrap();
    following(&served, async {
        served.first_look().wait_for(|look| *look == FirstLook::Failed).await.unwrap();
        fs::create_dir(&place).unwrap();
        first_look(&served).await;
    })
    .await;
}
