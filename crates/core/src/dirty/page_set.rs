//! An owned set of pages.
//!
//! The engine, the simulator and the backlog work on it word by word; everything that changes it goes
//! through a few functions here that keep the count, the summary and the bits in step. It must never
//! forget a page quietly: what does not fit is an error.

use super::words::{LINE_PAGES, LINE_WORDS, Line, WORD_PAGES, each_line, each_word_of, line_count, or_line};
use crate::layout::{PageNumber, PageRun, RamLayout};
use crate::units::Pages;
use bitvec::order::Lsb0;
use bitvec::slice::BitSlice;
use std::fmt;

/// Pages that a set, a bitmap or a backlog has no room for. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// A page number, or the last one of a run, is beyond the end.
    #[error("page {page} is beyond the {numbers} page numbers of this guest")]
    BeyondEnd {
        /// The first page number that does not fit.
        page: PageNumber,
        /// How many page numbers there are.
        numbers: u64,
    },
    /// Two sets that should be joined number different guests.
    #[error("sets over {left} and over {right} page numbers do not belong together")]
    OtherGuest {
        /// Page numbers of the set that was to change.
        left: u64,
        /// Page numbers of the other one.
        right: u64,
    },
}

/// A set of pages with one owner, over the page numbers of one guest.
///
/// A bit a page, and a summary bit for each 512 pages that is set exactly if one of them is. Memory is
/// an eighth of a byte a page number (32 MiB for 1 TiB in pages of 4 KiB), taken from the system as
/// zeroes and so not resident before it is used. The count is kept, not counted.
#[derive(Clone, PartialEq, Eq)]
pub struct PageSet {
    /// Whole lines; bits from `numbers` on are zero. Owned as words and viewed as bits
    /// ([`PageSet::as_bits`]): the hot paths need the words on each call.
    words: Vec<u64>,
    /// Bit `i` is set exactly if line `i` has a set bit.
    summary: Vec<u64>,
    numbers: u64,
    count: u64,
}

/// What a scan over a set works on: disjoint borrows of its parts, which it must keep in step.
pub(super) struct Parts<'a> {
    pub(super) lines: &'a mut [Line],
    pub(super) summary: &'a mut [u64],
    pub(super) count: &'a mut u64,
}

/// Checks a run against the page numbers of a guest.
pub(super) fn check_run(run: PageRun, numbers: u64) -> Result<(), RangeError> {
    match run.first.0.checked_add(run.count.0) {
        Some(end) if end <= numbers => Ok(()),
        _ => Err(RangeError::BeyondEnd { page: PageNumber(run.first.0.max(numbers)), numbers }),
    }
}

impl PageSet {
    /// An empty set over `numbers` page numbers ([`RamLayout::numbers`]).
    pub fn new(numbers: u64) -> Self {
        let lines = numbers.div_ceil(LINE_PAGES) as usize;
        Self {
            // Zeroes come from the system untouched.
            words: vec![0; lines * LINE_WORDS],
            summary: vec![0; lines.div_ceil(64)],
            numbers,
            count: 0,
        }
    }

    /// All pages of `layout`; padding between regions is not in the set.
    pub fn full_from(layout: &RamLayout) -> Self {
        let mut set = Self::new(layout.numbers());
        for run in layout.runs() {
            set.fill_run(run);
        }
        set
    }

    /// How many page numbers the set is over, padding included.
    #[inline]
    pub fn numbers(&self) -> u64 {
        self.numbers
    }

    /// How many pages are in the set. Costs nothing.
    #[inline]
    pub fn count(&self) -> Pages {
        Pages(self.count)
    }

    /// Whether no page is in the set. Costs nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The raw words: page `p` is bit `p % 64` of word `p / 64`. Bits beyond the end are zero.
    #[inline]
    pub fn words(&self) -> &[u64] {
        &self.words[..self.numbers.div_ceil(WORD_PAGES) as usize]
    }

    /// The set as bitvec sees it, for what is not on a hot path.
    pub fn as_bits(&self) -> &BitSlice<u64, Lsb0> {
        &BitSlice::from_slice(&self.words)[..self.numbers as usize]
    }

    #[inline]
    fn lines(&self) -> &[Line] {
        self.words.as_chunks().0
    }

