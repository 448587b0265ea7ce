use std::fs;

use super::*;

fn places(folder: &Path) -> Places {
    Places {
        named: None,
        beside_program: Some(folder.join("lib")),
        cache: Some(folder.join("cache")),
        python: "salver-no-such-python",
    }
}

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "library").unwrap();
}

#[test]
fn versions_are_read_from_file_names() {
    let version = |name| Version::of_file(name).map(|version| version.map(|version| version.to_string()));
    assert_eq!(version("libonnxruntime.so.1.31.1"), Some(Some("1.31.1".to_owned())));
    assert_eq!(version("libonnxruntime.1.32.0.dylib"), Some(Some("1.32.0".to_owned())));
    assert_eq!(version("libonnxruntime.so.1"), Some(Some("1.0.0".to_owned())));
    assert_eq!(version("libonnxruntime.so"), Some(None));
    for other in ["libonnxruntime_providers_shared.so", "libonnxruntime.so.x", "libonnxruntime.so.1.31.1.tmp", "a"] {
        assert_eq!(version(other), None, "{other}");
    }
}

#[test]
fn the_newest_library_of_a_folder_is_taken_and_an_old_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let look = || places.look(Place::BesideProgram).found;
    assert_eq!(look().unwrap_err(), "no such folder");
    touch(&folder.path().join("lib/libonnxruntime_providers_shared.so"));
    assert_eq!(look().unwrap_err(), "no library there");
    touch(&folder.path().join("lib/libonnxruntime.so.1.9.0"));
    assert!(look().unwrap_err().contains("1.9.0 is too old"), "{look:?}", look = look());
    touch(&folder.path().join("lib/libonnxruntime.so.1.31.2"));
    touch(&folder.path().join("lib/libonnxruntime.so.1.32.0"));
    let found = look().unwrap();
    assert_eq!((found.version.as_deref(), found.path.is_file()), (Some("1.32.0"), true));
}

#[test]
fn a_named_path_is_the_only_place_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut places = places(folder.path());
    assert_eq!(places.order(), [Place::BesideProgram, Place::Cache, Place::Python]);
    places.named = Some(folder.path().join("mine.so"));
    assert_eq!(places.order(), [Place::Named]);
    assert_eq!(places.look(Place::Named).found.unwrap_err(), "no such file");
    touch(&folder.path().join("mine.so"));
    assert_eq!(places.look(Place::Named).found.unwrap().version, None);
}

#[test]
fn a_cached_library_counts_only_with_its_marker() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let look = || places.look(Place::Cache).found;
    assert_eq!(look().unwrap_err(), "not there");
    let library = folder.path().join("cache/onnxruntime-1.31.1/libonnxruntime.so.1.31.1");
    touch(&library);
    assert!(look().unwrap_err().contains("marker is missing"));
    let marker = library.with_file_name("libonnxruntime.so.1.31.1.sha256");
    fs::write(&marker, "00 8\n").unwrap();
    assert!(look().unwrap_err().contains("length"));
    fs::write(&marker, "00 7\n").unwrap();
    assert_eq!(look().unwrap().path, library);
}

#[test]
fn python_without_the_package_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let found = places(folder.path()).look(Place::Python).found;
    assert!(found.unwrap_err().starts_with("start `salver-no-such-python`"));
}

#[test]
fn the_probe_of_python_names_an_absolute_folder_or_nothing() {
    let folder = |printed| package_libraries(printed);
    let expected = Path::new("/v/site-packages/onnxruntime/capi");
    assert_eq!(folder("/v/site-packages/onnxruntime/__init__.py\n").as_deref(), Some(expected));
    for nothing in ["", "\n", "None\n", "onnxruntime/__init__.py\n", "/"] {
        assert_eq!(folder(nothing), None, "{nothing:?}");
    }
}
