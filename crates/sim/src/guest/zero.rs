//! Where the zero pages are: memory that was never written and never will be.
//!
//! Made once with the guest. The scan asks for each word as it passes; nothing here changes afterwards.
//! Costs a bit for each word of 64 pages (512 KiB for 1 TiB of 4 KiB pages), and 16 bytes for each word
//! that is zero in part.

use std::ops::Range;

use whimbrel_core::layout::PageRun;
use whimbrel_core::units::Pages;

use super::mask::each_word;
use crate::config::ConfigError;

/// The zero pages of a guest, to look up.
#[derive(Clone, Debug)]
pub(super) struct ZeroMap {
    /// A bit for each word all of whose pages are zero.
    whole: Vec<u64>,
    /// Words that are zero in part, in order.
    partial: Vec<(usize, u64)>,
    count: u64,
}

/// The parts of `0..pages` that lie in none of `sets`, in order.
pub(super) fn free_runs(pages: u64, sets: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sets: Vec<_> = sets.iter().filter(|set| !set.is_empty()).cloned().collect();
    sets.sort_unstable_by_key(|set| set.start);
    let (mut free, mut at) = (Vec::new(), 0);
    for set in sets {
        if set.start > at {
            free.push(at..set.start);
        }
        at = at.max(set.end);
    }
    if at < pages {
        free.push(at..pages);
    }
    free
}

/// The whole words in a run of pages.
fn whole_words(run: &Range<u64>) -> Range<u64> {
    let first = run.start.div_ceil(64);
    first..(run.end / 64).max(first)
}

/// The run at `index` of `runs`, with `used` pages of it in use; it grows into what is neither zero nor written to.
fn resized(pages: u64, sets: &[Range<u64>], runs: &[Range<u64>], index: usize, used: i64) -> Range<u64> {
    let Range { start, end } = runs[index];
    if used > 0 {
        return start.saturating_add_signed(used).min(end)..end;
    }
    let others = || runs.iter().chain(sets).filter(|other| !other.is_empty());
    let least = others().map(|other| other.end).filter(|&other| other <= start).max().unwrap_or(0);
    let most = others().map(|other| other.start).filter(|&other| other >= end).min().unwrap_or(pages);
    let fewer = used.unsigned_abs();
    let before = fewer.min(start - least);
    let behind = (fewer - before).min(most - end);
    start - before..end + behind
}

impl ZeroMap {
    fn none(pages: u64) -> Self {
        let words = pages.div_ceil(64);
        Self { whole: vec![0; words.div_ceil(64) as usize], partial: Vec::new(), count: 0 }
    }

    /// No zero pages at all, whatever the size of memory.
    pub(super) fn empty() -> Self {
        Self { whole: Vec::new(), partial: Vec::new(), count: 0 }
    }

    /// Adds runs that are in order and do not touch each other's pages.
    fn from_sorted(pages: u64, runs: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut zero = Self::none(pages);
        for run in runs {
            zero.count += run.end - run.start;
            each_word(run.start, run.end, &mut |word, mask| zero.add(word, mask));
        }
        zero
    }

    /// Adds pages of a word at or behind the last one that was added.
    fn add(&mut self, word: usize, mask: u64) {
        let mut mask = mask;
        if let Some(&(last, held)) = self.partial.last()
            && last == word
        {
            mask |= held;
            self.partial.pop();
        }
        if mask == u64::MAX {
            self.whole[word / 64] |= 1 << (word % 64);
        } else {
            self.partial.push((word, mask));
        }
    }

    /// The last `count` pages outside `sets`.
    pub(super) fn at_end(pages: u64, sets: &[Range<u64>], count: u64) -> Self {
        Self::from_sorted(pages, Self::last(&free_runs(pages, sets), count))
    }

    /// The last `count` pages of the runs in `free`, in order.
    pub(super) fn last(free: &[Range<u64>], count: u64) -> Vec<Range<u64>> {
        let mut left = count;
        let mut runs = Vec::new();
        for run in free.iter().rev() {
            let taken = left.min(run.end - run.start);
            if taken == 0 {
                break;
            }
            runs.push(run.end - taken..run.end);
            left -= taken;
        }
        runs.reverse();
        runs
    }

