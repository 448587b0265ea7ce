//! Requests that wait for a worker, in order of class and arrival.
//!
//! Pure and single-threaded: `worker.rs` puts it behind a lock. Interactive requests go first;
//! background ones fill what is left of a batch. Only requests that can be merged (`Entry::key`)
//! share a batch; whole requests are taken, never parts of one.

use std::collections::VecDeque;
use std::time::Instant;

use salver_core::{Class, Shape};

use crate::policy::QueueView;

/// What must be equal for two requests to share a batch: the shape of one row of each input, in
/// signature order, and `None` for inputs left out.
pub(crate) type BatchKey = Box<[Option<Shape>]>;

/// What the queue needs to know of a request; the rest (`payload`) is carried along.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) rows: usize,
    pub(crate) class: Class,
    pub(crate) arrived: Instant,
    pub(crate) key: BatchKey,
    pub(crate) payload: T,
}

/// Waiting requests. Bounded from outside: a permit is taken before `push`.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    interactive: VecDeque<Entry<T>>,
    background: VecDeque<Entry<T>>,
    rows: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { interactive: VecDeque::new(), background: VecDeque::new(), rows: 0 }
    }

    pub(crate) fn push(&mut self, entry: Entry<T>) {
        self.rows += entry.rows;
        match entry.class {
            Class::Interactive => self.interactive.push_back(entry),
            Class::Background => self.background.push_back(entry),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn len(&self) -> usize {
        self.interactive.len() + self.background.len()
    }

    pub(crate) fn view(&self) -> QueueView {
        let heads = [self.interactive.front(), self.background.front()];
        let oldest = heads.into_iter().flatten().map(|entry| entry.arrived).min();
        QueueView { rows: self.rows, oldest }
    }

    /// Takes the next batch into `batch`: the first request, and as many later ones of the same
    /// key as fit within `max_rows`. Requests that do not fit keep their place.
    pub(crate) fn take(&mut self, max_rows: usize, batch: &mut Vec<Entry<T>>) {
        let mut rows = 0;
        let Self { interactive, background, rows: waiting } = self;
        for line in [interactive, background] {
            let mut idx = 0;
            while idx < line.len() && (rows < max_rows || batch.is_empty()) {
                let candidate = &line[idx];
                let fits = match batch.first() {
                    None => true,
                    Some(first) => rows + candidate.rows <= max_rows && first.key == candidate.key,
                };
                // The front is cheap to take; a later one costs a move of those before it.
                let taken = if fits { line.remove(idx) } else { None };
                match taken {
                    Some(entry) => {
                        rows += entry.rows;
                        *waiting -= entry.rows;
                        batch.push(entry);
                    }
                    None => idx += 1,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(id: usize, rows: usize, key: usize, class: Class) -> Entry<usize> {
        let key = vec![Some(Shape::from([key]))].into_boxed_slice();
        Entry { rows, class, arrived: Instant::now(), key, payload: id }
    }

    #[track_caller]
    fn check(entries: &[(usize, usize, Class)], max_rows: usize, expected: &[&[usize]]) {
        let mut queue = Queue::new();
        for (id, &(rows, key, class)) in entries.iter().enumerate() {
            queue.push(entry(id, rows, key, class));
        }
        let mut batches = Vec::new();
        while queue.len() > 0 {
            let mut batch = Vec::new();
            queue.take(max_rows, &mut batch);
            batches.push(batch.iter().map(|entry| entry.payload).collect::<Vec<_>>());
        }
        assert_eq!(batches, expected);
        assert_eq!(queue.view(), QueueView { rows: 0, oldest: None });
    }

    const I: Class = Class::Interactive;
    const B: Class = Class::Background;

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

    proptest! {
        #[test]
        fn everything_is_taken_once_and_no_batch_exceeds_the_limit(
            requests in proptest::collection::vec((0usize..9, 0usize..3, any::<bool>()), 0..40),
            max_rows in 1usize..9,
        ) {
            let mut queue = Queue::new();
            for (id, &(rows, key, background)) in requests.iter().enumerate() {
                queue.push(entry(id, rows, key, if background { B } else { I }));
            }
            let mut seen = Vec::new();
            while queue.len() > 0 {
                let mut batch = Vec::new();
                queue.take(max_rows, &mut batch);
                prop_assert!(!batch.is_empty());
                let rows: usize = batch.iter().map(|entry| entry.rows).sum();
                prop_assert!(rows <= max_rows || batch.len() == 1 || batch[1..].iter().all(|entry| entry.rows == 0));
                prop_assert!(batch.iter().all(|entry| entry.key == batch[0].key));
                seen.extend(batch.iter().map(|entry| entry.payload));
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..requests.len()).collect::<Vec<_>>());
        }
    }
}
