//! What can be done about calls that the kernel refuses.

use std::io;

use rustix::io::Errno;

/// Of `/proc/self/pagemap`.
pub(super) fn pagemap(cause: &io::Error) -> &'static str {
    match Errno::from_io_error(cause) {
        Some(Errno::ACCESS | Errno::PERM) => {
            "a process that has changed its user may not look at itself: make the log before, or the process dumpable again \
             (PR_SET_DUMPABLE)"
        }
        Some(Errno::MFILE) => "this process has too many open files; raise `ulimit -n`",
        _ => "it needs /proc, mounted",
    }
}

/// Of a new userfaultfd.
pub(super) fn open(cause: &io::Error) -> &'static str {
    match Errno::from_io_error(cause) {
        Some(Errno::PERM | Errno::ACCESS) => {
            "allow the system call `userfaultfd` (a container's seccomp profile may forbid it), or give access to \
             /dev/userfaultfd; or take the software log"
        }
        Some(Errno::NOSYS) => {
            "the kernel has to be built with CONFIG_USERFAULTFD, or a seccomp profile hides it; take the software log"
        }
        Some(Errno::MFILE) => "this process has too many open files; raise `ulimit -n`",
        _ => "it needs Linux 6.7 or later; take the software log",
    }
}

/// Of agreeing on the features.
pub(super) const HANDSHAKE: &str = "asynchronous write protection needs Linux 6.7 or later, 64 bits, and \
    CONFIG_PTE_MARKER_UFFD_WP; take the software log";

/// Of putting memory under it.
pub(super) fn arm(cause: &io::Error) -> &'static str {
    match Errno::from_io_error(cause) {
        Some(Errno::BUSY) => "another userfaultfd has this memory; one log at a time can watch it",
        Some(Errno::NOMEM) => "there is no memory left for page tables",
        Some(Errno::NOTTY) => "PAGEMAP_SCAN needs Linux 6.7 or later; take the software log",
        _ => {
            "this kind of memory cannot be write-protected; take private or shared anonymous memory, or a memfd"
        }
    }
}

/// Of a walk over the page tables.
pub(super) fn scan(cause: &io::Error) -> &'static str {
    match Errno::from_io_error(cause) {
        Some(Errno::PERM) => "somebody has taken this memory from the log, or mapped it anew",
        Some(Errno::NOTTY | Errno::INVAL) => "PAGEMAP_SCAN needs Linux 6.7 or later; take the software log",
        _ => "",
    }
}
