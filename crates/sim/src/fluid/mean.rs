//! The mean of the ways that a run takes by where its ticks fall.

use std::time::Duration;

use whimbrel_core::report::{Ledger, PostCopyReport};
use whimbrel_core::units::{ByteCount, Pages, VcpuSeconds};

use crate::guest::Lost;
use crate::migration::Run;

/// The run that most cases take, with the totals of the mean over all that end like it; `ends` with their
/// shares, at least one.
pub(super) fn of(mut ends: Vec<(f64, Run)>) -> Run {
    let most = (0..ends.len()).reduce(|one, other| if ends[other].0 > ends[one].0 { other } else { one });
    let (_, run) = &ends[most.unwrap_or(0)];
    let outcome = run.report.outcome;
    if ends.len() == 1 {
        return ends.remove(0).1;
    }
    let mut run = run.clone();
    ends.retain(|(_, end)| end.report.outcome == outcome);
    let all: f64 = ends.iter().map(|(share, _)| share).sum();
    let mean = |of: &dyn Fn(&Run) -> f64| ends.iter().map(|(share, run)| share * of(run)).sum::<f64>() / all;
    let time = |of: &dyn Fn(&Run) -> Duration| {
        Duration::from_nanos((mean(&|run| of(run).as_nanos() as f64) + 0.5) as u64)
    };
    let whole = |of: &dyn Fn(&Run) -> u64| (mean(&|run| of(run) as f64) + 0.5) as u64;
    let lost = |of: &dyn Fn(&Lost) -> VcpuSeconds| {
        VcpuSeconds::new(mean(&|run| of(&run.disruption).as_f64())).unwrap_or(VcpuSeconds::ZERO)
    };
    let part = |of: &dyn Fn(&Ledger) -> Duration| time(&|run| of(&run.report.downtime));
    run.report.total = time(&|run| run.report.total);
    run.report.downtime = Ledger {
        pause: part(&|ledger| ledger.pause),
        held: part(&|ledger| ledger.held),
        harvest: part(&|ledger| ledger.harvest),
        last_pages: part(&|ledger| ledger.last_pages),
        save: part(&|ledger| ledger.save),
        transfer: part(&|ledger| ledger.transfer),
        restore: part(&|ledger| ledger.restore),
        commit: part(&|ledger| ledger.commit),
        resume: part(&|ledger| ledger.resume),
        first_pages: part(&|ledger| ledger.first_pages),
    };
    run.report.paused_in_vain = time(&|run| run.report.paused_in_vain);
    run.report.sent = ByteCount(whole(&|run| run.report.sent.0));
    run.report.sent_pages = Pages(whole(&|run| run.report.sent_pages.0));
    run.disruption = Lost {
        throttle: lost(&|lost| lost.throttle),
        pause: lost(&|lost| lost.pause),
        post_copy: lost(&|lost| lost.post_copy),
        tracking_faults: lost(&|lost| lost.tracking_faults),
    };
    run.unchanged_pages = Pages(whole(&|run| run.unchanged_pages.0));
    run.encoding.source_cpu_s = mean(&|run| run.encoding.source_cpu_s);
    run.silence = run.silence.map(|_| time(&|run| run.silence.unwrap_or_default()));
    run.unreachable = run.unreachable.map(|_| time(&|run| run.unreachable.unwrap_or_default()));
    if let Some(PostCopyReport { length, missing, .. }) = &mut run.report.post_copy {
        let of = |run: &Run| run.report.post_copy.map(|post_copy| post_copy.length).unwrap_or_default();
        *length = time(&of);
        *missing = Pages(whole(&|run| run.report.post_copy.map_or(0, |post_copy| post_copy.missing.0)));
    }
    let near = ends.iter().filter_map(|(_, run)| run.near_threshold);
    run.near_threshold = near.min_by(|one, other| one.deviations.total_cmp(&other.deviations));
    run
}
