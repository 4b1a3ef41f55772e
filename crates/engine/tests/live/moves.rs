//! Whole moves of a lab guest between two drivers, over connections of every kind: the guest goes on exactly, nothing of the
//! migration is left, and whatever goes wrong before *go* leaves it where it was.
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::world::{Where, World, mib};
use whimbrel_core::journal::Entry;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::{DestinationOutcome, SourceEvent, SourcePhase};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::Bandwidth;
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::Order;

#[test]
fn a_guest_that_writes_goes_on_exactly_at_the_destination() {
    let moved = World::of(mib(32)).writing(20_000.0).go();
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    assert_eq!(moved.source.right, Right::Theirs);
    assert_eq!(moved.destination.outcome, Some(DestinationOutcome::Running));
    assert!(moved.source.report.rounds.len() > 1);
    moved.check_the_guest_there();
}

#[test]
fn a_guest_goes_by_many_streams() {
    for streams in [2, 7, 64] {
        let moved = World::of(mib(32)).writing(20_000.0).streams(streams).go();
        assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
        moved.check_the_guest_there();
    }
}

#[test]
fn an_idle_guest_is_sent_once() {
    let moved = World::of(mib(32)).go();
    let report = &moved.source.report;
    assert_eq!(report.outcome, Outcome::Completed, "{}", report.why);
    assert!(report.amplification() < 1.05, "{}", report.amplification());
    moved.check_the_guest_there();
}

#[test]
fn a_limit_is_kept() {
    let limit = RateLimit::AtMost(Bandwidth::new(64 << 20).expect("a rate"));
    let moved = World::of(mib(32)).limit(limit).go();
    let report = &moved.source.report;
    assert_eq!(report.outcome, Outcome::Completed, "{}", report.why);
    assert!(report.total > Duration::from_millis(450), "{:?}", report.total);
    moved.check_the_guest_there();
}

#[test]
fn a_journal_of_a_real_run_replays_to_itself() {
    let moved = World::of(mib(16)).writing(20_000.0).go();
    assert!(moved.lines.len() > 10);
    moved.check_the_journal();
}

#[test]
fn a_long_run_shows_its_journal_as_it_goes_and_none_of_it_in_the_blackout() {
    static SEEN: Mutex<Vec<(SourcePhase, usize)>> = Mutex::new(Vec::new());
    let limit = RateLimit::AtMost(Bandwidth::new(32 << 20).expect("a rate"));
    let moved = World::of(mib(16)).writing(2_000.0).policy("whimbrel").limit(limit).seen(|event| {
        let mut seen = SEEN.lock().expect("nobody panics with it in hand");
        match event {
            Event::Source(phase) => seen.push((*phase, 0)),
            Event::Journal { lines, .. } => seen.last_mut().expect("it has begun").1 += lines.len(),
            _ => {}
        }
    });
    let moved = moved.go();
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    let seen = SEEN.lock().expect("nobody panics with it in hand");
    let shown = |phases: Range<SourcePhase>| {
        seen.iter().filter(|(phase, _)| phases.contains(phase)).map(|(_, lines)| lines).sum::<usize>()
    };
    assert_eq!(shown(SourcePhase::Pausing..SourcePhase::PostCopy), 0);
    assert!(shown(SourcePhase::Idle..SourcePhase::Pausing) >= 16, "{seen:?}");
    assert_eq!(seen.iter().map(|(_, lines)| lines).sum::<usize>(), moved.lines.len());
    // Nothing of the guest's state is in it.
    let saved = moved.lines.iter().find_map(|line| match line {
        Entry::Event { event: SourceEvent::Saved(sections), .. } => Some(sections),
        _ => None,
    });
    let saved = saved.expect("it was saved");
    assert!(!saved.is_empty() && saved.iter().all(|section| section.bytes.is_empty()), "{saved:?}");
}

#[test]
fn a_record_is_near_before_the_guest_stops_at_the_source_and_before_the_bulk_round_ends_at_the_destination() {
    static SAID: OnceLock<Arc<AtomicU32>> = OnceLock::new();
    static WHEN_PAUSED: AtomicU32 = AtomicU32::new(0);
    let world = World::of(mib(4)).policy("fixed-rounds").seen(|event| {
        if matches!(event, Event::Source(SourcePhase::Pausing)) {
            WHEN_PAUSED.store(SAID.wait().load(Ordering::Relaxed), Ordering::Relaxed);
        }
    });
    SAID.set(Arc::clone(&world.near[0])).expect("once");
    let said_there = Arc::clone(&world.near[1]);
    let moved = world.go();
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    assert!(WHEN_PAUSED.load(Ordering::Relaxed) > 0, "nobody was told before the guest was to stop");
    // When each round has ended, and once before: in the first, as nobody knows which is the last.
    let (said, rounds) = (said_there.load(Ordering::Relaxed), moved.source.report.rounds.len());
    assert!(said as usize > rounds, "{said} times in {rounds} rounds");
    moved.check_the_guest_there();
}

#[test]
fn a_guest_whose_memory_is_compared_goes_on_exactly() {
    for streams in [1, 3] {
        let moved = World::of(mib(32)).writing(20_000.0).streams(streams).verified().go();
        assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
        moved.check_the_guest_there();
    }
}

#[test]
fn who_leaves_before_the_handover_cancels() {
    let slowly = || {
        let limit = RateLimit::AtMost(Bandwidth::new(8 << 20).expect("a rate"));
        World::of(mib(32)).writing(20_000.0).limit(limit)
    };
    let wait = || std::thread::sleep(Duration::from_millis(150));
    let moved = slowly().go_with(|source, _| {
        wait();
        source.give(Order::Leave);
    });
    assert_eq!(moved.source.report.outcome, Outcome::Cancelled, "{}", moved.source.report.why);
    assert_eq!(moved.check_the_guest_where_it_is(), Where::Here);
    let moved = slowly().go_with(|_, destination| {
        wait();
        destination.give(Order::Leave);
    });
    assert_eq!(moved.source.report.outcome, Outcome::Failed, "{}", moved.source.report.why);
    assert_eq!(moved.check_the_guest_where_it_is(), Where::Here);
}
