//! Files: what a registered version is made of never changes.

use futures::TryStreamExt as _;
use salver_core::ErrorKind;
use salver_registry::Listed;
use salver_store::Digest;
use salver_store::database::sql;

use crate::consistency::check_consistency;
use crate::place::{ANN, Place, of_run, path_of, put, read};

contract!(
    files_of_a_version_never_change,
    a_digest_says_what_a_version_is_made_of,
    a_file_is_no_folder,
    folders_of_any_size_are_listed,
    a_file_and_its_version_agree_whoever_is_first,
);

async fn files_of_a_version_never_change(place: Place) {
    let registry = &place.registry;
    let run = place.run().await;
    let model = path_of(&run, "model/deep/net.onnx");
    put(registry, &model, "one").await.unwrap();
    put(registry, &path_of(&run, "model2/net.onnx"), "other").await.unwrap();
    put(registry, &model, "two").await.unwrap();
    registry.create_model(ANN, "iris", "", &[]).await.unwrap();
    let version = registry.create_version(ANN, of_run("iris", &run, "model")).await.unwrap();
    let files = registry.version_files("iris", 1).await.unwrap();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert_eq!((file.path.as_str(), file.size), ("deep/net.onnx", 3));
    assert_eq!(file.digest, Digest::of(b"two").to_string());
    assert_eq!(version.size, Some(3));

    let refused = put(registry, &model, "three").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains("version 1 of registered model 'iris'"), "{refused}");
    assert_eq!(put(registry, &model, "two").await.unwrap().digest, file.digest);
    // Nor may the folder become a file, be deleted, or any folder around it.
    let folder = put(registry, &path_of(&run, "model"), "three").await.unwrap_err();
    assert_eq!(folder.kind(), ErrorKind::InvalidInput);
    for path in ["model/deep/net.onnx", "model/deep", "model", ""] {
        let path = path_of(&run, path);
        let refused = registry.delete_files(path.trim_end_matches('/')).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{path}");
    }
    assert_eq!(registry.delete_files("0").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(read(registry, &model).await.unwrap(), b"two");

    // A neighbour whose name begins the same is another folder.
    put(registry, &path_of(&run, "model2/net.onnx"), "changed").await.unwrap();
    registry.delete_files(&path_of(&run, "model2")).await.unwrap();
    // What comes later is not part of the version.
    put(registry, &path_of(&run, "model/notes.txt"), "later").await.unwrap();
    assert_eq!(registry.version_files("iris", 1).await.unwrap(), files);
    assert_eq!(registry.version("iris", 1).await.unwrap().digest, version.digest);
    // The files are free once the version is gone.
    registry.delete_version(ANN, "iris", 1).await.unwrap();
    put(registry, &model, "three").await.unwrap();
    registry.delete_files(&path_of(&run, "model")).await.unwrap();
    assert_eq!(registry.file(&model).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn a_digest_says_what_a_version_is_made_of(place: Place) {
    let registry = &place.registry;
    registry.create_model(ANN, "iris", "", &[]).await.unwrap();
    let digest = async |files: &[(&str, &str)]| {
        let run = place.run().await;
        for (path, bytes) in files {
            put(registry, &path_of(&run, &format!("wäre/{path}")), bytes.to_string()).await.unwrap();
        }
        registry.create_version(ANN, of_run("iris", &run, "wäre")).await.unwrap().digest
    };
    let one = digest(&[("a", "1"), ("b/c", "2")]).await;
    assert!(one.is_some());
    assert_eq!(digest(&[("b/c", "2"), ("a", "1")]).await, one);
    for other in [
        &[("a", "1"), ("b/c", "3")][..],
        &[("a", "1"), ("b/d", "2")],
        &[("a", "2"), ("b/c", "1")],
        &[("a", "1")],
        &[("a", "1"), ("b/c", "2"), ("d", "")],
    ] {
        assert_ne!(digest(other).await, one, "{other:?}");
    }
    assert_eq!(digest(&[]).await, None);
    check_consistency(&place.database().await, &place.blobs()).await;
}

async fn a_file_is_no_folder(place: Place) {
    let registry = &place.registry;
    put(registry, "0/a/b", "x").await.unwrap();
    for path in ["0/a", "0/a/b/c", "0/a/../b", "/0/a/c", "0//b"] {
        let refused = put(registry, path, "y").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{path}");
    }
    assert_eq!(registry.file("0/a").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let part = registry.file("0/a/b").await.unwrap();
    put(registry, "0/a/b", "0123456789").await.unwrap();
    let whole = registry.file("0/a/b").await.unwrap();
    let range: Vec<_> = registry.read_file(&whole, Some(2..5)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(range.concat(), b"234");
    // Who began to read before still reads what was there.
    let before: Vec<_> = registry.read_file(&part, None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(before.concat(), b"x");
}

async fn folders_of_any_size_are_listed(place: Place) {
    let file = |path: &str| Listed { path: path.to_owned(), is_dir: false, file_size: Some(1) };
    let folder = |path: &str| Listed { path: path.to_owned(), is_dir: true, file_size: None };
    put(&place.registry, "big/aaa", "x").await.unwrap();
    let mut session = place.database().await.write().await.unwrap();
    let many = |prefix: &'static str, first: i64, count: i64| {
        sql("WITH RECURSIVE n(n) AS (SELECT CAST(? AS BIGINT) UNION ALL SELECT n + 1 FROM n WHERE n < ?) \
             INSERT INTO artifacts SELECT ? || CAST(n AS TEXT), 'd', 1, 0 FROM n")
        .bind(first)
        .bind(first + count - 1)
        .bind(prefix)
    };
    session.execute(many("big/f", 10_000, 2_500)).await.unwrap();
    session.execute(many("big/g/", 10_000, 2_500)).await.unwrap();
    session.execute(many("big/h/", 10_000, 2)).await.unwrap();
    session.execute(many("bigger", 1, 1)).await.unwrap();
    session.commit().await.unwrap();

    let mut expected = vec![file("aaa")];
    expected.extend((10_000..12_500).map(|number| file(&format!("f{number}"))));
    expected.extend([folder("g"), folder("h")]);
    assert!(place.registry.list_files(Some("big")).await.unwrap() == expected);
    assert_eq!(place.registry.list_files(Some("big/h/")).await.unwrap(), [file("10000"), file("10001")]);
    assert_eq!(place.registry.list_files(Some("big/aaa")).await.unwrap(), []);
    assert_eq!(place.registry.list_files(None).await.unwrap(), [folder("big"), file("bigger1")]);
}

/// Of a version and a change of its files at the same moment, the second sees the first.
async fn a_file_and_its_version_agree_whoever_is_first(place: Place) {
    let (registry, other) = (place.registry.clone(), place.open_again().await.unwrap());
    registry.create_model(ANN, "iris", "", &[]).await.unwrap();
    for round in 0..60 {
        let run = place.run().await;
        let path = path_of(&run, "model/net.onnx");
        put(&registry, &path, "one").await.unwrap();
        let changing = {
            let (other, folder) = (other.clone(), path_of(&run, "model"));
            tokio::spawn(async move {
                match round % 2 {
                    0 => put(&other, &path, "two").await.map(drop),
                    _ => other.delete_files(&folder).await,
                }
            })
        };
        let version = registry.create_version(ANN, of_run("iris", &run, "model")).await.unwrap();
        match changing.await.unwrap() {
            Ok(()) if round % 2 == 0 => {
                // Either the change was first, or nothing was changed.
                let files = registry.version_files("iris", version.version).await.unwrap();
                assert_eq!(files[0].digest, Digest::of(b"two").to_string(), "round {round}");
            }
            Ok(()) => assert_eq!(version.digest, None, "round {round}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "round {round}: {error}"),
        }
    }
    check_consistency(&place.database().await, &place.blobs()).await;
}
