//! Where files of clients may lie, how many there may be, and that none stays behind.

use bytes::Bytes;

use super::*;

fn sent(files: &[&str]) -> LoadOverride {
    let file = |path: &&str| OverrideFile { path: (*path).to_owned(), data: Bytes::from_static(b"graph") };
    LoadOverride { config: "{}".to_owned(), files: files.iter().map(file).collect() }
}

fn name() -> ModelName {
    ModelName::new("m").unwrap()
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut all = Vec::new();
    while let Some(folder) = found.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                found.push(entry.path());
                all.push(entry.path());
            }
        }
    }
    all
}

#[track_caller]
fn check_refused(files: &[&str], expected: &str) {
    let root = tempfile::tempdir().unwrap();
    let uploads = Uploads::open(root.path()).unwrap();
    let error = uploads.read(&name(), &sent(files)).expect_err(expected);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.message().contains(expected), "{error}");
    assert!(!error.message().contains(&root.path().display().to_string()), "{error}");
    assert_eq!(folders(root.path()).len(), 1, "a refused model stays: {:?}", folders(root.path()));
    assert_eq!(*uploads.room.0.lock().unwrap(), (0, 0));
}

#[test]
fn paths_that_do_not_go_straight_down_are_refused() {
    for path in [
        "../x",
        "1/../../x",
        "a/../../b",
        "./../x",
        "a//../..",
        "1/.",
        "1/model.onnx/.",
        "/etc/x",
        "",
        "1/",
        "/",
        ".",
        "..",
        "1/..",
        "1//model.onnx",
        "1/.hidden",
        "..\\x",
        "1\\model.onnx",
        "C:/x",
        "1/a\0b",
        "1/a\nb",
        "1/2/3/4/5",
        ".lock",
    ] {
        check_refused(&["1/model.onnx", path], "expected a path inside the model's folder");
    }
    check_refused(&[&format!("1/{}", "x".repeat(256))], "expected a path inside");
}

#[test]
fn files_that_contradict_each_other_are_refused() {
    check_refused(&["1/model.onnx", "1/model.onnx"], "'file:1/model.onnx' is given twice");
    check_refused(&["1", "1/model.onnx"], "keep the files that were sent");
    check_refused(&["1/model.onnx", "1"], "keep the files that were sent");
    check_refused(&["labels.txt"], "holds no version folder");
    check_refused(&["1/other.onnx"], "1/model.onnx does not exist");
    let many: Vec<String> = (0..=MAX_FILES).map(|idx| format!("1/{idx}")).collect();
    check_refused(&many.iter().map(String::as_str).collect::<Vec<_>>(), "at most 256 files");
}

#[test]
fn a_model_lies_in_a_private_folder_that_goes_with_its_last_version() {
    let root = tempfile::tempdir().unwrap();
    let uploads = Uploads::open(root.path()).unwrap();
    let entry = uploads.read(&name(), &sent(&["1/model.onnx", "2/model.onnx", "labels.txt"])).unwrap();
    let specs = entry.versions.unwrap();
    let spec = specs.last().unwrap().clone();
    assert_eq!((specs.len(), spec.version), (1, 2), "the policy of the configuration holds");
    let artifact = spec.artifact.clone();
    assert_eq!(fs::read(&artifact).unwrap(), b"graph");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&artifact), 0o600);
    for folder in folders(root.path()) {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    drop(specs);
    assert!(artifact.exists());
    drop(spec);
    assert!(!artifact.exists());
    assert_eq!(folders(root.path()).len(), 1);
}

#[test]
fn the_same_files_sent_again_are_another_version_to_load() {
    let root = tempfile::tempdir().unwrap();
    let uploads = Uploads::open(root.path()).unwrap();
    let print = |config: &str| {
        let sent = LoadOverride { config: config.to_owned(), ..sent(&["1/model.onnx"]) };
        uploads.read(&name(), &sent).unwrap().versions.unwrap()[0].fingerprint
    };
    assert_ne!(print("{}"), print("{}"));
    assert_ne!(print("{}"), print(r#"{"max_batch_size": 1}"#));
}

#[test]
fn there_is_a_bound_on_what_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let uploads = Uploads::open(root.path()).unwrap();
    let mut kept: Vec<_> = (0..MAX_MODELS).map(|_| uploads.read(&name(), &sent(&["1/model.onnx"])).unwrap()).collect();
    let error = uploads.read(&name(), &sent(&["1/model.onnx"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    kept.pop();
    uploads.read(&name(), &sent(&["1/model.onnx"])).unwrap();
    let room = Arc::new(Room::default());
    let _held = Claim::new(&room, MAX_BYTES).unwrap();
    assert_eq!(Claim::new(&room, 1).err().map(|error| error.kind()), Some(ErrorKind::Full));
}

#[test]
fn what_a_server_left_behind_goes_and_what_another_one_holds_stays() {
    let root = tempfile::tempdir().unwrap();
    let running = Uploads::open(root.path()).unwrap();
    let held = running.read(&name(), &sent(&["1/model.onnx"])).unwrap();
    let left = root.path().join("server-gone/model-x/1");
    fs::create_dir_all(&left).unwrap();
    fs::write(root.path().join("server-gone").join(LOCK), "").unwrap();
    fs::create_dir_all(root.path().join("mine")).unwrap();
    std::os::unix::fs::symlink("/", root.path().join("server-link")).unwrap();
    let second = Uploads::open(root.path()).unwrap();
    assert!(!left.exists());
    assert!(held.versions.unwrap()[0].artifact.exists());
    assert!(root.path().join("mine").exists() && Path::new("/etc").exists());
    fs::create_dir_all(&left).unwrap();
    Uploads::clear(root.path()).unwrap();
    assert!(!left.exists());
    let own = (running.folder.path().to_owned(), second.folder.path().to_owned());
    assert!(own.0.exists() && own.1.exists());
    drop((running, second));
    assert!(!own.0.exists() && !own.1.exists());
}
