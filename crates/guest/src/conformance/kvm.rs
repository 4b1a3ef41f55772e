//! A KVM guest whose vCPUs write, and beside them, where there is a software log for it, a monitor that emulates devices.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use whimbrel_core::dirty::{DirtyBitmap, PageSet};
use whimbrel_core::embed::{DirtyLog, Guest as _, GuestRam, LogError};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, RamLayout};
use whimbrel_core::units::ByteCount;

use super::real::{Stopper, pipe_with};
use super::{Ground, Running};
use crate::kvm::{KvmGuest, TOLD_WORD};
use crate::memory::GuestMemory;

/// The word of a page that only the monitor writes, with bytes that it reads from somewhere.
const KERNEL_WORD: usize = TOLD_WORD + 1;

/// The word of a page that only an emulated device writes.
const DEVICE_WORD: usize = TOLD_WORD + 2;

/// A KVM guest and a log that watches it. It writes the working sets of its vCPUs.
pub struct KvmGround {
    guest: KvmGuest,
    log: Box<dyn DirtyLog>,
    /// What the monitor marks after each write of its own. Without it the monitor never writes.
    bitmap: Option<Arc<DirtyBitmap>>,
    sets: Vec<PageRun>,
    /// What the kernel has written; it never writes the same twice.
    kernel: u64,
}

impl KvmGround {
    /// A ground for `log`, which watches the memory of `guest`, and what marks `bitmap` if there is one.
    ///
    /// # Panics
    ///
    /// If the guest is not paused, or waits for its state.
    pub fn new(guest: KvmGuest, log: Box<dyn DirtyLog>, bitmap: Option<Arc<DirtyBitmap>>) -> Self {
        let sets = guest.working_sets().expect("a paused guest");
        Self { guest, log, bitmap, sets, kernel: 0 }
    }
}

/// What all have written to `page`: every word only counts up, after what is there before the first write.
fn content(memory: &GuestMemory, page: PageNumber) -> u64 {
    /// An odd number near 2⁶⁴ divided by the golden ratio: so words that change together do not make up for each other.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = memory.page(page).unwrap_or_default().iter().take(DEVICE_WORD + 1);
    words.fold(0, |sum: u64, word| sum.wrapping_mul(FACTOR).wrapping_add(word.load(Ordering::Relaxed)))
}

/// Writes as a device of the monitor does, until it is told to stop: every page of the working sets in turn.
fn emulate_device(memory: &GuestMemory, bitmap: &DirtyBitmap, sets: &[PageRun], stop: &AtomicBool) {
    for page in sets.iter().cycle().flat_map(|run| run.range().map(PageNumber)) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Some(words) = memory.page(page) {
            words[DEVICE_WORD].fetch_add(1, Ordering::Relaxed);
            bitmap.mark(page).expect("a page of this guest");
        }
    }
}

/// How long a harvest lets others go first, if they have not been yet.
const TURN: Duration = Duration::from_micros(10);

struct Busy<'a> {
    memory: &'a GuestMemory,
    log: &'a mut dyn DirtyLog,
    /// A page that is written all the time, and what it held at the last harvest.
    watched: PageNumber,
    before: u64,
}

impl Running for Busy<'_> {
    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        // A harvest before which nothing was written proves nothing: where processors are few, vCPUs must have their turn.
        if content(self.memory, self.watched) == self.before {
            std::thread::sleep(TURN);
        }
        self.before = content(self.memory, self.watched);
        self.log.harvest(into)
    }

    fn content(&self, page: PageNumber) -> u64 {
        content(self.memory, page)
    }
}

impl Ground for KvmGround {
    fn layout(&self) -> RamLayout {
        GuestRam::layout(&**self.guest.memory()).clone()
    }

    fn log(&mut self) -> &mut dyn DirtyLog {
        self.log.as_mut()
    }

    fn content(&self, page: PageNumber) -> u64 {
        content(self.guest.memory(), page)
    }

    fn writes(&self, page: PageNumber) -> bool {
        self.sets.iter().any(|set| set.contains(page))
    }

    fn write(&mut self, wanted: &[PageNumber]) {
        self.guest.write_to(wanted).expect("pages of a paused guest");
    }

    fn while_writing(&mut self, act: &mut dyn FnMut(&mut dyn Running)) {
        let memory = Arc::clone(self.guest.memory());
        self.guest.resume().expect("a guest that runs");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stopper = Stopper(&stop);
            if let Some(bitmap) = &self.bitmap {
                let (memory, sets, stop) = (&*memory, &self.sets[..], &stop);
                scope.spawn(move || emulate_device(memory, bitmap, sets, stop));
            }
            let watched = self.sets.iter().min_by_key(|set| set.count).map_or(PageNumber(0), |set| set.first);
            act(&mut Busy { memory: &memory, log: self.log.as_mut(), watched, before: 0 });
            drop(stopper);
        });
        self.guest.pause().expect("a guest that stops");
    }

    fn kernel_write(&mut self, page: PageNumber) -> bool {
        let Some(bitmap) = &self.bitmap else { return false };
        let memory = self.guest.memory();
        let Some(address) = GuestRam::layout(&**memory).address_of(page) else { return false };
        self.kernel += 1;
        let at = Gpa(address.0 + 8 * KERNEL_WORD as u64);
        let read =
            memory.read_from(at, ByteCount(8), pipe_with(self.kernel).as_fd()).expect("memory of this guest");
        assert_eq!(read, ByteCount(8));
        bitmap.mark(page).expect("a page of this guest");
        true
    }

    fn discard(&mut self, run: PageRun) -> bool {
        self.guest.memory().discard(run).expect("memory of this guest");
        true
    }
}
