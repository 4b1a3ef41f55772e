//! A dirty log that the kernel keeps: asynchronous write protection and `PAGEMAP_SCAN`.
//!
//! All memory is write-protected with userfaultfd. The first write to a page meets the protection, and the kernel lifts it
//! and goes on, without asking anybody (`UFFD_FEATURE_WP_ASYNC`). A harvest is a walk over the page tables that
//! collects the pages without protection and protects them again, atomically page by page (`PM_SCAN_WP_MATCHING`).
//! Linux 6.7 or later; see `Documentation/admin-guide/mm/pagemap.rst` and `userfaultfd.rst` there.
//!
//! It sees every write of this process to this memory, the kernel's on its behalf included. It does not see memory that is
//! given back (`MADV_DONTNEED`), writes of other processes to shared memory, and those of devices that write by
//! themselves (VFIO).

mod sys;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, LogError};
use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::{ByteCount, Pages};

use self::sys::Written;
use super::check_set;
use crate::memory::{HostRange, Mapped};

const NAME: &str = "userfaultfd";

/// Runs of written pages that one call to the kernel may report.
const RUNS: usize = 4096;

/// See the [module](self).
pub struct UserfaultfdLog {
    memory: Arc<dyn Mapped>,
    pagemap: OwnedFd,
    /// While it records: what holds the protection. The kernel lifts it when this is closed.
    armed: Option<OwnedFd>,
    written: Vec<Written>,
}

impl std::fmt::Debug for UserfaultfdLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserfaultfdLog").field("armed", &self.armed).finish_non_exhaustive()
    }
}

impl UserfaultfdLog {
    /// A log for `memory`. Nothing is protected yet.
    ///
    /// # Errors
    ///
    /// [`LogError::Failed`] if this kernel has no such thing, or does not allow it; the message says what to do.
    pub fn new(memory: Arc<dyn Mapped>) -> Result<Self, LogError> {
        let pagemap = sys::pagemap()
            .map_err(|cause| failed("open /proc/self/pagemap".into(), "it needs /proc, mounted", cause))?;
        // Whoever cannot start is better told now.
        open()?;
        Ok(Self { memory, pagemap, armed: None, written: Vec::new() })
    }

    /// Protects all memory, and gives what holds the protection.
    fn arm(&self) -> Result<OwnedFd, LogError> {
        let userfaultfd = open()?;
        for range in self.memory.ranges() {
            let armed = sys::register(&userfaultfd, &range).and_then(|()| sys::protect(&userfaultfd, &range));
            armed.map_err(|cause| {
                let what = format!("protect {} at {:#x}", ByteCount(range.len as u64), range.address);
                failed(what, arm_help(&cause), cause)
            })?;
        }
        Ok(userfaultfd)
    }

    /// Adds what was written in `range`, and protects that again.
    fn scan(&mut self, range: &HostRange, into: &mut PageSet) -> Result<(), LogError> {
        let shift = self.memory.layout().page_size().shift();
        let end = (range.address + range.len) as u64;
        let mut from = range.address as u64;
        self.written.resize(RUNS, Written::default());
        while from < end {
            let scanned = sys::scan(&self.pagemap, from..end, &mut self.written).map_err(|cause| {
                failed(format!("look through {from:#x} to {end:#x}"), scan_help(&cause), cause)
            })?;
            for run in &self.written[..scanned.runs] {
                // A guest page is as large as the host's or larger: then it is dirty if any of them is.
                let first = (run.start - range.address as u64) >> shift;
                let last = (run.end - range.address as u64 - 1) >> shift;
                let run = PageRun {
                    first: PageNumber(range.pages.first.0 + first),
                    count: Pages(last - first + 1),
                };
                into.insert_run(run).map_err(|cause| LogError::OtherGuest { log: NAME, cause })?;
            }
            if scanned.until <= from && scanned.runs == 0 {
                let cause = io::Error::other("the kernel stands still");
                return Err(failed(format!("look through {from:#x} to {end:#x}"), "", cause));
            }
            from = scanned.until;
        }
        Ok(())
    }
}

/// A userfaultfd with all features that are needed.
fn open() -> Result<OwnedFd, LogError> {
    let userfaultfd =
        sys::open().map_err(|cause| failed("open a userfaultfd".into(), open_help(&cause), cause))?;
    let help = "asynchronous write protection needs Linux 6.7 or later with CONFIG_PTE_MARKER_UFFD_WP; take the software log";
    sys::handshake(&userfaultfd).map_err(|cause| failed("track writes".into(), help, cause))?;
    Ok(userfaultfd)
}

fn failed(what: String, help: &'static str, cause: io::Error) -> LogError {
    LogError::Failed { log: NAME, what, help, cause: Box::new(cause) }
}

fn open_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "allow the system call `userfaultfd` (a container's seccomp profile may forbid it), or give access to /dev/userfaultfd"
        }
        io::ErrorKind::Unsupported => "the kernel has to be built with CONFIG_USERFAULTFD",
        _ => "it needs Linux 6.7 or later",
    }
}

fn arm_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::ResourceBusy => "another userfaultfd has this memory; one log at a time can watch it",
        io::ErrorKind::OutOfMemory => "there is no memory left for page tables",
        _ => {
            "this kind of memory cannot be write-protected; take private or shared anonymous memory, or a memfd"
        }
    }
}

fn scan_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "somebody has taken this memory from the log",
        _ => "PAGEMAP_SCAN needs Linux 6.7 or later",
    }
}

impl DirtyLog for UserfaultfdLog {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&mut self) -> Result<(), LogError> {
        if self.armed.is_none() {
            self.armed = Some(self.arm()?);
        }
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        if self.armed.is_none() {
            return Err(LogError::NotStarted { log: NAME });
        }
        check_set(NAME, self.memory.layout(), into)?;
        for range in self.memory.ranges() {
            self.scan(&range, into)?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), LogError> {
        // Closing it lifts the protection from all its memory (`userfaultfd_release` in `fs/userfaultfd.c`).
        self.armed = None;
        self.written = Vec::new();
        Ok(())
    }
}
