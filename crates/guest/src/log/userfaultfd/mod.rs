//! A dirty log that the kernel keeps: asynchronous write protection and `PAGEMAP_SCAN`. How it works stands at
//! [`UserfaultfdLog`]; here is who holds the protection and how the page tables are walked, and in `sys` are the calls.
//!
//! See `Documentation/admin-guide/mm/pagemap.rst` and `userfaultfd.rst` in Linux.

mod help;
mod sys;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Pid, getpid};
use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, LogError, check_set};
use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::units::{ByteCount, Pages};

use self::sys::Written;
use crate::memory::{HostRange, Mapped};

const NAME: &str = "userfaultfd";

/// Runs of written pages that one call to the kernel may report.
const RUNS: usize = 4096;

/// Write-protects all memory and asks the kernel where the protection is gone.
///
/// The first write to a page meets the protection, and the kernel lifts it and goes on, without asking anybody
/// (`UFFD_FEATURE_WP_ASYNC`). A harvest is a walk over the page tables that collects the pages without protection and
/// protects them again, atomically page by page (`PM_SCAN_WP_MATCHING`). Linux 6.7 or later; no privilege is needed, where the
/// system call or `/dev/userfaultfd` is not forbidden.
///
/// It sees every write of this process to this memory, the kernel's on its behalf included. It does not see memory that is
/// given back (`MADV_DONTNEED`), writes of other processes to shared memory, and those of devices that write by
/// themselves (VFIO).
///
/// A process that forks while it records goes on as if it had not; the child's memory is not watched, and the log is of no use
/// there.
///
/// ```no_run
/// use std::sync::Arc;
/// use whimbrel_core::dirty::PageSet;
/// use whimbrel_core::embed::{DirtyLog, GuestRam};
/// use whimbrel_core::layout::{Gpa, PageNumber, PageSize, RamLayout};
/// use whimbrel_core::units::ByteCount;
/// use whimbrel_guest::log::UserfaultfdLog;
/// use whimbrel_guest::memory::{Backing, GuestMemory};
///
/// let layout = RamLayout::contiguous(ByteCount::mib(16), PageSize::Kib4)?;
/// let memory = Arc::new(GuestMemory::new(layout, Backing::Memfd)?);
/// let mut log = UserfaultfdLog::new(memory.clone())?;
/// log.start()?;
/// memory.write(Gpa(0x7000), b"by whoever it may be")?;
/// let mut dirty = PageSet::new(memory.layout().numbers());
/// log.harvest(&mut dirty)?;
/// assert!(dirty.pages().eq([PageNumber(7)]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UserfaultfdLog {
    /// While it records. Dropped before the memory: at addresses that are unmapped there may be somebody else's next.
    armed: Option<Armed>,
    memory: Arc<dyn Mapped>,
    pagemap: OwnedFd,
    /// Whose memory it is.
    process: Pid,
    /// How many runs of written pages one call to the kernel may report.
    room: usize,
    written: Vec<Written>,
}

impl std::fmt::Debug for UserfaultfdLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserfaultfdLog").field("armed", &self.armed).finish_non_exhaustive()
    }
}

/// Memory that is protected. Dropping it lifts the protection.
#[derive(Debug)]
struct Armed {
    userfaultfd: OwnedFd,
    ranges: Vec<HostRange>,
    process: Pid,
}

impl Armed {
    /// Registers all memory, and protects it through `pagemap`, if there is one. What was done is undone on the way out.
    fn new(memory: &dyn Mapped, pagemap: Option<&OwnedFd>) -> Result<Self, LogError> {
        let mut armed = Self { userfaultfd: open()?, ranges: Vec::new(), process: getpid() };
        for range in memory.ranges() {
            let refused = |cause: io::Error| {
                let what = format!("protect {} at {:#x}", ByteCount(range.len as u64), range.address);
                failed(what, help::arm(&cause), cause)
            };
            sys::register(&armed.userfaultfd, &range).map_err(refused)?;
            armed.ranges.push(range);
            if let Some(pagemap) = pagemap {
                protect(pagemap, &range).map_err(refused)?;
            }
        }
        Ok(armed)
    }

