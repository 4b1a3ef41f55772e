//! QEMU's policies: one rule for the switchover, and what is added to it.
//!
//! * [`default`]: `qemu-default`, the rule alone.
//! * [`auto_converge`]: `qemu-auto-converge`, which slows every vCPU.
//! * [`dirty_limit`]: `qemu-dirty-limit`, which slows only vCPUs that write.
//! * [`postcopy`]: `qemu-postcopy`, which fetches the rest after the handover.
//!
//! [`QemuDefault`] is the rule, a pure function of what it is shown. [`Qemu`] adds what must be
//! remembered: the rate cap in force, and auto-converge. A manager above QEMU (libvirt, Nova, Proxmox)
//! keeps a [`Qemu`], asks it first at every moment, and changes its limits between two moments. The
//! memory changes only when a round starts and at the moments that the last [`Until`] names, so ticks at
//! which that does not hold may be skipped.
//!
//! `default::RULE` is the rule in short.
//!
//! * The comparison is strict, and nothing is smoothed: one fast window is enough for a switchover.
//! * It never gives up.
//! * QEMU harvests when everything is sent, too: with a threshold above zero, nothing pending is below
//!   it. The policy then answers [`Decision::Continue`], and the machine harvests by itself.

mod auto_converge;
mod default;
mod dirty_limit;
mod limits;
mod periods;
mod postcopy;
mod sync_timer;
#[cfg(test)]
mod testing;

use std::time::Duration;

pub use self::auto_converge::AutoConverge;
pub(super) use self::auto_converge::INFO as AUTO_CONVERGE;
pub(super) use self::default::INFO as DEFAULT;
pub(super) use self::dirty_limit::INFO as DIRTY_LIMIT;
pub use self::dirty_limit::QemuDirtyLimit;
pub(super) use self::postcopy::INFO as POSTCOPY;
pub use self::postcopy::QemuPostCopy;
use super::parameters::Given;
use super::{PresetError, Source};
use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, ChangeError, Decision, Gate, Policy, Quantity, RateLimit, Reason,
    Relation, SwitchoverWhen, Until, Verdict,
};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Bandwidth, ByteCount, Pages};

/// QEMU's rule alone: stops when what is pending fits the downtime limit at the bandwidth of the last
/// 100 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuDefault {
    /// The downtime that the estimate must stay below.
    pub downtime_limit: Duration,
    /// The bandwidth that the threshold is made from; none: the measured one.
    pub switchover_bandwidth: Option<Bandwidth>,
    /// Cap of the sending rate until the switchover; none: no cap.
    pub max_bandwidth: Option<Bandwidth>,
}

/// The longest slice of sending between two looks at what is pending. QEMU stops when more than 50 ms
/// (`MAX_WAIT`) have passed and counts whole milliseconds, so 51 have.
const SLICE: Duration = Duration::from_millis(51);
/// The window of the bandwidth (`BUFFER_DELAY`).
const WINDOW: Duration = Duration::from_millis(100);

const Q1: Source = Source { tag: "Q1", what: "qemu/qemu migration/migration.c", version: "2400fad5" };
const Q2: Source = Source { tag: "Q2", what: "qemu/qemu migration/options.c", version: "2400fad5" };
const Q3: Source = Source { tag: "Q3", what: "qemu/qemu migration/ram.c", version: "8.2 to 9.0" };
const Q4: Source = Source { tag: "Q4", what: "qemu/qemu migration/cpu-throttle.c", version: "575c2c5f" };
const Q5: Source = Source { tag: "Q5", what: "qemu/qemu system/dirtylimit.c", version: "019fbfa4" };
const Q6: Source =
    Source { tag: "Q6", what: "qemu/qemu qapi/migration.json", version: "ef965377 and 01bed0ff" };
const Q8: Source =
    Source { tag: "Q8", what: "qemu/qemu docs/devel/migration/dirty-limit.rst", version: "9da8dfe4" };

impl Default for QemuDefault {
    /// A limit of 300 ms, the measured bandwidth, no cap.
    fn default() -> Self {
        Self { downtime_limit: Duration::from_millis(300), switchover_bandwidth: None, max_bandwidth: None }
    }
}

