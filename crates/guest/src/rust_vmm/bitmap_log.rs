//! A dirty log over the bitmaps that `vm-memory` keeps.

use vm_memory::GuestMemoryBackend as _;
use vm_memory::bitmap::{AtomicBitmap, Bitmap as _};
use whimbrel_core::dirty::{PageSet, WORD_PAGES};
use whimbrel_core::embed::{DirtyLog, GuestRam as _, LogError, check_set};
use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::{ByteCount, Pages};

use super::{VmMemory, VmMemoryError};

const NAME: &str = "vm-memory";

/// Harvests the `AtomicBitmap` of each region of a [`VmMemory`].
///
/// A bit may stand for more or less than a guest page (by default it is a page of the host); a guest page is reported if
/// any of its bytes may have been written. `vm-memory` marks whether the log is started or not, and a harvest costs an atomic
/// exchange for each word of the bitmaps, clean or not: [`SoftwareLog`](crate::log::SoftwareLog) is many times faster
/// where most of a large guest is clean.
#[derive(Debug)]
pub struct BitmapLog {
    memory: VmMemory,
    /// Of each region: how many bytes a bit stands for.
    bit_sizes: Vec<u64>,
    started: bool,
}

/// How many bytes a bit of `bitmap` stands for, if it is over `len` bytes. It does not say, so a copy is asked.
fn bit_size(bitmap: &AtomicBitmap, len: usize) -> u64 {
    let copy = bitmap.clone();
    copy.reset();
    copy.mark_dirty(0, 1);
    let (mut dirty, mut clean) = (0, len);
    // The byte at `dirty` has the first bit, that at `clean` another or none.
    while clean - dirty > 1 {
        let middle = dirty + (clean - dirty) / 2;
        if copy.dirty_at(middle) { dirty = middle } else { clean = middle }
    }
    clean as u64
}

impl BitmapLog {
    pub(super) fn new(memory: VmMemory) -> Result<Self, VmMemoryError> {
        let regions = memory.memory.iter().zip(memory.layout().regions());
        let bit_sizes = regions.map(|(mapped, &region)| {
            let known = ByteCount((**mapped).bitmap().byte_size() as u64);
            if known < region.len {
                return Err(VmMemoryError::ShortBitmap { region, known });
            }
            Ok(bit_size((**mapped).bitmap(), mapped.size()))
        });
        let bit_sizes = bit_sizes.collect::<Result<_, _>>()?;
        Ok(Self { memory, bit_sizes, started: false })
    }

    /// The memory that it watches.
    pub fn memory(&self) -> &VmMemory {
        &self.memory
    }
}

/// The pages of `run` that bit `bit` stands for, if there are `size` bytes to a bit and `page` to a page.
fn pages_of_bit(bit: u64, size: u64, page: u64, run: PageRun) -> PageRun {
    let first = (bit * size / page).min(run.count.0);
    let end = (bit + 1).saturating_mul(size).div_ceil(page).min(run.count.0);
    PageRun { first: PageNumber(run.first.0 + first), count: Pages(end - first) }
}

/// Adds what the bits of `words` stand for.
fn add(words: &[u64], size: u64, page: u64, run: PageRun, into: &mut PageSet) -> Result<(), LogError> {
    if size == page {
        // A region begins at a whole word of page numbers.
        let first = (run.first.0 / WORD_PAGES) as usize;
        for (index, &bits) in words.iter().take(run.count.0.div_ceil(WORD_PAGES) as usize).enumerate() {
            let beyond = WORD_PAGES.saturating_sub(run.count.0 - index as u64 * WORD_PAGES);
            into.or_word(first + index, bits & u64::MAX >> beyond);
        }
        return Ok(());
    }
    for (index, &bits) in words.iter().enumerate() {
        let mut left = bits;
        while left != 0 {
            let bit = index as u64 * u64::from(u64::BITS) + u64::from(left.trailing_zeros());
            left &= left - 1;
            let pages = pages_of_bit(bit, size, page, run);
            into.insert_run(pages).map_err(|cause| LogError::OtherGuest { log: NAME, cause })?;
        }
    }
    Ok(())
}

impl DirtyLog for BitmapLog {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&mut self) -> Result<(), LogError> {
        if !self.started {
            // Marks of old are nobody's business any more.
            self.memory.memory.iter().for_each(|region| (**region).bitmap().reset());
            self.started = true;
        }
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        if !self.started {
            return Err(LogError::NotStarted { log: NAME });
        }
        let layout = self.memory.layout();
        check_set(NAME, layout.numbers(), into)?;
        let page = layout.page_size().bytes().0;
        for ((region, run), &size) in self.memory.memory.iter().zip(layout.runs()).zip(&self.bit_sizes) {
            // `GuestMemoryRegion::bitmap` would be a slice, which cannot be harvested.
            add(&(**region).bitmap().get_and_reset(), size, page, run, into)?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), LogError> {
        self.started = false;
        Ok(())
    }
}
