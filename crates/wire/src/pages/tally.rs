//! What pages went as: counted on either side by the entries of the frames, so that both must come to the same.

use std::ops::AddAssign;

use whimbrel_core::units::{ByteCount, Pages};

use super::Encoding;
use super::table::Entry;

/// Pages sent in one encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub pages: Pages,
    /// Their payloads together.
    pub bytes: ByteCount,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.pages = self.pages.saturating_add(other.pages);
        self.bytes.0 = self.bytes.0.saturating_add(other.bytes.0);
    }
}

/// Pages by encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies([Tally; Encoding::ALL.len()]);

impl Tallies {
    /// What went in this encoding.
    pub fn of(&self, encoding: Encoding) -> Tally {
        self.0[usize::from(encoding.code())]
    }

    /// Counts what is sent together.
    pub fn count(&mut self, entry: &Entry) {
        let counted = Tally { pages: entry.run().count, bytes: entry.payload() };
        self.0[usize::from(entry.encoding().code())] += counted;
    }
}

impl AddAssign for Tallies {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(tally, other)| *tally += other);
    }
}
