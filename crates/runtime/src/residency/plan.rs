//! What to do so that one more model fits: the decision, without the doing.
//!
//! Pure. The caller measures, asks, does the one thing that it is told, and measures again: sizes
//! of models only say whether trying is worth it, the memory of the process decides.

/// A version in memory, as the plan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Occupant {
    /// What it is thought to give back.
    pub(crate) bytes: u64,
    /// When it was last used, on any clock.
    pub(crate) last_used: u64,
    /// Whether it has requests in flight, or is being changed.
    pub(crate) in_use: bool,
    /// Whether it never leaves to make room.
    pub(crate) pinned: bool,
}

/// The memory of the process, and what is to be put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// What the process holds now.
    pub(crate) used: u64,
    /// What comes on top; 0: nothing, the limit is only to be kept.
    pub(crate) needed: u64,
    /// The most that the process should hold.
    pub(crate) limit: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// There is room.
    Load,
    /// The occupant at this index leaves; then measure and ask again.
    Evict(usize),
    /// There will be room once those in use are idle.
    Wait,
    /// There is none, whoever leaves.
    Refuse,
}

/// Decides. The least recently used idle one leaves first; one in use or pinned never does.
pub(crate) fn decide(occupants: &[Occupant], room: Room) -> Decision {
    let total = room.used.saturating_add(room.needed);
    if total <= room.limit {
        return Decision::Load;
    }
    let movable = || occupants.iter().enumerate().filter(|(_, occupant)| !occupant.pinned);
    let at_best: u64 = movable().map(|(_, occupant)| occupant.bytes).fold(0, u64::saturating_add);
    // Without something to load, each one that leaves helps.
    if room.needed > 0 && total.saturating_sub(at_best) > room.limit {
        return Decision::Refuse;
    }
    let idle = movable().filter(|(_, occupant)| !occupant.in_use);
    match idle.min_by_key(|(_, occupant)| occupant.last_used) {
        Some((idx, _)) => Decision::Evict(idx),
        None if movable().next().is_some() => Decision::Wait,
        None => Decision::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn occupant() -> impl Strategy<Value = Occupant> {
        (0..50u64, 0..20u64, any::<bool>(), any::<bool>()).prop_map(|(bytes, last_used, in_use, pinned)| Occupant {
            bytes,
            last_used,
            in_use,
            pinned,
        })
    }

    proptest! {
        #[test]
        fn nothing_in_use_or_pinned_leaves_and_the_oldest_goes_first(
            occupants in prop::collection::vec(occupant(), 0..12),
            used in 0..600u64, needed in 0..100u64, limit in 0..600u64,
        ) {
            let idle = || occupants.iter().filter(|occupant| !occupant.in_use && !occupant.pinned);
            match decide(&occupants, Room { used, needed, limit }) {
                Decision::Load => prop_assert!(used + needed <= limit),
                Decision::Evict(idx) => {
                    prop_assert!(used + needed > limit);
                    prop_assert!(!occupants[idx].in_use && !occupants[idx].pinned);
                    prop_assert!(idle().all(|other| other.last_used >= occupants[idx].last_used));
                }
                Decision::Wait => {
                    prop_assert!(used + needed > limit && idle().next().is_none());
                    prop_assert!(occupants.iter().any(|occupant| occupant.in_use && !occupant.pinned));
                }
                Decision::Refuse => {
                    let free: u64 = occupants.iter().filter(|other| !other.pinned).map(|other| other.bytes).sum();
                    let fits_never = used + needed - free.min(used + needed) > limit;
                    prop_assert!(used + needed > limit);
                    prop_assert!(fits_never || occupants.iter().all(|occupant| occupant.pinned));
                }
            }
        }

        /// Obeying ends: with memory that behaves as measured, asking again and again comes to an
        /// answer, and a load never goes beyond the limit.
        #[test]
        fn obeying_leads_to_room_or_to_a_reason(
            mut occupants in prop::collection::vec(occupant(), 0..12),
            base in 0..100u64, needed in 1..100u64, limit in 0..600u64,
        ) {
            for _ in 0..=occupants.len() {
                let used = base + occupants.iter().map(|occupant| occupant.bytes).sum::<u64>();
                match decide(&occupants, Room { used, needed, limit }) {
                    Decision::Evict(idx) => drop(occupants.remove(idx)),
                    Decision::Load => {
                        prop_assert!(used + needed <= limit);
                        return Ok(());
                    }
                    Decision::Wait | Decision::Refuse => return Ok(()),
                }
            }
            prop_assert!(false, "no end");
        }
    }

    #[track_caller]
    fn check(occupants: &[Occupant], used: u64, needed: u64, limit: u64, expected: Decision) {
        assert_eq!(decide(occupants, Room { used, needed, limit }), expected);
    }

    const IDLE: Occupant = Occupant { bytes: 10, last_used: 5, in_use: false, pinned: false };
    const OLDER: Occupant = Occupant { last_used: 1, ..IDLE };
    const BUSY: Occupant = Occupant { last_used: 0, in_use: true, ..IDLE };
    const PINNED: Occupant = Occupant { last_used: 0, pinned: true, ..IDLE };

    #[test]
    fn each_case_has_its_answer() {
        check(&[IDLE], 20, 10, 30, Decision::Load);
        check(&[IDLE, OLDER], 25, 10, 30, Decision::Evict(1));
        check(&[BUSY, IDLE, PINNED], 35, 10, 40, Decision::Evict(1));
        check(&[BUSY, PINNED], 25, 10, 30, Decision::Wait);
        check(&[PINNED], 25, 10, 30, Decision::Refuse);
    }

    #[test]
    fn nobody_leaves_for_a_model_that_never_fits() {
        check(&[IDLE, OLDER, BUSY], 40, 100, 50, Decision::Refuse);
        check(&[], u64::MAX, u64::MAX, 50, Decision::Refuse);
    }

    #[test]
    fn above_the_limit_the_oldest_leaves_even_if_that_is_not_enough() {
        check(&[IDLE, OLDER], 500, 0, 50, Decision::Evict(1));
        check(&[BUSY], 500, 0, 50, Decision::Wait);
    }
}
