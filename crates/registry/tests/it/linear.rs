//! Aliases and stages behave as one register each, whichever server is asked: once a write was
//! acknowledged, everybody reads it or something later.
//!
//! Each value is written once, so a history can be checked exactly (Gibbons and Korach, "Testing
//! shared memories", 1997): a value's zone lies between the first end and the last begin of its
//! operations. Where the end comes first, the value was certainly there all along; two such zones
//! must not overlap, and none may hold the whole of a zone where the begin comes first.
//!
//! `SALVER_REGISTRY_SEEDS` sets how many histories are made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use salver_registry::Registry;
use salver_registry::names::Stage;

use crate::consistency::check_consistency;
use crate::dice::{Dice, times};
use crate::place::{ANN, Place, alone_in, numbers};

contract!(aliases_are_linearizable, stages_are_linearizable);

const TASKS: usize = 8;
/// Of each task; all together are 40.
const STEPS: usize = 5;

/// One call that was answered.
#[derive(Debug, Clone, Copy)]
struct Call {
    begin: u64,
    end: u64,
    is_write: bool,
    value: i64,
}

/// Says what no order of these calls explains; each value is written once.
fn check(calls: &[Call]) -> Result<(), String> {
    let mut by_value: BTreeMap<i64, Vec<Call>> = BTreeMap::new();
    for call in calls {
        by_value.entry(call.value).or_default().push(*call);
    }
    let (mut certain, mut brief) = (Vec::new(), Vec::new());
    for (value, calls) in by_value {
        let write = calls.iter().find(|call| call.is_write).ok_or(format!("{value} was read and never written"))?;
        if calls.iter().any(|call| call.end < write.begin) {
            return Err(format!("{value} was read before it was written"));
        }
        let first_end = calls.iter().map(|call| call.end).min().unwrap_or_default();
        let last_begin = calls.iter().map(|call| call.begin).max().unwrap_or_default();
        if first_end < last_begin {
            certain.push((first_end, last_begin, value));
        } else {
            brief.push((last_begin, first_end, value));
        }
    }
    certain.sort_unstable();
    if let Some(pair) = certain.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        return Err(format!("{} and {} were there at once: {pair:?}", pair[0].2, pair[1].2));
    }
    for (begin, end, value) in brief {
        if let Some(around) = certain.iter().find(|(from, to, _)| *from < begin && end < *to) {
            return Err(format!("{value} at {begin}..{end} came in the middle of {around:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_check_finds_what_is_wrong() {
    let call = |is_write, value, begin, end| Call { begin, end, is_write, value };
    let (write, read) = (true, false);
    assert!(check(&[call(write, 1, 0, 1), call(write, 2, 2, 5), call(read, 1, 3, 4), call(read, 2, 6, 7)]).is_ok());
    assert!(check(&[call(write, 1, 0, 1), call(write, 2, 2, 7), call(read, 2, 3, 4), call(read, 2, 5, 6)]).is_ok());
    for wrong in [
        // Old after new was acknowledged.
        vec![call(write, 1, 0, 1), call(write, 2, 2, 3), call(read, 1, 4, 5)],
        // New, then old, while new is being written.
        vec![call(write, 1, 0, 1), call(write, 2, 2, 9), call(read, 2, 3, 4), call(read, 1, 5, 6)],
        vec![call(read, 1, 0, 1), call(write, 1, 2, 3)],
        vec![call(read, 1, 0, 1)],
    ] {
        assert!(check(&wrong).is_err(), "{wrong:?}");
    }
}

async fn aliases_are_linearizable(place: Place) {
    let write = async |registry: &Registry, seed: usize, version| {
        registry.set_alias(ANN, "iris", &format!("a{seed}"), version).await.unwrap();
    };
    let read = async |registry: &Registry, seed: usize| {
        registry.version_of_alias("iris", &format!("a{seed}")).await.unwrap().version
    };
    histories(place, write, read).await;
}

async fn stages_are_linearizable(place: Place) {
    let write = async |registry: &Registry, _: usize, version| {
        registry.transition(ANN, "iris", version, alone_in(Stage::Production)).await.unwrap();
    };
    let read = async |registry: &Registry, _: usize| {
        let found = numbers(&registry.latest_versions("iris", &[Stage::Production]).await.unwrap());
        let [version] = found[..] else { panic!("in production: {found:?}") };
        version
    };
    histories(place, write, read).await;
}

async fn histories(
    place: Place,
    write: impl AsyncFn(&Registry, usize, i64),
    read: impl AsyncFn(&Registry, usize) -> i64,
) {
    let others = [place.open_again().await.unwrap(), place.open_again().await.unwrap()];
    // The last one is where each history begins.
    place.model("iris", TASKS * STEPS + 1).await;
    for seed in 0..times("SALVER_REGISTRY_SEEDS", 50) {
        let clock = Arc::new(AtomicU64::new(0));
        let now = || clock.fetch_add(1, Ordering::SeqCst);
        let begin = now();
        write(&others[0], seed, (TASKS * STEPS + 1) as i64).await;
        let first = Call { begin, end: now(), is_write: true, value: (TASKS * STEPS + 1) as i64 };
        let (write, read, now, others) = (&write, &read, &now, &others);
        let tasks = (0..TASKS).map(|task| async move {
            let mut dice = Dice::new((seed * TASKS + task) as u64);
            let registry = &others[task % 2];
            let mut calls = Vec::new();
            for step in 0..STEPS {
                let (is_write, begin) = (dice.one_of(2), now());
                let value = if is_write {
                    let value = (task * STEPS + step + 1) as i64;
                    write(registry, seed, value).await;
                    value
                } else {
                    read(registry, seed).await
                };
                calls.push(Call { begin, end: now(), is_write, value });
            }
            calls
        });
        let mut calls = futures::future::join_all(tasks).await.concat();
        calls.push(first);
        if let Err(problem) = check(&calls) {
            calls.sort_by_key(|call| call.begin);
            panic!("seed {seed}: {problem}\n{calls:#?}");
        }
    }
    check_consistency(&place.database().await, &place.blobs()).await;
}
