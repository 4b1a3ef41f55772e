//! What memory must hold, and where it does not.

use std::fmt;

use whimbrel_core::embed::{GuestError, GuestRam, RamError};
use whimbrel_core::layout::{Gpa, PageNumber, RamLayout};

use super::writer::Progress;

/// What the word of a vCPU in a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Found {
    /// The number of a write.
    Write(u64),
    /// What it was given when the guest was made: it was never written.
    Untouched,
    /// Neither; as a page that was never copied.
    Other(u64),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(number) => write!(f, "write {number}"),
            Self::Untouched => f.write_str("what was there before any write"),
            Self::Other(word) => write!(f, "{word:#x}"),
        }
    }
}

/// A page that does not hold what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page {page} has of vCPU {vcpu} {found} and must have {expected}; so {others} other pages")]
pub struct Mismatch {
    /// The first such page.
    pub page: PageNumber,
    /// Whose word it is.
    pub vcpu: usize,
    /// What it must have.
    pub expected: Found,
    /// What it has.
    pub found: Found,
    /// How many more such pages there are.
    pub others: u64,
}

/// Why memory is not what the registers say, or nobody knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The registers cannot be had, or do not fit together.
    #[error("the registers say nothing about memory")]
    Registers(#[source] GuestError),
    /// It is the memory of another guest.
    #[error("memory with another layout than this guest's")]
    OtherLayout,
    /// It cannot be read.
    #[error("memory cannot be read")]
    Ram(#[source] RamError),
    /// A page is not what it must be.
    #[error(transparent)]
    Mismatch(Mismatch),
}

/// What the word of `vcpu` in the page at `address` is before any write: no number of a write, and different in each word.
pub(super) fn stamp(address: Gpa, vcpu: usize) -> u64 {
    1 << 63 | (address.0 + 8 * vcpu as u64)
}

fn found(word: u64, stamp: u64) -> Found {
    match word {
        _ if word == stamp => Found::Untouched,
        0 => Found::Other(0),
        _ if word >> 63 == 0 => Found::Write(word),
        _ => Found::Other(word),
    }
}

/// Writes what is there before any write to the words of `vcpus` vCPUs in every page.
pub(super) fn stamp_all(ram: &dyn GuestRam, vcpus: usize) -> Result<(), RamError> {
    pages(ram.layout()).try_for_each(|(_, address)| {
        let words: Vec<u8> = (0..vcpus).flat_map(|vcpu| stamp(address, vcpu).to_le_bytes()).collect();
        ram.write(address, &words)
    })
}

/// Compares `ram` with what vCPUs that have come so far must have written.
pub(super) fn verify(ram: &dyn GuestRam, progress: &[Progress]) -> Result<(), VerifyError> {
    let last: Vec<_> = progress.iter().map(|vcpu| vcpu.task.last_writes(vcpu.writes)).collect();
    let mut first: Option<Mismatch> = None;
    let mut words = vec![0; 8 * progress.len()];
    for (page, address) in pages(ram.layout()) {
        ram.read(address, &mut words).map_err(VerifyError::Ram)?;
        let mut wrong = None;
        for (vcpu, (word, of)) in words.as_chunks().0.iter().zip(progress).enumerate() {
            let run = of.task.run();
            let number = if run.contains(page) { last[vcpu][(page.0 - run.first.0) as usize] } else { 0 };
            let expected = if number == 0 { Found::Untouched } else { Found::Write(number) };
            let found = found(u64::from_le_bytes(*word), stamp(address, vcpu));
            if found != expected {
                wrong.get_or_insert(Mismatch { page, vcpu, expected, found, others: 0 });
            }
        }
        match (&mut first, wrong) {
            (Some(first), Some(_)) => first.others += 1,
            (None, wrong) => first = wrong,
            (Some(_), None) => {}
        }
    }
    first.map_or(Ok(()), |mismatch| Err(VerifyError::Mismatch(mismatch)))
}

/// All pages with their addresses.
fn pages(layout: &RamLayout) -> impl Iterator<Item = (PageNumber, Gpa)> + '_ {
    let shift = layout.page_size().shift();
    layout.regions().iter().zip(layout.runs()).flat_map(move |(region, run)| {
        let start = region.start.0;
        (0..run.count.0).map(move |page| (PageNumber(run.first.0 + page), Gpa(start + (page << shift))))
    })
}
