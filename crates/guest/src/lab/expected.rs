//! What memory must hold, computed from the registers alone.
//!
//! All writes are played back, and the last one to each page is what its line must hold. Any page that was lost on the way,
//! or came in an older version, or was written while the guest was paused, differs.

use std::ops::Range;

use whimbrel_core::embed::{GuestRam, RamError};
use whimbrel_core::layout::{PageNumber, PageRun, RamLayout};

use super::config::LabConfig;
use super::device::Ring;
use super::registers::Registers;
use super::vcpu::{first_registers, vcpu_key};
use super::writes::{Choice, Generator, LINE, Untouched, key, leave, line, spread};
use super::zero_pages;
use crate::memory::GuestMemory;

/// What memory holds before it is written.
fn base(config: &LabConfig) -> Untouched {
    Untouched::new(key(config.seed, 0), config.random_content)
}

/// Writes what memory holds when the guest is new.
pub(super) fn fill(config: &LabConfig, memory: &GuestMemory) {
    let layout = memory.layout();
    let zero = zero_pages(config, layout.pages());
    let words = layout.page_size().bytes().0 as usize / 8;
    let base = base(config);
    let region = memory.region(0).unwrap_or_default();
    for (page, words) in (0..zero.start).zip(region.chunks_exact(words)) {
        for (index, lines) in words.chunks_exact(LINE).enumerate() {
            leave(lines, std::array::from_fn(|word| base.word(page, index * LINE + word)));
        }
    }
}

/// The last write of a vCPU to each page.
#[derive(Clone, Debug)]
struct Last {
    key: u64,
    set: Range<u64>,
    /// Numbers of writes, from one; zero: never.
    writes: Vec<u64>,
}

/// What memory must hold.
#[derive(Clone, Debug)]
pub struct Expected {
    layout: RamLayout,
    base: Untouched,
    zero: Range<u64>,
    vcpus: Vec<Last>,
    ring: Ring,
    blocks: u64,
}

/// Memory does not hold what it must.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stale {
    /// Pages that hold something else.
    #[error(
        "page {page} does not hold what the guest left there, at byte {byte}, and {others} other pages neither"
    )]
    Pages {
        /// The first of them.
        page: PageNumber,
        /// The first byte that may differ in it, counted from the beginning of the page.
        byte: usize,
        /// How many others.
        others: u64,
    },
    /// Memory of another size.
    #[error("memory of {found} pages, when the guest has {expected}")]
    Size {
        /// As found.
        found: u64,
        /// As it should be.
        expected: u64,
    },
    /// Memory cannot be read.
    #[error(transparent)]
    Ram(#[from] RamError),
}

impl Expected {
    pub(super) fn new(config: &LabConfig, layout: &RamLayout, registers: &Registers) -> Self {
        let vcpu = |(index, registers): (usize, &super::vcpu::VcpuRegisters)| {
            let writer = &config.writers[index];
            let (choice, set) = (Choice::new(writer), writer.pages.clone());
            let mut generator = Generator(first_registers(config, index).generator);
            let mut last = vec![0; (set.end - set.start) as usize];
            for number in 0..registers.writes {
                let page = choice.page(number, &mut generator);
                last[(page - set.start) as usize] = number + 1;
            }
            Last { key: vcpu_key(config, index), set, writes: last }
        };
        Self {
            layout: layout.clone(),
            base: base(config),
            zero: zero_pages(config, layout.pages()),
            vcpus: registers.vcpus.iter().enumerate().map(vcpu).collect(),
            ring: Ring::new(config, layout),
            blocks: registers.device,
        }
    }

    /// Puts what page `page` must hold into `out`.
    fn page(&self, page: u64, out: &mut [u64]) {
        if self.zero.contains(&page) {
            out.fill(0);
        } else {
            for (index, word) in out.iter_mut().enumerate() {
                *word = self.base.word(page, index);
            }
        }
        for (index, vcpu) in self.vcpus.iter().enumerate() {
            let place = page.checked_sub(vcpu.set.start).map(|place| place as usize);
            let number = place.and_then(|place| vcpu.writes.get(place)).copied().unwrap_or(0);
            if number > 0 {
                out[index * LINE..(index + 1) * LINE].copy_from_slice(&line(vcpu.key, number));
            }
        }
        if let Some(line) = self.ring.last(page, self.blocks) {
            out[Ring::WORD..Ring::WORD + LINE].copy_from_slice(&line);
        }
    }

    /// Compares all of `memory`, which must be still.
    ///
    /// # Errors
    ///
    /// [`Stale`] says which page differs first, and how many.
    pub fn check(&self, memory: &dyn GuestRam) -> Result<(), Stale> {
        let mut first = None;
        let mut stale = 0;
        self.each_page(memory, |page, found, expected| {
            if let Some(word) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
                first.get_or_insert((PageNumber(page), 8 * word));
                stale += 1;
            }
        })?;
        match first {
            Some((page, byte)) => Err(Stale::Pages { page, byte, others: stale - 1 }),
            None => Ok(()),
        }
    }

    /// A checksum of what memory must hold: that of [`checksum`] over it.
    pub fn checksum(&self) -> u64 {
        let mut words = vec![0; self.layout.page_size().bytes().0 as usize / 8];
        (0..self.layout.pages().0).fold(0, |sum: u64, page| {
            self.page(page, &mut words);
            sum.wrapping_add(page_sum(page, &words))
        })
    }

    fn each_page(
        &self,
        memory: &dyn GuestRam,
        mut look: impl FnMut(u64, &[u64], &[u64]),
    ) -> Result<(), Stale> {
        let (found, expected) = (memory.layout().pages().0, self.layout.pages().0);
        if found != expected || memory.layout() != &self.layout {
            return Err(Stale::Size { found, expected });
        }
        let mut words = vec![0; self.layout.page_size().bytes().0 as usize / 8];
        each_page(memory, |page, found| {
            self.page(page, &mut words);
            look(page, found, &words);
        })?;
        Ok(())
    }
}

fn each_page(memory: &dyn GuestRam, mut look: impl FnMut(u64, &[u64])) -> Result<(), RamError> {
    let layout = memory.layout();
    let mut bytes = vec![0; layout.page_size().bytes().0 as usize];
    let mut words = vec![0; bytes.len() / 8];
    for page in layout.runs().flat_map(PageRun::range) {
        let Some(address) = layout.address_of(PageNumber(page)) else { continue };
        memory.read(address, &mut bytes)?;
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        look(page, &words);
    }
    Ok(())
}

/// A checksum of memory: a sum over its pages, each hashed with its number. It finds what is lost or stale by accident, not what
/// somebody has forged.
///
/// # Errors
///
/// [`RamError`] if it cannot be read.
pub fn checksum(memory: &dyn GuestRam) -> Result<u64, RamError> {
    let mut sum = 0_u64;
    each_page(memory, |page, words| sum = sum.wrapping_add(page_sum(page, words)))?;
    Ok(sum)
}

fn page_sum(page: u64, words: &[u64]) -> u64 {
    words.iter().fold(spread(!page), |hash, word| spread(hash ^ word).wrapping_add(hash.rotate_left(17)))
}
