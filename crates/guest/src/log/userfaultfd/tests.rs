use std::error::Error;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use whimbrel_core::embed::GuestRam;
use whimbrel_core::layout::{Gpa, RamLayout, Region};

use super::sys::{API, NEW, PAGEMAP_SCAN, REGISTER, UNREGISTER};
use super::*;
use crate::conformance::skip;
use crate::log::{best, probe};
use crate::memory::{Backing, GuestMemory};
use crate::surroundings::{Refuse, has_userfaultfd, refusing, smaps, smaps_line};

/// 40 pages, and 30 behind a hole: at numbers from 64 on.
fn memory(backing: Backing) -> Arc<GuestMemory> {
    let region = |start: u64, pages: u64| Region { start: Gpa(start), len: ByteCount(pages << 12) };
    let layout = RamLayout::new(PageSize::Kib4, vec![region(0, 40), region(1 << 30, 30)]).unwrap();
    Arc::new(GuestMemory::new(layout, backing).unwrap())
}

/// A log that works here; said, if there is none.
fn log(memory: &Arc<GuestMemory>) -> Option<UserfaultfdLog> {
    has_userfaultfd().then(|| UserfaultfdLog::new(memory.clone()).unwrap())
}

fn write(memory: &GuestMemory, pages: impl IntoIterator<Item = u64>) {
    for page in pages {
        let at = GuestRam::layout(memory).address_of(PageNumber(page)).unwrap();
        memory.write(at, &[7]).unwrap();
    }
}

fn harvest(log: &mut UserfaultfdLog) -> Vec<u64> {
    let mut found = PageSet::new(log.memory.layout().numbers());
    log.harvest(&mut found).unwrap();
    found.pages().map(|page| page.0).collect()
}

/// What the kernel knows of the protection of `range`: whether it is registered, and how many pages are protected.
fn traces(range: &HostRange) -> (bool, usize) {
    /// "pte is uffd-wp write-protected", Documentation/admin-guide/mm/pagemap.rst.
    const PROTECTED: u64 = 1 << 57;
    let registered = smaps_line(range.address, "VmFlags").split(' ').any(|flag| flag == "uw");
    let mut entries = vec![0; range.len / 4096 * 8];
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    pagemap.read_exact_at(&mut entries, (range.address / 4096 * 8) as u64).unwrap();
    let entries = entries.as_chunks::<8>().0.iter().map(|entry| u64::from_ne_bytes(*entry));
    (registered, entries.filter(|entry| entry & PROTECTED != 0).count())
}

fn text(error: &LogError) -> String {
    let cause = error.source().map(ToString::to_string);
    format!("{error} ({})", cause.unwrap_or_default())
}

#[test]
fn a_stop_leaves_no_trace_and_neither_does_a_drop() {
    for backing in Backing::ALL {
        let memory = memory(backing);
        let Some(mut log) = log(&memory) else { return };
        for dropped in [false, true] {
            write(&memory, (0..40).step_by(3));
            log.start().unwrap();
            let armed: Vec<_> = memory.ranges().iter().map(traces).collect();
            assert_eq!(armed, [(true, 40), (true, 30)], "{backing}");
            write(&memory, 3..7);
            assert_eq!(traces(&memory.ranges()[0]), (true, 36), "{backing}");
            if dropped {
                log = UserfaultfdLog::new(memory.clone()).unwrap();
            } else {
                log.stop().unwrap();
            }
            let left: Vec<_> = memory.ranges().iter().map(traces).collect();
            assert_eq!(left, [(false, 0), (false, 0)], "{backing}");
            assert!(matches!(log.harvest(&mut PageSet::new(128)), Err(LogError::NotStarted { .. })));
        }
    }
}

