//! The contract of blobs, over a folder and over an S3 that the test starts itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use salver_core::{Error, ErrorKind};
use salver_store::{BlobInfo, Blobs, Digest};
use salver_testkit::S3;
use tempfile::TempDir;

/// Bytes that look like chance and are the same each time.
fn noise(n_bytes: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).flatten().take(n_bytes).collect()
}

/// Pieces of odd lengths, the first of them empty.
fn pieces(bytes: &Bytes) -> Vec<Bytes> {
    let (mut rest, mut n_bytes, mut pieces) = (bytes.clone(), 0, Vec::new());
    while !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest.split_to(n_bytes.min(rest.len())));
        n_bytes = (n_bytes * 7 + 13) % 300_007;
    }
    pieces
}

async fn put(blobs: &Blobs, bytes: &Bytes) -> BlobInfo {
    blobs.put(stream::iter(pieces(bytes)).map(Ok::<_, Error>)).await.unwrap()
}

async fn get(blobs: &Blobs, digest: &Digest, range: Option<std::ops::Range<u64>>) -> Result<(u64, Bytes), Error> {
    let (size, bytes) = blobs.get(digest, range).await?;
    let pieces: Vec<Bytes> = bytes.try_collect().await?;
    Ok((size, pieces.concat().into()))
}

async fn listed(blobs: &Blobs) -> Vec<(Digest, u64)> {
    let mut found: Vec<_> = blobs.list().map_ok(|blob| (blob.digest, blob.size)).try_collect().await.unwrap();
    found.sort();
    found
}

/// When the one blob was written.
async fn written(blobs: &Blobs) -> SystemTime {
    blobs.list().try_next().await.unwrap().unwrap().written
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_in(&path)) } else { found.push(path) }
    }
    found
}

async fn contract(blobs: &Blobs) {
    what_was_put_comes_back(blobs).await;
    the_same_bytes_are_one_blob(blobs).await;
    a_stream_that_fails_leaves_nothing(blobs).await;
    ranges_are_parts_of_the_blob(blobs).await;
    what_is_deleted_is_gone(blobs).await;
}

async fn what_was_put_comes_back(blobs: &Blobs) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("copy");
    let mut expected = Vec::new();
    for n_bytes in [0, 1, 5 << 20, 8 << 20, 40 << 20] {
        let bytes = noise(n_bytes, 1);
        let info = BlobInfo { digest: Digest::of(&bytes), size: n_bytes as u64 };
        assert!(!blobs.exists(&info.digest).await.unwrap());
        assert_eq!(put(blobs, &bytes).await, info);
        assert!(blobs.exists(&info.digest).await.unwrap());
        assert!(get(blobs, &info.digest, None).await.unwrap() == (info.size, bytes.clone()), "{n_bytes}");
        blobs.fetch(&info.digest, &file).await.unwrap();
        assert!(fs::read(&file).unwrap() == bytes, "{n_bytes}");
        expected.push((info.digest, info.size));
    }
    expected.sort();
    assert_eq!(listed(blobs).await, expected);
    assert_eq!(files_in(folder.path()), [file]);
    assert_eq!(blobs.sweep_uploads(Duration::ZERO).await.unwrap(), 0);
    for (digest, _) in expected {
        blobs.delete(&digest).await.unwrap();
    }
}

async fn the_same_bytes_are_one_blob(blobs: &Blobs) {
    for n_bytes in [100, 20 << 20] {
        let bytes = noise(n_bytes, 2);
        let info = put(blobs, &bytes).await;
        let before = written(blobs).await;
        assert_eq!(put(blobs, &bytes).await, info);
        assert_eq!(blobs.put_bytes(bytes.clone()).await.unwrap(), info);
        assert_eq!(listed(blobs).await, [(info.digest, info.size)]);
        assert!(written(blobs).await >= before);
        assert!(get(blobs, &info.digest, None).await.unwrap().1 == bytes);
        blobs.delete(&info.digest).await.unwrap();
    }
}

