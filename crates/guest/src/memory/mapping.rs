//! One map: mapped when made, unmapped when dropped. All calls that take raw addresses of guest memory are here.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::{Resource, getrlimit};

use super::Backing;
use super::help::{self, Refused};

/// Memory that is ours alone to unmap.
#[derive(Debug)]
pub(super) struct Mapping {
    address: NonNull<c_void>,
    len: usize,
    /// Its pages are in a file of the kernel's, with a name or without.
    shared: bool,
    file: Option<OwnedFd>,
}

// SAFETY: the address is only ever used as shared atomic words or given to the kernel.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes of zeroes; not none, and whole host pages.
    pub(super) fn new(len: usize, backing: Backing) -> Result<Self, Refused> {
        let file = if backing == Backing::Memfd { Some(file(len)?) } else { None };
        let address = match (&file, backing) {
            (Some(file), _) => map_file(len, file),
            (None, Backing::Shared) => map_anonymous(len, MapFlags::SHARED),
            (None, _) => map_anonymous(len, MapFlags::PRIVATE),
        };
        let address = address.map_err(Refused::by(help::map))?;
        // From here on it is unmapped whatever happens.
        let made = Self { address, len, shared: matches!(backing, Backing::Shared | Backing::Memfd), file };
        if backing == Backing::PrivateHuge {
            made.advise(0, len, Advice::LinuxHugepage).map_err(Refused::by(help::huge))?;
        }
        Ok(made)
    }

    #[inline]
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped readable and writable for as long as `self` lives, aligned to a page, and whole words; atomics
        // may be changed by anybody at any time.
        unsafe { std::slice::from_raw_parts(self.address.cast().as_ptr(), self.len / 8) }
    }

    pub(super) fn address(&self) -> usize {
        self.address.as_ptr() as usize
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|file| file.as_fd())
    }

    pub(super) fn populate(&self) -> Result<(), Refused> {
        self.advise(0, self.len, Advice::LinuxPopulateWrite).map_err(Refused::by(help::populate))
    }

    pub(super) fn lock(&self) -> Result<(), Refused> {
        // SAFETY: the range is this map; locking changes no content.
        let locked = unsafe { rustix::mm::mlock(self.address.as_ptr(), self.len) };
        locked.map_err(Refused::by(help::lock))
    }

    /// Gives memory back. Shared pages live on when they are only unmapped here, so there it makes a hole.
    pub(super) fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        let advice = if self.shared { Advice::LinuxRemove } else { Advice::LinuxDontNeed };
        self.advise(offset, len, advice).map_err(|errno| match errno {
            Errno::INVAL => io::Error::other("the kernel takes no memory back that is locked"),
            other => other.into(),
        })
    }

    /// Makes huge pages of it, as far as the kernel can (`MADV_COLLAPSE`).
    #[cfg(test)]
    pub(super) fn collapse(&self) {
        let address = self.at(0, self.len);
        // SAFETY: the range is this map, whose content stays. That it cannot be done is no failure.
        let _ = unsafe { libc::madvise(address, self.len, libc::MADV_COLLAPSE) };
    }

    fn advise(&self, offset: usize, len: usize, advice: Advice) -> rustix::io::Result<()> {
        let address = self.at(offset, len);
        // SAFETY: `at` has checked that the range is within this map. Content may become zero under atomics, which is
        // a change like any other.
        unsafe { rustix::mm::madvise(address, len, advice) }
    }

    /// Lets the kernel write what `file` has; gives how much that was.
    pub(super) fn read_from(&self, offset: usize, len: usize, file: BorrowedFd<'_>) -> io::Result<usize> {
        let address = self.at(offset, len);
        loop {
            // SAFETY: `at` has checked that the range is within this map; others see its bytes as atomics only, under which
            // the kernel may write. (`libc`, because rustix would want a reference, which nobody may have.)
            let read = unsafe { libc::read(file.as_raw_fd(), address, len) };
            let read = usize::try_from(read).map_err(|_| io::Error::last_os_error());
            // A signal came before anything was read, as those do that bring vCPUs out of their run loop.
            if !matches!(&read, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
                return read;
            }
        }
    }

    /// The address of `offset`, with `len` bytes behind it.
    fn at(&self, offset: usize, len: usize) -> *mut c_void {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "beyond the map");
        // SAFETY: within the map, as checked.
        unsafe { self.address.byte_add(offset) }.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this, and whoever had a reference to it borrowed `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.address.as_ptr(), self.len) };
        debug_assert!(unmapped.is_ok(), "a map of ours cannot be unmapped: {unmapped:?}");
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A file of `len` bytes without a name.
fn file(len: usize) -> Result<OwnedFd, Refused> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create("whimbrel-guest", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3 no file was asked whether it may be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create("whimbrel-guest", flags),
        made => made,
    };
    let file = file.map_err(Refused::by(help::file))?;
    // The kernel would end the process with SIGXFSZ and not only refuse.
    if getrlimit(Resource::Fsize).current.is_some_and(|most| most < len as u64) {
        return Err(Refused::by(help::file)(Errno::FBIG));
    }
    rustix::fs::ftruncate(&file, len as u64).map_err(Refused::by(help::file))?;
    // Whoever gets the descriptor may write, but not cut memory off under a guest.
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(Refused::by(help::file))?;
    Ok(file)
}

fn map_file(len: usize, file: &OwnedFd) -> rustix::io::Result<NonNull<c_void>> {
    // SAFETY: a new map at an address that the kernel chooses touches nothing that is there.
    let address =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, READ_WRITE, MapFlags::SHARED, file, 0) };
    NonNull::new(address?).ok_or(Errno::NOMEM)
}

fn map_anonymous(len: usize, flags: MapFlags) -> rustix::io::Result<NonNull<c_void>> {
    // SAFETY: a new map at an address that the kernel chooses touches nothing that is there.
    let address = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, READ_WRITE, flags) };
    NonNull::new(address?).ok_or(Errno::NOMEM)
}
