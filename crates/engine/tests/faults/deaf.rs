//! A source that is given nothing on its first connection any more once *go* was written: it hangs up, comes again, and is told.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use whimbrel_engine::transport::{Connect, Stream, TransportError};

use super::way::{Ends, Kind, Way};
use super::world::{Where, World, mib};

const PATIENCE: Duration = Duration::from_millis(400);

struct Deaf {
    inner: Arc<dyn Connect>,
    made: Arc<AtomicU64>,
    hears_nothing: Arc<AtomicBool>,
}

impl Connect for Deaf {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        let inner = self.inner.connect(within)?;
        let first = self.made.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(if first {
            Box::new(DeafStream { inner, hears_nothing: Arc::clone(&self.hears_nothing) })
        } else {
            inner
        })
    }
}

struct DeafStream {
    inner: Box<dyn Stream>,
    hears_nothing: Arc<AtomicBool>,
}

impl Stream for DeafStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into);
        if self.hears_nothing.load(Ordering::Acquire) {
            thread::sleep(PATIENCE);
            return Err(io::ErrorKind::TimedOut.into());
        }
        count
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.write(parts)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.inner.set_patience(read, write)
    }

    fn shutdown(&self) {
        self.inner.shutdown();
    }

    fn peer(&self) -> String {
        self.inner.peer()
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
        .through(move |inner| Arc::new(Deaf { inner, made, hears_nothing }))
        .at_go(move || at_go.store(true, Ordering::Release))
        .go();
    // Control, pages, and control again.
    assert!(connections.load(Ordering::Relaxed) > 2, "it was told at once");
    assert_eq!(moved.check_the_guest_where_it_is(), Where::There);
}
