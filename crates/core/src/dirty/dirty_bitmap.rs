//! The dirty bitmap that vCPU threads share with a harvester.
//!
//! Whoever writes guest memory on the guest's behalf marks pages here; a dirty log harvests them. It
//! must never lose a mark, and never report a page whose bytes the harvester cannot see yet.
//!
//! # How it works
//!
//! There are two *sides*, each with a bit a page and a summary bit a line, and an *epoch* that says which
//! side is marked: the lowest bit of its number. A harvest begins a new epoch, so that markers turn to
//! the other side, and then empties the side they left with plain loads and stores. Emptying one shared
//! side would need an atomic exchange for each word, which costs about five times as much for a guest
//! that dirties half its memory.
//!
//! A marker may have read the old epoch and be late: its bit may fall between the harvester's load of a
//! word and its store of zero, and be gone. So a marker looks at the epoch again when it is done, and
//! marks once more if it changed. That this catches every late marker follows from the order of
//! changes to *one* word, the summary word that both exchange on with read-modify-write operations, which
//! is why a harvester exchanges every summary word, also those it sees clean:
//!
//! * The marker came first: then the harvester's exchange (acquire) reads the marker's summary bit, or a
//!   change after it, and synchronises with it (release). The harvester sees the summary bit, the
//!   page's bit, which was set before it, and the bytes, which were written before that.
//! * The harvester came first: then the marker's summary operation (acquire) reads the harvester's
//!   exchange, or a change after it, and synchronises with it (release). The new epoch was stored before
//!   that exchange, so the marker's second look sees it, and the page is marked on the other side.
//!
//! A late marker may leave its bit on the old side as well. Then a later harvest finds the page once
//! more: a page is sent needlessly, never missed.
//!
//! # What must not be optimised
//!
//! A marker must not return because it sees its page's bit set. The bit may be about to be harvested on
//! account of another's *earlier* write to the page, and the harvester would read the page without
//! this write. Nor may it leave out the summary because the word was not empty, or because the
//! summary's bit is set: it may be another marker's, whose own summary bit is still to come, or one the
//! harvester has just exchanged away. And a harvester must not leave out the exchange on a summary word
//! that looks clean. Each of these lost a page under loom when tried, as did each ordering weakened.
//!
//! Leaving out the page's own bit if it is seen set (acquire), but never the summary's, passed. It is
//! not done: the second operation then carries everything, for little gain.

use super::page_set::{PageSet, RangeError, check_run};
use super::primitive::{AtomicU64, Mutex, Ordering};
use super::words::{LINE_PAGES, LINE_WORDS, Line, WORD_PAGES, each_bit, each_word_of, line_count, or_line};
use crate::layout::{PageNumber, PageRun};
use crate::units::Pages;
use std::sync::PoisonError;

/// The words under one summary bit; aligned so that they share cache lines with no other line.
#[derive(Debug)]
#[repr(align(64))]
struct AtomicLine([AtomicU64; LINE_WORDS]);

/// One of the two bitmaps.
#[derive(Debug)]
struct Side {
    lines: Vec<AtomicLine>,
    /// Bit `i` is set after a bit of line `i` was.
    summary: Vec<AtomicU64>,
}

