//! What a socket holds that is not there yet, for whoever has to tell how much of what it sent is still under way. Nothing here
//! opens, reads or changes a socket.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use whimbrel_core::units::ByteCount;

/// What the send queue of a stream socket holds (`SIOCOUTQ`).
///
/// * *TCP*: bytes that the peer's system has not acknowledged, sent or not. What it has acknowledged and its program has
///   not read yet is not among them, so zero does not say that all was read.
/// * *Unix*: memory of the kernel's that holds what the peer has not read yet, its own overhead included. Zero says
///   that all was read; anything else is an upper bound, of up to some KiB for a single byte.
///
/// # Errors
///
/// What the system says: `ENOTTY` for what is no socket, `EINVAL` for one that listens.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<ByteCount> {
    let mut held: libc::c_int = 0;
    // SAFETY: this request (`TIOCOUTQ`, which is `SIOCOUTQ` by another name) writes one `int` to where it is told, which `held`
    // is; on descriptors of any other kind it fails.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut held) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ByteCount(u64::try_from(held).unwrap_or(0)))
}