    /// `count` pages outside `sets`: in whole words, evenly spread over the words that are free (as
    /// Bresenham spreads the steps of a line), one of them in part if `count` is no multiple of 64.
    ///
    /// Only if that is not enough, the free parts of words at the edges of working sets are used too.
    pub(super) fn spread(pages: u64, sets: &[Range<u64>], count: u64) -> Self {
        let free = free_runs(pages, sets);
        let words: u64 = free.iter().map(|run| whole_words(run).count() as u64).sum();
        if count.div_ceil(64) > words {
            return Self::crowded(pages, &free, count);
        }
        let mut zero = Self::none(pages);
        zero.count = count;
        // As for a line: each free word adds `groups`, and one is taken for every `words` of the sum.
        let (groups, mut sum, mut left) = (count.div_ceil(64), 0, count);
        for word in free.iter().flat_map(whole_words) {
            if left == 0 {
                break;
            }
            sum += groups;
            if sum >= words {
                sum -= words;
                let lanes = left.min(64);
                left -= lanes;
                zero.add(word as usize, u64::MAX >> (64 - lanes));
            }
        }
        zero
    }

    /// More zero pages than whole free words: all of these, and edges from the beginning on.
    fn crowded(pages: u64, free: &[Range<u64>], count: u64) -> Self {
        let words: u64 = free.iter().map(|run| whole_words(run).count() as u64).sum();
        let mut edges = count.saturating_sub(64 * words);
        let mut zero = Self::none(pages);
        for run in free {
            each_word(run.start, run.end, &mut |word, mask| {
                let mut mask = mask;
                if mask != u64::MAX {
                    while u64::from(mask.count_ones()) > edges {
                        mask ^= 1 << mask.ilog2();
                    }
                    edges -= u64::from(mask.count_ones());
                }
                if mask != 0 {
                    zero.count += u64::from(mask.count_ones());
                    zero.add(word, mask);
                }
            });
        }
        zero
    }

    /// Exactly these runs, in any order, but for `used` pages more that are in use, or fewer: the longest run is
    /// shorter or longer, at its beginning, where memory is given out next, or if there is no room at its end.
    ///
    /// # Errors
    ///
    /// If a run lies outside memory or touches a working set.
    pub(super) fn exactly(
        pages: u64,
        sets: &[Range<u64>],
        runs: &[PageRun],
        used: i64,
    ) -> Result<Self, ConfigError> {
        let mut runs = Self::runs(pages, sets, runs)?;
        if used != 0
            && let Some(longest) = (0..runs.len()).max_by_key(|&index| runs[index].end - runs[index].start)
        {
            runs[longest] = resized(pages, sets, &runs, longest, used);
        }
        Ok(Self::from_sorted(pages, runs))
    }

