//! Names that stay inside, versions, bounded reading, fingerprints.

use std::fs;

use super::*;

#[test]
fn only_plain_names_go_down() {
    for name in ["model.onnx", "a/b.txt", "…", "./x"] {
        assert!(is_plain(name), "{name}");
    }
    for name in ["", ".", "..", "../x", "a/../b", "/etc/passwd", "./../x", "./", "a\\b", "C:x", "a\0"] {
        assert!(!is_plain(name), "{name:?}");
    }
}

#[test]
fn versions_are_read_as_each_layout_writes_them() {
    for (name, plain, padded) in [
        ("1", Some(1), Some(1)),
        ("0012", None, Some(12)),
        ("0", None, None),
        ("+1", None, None),
        ("-1", None, None),
        ("1a", None, None),
        ("", None, None),
        ("9223372036854775807", Some(i64::MAX as u64), Some(i64::MAX as u64)),
        ("9223372036854775808", None, None),
        ("٣", None, None),
    ] {
        assert_eq!(version_number(name, Numbering::Plain), plain, "{name:?}");
        assert_eq!(version_number(name, Numbering::Padded), padded, "{name:?}");
    }
}

#[test]
fn the_same_version_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["1", "01", "2", "x"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("3"), "a file is no version").unwrap();
    let plain: Vec<u64> = versions(folder.path(), Numbering::Plain).unwrap().into_iter().map(|found| found.0).collect();
    assert_eq!(plain, [1, 2]);
    let error = versions(folder.path(), Numbering::Padded).expect_err("1 and 01");
    assert!(error.message().ends_with("are the same version; remove one"), "{error}");
}

#[test]
fn text_is_read_up_to_its_limit_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, "12345").unwrap();
    assert_eq!(read_text(&path, 5).unwrap(), "12345");
    assert_eq!(read_text(&path, 4).unwrap_err().kind(), salver_core::ErrorKind::TooLarge);
    fs::write(&path, b"\xff").unwrap();
    assert!(read_text(&path, 5).unwrap_err().message().ends_with("is not UTF-8 text"));
    assert!(read_text(folder.path(), 5).unwrap_err().message().contains("not a regular file"));
    assert_eq!(read_text(&folder.path().join("y"), 5).unwrap_err().kind(), salver_core::ErrorKind::NotFound);
}

#[test]
fn labels_are_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    fs::write(&path, "cat\r\ndog \n\nbird").unwrap();
    assert_eq!(read_labels(&path).unwrap(), ["cat", "dog", "", "bird"]);
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_and_one_within_is_not() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("m");
    fs::create_dir(&folder).unwrap();
    fs::write(outer.path().join("secret"), "x").unwrap();
    fs::write(folder.join("real"), "x").unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("out")).unwrap();
    std::os::unix::fs::symlink("real", folder.join("in")).unwrap();
    assert!(inside(&folder, "in").is_ok());
    assert!(inside(&folder, "out").unwrap_err().message().starts_with("'out' must be a path inside the folder"));
    assert!(inside(&folder, "../secret").unwrap_err().message().starts_with("'../secret' must be"));
    assert_eq!(inside(&folder, "none").unwrap_err().kind(), salver_core::ErrorKind::NotFound);
}

#[test]
fn a_fingerprint_changes_with_size_time_and_external_weights() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("model.onnx");
    let sum = || {
        let mut fingerprint = Fingerprint::default();
        fingerprint.add_artifact(&artifact);
        fingerprint.finish()
    };
    let mut seen = vec![sum()];
    fs::write(&artifact, "1").unwrap();
    seen.push(sum());
    fs::write(&artifact, "12").unwrap();
    seen.push(sum());
    let earlier = UNIX_EPOCH + std::time::Duration::from_secs(1);
    File::options().write(true).open(&artifact).unwrap().set_modified(earlier).unwrap();
    seen.push(sum());
    fs::write(folder.path().join("model.onnx.data"), "w").unwrap();
    seen.push(sum());
    assert_eq!(sum(), seen[4], "nothing changed");
    fs::write(folder.path().join("README"), "w").unwrap();
    assert_eq!(sum(), seen[4], "a file that has nothing to do with it");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 5, "each change shows");
}
