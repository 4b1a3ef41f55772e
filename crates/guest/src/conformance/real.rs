//! Guests of real memory: threads that write to it as fast as they can.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use whimbrel_core::dirty::{DirtyBitmap, PageSet};
use whimbrel_core::embed::{DirtyLog, LogError};
use whimbrel_core::layout::{PageNumber, PageRun, RamLayout};
use whimbrel_core::units::ByteCount;

use super::{Ground, Running};
use crate::memory::GuestMemory;

/// Threads that write. Each has a word of its own in every page.
const WRITERS: usize = 3;

/// The word of a page that only the kernel writes.
const KERNEL: usize = 8;

/// Real memory, a log that watches it, and threads that write to all pages but every fourth.
pub struct MemoryGround {
    memory: Arc<GuestMemory>,
    log: Box<dyn DirtyLog>,
    /// What writers mark after each write, for a log that needs it.
    bitmap: Option<Arc<DirtyBitmap>>,
    /// What the kernel has written; it never writes the same twice.
    kernel: u64,
}

impl MemoryGround {
    /// A ground for `log`, which watches `memory`; writers mark `bitmap`, if there is one.
    pub fn new(memory: Arc<GuestMemory>, log: Box<dyn DirtyLog>, bitmap: Option<Arc<DirtyBitmap>>) -> Self {
        Self { memory, log, bitmap, kernel: 0 }
    }
}

/// A write by writer `word`.
fn write(memory: &GuestMemory, bitmap: Option<&DirtyBitmap>, page: PageNumber, word: usize) {
    if let Some(words) = memory.page(page) {
        words[word].fetch_add(1, Ordering::Relaxed);
        mark(bitmap, page);
    }
}

fn mark(bitmap: Option<&DirtyBitmap>, page: PageNumber) {
    if let Some(bitmap) = bitmap {
        bitmap.mark(page).expect("a page of this guest");
    }
}

/// The sum of what was written: each writer only counts up.
fn content(memory: &GuestMemory, page: PageNumber) -> u64 {
    let sum = |words: &[AtomicU64]| {
        words[..=KERNEL].iter().fold(0, |sum: u64, word| sum.wrapping_add(word.load(Ordering::Relaxed)))
    };
    memory.page(page).map_or(0, sum)
}

/// Every fourth page is left alone.
fn writes(page: PageNumber) -> bool {
    page.0 % 4 != 3
}

/// Writes to pages in an order of its own until it is told to stop: half of its writes to a few that all writers share.
fn keep_writing(memory: &GuestMemory, bitmap: Option<&DirtyBitmap>, writer: usize, stop: &AtomicBool) {
    let pages: Vec<_> = memory
        .layout()
        .runs()
        .flat_map(|run| run.range().map(PageNumber))
        .filter(|&page| writes(page))
        .collect();
    // xorshift64 (Marsaglia 2003); never zero.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ (writer as u64 + 1);
    while !stop.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let among = if random >> 63 == 0 { pages.len() } else { pages.len().min(8) };
        write(memory, bitmap, pages[random as usize % among], writer);
    }
}

struct Busy<'a> {
    memory: &'a GuestMemory,
    log: &'a mut dyn DirtyLog,
}

impl Running for Busy<'_> {
    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        self.log.harvest(into)
    }

    fn content(&self, page: PageNumber) -> u64 {
        content(self.memory, page)
    }
}

impl Ground for MemoryGround {
    fn layout(&self) -> RamLayout {
        self.memory.layout().clone()
    }

    fn log(&mut self) -> &mut dyn DirtyLog {
        self.log.as_mut()
    }

    fn content(&self, page: PageNumber) -> u64 {
        content(&self.memory, page)
    }

    fn writes(&self, page: PageNumber) -> bool {
        writes(page)
    }

    fn write(&mut self, wanted: &[PageNumber]) {
        for &page in wanted {
            write(&self.memory, self.bitmap.as_deref(), page, 0);
        }
    }

    fn while_writing(&mut self, act: &mut dyn FnMut(&mut dyn Running)) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also if `act` panics: the scope waits for the writers.
            let stopper = Stopper(&stop);
            for writer in 0..WRITERS {
                let (memory, bitmap, stop) = (&*self.memory, self.bitmap.as_deref(), &stop);
                scope.spawn(move || keep_writing(memory, bitmap, writer, stop));
            }
            act(&mut Busy { memory: &self.memory, log: self.log.as_mut() });
            drop(stopper);
        });
    }

    fn kernel_write(&mut self, page: PageNumber) -> bool {
        self.kernel += 1;
        let Some(address) = self.memory.layout().address_of(page) else { return false };
        let at = whimbrel_core::layout::Gpa(address.0 + 8 * KERNEL as u64);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(&self.kernel.to_ne_bytes()).expect("room for a word");
        let read = self.memory.read_from(at, ByteCount(8), reader.as_fd()).expect("memory of this guest");
        assert_eq!(read, ByteCount(8));
        mark(self.bitmap.as_deref(), page);
        true
    }

    fn discard(&mut self, run: PageRun) -> bool {
        self.memory.discard(run).expect("memory of this guest");
        true
    }
}

/// Ends the writers when it is dropped.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
