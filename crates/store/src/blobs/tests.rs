//! What the contract suite cannot reach: other limits than those of S3, and uploads that stop in
//! the middle.

use futures::TryStreamExt as _;
use salver_testkit::S3;

use super::*;

/// Three parts and a bit, each as short as S3 allows.
fn bytes() -> Bytes {
    (0..(16 << 20)).map(|idx: u32| (idx.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn in_a_bucket(s3: &S3) -> Blobs {
    let blobs = Blobs::open_with(&s3.bucket(), s3.environment()).unwrap();
    Blobs { part_bytes: 5 << 20, ..blobs }
}

/// Returns the keys of everything that lies in the store.
async fn keys(blobs: &Blobs) -> Vec<String> {
    blobs.backend.store().list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn what_is_too_large_to_copy_is_written_again() {
    let Some(s3) = S3::shared() else { return };
    let blobs = Blobs { copy_limit_bytes: 1 << 20, ..in_a_bucket(s3) };
    let info = blobs.put_bytes(bytes()).await.unwrap();
    assert_eq!(keys(&blobs).await, [blobs.backend.blob(&info.digest).to_string()]);
    let (size, found) = blobs.get(&info.digest, None).await.unwrap();
    let found: Vec<Bytes> = found.try_collect().await.unwrap();
    assert!(size == info.size && found.concat() == bytes());
}

#[tokio::test]
async fn the_sweep_aborts_what_a_bucket_holds_back() {
    let Some(s3) = S3::shared() else { return };
    let blobs = in_a_bucket(s3);
    let (to, first) = (blobs.backend.new_upload(), bytes().slice(..5 << 20));
    let mut upload = Upload::begin(&blobs.backend, &to).await.unwrap();
    let mut rest = Parts::new(stream::iter([Ok::<_, Error>(first.clone())]), 5 << 20);
    upload.send_all(first, &mut rest).await.unwrap();
    assert_eq!(keys(&blobs).await.len(), 1, "the note");
    assert_eq!(blobs.sweep_uploads(Duration::from_secs(600)).await.unwrap(), 0);
    assert_eq!(keys(&blobs).await.len(), 1, "too young");
    blobs.sweep_uploads(Duration::ZERO).await.unwrap();
    assert_eq!(keys(&blobs).await, [""; 0]);
    assert!(upload.complete().await.is_err(), "it was aborted");
    assert_eq!(keys(&blobs).await, [""; 0]);
}

#[tokio::test]
async fn a_put_that_is_dropped_leaves_nothing_in_a_folder() {
    let folder = tempfile::TempDir::new().unwrap();
    let blobs = Blobs::open(folder.path().to_str().unwrap()).unwrap();
    let blobs = Blobs { part_bytes: 10, ..blobs };
    let (tx, mut reads) = tokio::sync::mpsc::channel(1);
    let endless = stream::repeat(Bytes::from_static(b"01234")).then(move |piece| {
        let tx = tx.clone();
        async move { tx.send(()).await.map(|()| piece) }
    });
    let mut put = Box::pin(blobs.put(endless.boxed()));
    for _ in 0..9 {
        tokio::select! {
            _ = &mut put => panic!("the stream has no end"),
            read = reads.recv() => read.unwrap(),
        }
    }
    drop(put);
    // The file goes on another thread.
    while blobs.backend.store().list(None).try_next().await.unwrap().is_some()
        || std::fs::read_dir(folder.path().join("uploads")).unwrap().next().is_some()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(blobs.list().try_next().await.unwrap(), None);
}

#[test]
fn a_digest_has_one_spelling() {
    let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let digest: Digest = text.parse().unwrap();
    assert_eq!(digest, Digest::of(b""));
    assert_eq!(digest.to_string(), text);
    for bad in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('e', "g"), &"é".repeat(32)] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
    }
}
