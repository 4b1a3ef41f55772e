//! Ways to the peer.
//!
//! A migration uses several connections of one kind: one for control, one or more for pages. A [`Stream`] is one of them: an
//! ordered, reliable path of bytes in both directions, read by one thread while another writes. Whoever has a connection of
//! another kind implements [`Stream`], [`Connect`] and [`Listen`] for it; all must pass the conformance suite.
//!
//! A stream has no opinion about what it carries, retries nothing and hides no error: who lost a connection learns it.
//!
//! [`open`] makes a [`Connect`] or a [`Listen`] of an [`Address`] as people write it: `tcp:HOST:PORT`, `tls:HOST:PORT`,
//! `unix:/PATH`. [`memory`] has connections within a process, which can be cut and stalled on purpose.

pub mod address;
pub mod conformance;
#[cfg(feature = "tls")]
pub mod keys;
pub mod memory;
pub mod open;
mod socket;
pub mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
pub mod unix;

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use self::address::{Address, HostPort};

/// One connection. Shared by a thread that reads and one that writes. It waits for ever until
/// [`Stream::set_patience`] says otherwise. Dropping it without [`Stream::shutdown`] may look to the peer like a loss.
pub trait Stream: Send + Sync {
    /// Waits for bytes and gives how many came; none at the end of the stream, or if there is no room in `into`. Both
    /// directions end together: who reads the end has this side's shutdown done, too, so that nobody goes on writing to a peer
    /// that is gone. (Who reads from the [`Stream::descriptor`] does it themselves.)
    ///
    /// # Errors
    ///
    /// What the system says. `TimedOut` or `WouldBlock` when nothing came within the patience; the stream can still be read.
    fn read(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Hands bytes over and gives how many were taken, at least one of those there are. What was taken needs no further call
    /// to arrive, unless time ran out in the middle: then it goes with the next call, be it to write or to read.
    ///
    /// # Errors
    ///
    /// What the system says. `TimedOut` or `WouldBlock` when nothing was taken within the patience; the stream can still be
    /// written.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// A descriptor with which the system moves the same bytes by itself; none where something lies between, as encryption
    /// does.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// How long one [`Stream::read`] and one [`Stream::write`] wait; for ever if none. Holds for calls that begin afterwards.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()>;

    /// Ends both directions, also for threads that wait in a call: reads give the end of the stream or an error, writes an
    /// error. Bytes that were taken before are still carried to a peer that reads them and sends no more. Idempotent.
    fn shutdown(&self);

    /// Who is at the other end, for messages to people.
    fn peer(&self) -> String;
}

/// Makes connections to one peer.
pub trait Connect: Send + Sync {
    /// Makes a connection. Where both sides show who they are, the peer must be reading or writing for that.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if there is none within this time.
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError>;
}

/// Takes connections.
pub trait Listen: Send + Sync {
    /// Waits for the next connection; none if none came within this time.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if no more connections can be taken. One that fails as it is made is not an error. Where both sides
    /// show who they are, that happens in the first call that reads or writes, so that nobody waits for a peer that says
    /// nothing; set a patience before.
    fn accept(&self, within: Duration) -> Result<Option<Box<dyn Stream>>, TransportError>;

    /// Where it listens, as [`Connect`] would be told.
    fn address(&self) -> String;
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct TransportError {
    /// What was tried, and what can be done about it.
    pub what: String,
    /// What the system says.
    #[source]
    pub cause: io::Error,
}

impl TransportError {
    /// What was tried, and what came of it.
    pub fn new(what: impl Into<String>, cause: io::Error) -> Self {
        Self { what: what.into(), cause }
    }
}

/// Drivers hold them as `dyn`.
const _: Option<(&dyn Stream, &dyn Connect, &dyn Listen)> = None;
