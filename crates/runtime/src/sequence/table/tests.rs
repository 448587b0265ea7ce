//! What becomes of the requests of many sequences, one decision at a time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const IDLE: Duration = Duration::from_millis(10);

fn table(instances: usize, seats: usize, keeps_state: bool) -> Table<u32, u32> {
    Table::new(Limits { instances, seats, max_idle: IDLE, keeps_state })
}

fn id(number: u64) -> SequenceId {
    SequenceId::Number(number)
}

const START: Place = Place { starts: true, ends: false };
const GO_ON: Place = Place { starts: false, ends: false };
const END: Place = Place { starts: false, ends: true };
const ALL: Place = Place { starts: true, ends: true };

fn take(table: &mut Table<u32, u32>, instance: usize) -> Vec<(u64, usize, u32)> {
    let taken = table.take(instance, usize::MAX, |_, _, _, _| true);
    taken.into_iter().map(|taken| (taken.step.serial, taken.step.row, taken.request)).collect()
}

/// Runs whatever may run on an instance; returns rows and requests.
fn run(table: &mut Table<u32, u32>, instance: usize, now: Instant) -> Vec<(usize, u32)> {
    let taken = take(table, instance);
    taken.iter().for_each(|(serial, _, _)| table.ran(*serial, None, now));
    taken.into_iter().map(|(_, row, request)| (row, request)).collect()
}

#[test]
fn requests_of_one_sequence_run_one_after_the_other_in_its_row() {
    let (mut table, now) = (table(1, 2, true), Instant::now());
    for (of, place, request) in [(1, START, 10), (2, START, 20), (1, GO_ON, 11), (1, END, 12), (2, END, 21)] {
        assert_eq!(table.arrive(&id(of), place, now, request), Ok(()));
    }
    let first = take(&mut table, 0);
    assert_eq!(first.iter().map(|(_, row, request)| (*row, *request)).collect::<Vec<_>>(), [(0, 10), (1, 20)]);
    assert!(take(&mut table, 0).is_empty(), "both have a request that runs");
    first.iter().for_each(|(serial, _, _)| table.ran(*serial, None, now));
    assert_eq!(run(&mut table, 0, now), [(0, 11), (1, 21)]);
    assert_eq!(run(&mut table, 0, now), [(0, 12)]);
    assert!(table.is_empty());
}

#[test]
fn a_request_without_a_start_is_not_taken() {
    let (mut table, now) = (table(1, 1, true), Instant::now());
    assert_eq!(table.arrive(&id(1), GO_ON, now, 1), Err(1));
    assert_eq!(table.arrive(&id(1), ALL, now, 2), Ok(()));
    assert_eq!(table.arrive(&id(1), GO_ON, now, 3), Err(3), "the end is on its way");
    assert_eq!(run(&mut table, 0, now), [(0, 2)]);
    assert_eq!(table.arrive(&id(1), END, now, 4), Err(4));
}

#[test]
fn a_second_start_begins_anew() {
    let (mut table, now) = (table(1, 1, true), Instant::now());
    table.arrive(&id(1), START, now, 1).unwrap();
    let taken = table.take(0, 1, |_, _, _, _| true);
    table.ran(taken[0].step.serial, Some(7), now);
    table.arrive(&id(1), GO_ON, now, 2).unwrap();
    table.arrive(&id(1), START, now, 3).unwrap();
    let states: Vec<_> = (0..2)
        .map(|_| {
            let taken = table.take(0, 1, |_, _, _, _| true);
            table.ran(taken[0].step.serial, Some(8), now);
            taken[0].step.state
        })
        .collect();
    assert_eq!(states, [Some(7), None]);
}

#[test]
fn who_finds_no_seat_waits_for_one_in_turn() {
    let (mut table, now) = (table(1, 1, true), Instant::now());
    for of in 1..4 {
        table.arrive(&id(of), START, now, of as u32 * 10).unwrap();
    }
    assert_eq!(run(&mut table, 0, now), [(0, 10)]);
    assert!(take(&mut table, 0).is_empty(), "the first one goes on");
    table.arrive(&id(1), END, now, 11).unwrap();
    table.arrive(&id(1), START, now, 12).unwrap();
    assert_eq!(run(&mut table, 0, now), [(0, 11)]);
    assert_eq!(run(&mut table, 0, now), [(0, 20)], "who ended and starts again stands behind");
    let (count, next) = table.reap(now + IDLE);
    assert_eq!((count, next), (1, None), "the second rested, the others wait");
    assert_eq!(run(&mut table, 0, now), [(0, 30)]);
}

