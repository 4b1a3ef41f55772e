//! One scan over a stretch of pending pages, a line of words at a time.
//!
//! [`Backlog::take_lines_with`](super::Backlog::take_lines_with) alone begins one. It clears a page from *pending* in the same step that
//! sets it *in flight*, and never otherwise; which pages go is the visitor's to say. The hottest loop of the simulator.

use std::ops::Range;

use super::{Block, LineTake, Taken};
use crate::dirty::page_set::Parts;
use crate::dirty::words::{LINE_WORDS, Line, WORD_PAGES, bits, line_count, or_line};

/// One scan over pending pages.
pub(super) struct Scan<'a> {
    pub(super) pending: Parts<'a>,
    pub(super) sending: Parts<'a>,
    pub(super) result: &'a mut Taken,
}

impl Scan<'_> {
    /// Shows the pending pages in `range`. Returns where the visitor stopped it.
    #[inline]
    pub(super) fn run(
        &mut self,
        range: &Range<u64>,
        visit: &mut impl FnMut(usize, &Line) -> LineTake,
    ) -> Option<u64> {
        if range.is_empty() {
            return None;
        }
        let per_summary = WORD_PAGES * (LINE_WORDS as u64) * 64;
        for index in range.start / per_summary..=(range.end - 1) / per_summary {
            let mut marked = self.pending.summary[index as usize];
            while marked != 0 {
                let line = index as usize * 64 + marked.trailing_zeros() as usize;
                marked &= marked - 1;
                let first = (line * LINE_WORDS) as u64 * WORD_PAGES;
                let end = first + WORD_PAGES * LINE_WORDS as u64;
                if end <= range.start {
                    continue;
                }
                if first >= range.end {
                    return None;
                }
                let mut pending = self.pending.lines[line];
                if range.start > first || end > range.end {
                    for (offset, pages) in pending.iter_mut().enumerate() {
                        *pages &= part_of(range, line * LINE_WORDS + offset);
                    }
                }
                let stopped = self.line(line, &pending, visit);
                if stopped.is_some() {
                    return stopped;
                }
            }
        }
        None
    }

    /// Shows the pages of a line that are pending and within the range.
    #[inline(always)]
    fn line(
        &mut self,
        line: usize,
        pending: &Line,
        visit: &mut impl FnMut(usize, &Line) -> LineTake,
    ) -> Option<u64> {
        if is_empty(pending) {
            return None;
        }
        let first = line * LINE_WORDS;
        let LineTake { mut taken, stopped_at } = visit(first, pending);
        for (taken, pending) in taken.iter_mut().zip(pending) {
            *taken &= pending;
        }
        // Moved when all were shown: should `visit` panic, its pages are still pending.
        self.move_line(line, &taken);
        let stopped = stopped_at.map(|offset| {
            let offset = offset.min(LINE_WORDS - 1);
            behind(Block { word: first + offset, mask: pending[offset] }, taken[offset])
        });
        self.result.stopped = stopped.is_some();
        stopped
    }

    /// Moves pages of a line from pending to in flight.
    #[inline]
    fn move_line(&mut self, line: usize, taken: &Line) {
        let count = line_count(taken);
        if count == 0 {
            return;
        }
        let (word, bit) = (line / 64, 1 << (line % 64));
        let pending = &mut self.pending.lines[line];
        for (pending, taken) in pending.iter_mut().zip(taken) {
            *pending ^= taken;
        }
        if is_empty(pending) {
            self.pending.summary[word] &= !bit;
        }
        *self.pending.count -= count;
        let sending = &mut self.sending.lines[line];
        // A page may be taken twice in a round, if it was harvested again in between.
        *self.sending.count += if self.sending.summary[word] & bit == 0 {
            *sending = *taken;
            count
        } else {
            or_line(sending, taken)
        };
        self.sending.summary[word] |= bit;
        self.result.taken.0 += count;
    }
}

/// Whether a line has no pages. A comparison with zeroes would be a call.
#[inline]
fn is_empty(line: &Line) -> bool {
    line.iter().fold(0, |all, word| all | word) == 0
}

/// Where to go on after the last `pages` were taken from `block`.
fn behind(block: Block, pages: u64) -> u64 {
    let begin = if pages == 0 { block.mask.trailing_zeros() } else { u64::BITS - pages.leading_zeros() };
    block.first().0 + u64::from(begin)
}

/// The bits of word `word` that are in `range`.
fn part_of(range: &Range<u64>, word: usize) -> u64 {
    let first = word as u64 * WORD_PAGES;
    let from = range.start.saturating_sub(first);
    let to = range.end.saturating_sub(first).min(WORD_PAGES);
    if from >= to { 0 } else { bits(from, to) }
}
