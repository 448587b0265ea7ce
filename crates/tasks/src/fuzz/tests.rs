//! Runs the target over its corpus and over changed copies of it.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::picture;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/picture");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn every_beginning_of_every_seed_is_survived() {
    let seeds = corpus();
    assert!(seeds.len() >= 8);
    for seed in seeds {
        (0..=seed.len()).for_each(|end| picture(&seed[..end]));
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
        picture(&bytes);
    }
}
