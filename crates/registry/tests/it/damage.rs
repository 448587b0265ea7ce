//! Bytes that are not those registered never reach anybody as if they were.
//!
//! `SALVER_REGISTRY_BITS` sets how many bits are flipped, one at a time.

use std::fs;

use salver_core::{Error, ErrorKind};
use salver_store::Digest;

use crate::dice::{Dice, times};
use crate::place::{ANN, Place, of_run, path_of, put, read};

contract!(damaged_files_are_refused);

async fn damaged_files_are_refused(place: Place) {
    let registry = &place.registry;
    let run = place.run().await;
    let mut dice = Dice::new(15);
    // Several pieces of a stream, the last one short.
    let bytes: Vec<u8> = (0..300_001).map(|_| dice.below(256) as u8).collect();
    let path = path_of(&run, "model/net.onnx");
    put(registry, &path, bytes.clone()).await.unwrap();
    put(registry, &path_of(&run, "model/other"), bytes[..bytes.len() - 1].to_vec()).await.unwrap();
    registry.create_model(ANN, "iris", "", &[]).await.unwrap();
    registry.create_version(ANN, of_run("iris", &run, "model")).await.unwrap();
    let files = registry.version_files("iris", 1).await.unwrap();
    let digest = files[0].digest.clone();
    let (file, other) = (place.blob_file(&digest), place.blob_file(&files[1].digest));
    assert!(fs::read(&file).unwrap() == bytes);

    for _ in 0..times("SALVER_REGISTRY_BITS", 200) {
        let mut damaged = bytes.clone();
        let bit = dice.below(8 * bytes.len());
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &damaged).unwrap();
        refused(&place, &path, &digest, &format!("bit {bit}")).await;
    }
    for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..len]).unwrap();
        refused(&place, &path, &digest, &format!("{len} bytes")).await;
    }
    fs::write(&file, [&bytes[..], b"\0"].concat()).unwrap();
    refused(&place, &path, &digest, "one more byte").await;
    let second = fs::read(&other).unwrap();
    fs::write(&file, &second).unwrap();
    fs::write(&other, &bytes).unwrap();
    refused(&place, &path, &digest, "two files in each other's place").await;
    refused(&place, &path_of(&run, "model/other"), &files[1].digest, "the other of them").await;

    // The right bytes, put once more, heal it.
    put(registry, &path, bytes.clone()).await.unwrap();
    assert!(read(registry, &path).await.unwrap() == bytes);
    fs::remove_file(&file).unwrap();
    let gone = read(registry, &path).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.message().contains(&digest), "{gone}");
}

async fn refused(place: &Place, path: &str, digest: &str, why: &str) {
    let fits = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Engine, "{why}: {error}");
        assert!(error.message().contains(digest), "{why}: {error}");
    };
    fits(read(&place.registry, path).await.expect_err(why));
    let name: Digest = digest.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fits(place.blobs().fetch(&name, &folder.path().join("copy")).await.expect_err(why));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{why}: a copy stays");
}