    /// These runs in order and without neighbours.
    ///
    /// # Errors
    ///
    /// As of [`ZeroMap::exactly`].
    pub(super) fn runs(
        pages: u64,
        sets: &[Range<u64>],
        runs: &[PageRun],
    ) -> Result<Vec<Range<u64>>, ConfigError> {
        let refuse = |run: &Range<u64>, accepted: &str| {
            let value = format!("the zero pages {} to {}", run.start, run.end.saturating_sub(1));
            Err(ConfigError::new("guest.zero-pages", value, accepted))
        };
        let mut sorted: Vec<Range<u64>> =
            runs.iter().filter(|run| run.count > Pages::ZERO).map(|run| run.range()).collect();
        sorted.sort_unstable_by_key(|run| run.start);
        let free = free_runs(pages, sets);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for run in sorted {
            if run.end > pages {
                return refuse(&run, &format!("a run within the guest's {pages} pages"));
            }
            let home = free.partition_point(|free| free.start <= run.start);
            if home == 0 || free[home - 1].end < run.end {
                return refuse(&run, "a run outside all working sets");
            }
            match merged.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => merged.push(run),
            }
        }
        Ok(merged)
    }

    /// The zero pages of word `index`; none beyond the end.
    #[inline]
    pub(super) fn mask(&self, index: usize) -> u64 {
        let Some(whole) = self.whole.get(index / 64) else { return 0 };
        if whole >> (index % 64) & 1 != 0 {
            return u64::MAX;
        }
        if self.partial.is_empty() {
            return 0;
        }
        self.partial.binary_search_by_key(&index, |&(word, _)| word).map_or(0, |found| self.partial[found].1)
    }

    /// Whether any of the eight words from `first` on, a multiple of eight, has zero pages.
    #[inline]
    pub(super) fn in_line(&self, first: usize) -> bool {
        debug_assert!(first.is_multiple_of(8));
        let whole = self.whole.get(first / 64).is_some_and(|whole| (whole >> (first % 64)) & 0xff != 0);
        whole || !self.partial.is_empty() && (first..first + 8).any(|word| self.mask(word) != 0)
    }

    /// How many there are.
    pub(super) fn count(&self) -> Pages {
        Pages(self.count)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // Lists of ranges, one long.
mod tests {
    use super::*;
    use whimbrel_core::layout::PageNumber;

    fn counted(zero: &ZeroMap, pages: u64) -> u64 {
        (0..pages.div_ceil(64) as usize).map(|word| u64::from(zero.mask(word).count_ones())).sum()
    }

    fn listed(zero: &ZeroMap, pages: u64) -> Vec<u64> {
        (0..pages).filter(|&page| zero.mask((page / 64) as usize) >> (page % 64) & 1 != 0).collect()
    }

    #[test]
    fn there_are_as_many_zero_pages_as_asked_and_none_in_a_working_set() {
        for pages in [1, 63, 64, 65, 1000, 4096, 10_000] {
            for sets in [vec![], vec![0..pages / 3], vec![pages / 7..pages / 2, pages / 3..pages - pages / 9]]
            {
                let free: u64 = free_runs(pages, &sets).iter().map(|run| run.end - run.start).sum();
                for count in [0, free / 5, free / 2, free] {
                    for zero in [ZeroMap::spread(pages, &sets, count), ZeroMap::at_end(pages, &sets, count)] {
                        let list = listed(&zero, pages);
                        assert_eq!(list.len() as u64, count, "{pages} pages, sets {sets:?}");
                        assert_eq!((zero.count().0, counted(&zero, pages)), (count, count));
                        assert!(list.iter().all(|page| !sets.iter().any(|set| set.contains(page))));
                    }
                }
            }
        }
    }

    #[test]
    fn spread_groups_are_evenly_far_apart() {
        let zero = ZeroMap::spread(64 * 1000, &[], 64 * 300);
        let words: Vec<usize> = (0..1000).filter(|&word| zero.mask(word) == u64::MAX).collect();
        assert_eq!(words.len(), 300);
        assert!(words.windows(2).all(|pair| (3..=4).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn zero_pages_at_the_end_are_the_last_ones() {
        let zero = ZeroMap::at_end(1000, &[900..1000], 150);
        assert_eq!(listed(&zero, 1000), (750..900).collect::<Vec<_>>());
    }

    #[test]
    fn the_longest_run_grows_to_its_neighbours_and_shrinks_to_nothing() {
        let run = |first, count| PageRun { first: PageNumber(first), count: Pages(count) };
        let runs = [run(10, 20), run(420, 100), run(560, 30)];
        let count = |used| ZeroMap::exactly(1000, &[300..400], &runs, used).unwrap().count().0;
        assert_eq!([count(0), count(7), count(100), count(500)], [150, 143, 50, 50]);
        // Twenty pages before it, behind the working set, and forty behind it.
        assert_eq!([count(-7), count(-20), count(-21), count(-60), count(-500)], [157, 170, 171, 210, 210]);
        let grown = ZeroMap::exactly(1000, &[300..400], &runs, -30).unwrap();
        let expected: Vec<u64> = (10..30).chain(400..530).chain(560..590).collect();
        assert_eq!(listed(&grown, 1000), expected);
        assert_eq!(ZeroMap::exactly(1000, &[], &[], -5).unwrap().count(), Pages(0));
    }

    #[test]
    fn explicit_runs_are_kept_to_the_page() {
        let run = |first, count| PageRun { first: PageNumber(first), count: Pages(count) };
        let runs = [run(200, 3), run(10, 60), run(65, 10), run(75, 5), run(0, 0)];
        let zero = ZeroMap::exactly(1000, &[300..400], &runs, 0).unwrap();
        assert_eq!(listed(&zero, 1000), (10..80).chain(200..203).collect::<Vec<_>>());
        for bad in [run(990, 11), run(299, 2), run(350, 1), run(399, 2), run(u64::MAX, 9)] {
            assert!(ZeroMap::exactly(1000, &[300..400], &[bad], 0).is_err(), "{bad:?}");
        }
    }
}