#[test]
fn a_log_on_memory_that_another_has_is_refused_and_does_no_harm() {
    /// The second region alone.
    struct Second(Arc<GuestMemory>);
    // SAFETY: a part of what `GuestMemory` promises, which lives as long.
    unsafe impl Mapped for Second {
        fn layout(&self) -> &RamLayout {
            GuestRam::layout(&*self.0)
        }
        fn ranges(&self) -> Vec<HostRange> {
            self.0.ranges()[1..].to_vec()
        }
    }
    let memory = memory(Backing::Private);
    let Some(mut other) = log(&memory) else { return };
    let mut first = UserfaultfdLog::new(Arc::new(Second(memory.clone()))).unwrap();
    first.start().unwrap();
    write(&memory, 60 + 5..60 + 9);
    let refused = text(&other.start().unwrap_err());
    assert!(refused.contains("cannot protect 120KiB at 0x"), "{refused}");
    assert!(
        refused.contains("another userfaultfd has this memory; one log at a time can watch it"),
        "{refused}"
    );
    // What it had protected before is free again, and the other goes on.
    assert_eq!(traces(&memory.ranges()[0]), (false, 0));
    assert_eq!(harvest(&mut first), [65, 66, 67, 68]);
    assert!(matches!(other.harvest(&mut PageSet::new(128)), Err(LogError::NotStarted { .. })));
    other.stop().unwrap();
    drop(first);
    other.start().unwrap();
    write(&memory, [0, 93]);
    assert_eq!(harvest(&mut other), [0, 93]);
}

/// Behind its addresses could be another guest's memory, under a log of its own.
#[test]
fn the_protection_is_lifted_before_the_memory_is_unmapped() {
    struct Unwatched(Arc<GuestMemory>);
    // SAFETY: what `GuestMemory` promises, which lives as long.
    unsafe impl Mapped for Unwatched {
        fn layout(&self) -> &RamLayout {
            GuestRam::layout(&*self.0)
        }
        fn ranges(&self) -> Vec<HostRange> {
            self.0.ranges()
        }
    }
    impl Drop for Unwatched {
        fn drop(&mut self) {
            assert!(self.0.ranges().iter().all(|range| traces(range) == (false, 0)));
        }
    }
    if has_userfaultfd() {
        let mut log = UserfaultfdLog::new(Arc::new(Unwatched(memory(Backing::Private)))).unwrap();
        log.start().unwrap();
        drop(log);
    }
}

/// As few as one run at a time: nothing is lost or told twice where the kernel had to stop.
#[test]
fn what_does_not_fit_in_one_call_comes_in_the_next() {
    for room in [1, 2, 3, 19, 20, 21] {
        let memory = memory(Backing::Private);
        let Some(log) = log(&memory) else { return };
        let mut log = log.with_room(room);
        log.start().unwrap();
        let every_other: Vec<_> = (0..40).chain(64..94).step_by(2).collect();
        for _ in 0..2 {
            write(&memory, every_other.iter().copied());
            assert_eq!(harvest(&mut log), every_other, "{room}");
            assert_eq!(harvest(&mut log), Vec::<u64>::new(), "{room}");
        }
        write(&memory, (0..40).chain(64..94));
        assert_eq!(harvest(&mut log), (0..40).chain(64..94).collect::<Vec<_>>(), "{room}");
    }
}

#[test]
fn a_huge_page_that_was_given_back_is_reported_when_it_is_written_again() {
    let layout = RamLayout::contiguous(ByteCount::mib(8), PageSize::Kib4).unwrap();
    for harvested in [false, true] {
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::PrivateHuge).unwrap());
        let Some(mut log) = log(&memory) else { return };
        memory.populate().unwrap();
        memory.collapse();
        let huge = |when: &str| {
            let bytes = smaps(memory.ranges()[0].address, "AnonHugePages");
            if bytes == 0 {
                skip("huge-pages", &format!("the kernel made none {when}"));
            }
            eprintln!("{} in huge pages {when}", ByteCount(bytes));
        };
        huge("before the start");
        log.start().unwrap();
        memory.discard(PageRun { first: PageNumber(512), count: Pages(1024) }).unwrap();
        if harvested {
            harvest(&mut log);
        }
        write(&memory, 512..1536);
        huge("after the balloon");
        let found = harvest(&mut log);
        let lacking: Vec<_> = (512..1536).filter(|page| !found.contains(page)).collect();
        assert!(lacking.is_empty(), "{lacking:?}, harvested between: {harvested}");
        write(&memory, [5, 700]);
        assert_eq!(harvest(&mut log), [5, 700]);
    }
}

