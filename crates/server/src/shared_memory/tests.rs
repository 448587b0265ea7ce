//! What a key may lead to, what a window may reach, and what an owner can do meanwhile.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct Setup {
    folder: TempDir,
    regions: Regions,
}

/// A folder with the object `object` of 64 bytes, and all that is no object.
fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shm")).unwrap();
    fs::write(folder.path().join("outside"), [9; 64]).unwrap();
    let shm = folder.path().join("shm");
    fs::write(shm.join("object"), (0..64).collect::<Vec<u8>>()).unwrap();
    fs::create_dir(shm.join("folder")).unwrap();
    fs::write(shm.join("folder/inside"), [9; 64]).unwrap();
    symlink("object", shm.join("link")).unwrap();
    symlink("../outside", shm.join("leaving")).unwrap();
    fs::write(shm.join("triton_python_backend_shm_region_1"), [9; 64]).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, shm.join("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let regions = Regions::in_folder(&shm).unwrap();
    Setup { folder, regions }
}

impl Setup {
    fn register(&self, name: &str, key: &str, offset: u64, byte_size: u64) -> Result<()> {
        self.regions.register(Region { name: name.to_owned(), key: key.to_owned(), offset, byte_size })
    }

    #[track_caller]
    fn refused(&self, key: &str, offset: u64, byte_size: u64, fragment: &str) {
        let error = self.register("r", key, offset, byte_size).expect_err(key);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{key}: {error:?}");
        assert!(error.message().contains(fragment), "{key}: {fragment:?} is not in {:?}", error.message());
        assert!(error.message().contains("shared memory region 'r'"), "{error:?}");
        let folder = self.folder.path().to_str().unwrap();
        assert!(!error.message().contains(folder), "{error:?}");
        assert!(self.regions.status(None).unwrap().is_empty());
    }

    fn view(&self, region: &str, offset: u64, byte_size: u64) -> Result<View> {
        self.regions.view(&Window::new(region, offset, byte_size)?)
    }

    fn object(&self) -> File {
        File::options().write(true).read(true).open(self.folder.path().join("shm/object")).unwrap()
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("shm/object")).unwrap()
    }
}

#[test]
fn a_key_names_a_file_right_in_the_folder() {
    let setup = setup();
    for key in ["object", "/object", "///object"] {
        setup.register("r", key, 0, 64).unwrap();
        assert_eq!(setup.regions.status(Some("r")).unwrap()[0].key, key);
        setup.regions.unregister(Some("r"));
    }
    for key in ["", "/", "//", ".", "..", "/..", "../outside", "folder/inside", "/folder/inside", "./object", "a\0b"] {
        setup.refused(key, 0, 64, "is not the name of a shared memory object");
    }
    for key in ["link", "leaving", "/leaving", "folder", "absent"] {
        setup.refused(key, 0, 64, "unable to open the shared memory object");
    }
    setup.refused("pipe", 0, 64, "is no shared memory object");
    setup.refused(&"k".repeat(256), 0, 64, "longer than 255 bytes");
    for key in ["", "/", "///"].map(|slashes| format!("{slashes}triton_python_backend_shm_region_1")) {
        setup.refused(&key, 0, 64, "contains the reserved prefix 'triton_python_backend_shm_region_'");
    }
}

#[test]
fn a_region_is_within_its_object() {
    let setup = setup();
    for (offset, size) in [
        (0, 65),
        (1, 64),
        (64, 1),
        (65, 0),
        (0, 0),
        (32, u64::MAX - 31),
        (u64::MAX, 1),
        (0, 1 << 63),
        (u64::MAX, u64::MAX),
    ] {
        setup.refused("object", offset, size, "failed to register shared memory region 'r': invalid args");
    }
    for (name, offset, size) in [("all", 0, 64), ("last", 63, 1), ("middle", 8, 8)] {
        setup.register(name, "object", offset, size).unwrap();
    }
    assert_eq!(&setup.view("middle", 2, 3).unwrap().read().unwrap()[..], [10, 11, 12]);
    assert!(setup.view("middle", 0, 9).is_err() && setup.view("middle", 8, 1).is_err());
}

