//! The calls to the kernel, each behind a safe function.

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};

use linux_raw_sys::general as raw;
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, opcode};
use rustix::mm::UserfaultfdFlags;

use crate::memory::HostRange;

/// A run of written memory, by address.
pub(super) type Written = PageRegion;

/// As the kernel's `page_region`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct PageRegion {
    pub(super) start: u64,
    pub(super) end: u64,
    categories: u64,
}

const _: () = assert!(size_of::<PageRegion>() == size_of::<raw::page_region>());

/// What must be there: protection that the kernel lifts by itself, of pages that do not exist yet, and of shared memory.
const FEATURES: u32 = raw::UFFD_FEATURE_PAGEFAULT_FLAG_WP
    | raw::UFFD_FEATURE_WP_ASYNC
    | raw::UFFD_FEATURE_WP_UNPOPULATED
    | raw::UFFD_FEATURE_WP_HUGETLBFS_SHMEM;

const GROUP: u8 = raw::UFFDIO as u8;
pub(super) const API: Opcode = opcode::read_write::<raw::uffdio_api>(GROUP, raw::_UFFDIO_API as u8);
pub(super) const REGISTER: Opcode =
    opcode::read_write::<raw::uffdio_register>(GROUP, raw::_UFFDIO_REGISTER as u8);
/// Linux's header has it as a read, by mistake, for good.
pub(super) const UNREGISTER: Opcode = opcode::read::<raw::uffdio_range>(GROUP, raw::_UFFDIO_UNREGISTER as u8);
pub(super) const NEW: Opcode = opcode::none(GROUP, 0);
pub(super) const PAGEMAP_SCAN: Opcode = opcode::read_write::<raw::pm_scan_arg>(b'f', 16);

const _: () = assert!(API == linux_raw_sys::ioctl::UFFDIO_API as Opcode);
const _: () = assert!(UNREGISTER == linux_raw_sys::ioctl::UFFDIO_UNREGISTER as Opcode);
const _: () = assert!(REGISTER == linux_raw_sys::ioctl::UFFDIO_REGISTER as Opcode);

/// The page tables of this process.
pub(super) fn pagemap() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A new userfaultfd, from the system call or, where that is forbidden, from the device.
pub(super) fn open() -> io::Result<OwnedFd> {
    // Only for faults from user mode, which anybody may have: others are resolved without asking us.
    let user_mode = UserfaultfdFlags::from_bits_retain(raw::UFFD_USER_MODE_ONLY);
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK | user_mode;
    // SAFETY: nothing happens to memory before some is registered.
    match unsafe { rustix::mm::userfaultfd(flags) } {
        Ok(opened) => Ok(opened),
        // What the system call says matters more than what the device does.
        Err(refused) => open_device(flags).map_err(|_| refused.into()),
    }
}

/// From `/dev/userfaultfd`, which file permissions guard.
fn open_device(flags: UserfaultfdFlags) -> io::Result<OwnedFd> {
    let device = rustix::fs::open("/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: `USERFAULTFD_IOC_NEW` takes flags by value and gives a new descriptor, as `New` says.
    Ok(unsafe { rustix::ioctl::ioctl(&device, New(flags)) }?)
}

/// `USERFAULTFD_IOC_NEW`.
struct New(UserfaultfdFlags);

// SAFETY: the operand is the flags themselves, and nothing is written through it; what is returned is a new descriptor that
// nobody else owns.
unsafe impl Ioctl for New {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        NEW
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0.bits() as usize)
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        use std::os::fd::FromRawFd as _;
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(output) })
    }
}

/// Agrees on the features.
pub(super) fn handshake(userfaultfd: &OwnedFd) -> io::Result<()> {
    let mut api = raw::uffdio_api { api: u64::from(raw::UFFD_API), features: u64::from(FEATURES), ioctls: 0 };
    // SAFETY: the opcode is that of the structure, which outlives the call.
    let call = unsafe { Updater::<API, _>::new(&mut api) };
    // SAFETY: `UFFDIO_API` reads and writes this structure and nothing else.
    unsafe { rustix::ioctl::ioctl(userfaultfd.as_fd(), call) }?;
    Ok(())
}

fn kernel_range(range: &HostRange) -> raw::uffdio_range {
    raw::uffdio_range { start: range.address as u64, len: range.len as u64 }
}

