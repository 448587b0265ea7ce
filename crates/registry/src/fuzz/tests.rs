//! Runs the target over its corpus and over changed copies of it.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::mlflow_filter;

/// Pieces that the parser stumbles over, if any.
const PIECES: &[&str] =
    &["'", "\"", "`", "''", "(", ")", ",", ".", "-", "=", "<>", " AND ", " NOT ", "1e999", "\0", "ß"];

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/mlflow_filter");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Puts `piece` in the place of everything between two positions.
fn change(bytes: &mut Vec<u8>, (one, other, piece): (Index, Index, &str)) {
    let (one, other) = (one.index(bytes.len() + 1), other.index(bytes.len() + 1));
    bytes.splice(one.min(other)..one.max(other), piece.bytes());
}

#[test]
fn every_beginning_of_every_seed_is_survived() {
    let seeds = corpus();
    assert!(seeds.len() >= 2);
    for seed in seeds {
        (0..=seed.len()).for_each(|end| mlflow_filter(&seed[..end]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_seeds_are_survived(
        mut bytes in select(corpus()),
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), select(PIECES)), 1..6),
    ) {
        changes.into_iter().for_each(|one| change(&mut bytes, one));
        mlflow_filter(&bytes);
    }
}
