//! What is being written is left alone until it stands still.

use salver_core::{Error, ModelControl as _, ModelName, ModelSpec};
use salver_testkit::FakeEngine;

use super::*;
use crate::RuntimeOptions;
use crate::tests::{Fixture, version};

fn with(fingerprint: u64) -> Result<Vec<ModelSpec>> {
    Ok(vec![ModelSpec { fingerprint, ..version(1) }])
}

fn empty() -> Result<Vec<ModelSpec>> {
    Err(Error::invalid_input("model.py is empty; is it still being written?"))
}

/// A runtime with one model, and what its first look found.
async fn serving() -> (Fixture, Looks) {
    let fixture = Fixture::start(FakeEngine::new(), vec![version(1)], RuntimeOptions::default()).await;
    let looks = Looks::new(&fixture.runtime.scan().await.unwrap());
    (fixture, looks)
}

impl Fixture {
    fn loads(&self) -> usize {
        self.engine.load_gate().arrivals()
    }

    /// What the index says of the model's files.
    fn problem(&self) -> Option<String> {
        self.runtime.index().into_iter().map(|row| row.reason).find(|reason| !reason.is_empty())
    }
}

#[tokio::test]
async fn a_change_counts_when_it_is_seen_twice() {
    let (fixture, mut looks) = serving().await;
    assert!(fixture.runtime.look(&mut looks).await.unwrap());
    fixture.source.set("m", with(2));
    assert!(!fixture.runtime.look(&mut looks).await.unwrap());
    assert_eq!(fixture.loads(), 1);
    assert!(fixture.runtime.look(&mut looks).await.unwrap());
    assert_eq!(fixture.loads(), 2);
}

#[tokio::test]
async fn a_file_is_not_read_while_it_is_being_written() {
    let (fixture, mut looks) = serving().await;
    for content in [empty(), with(2), with(3), empty(), with(4)] {
        fixture.source.set("m", content);
        assert!(!fixture.runtime.look(&mut looks).await.unwrap());
        assert_eq!((fixture.loads(), fixture.problem()), (1, None));
    }
    assert!(fixture.runtime.look(&mut looks).await.unwrap());
    assert_eq!((fixture.loads(), fixture.problem()), (2, None));
}

#[tokio::test]
async fn what_is_wrong_and_stays_so_is_said() {
    let (fixture, mut looks) = serving().await;
    fixture.source.set("m", empty());
    assert!(!fixture.runtime.look(&mut looks).await.unwrap());
    assert!(fixture.runtime.look(&mut looks).await.unwrap());
    assert!(fixture.problem().unwrap().contains("is empty"));
}

#[tokio::test]
async fn a_folder_that_is_being_replaced_goes_on_serving() {
    let (fixture, mut looks) = serving().await;
    fixture.source.remove("m");
    assert!(!fixture.runtime.look(&mut looks).await.unwrap());
    fixture.source.set("m", with(1));
    assert!(!fixture.runtime.look(&mut looks).await.unwrap());
    assert!(fixture.runtime.look(&mut looks).await.unwrap());
    assert_eq!(fixture.loads(), 1);
    // Away for good.
    fixture.source.remove("m");
    assert!(!fixture.runtime.look(&mut looks).await.unwrap());
    assert!(fixture.runtime.lifecycle.serves("m", 1));
    assert!(fixture.runtime.look(&mut looks).await.unwrap());
    assert!(!fixture.runtime.lifecycle.serves("m", 1));
    assert!(fixture.runtime.index().is_empty());
}

#[tokio::test]
async fn one_that_moves_does_not_hold_up_the_others() {
    let (fixture, mut looks) = serving().await;
    fixture.source.set("other", Ok(vec![ModelSpec { name: ModelName::new("other").unwrap(), ..version(1) }]));
    assert!(!fixture.runtime.look(&mut looks).await.unwrap());
    fixture.source.set("m", with(2));
    assert!(!fixture.runtime.look(&mut looks).await.unwrap());
    assert!(fixture.runtime.lifecycle.serves("other", 1));
    assert_eq!(fixture.loads(), 2);
}
