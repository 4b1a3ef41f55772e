//! Which pages of a new replica were written: all others still read as zeroes.
//!
//! What a zero page comes to nothing with: without it each would be looked at, and what is looked at becomes resident. Marked
//! by the page streams before a page is written; a page belongs to one of them, so nobody asks about a page that another
//! marks.

use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_core::layout::{PageRun, RamLayout};

/// A bit a page.
pub(super) struct Touched(Vec<AtomicU64>);

impl Touched {
    /// None, if the replica is `fresh`; else all.
    pub(super) fn new(layout: &RamLayout, fresh: bool) -> Self {
        let word = if fresh { 0 } else { u64::MAX };
        Self((0..layout.numbers().div_ceil(64)).map(|_| AtomicU64::new(word)).collect())
    }

    /// These are about to be written.
    pub(super) fn mark(&self, run: PageRun) {
        for (word, mask) in masks(run) {
            if let Some(word) = self.0.get(word) {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    /// Whether any of these was.
    pub(super) fn any(&self, run: PageRun) -> bool {
        masks(run)
            .any(|(word, mask)| self.0.get(word).is_none_or(|word| word.load(Ordering::Relaxed) & mask != 0))
    }
}

/// The words of a run, and which of their bits are its own.
fn masks(run: PageRun) -> impl Iterator<Item = (usize, u64)> {
    let (first, end) = (run.first.0, run.end().0);
    (first / 64..end.div_ceil(64)).map(move |word| {
        let from = first.saturating_sub(word * 64);
        let to = (end - word * 64).min(64);
        (word as usize, (u64::MAX >> (64 - (to - from))) << from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_core::layout::{PageNumber, PageSize};
    use whimbrel_core::units::{ByteCount, Pages};

    #[test]
    fn what_was_marked_is_known_and_nothing_else() {
        let layout = RamLayout::contiguous(ByteCount(300 * 4096), PageSize::Kib4).expect("whole pages");
        let run = |first, count| PageRun { first: PageNumber(first), count: Pages(count) };
        let touched = Touched::new(&layout, true);
        touched.mark(run(60, 80));
        for page in 0..300 {
            assert_eq!(touched.any(run(page, 1)), (60..140).contains(&page), "{page}");
        }
        assert!(touched.any(run(0, 61)) && !touched.any(run(0, 60)) && !touched.any(run(140, 160)));
        assert!(Touched::new(&layout, false).any(run(299, 1)));
    }
}
