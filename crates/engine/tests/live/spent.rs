//! Processor time that sending takes, and what is not in it.

use std::thread;
use std::time::Duration;

use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::Bandwidth;
use whimbrel_engine::clock::SystemClock;
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::Order;

use super::world::{World, mib};

/// How often the observer is told something while pages wait for the limit, and what it works then.
const TOLD: u32 = 20;
const WORK: Duration = Duration::from_millis(20);

/// Works as long as it says, in processor time: whatever else runs here makes that no more and no less.
fn work(event: &Event<'_>) {
    if matches!(event, Event::Taken { .. }) {
        let clock = SystemClock::start();
        let began = clock.worked();
        while clock.worked().since(began) < WORK {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn what_an_observer_works_while_pages_are_sent_is_not_what_sending_takes() {
    let limit = RateLimit::AtMost(Bandwidth::new(2 << 20).expect("a rate"));
    let moved = World::of(mib(2)).policy("fixed-rounds").limit(limit).seen(work).go_with(|source, _| {
        thread::sleep(Duration::from_millis(50));
        for _ in 0..TOLD {
            assert!(source.give(Order::Limit(limit)));
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    // Sending so little takes some milliseconds.
    let (cpu, worked) = (moved.source.cpu.expect("it is known here"), WORK * TOLD);
    assert!(cpu < worked / 2, "{cpu:?}, where the observer has worked {worked:?}");
    moved.check_the_guest_there();
}
