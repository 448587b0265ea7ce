//! What a copy gets, what it survives, and that nothing else survives with it.

use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::thread;

use super::*;

const PAGE: u64 = 4096;
const PAGES: u64 = 16;

/// A file of [`PAGES`] pages, each full of its number, mapped from `offset` on.
fn mapped(offset: u64) -> (File, Mapping) {
    let file = tempfile::tempfile().unwrap();
    for page in 0..PAGES {
        file.write_all_at(&[u8::try_from(page).unwrap(); PAGE as usize], page * PAGE).unwrap();
    }
    let mapping = Mapping::new(&file, offset, PAGES * PAGE - offset).unwrap();
    (file, mapping)
}

#[test]
fn copies_are_of_the_file_and_end_with_the_mapping() {
    let (file, mapping) = mapped(PAGE + 1);
    assert_eq!(mapping.copy_out(PAGE - 2, 2).unwrap(), [1, 2]);
    assert_eq!(mapping.copy_in(0, &[7, 8]), Some(()));
    let mut found = [0; 4];
    file.read_exact_at(&mut found, PAGE).unwrap();
    assert_eq!(found, [1, 7, 8, 1]);
    let len = (PAGES - 1) * PAGE - 1;
    assert_eq!(mapping.copy_out(len - 1, 1).unwrap(), [15]);
    assert!(mapping.copy_out(len, 0).unwrap().is_empty());
    for (at, len) in [(len, 1), (len + 1, 0), (0, len as usize + 1), (u64::MAX, 1), (1, usize::MAX)] {
        assert_eq!(mapping.copy_out(at, len), None, "{at} {len}");
    }
    assert_eq!(mapping.copy_in(len - 1, &[0; 2]), None);
}

#[test]
fn a_file_that_was_shortened_ends_the_mapping_and_not_the_process() {
    let (file, mapping) = mapped(0);
    file.set_len(3 * PAGE).unwrap();
    assert_eq!(mapping.copy_out(2 * PAGE, PAGE as usize).unwrap(), [2; PAGE as usize]);
    assert_eq!(mapping.copy_out(2 * PAGE, 2 * PAGE as usize), None);
    // What lies there now are zeros of the server's own.
    file.set_len(PAGES * PAGE).unwrap();
    assert_eq!(mapping.copy_out(0, 1), None);
    assert_eq!(mapping.copy_in(0, &[1]), None);
    drop(mapping);

    let (file, mapping) = mapped(0);
    file.set_len(PAGE).unwrap();
    assert_eq!(mapping.copy_in(0, &[9; 2 * PAGE as usize]), None);
    assert_eq!(file.metadata().unwrap().len(), PAGE);
    // Another mapping of the same file is as good as new.
    assert_eq!(Mapping::new(&file, 0, PAGE).unwrap().copy_out(0, 1).unwrap(), [9]);
}

#[test]
fn threads_that_copy_while_it_is_shortened_get_all_of_it_or_nothing() {
    for _ in 0..50 {
        let (file, mapping) = mapped(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(copy) = mapping.copy_out(0, (PAGES * PAGE) as usize) {
                        let pages = copy.chunks(PAGE as usize).zip(0..);
                        for (page, number) in pages {
                            assert!(page.iter().all(|byte| *byte == number), "page {number}");
                        }
                    }
                });
            }
            file.set_len(PAGE).unwrap();
        });
    }
}

#[test]
fn what_is_mapped_is_counted() {
    // Other tests map files meanwhile, none of them this many.
    const MUCH: u64 = 1 << 36;
    let file = tempfile::tempfile().unwrap();
    file.set_len(MUCH).unwrap();
    let mapping = Mapping::new(&file, 0, MUCH).unwrap();
    assert!(mapped_client_bytes() >= MUCH);
    drop(mapping);
    assert!(mapped_client_bytes() < MUCH);
}

#[test]
fn a_bus_error_of_anything_else_ends_the_process() {
    const NAME: &str = "shared_memory::mapping::tests::a_bus_error_of_anything_else_ends_the_process";
    const ROLE: &str = "SALVER_TEST_BUS_ERROR";
    match std::env::var(ROLE).as_deref() {
        Ok("touches") => {
            let (file, mapping) = mapped(0);
            file.set_len(0).unwrap();
            // SAFETY: within the mapping; that the page is gone is what is tested.
            unsafe { mapping.memory.as_ptr().read_volatile() };
        }
        Ok("is sent") => {
            let (_file, _mapping) = mapped(0);
            // The handler of the standard library does not count the first one.
            for _ in 0..2 {
                // SAFETY: sends a signal.
                unsafe { libc::raise(libc::SIGBUS) };
            }
        }
        _ => {
            for role in ["touches", "is sent"] {
                let mut child = Command::new(std::env::current_exe().unwrap());
                let output = child.args(["--exact", NAME, "--nocapture"]).env(ROLE, role).output().unwrap();
                assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{role}: {output:?}");
            }
        }
    }
}
