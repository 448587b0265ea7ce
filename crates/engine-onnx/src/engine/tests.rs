//! Without a library: nothing here may load one, since that holds for the whole process.

use salver_core::ErrorKind;

use super::*;

fn engine(named: Option<PathBuf>, folder: &Path) -> OnnxEngine {
    let (beside_program, cache) = (Some(folder.join("lib")), Some(folder.join("cache")));
    let places = Places { named, beside_program, cache, python: "salver-no-such-python" };
    OnnxEngine { places, fetch: Fetch::Never, fetch_error: Mutex::new(None), is_missing: AtomicBool::new(false) }
}

#[test]
fn where_it_looked_and_what_to_do_are_in_the_message() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(None, folder.path());
    let error = engine.find_and_load().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for part in
        ["1.31 or newer", "lib: no such folder", "1.31.1: not there", "no-such-python", "pip download", "--from FILE"]
    {
        assert!(error.message().contains(part), "{part} is not in: {error}");
    }
    assert!(engine.status().chosen.is_none());
}

#[test]
fn a_named_file_that_is_no_library_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libonnxruntime.so.1.31.1");
    std::fs::write(&file, "text").unwrap();
    let error = engine(Some(file.clone()), folder.path()).find_and_load().err().unwrap();
    assert!(error.message().contains("named by --ort-lib or ORT_DYLIB_PATH"), "{error}");
    assert!(error.message().contains(&file.display().to_string()), "{error}");
    assert!(!error.message().contains("Python package"), "{error}");
}

#[test]
fn a_failed_fetch_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = engine(None, folder.path());
    engine.fetch = Fetch::Allowed;
    *engine.fetch_error.lock() = Some(Error::engine("no network here"));
    let error = engine.find_and_load().err().unwrap();
    assert!(error.message().contains("no network here"), "{error}");
    assert!(!folder.path().join("cache").exists());
}

#[test]
fn status_reads_the_cached_library_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(None, folder.path());
    let library = install::cached_library(&folder.path().join("cache"));
    std::fs::create_dir_all(library.parent().unwrap()).unwrap();
    std::fs::write(&library, "abd").unwrap();
    std::fs::write(library.with_file_name("libonnxruntime.so.1.31.1.sha256"), "ba7816bf 3\n").unwrap();
    let status = engine.status();
    let cache = status.places.iter().find(|place| place.place == Place::Cache).unwrap();
    assert!(cache.found.as_ref().unwrap_err().contains("damaged"), "{status:?}");
    assert_eq!(status.chosen, None);
}
