//! A source that is given nothing on its first connection any more once *go* was written: it hangs up, comes again, and is told.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use whimbrel_engine::transport::Stream;

use super::between::{Disturbed, Through};
use super::way::{Ends, Kind, Way};
use super::world::{Where, World, mib};

const PATIENCE: Duration = Duration::from_millis(400);

struct Deaf {
    inner: Box<dyn Stream>,
    hears_nothing: Arc<AtomicBool>,
}

impl Disturbed for Deaf {
    fn inner(&self) -> &dyn Stream {
        &*self.inner
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into);
        if self.hears_nothing.load(Ordering::Acquire) {
            thread::sleep(PATIENCE);
            return Err(io::ErrorKind::TimedOut.into());
        }
        count
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }
}

/// *Running* was said to it and it has not heard it: that it hangs up is no word that it needs no answer.
pub(crate) fn who_does_not_hear_running_is_told_when_it_comes_again() {
    let Some(Ends { connect, listen, way: _way }) = Way::sockets(Kind::Tcp) else { return };
    let (hears_nothing, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (at_go, connections) = (Arc::clone(&hears_nothing), Arc::clone(&made));
    let moved = World::of(mib(4))
        .writing(20_000.0)
        .policy("fixed-rounds")
        .patience(PATIENCE)
        .over(connect, listen)
        .each_connection(move |number, inner| {
            made.store(number + 1, Ordering::Relaxed);
            let hears_nothing = Arc::clone(&hears_nothing);
            if number == 0 { Box::new(Through(Deaf { inner, hears_nothing })) } else { inner }
        })
        .at_go(move || at_go.store(true, Ordering::Release))
        .go();
    // Control, pages, and control again.
    assert!(connections.load(Ordering::Relaxed) > 2, "it was told at once");
    assert_eq!(moved.check_the_guest_where_it_is(), Where::There);
}
