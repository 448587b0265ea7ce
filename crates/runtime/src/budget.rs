//! An amount that many threads take from and give back to, such as places or bytes.
//!
//! Each core has a stripe of what is free, so that cores which take and give at the same time do not
//! fight over one number; what a stripe lacks comes from the middle, a block at a time, and at last
//! from other stripes. Never is more taken than there is, and what is free is found wherever it
//! lies; only while another thread gathers the last of it may a budget seem full a moment early.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use salver_telemetry::{striped, stripes};

/// The most that a stripe takes from the middle at a time.
const MAX_BLOCK: usize = 256 << 10;

/// An amount of something. Bytes or places: only the caller knows.
#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    block: usize,
    middle: CachePadded<AtomicUsize>,
    free: Box<[CachePadded<AtomicUsize>]>,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        let block = (total / (8 * stripes())).min(MAX_BLOCK);
        Self { total, block, middle: CachePadded::new(AtomicUsize::new(total)), free: striped(AtomicUsize::default) }
    }

    /// Takes `amount` if that much is free.
    pub(crate) fn take(&self, amount: usize, stripe: usize) -> bool {
        let own = &self.free[stripe];
        if changed(own, |free| free.checked_sub(amount)) {
            return true;
        }
        if self.block > 0 && changed(&self.middle, |free| free.checked_sub(amount.checked_add(self.block)?)) {
            own.fetch_add(self.block, Ordering::SeqCst);
            return true;
        }
        if changed(&self.middle, |free| free.checked_sub(amount)) {
            return true;
        }
        // What is left lies here and there: gather it.
        let gathered = self.gather();
        self.middle.fetch_add(gathered, Ordering::SeqCst);
        gathered > 0 && changed(&self.middle, |free| free.checked_sub(amount))
    }

    /// Gives back what was taken, on this or another stripe.
    pub(crate) fn give(&self, amount: usize, stripe: usize) {
        if self.block == 0 {
            self.middle.fetch_add(amount, Ordering::SeqCst);
            return;
        }
        let own = &self.free[stripe];
        let free = own.fetch_add(amount, Ordering::SeqCst) + amount;
        let surplus = free.saturating_sub(self.block);
        if surplus > self.block && changed(own, |free| free.checked_sub(surplus)) {
            self.middle.fetch_add(surplus, Ordering::SeqCst);
        }
    }

    /// Takes everything that is free, and returns how much that was.
    pub(crate) fn take_all(&self) -> usize {
        self.gather() + self.middle.swap(0, Ordering::SeqCst)
    }

    fn gather(&self) -> usize {
        self.free.iter().map(|free| free.swap(0, Ordering::SeqCst)).sum()
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Returns what is taken. Exact only while nobody takes or gives.
    pub(crate) fn taken(&self) -> usize {
        let parts = self.free.iter().chain([&self.middle]).map(|free| free.load(Ordering::SeqCst));
        self.total.saturating_sub(parts.fold(0, usize::saturating_add))
    }
}

fn changed(number: &AtomicUsize, change: impl FnMut(usize) -> Option<usize>) -> bool {
    number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_full_when_everything_is_taken_and_not_before(
            total in 0usize..2_000,
            steps in prop::collection::vec((any::<bool>(), 0usize..200, 0usize..8), 0..200),
        ) {
            let budget = Budget::new(total);
            let mut taken = Vec::new();
            for (takes, amount, stripe) in steps {
                let stripe = stripe % stripes();
                let sum: usize = taken.iter().sum();
                if takes {
                    let fits = sum + amount <= total;
                    prop_assert_eq!(budget.take(amount, stripe), fits);
                    taken.extend(fits.then_some(amount));
                } else if let Some(amount) = taken.pop() {
                    budget.give(amount, stripe);
                }
                prop_assert_eq!(budget.taken(), taken.iter().sum::<usize>());
            }
            prop_assert_eq!(budget.take_all(), total - taken.iter().sum::<usize>());
            prop_assert_eq!(budget.take(1, 0), false);
        }
    }

    #[test]
    fn threads_never_take_more_than_there_is_and_lose_nothing() {
        let (budget, most) = (Budget::new(100), AtomicUsize::new(0));
        let held = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (budget, most, held) = (&budget, &most, &held);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let (amount, stripe) = ((round * 7 + thread) % 40, (round + thread) % stripes());
                        if budget.take(amount, stripe) {
                            most.fetch_max(held.fetch_add(amount, Ordering::SeqCst) + amount, Ordering::SeqCst);
                            held.fetch_sub(amount, Ordering::SeqCst);
                            budget.give(amount, (stripe + 1) % stripes());
                        }
                    }
                });
            }
        });
        assert!((1..=100).contains(&most.into_inner()));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn an_endless_budget_takes_anything_but_nonsense() {
        let budget = Budget::new(usize::MAX);
        assert!(budget.take(1 << 40, 0));
        assert!(!budget.take(usize::MAX, 0));
        budget.give(1 << 40, 0);
        assert_eq!(budget.taken(), 0);
    }
}