impl Side {
    fn new(lines: usize) -> Self {
        let line = |_| AtomicLine(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            lines: (0..lines).map(line).collect(),
            summary: (0..lines.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// Which pages were written since the last harvest; shared by any number of threads.
///
/// Threads that write guest memory call [`mark`](Self::mark) after each write; now and then someone
/// calls [`harvest_into`](Self::harvest_into), which also clears. Marking never waits: it is two atomic
/// operations, done again only if a harvest begins meanwhile. Harvests exclude each other.
///
/// Memory is a quarter of a byte a page number: 64 MiB for 1 TiB in pages of 4 KiB.
#[derive(Debug)]
pub struct DirtyBitmap {
    sides: [Side; 2],
    /// Side `epoch % 2` is being marked. Never wraps: that would take centuries of harvests.
    epoch: AtomicU64,
    /// Held while harvesting: two at once would each clear what the other is reading.
    harvesting: Mutex<()>,
    numbers: u64,
}

impl DirtyBitmap {
    /// A clean bitmap over `numbers` page numbers
    /// ([`RamLayout::numbers`](crate::layout::RamLayout::numbers)).
    pub fn new(numbers: u64) -> Self {
        let lines = numbers.div_ceil(LINE_PAGES) as usize;
        Self {
            sides: [Side::new(lines), Side::new(lines)],
            epoch: AtomicU64::new(0),
            harvesting: Mutex::new(()),
            numbers,
        }
    }

    /// How many page numbers the bitmap is over, padding included.
    #[inline]
    pub fn numbers(&self) -> u64 {
        self.numbers
    }

    /// Records a write to `page`. Call it *after* the write.
    ///
    /// If the call returns before a harvest begins, the page is in that harvest or was in one that ran
    /// during the call; otherwise in this or the next. Whichever it is, its harvester sees the bytes.
    ///
    /// # Errors
    ///
    /// [`RangeError::BeyondEnd`] if there is no such page; nothing is marked.
    #[inline]
    pub fn mark(&self, page: PageNumber) -> Result<(), RangeError> {
        if page.0 >= self.numbers {
            return Err(RangeError::BeyondEnd { page, numbers: self.numbers });
        }
        self.mark_word((page.0 / WORD_PAGES) as usize, 1 << (page.0 % WORD_PAGES));
        Ok(())
    }

    /// Records writes to all pages of `run`. Call it *after* the last write; as [`Self::mark`].
    ///
    /// # Errors
    ///
    /// [`RangeError::BeyondEnd`] if not all of it is in range; nothing is marked.
    pub fn mark_run(&self, run: PageRun) -> Result<(), RangeError> {
        check_run(run, self.numbers)?;
        each_word_of(run, |word, mask| self.mark_word(word, mask));
        Ok(())
    }

    /// Marks the pages of `mask` in a word that exists.
    #[inline]
    fn mark_word(&self, word: usize, mask: u64) {
        let (line, bit) = (word / LINE_WORDS, 1 << (word / LINE_WORDS % 64));
        // Acquire pairs with the release in `harvest_into`: the zeroes that an earlier harvest stored on
        // this side are in place before the bit is set, and do not overwrite it.
        let mut epoch = self.epoch.load(Ordering::Acquire);
        loop {
            let side = &self.sides[(epoch % 2) as usize];
            // Release pairs with the acquire load of this word: a harvester that sees the bit, though
            // only on account of another marker's summary bit, sees the bytes.
            side.lines[line].0[word % LINE_WORDS].fetch_or(mask, Ordering::Release);
            // Release pairs with the acquire of the harvester's exchange: it sees the bit above. Acquire
            // pairs with the exchange's release: if it came first, the new epoch is seen below.
            side.summary[line / 64].fetch_or(bit, Ordering::AcqRel);
            // Acquire for the next turn, as above.
            let now = self.epoch.load(Ordering::Acquire);
            if now == epoch {
                return;
            }
            epoch = now;
        }
    }

    /// Moves all marks into `out` and says how many pages are new there.
    ///
    /// Costs what is dirty, and an exchange on each summary word: 8,192 for 1 TiB in pages of 4 KiB.
    /// Pages already in `out` stay.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if `out` is over another number of pages; no mark is touched.
    pub fn harvest_into(&self, out: &mut PageSet) -> Result<Pages, RangeError> {
        if out.numbers() != self.numbers {
            return Err(RangeError::OtherGuest { left: out.numbers(), right: self.numbers });
        }
        // The lock guards no data that a panic could leave half changed.
        let _alone = self.harvesting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = out.count();
        // Only harvesters store it, and the lock orders them.
        let epoch = self.epoch.load(Ordering::Relaxed);
        // Release pairs with the acquire in `mark_word`; see there. Markers turn to the other side.
        self.epoch.store(epoch + 1, Ordering::Release);
        let side = &self.sides[(epoch % 2) as usize];
        let parts = out.parts();
        for (index, summary) in side.summary.iter().enumerate() {
            // Exchanged even where it is clean, for a late marker to notice; see the module's text.
            let marked = summary.swap(0, Ordering::AcqRel);
            if marked == 0 {
                continue;
            }
            let had = parts.summary[index];
            let mut found = 0;
            each_bit(marked, |bit| {
                let line = index * 64 + bit;
                let new = empty(&side.lines[line]);
                // A late marker's summary bit may stand for a line that is clean.
                let any = new.iter().fold(0, |any, word| any | word) != 0;
                found |= u64::from(any) << bit;
                *parts.count += add_line(&mut parts.lines[line], &new, had >> bit & 1 == 0);
            });
            parts.summary[index] |= found;
        }
        Ok(Pages(out.count().0 - before.0))
    }
}

/// Takes the marks of a line whose markers have turned to the other side, or will mark again.
#[inline]
fn empty(line: &AtomicLine) -> Line {
    // Acquire pairs with the release of the marker's word: whoever sees the bit sees the bytes.
    let words = std::array::from_fn(|word| line.0[word].load(Ordering::Acquire));
    for word in &line.0 {
        // Ordered before the side is marked again by the release of the next epoch.
        word.store(0, Ordering::Relaxed);
    }
    words
}

/// Adds `new` to a line of a set, which is known to be `clean` or not; returns how many pages are new.
#[inline]
fn add_line(line: &mut Line, new: &Line, clean: bool) -> u64 {
    if clean {
        *line = *new;
        line_count(new)
    } else {
        or_line(line, new)
    }
}

#[cfg(test)]
mod tests;
