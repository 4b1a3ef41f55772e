//! How a vCPU is brought out of `KVM_RUN`: a flag that KVM looks at on the way in, and a signal for one that is inside.
//!
//! The flag is set first. A vCPU that goes in later sees it; one that is inside gets the signal. So no kick is lost, whenever it
//! comes, and a kick that comes too early is one that works at once.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use rustix::mm::{MapFlags, ProtFlags};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN, register_signal_handler};

/// `kvm_run.immediate_exit` of a vCPU, in a map of our own: the one that [`VcpuFd`] has is borrowed by its thread while this is set
/// by others.
#[derive(Debug)]
pub(super) struct ImmediateExit {
    page: NonNull<c_void>,
    len: usize,
}

// SAFETY: the page is only ever used as one shared atomic.
unsafe impl Send for ImmediateExit {}
// SAFETY: as above.
unsafe impl Sync for ImmediateExit {}

impl ImmediateExit {
    /// That of `vcpu`. It goes on to exist if the vCPU is gone, and does nothing then.
    pub(super) fn of(vcpu: &VcpuFd) -> io::Result<Self> {
        let len = rustix::param::page_size();
        // SAFETY: open for as long as `vcpu` is, which is longer than this function runs.
        let file = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        // SAFETY: a new map at an address that the kernel chooses touches nothing that is there. The kernel's page has `kvm_run`
        // at its start.
        let page = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        Ok(Self { page: NonNull::new(page).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }

    /// Whether the vCPU has to come out.
    pub(super) fn set(&self, leave: bool) {
        // The signal and the call into the kernel order it for those who have to see it.
        self.flag().store(u8::from(leave), Ordering::Release);
    }

    fn flag(&self) -> &AtomicU8 {
        const { assert!(std::mem::offset_of!(kvm_run, immediate_exit) < 4096) };
        // SAFETY: within the page, as asserted.
        let flag = unsafe { self.page.byte_add(std::mem::offset_of!(kvm_run, immediate_exit)) };
        // SAFETY: mapped readable and writable for as long as `self` lives; in this map everybody sees it as this atomic.
        unsafe { AtomicU8::from_ptr(flag.cast().as_ptr()) }
    }
}

impl Drop for ImmediateExit {
    fn drop(&mut self) {
        // SAFETY: `of` mapped exactly this, and whoever had a reference to it borrowed `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.page.as_ptr(), self.len) };
        debug_assert!(unmapped.is_ok(), "a map of ours cannot be unmapped: {unmapped:?}");
    }
}

/// The signal: the first real-time one. It does nothing but interrupt.
fn signal() -> c_int {
    SIGRTMIN()
}

extern "C" fn interrupted(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// Makes the signal harmless, once for the process. What it did before is gone.
pub(super) fn prepare() -> io::Result<()> {
    static PREPARED: OnceLock<Result<(), c_int>> = OnceLock::new();
    let prepared = PREPARED.get_or_init(|| {
        register_signal_handler(signal(), interrupted).map_err(vmm_sys_util::errno::Error::errno)
    });
    prepared.map_err(io::Error::from_raw_os_error)
}

/// Interrupts what `thread` waits for in the kernel. Only after [`prepare`].
pub(super) fn interrupt(thread: &JoinHandle<()>) {
    // It fails if the thread has ended, which is as good.
    let _ = thread.kill(signal());
}

/// Lets the signal come to this thread.
pub(super) fn allow() -> io::Result<()> {
    vmm_sys_util::signal::unblock_signal(signal()).map_err(|error| io::Error::other(error.to_string()))
}