#[test]
fn names_are_given_once_and_taken_back() {
    let setup = setup();
    setup.register("a", "object", 0, 64).unwrap();
    let error = setup.register("a", "absent", 0, 64).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "shared memory region 'a' already in manager"));
    setup.register("b", "object", 0, 64).unwrap();
    let names = || setup.regions.status(None).unwrap().into_iter().map(|region| region.name).collect::<Vec<_>>();
    assert_eq!(names(), ["a", "b"]);
    setup.regions.unregister(Some("nobody"));
    setup.regions.unregister(Some("a"));
    assert_eq!(names(), ["b"]);
    let error = setup.regions.status(Some("a")).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::NotFound, "Unable to find system shared memory region: 'a'")
    );
    assert_eq!(setup.view("a", 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    setup.register("c", "object", 0, 64).unwrap();
    setup.regions.unregister(None);
    assert!(names().is_empty());
}

#[test]
fn there_is_an_end_to_regions() {
    let setup = setup();
    for number in 0..setup.regions.most {
        setup.register(&number.to_string(), "object", 0, 64).unwrap();
    }
    let error = setup.register("more", "object", 0, 64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    setup.regions.unregister(Some("0"));
    setup.register("more", "object", 0, 64).unwrap();
}

#[test]
fn who_has_a_region_keeps_it() {
    let setup = setup();
    setup.register("r", "object", 0, 64).unwrap();
    let view = setup.view("r", 4, 4).unwrap();
    setup.regions.unregister(None);
    // The name is free at once, for another part too.
    setup.register("r", "object", 32, 8).unwrap();
    fs::remove_file(setup.folder.path().join("shm/object")).unwrap();
    assert_eq!(&view.read().unwrap()[..], [4, 5, 6, 7]);
    view.write(&[1, 2, 3, 4]).unwrap();
    assert_eq!(&setup.view("r", 0, 1).unwrap().read().unwrap()[..], [32]);
}

#[test]
fn what_was_truncated_is_neither_read_nor_made_longer() {
    let setup = setup();
    setup.register("r", "object", 0, 64).unwrap();
    let (all, begin) = (setup.view("r", 0, 64).unwrap(), setup.view("r", 0, 8).unwrap());
    setup.object().set_len(63).unwrap();
    for error in [all.read().unwrap_err(), all.write(&[0; 64]).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.message(), "shared memory region 'r' was truncated since it was registered");
    }
    assert_eq!(setup.content().len(), 63);
    assert_eq!(begin.read().unwrap().len(), 8);
    setup.object().set_len(0).unwrap();
    assert!(begin.read().is_err() && begin.write(&[0]).is_err());
    assert!(setup.content().is_empty());
    assert!(begin.write(&[]).is_ok());
}

#[test]
fn writing_stays_in_the_window() {
    let setup = setup();
    setup.register("r", "object", 8, 32).unwrap();
    let view = setup.view("r", 8, 4).unwrap();
    assert!(view.write(&[0; 5]).is_err());
    view.write(&[7; 3]).unwrap();
    let mut expected: Vec<u8> = (0..64).collect();
    expected[16..19].fill(7);
    assert_eq!(setup.content(), expected);
    assert_eq!(&view.read().unwrap()[..], [7, 7, 7, 19]);
}

#[test]
fn what_is_read_does_not_change_any_more() {
    let setup = setup();
    setup.register("r", "object", 0, 64).unwrap();
    let copied = setup.view("r", 0, 4).unwrap().read().unwrap();
    fs::write(setup.folder.path().join("shm/object"), [9; 64]).unwrap();
    assert_eq!(&copied[..], [0, 1, 2, 3]);
}
