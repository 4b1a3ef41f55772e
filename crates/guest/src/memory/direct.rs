//! Guest memory that the system moves to and from descriptors itself, and that it makes resident ahead of time: the calls
//! that [`DirectRam`](whimbrel_core::embed::DirectRam) and [`GuestRam::prepare`](whimbrel_core::embed::GuestRam::prepare) are
//! made of, for memory of this crate and of rust-vmm. Nobody is told which pages were written: that is the dirty
//! log's affair, if it sees what the kernel writes.

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;
use rustix::mm::Advice;
use whimbrel_core::embed::{Piece, RamError, RamRange};
use whimbrel_core::layout::Gpa;

use super::help;

/// The most pieces that one call takes: `UIO_MAXIOV`.
const MOST: usize = 1024;

/// Bytes of guest memory, where they are in this process.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    address: *mut c_void,
    len: usize,
    memory: PhantomData<&'a [AtomicU64]>,
}

impl<'a> Span<'a> {
    /// `len` bytes of `words` from byte `offset` on; none unless all are there.
    #[inline]
    pub(crate) fn new(words: &'a [AtomicU64], offset: usize, len: usize) -> Option<Self> {
        let end = offset.checked_add(len)?;
        let address = words.as_ptr().cast_mut().wrapping_byte_add(offset).cast();
        (end <= size_of_val(words)).then_some(Self { address, len, memory: PhantomData })
    }

    /// Makes it resident, in whole host pages. Nothing is done by kernels that cannot (before Linux 5.14) or for memory of
    /// which they do not want it.
    ///
    /// # Errors
    ///
    /// What the system says, with what can be done about it.
    pub(crate) fn populate(&self) -> io::Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        let page = rustix::param::page_size();
        let before = self.address as usize % page;
        let address = self.address.wrapping_byte_sub(before);
        let len = (before + self.len).next_multiple_of(page);
        if is_resident(address, len / page) {
            return Ok(());
        }
        // SAFETY: all of it is mapped for as long as `self` lives: maps are whole host pages, so what was added on both sides
        // belongs to them too. Content stays as it is.
        match unsafe { rustix::mm::madvise(address, len, Advice::LinuxPopulateWrite) } {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(io::Error::new(io::Error::from(errno).kind(), help::populate(errno))),
        }
    }
}

/// Whether so many host pages are there already, which the kernel answers in a tenth of the time in which it sees to it. (Those of a
/// file may still be unknown to this process.)
fn is_resident(address: *mut c_void, pages: usize) -> bool {
    let mut found = vec![0_u8; pages];
    let len = pages * rustix::param::page_size();
    // SAFETY: there is a byte for each of so many pages, and whatever is mapped there, nothing is done to it.
    let asked = unsafe { libc::mincore(address, len, found.as_mut_ptr()) };
    asked == 0 && found.iter().all(|page| page & 1 == 1)
}

/// Where the ranges of one guest are.
pub(crate) trait Spans {
    /// Where `range` is.
    ///
    /// # Errors
    ///
    /// [`RamError::NotMemory`] unless all of it lies in one region.
    fn span(&self, range: RamRange) -> Result<Span<'_>, RamError>;
}

/// A part of what the kernel reads: as it wants it.
#[repr(transparent)]
struct Outgoing<'a>(libc::iovec, PhantomData<&'a [AtomicU64]>);

impl<'a> Outgoing<'a> {
    fn bytes(bytes: &'a [u8]) -> Self {
        let base = bytes.as_ptr().cast_mut().cast();
        Self(libc::iovec { iov_base: base, iov_len: bytes.len() }, PhantomData)
    }

    fn memory(span: Span<'a>) -> Self {
        Self(libc::iovec { iov_base: span.address, iov_len: span.len }, PhantomData)
    }
}

/// A part of what the kernel writes. Only guest memory can be one.
#[repr(transparent)]
struct Incoming<'a>(libc::iovec, PhantomData<&'a [AtomicU64]>);

