//! A device with state: it writes numbered blocks into a ring in guest memory, as a network card does.
//!
//! They come through a pipe, so that the *kernel* writes guest memory, as it does for a virtio device behind `readv`. Whoever keeps
//! a software log gets them marked.

use std::io::{PipeReader, PipeWriter, Write as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use whimbrel_core::layout::{Gpa, RamLayout};
use whimbrel_core::units::ByteCount;

use super::config::{LabConfig, MAX_VCPUS};
use super::control::{Slowed, Turn};
use super::writes::{LINE, key, line};
use super::{Shared, mark, zero_pages};
use crate::memory::GuestMemory;

/// Pages of the ring that the device writes to, at the end of the memory that is not zero; at most all.
pub const RING: u64 = 64;

/// The line of a page that is the device's.
const DEVICE_LINE: usize = MAX_VCPUS;

/// Where the device writes what.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pages: Range<u64>,
    key: u64,
    page_bytes: u64,
    start: Gpa,
}

impl Ring {
    /// At the end of the memory that is not zero.
    pub(super) fn new(config: &LabConfig, layout: &RamLayout) -> Self {
        let end = zero_pages(config, layout.pages()).start.max(1);
        let start = layout.regions().first().map_or(Gpa(0), |region| region.start);
        let page_bytes = layout.page_size().bytes().0;
        Self { pages: end - RING.min(end)..end, key: key(config.seed, 1), page_bytes, start }
    }

    /// The page of block `number`.
    fn page(&self, number: u64) -> u64 {
        self.pages.start + number % (self.pages.end - self.pages.start)
    }

    /// The last block that page `page` got among the first `blocks`; none if there was none.
    pub(super) fn last(&self, page: u64, blocks: u64) -> Option<[u64; LINE]> {
        let length = self.pages.end - self.pages.start;
        let place = page.checked_sub(self.pages.start).filter(|&place| place < length)?;
        let rounds = blocks.checked_sub(place + 1)? / length;
        Some(line(self.key, place + rounds * length))
    }

    /// The first word of the device's line in each page.
    pub(super) const WORD: usize = DEVICE_LINE * LINE;
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Device {
    ring: Ring,
    rate: f64,
    /// Its state: blocks written.
    blocks: AtomicU64,
}

impl Device {
    pub(super) fn new(config: &LabConfig, memory: &GuestMemory) -> Self {
        Self { ring: Ring::new(config, memory.layout()), rate: config.device_rate, blocks: AtomicU64::new(0) }
    }

    /// Time between two blocks; none if it never writes any.
    pub(super) fn period(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(1.0 / self.rate).ok()
    }

    pub(super) fn registers(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }

    pub(super) fn restore(&self, blocks: u64) {
        self.blocks.store(blocks, Ordering::Release);
    }

    /// What the thread does. Blocks come through `pipe`.
    pub(super) fn run(&self, shared: &Shared, period: Duration, mut pipe: (PipeReader, PipeWriter)) {
        let mut turn = shared.control.rest(Duration::ZERO, Slowed::No);
        while turn != Turn::End {
            if !self.write(shared, &mut pipe) {
                return;
            }
            turn = shared.control.rest(period, Slowed::No);
        }
    }

    /// One block, from the pipe to memory; false if the pipe is broken.
    fn write(&self, shared: &Shared, (reader, writer): &mut (PipeReader, PipeWriter)) -> bool {
        let number = self.blocks.load(Ordering::Relaxed);
        let page = self.ring.page(number);
        let block: Vec<u8> = line(self.ring.key, number).into_iter().flat_map(u64::to_ne_bytes).collect();
        let at = Gpa(self.ring.start.0 + page * self.ring.page_bytes + 8 * Ring::WORD as u64);
        let len = ByteCount(block.len() as u64);
        let through = writer.write_all(&block).is_ok()
            && shared.memory.read_from(at, len, reader.as_fd()).is_ok_and(|read| read == len);
        if through {
            mark(shared.marks.as_deref(), page);
            self.blocks.store(number + 1, Ordering::Release);
        }
        through
    }
}