#[test]
fn memory_that_is_locked_is_watched_too() {
    let memory = memory(Backing::Private);
    let Some(mut log) = log(&memory) else { return };
    memory.lock().unwrap();
    log.start().unwrap();
    write(&memory, [1, 64]);
    assert_eq!(harvest(&mut log), [1, 64]);
}

/// A child of this process that runs `act`, with a copy of everything, and then waits to be killed.
struct Child(Pid);

impl Child {
    fn that(act: impl FnOnce()) -> Self {
        // SAFETY: the child only computes, allocates (which glibc allows after a fork), and calls the kernel; it never
        // returns from here.
        match unsafe { libc::fork() } {
            0 => {
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
                if done.is_ok() {
                    // Seen by whoever waits.
                    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
                }
                std::process::abort();
            }
            pid => {
                let child = Self(Pid::from_raw(pid).expect("a fork"));
                let status =
                    rustix::process::waitpid(Some(child.0), WaitOptions::UNTRACED).unwrap().unwrap().1;
                assert!(status.stopped(), "the child failed");
                child
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.0), WaitOptions::empty());
    }
}

#[test]
fn a_process_that_forks_goes_on_and_its_child_does_no_harm() {
    for backing in Backing::ALL {
        let memory = memory(backing);
        let Some(mut log) = log(&memory) else { return };
        log.start().unwrap();
        write(&memory, 10..20);
        let child = Child::that(|| {
            write(&memory, 0..5);
            // Of no use here, and its end is not the end of its parent's.
            let mut found = PageSet::new(128);
            let refused = text(&log.harvest(&mut found).unwrap_err());
            assert!(refused.contains("make a new log in the child"), "{refused}");
            assert!(found.is_empty());
            log.start().unwrap_err();
            log.stop().unwrap();
        });
        // Nothing of the child's, not even what it wrote to memory that both share.
        assert_eq!(harvest(&mut log), (10..20).collect::<Vec<_>>(), "{backing}");
        // The first write after the fork copies the page.
        write(&memory, 15..25);
        assert_eq!(harvest(&mut log), (15..25).collect::<Vec<_>>(), "{backing}");
        assert_eq!(harvest(&mut log), Vec::<u64>::new(), "{backing}");
        // Though another child still has the descriptor.
        let holder = Child::that(|| {});
        log.stop().unwrap();
        assert!(memory.ranges().iter().all(|range| traces(range) == (false, 0)), "{backing}");
        log.start().unwrap();
        write(&memory, [1]);
        assert_eq!(harvest(&mut log), [1], "{backing}");
        drop((child, holder));
        write(&memory, [2]);
        assert_eq!(harvest(&mut log), [2], "{backing}");
    }
}

