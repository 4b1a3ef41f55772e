//! Orders that are taken, and that are not: whoever gave them is told.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_core::journal::Entry;
use whimbrel_core::machine::handoff::Fence;
use whimbrel_core::machine::{SourceEvent, SourcePhase};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::Bandwidth;
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::{Order, Remote};

use super::world::{World, mib};

/// Orders that were ignored at the source, and at the destination.
static IGNORED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn count(event: &Event<'_>, side: usize) {
    if let Event::Ignored { order, .. } = event {
        let may_be = [Order::Fence(Fence::NeverRan), Order::Fence(Fence::MayHaveRun), Order::Discard];
        assert!(may_be.contains(order), "{order:?}");
        IGNORED[side].fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_fence_is_not_taken_as_long_as_there_is_a_connection_and_that_is_told() {
    let slow = Bandwidth::new(16 << 20).expect("a rate");
    let moved = World::of(mib(8))
        .writing(1_000.0)
        .limit(RateLimit::AtMost(slow))
        .seen(|event| count(event, 0))
        .watched_there(|event| count(event, 1))
        .go_with(|source, destination| {
            thread::sleep(Duration::from_millis(100));
            for order in [Order::Fence(Fence::NeverRan), Order::Fence(Fence::MayHaveRun), Order::Discard] {
                assert!(source.give(order.clone()) && destination.give(order));
            }
        });
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    moved.check_the_guest_there();
    let ignored = [&IGNORED[0], &IGNORED[1]].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(ignored, [3, 3]);
}

/// So slow that nothing would be moved before somebody gives up: 16 MiB take two minutes.
const CRAWLING: u64 = 125_000;

/// What was shown of limits, in order: those in force, and orders that were taken.
static LIMITS: Mutex<Vec<RateLimit>> = Mutex::new(Vec::new());

fn note_limits(event: &Event<'_>) {
    let mut limits = LIMITS.lock().expect("nobody panics with it in hand");
    match event {
        Event::Limit(limit) | Event::Taken { order: Order::Limit(limit) } => limits.push(*limit),
        Event::Ignored { order, why } => panic!("{order:?}: {why}"),
        _ => {}
    }
}

#[test]
fn a_limit_is_changed_while_pages_wait_for_the_old_one_and_the_journal_says_so() {
    let crawling = RateLimit::AtMost(Bandwidth::new(CRAWLING).expect("a rate"));
    let faster = RateLimit::AtMost(Bandwidth::new(2 * CRAWLING).expect("a rate"));
    let began = Instant::now();
    let moved =
        World::of(mib(16)).limit(crawling).policy("fixed-rounds").seen(note_limits).go_with(|source, _| {
            thread::sleep(Duration::from_millis(200));
            for limit in [faster, RateLimit::Unlimited] {
                assert!(source.give(Order::Limit(limit)));
            }
        });
    let report = &moved.source.report;
    assert_eq!(report.outcome, Outcome::Completed, "{}", report.why);
    // At the old limit it would have been minutes.
    let most = Duration::from_secs_f64(report.sent.as_f64() / CRAWLING as f64 / 2.0);
    assert!(report.total < most && began.elapsed() < most, "{:?} of {most:?}", report.total);
    let shown = LIMITS.lock().expect("nobody panics with it in hand").clone();
    assert_eq!(shown, [faster, faster, RateLimit::Unlimited, RateLimit::Unlimited]);

    // The journal has them in their place behind that of the beginning, and what was decided follows from it with them.
    let ordered = |line: &Entry| match line {
        Entry::Event { event: SourceEvent::Limit(limit), .. } => Some(*limit),
        _ => None,
    };
    let limits: Vec<_> = moved.lines.iter().filter_map(ordered).collect();
    assert_eq!(limits, [crawling, faster, RateLimit::Unlimited]);
    moved.check_the_journal();
    moved.check_the_guest_there();
}

/// Of a limit that came when the guest was there.
static LATE: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn a_limit_that_comes_when_the_last_page_was_sent_is_not_taken() {
    static GIVE: OnceLock<Remote> = OnceLock::new();
    let moved = World::of(mib(4))
        // So that it is taken before all is over.
        .late(Duration::from_millis(200))
        .seen(|event| match event {
            Event::Source(SourcePhase::AwaitingReady) => {
                assert!(GIVE.wait().give(Order::Limit(RateLimit::Unlimited)));
            }
            Event::Ignored { why, .. } => LATE.lock().expect("the same").push((*why).to_owned()),
            Event::Taken { order } => panic!("{order:?}"),
            _ => {}
        })
        .go_with(|source, _| GIVE.set(source).expect("once"));
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    moved.check_the_guest_there();
    let late = LATE.lock().expect("nobody panics with it in hand");
    assert!(matches!(late.as_slice(), [why] if why.contains("`limit` does not fit the phase")), "{late:?}");
}
