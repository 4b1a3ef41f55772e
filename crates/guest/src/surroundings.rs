//! Bad surroundings, for tests: calls that the kernel refuses, limits that are too low, facilities that are missing.

use std::ffi::c_long;
use std::process::Command;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use whimbrel_core::layout::{PageSize, RamLayout};

use crate::conformance::skip;
use crate::log::{UserfaultfdLog, probe};
use crate::memory::{Backing, GuestMemory};

/// A system call that fails from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refuse {
    /// Its number.
    pub(crate) call: c_long,
    /// Only with this as argument of this index, in its lower half.
    pub(crate) only: Option<(u32, u32)>,
    /// What it fails with.
    pub(crate) errno: Errno,
}

impl Refuse {
    /// The call, whatever its arguments are.
    pub(crate) fn call(call: c_long, errno: Errno) -> Self {
        Self { call, only: None, errno }
    }

    /// `ioctl` with this operation.
    pub(crate) fn ioctl(operation: u32, errno: Errno) -> Self {
        Self { call: libc::SYS_ioctl, only: Some((1, operation)), errno }
    }

    /// `madvise` with this advice.
    pub(crate) fn advice(advice: i32, errno: Errno) -> Self {
        Self { call: libc::SYS_madvise, only: Some((2, advice.cast_unsigned())), errno }
    }

    /// As instructions of the classic BPF: falls through to the next rule if it does not apply.
    fn program(self) -> Vec<libc::sock_filter> {
        let instruction = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        let load = |at: u32| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, at);
        let unless =
            |value: u32, skip: u8| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, value);
        let fail = libc::SECCOMP_RET_ERRNO | self.errno.raw_os_error().cast_unsigned();
        let fail = instruction(libc::BPF_RET | libc::BPF_K, 0, fail);
        // Of `seccomp_data`: the number comes first, the arguments of eight bytes each from 16 on.
        let number = self.call as u32;
        match self.only {
            None => vec![load(0), unless(number, 1), fail],
            Some((index, value)) => {
                vec![load(0), unless(number, 3), load(16 + 8 * index), unless(value, 1), fail]
            }
        }
    }
}

/// Runs `act` in a thread of its own, for which the kernel refuses these calls.
pub(crate) fn refusing<T: Send>(refused: &[Refuse], act: impl FnOnce() -> T + Send) -> T {
    let mut program: Vec<_> = refused.iter().flat_map(|one| one.program()).collect();
    let allow = libc::SECCOMP_RET_ALLOW;
    program.push(libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: allow });
    on_a_thread(move || {
        rustix::thread::set_no_new_privs(true).expect("anybody may have fewer rights");
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: `program` outlives the call, and the kernel copies it; it applies to this thread only.
        let filtered =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        assert_eq!(filtered, 0, "{}", std::io::Error::last_os_error());
        act()
    })
}

/// Runs `act` in a thread of its own that has none of the rights of the superuser.
pub(crate) fn unprivileged<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    on_a_thread(|| {
        let mut sets = rustix::thread::capabilities(None).expect("the thread's own rights");
        (sets.effective, sets.permitted) = (CapabilitySet::empty(), CapabilitySet::empty());
        rustix::thread::set_capabilities(None, sets).expect("anybody may have fewer rights");
        act()
    })
}

fn on_a_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(act).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What tells a test that it runs in a process of its own.
const CHILD: &str = "WHIMBREL_TEST_IN_A_CHILD";

/// Runs `act` in a process of its own, because it changes what belongs to the whole process. `test` is the path of the test
/// that calls this.
pub(crate) fn in_a_child(test: &str, act: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return act();
    }
    let this = std::env::current_exe().expect("this program");
    let run = Command::new(this).args(["--exact", test, "--nocapture"]).env(CHILD, "1").output();
    let output = run.expect("this program runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Whether userfaultfd can watch memory here; said, if not. What a machine lacks is known as soon as a log is made: one that is made
/// and does not work is a fault of ours, and nothing to skip tests for.
pub(crate) fn has_userfaultfd() -> bool {
    let layout = RamLayout::contiguous(PageSize::Mib2.bytes(), PageSize::Mib2).expect("a page");
    let memory = GuestMemory::new(layout, Backing::Private).expect("a page");
    if let Err(error) = UserfaultfdLog::new(Arc::new(memory)) {
        skip("uffd", &error);
        return false;
    }
    if let Some(Err(error)) = probe().of("userfaultfd") {
        panic!("{error}: {:?}", std::error::Error::source(error));
    }
    true
}

/// What `/proc/self/smaps` says of the map that holds `address`, in bytes: `Rss`, `AnonHugePages`, `Locked`. Nothing of
/// maps that have been merged with others can be told apart.
pub(crate) fn smaps(address: usize, key: &str) -> u64 {
    let line = smaps_line(address, key);
    let kib = line.split_whitespace().next().and_then(|value| value.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("{key}: {line}")) * 1024
}

/// The same as text, as of `VmFlags`.
pub(crate) fn smaps_line(address: usize, key: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/smaps").expect("/proc is mounted");
    let mut here = false;
    for line in text.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if let Some((from, to)) = word.split_once('-') {
            let of = |text: &str| usize::from_str_radix(text, 16).expect("an address");
            here = (of(from)..of(to)).contains(&address);
        } else if here && word.strip_suffix(':') == Some(key) {
            return line[word.len()..].trim().to_owned();
        }
    }
    panic!("no {key} of {address:#x}");
}
