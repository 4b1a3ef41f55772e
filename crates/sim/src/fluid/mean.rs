//! The mean of the ways that a run takes by where its ticks fall.

use std::time::Duration;

use whimbrel_core::report::Ledger;
use whimbrel_core::units::{ByteCount, Pages, VcpuSeconds};

use super::totals::Totals;
use crate::guest::Lost;

/// Which of `ends`, given with their shares, most cases take, and the mean over all that end like it; none of
/// none.
pub(super) fn of(ends: &[(f64, Totals)]) -> Option<(usize, Totals)> {
    let most = (0..ends.len()).reduce(|one, other| if ends[other].0 > ends[one].0 { other } else { one })?;
    let mut mean = ends[most].1;
    if ends.len() > 1 {
        let alike = |end: &&(f64, Totals)| end.1.outcome == mean.outcome;
        let alike: Vec<(f64, Totals)> = ends.iter().filter(alike).copied().collect();
        mean = Mean::of(&alike).totals(&mean);
    }
    Some((most, mean))
}

/// Ends that are alike, with the sum of their shares.
struct Mean<'a> {
    ends: &'a [(f64, Totals)],
    all: f64,
}

impl<'a> Mean<'a> {
    fn of(ends: &'a [(f64, Totals)]) -> Self {
        Self { ends, all: ends.iter().map(|(share, _)| share).sum() }
    }

    fn number(&self, of: impl Fn(&Totals) -> f64) -> f64 {
        self.ends.iter().map(|(share, end)| share * of(end)).sum::<f64>() / self.all
    }

    fn whole(&self, of: impl Fn(&Totals) -> u64) -> u64 {
        (self.number(|end| of(end) as f64) + 0.5) as u64
    }

    fn time(&self, of: impl Fn(&Totals) -> Duration) -> Duration {
        Duration::from_nanos(self.whole(|end| of(end).as_nanos() as u64))
    }

    fn part(&self, of: impl Fn(&Ledger) -> Duration) -> Duration {
        self.time(|end| of(&end.downtime))
    }

    fn lost(&self, of: impl Fn(&Lost) -> VcpuSeconds) -> VcpuSeconds {
        VcpuSeconds::new(self.number(|end| of(&end.disruption).as_f64())).unwrap_or(VcpuSeconds::ZERO)
    }

    /// What has no mean is that of `like`.
    fn totals(&self, like: &Totals) -> Totals {
        let near = self.ends.iter().filter_map(|(_, end)| end.near_threshold);
        Totals {
            total: self.time(|end| end.total),
            downtime: self.ledger(),
            paused_in_vain: self.time(|end| end.paused_in_vain),
            sent: ByteCount(self.whole(|end| end.sent.0)),
            sent_pages: Pages(self.whole(|end| end.sent_pages.0)),
            disruption: Lost {
                throttle: self.lost(|lost| lost.throttle),
                pause: self.lost(|lost| lost.pause),
                post_copy: self.lost(|lost| lost.post_copy),
                tracking_faults: self.lost(|lost| lost.tracking_faults),
            },
            unchanged_pages: Pages(self.whole(|end| end.unchanged_pages.0)),
            source_cpu_s: self.number(|end| end.source_cpu_s),
            silence: like.silence.map(|_| self.time(|end| end.silence.unwrap_or_default())),
            unreachable: like.unreachable.map(|_| self.time(|end| end.unreachable.unwrap_or_default())),
            post_copy: like.post_copy.map(|_| {
                let length = self.time(|end| end.post_copy.unwrap_or_default().0);
                (length, Pages(self.whole(|end| end.post_copy.unwrap_or_default().1.0)))
            }),
            near_threshold: near.min_by(|one, other| one.deviations.total_cmp(&other.deviations)),
            ..*like
        }
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            pause: self.part(|ledger| ledger.pause),
            held: self.part(|ledger| ledger.held),
            harvest: self.part(|ledger| ledger.harvest),
            last_pages: self.part(|ledger| ledger.last_pages),
            save: self.part(|ledger| ledger.save),
            transfer: self.part(|ledger| ledger.transfer),
            restore: self.part(|ledger| ledger.restore),
            commit: self.part(|ledger| ledger.commit),
            resume: self.part(|ledger| ledger.resume),
            first_pages: self.part(|ledger| ledger.first_pages),
        }
    }
}
