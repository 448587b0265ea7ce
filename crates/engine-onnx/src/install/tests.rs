use super::*;

#[test]
fn the_command_for_people_is_the_one_that_runs() {
    let text = instructions(Some(Path::new("/c")));
    assert!(text.contains("pip download --no-deps --only-binary=:all: --platform manylinux_2_28_"), "{text}");
    assert!(text.contains("--python-version 3.11 onnxruntime==1.31.1 -d ."), "{text}");
    assert!(text.contains("/c/onnxruntime-1.31.1/libonnxruntime.so.1.31.1"), "{text}");
}

#[test]
fn another_package_file_is_refused_and_nothing_is_left_behind() {
    let cache = tempfile::tempdir().unwrap();
    let package = cache.path().join("other.whl");
    fs::write(&package, "not the package").unwrap();
    let error = install(cache.path(), Some(&package)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("expected the cp311 manylinux_2_28_"), "{error}");
    assert!(is_complete(&cached_library(cache.path())).is_err());
    assert!(!cache.path().join("onnxruntime-1.31.1/.fetching").exists());

    let missing = install(cache.path(), Some(Path::new("/no/such.whl"))).unwrap_err();
    assert!(missing.message().contains("/no/such.whl"), "{missing}");
}

#[test]
fn a_file_is_written_whole_and_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let (sha256, length) = write_synced(&folder.path().join("f"), b"abc".as_slice()).unwrap();
    assert_eq!(length, 3);
    assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(sha256_of(File::open(folder.path().join("f")).unwrap()).unwrap(), sha256);
}

#[test]
fn a_package_that_is_no_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("p.whl");
    fs::write(&package, "PK nonsense").unwrap();
    let error = extract(&package, folder.path(), &folder.path().join("library")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn damage_shows() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so.1.31.1");
    let (sha256, length) = write_synced(&library, b"abc".as_slice()).unwrap();
    fs::write(marker_of(&library), format!("{sha256} {length}\n")).unwrap();
    assert_eq!(is_intact(&library), Ok(()));
    fs::write(&library, b"abd").unwrap();
    assert_eq!(is_complete(&library), Ok(()));
    assert!(is_intact(&library).unwrap_err().contains("damaged"));
}
