//! Guests of real memory: threads that write to it as fast as they can.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use whimbrel_core::dirty::{DirtyBitmap, PageSet};
use whimbrel_core::embed::{DirtyLog, GuestRam, LogError};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, RamLayout};
use whimbrel_core::units::ByteCount;

use super::{Ground, Running, pages_of};
use crate::memory::GuestMemory;

/// Threads that write. Each has a word of its own at the beginning of every page, and the kernel has the last one.
const WRITERS: usize = 3;

/// Words at the end of a page that are written: one when the guest is told which pages to write, and the kernel's.
const FAR: usize = 2;

/// For how long a writer writes at a time, and then rests; how much that is of a processor is the same in debug builds.
const WORK: Duration = Duration::from_micros(20);
const REST: Duration = Duration::from_micros(150);

/// Guest memory as the threads of a [`MemoryGround`] write it.
pub trait WrittenRam: Send + Sync {
    /// The memory.
    fn ram(&self) -> &dyn GuestRam;

    /// Adds one to the word at `at`, and then marks its page, if that is what this memory's log needs. A word has one
    /// writer at a time.
    fn add_one(&self, at: Gpa);

    /// Lets the kernel write `value` to `at`, as by `read(2)`; false if there is no such thing.
    fn kernel_write(&self, at: Gpa, value: u64) -> bool {
        let _ = (at, value);
        false
    }

    /// As [`Ground::discard`].
    fn discard(&self, run: PageRun) -> bool {
        let _ = run;
        false
    }
}

/// A pipe that `value` can be read from.
pub(crate) fn pipe_with(value: u64) -> std::io::PipeReader {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&value.to_ne_bytes()).expect("room for a word");
    reader
}

/// Guest memory whose writers mark each write in a bitmap, if there is one.
struct Marked {
    memory: Arc<GuestMemory>,
    bitmap: Option<Arc<DirtyBitmap>>,
}

impl Marked {
    fn mark(&self, at: Gpa) {
        if let Some(bitmap) = &self.bitmap {
            let page = self.memory.layout().page_at(at).expect("memory of this guest");
            bitmap.mark(page).expect("a page of this guest");
        }
    }
}

impl WrittenRam for Marked {
    fn ram(&self) -> &dyn GuestRam {
        &*self.memory
    }

    fn add_one(&self, at: Gpa) {
        self.memory.word(at).expect("a word of this guest").fetch_add(1, Ordering::Relaxed);
        self.mark(at);
    }

    fn kernel_write(&self, at: Gpa, value: u64) -> bool {
        let read = self.memory.read_from(at, ByteCount(8), pipe_with(value).as_fd());
        assert_eq!(read.expect("memory of this guest"), ByteCount(8));
        self.mark(at);
        true
    }

    fn discard(&self, run: PageRun) -> bool {
        self.memory.discard(run).expect("memory of this guest");
        true
    }
}

/// No page.
const NONE: u64 = u64::MAX;

/// Real memory, a log that watches it, and threads that write to all pages but every fourth.
pub struct MemoryGround {
    memory: Arc<dyn WrittenRam>,
    /// Where each page begins, by number; anything for padding.
    starts: Vec<Gpa>,
    log: Box<dyn DirtyLog>,
    /// What the kernel has written; it never writes the same twice.
    kernel: AtomicU64,
    /// The page that each writer, and after them the kernel, is about to write or to mark.
    busy: [AtomicU64; WRITERS + 1],
}

impl MemoryGround {
    /// A ground for `log`, which watches `memory`; writers mark `bitmap`, if there is one.
    pub fn new(memory: Arc<GuestMemory>, log: Box<dyn DirtyLog>, bitmap: Option<Arc<DirtyBitmap>>) -> Self {
        Self::over(Arc::new(Marked { memory, bitmap }), log)
    }

    /// A ground for `log`, which watches memory of another kind.
    pub fn over(memory: Arc<dyn WrittenRam>, log: Box<dyn DirtyLog>) -> Self {
        let busy = std::array::from_fn(|_| AtomicU64::new(NONE));
        let layout = memory.ram().layout();
        let start = |page| layout.address_of(PageNumber(page)).unwrap_or(Gpa(u64::MAX));
        let starts = (0..layout.numbers()).map(start).collect();
        Self { memory, starts, log, kernel: AtomicU64::new(0), busy }
    }

    fn guest(&self) -> Guest<'_> {
        Guest { memory: &*self.memory, starts: &self.starts, kernel: &self.kernel, busy: &self.busy }
    }
}

/// Every fourth page is left alone.
fn writes(page: PageNumber) -> bool {
    page.0 % 4 != 3
}

/// What all threads see.
#[derive(Clone, Copy)]
struct Guest<'a> {
    memory: &'a dyn WrittenRam,
    starts: &'a [Gpa],
    kernel: &'a AtomicU64,
    busy: &'a [AtomicU64; WRITERS + 1],
}

