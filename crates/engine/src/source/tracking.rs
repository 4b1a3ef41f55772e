//! What recording the guest's writes costs, as far as the source's driver sees it.

use std::time::Duration;

use whimbrel_core::units::Pages;

/// What the dirty log took, and found. The guest itself pays for each page found, if the log is the kernel's: its first write to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tracking {
    /// Starting it.
    pub start: Duration,
    /// How often it was harvested.
    pub harvests: u32,
    /// All harvests together.
    pub harvesting: Duration,
    /// The longest of them.
    pub longest: Duration,
    /// Pages that they found dirty.
    pub found: Pages,
    /// Stopping it.
    pub stop: Duration,
}

impl Tracking {
    pub(super) fn harvested(&mut self, took: Duration, found: Pages) {
        self.harvests += 1;
        self.harvesting += took;
        self.longest = self.longest.max(took);
        self.found = self.found.saturating_add(found);
    }
}