#[test]
fn a_sequence_that_rests_for_too_long_is_over() {
    let (mut table, now) = (table(1, 1, true), Instant::now());
    table.arrive(&id(1), START, now, 1).unwrap();
    assert_eq!(table.reap(now + IDLE * 9), (0, None), "a request waits");
    run(&mut table, 0, now + IDLE);
    assert_eq!(table.reap(now + IDLE), (0, Some(now + IDLE * 2)));
    assert!(table.is_open(&id(1), now + IDLE));
    assert!(!table.is_open(&id(1), now + IDLE * 2));
    assert_eq!(table.arrive(&id(1), GO_ON, now + IDLE * 2, 2), Err(2), "also where nobody has looked yet");
    assert!(table.is_empty());
}

#[test]
fn a_start_that_leaves_takes_what_follows_with_it() {
    let (mut table, now) = (table(1, 1, true), Instant::now());
    for (place, request) in [(START, 1), (GO_ON, 2), (END, 3), (START, 4)] {
        table.arrive(&id(1), place, now, request).unwrap();
    }
    let removed = table.remove(|request| *request == 1);
    assert_eq!((removed.meant, removed.orphans), (vec![1], vec![2, 3]));
    assert_eq!(run(&mut table, 0, now), [(0, 4)]);
    let removed = table.remove(|_| true);
    assert!(removed.meant.is_empty() && table.is_open(&id(1), now));
}

#[test]
fn an_end_that_leaves_ends_nevertheless() {
    let (mut table, now) = (table(1, 1, true), Instant::now());
    table.arrive(&id(1), START, now, 1).unwrap();
    run(&mut table, 0, now);
    table.arrive(&id(1), END, now, 2).unwrap();
    assert_eq!(table.remove(|_| true).meant, [2]);
    assert!(table.is_empty());
    table.arrive(&id(1), START, now, 1).unwrap();
    table.arrive(&id(1), END, now, 2).unwrap();
    assert_eq!(table.remove(|request| *request == 2).meant, [2]);
    run(&mut table, 0, now);
    assert!(table.is_empty());
}

#[test]
fn an_instance_that_is_gone_ends_the_sequences_whose_state_it_had() {
    for keeps_state in [false, true] {
        let (mut table, now) = (table(2, 1, keeps_state), Instant::now());
        table.arrive(&id(1), START, now, 1).unwrap();
        table.arrive(&id(2), START, now, 2).unwrap();
        (0..2).for_each(|instance| assert_eq!(run(&mut table, instance, now).len(), 1));
        table.arrive(&id(1), GO_ON, now, 3).unwrap();
        let orphans = table.lost(0);
        assert_eq!(orphans, if keeps_state { vec![] } else { vec![3] });
        assert_eq!(table.is_open(&id(1), now), keeps_state);
        assert!(table.is_open(&id(2), now));
    }
}

#[test]
fn what_is_put_back_runs_next() {
    let (mut table, now) = (table(1, 1, true), Instant::now());
    table.arrive(&id(1), START, now, 1).unwrap();
    table.arrive(&id(1), END, now, 2).unwrap();
    let taken = table.take(0, 1, |_, _, _, _| true).remove(0);
    assert_eq!(table.put_back(taken), None);
    assert_eq!((run(&mut table, 0, now), run(&mut table, 0, now)), (vec![(0, 1)], vec![(0, 2)]));
    assert!(table.is_empty());
}

/// One thing that may happen.
#[derive(Debug, Clone)]
enum Event {
    Arrive { of: u64, starts: bool, ends: bool },
    Take { instance: usize, most: usize },
    Finish,
    PutBack,
    Cancel(usize),
    Lose(usize),
    GiveUp(usize),
    Rest(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..6u64, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(of, starts, ends)| Event::Arrive { of, starts, ends }),
        4 => (0..2usize, 1..4usize).prop_map(|(instance, most)| Event::Take { instance, most }),
        4 => Just(Event::Finish),
        1 => Just(Event::PutBack),
        1 => any::<usize>().prop_map(Event::Cancel),
        1 => (0..2usize).prop_map(Event::Lose),
        1 => (0..2usize).prop_map(Event::GiveUp),
        1 => (0..15u64).prop_map(Event::Rest),
    ]
}

