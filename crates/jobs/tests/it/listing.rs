//! What is seen from outside.

use salver_core::ErrorKind;
use salver_jobs::{Filter, JobId, Page, State, Stats};

use crate::place::{NOW, Place, done, job};

contract!(
    pages_go_from_the_newest_to_the_oldest,
    filters_are_combined,
    what_is_rare_is_found_behind_many_others,
    a_page_that_nobody_gave_is_refused,
    figures_are_right,
);

fn ids(page: &Page) -> Vec<JobId> {
    page.jobs.iter().map(|job| job.id).collect()
}

async fn pages_go_from_the_newest_to_the_oldest(place: Place) {
    let mut expected = place.submit_all(&["a", "b", "c", "d", "e"]).await;
    expected.reverse();
    let mut after = None;
    let mut seen = Vec::new();
    let mut n_pages = 0;
    loop {
        let page = place.queue.list(Filter::default(), after, 2).await.unwrap();
        assert!(page.jobs.iter().all(|job| job.history.is_empty()));
        seen.extend(ids(&page));
        n_pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
        // What comes in meanwhile is newer than every page to come.
        place.submit(job("new")).await;
    }
    assert_eq!((seen, n_pages), (expected, 3));
    let exact = place.queue.list(Filter::default(), None, 7).await.unwrap();
    assert_eq!((exact.jobs.len(), exact.next), (7, None));
}

async fn filters_are_combined(place: Place) {
    let mut other = job("b");
    other.model = "other".parse().unwrap();
    let mut expected = vec![
        place.submit(job("a")).await,
        place.submit(other.clone()).await,
        place.submit(job("c")).await,
        place.submit(other.clone()).await,
    ];
    expected.push(crate::place::new(place.queue.submit(other, NOW + 1).await.unwrap()));
    let leases = place.claim(3).await;
    assert!(place.finish(leases[0].hold, done("x")).await);
    let list = async |states: &[State], model: Option<&str>, created_before_ms| {
        let filter = Filter { states: states.to_vec(), model: model.map(Into::into), created_before_ms };
        ids(&place.queue.list(filter, None, 100).await.unwrap())
    };
    let jobs = |places: &[usize]| places.iter().map(|idx| expected[*idx]).collect::<Vec<_>>();
    assert_eq!(list(&[State::Done], None, None).await, jobs(&[0]));
    assert_eq!(list(&[], Some(""), None).await, [], "no model is called nothing");
    assert_eq!(list(&[State::Running, State::Queued, State::Running], None, None).await, jobs(&[4, 3, 2, 1]));
    assert_eq!(list(&[State::Queued], Some("other"), Some(NOW + 1)).await, jobs(&[3]));
    assert_eq!(list(&[], Some("iris@champion"), None).await, jobs(&[2, 0]));
    assert_eq!(list(&[], None, Some(NOW)).await, jobs(&[]));
    assert_eq!(list(&[State::Dead], None, None).await, jobs(&[]));
}

async fn what_is_rare_is_found_behind_many_others(place: Place) {
    let early = crate::place::new(place.queue.submit(job("early"), NOW - 1).await.unwrap());
    let submits = (0..1200).map(|_| place.queue.submit(job("a"), NOW));
    futures::future::join_all(submits).await.into_iter().for_each(|submitted| assert!(submitted.is_ok()));
    let filter = Filter { created_before_ms: Some(NOW), ..Filter::default() };
    let page = place.queue.list(filter, None, 1).await.unwrap();
    assert_eq!((ids(&page), page.next), (vec![early], None));
    let page = place.queue.list(Filter::default(), None, 1000).await.unwrap();
    assert_eq!(page.jobs.len(), 1000);
    let rest = place.queue.list(Filter::default(), page.next, 1000).await.unwrap();
    assert_eq!((rest.jobs.len(), ids(&rest).last(), rest.next), (201, Some(&early), None));
}

async fn a_page_that_nobody_gave_is_refused(place: Place) {
    for after in ["", "x", "-1", "+1", "0", "01", "ffffffffffffffffff", "1 ", "A"] {
        let refusal = place.queue.list(Filter::default(), Some(after.into()), 1).await.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::InvalidInput, "{after}");
    }
}

async fn figures_are_right(place: Place) {
    assert_eq!(place.queue.stats().await.unwrap(), Stats::default());
    place.submit_all(&["a", "b", "c"]).await;
    let mut later = job("later");
    later.options.not_before = Some(NOW + 1);
    place.submit(later).await;
    let lease = place.claim_one().await;
    let expected = Stats { scheduled: 1, queued: 2, running: 1, oldest_queued_ms: Some(NOW), ..Stats::default() };
    assert_eq!(place.queue.stats().await.unwrap(), expected);
    assert!(place.finish(lease.hold, done("x")).await);
    assert_eq!(place.queue.stats().await.unwrap(), Stats { running: 0, ..expected });
}
