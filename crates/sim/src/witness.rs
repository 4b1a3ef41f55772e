//! Proof that the copy is the original: the version of each page that the destination holds.
//!
//! Only tests ask for it. The guest counts a version for every page that it writes in an interval; the
//! witness notes, for every page sent, the version that was sent. At the pause both must agree.

use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::Timestamp;

use crate::guest::Guest;

/// The destination's memory, as versions.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    /// By page number; none: never sent.
    held: Vec<Option<u64>>,
}

impl Witness {
    pub(crate) fn new(numbers: u64) -> Self {
        Self { held: vec![None; numbers as usize] }
    }

    /// The pages of `mask` are read at `now` and sent: what was written before goes with them.
    pub(crate) fn sent(&mut self, word: usize, mask: u64, guest: &mut Guest, now: Timestamp) {
        guest.dirtied_mask(word, now);
        let mut left = mask;
        while left != 0 {
            let page = word * 64 + left.trailing_zeros() as usize;
            if let Some(held) = self.held.get_mut(page) {
                *held = Some(guest.version(PageNumber(page as u64)));
            }
            left &= left - 1;
        }
    }

    /// The same for eight words, from word `first` on.
    pub(crate) fn line_sent(&mut self, first: usize, taken: &[u64; 8], guest: &mut Guest, now: Timestamp) {
        for (offset, &mask) in taken.iter().enumerate().filter(|(_, mask)| **mask != 0) {
            self.sent(first + offset, mask, guest, now);
        }
    }

    /// The first page of the guest whose version here is not the guest's own.
    pub(crate) fn differs(&self, guest: &Guest) -> Option<PageNumber> {
        guest
            .layout()
            .runs()
            .flat_map(PageRun::range)
            .map(PageNumber)
            .find(|page| self.held.get(page.0 as usize).copied().flatten() != Some(guest.version(*page)))
    }
}
