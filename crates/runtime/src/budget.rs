//! An amount that many threads take from and give back to, such as places or bytes.
//!
//! Each core has a stripe of what is free, so that cores which take and give at the same time do not
//! fight over one number; what a stripe lacks comes from the middle, a block at a time, and at last
//! from other stripes. Never is more taken than there is, and nobody is refused what is free,
//! wherever it lies and whatever others take and give meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use salver_telemetry::{striped, stripes};

/// The most that a stripe takes from the middle at a time.
const MAX_BLOCK: usize = 256 << 10;

/// An amount of something. Bytes or places: only the caller knows.
#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    block: usize,
    middle: CachePadded<Stripe>,
    stripes: Box<[CachePadded<Stripe>]>,
    /// Held by who moves a part from one stripe to another: what is on the way is in neither.
    moving: Mutex<()>,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        let block = (total / (8 * stripes())).min(MAX_BLOCK);
        let middle = CachePadded::new(Stripe::default());
        middle.give(total);
        Self { total, block, middle, stripes: striped(Stripe::default), moving: Mutex::new(()) }
    }

    /// Takes `amount` if that much is free.
    pub(crate) fn take(&self, amount: usize, stripe: usize) -> bool {
        let own = &self.stripes[stripe];
        if own.take(amount) {
            return true;
        }
        let _moving = self.moving.lock();
        if self.block > 0 && amount.checked_add(self.block).is_some_and(|more| self.middle.take(more)) {
            own.give(self.block);
            return true;
        }
        loop {
            let given = self.given();
            let gathered = self.gather();
            self.middle.give(gathered);
            if self.middle.take(amount) {
                return true;
            }
            // Nothing came while we looked, so all that is free lies in the middle, and is too little.
            if self.given() == given.wrapping_add(gathered) {
                return false;
            }
        }
    }

    /// Gives back what was taken, on this or another stripe.
    pub(crate) fn give(&self, amount: usize, stripe: usize) {
        if self.block == 0 {
            self.middle.give(amount);
            return;
        }
        let own = &self.stripes[stripe];
        own.give(amount);
        if own.free() > 2 * self.block {
            let _moving = self.moving.lock();
            let surplus = own.free().saturating_sub(self.block);
            if own.take(surplus) {
                self.middle.give(surplus);
            }
        }
    }

    /// Takes everything that is free, and returns how much that was.
    pub(crate) fn take_all(&self) -> usize {
        let _moving = self.moving.lock();
        self.gather() + self.middle.take_all()
    }

    fn gather(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.take_all()).sum()
    }

    /// All that was ever given, to any stripe: grows with each gift.
    fn given(&self) -> usize {
        let given = |stripe: &Stripe| stripe.given.load(Ordering::SeqCst);
        self.stripes.iter().fold(given(&self.middle), |sum, stripe| sum.wrapping_add(given(stripe)))
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Returns what is taken. Exact only while nobody takes or gives.
    pub(crate) fn taken(&self) -> usize {
        let free = self.stripes.iter().fold(self.middle.free(), |sum, stripe| sum.saturating_add(stripe.free()));
        self.total.saturating_sub(free)
    }
}

/// What is free in one place: all that was given there less all that was taken. Both only grow, and
/// may wrap; their difference is at most the whole budget.
#[derive(Debug, Default)]
struct Stripe {
    given: AtomicUsize,
    taken: AtomicUsize,
}

impl Stripe {
    fn give(&self, amount: usize) {
        self.given.fetch_add(amount, Ordering::SeqCst);
    }

    fn take(&self, amount: usize) -> bool {
        self.change(|free| (free >= amount).then_some(amount)).is_some()
    }

    fn take_all(&self) -> usize {
        self.change(Some).unwrap_or_default()
    }

    /// Takes as much of what is free as `wanted` says.
    fn change(&self, wanted: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        let mut taken = self.taken.load(Ordering::SeqCst);
        loop {
            // Read after `taken`: what was free then is still there if nobody took meanwhile.
            let amount = wanted(self.given.load(Ordering::SeqCst).wrapping_sub(taken))?;
            let after = taken.wrapping_add(amount);
            match self.taken.compare_exchange_weak(taken, after, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(amount),
                Err(now) => taken = now,
            }
        }
    }

    fn free(&self) -> usize {
        let taken = self.taken.load(Ordering::SeqCst);
        self.given.load(Ordering::SeqCst).wrapping_sub(taken)
    }
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
    fn who_gives_before_taking_again_is_never_refused() {
        for total in [4, 64, 1_000] {
            let budget = Budget::new(total);
            let (share, holders) = (total / 4, 4);
            std::thread::scope(|scope| {
                for holder in 0..holders {
                    let budget = &budget;
                    scope.spawn(move || {
                        for round in 0..50_000 {
                            let stripe = (round / 3 + holder) % stripes();
                            assert!(budget.take(share, stripe), "round {round} of {total}");
                            budget.give(share, (stripe + round) % stripes());
                        }
                    });
                }
            });
            assert_eq!(budget.taken(), 0);
        }
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