async fn a_stream_that_fails_leaves_nothing(blobs: &Blobs) {
    for n_bytes in [100, 8 << 20, 20 << 20] {
        let good = pieces(&noise(n_bytes, 3)).into_iter().map(Ok);
        let broken = stream::iter(good.chain([Err(std::io::Error::other("cable"))]));
        let error = blobs.put(broken).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Cancelled, "the bytes of a blob ended early"));
        assert_eq!(listed(blobs).await, []);
        assert_eq!(blobs.sweep_uploads(Duration::ZERO).await.unwrap(), 0);
    }
    let limit = stream::iter([Err::<Bytes, _>(Error::too_large("body: expected at most 1 MiB"))]);
    assert_eq!(blobs.put(limit).await.unwrap_err().kind(), ErrorKind::TooLarge);
}

async fn ranges_are_parts_of_the_blob(blobs: &Blobs) {
    let bytes = noise(1_000_000, 4);
    let BlobInfo { digest, size } = put(blobs, &bytes).await;
    for (range, expected) in [
        (0..1, 0..1),
        (999_999..1_000_000, 999_999..1_000_000),
        (300_000..900_001, 300_000..900_001),
        (999_990..2_000_000, 999_990..1_000_000),
        (7..7, 7..7),
        (1_000_000..1_000_001, 0..0),
    ] {
        let (whole, part) = get(blobs, &digest, Some(range.clone())).await.unwrap();
        assert!(whole == size && part == bytes[expected], "{range:?}");
    }
    let error = get(blobs, &digest, Some(1_000_001..1_000_002)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("0..1000000"), "{error}");
    blobs.delete(&digest).await.unwrap();
}

async fn what_is_deleted_is_gone(blobs: &Blobs) {
    let (kept, deleted) = (put(blobs, &noise(10, 5)).await, put(blobs, &noise(10, 6)).await);
    blobs.delete(&deleted.digest).await.unwrap();
    blobs.delete(&deleted.digest).await.unwrap();
    assert!(!blobs.exists(&deleted.digest).await.unwrap());
    assert_eq!(listed(blobs).await, [(kept.digest, kept.size)]);
    let folder = TempDir::new().unwrap();
    let errors = [
        get(blobs, &deleted.digest, None).await.unwrap_err(),
        get(blobs, &deleted.digest, Some(0..1)).await.unwrap_err(),
        blobs.fetch(&deleted.digest, &folder.path().join("copy")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, &*format!("no blob {}", deleted.digest)));
    }
    assert!(files_in(folder.path()).is_empty());
    blobs.delete(&kept.digest).await.unwrap();
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("a store/of blobs");
    contract(&Blobs::open(place.to_str().unwrap()).unwrap()).await;
    assert!(files_in(&place).is_empty());
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let Some(s3) = S3::shared() else { return };
    let bucket = s3.bucket();
    for prefix in ["", "/team=a/models/"] {
        contract(&Blobs::open_with(&format!("{bucket}{prefix}"), s3.environment()).unwrap()).await;
    }
}

#[tokio::test]
async fn both_spellings_of_a_folder_are_one_store() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("a b");
    let (path, url) = (place.to_str().unwrap().to_owned(), format!("file://{}/a%20b", folder.path().display()));
    let info = put(&Blobs::open(&path).unwrap(), &noise(10, 1)).await;
    assert_eq!(listed(&Blobs::open(&url).unwrap()).await, [(info.digest, info.size)]);
}

/// Returns a folder with a store of one blob, and the file in which that lies.
async fn folder_of_one(n_bytes: usize) -> (TempDir, Blobs, BlobInfo, PathBuf) {
    let folder = TempDir::new().unwrap();
    let blobs = Blobs::open(folder.path().to_str().unwrap()).unwrap();
    let info = put(&blobs, &noise(n_bytes, 1)).await;
    let name = info.digest.to_string();
    let file = folder.path().join("blobs/sha256").join(&name[..2]).join(name);
    assert_eq!(files_in(folder.path()), std::slice::from_ref(&file));
    (folder, blobs, info, file)
}

