//! Runs every fuzz target over its corpus and over mutations of it, the same ones each time.

use std::path::PathBuf;

/// Mutations per target.
const MUTATIONS: usize = 20_000;

/// Pieces that parsers stumble over.
const TOKENS: &[&[u8]] = &[
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b",",
    b":",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"9223372036854775807",
    b"null",
    b"true",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\xc3\x28",
    b"[[[[[[[[[[[[[[[[",
    b"\"data\":[",
    b"\"shape\":[0]",
    b"\"parameters\":{",
    b"\n",
    b"\r\n",
    b"binary_data_size",
    b"\"b64\":\"",
    b"1.5",
    b"(1, 2)",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
];

/// A fixed sequence of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    /// A range of `len` positions, short ones most often.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let most = [1, 4, 16, len][self.below(4)].min(len - start);
        start..start + self.below(most + 1)
    }
}

fn mutate(seed: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        let range = random.range(data.len());
        match random.below(6) {
            0 => {
                let flip = u8::try_from(random.below(256)).unwrap();
                data[range].iter_mut().for_each(|byte| *byte ^= flip);
            }
            1 => drop(data.drain(range)),
            2 => drop(data.splice(range, TOKENS[random.below(TOKENS.len())].iter().copied())),
            3 => {
                let copy = data[range.clone()].to_vec();
                drop(data.splice(range.start..range.start, copy));
            }
            4 => data.truncate(range.start),
            _ => {
                let other = &others[random.below(others.len())];
                let piece = other[random.range(other.len())].to_vec();
                drop(data.splice(range, piece));
            }
        }
    }
    data
}

#[track_caller]
fn check(name: &str, target: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a corpus folder").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} has no seeds", folder.display());
    let mut random = Random(7);
    for (seed, file) in seeds.iter().zip(&files) {
        run(target, seed, &file.display().to_string());
    }
    for number in 0..MUTATIONS {
        let data = mutate(&seeds[random.below(seeds.len())], &seeds, &mut random);
        run(target, &data, &format!("mutation {number}"));
    }
}

/// Names the input of a panic, so that it can become a seed.
#[track_caller]
fn run(target: fn(&[u8]), data: &[u8], what: &str) {
    if std::panic::catch_unwind(|| target(data)).is_err() {
        panic!("{what} panics: {}", data.escape_ascii());
    }
}

#[test]
fn oip_rest_survives_its_corpus() {
    check("oip_rest", super::oip_rest);
}

#[test]
fn oip_grpc_survives_its_corpus() {
    check("oip_grpc", super::oip_grpc);
}

#[test]
fn generate_survives_its_corpus() {
    check("generate", super::generate);
}

#[test]
fn tfserving_survives_its_corpus() {
    check("tfserving", super::tfserving);
}

#[test]
fn mlflow_survives_its_corpus() {
    check("mlflow", super::mlflow);
}

#[test]
fn plain_survives_its_corpus() {
    check("plain", super::plain);
}

#[test]
fn npy_survives_its_corpus() {
    check("npy", super::npy);
}

#[test]
fn tasks_survives_its_corpus() {
    check("tasks", super::tasks);
}

#[test]
fn openai_survives_its_corpus() {
    check("openai", super::openai);
}
