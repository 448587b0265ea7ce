//! Entry points for fuzzing: one for each reader of outside bytes, each total and without a panic.
//!
//! `fuzz/` at the root of the repository wraps them for `cargo fuzz`; the tests here run them over
//! `corpus/` and over changed copies of it.

use crate::wire::FromWorker;

/// Reads a packet as a worker could send it.
///
/// # Panics
/// If the reader panics.
pub fn worker_packet(data: &[u8]) {
    let _ = FromWorker::decode(data);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    fn corpus() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/worker_packet");
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn every_seed_is_read_and_every_beginning_of_it_is_refused() {
        let seeds = corpus();
        assert!(seeds.len() >= 5);
        for seed in seeds {
            FromWorker::decode(&seed).unwrap();
            assert!((0..seed.len()).all(|end| FromWorker::decode(&seed[..end]).is_err()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn changed_seeds_are_survived(
            mut bytes in select(corpus()),
            changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        ) {
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            worker_packet(&bytes);
        }
    }
}