/// Puts `range` under this userfaultfd, for write protection.
pub(super) fn register(userfaultfd: &OwnedFd, range: &HostRange) -> io::Result<()> {
    let mode = u64::from(raw::UFFDIO_REGISTER_MODE_WP);
    let mut register = raw::uffdio_register { range: kernel_range(range), mode, ioctls: 0 };
    // SAFETY: the opcode is that of the structure, which outlives the call.
    let call = unsafe { Updater::<REGISTER, _>::new(&mut register) };
    // SAFETY: `UFFDIO_REGISTER` changes how faults of the range are resolved, and no content. It is `Mapped` memory, whose
    // owner wants that.
    unsafe { rustix::ioctl::ioctl(userfaultfd.as_fd(), call) }?;
    Ok(())
}

/// Takes `range` from this userfaultfd: its protection is lifted, and no trace of it is left.
pub(super) fn unregister(userfaultfd: &OwnedFd, range: &HostRange) -> io::Result<()> {
    let mut range = kernel_range(range);
    // SAFETY: the opcode is that of the structure, which outlives the call.
    let call = unsafe { Updater::<UNREGISTER, _>::new(&mut range) };
    // SAFETY: `UFFDIO_UNREGISTER` changes how faults of the range are resolved, and no content. It is mapped memory still: whoever
    // registered it holds it.
    unsafe { rustix::ioctl::ioctl(userfaultfd.as_fd(), call) }?;
    Ok(())
}

/// How far a scan came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanned {
    /// Runs that it found.
    pub(super) runs: usize,
    /// The address that it would have looked at next.
    pub(super) until: u64,
}

/// Protects all of `range`, which is registered, by a walk over the page tables. Gives where it stopped.
///
/// What `UFFDIO_WRITEPROTECT` does as well, but this gathers its changes of page tables: where a hypervisor shadows
/// them it takes a fraction of the time. Where there are no page tables yet, the kernel protects all at once.
pub(super) fn protect_by_scan(pagemap: &OwnedFd, range: Range<u64>) -> io::Result<u64> {
    let argument = walk(range, &mut [], 0);
    // SAFETY: there is no vector to write to; `size` is this structure's, so a newer kernel reads no further.
    let scanned = unsafe { rustix::ioctl::ioctl(pagemap.as_fd(), PagemapScan(argument)) }?;
    Ok(scanned.until)
}

/// Finds written memory in `range`, as much as `written` has room for, and protects it again.
pub(super) fn scan(pagemap: &OwnedFd, range: Range<u64>, written: &mut [Written]) -> io::Result<Scanned> {
    let argument = walk(range, written, raw::PAGE_IS_WRITTEN);
    // SAFETY: the kernel writes at most `vec_len` entries to `vec`, which `written` lends for the whole call; `size` is
    // this structure's, so a newer kernel reads no further.
    Ok(unsafe { rustix::ioctl::ioctl(pagemap.as_fd(), PagemapScan(argument)) }?)
}

/// A walk over `range` that protects each page of this `category`, of any if that is none, and tells of it where there is room
/// in `told`.
fn walk(range: Range<u64>, told: &mut [Written], category: u32) -> raw::pm_scan_arg {
    // The kernel refuses an address of no room.
    let vec = if told.is_empty() { 0 } else { told.as_mut_ptr().expose_provenance() as u64 };
    raw::pm_scan_arg {
        size: size_of::<raw::pm_scan_arg>() as u64,
        flags: u64::from(raw::PM_SCAN_WP_MATCHING | raw::PM_SCAN_CHECK_WPASYNC),
        start: range.start,
        end: range.end,
        walk_end: 0,
        vec,
        vec_len: told.len() as u64,
        max_pages: 0,
        category_inverted: 0,
        category_mask: u64::from(category),
        category_anyof_mask: 0,
        return_mask: u64::from(category),
    }
}

/// `PAGEMAP_SCAN`. The number of runs is the call's return value, which rustix's own patterns do not give.
struct PagemapScan(raw::pm_scan_arg);

// SAFETY: the operand is the structure of this opcode; the kernel writes to it and to the vector that it names.
unsafe impl Ioctl for PagemapScan {
    type Output = Scanned;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        PAGEMAP_SCAN
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, argument: *mut c_void) -> rustix::io::Result<Scanned> {
        // SAFETY: it is what `as_ptr` gave, and still there.
        let argument = unsafe { argument.cast::<raw::pm_scan_arg>().read() };
        Ok(Scanned { runs: output as usize, until: argument.walk_end })
    }
}
