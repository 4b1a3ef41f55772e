//! The pages that a trace touches, numbered without gaps: what is counted a page costs no more than these.

use std::ops::Range;

use whimbrel_core::layout::{PageNumber, PageRun};

use super::{Interval, Trace};

/// The touched pages of a trace, numbered from 0 on in the order of addresses.
#[derive(Clone, Debug)]
pub struct PageIndex {
    runs: Vec<PageRun>,
    /// The number of the first page of each run.
    offsets: Vec<usize>,
    len: usize,
}

impl PageIndex {
    /// Of a trace.
    pub fn of(trace: &Trace) -> Self {
        let runs: Vec<PageRun> = trace.touched().collect();
        let mut len = 0;
        let offsets = runs.iter().map(|run| {
            let offset = len;
            len += run.count.0 as usize;
            offset
        });
        Self { offsets: offsets.collect(), runs, len }
    }

    /// How many pages there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of a page; none if it was never dirtied.
    pub fn number(&self, page: PageNumber) -> Option<usize> {
        let home = self.runs.partition_point(|run| run.first <= page).checked_sub(1)?;
        let run = self.runs[home];
        run.contains(page).then(|| self.offsets[home] + (page.0 - run.first.0) as usize)
    }

    /// The numbers of an interval's pages, a range a run. Meant for an interval of this trace.
    pub fn of_interval<'a>(
        &'a self,
        interval: &Interval<'a>,
    ) -> impl Iterator<Item = Range<usize>> + use<'a> {
        // Every run lies within one that is touched.
        interval.runs().map(|run| {
            let from = self.number(run.first).unwrap_or(self.len);
            from..(from + run.count.0 as usize).min(self.len)
        })
    }

    /// In how many of these intervals each page was dirtied.
    pub fn hits<'a>(&self, intervals: impl IntoIterator<Item = Interval<'a>>) -> Vec<u32> {
        let mut hits = vec![0; self.len];
        for interval in intervals {
            for run in self.of_interval(&interval) {
                hits[run].iter_mut().for_each(|hits| *hits += 1);
            }
        }
        hits
    }
}
