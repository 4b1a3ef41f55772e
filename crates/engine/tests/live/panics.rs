//! Code of an embedder's that panics on the source's driver: the guest runs on, free and untracked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_core::machine::SourcePhase;
use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::Bandwidth;
use whimbrel_engine::observer::Event;
use whimbrel_engine::transport::memory::Link;
use whimbrel_engine::transport::{Connect, Stream, TransportError};

use super::world::{PANICKED, Where, World, mib};

/// Panics when the source's machine comes to this phase.
macro_rules! panics_in {
    ($phase:ident) => {
        |event| assert!(!matches!(event, Event::Source(SourcePhase::$phase)), "told to panic")
    };
}

#[test]
fn a_panic_of_the_embedders_leaves_the_guest_running_and_untracked() {
    let watches: [fn(&Event<'_>); 5] = [
        panics_in!(Sending),
        panics_in!(LastHarvest),
        panics_in!(Saving),
        panics_in!(AwaitingReady),
        |event| assert!(!matches!(event, Event::Progress(progress) if progress.round > 1), "told to panic"),
    ];
    for watch in watches {
        let world = World::of(mib(4)).writing(20_000.0).policy("fixed-rounds").seen(watch);
        let stayed = world.attempt(|_, _| ()).err().expect("it panicked");
        assert_eq!(stayed.why, PANICKED);
        stayed.check_the_guest();
    }
}

/// Panics when a connection is made for the third time: the first that is made again.
struct PanicsOnce {
    inner: Arc<dyn Connect>,
    calls: AtomicU32,
}

impl Connect for PanicsOnce {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        assert_ne!(self.calls.fetch_add(1, Ordering::SeqCst), 2, "told to panic");
        self.inner.connect(within)
    }
}

#[test]
fn a_connection_is_made_again_although_the_first_attempt_has_panicked() {
    let slow = Bandwidth::new(8 << 20).expect("a rate");
    let world = World::of(mib(4))
        .writing(1_000.0)
        .limit(RateLimit::AtMost(slow))
        .through(|inner| Arc::new(PanicsOnce { inner, calls: AtomicU32::new(0) }));
    let hub = world.between();
    let moved = world.go_with(move |_, _| {
        let begun = Instant::now();
        while hub.links().len() < 2 {
            assert!(begun.elapsed() < Duration::from_mins(1), "nobody comes");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(50));
        hub.links().iter().for_each(Link::cut);
    });
    assert!(moved.source.settled, "{:?}", moved.source.report);
    assert_eq!(moved.check_the_guest_where_it_is(), Where::Here);
}