impl<'a> Incoming<'a> {
    fn memory(span: Span<'a>) -> Self {
        Self(libc::iovec { iov_base: span.address, iov_len: span.len }, PhantomData)
    }
}

/// [`DirectRam::send`](whimbrel_core::embed::DirectRam::send).
pub(crate) fn send(memory: &impl Spans, pieces: &[Piece<'_>], to: BorrowedFd<'_>) -> Result<usize, RamError> {
    let mut parts = Vec::with_capacity(pieces.len().min(MOST));
    for piece in pieces {
        // All are looked at, so that nothing is sent of what cannot be sent to its end.
        let part = match *piece {
            Piece::Bytes(bytes) => Outgoing::bytes(bytes),
            Piece::Ram(range) => Outgoing::memory(memory.span(range)?),
        };
        if part.0.iov_len > 0 && parts.len() < MOST {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return Ok(0);
    }
    let first = pieces.iter().find_map(|piece| match piece {
        Piece::Ram(range) => Some(range.at),
        Piece::Bytes(_) => None,
    });
    let sent = match again(|| send_message(to, &parts)) {
        // A pipe or a file. Whoever gives a pipe has to expect its signal too.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTSOCK) => again(|| write(to, &parts)),
        sent => sent,
    };
    sent.map_err(|cause| blame(first.unwrap_or(Gpa(0)), cause))
}

/// [`DirectRam::receive`](whimbrel_core::embed::DirectRam::receive).
pub(crate) fn receive(
    memory: &impl Spans,
    ranges: &[RamRange],
    from: BorrowedFd<'_>,
) -> Result<usize, RamError> {
    let mut parts = Vec::with_capacity(ranges.len().min(MOST));
    for &range in ranges {
        let part = Incoming::memory(memory.span(range)?);
        if part.0.iov_len > 0 && parts.len() < MOST {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return Ok(0);
    }
    let at = ranges.first().map_or(Gpa(0), |range| range.at);
    again(|| read(from, &parts)).map_err(|cause| blame(at, cause))
}

/// Whose fault it is: only of memory that is not there, as behind the end of its file, the kernel says `EFAULT`.
fn blame(at: Gpa, cause: io::Error) -> RamError {
    if Errno::from_io_error(&cause) == Some(Errno::FAULT) {
        RamError::Failed { at, cause }
    } else {
        RamError::Descriptor(cause)
    }
}

/// Calls until no signal comes between.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// As `writev(2)` for sockets: one whose peer is gone gives an error and no signal, which would end a process that
/// expects none.
fn send_message(to: BorrowedFd<'_>, parts: &[Outgoing<'_>]) -> io::Result<usize> {
    // SAFETY: a message header of zeroes is one without address, parts, control data and flags.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    // Its type differs between C libraries; at most `MOST`.
    message.msg_iovlen = parts.len() as _;
    // SAFETY: each part is of bytes that are borrowed or of guest memory that is mapped for as long as it is borrowed; the kernel
    // reads them and changes no part. Guest memory is only ever seen as atomics, and a read that tears is allowed.
    let sent = unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// `writev(2)`.
fn write(to: BorrowedFd<'_>, parts: &[Outgoing<'_>]) -> io::Result<usize> {
    let count = libc::c_int::from(parts.len() as u16);
    // SAFETY: as in `send_message`; `Outgoing` is an `iovec` and nothing else, and there are `count` of them, at most `MOST`.
    let sent = unsafe { libc::writev(to.as_raw_fd(), parts.as_ptr().cast(), count) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// `readv(2)`.
fn read(from: BorrowedFd<'_>, parts: &[Incoming<'_>]) -> io::Result<usize> {
    let count = libc::c_int::from(parts.len() as u16);
    // SAFETY: each part is guest memory that is mapped readable and writable for as long as it is borrowed, and that others
    // see as atomics only, under which the kernel may write; there are `count` of them, at most `MOST`.
    let read = unsafe { libc::readv(from.as_raw_fd(), parts.as_ptr().cast(), count) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests;