async fn check_damaged(blobs: &Blobs, expected: &Digest, found: &[u8]) {
    let target = TempDir::new().unwrap();
    let copy = target.path().join("copy");
    fs::write(&copy, "what was here before").unwrap();
    let errors = [get(blobs, expected, None).await.unwrap_err(), blobs.fetch(expected, &copy).await.unwrap_err()];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Engine);
        for digest in [*expected, Digest::of(found)] {
            assert!(error.message().contains(&digest.to_string()), "{error}");
        }
    }
    assert_eq!(files_in(target.path()), std::slice::from_ref(&copy));
    assert_eq!(fs::read(&copy).unwrap(), b"what was here before");
}

#[tokio::test]
async fn damaged_bytes_are_refused_until_they_are_put_again() {
    let (_folder, blobs, info, file) = folder_of_one(1_000_000).await;
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[777_777] ^= 0x10;
    let longer = [&good[..], b"x"].concat();
    for bad in [&flipped[..], &good[..999_999], &longer, b""] {
        fs::write(&file, bad).unwrap();
        check_damaged(&blobs, &info.digest, bad).await;
        put(&blobs, &good.clone().into()).await;
        assert!(get(&blobs, &info.digest, None).await.unwrap().1 == good);
    }
}

#[tokio::test]
async fn a_blob_that_is_put_again_is_young_again() {
    for n_bytes in [10, 10 << 20] {
        let (_folder, blobs, _, file) = folder_of_one(n_bytes).await;
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(written(&blobs).await, old);
        put(&blobs, &noise(n_bytes, 1)).await;
        assert!(written(&blobs).await.elapsed().unwrap() < Duration::from_secs(600));
    }
}

#[tokio::test]
async fn the_sweep_takes_what_crashes_left_in_a_folder() {
    let (folder, blobs, info, file) = folder_of_one(10).await;
    fs::create_dir_all(folder.path().join("uploads")).unwrap();
    for left in [folder.path().join("uploads/one"), folder.path().join("uploads/two#1"), file.with_extension("#1")] {
        fs::write(left, "12345").unwrap();
    }
    fs::write(file.with_file_name("note.txt"), "not ours").unwrap();
    assert_eq!(blobs.sweep_uploads(Duration::from_secs(600)).await.unwrap(), 0);
    assert_eq!(blobs.sweep_uploads(Duration::ZERO).await.unwrap(), 15);
    assert_eq!(listed(&blobs).await, [(info.digest, info.size)]);
    assert_eq!(files_in(folder.path()).len(), 2);
}

#[tokio::test]
async fn no_error_repeats_a_secret() {
    let environment = |endpoint: &str| {
        let pairs = [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "the-key"),
            ("AWS_SECRET_ACCESS_KEY", S3::SECRET),
            ("AWS_SESSION_TOKEN", S3::SECRET),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    // Nobody listens on the discard port.
    let blobs = Blobs::open_with("s3://bucket/models", environment("http://127.0.0.1:9")).unwrap();
    let error = blobs.put_bytes(Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.message().ends_with("the blob store s3://bucket/models does not work"), "{error}");
    assert!(!format!("{error:?} {blobs:?}").contains(S3::SECRET), "{error:?}");
    for url in [
        format!("s3://key:{}@bucket", S3::SECRET),
        format!("s3://bucket/../{}", S3::SECRET),
        format!("s3://bucket/%2e%2e/{}", S3::SECRET),
        format!("s3://bucket/a?X-Amz-Signature={}", S3::SECRET),
        format!("s3:///{}", S3::SECRET),
        format!("gs://{}", S3::SECRET),
        format!("file://{}/x", S3::SECRET),
        String::new(),
    ] {
        let error = Blobs::open_with(&url, environment("http://127.0.0.1:9")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
        assert!(!format!("{error:?}").contains(S3::SECRET), "{error:?}");
    }
}
