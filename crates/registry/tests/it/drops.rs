//! Calls that are dropped in the middle, as when a client hangs up, leave everything or nothing.
//!
//! `SALVER_REGISTRY_DROPS` sets how many calls are dropped at most.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll};

use salver_core::Result;
use salver_registry::names::Stage;
use salver_store::Digest;

use crate::consistency::check_consistency;
use crate::dice::{Dice, times};
use crate::place::{ANN, Place, alone_in, of_run, path_of, put, read};

contract!(dropped_calls_leave_all_or_nothing);

/// Gives a call up when it has to wait once more than `waits` times.
struct GivenUp<F> {
    call: Pin<Box<F>>,
    waits: usize,
}

impl<F: Future> Future for GivenUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.call.as_mut().poll(ctx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.waits == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.waits -= 1;
                Poll::Pending
            }
        }
    }
}

/// Whether it was acknowledged.
async fn given_up<T>(dice: &mut Dice, call: impl Future<Output = Result<T>>) -> Option<T> {
    let given_up = GivenUp { call: Box::pin(call), waits: dice.below(12) };
    given_up.await.map(|answer| answer.expect("no call fails because another one was dropped"))
}

async fn dropped_calls_leave_all_or_nothing(place: Place) {
    let registry = &place.registry;
    let run = place.run().await;
    put(registry, &path_of(&run, "model/net.onnx"), "net").await.unwrap();
    registry.create_model(ANN, "iris", "", &[]).await.unwrap();
    let first = registry.create_version(ANN, of_run("iris", &run, "model")).await.unwrap();
    let mut dice = Dice::new(6);
    // What was acknowledged last, and what was dropped since: any of these may be there now.
    let mut versions = BTreeSet::from([1]);
    let mut production = BTreeSet::from([None]);
    let mut alias = BTreeSet::from([None]);
    let mut files: BTreeMap<usize, BTreeSet<Option<String>>> = BTreeMap::new();
    let mut n_dropped = 0;
    for step in 0..times("SALVER_REGISTRY_DROPS", 200) {
        let version = **dice.pick(&versions.iter().collect::<Vec<_>>());
        let acknowledged = match dice.below(4) {
            0 => {
                let made = given_up(&mut dice, registry.create_version(ANN, of_run("iris", &run, "model"))).await;
                versions.extend(made.as_ref().map(|made| made.version));
                made.is_some()
            }
            1 => {
                let call = registry.transition(ANN, "iris", version, alone_in(Stage::Production));
                let done = given_up(&mut dice, call).await.is_some();
                if done {
                    production.clear();
                }
                production.insert(Some(version));
                done
            }
            2 => {
                let done = given_up(&mut dice, registry.set_alias(ANN, "iris", "champion", version)).await.is_some();
                if done {
                    alias.clear();
                }
                alias.insert(Some(version));
                done
            }
            _ => {
                let (file, text) = (dice.below(5), format!("written in step {step}"));
                let path = path_of(&run, &format!("notes/{file}"));
                let done = given_up(&mut dice, put(registry, &path, text.clone())).await.is_some();
                let possible = files.entry(file).or_insert_with(|| BTreeSet::from([None]));
                if done {
                    possible.clear();
                }
                possible.insert(Some(text));
                done
            }
        };
        n_dropped += usize::from(!acknowledged);
    }
    assert!(n_dropped > 20, "only {n_dropped} calls were dropped");

    let registry = place.open_again().await.unwrap();
    check_consistency(&place.database().await, &place.blobs()).await;
    for version in versions {
        let version = registry.version("iris", version).await.unwrap();
        assert_eq!((version.digest, version.size), (first.digest.clone(), Some(3)), "{}", version.version);
    }
    let found = registry.latest_versions("iris", &[Stage::Production]).await.unwrap();
    assert!(production.contains(&found.first().map(|version| version.version)), "{found:?}, not of {production:?}");
    let found = registry.version_of_alias("iris", "champion").await.ok().map(|version| version.version);
    assert!(alias.contains(&found), "{found:?}, not of {alias:?}");
    for (file, possible) in files {
        let path = path_of(&run, &format!("notes/{file}"));
        let found = read(&registry, &path).await.ok().map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(possible.contains(&found), "{path}: {found:?}, not of {possible:?}");
    }
    let _: Digest = registry.file(&path_of(&run, "model/net.onnx")).await.unwrap().digest.parse().unwrap();
    // And it goes on.
    let next = registry.create_version(ANN, of_run("iris", &run, "model")).await.unwrap();
    assert!(next.version > found_newest(&place).await);
}

/// The newest version before the last one.
async fn found_newest(place: &Place) -> i64 {
    place.registry.model("iris").await.unwrap();
    let history = place.registry.history(Some("model/iris"), 1_000).await.unwrap();
    let made = history.iter().filter(|entry| entry.what == "version.create").skip(1);
    made.filter_map(|entry| entry.subject.rsplit('/').next()?.parse().ok()).max().unwrap()
}
