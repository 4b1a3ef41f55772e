//! What can be done about memory that the system does not give, call by call: the same error number means something else
//! for each.

use std::io;

use rustix::io::Errno;

/// A call that the system refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// What can be done about it.
    pub(super) help: &'static str,
    /// What the system says.
    pub(super) cause: io::Error,
}

impl Refused {
    /// With what `help` has to say of this error.
    pub(super) fn by(help: fn(Errno) -> &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self { help: help(errno), cause: errno.into() }
    }
}

const UNKNOWN: &str = "the system refuses";

/// `mmap`.
pub(super) fn map(errno: Errno) -> &'static str {
    match errno {
        Errno::NOMEM | Errno::OVERFLOW => {
            "there is not so much; take a smaller guest, or raise what limits this process (`ulimit -v`, `ulimit -d`, \
             vm.overcommit_memory, vm.max_map_count)"
        }
        // Of whoever called `mlockall` for all maps to come.
        Errno::AGAIN => "this process locks all its memory; raise RLIMIT_MEMLOCK (`ulimit -l`)",
        _ => UNKNOWN,
    }
}

/// `memfd_create`, and making its file as long as the region.
pub(super) fn file(errno: Errno) -> &'static str {
    match errno {
        Errno::MFILE => "this process has too many open files; raise `ulimit -n`",
        Errno::NFILE => "the system has too many open files; raise fs.file-max",
        Errno::FBIG => "files may not be so large; take a smaller guest, or raise `ulimit -f`",
        Errno::NOMEM | Errno::NOSPC => "there is not so much; take a smaller guest",
        Errno::NOSYS => "this kernel has no memfd; take private or shared memory",
        Errno::ACCESS | Errno::PERM => "memfd is forbidden here; take private or shared memory",
        _ => UNKNOWN,
    }
}

/// `MADV_HUGEPAGE`.
pub(super) fn huge(errno: Errno) -> &'static str {
    match errno {
        Errno::INVAL => "the kernel is built without CONFIG_TRANSPARENT_HUGEPAGE; take private memory",
        _ => UNKNOWN,
    }
}

/// `MADV_POPULATE_WRITE`.
pub(super) fn populate(errno: Errno) -> &'static str {
    match errno {
        Errno::NOMEM => {
            "memory is exhausted; take a smaller guest, or raise the limit of the control group (memory.max)"
        }
        // A fault that would have ended a writer with SIGBUS.
        Errno::FAULT => {
            "shared memory is exhausted, or its file was cut; take a smaller guest or private memory"
        }
        Errno::HWPOISON => "the machine has broken memory there; take other memory",
        Errno::INVAL => {
            "it needs Linux 5.14 or later; go without, memory then becomes resident as it is used"
        }
        _ => UNKNOWN,
    }
}

/// `mlock`.
pub(super) fn lock(errno: Errno) -> &'static str {
    match errno {
        // Linux says ENOMEM where the limit is not zero, and cannot tell it from memory that is used up.
        Errno::PERM | Errno::NOMEM => {
            "raise RLIMIT_MEMLOCK (`ulimit -l`) to the guest's memory, or run with CAP_IPC_LOCK; if it is high enough, memory is \
             exhausted"
        }
        Errno::AGAIN => "memory is exhausted; take a smaller guest",
        _ => UNKNOWN,
    }
}