    #[inline]
    pub(super) fn parts(&mut self) -> Parts<'_> {
        Parts { lines: self.words.as_chunks_mut().0, summary: &mut self.summary, count: &mut self.count }
    }

    /// The bits of word `index` that are page numbers.
    #[inline]
    pub(super) fn valid_bits(&self, index: usize) -> u64 {
        let left = self.numbers.saturating_sub(index as u64 * WORD_PAGES);
        if left >= WORD_PAGES { u64::MAX } else { !(u64::MAX << left) }
    }

    /// Whether `page` is in the set; a page beyond the end is not.
    #[inline]
    pub fn contains(&self, page: PageNumber) -> bool {
        let word = self.words.get((page.0 / WORD_PAGES) as usize);
        word.is_some_and(|word| word >> (page.0 % WORD_PAGES) & 1 != 0)
    }

    /// Adds a page; says whether it is new.
    ///
    /// # Errors
    ///
    /// [`RangeError::BeyondEnd`]; the set is unchanged.
    #[inline]
    pub fn insert(&mut self, page: PageNumber) -> Result<bool, RangeError> {
        if page.0 >= self.numbers {
            return Err(RangeError::BeyondEnd { page, numbers: self.numbers });
        }
        Ok(self.or_word((page.0 / WORD_PAGES) as usize, 1 << (page.0 % WORD_PAGES)) != 0)
    }

    /// Adds a run of pages; says how many are new.
    ///
    /// # Errors
    ///
    /// [`RangeError::BeyondEnd`] if not all of it fits; the set is unchanged.
    pub fn insert_run(&mut self, run: PageRun) -> Result<Pages, RangeError> {
        check_run(run, self.numbers)?;
        Ok(self.fill_run(run))
    }

    /// Adds a run that is in range.
    fn fill_run(&mut self, run: PageRun) -> Pages {
        let before = self.count;
        let (first, end) = (run.first.0, run.end().0);
        // Whole lines at once; what is before and behind them, word by word.
        let lines = first.div_ceil(LINE_PAGES)..(end / LINE_PAGES).max(first.div_ceil(LINE_PAGES));
        let (from, to) = (lines.start * LINE_PAGES, lines.end * LINE_PAGES);
        for part in [first..from.min(end), to.min(end)..end] {
            let count = Pages(part.end - part.start);
            each_word_of(PageRun { first: PageNumber(part.start), count }, |word, mask| {
                self.or_word(word, mask);
            });
        }
        let parts = self.parts();
        for line in lines {
            let line = line as usize;
            let (word, bit) = (line / 64, 1 << (line % 64));
            let clean = parts.summary[word] & bit == 0;
            *parts.count += LINE_PAGES - if clean { 0 } else { line_count(&parts.lines[line]) };
            parts.summary[word] |= bit;
            parts.lines[line] = [u64::MAX; LINE_WORDS];
        }
        Pages(self.count - before)
    }

    /// Takes a page out; says whether it was in the set. A page beyond the end never is.
    #[inline]
    pub fn remove(&mut self, page: PageNumber) -> bool {
        self.contains(page)
            && self.clear_mask((page.0 / WORD_PAGES) as usize, 1 << (page.0 % WORD_PAGES)) != 0
    }

    /// Takes a run out; says how many of its pages were in the set. What is beyond the end never is.
    pub fn remove_run(&mut self, run: PageRun) -> Pages {
        let before = self.count;
        let first = run.first.0.min(self.numbers);
        let count = Pages(run.end().0.min(self.numbers) - first);
        each_word_of(PageRun { first: PageNumber(first), count }, |word, mask| {
            self.clear_mask(word, mask);
        });
        Pages(before - self.count)
    }

    /// Adds the pages of `mask` in word `index` and returns those that are new.
    ///
    /// For callers that made the mask from this guest's page numbers: what is beyond the end is a bug
    /// of theirs, caught in debug builds and ignored in others.
    #[inline]
    pub fn or_word(&mut self, index: usize, mask: u64) -> u64 {
        debug_assert_eq!(mask & !self.valid_bits(index), 0, "pages beyond the end in word {index}");
        let whole = index < (self.numbers / WORD_PAGES) as usize;
        let mask = if whole { mask } else { mask & self.valid_bits(index) };
        let Some(word) = self.words.get_mut(index) else {
            return 0;
        };
        let new = mask & !*word;
        if new != 0 {
            *word |= new;
            self.count += u64::from(new.count_ones());
            let (line, bit) = (index / LINE_WORDS, 1 << (index / LINE_WORDS % 64));
            // A branch that is nearly always taken costs less than a chain of stores to one word.
            if self.summary[line / 64] & bit == 0 {
                self.summary[line / 64] |= bit;
            }
        }
        new
    }

    /// Adds the pages of eight words, those of line `index`, and returns how many are new.
    ///
    /// Faster than [`PageSet::or_word`] for each. Pages beyond the end are a bug of the caller and are
    /// ignored; a line beyond the end is caught in debug builds.
    #[inline]
    pub fn or_line(&mut self, index: usize, pages: &Line) -> Pages {
        let first = index * LINE_WORDS;
        let whole = first + LINE_WORDS <= (self.numbers / WORD_PAGES) as usize;
        let inside = |offset: usize| pages[offset] & self.valid_bits(first + offset);
        let pages = if whole { *pages } else { std::array::from_fn(inside) };
        let parts = self.parts();
        let Some(line) = parts.lines.get_mut(index) else {
            debug_assert!(false, "line {index} is beyond the end");
            return Pages(0);
        };
        let new = or_line(line, &pages);
        *parts.count += new;
        if new != 0 {
            parts.summary[index / 64] |= 1 << (index % 64);
        }
        Pages(new)
    }

    /// Takes the pages of `mask` out of word `index` and returns those that were in the set.
    ///
    /// A word beyond the end has none; asking is a bug, caught in debug builds.
    #[inline]
    pub fn clear_mask(&mut self, index: usize, mask: u64) -> u64 {
        debug_assert!((index as u64) * WORD_PAGES < self.numbers, "word {index} is beyond the end");
        let Some(word) = self.words.get_mut(index) else {
            return 0;
        };
        let gone = mask & *word;
        *word ^= gone;
        self.count -= u64::from(gone.count_ones());
        if gone != 0 && *word == 0 {
            let line = index / LINE_WORDS;
            if self.lines()[line] == [0; LINE_WORDS] {
                self.summary[line / 64] &= !(1 << (line % 64));
            }
        }
        gone
    }

    /// Takes all pages out of word `index` and returns them; as [`PageSet::clear_mask`].
    #[inline]
    pub fn take_word(&mut self, index: usize) -> u64 {
        self.clear_mask(index, u64::MAX)
    }

    /// Empties the set. Costs what is in it.
    pub fn clear(&mut self) {
        if self.count == 0 {
            return;
        }
        let Parts { lines, summary, count } = self.parts();
        for (index, summary) in summary.iter_mut().enumerate() {
            match std::mem::take(summary) {
                // One call to clear 4 KiB instead of 64.
                u64::MAX => lines[index * 64..(index + 1) * 64].fill([0; LINE_WORDS]),
                marked => each_line(index, marked, |line| lines[line] = [0; LINE_WORDS]),
            }
        }
        *count = 0;
    }

    fn same_guest(&self, other: &Self) -> Result<(), RangeError> {
        if self.numbers == other.numbers {
            Ok(())
        } else {
            Err(RangeError::OtherGuest { left: self.numbers, right: other.numbers })
        }
    }

    /// Adds all pages of `other`; says how many are new. Costs what is in `other`.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if the sets differ in length; nothing is changed.
    pub fn union_with(&mut self, other: &Self) -> Result<Pages, RangeError> {
        self.same_guest(other)?;
        let before = self.count;
        let theirs = other.lines();
        let Parts { lines, summary, count } = self.parts();
        for (index, (mine, &marked)) in summary.iter_mut().zip(&other.summary).enumerate() {
            let had = std::mem::replace(mine, *mine | marked);
            each_line(index, marked, |line| {
                if had >> (line % 64) & 1 == 0 {
                    lines[line] = theirs[line];
                    *count += line_count(&theirs[line]);
                } else {
                    *count += or_line(&mut lines[line], &theirs[line]);
                }
            });
        }
        Ok(Pages(self.count - before))
    }

    /// Takes all pages of `other` out; says how many were in the set. Costs what both have in common.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if the sets differ in length; nothing is changed.
    pub fn subtract(&mut self, other: &Self) -> Result<Pages, RangeError> {
        self.same_guest(other)?;
        let before = self.count;
        let theirs = other.lines();
        let Parts { lines, summary, count } = self.parts();
        for (index, (mine, &marked)) in summary.iter_mut().zip(&other.summary).enumerate() {
            each_line(index, *mine & marked, |line| {
                *count -= line_count(&lines[line]);
                for (word, &gone) in lines[line].iter_mut().zip(&theirs[line]) {
                    *word &= !gone;
                }
                *count += line_count(&lines[line]);
                if lines[line] == [0; LINE_WORDS] {
                    *mine &= !(1 << (line % 64));
                }
            });
        }
        Ok(Pages(before - self.count))
    }

    /// Moves all pages to `other` and leaves this set empty; says how many are new there.
    ///
    /// If `other` is empty the two change places, which costs nothing.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if the sets differ in length; nothing is changed.
    pub fn drain_into(&mut self, other: &mut Self) -> Result<Pages, RangeError> {
        self.same_guest(other)?;
        if other.is_empty() {
            std::mem::swap(self, other);
            return Ok(other.count());
        }
        let new = other.union_with(self)?;
        self.clear();
        Ok(new)
    }

    /// The first page of the set at or after `from`.
    pub fn next_page(&self, from: PageNumber) -> Option<PageNumber> {
        if from.0 >= self.numbers {
            return None;
        }
        let words = &self.words[..];
        let (word, line) = ((from.0 / WORD_PAGES) as usize, (from.0 / LINE_PAGES) as usize);
        let found = |word: usize, bits: u64| {
            (bits != 0).then(|| PageNumber(word as u64 * WORD_PAGES + u64::from(bits.trailing_zeros())))
        };
        if let Some(page) = found(word, words[word] & (u64::MAX << (from.0 % WORD_PAGES))) {
            return Some(page);
        }
        let in_line = |words: std::ops::Range<usize>, all: &[u64]| {
            words.into_iter().find_map(|word| found(word, all[word]))
        };
        if let Some(page) = in_line(word + 1..(line + 1) * LINE_WORDS, words) {
            return Some(page);
        }
        let from_line = line + 1;
        let mut index = from_line / 64;
        let mut marked = self.summary.get(index)? & (u64::MAX << (from_line % 64));
        while marked == 0 {
            index += 1;
            marked = *self.summary.get(index)?;
        }
        let line = index * 64 + marked.trailing_zeros() as usize;
        in_line(line * LINE_WORDS..(line + 1) * LINE_WORDS, words)
    }

    /// The first run of neighbouring pages at or after `from`, of at most `most` pages.
    ///
    /// Neighbours by number: where one region ends at a full word, the next one's pages follow at once.
    pub fn next_run(&self, from: PageNumber, most: Pages) -> Option<PageRun> {
        if most.0 == 0 {
            return None;
        }
        let first = self.next_page(from)?;
        let words = &self.words[..];
        let limit = first.0.saturating_add(most.0).min(self.numbers);
        let mut end = first.0;
        while end < limit {
            let clear = !words[(end / WORD_PAGES) as usize] >> (end % WORD_PAGES);
            let span = u64::from(clear.trailing_zeros()).min(WORD_PAGES - end % WORD_PAGES);
            end += span;
            if !end.is_multiple_of(WORD_PAGES) || span == 0 {
                break;
            }
        }
        Some(PageRun { first, count: Pages(end.min(limit) - first.0) })
    }

    /// The pages of the set in order.
    pub fn pages(&self) -> impl Iterator<Item = PageNumber> + '_ {
        let mut next = 0;
        let mut left = (0, 0_u64);
        std::iter::from_fn(move || {
            if left.1 == 0 {
                let page = self.next_page(PageNumber(next))?;
                let word = page.0 / WORD_PAGES;
                left = (word * WORD_PAGES, self.words[word as usize]);
                next = left.0 + WORD_PAGES;
            }
            let page = left.0 + u64::from(left.1.trailing_zeros());
            left.1 &= left.1 - 1;
            Some(PageNumber(page))
        })
    }

    /// The pages of the set as maximal runs, in order; see [`PageSet::next_run`] on regions.
    pub fn runs(&self) -> impl Iterator<Item = PageRun> + '_ {
        let mut next = PageNumber(0);
        std::iter::from_fn(move || {
            let run = self.next_run(next, Pages(u64::MAX))?;
            next = run.end();
            Some(run)
        })
    }

    /// Moves the first `most` pages at or after `from` to `into`; says how many there were.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if the sets differ in length; nothing is changed.
    pub fn take_next(&mut self, from: PageNumber, most: Pages, into: &mut Self) -> Result<Pages, RangeError> {
        self.same_guest(into)?;
        let (mut left, mut at) = (most.0, from);
        while let Some(run) = self.next_run(at, Pages(left)) {
            self.remove_run(run);
            into.fill_run(run);
            left -= run.count.0;
            at = run.end();
        }
        Ok(Pages(most.0 - left))
    }
}

impl fmt::Debug for PageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageSet({} of {}: ", self.count, self.numbers)?;
        f.debug_list().entries(self.runs().take(16).map(PageRun::range)).finish()?;
        f.write_str(")")
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
