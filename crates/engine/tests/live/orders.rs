//! Orders that are not taken, and whoever gave them is told.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use whimbrel_core::machine::handoff::Fence;
use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::Bandwidth;
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::Order;

use super::world::{World, mib};

/// Orders that were ignored at the source, and at the destination.
static IGNORED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn count(event: &Event<'_>, side: usize) {
    if let Event::Ignored { order } = event {
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
