//! Two names for the same files.

use bytes::Bytes;

use super::*;

#[tokio::test]
async fn files_that_two_names_share_are_fetched_once() {
    let place = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(place.path().join("blobs").to_str().unwrap()).unwrap();
    let bytes = futures::stream::iter([Ok::<_, Error>(Bytes::from("weights"))]);
    let stored = blobs.put(bytes).await.unwrap();
    let file = FileInfo { path: "model.onnx".to_owned(), digest: stored.digest.to_string(), size: 7 };
    let wanted = Arc::new(Wanted::new(&stored.digest.to_string(), &[file]).unwrap());
    let folders = Arc::new(Folders::open(&place.path().join("models")).unwrap());
    let [first, second] = ["iris", "iris-next"].map(|name| ModelName::new(name).unwrap());
    let brought = tokio::join!(folders.bring(&blobs, &wanted, &first, 1), folders.bring(&blobs, &wanted, &second, 1));
    assert_eq!((brought.0.unwrap(), brought.1.unwrap()), (Brought::Now, Brought::Before));
    folders.keep([wanted.digest.clone()].into()).await;
    assert!(folders.turns.lock().is_empty() && wanted.are_in(&folders.root.join(&wanted.digest)));
}
