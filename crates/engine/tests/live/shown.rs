//! When the journal is shown while nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_engine::observer::Event;

use super::world::{World, mib};

/// The first lines were shown; and so they were when the replica was ready.
static SHOWN: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// Less than it takes until the source would do anything by itself, a quarter of its patience.
const WAITED: Duration = Duration::from_secs(5);

#[test]
fn what_happened_is_shown_while_the_destination_is_waited_for() {
    let moved = World::of(mib(1))
        .policy("fixed-rounds")
        .seen(|event| {
            if let Event::Journal { .. } = event {
                SHOWN[0].store(true, Ordering::SeqCst);
            }
        })
        .veiled(|memory| {
            let begun = Instant::now();
            while !SHOWN[0].load(Ordering::SeqCst) && begun.elapsed() < WAITED {
                thread::sleep(Duration::from_millis(5));
            }
            SHOWN[1].store(SHOWN[0].load(Ordering::SeqCst), Ordering::SeqCst);
            memory as Arc<_>
        })
        .go();
    assert!(SHOWN[1].load(Ordering::SeqCst), "nothing was shown for {WAITED:?}");
    moved.check_the_guest_there();
}
