use std::time::Duration;

use proptest::prelude::*;

use super::*;

const I: Lane = Lane::Level(1);
const B: Lane = Lane::Background;

fn entry(id: usize, rows: usize, key: usize, lane: Lane) -> Entry<usize> {
    let key = vec![Some(Shape::from([key]))].into_boxed_slice();
    Entry { id: id as u64, rows, lane, arrived: Instant::now(), expiry: Expiry::Never, key, payload: id }
}

fn drain(queue: &mut Queue<usize>, max_rows: usize) -> Vec<Vec<usize>> {
    let mut batches = Vec::new();
    while queue.len() > 0 {
        let mut batch = Vec::new();
        queue.take(max_rows, &mut batch);
        batches.push(batch.iter().map(|entry| entry.payload).collect::<Vec<_>>());
    }
    assert_eq!(queue.view(), QueueView { rows: 0, oldest: None });
    batches
}

#[track_caller]
fn check(entries: &[(usize, usize, Lane)], max_rows: usize, expected: &[&[usize]]) {
    let mut queue = Queue::new();
    for (id, &(rows, key, lane)) in entries.iter().enumerate() {
        queue.push(entry(id, rows, key, lane));
    }
    assert_eq!(drain(&mut queue, max_rows), expected);
}

#[test]
fn whole_requests_are_taken_until_the_batch_is_full() {
    check(&[(2, 0, I), (2, 0, I), (1, 0, I)], 4, &[&[0, 1], &[2]]);
}

#[test]
fn a_request_larger_than_a_batch_runs_alone() {
    check(&[(9, 0, I), (1, 0, I)], 4, &[&[0], &[1]]);
}

#[test]
fn a_request_that_does_not_fit_lets_smaller_ones_pass_once() {
    check(&[(3, 0, I), (3, 0, I), (1, 0, I)], 4, &[&[0, 2], &[1]]);
}

#[test]
fn only_equal_row_shapes_share_a_batch() {
    check(&[(1, 7, I), (1, 8, I), (1, 7, I)], 4, &[&[0, 2], &[1]]);
}

#[test]
fn background_requests_fill_what_is_left() {
    check(&[(1, 0, B), (1, 0, I), (2, 0, B), (1, 0, I)], 4, &[&[1, 3, 0], &[2]]);
}

#[test]
fn urgent_levels_go_first_whenever_they_came() {
    let level = Lane::Level;
    check(&[(1, 0, level(3)), (1, 0, level(2)), (1, 0, B), (1, 0, level(1))], 2, &[&[3, 1], &[0, 2]]);
}

#[test]
fn what_waited_too_long_is_refused_or_lets_others_pass() {
    let now = Instant::now();
    let (soon, later) = (now + Duration::from_millis(1), now + Duration::from_millis(9));
    let mut queue = Queue::new();
    for (id, expiry) in
        [Expiry::Reject(soon), Expiry::Delay(soon), Expiry::Reject(later), Expiry::Never].into_iter().enumerate()
    {
        queue.push(Entry { expiry, ..entry(id, 1, 0, I) });
    }
    assert!(queue.expire(now).is_empty());
    let refused: Vec<usize> = queue.expire(soon).iter().map(|entry| entry.payload).collect();
    assert_eq!((refused, queue.len(), queue.rows(), queue.len_of(I)), (vec![0], 3, 3, 3));
    assert_eq!(drain(&mut queue, 1), [[2], [3], [1]]);
}

#[test]
fn a_request_can_be_taken_back() {
    let mut queue = Queue::new();
    (0..3).for_each(|id| queue.push(entry(id, 2, 0, I)));
    assert_eq!(queue.remove(1).map(|entry| entry.payload), Some(1));
    assert!(queue.remove(1).is_none());
    assert_eq!((queue.len(), queue.rows()), (2, 4));
    assert!(!queue.is_background_only());
    assert_eq!(drain(&mut queue, 8), [[0, 2]]);
}

#[test]
fn what_is_put_back_waits_where_it_was() {
    let mut queue = Queue::new();
    let lanes = [I, B, Lane::Level(2), I, I];
    lanes.iter().enumerate().for_each(|(id, &lane)| queue.push(entry(id, 1, 0, lane)));
    let mut batch = Vec::new();
    queue.take(4, &mut batch);
    queue.push(entry(5, 1, 0, I));
    batch.into_iter().rev().for_each(|entry| queue.put_back(entry));
    assert_eq!((queue.len(), queue.rows()), (6, 6));
    assert_eq!(drain(&mut queue, 8), [[0, 3, 4, 5, 2, 1]]);
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        rows: usize,
        key: usize,
        lane: u32,
        limit: Option<(u64, bool)>,
    },
    Remove(usize),
    Expire(u64),
    Take(usize),
    /// Takes a batch and puts it back.
    Return(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let limit = proptest::option::of((0u64..50, any::<bool>()));
    prop_oneof![
        4 => (0usize..9, 0usize..3, 0u32..4, limit)
            .prop_map(|(rows, key, lane, limit)| Step::Push { rows, key, lane, limit }),
        1 => (0usize..60).prop_map(Step::Remove),
        1 => (0u64..50).prop_map(Step::Expire),
        2 => (1usize..9).prop_map(Step::Take),
        1 => (1usize..9).prop_map(Step::Return),
    ]
}

proptest! {
    #[test]
    fn every_request_leaves_once_and_no_batch_exceeds_its_limits(
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut queue = Queue::new();
        let (mut pushed, mut left) = (0usize, Vec::new());
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Take(8), 120)) {
            match step {
                Step::Push { rows, key, lane, limit } => {
                    let lane = if lane == 0 { B } else { Lane::Level(lane) };
                    let expiry = match limit {
                        None => Expiry::Never,
                        Some((ms, true)) => Expiry::Reject(at(ms)),
                        Some((ms, false)) => Expiry::Delay(at(ms)),
                    };
                    queue.push(Entry { expiry, ..entry(pushed, rows, key, lane) });
                    pushed += 1;
                }
                Step::Remove(id) => left.extend(queue.remove(id as u64).map(|entry| entry.payload)),
                Step::Return(max_rows) => {
                    let mut batch = Vec::new();
                    queue.take(max_rows, &mut batch);
                    batch.into_iter().for_each(|entry| queue.put_back(entry));
                }
                Step::Expire(ms) => {
                    let refused = queue.expire(at(ms));
                    prop_assert!(refused.iter().all(|entry| matches!(entry.expiry, Expiry::Reject(due) if due <= at(ms))));
                    left.extend(refused.iter().map(|entry| entry.payload));
                }
                Step::Take(max_rows) => {
                    let mut batch = Vec::new();
                    let most_urgent = (1..4).map(Lane::Level).chain([B]).find(|&lane| queue.len_of(lane) > 0);
                    queue.take(max_rows, &mut batch);
                    let rows: usize = batch.iter().map(|entry| entry.rows).sum();
                    prop_assert!(rows <= max_rows || batch.len() == 1 || batch[1..].iter().all(|entry| entry.rows == 0));
                    prop_assert!(batch.iter().all(|entry| entry.key == batch[0].key));
                    prop_assert_eq!(batch.first().map(|entry| entry.lane), most_urgent);
                    left.extend(batch.iter().map(|entry| entry.payload));
                }
            }
            prop_assert_eq!(queue.len() + left.len(), pushed);
        }
        left.sort_unstable();
        prop_assert_eq!(left, (0..pushed).collect::<Vec<_>>());
    }
}
