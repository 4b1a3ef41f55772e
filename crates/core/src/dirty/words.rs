//! What the dirty sets share: words, lines, and how to walk them.

use crate::layout::PageRun;

/// Pages in one word of a set.
pub const WORD_PAGES: u64 = u64::BITS as u64;

/// Words under one bit of the summary: a cache line.
pub const LINE_WORDS: usize = 8;

/// Pages under one bit of the summary.
pub(super) const LINE_PAGES: u64 = WORD_PAGES * LINE_WORDS as u64;

/// The words under one bit of the summary.
pub type Line = [u64; LINE_WORDS];

/// The bits of `mask` from the lowest on, as indices.
#[inline]
pub(super) fn each_bit(mut mask: u64, mut visit: impl FnMut(usize)) {
    while mask != 0 {
        visit(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

/// The lines named by the word at `index` of a summary.
#[inline]
pub(super) fn each_line(index: usize, summary: u64, mut visit: impl FnMut(usize)) {
    each_bit(summary, |bit| visit(index * 64 + bit));
}

/// The pages in a line. Written so that it is done several words at a time.
#[inline]
pub(super) fn line_count(line: &Line) -> u64 {
    line.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// The bits `from..to` of a word; `from < to <= 64`.
#[inline]
pub(super) const fn bits(from: u64, to: u64) -> u64 {
    (u64::MAX << from) & (u64::MAX >> (WORD_PAGES - to))
}

/// The words a run touches, with the bits it has in each.
#[inline]
pub(super) fn each_word_of(run: PageRun, mut visit: impl FnMut(usize, u64)) {
    let (mut at, end) = (run.first.0, run.end().0);
    while at < end {
        let word_end = ((at / WORD_PAGES + 1) * WORD_PAGES).min(end);
        let word = at / WORD_PAGES;
        visit(word as usize, bits(at % WORD_PAGES, word_end - word * WORD_PAGES));
        at = word_end;
    }
}

/// Adds `from` to `to` and returns how many pages are new.
#[inline]
pub(super) fn or_line(to: &mut Line, from: &Line) -> u64 {
    let mut new = [0; LINE_WORDS];
    for ((new, to), from) in new.iter_mut().zip(to).zip(from) {
        *new = from & !*to;
        *to |= from;
    }
    line_count(&new)
}