/// A request knows its sequence and its number, so that each step can be checked by itself.
type Known = (u64, u32, bool);

proptest! {
    #[test]
    fn every_request_runs_once_in_order_or_is_given_back(
        events in proptest::collection::vec(event(), 1..200),
        keeps_state in any::<bool>(),
    ) {
        let limits = Limits { instances: 2, seats: 2, max_idle: IDLE, keeps_state };
        let mut table: Table<Known, u32> = Table::new(limits);
        let mut now = Instant::now();
        let (mut n, mut taken_in) = (0, 0usize);
        let mut open: BTreeMap<u32, ()> = BTreeMap::new();
        let mut last: BTreeMap<u64, u32> = BTreeMap::new();
        let mut running: Vec<(usize, Taken<Known, u32>)> = Vec::new();
        for event in events {
            let mut gone: Vec<Known> = Vec::new();
            match event {
                Event::Arrive { of, starts, ends } => {
                    n += 1;
                    if table.arrive(&id(of), Place { starts, ends }, now, (of, n, starts)).is_ok() {
                        open.insert(n, ());
                        taken_in += 1;
                    } else {
                        prop_assert!(!starts, "a start is always taken");
                    }
                }
                Event::Take { instance, most } => {
                    if running.iter().all(|(at, _)| *at != instance) {
                        for taken in table.take(instance, most, |_, _, _, _| true) {
                            let (of, number, starts) = taken.request;
                            prop_assert!(running.iter().all(|(_, other)| other.request.0 != of), "{of} runs twice");
                            prop_assert!(last.insert(of, number).is_none_or(|before| before <= number), "out of order");
                            prop_assert!(!starts || taken.step.state.is_none(), "a start has no state");
                            running.push((instance, taken));
                        }
                    }
                    let mut rows: Vec<_> = running.iter().map(|(at, taken)| (*at, taken.step.row)).collect();
                    rows.sort_unstable();
                    rows.dedup();
                    prop_assert_eq!(rows.len(), running.len(), "two in one row");
                }
                Event::Finish => for (_, taken) in running.drain(..) {
                    // What is kept is the sequence's own.
                    prop_assert!(taken.step.state.is_none_or(|state| u64::from(state) == taken.request.0));
                    table.ran(taken.step.serial, keeps_state.then_some(taken.request.0 as u32), now);
                    gone.push(taken.request);
                },
                Event::PutBack => for (_, taken) in running.drain(..) {
                    gone.extend(table.put_back(taken));
                },
                Event::Cancel(which) => {
                    if let Some(&number) = open.keys().nth(which % open.len().max(1)) {
                        let removed = table.remove(|(_, other, _)| *other == number);
                        gone.extend(removed.meant.into_iter().chain(removed.orphans));
                    }
                }
                Event::Lose(instance) => gone.extend(table.lost(instance)),
                Event::GiveUp(instance) => {
                    table.gave_up(instance, now);
                    gone.extend(table.lost(instance));
                    let (over, rest) = running.drain(..).partition(|(at, _)| *at == instance);
                    running = rest;
                    let over: Vec<_> = over;
                    gone.extend(over.into_iter().map(|(_, taken)| taken.request));
                }
                Event::Rest(ms) => {
                    now += Duration::from_millis(ms);
                    table.reap(now);
                }
            }
            for (_, number, _) in gone {
                prop_assert!(open.remove(&number).is_some(), "{number} is answered twice");
            }
            let seated = table.seats.iter().flatten().flatten().count();
            prop_assert!(table.backlog.is_empty() || seated == 4, "somebody waits beside a free seat");
            prop_assert_eq!(table.sequences.len(), seated + table.backlog.len());
            prop_assert!(table.sequences.len() <= 4 + open.len(), "what is kept is bounded");
        }
        // Whoever is still there gets an answer once everything runs.
        for _ in 0..=taken_in {
            for (_, taken) in running.drain(..) {
                table.ran(taken.step.serial, None, now);
                prop_assert!(open.remove(&taken.request.1).is_some());
            }
            for instance in 0..2 {
                running.extend(table.take(instance, 9, |_, _, _, _| true).into_iter().map(|taken| (instance, taken)));
            }
            if running.is_empty() {
                now += IDLE;
                table.reap(now);
            }
        }
        prop_assert!(open.is_empty(), "never answered: {:?}", open);
        table.reap(now + IDLE);
        prop_assert!(table.is_empty());
    }
}
