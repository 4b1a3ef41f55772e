//! Connections on which something is done to what is said. Shared by the programs of tests `live` and `faults`.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use whimbrel_engine::transport::{Connect, Stream, TransportError};

use super::world::World;

/// A connection that is disturbed: as the one within it but for what it says itself.
pub(crate) trait Disturbed: Send + Sync {
    fn inner(&self) -> &dyn Stream;

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.inner().read(into)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner().write(parts)
    }

    /// None: whoever writes to that goes past `write`.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// It, as drivers take it.
pub(crate) struct Through<D>(pub(crate) D);

impl<D: Disturbed> Stream for Through<D> {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(parts)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.0.inner().set_patience(read, write)
    }

    fn shutdown(&self) {
        self.0.inner().shutdown();
    }

    fn peer(&self) -> String {
        self.0.inner().peer()
    }
}

/// Makes something of each connection.
struct Each<F> {
    inner: Arc<dyn Connect>,
    made: AtomicU64,
    with: F,
}

impl<F: Fn(u64, Box<dyn Stream>) -> Box<dyn Stream> + Send + Sync> Connect for Each<F> {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        let stream = self.inner.connect(within)?;
        Ok((self.with)(self.made.fetch_add(1, Ordering::Relaxed), stream))
    }
}

impl World {
    /// What this makes of each connection, by its number, is the source's.
    pub(crate) fn each_connection<F>(self, with: F) -> Self
    where
        F: Fn(u64, Box<dyn Stream>) -> Box<dyn Stream> + Send + Sync + 'static,
    {
        self.through(|inner| Arc::new(Each { inner, made: AtomicU64::new(0), with }))
    }
}