impl QemuDefault {
    /// The rule with these parameters.
    fn read(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            downtime_limit: given.duration("downtime-limit")?,
            switchover_bandwidth: given.optional_bandwidth("switchover-bandwidth")?,
            max_bandwidth: given.optional_bandwidth("max-bandwidth")?,
        })
    }

    /// What a switchover may leave pending, rounded down; zero before the first window has ended, even
    /// where the bandwidth is given.
    pub fn threshold(&self, measured: Option<Bandwidth>) -> ByteCount {
        measured.map_or(ByteCount::ZERO, |measured| {
            self.switchover_bandwidth.unwrap_or(measured).bytes_in(self.downtime_limit)
        })
    }

    /// What the rule says, without the rate cap before the switchover.
    fn verdict(&self, moment: Moment, progress: &Progress) -> Verdict {
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
            Moment::RoundEnd if below => self.goes_on(progress, reason),
            Moment::Tick if below => Verdict::new(Decision::Harvest, reason),
            _ if empty => switchover(reason),
            _ => self.goes_on(progress, reason),
        }
    }

    /// Until when a tick goes on.
    ///
    /// With a measured bandwidth the threshold moves with it, so the answer is good as long as that is not
    /// above the present one, and for what is not below the present threshold.
    fn until(&self, progress: &Progress) -> Until {
        let Some(measured) = progress.bandwidth else {
            return Until::NEXT;
        };
        let bandwidth = if self.switchover_bandwidth.is_some() { None } else { Some(measured) };
        let threshold = self.threshold(Some(measured));
        // The most pages that are strictly below the threshold.
        let below = threshold.0.saturating_sub(1) / progress.page_size.bytes().0;
        Until { pending: Pages(below), bandwidth, ..Until::ROUND_END }
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

    fn goes_on(&self, progress: &Progress, reason: Reason) -> Verdict {
        Verdict::new(Decision::Continue, reason).holding(self.until(progress))
    }
}

/// QEMU's rule with what it remembers: the rate cap in force, and auto-converge where that is on.
///
/// The parts are public: whoever stands above QEMU changes them between two moments, and the next
/// verdict follows. What was changed holds from the next question on; it must be asked even where the
/// last [`Until`] does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Qemu {
    /// The rule and its limits. A changed [`max_bandwidth`](QemuDefault::max_bandwidth) is put in force by
    /// the next verdict.
    pub rule: QemuDefault,
    /// Slows the guest while it dirties too fast; none: the guest is left alone.
    pub auto_converge: Option<AutoConverge>,
    /// The cap that was last put in force.
    cap: Option<Bandwidth>,
}

impl Qemu {
    /// The rule without auto-converge.
    pub fn new(rule: QemuDefault) -> Self {
        Self { rule, auto_converge: None, cap: None }
    }

    /// The rule with auto-converge.
    pub fn converging(rule: QemuDefault, auto_converge: AutoConverge) -> Self {
        Self { auto_converge: Some(auto_converge), ..Self::new(rule) }
    }

    /// Ticks of 51 ms, windows of 100 ms, no wait at a round's end.
    pub fn cadence(&self) -> Cadence {
        Cadence { tick: Some(SLICE), bandwidth: BandwidthWindow::Time(WINDOW), gate: Gate::Pipelined }
    }

    /// A harvest while pages are pending; a throttle for auto-converge.
    pub fn needs(&self) -> Capabilities {
        Capabilities {
            harvest_on_demand: true,
            throttle: self.auto_converge.is_some(),
            ..Capabilities::default()
        }
    }

    /// Decides.
    pub fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let mut verdict = self.rule.verdict(moment, progress);
        if let Some(auto_converge) = &mut self.auto_converge {
            verdict = auto_converge.add(moment, progress, verdict);
        }
        self.cap(&mut verdict);
        verdict
    }

    /// Adds the rate cap, if it is not in force.
    #[inline]
    fn cap(&mut self, verdict: &mut Verdict) {
        if verdict.adjust.rate_limit.is_some() {
            // Lifted for the last copy.
            self.cap = None;
        } else if self.rule.max_bandwidth != self.cap {
            self.cap = self.rule.max_bandwidth;
            verdict.adjust.rate_limit = Some(self.cap.map_or(RateLimit::Unlimited, RateLimit::AtMost));
        }
    }
}

impl Policy for Qemu {
    fn name(&self) -> &'static str {
        match self.auto_converge {
            None => DEFAULT.name,
            Some(_) => AUTO_CONVERGE.name,
        }
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut texts = limits::texts(&self.rule);
        texts.extend(self.auto_converge.iter().flat_map(AutoConverge::texts));
        texts
    }

    fn cadence(&self) -> Cadence {
        Self::cadence(self)
    }

    fn needs(&self) -> Capabilities {
        Self::needs(self)
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        Self::decide(self, moment, progress)
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        let change = (name, value);
        if self.auto_converge.is_none() {
            let known = (&DEFAULT, &limits::NAMES[..]);
            self.rule = limits::changed(self, known, change, QemuDefault::read)?;
            return Ok(());
        }
        let known = (&AUTO_CONVERGE, &auto_converge::CHANGEABLE[..]);
        let (rule, fresh) = limits::changed(self, known, change, |given| {
            Ok((QemuDefault::read(given)?, AutoConverge::read(given)?))
        })?;
        self.rule = rule;
        if let Some(auto_converge) = &mut self.auto_converge {
            *auto_converge = fresh.remembering(auto_converge);
        }
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

fn rate(limit: RateLimit) -> Adjustments {
    Adjustments { rate_limit: Some(limit), ..Adjustments::default() }
}

/// QEMU lifts the rate cap, whoever set it, before it sends the rest.
fn switchover(reason: Reason) -> Verdict {
    let decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
    Verdict::new(decision, reason).adjusting(rate(RateLimit::Unlimited))
}