impl Guest<'_> {
    fn near(&self, page: PageNumber, word: usize) -> Gpa {
        Gpa(self.starts[page.0 as usize].0 + 8 * word as u64)
    }

    /// Word `word` of those at the end of a page.
    fn far(&self, page: PageNumber, word: usize) -> Gpa {
        let words = self.memory.ram().layout().page_size().bytes().0 as usize / 8;
        self.near(page, words - FAR + word)
    }

    /// The sum of what was written: each writer only counts up.
    fn content(&self, page: PageNumber) -> u64 {
        let mut words = [[0; 8]; WRITERS + FAR];
        let (near, far) = words.split_at_mut(WRITERS);
        self.memory.ram().read(self.near(page, 0), near.as_flattened_mut()).expect("memory of this guest");
        self.memory.ram().read(self.far(page, 0), far.as_flattened_mut()).expect("memory of this guest");
        words.map(u64::from_ne_bytes).into_iter().fold(0, u64::wrapping_add)
    }

    /// The same, if nobody has begun to write to `page` and not marked it yet.
    fn settled(&self, page: PageNumber) -> Option<u64> {
        let content = self.content(page);
        // After the content: whoever wrote some of that and is not there any more has marked it.
        fence(Ordering::Acquire);
        let idle = self.busy.iter().all(|busy| busy.load(Ordering::Acquire) != page.0);
        idle.then_some(content)
    }

    /// A write by the kernel; false if there is no such thing.
    fn kernel_write(&self, page: PageNumber) -> bool {
        let value = self.kernel.fetch_add(1, Ordering::Relaxed) + 1;
        self.memory.kernel_write(self.far(page, 1), value)
    }

    /// Writes as writer `writer`, the last of which is the kernel, and says so meanwhile.
    fn write_busily(&self, page: PageNumber, writer: usize) -> bool {
        // Release: whoever sees this sees the mark of the page before.
        self.busy[writer].store(page.0, Ordering::Release);
        // And whoever sees the write sees that it is under way.
        fence(Ordering::Release);
        let done = if writer == WRITERS {
            self.kernel_write(page)
        } else {
            self.memory.add_one(self.near(page, writer));
            true
        };
        self.busy[writer].store(NONE, Ordering::Release);
        done
    }

    /// Writes to pages in an order of its own until it is told to stop: half of its writes to a few that all writers share.
    /// It rests often: a page whose write was lost must not be written again soon, and the harvester needs a processor too.
    fn keep_writing(&self, writer: usize, stop: &AtomicBool) {
        let pages: Vec<_> = pages_of(self.memory.ram().layout()).filter(|&page| writes(page)).collect();
        // xorshift64 (Marsaglia 2003); never zero.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ (writer as u64 + 1);
        let mut awake = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let among = if random >> 63 == 0 { pages.len() } else { pages.len().min(8) };
            if !self.write_busily(pages[random as usize % among], writer) {
                return;
            }
            if (random >> 40).is_multiple_of(16) && awake.elapsed() > WORK {
                std::thread::sleep(REST);
                awake = Instant::now();
            }
        }
    }
}

struct Busy<'a> {
    guest: Guest<'a>,
    log: &'a mut dyn DirtyLog,
}

impl Running for Busy<'_> {
    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        self.log.harvest(into)
    }

    fn content(&self, page: PageNumber) -> u64 {
        self.guest.content(page)
    }

    fn settled(&self, page: PageNumber) -> Option<u64> {
        self.guest.settled(page)
    }
}

impl Ground for MemoryGround {
    fn layout(&self) -> RamLayout {
        self.memory.ram().layout().clone()
    }

    fn log(&mut self) -> &mut dyn DirtyLog {
        self.log.as_mut()
    }

    fn content(&self, page: PageNumber) -> u64 {
        self.guest().content(page)
    }

    fn writes(&self, page: PageNumber) -> bool {
        writes(page)
    }

    fn write(&mut self, wanted: &[PageNumber]) {
        for (index, &page) in wanted.iter().enumerate() {
            let guest = self.guest();
            self.memory.add_one(if index % 2 == 0 { guest.near(page, 0) } else { guest.far(page, 0) });
        }
    }

    fn while_writing(&mut self, act: &mut dyn FnMut(&mut dyn Running)) {
        let stop = AtomicBool::new(false);
        let guest =
            Guest { memory: &*self.memory, starts: &self.starts, kernel: &self.kernel, busy: &self.busy };
        let log = self.log.as_mut();
        std::thread::scope(|scope| {
            // Also if `act` panics: the scope waits for the writers.
            let stopper = Stopper(&stop);
            for writer in 0..=WRITERS {
                let stop = &stop;
                scope.spawn(move || guest.keep_writing(writer, stop));
            }
            act(&mut Busy { guest, log });
            drop(stopper);
        });
    }

    fn kernel_write(&mut self, page: PageNumber) -> bool {
        self.guest().kernel_write(page)
    }

    fn discard(&mut self, run: PageRun) -> bool {
        self.memory.discard(run)
    }
}

/// Tells writers to end when it is dropped, so also if something panics.
pub(super) struct Stopper<'a>(pub(super) &'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
