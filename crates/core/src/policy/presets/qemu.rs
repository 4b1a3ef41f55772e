//! `qemu-default`: QEMU's own rule, without auto-converge or a dirty limit (Q1, Q2, Q3, Q6).
//!
//! ```text
//! every 100 ms:  threshold = bandwidth of that window x downtime limit   (0 before the first)
//! every <= 50 ms of sending:
//!     pending < threshold: harvest at once, pages still pending or not; count again
//!     pending == 0 or pending < threshold: stop the guest, lift the rate cap, send the rest
//! ```
//!
//! * The comparison is strict, and nothing is smoothed: one fast window is enough for a switchover.
//! * What the last harvest, with the guest paused, finds is compared with nothing: the true downtime
//!   can exceed the limit.
//! * It never gives up.
//! * QEMU harvests when everything is sent, too: with a threshold above zero, nothing pending is below
//!   it. The policy then answers [`Decision::Continue`], and the machine harvests by itself.
//!
//! What was not checked against a source: newer QEMU may harvest in the exact count even where the
//! estimate is above the threshold. Not modelled.

use std::time::Duration;

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source};
use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, RateLimit, Reason,
    Relation, SwitchoverWhen, Until, Verdict,
};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Bandwidth, ByteCount, Pages, duration};

/// Stops when what is pending fits the downtime limit at the bandwidth of the last 100 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuDefault {
    /// The downtime that the estimate must stay below.
    pub downtime_limit: Duration,
    /// The bandwidth that the threshold is made from; none: the measured one.
    pub switchover_bandwidth: Option<Bandwidth>,
    /// Cap of the sending rate until the switchover; none: no cap.
    pub max_bandwidth: Option<Bandwidth>,
}

/// The longest slice of sending between two looks at what is pending (`MAX_WAIT`).
const SLICE: Duration = Duration::from_millis(50);
/// The window of the bandwidth (`BUFFER_DELAY`).
const WINDOW: Duration = Duration::from_millis(100);
/// The longest downtime limit that QEMU accepts.
const LONGEST_LIMIT: Duration = Duration::from_millis(2_000_000);
/// The words for an optional bandwidth that is not given.
const MEASURED: &str = "measured";
const UNLIMITED: &str = "unlimited";

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "qemu-default",
    summary: "QEMU: stops when what is pending fits the downtime limit at the bandwidth of the last \
              100 ms; never gives up.",
    approximate: None,
    sources: &[
        Source { tag: "Q1", what: "qemu/qemu migration/migration.c", version: "2400fad5" },
        Source { tag: "Q2", what: "qemu/qemu migration/options.c", version: "2400fad5" },
        Source { tag: "Q3", what: "qemu/qemu migration/ram.c", version: "8.2 to 9.0" },
        Source {
            tag: "Q6",
            what: "qemu/qemu qapi/migration.json",
            version: "ef965377 and 01bed0ff",
        },
    ],
    parameters: &[
        ParameterInfo {
            name: "downtime-limit",
            kind: ParameterKind::Duration { most: LONGEST_LIMIT },
            default: "300ms",
            doc: "The downtime that the estimate must stay below.",
            source: "Q2",
        },
        ParameterInfo {
            name: "switchover-bandwidth",
            kind: ParameterKind::OptionalBandwidth { none: MEASURED },
            default: MEASURED,
            doc: "The bandwidth that the estimate counts on (QEMU's avail-switchover-bandwidth) instead of \
                  the measured one.",
            source: "Q2",
        },
        ParameterInfo {
            name: "max-bandwidth",
            kind: ParameterKind::OptionalBandwidth { none: UNLIMITED },
            default: UNLIMITED,
            doc: "Cap of the sending rate until the switchover. QEMU's own default is 128MiB/s; libvirt and \
                  the managers above it lift that, and so does ours.",
            source: "ours",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(QemuDefault {
        downtime_limit: given.duration("downtime-limit")?,
        switchover_bandwidth: given.optional_bandwidth("switchover-bandwidth")?,
        max_bandwidth: given.optional_bandwidth("max-bandwidth")?,
    }))
}