    /// Lifts the protection, and says if that cannot be done. The kernel would do so when the descriptor is closed, but not
    /// while a child of this process has it too.
    fn lift(&mut self) -> Result<(), LogError> {
        // In a child the descriptor still stands for the memory of its parent.
        if self.process != getpid() {
            self.ranges.clear();
        }
        let mut outcome = Ok(());
        for range in self.ranges.drain(..) {
            if let Err(cause) = sys::unregister(&self.userfaultfd, &range) {
                let what =
                    format!("lift the protection of {} at {:#x}", ByteCount(range.len as u64), range.address);
                outcome = outcome.and(Err(failed(what, "", cause)));
            }
        }
        outcome
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        // Nobody is left to tell it to.
        let _ = self.lift();
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
            .map_err(|cause| failed("open /proc/self/pagemap".into(), help::pagemap(&cause), cause))?;
        // Whoever cannot start is better told now.
        open()?;
        Ok(Self { armed: None, memory, pagemap, process: getpid(), room: RUNS, written: Vec::new() })
    }

    /// Whether this kind of memory can be protected, and nobody else has it. Nothing is protected afterwards.
    pub(super) fn try_memory(&self) -> Result<(), LogError> {
        Armed::new(&*self.memory, None)?.lift()
    }

    /// The same log with room for fewer runs.
    #[cfg(test)]
    pub(crate) fn with_room(mut self, room: usize) -> Self {
        self.room = room;
        self
    }

    #[cfg(test)]
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// A log belongs to one process: in a child, its descriptors still stand for the memory of the parent.
    fn check_process(&self) -> Result<(), LogError> {
        if self.process == getpid() {
            return Ok(());
        }
        let cause = io::Error::other("the process that it belongs to has forked");
        Err(failed("watch this process".into(), "make a new log in the child", cause))
    }

    /// Adds what was written in `range`, and protects that again.
    fn scan(&mut self, range: &HostRange, into: &mut PageSet) -> Result<(), LogError> {
        let end = (range.address + range.len) as u64;
        let mut from = range.address as u64;
        self.written.resize(self.room, Written::default());
        while from < end {
            let stuck = |help, cause| failed(format!("look through {from:#x} to {end:#x}"), help, cause);
            let scanned = sys::scan(&self.pagemap, from..end, &mut self.written)
                .map_err(|cause| stuck(help::scan(&cause), cause))?;
            for run in &self.written[..scanned.runs] {
                let pages = pages_of(run, range, self.memory.layout().page_size());
                into.insert_run(pages).map_err(|cause| LogError::OtherGuest { log: NAME, cause })?;
            }
            // It goes on behind the last run that there was room for.
            if scanned.until <= from {
                return Err(stuck("", io::Error::other("the kernel stands still")));
            }
            from = scanned.until;
        }
        Ok(())
    }
}

/// The guest pages that `run` of `range` touches: they are as large as the host's or larger, and dirty if any part of them is.
fn pages_of(run: &Written, range: &HostRange, size: PageSize) -> PageRun {
    let first = (run.start - range.address as u64) >> size.shift();
    let last = (run.end - range.address as u64 - 1) >> size.shift();
    PageRun { first: PageNumber(range.pages.first.0 + first), count: Pages(last - first + 1) }
}

/// Protects all of `range`, as many calls as that takes.
fn protect(pagemap: &OwnedFd, range: &HostRange) -> io::Result<()> {
    let end = (range.address + range.len) as u64;
    let mut from = range.address as u64;
    while from < end {
        let until = sys::protect_by_scan(pagemap, from..end)?;
        if until <= from {
            return Err(io::Error::other("the kernel stands still"));
        }
        from = until;
    }
    Ok(())
}

/// A userfaultfd with all features that are needed.
fn open() -> Result<OwnedFd, LogError> {
    let userfaultfd =
        sys::open().map_err(|cause| failed("open a userfaultfd".into(), help::open(&cause), cause))?;
    sys::handshake(&userfaultfd).map_err(|cause| failed("track writes".into(), help::HANDSHAKE, cause))?;
    Ok(userfaultfd)
}

fn failed(what: String, help: &'static str, cause: io::Error) -> LogError {
    LogError::Failed { log: NAME, what, help, cause: Box::new(cause) }
}

impl DirtyLog for UserfaultfdLog {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&mut self) -> Result<(), LogError> {
        self.check_process()?;
        if self.armed.is_none() {
            self.armed = Some(Armed::new(&*self.memory, Some(&self.pagemap))?);
        }
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        self.check_process()?;
        let Some(armed) = &self.armed else { return Err(LogError::NotStarted { log: NAME }) };
        check_set(NAME, self.memory.layout().numbers(), into)?;
        let ranges = armed.ranges.clone();
        ranges.iter().try_for_each(|range| self.scan(range, into))
    }

    fn stop(&mut self) -> Result<(), LogError> {
        self.written = Vec::new();
        self.armed.take().map_or(Ok(()), |mut armed| armed.lift())
    }
}
