//! One socket of the system, whichever family: what TCP, Unix sockets and TLS have in common.
//!
//! Every wait on the system is here. Calls that a signal interrupted go on; nothing else is tried again.

use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::SockAddr;

use crate::clock::Deadline;

/// Linux takes no more parts in one call (`IOV_MAX`).
const MOST_PARTS: usize = 1024;

/// The least that a socket is told to wait: 0 would be for ever.
const LEAST: Duration = Duration::from_millis(1);

/// Whether an error says that time ran out, in whichever of its two forms.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// A socket that is connected, or listens.
#[derive(Debug)]
pub(super) struct Socket(pub(super) socket2::Socket);

impl Socket {
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.0).read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(lost),
            }
        }
    }

    /// Parts behind those that the system takes at once are left for the next call.
    pub(super) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        // Whoever has its peer gone learns it from the result; an embedder's process may not ignore the signal.
        self.send(parts, libc::MSG_NOSIGNAL)
    }

    /// As [`Socket::write`], but `WouldBlock` at once if nothing can be taken now.
    #[cfg(feature = "tls")]
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(&[IoSlice::new(bytes)], libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    }

    fn send(&self, parts: &[IoSlice<'_>], flags: libc::c_int) -> io::Result<usize> {
        let filled = parts.iter().position(|part| !part.is_empty()).unwrap_or(parts.len());
        let parts = &parts[filled..];
        let parts = &parts[..parts.len().min(MOST_PARTS)];
        if parts.is_empty() {
            return Ok(0);
        }
        loop {
            match self.0.send_vectored_with_flags(parts, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(lost),
            }
        }
    }

    pub(super) fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(read.map(|time| time.max(LEAST)))?;
        self.0.set_write_timeout(write.map(|time| time.max(LEAST)))
    }

    pub(super) fn shutdown(&self) {
        // Fails only when the connection is gone already, which is what is wanted.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits for the next connection. Those that are gone before they are taken are passed over.
    pub(super) fn accept(&self, within: Duration) -> io::Result<Option<(Self, SockAddr)>> {
        let deadline = Deadline::within(Some(within));
        loop {
            self.0.set_read_timeout(deadline.left().map(|left| left.max(LEAST)))?;
            match self.0.accept() {
                Ok((taken, peer)) => {
                    let taken = Self(taken);
                    // On Linux it has the listener's.
                    taken.set_patience(None, None)?;
                    return Ok(Some((taken, peer)));
                }
                Err(error) if is_timeout(&error) && deadline.over() => return Ok(None),
                Err(error) if is_timeout(&error) || is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A patience that is over is `EAGAIN`. `ETIMEDOUT` is the system giving up on the peer, and must not look as if the connection
/// could still be used.
fn lost(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ETIMEDOUT) {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the peer acknowledged nothing for too long")
    } else {
        error
    }
}

/// Whether `accept(2)` speaks of one connection, not of the listener: its manual says to go on.
fn is_passing(error: &io::Error) -> bool {
    let of_the_network = [
        libc::EINTR,
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::EPERM,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        #[cfg(target_os = "linux")]
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| of_the_network.contains(&code))
}
