//! Keeps a disk awake while a record is near.
//!
//! [`DirectoryStore`](super::DirectoryStore) starts it when a driver says that a record is near, and hushes it when the record is
//! written. It must never touch a record, make anybody wait, or fail anything: a migration without it is a little slower.
//!
//! # Why
//!
//! A disk that has had nothing to do answers later. What is known: drives go into idle states of their own accord between commands
//! (the autonomous power state transitions of NVM Express), links save power, a host's processors go to sleep, and where the disk is a
//! virtual one, hosts poll for a while after each request and halt when nothing comes: KVM doubles the time for which
//! it polls with each short wait and forgets it with a long one. What was only measured, on one virtual machine (virtio, ext4): a
//! `pwrite` with its `fdatasync` took 0.13 to 0.16 ms among others, 0.4 to 1.1 ms after 0.3 s without one, and the first
//! one alone did not wake it. After a second without one, two in three were awake within 10 ms, one in three after 10 to 80 ms, and
//! writing more often did not hasten that: so what matters is to begin in time. Once awake, one write each 2 ms kept it so as well as one
//! each millisecond; with one each 5 ms a write took 0.25 ms instead of 0.18. Which of all that it was there cannot be seen from within.
//!
//! A migration is the worst case: it writes nothing to its disk for as long as memory is sent, then two records whose writing is
//! nearly all that an idle guest's blackout is made of. So while a record is near, a thread writes 64 bytes and synchronises
//! them, about every other millisecond.
//!
//! # Why it does no harm
//!
//! It writes to a file of its own that has no name: nobody who looks for a record can find it, and a power cut or half a write
//! leaves nothing to be read. The file is opened by itself, so an error of its own is told to it alone, and one of the record's
//! file to whoever writes the record. A write of its own that fails ends it, and so do three in a row that take longer than a disk
//! takes that is awake or waking up: a record would wait for the write that is in progress. The next migration's record is another
//! matter: the store begins anew for it. That is what it can cost: on a disk that answers in 0.15 ms it is at work for a fourteenth of
//! the time, and a record that comes then waits for what is left of a write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::file::{BLOCK, RECORD};

/// Between two writes, at least.
const PERIOD: Duration = Duration::from_millis(2);

/// Longer than a disk takes that is awake. One that goes on like this is slow, or has others to serve.
const SLOW: Duration = Duration::from_millis(3);

/// So many such writes in a row are the last, unless there was a pause between them. The first ones may have woken it: up to 6 ms were
/// seen.
const PATIENCE: u32 = 3;

/// A block of a file without a name.
#[derive(Debug)]
pub(super) struct Scratch(File);

impl Scratch {
    /// Of this file, which is empty. What is overwritten later needs no change of its metadata, as a record does not.
    pub(super) fn fill(file: File) -> io::Result<Self> {
        file.write_all_at(&[0; BLOCK], 0)?;
        file.sync_all()?;
        Ok(Self(file))
    }

    /// As much as a record, in the same way; gives how long it took.
    pub(super) fn write(&self) -> io::Result<Duration> {
        let began = Instant::now();
        self.0.write_all_at(&[0; RECORD], 0)?;
        self.0.sync_data()?;
        Ok(began.elapsed())
    }
}

/// A thread that writes while it is wanted to. Dropped, it ends, after the write that is in progress.
#[derive(Debug)]
pub(super) struct Warming {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Nothing is guarded by these: whoever reads an old value writes once too often, or too seldom. So all is relaxed.
#[derive(Debug)]
struct Shared {
    base: Instant,
    /// Until when to write, in nanoseconds behind `base`; 0: not at all, and the thread may be parked.
    until: AtomicU64,
    ended: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether to write now. If not, the next to want it wakes the thread.
    fn is_wanted(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until > self.now()
            // Somebody may have moved it meanwhile.
            || self.until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_err()
    }
}

impl Warming {
    /// A thread that does nothing yet; what it is to do when it is wanted, which says how long it took.
    pub(super) fn start(write: impl FnMut() -> io::Result<Duration> + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            base: Instant::now(),
            until: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("warming".to_owned()).spawn(move || run(&theirs, write))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on, for so long, unless it is hushed before.
    pub(super) fn want(&self, within: Duration) {
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let until = self.shared.now().saturating_add(within).max(1);
        // Waking somebody costs more than all else here: not while it is at work.
        if self.shared.until.swap(until, Ordering::Relaxed) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }

    /// No write is begun from here on but one that was about to be. Wakes nobody, and waits for nothing.
    pub(super) fn hush(&self) {
        self.shared.until.store(0, Ordering::Relaxed);
    }

    /// Whether it was told to do nothing, or has found that its time is over.
    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.shared.until.load(Ordering::Relaxed) == 0
    }

    /// Whether it has given up.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Warming {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, mut write: impl FnMut() -> io::Result<Duration>) {
    let mut slow = 0;
    while !shared.ended.load(Ordering::Relaxed) {
        if !shared.is_wanted() {
            // The disk may fall asleep meanwhile.
            slow = 0;
            thread::park();
            continue;
        }
        let Ok(took) = write() else { return };
        slow = if took > SLOW { slow + 1 } else { 0 };
        if slow == PATIENCE {
            return;
        }
        // Half of the disk's time at most is taken.
        thread::park_timeout(took.max(PERIOD));
    }
}