#[test]
fn what_the_kernel_refuses_says_what_to_do() {
    let memory = memory(Backing::Private);
    if log(&memory).is_none() {
        return;
    }
    let once = || {
        let mut log = UserfaultfdLog::new(memory.clone())?;
        log.start()?;
        log.harvest(&mut PageSet::new(128))?;
        log.stop()
    };
    let call = |errno| Refuse::call(libc::SYS_userfaultfd, errno);
    let ioctl = Refuse::ioctl;
    let proc = |errno| {
        // Older machines have two of them.
        let calls = [
            libc::SYS_openat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open,
        ];
        calls.into_iter().map(|call| Refuse::call(call, errno)).collect::<Vec<_>>()
    };
    let cases = [
        (vec![call(Errno::PERM), ioctl(NEW, Errno::PERM)], "open a userfaultfd: allow the system call"),
        (vec![call(Errno::NOSYS), ioctl(NEW, Errno::NOTTY)], "CONFIG_USERFAULTFD"),
        (vec![call(Errno::INVAL), ioctl(NEW, Errno::INVAL)], "it needs Linux 6.7 or later"),
        (vec![call(Errno::MFILE), ioctl(NEW, Errno::MFILE)], "raise `ulimit -n`"),
        (
            vec![ioctl(API, Errno::INVAL)],
            "cannot track writes: asynchronous write protection needs Linux 6.7",
        ),
        (proc(Errno::NOENT), "open /proc/self/pagemap: it needs /proc"),
        (proc(Errno::ACCESS), "PR_SET_DUMPABLE"),
        (vec![ioctl(REGISTER, Errno::INVAL)], "this kind of memory cannot be write-protected"),
        (vec![ioctl(REGISTER, Errno::BUSY)], "another userfaultfd has this memory"),
        (vec![ioctl(PAGEMAP_SCAN, Errno::NOMEM)], "no memory left for page tables"),
        (vec![ioctl(PAGEMAP_SCAN, Errno::NOTTY)], "PAGEMAP_SCAN needs Linux 6.7"),
        (vec![ioctl(UNREGISTER, Errno::INVAL)], "cannot lift the protection of 160KiB at 0x"),
    ];
    for (refused, help) in cases {
        let said = text(&refusing(&refused, once).expect_err(help));
        assert!(said.contains(help), "{said}");
        // However far it came, nothing is left.
        assert!(memory.ranges().iter().all(|range| traces(range) == (false, 0)), "{help}");
    }
    once().unwrap();
    let mut log = UserfaultfdLog::new(memory.clone()).unwrap();
    log.start().unwrap();
    let harvested = refusing(&[ioctl(PAGEMAP_SCAN, Errno::PERM)], || log.harvest(&mut PageSet::new(128)));
    let said = text(&harvested.unwrap_err());
    assert!(said.contains("somebody has taken this memory from the log"), "{said}");
}

/// Where the system call is forbidden, as by a container's profile, the device does as well.
#[test]
fn the_device_is_taken_where_the_call_is_forbidden() {
    if std::fs::File::options().read(true).write(true).open("/dev/userfaultfd").is_err() {
        return skip("uffd-device", &"/dev/userfaultfd cannot be opened");
    }
    let memory = memory(Backing::Private);
    let Some(_) = log(&memory) else { return };
    refusing(&[Refuse::call(libc::SYS_userfaultfd, Errno::PERM)], || {
        let mut log = UserfaultfdLog::new(memory.clone()).unwrap();
        log.start().unwrap();
        write(&memory, [9]);
        assert_eq!(harvest(&mut log), [9]);
    });
}

#[test]
fn the_best_log_is_taken_and_said() {
    let memory = memory(Backing::Memfd);
    let Some(mut other) = log(&memory) else { return };
    let choice = best(memory.clone());
    assert_eq!(choice.log.name(), "userfaultfd");
    assert!(choice.marks.is_none());
    assert_eq!(choice.to_string(), "userfaultfd: the kernel records all writes of this process");
    assert_eq!(memory.ranges().iter().map(traces).collect::<Vec<_>>(), [(false, 0), (false, 0)]);
    // Of this memory.
    other.start().unwrap();
    let taken = best(memory.clone());
    assert_eq!(taken.log.name(), "software");
    assert!(taken.to_string().contains("another userfaultfd has this memory"), "{taken}");
    drop(other);
    // Of this machine.
    let forbidden = [Refuse::call(libc::SYS_userfaultfd, Errno::PERM), Refuse::ioctl(NEW, Errno::PERM)];
    let (mut choice, probed) = refusing(&forbidden, || (best(memory.clone()), probe().to_string()));
    assert_eq!(
        choice.to_string(),
        "software: writers mark what they write; the userfaultfd dirty log cannot open a userfaultfd: allow the system call \
         `userfaultfd` (a container's seccomp profile may forbid it), or give access to /dev/userfaultfd; or take the software \
         log (Operation not permitted (os error 1))"
    );
    assert!(probed.starts_with("userfaultfd: the userfaultfd dirty log cannot open"), "{probed}");
    assert!(probed.ends_with("\nsoftware: works here"), "{probed}");
    let marks = choice.marks.expect("to be marked");
    choice.log.start().unwrap();
    marks.mark(PageNumber(64)).unwrap();
    let mut found = PageSet::new(128);
    choice.log.harvest(&mut found).unwrap();
    assert!(found.pages().eq([PageNumber(64)]));
}