impl QemuDefault {
    /// What a switchover may leave pending, rounded down; zero before the first window has ended, even
    /// where the bandwidth is given.
    pub fn threshold(&self, measured: Option<Bandwidth>) -> ByteCount {
        measured.map_or(ByteCount::ZERO, |measured| {
            self.switchover_bandwidth.unwrap_or(measured).bytes_in(self.downtime_limit)
        })
    }

    /// Until when a tick goes on.
    ///
    /// With a measured bandwidth the threshold moves with it, so the answer is good for bandwidths up to
    /// twice the present one and for what is not below the threshold at that.
    fn until(&self, progress: &Progress) -> Until {
        let Some(measured) = progress.bandwidth else {
            return Until::NEXT;
        };
        let doubled = match self.switchover_bandwidth {
            Some(_) => None,
            None => Some(measured.saturating_add(measured)),
        };
        let threshold = self.threshold(doubled.or(Some(measured)));
        // The most pages that are strictly below the threshold.
        let below = threshold.0.saturating_sub(1) / progress.page_size.bytes().0;
        Until { pending: Pages(below), bandwidth: doubled, ..Until::ROUND_END }
    }

    fn reason(&self, progress: &Progress, relation: Relation, threshold: ByteCount) -> Reason {
        // Named by its parameter where it is given, so that one sees which of the two counted.
        let bandwidth = match (progress.bandwidth, self.switchover_bandwidth) {
            (None, _) => ("bandwidth", Quantity::Unknown),
            (Some(_), Some(given)) => ("switchover-bandwidth", Quantity::Bandwidth(given)),
            (Some(measured), None) => ("bandwidth", Quantity::Bandwidth(measured)),
        };
        let pending = ("pending", Quantity::Bytes(progress.pending_bytes()));
        Reason::new(pending, relation, ("threshold", Quantity::Bytes(threshold)))
            .with(bandwidth.0, bandwidth.1)
            .with("downtime-limit", Quantity::Duration(self.downtime_limit))
    }

    fn goes_on(&self, moment: Moment, progress: &Progress, reason: Reason) -> Verdict {
        let verdict = Verdict::new(Decision::Continue, reason).holding(self.until(progress));
        match self.max_bandwidth {
            Some(cap) if moment == Moment::RoundStart && progress.round == 0 => {
                verdict.adjusting(rate(RateLimit::AtMost(cap)))
            }
            _ => verdict,
        }
    }
}

fn rate(limit: RateLimit) -> Adjustments {
    Adjustments { rate_limit: Some(limit), ..Adjustments::default() }
}

impl Policy for QemuDefault {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let text = |bandwidth: Option<Bandwidth>, none: &str| {
            bandwidth.map_or_else(|| none.to_owned(), |bandwidth| bandwidth.to_string())
        };
        vec![
            ("downtime-limit", duration::format(self.downtime_limit)),
            ("switchover-bandwidth", text(self.switchover_bandwidth, MEASURED)),
            ("max-bandwidth", text(self.max_bandwidth, UNLIMITED)),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence {
            tick: Some(SLICE),
            bandwidth: BandwidthWindow::Time(WINDOW),
            gate: Gate::Pipelined,
        }
    }

    fn needs(&self) -> Capabilities {
        Capabilities { harvest_on_demand: true, ..Capabilities::default() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let threshold = self.threshold(progress.bandwidth);
        let pending = progress.pending_bytes();
        let below = pending < threshold;
        // Nothing pending is enough even where nothing can be below the threshold.
        let empty = progress.pending.is_zero() && !below;
        let relation = match (below, empty) {
            (true, _) => Relation::Below,
            (_, true) => Relation::AtMost,
            _ => Relation::AtLeast,
        };
        let reason = self.reason(progress, relation, threshold);
        match moment {
            // The count is exact: this is the last word.
            Moment::RoundStart if below => switchover(reason),
            // At a round's end the machine harvests unasked.
            Moment::RoundEnd if below => self.goes_on(moment, progress, reason),
            Moment::Tick if below => Verdict::new(Decision::Harvest, reason),
            _ if empty => switchover(reason),
            _ => self.goes_on(moment, progress, reason),
        }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// QEMU lifts the rate cap, whoever set it, before it sends the rest.
fn switchover(reason: Reason) -> Verdict {
    let decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
    Verdict::new(decision, reason).adjusting(rate(RateLimit::Unlimited))
}
