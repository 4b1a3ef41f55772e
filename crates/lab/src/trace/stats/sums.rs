//! Counting over the pages that a trace touches, numbered without gaps.

use std::ops::Range;

use whimbrel_core::layout::PageRun;
use whimbrel_sim::trace::{Interval, Trace};

use super::{MAX_TOUCHED, TooLarge};

/// The touched pages of a trace, numbered from 0 on in the order of addresses.
pub(super) struct Dense {
    runs: Vec<PageRun>,
    /// The number of the first page of each run.
    offsets: Vec<usize>,
    pages: usize,
}

impl Dense {
    pub(super) fn of(trace: &Trace) -> Result<Self, TooLarge> {
        let touched = trace.touched_pages().0;
        if touched > MAX_TOUCHED {
            return Err(TooLarge { touched });
        }
        let runs: Vec<PageRun> = trace.touched().collect();
        let mut pages = 0;
        let offsets = runs.iter().map(|run| {
            let offset = pages;
            pages += run.count.0 as usize;
            offset
        });
        Ok(Self { offsets: offsets.collect(), runs, pages })
    }

    /// How many pages there are.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// The numbers of an interval's pages.
    pub(super) fn of_interval<'a>(
        &'a self,
        interval: &Interval<'a>,
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        interval.runs().map(|run| {
            // Every run lies within one that is touched.
            let home = self.runs.partition_point(|touched| touched.first <= run.first).saturating_sub(1);
            let from = self.offsets[home] + (run.first.0 - self.runs[home].first.0) as usize;
            from..from + run.count.0 as usize
        })
    }

    /// In how many of these intervals each page was dirtied.
    pub(super) fn hits(&self, intervals: &[Interval<'_>]) -> Vec<u32> {
        let mut hits = vec![0; self.pages];
        for interval in intervals {
            for run in self.of_interval(interval) {
                hits[run].iter_mut().for_each(|hits| *hits += 1);
            }
        }
        hits
    }
}
