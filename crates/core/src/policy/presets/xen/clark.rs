//! `clark-2005`: the rule of the paper that gave live migration its name (NSDI).
//!
//! [`RULE`] is the rule.
//!
//! * The dirty rate is pages found dirty over the length of the round before; those that were left out of
//!   that round because they were dirty again are among them.
//! * Both comparisons are strict: a round at exactly the highest bandwidth is sent.
//! * Neither rounds nor time nor downtime is bounded; that the rate must climb to keep up is what ends it.
//! * An administrator sets the lowest and the highest bandwidth; the paper's runs used 100 and 500 Mbit/s.

use super::super::parameters::Given;
use super::super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source, unknown_above};
use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, RateLimit, Reason, Relation,
    SwitchoverWhen, Until, Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::{Bandwidth, ByteCount};

/// Sends a little faster than the guest dirties, until that is too fast or little is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clark2005 {
    /// The bandwidth of the first round, and the least of any.
    pub min_bandwidth: Bandwidth,
    /// The bandwidth of the last round; pre-copy ends when it would need more.
    pub max_bandwidth: Bandwidth,
    /// How much faster than the dirty rate a round is sent.
    pub increment: Bandwidth,
    /// Pre-copy ends when less than this remains.
    pub remaining: ByteCount,
}

/// The rule in short, at the defaults.
const RULE: &str = "\
round 0 at the lowest bandwidth
at the start of each later round, with what was dirtied and how fast:
    next = dirty rate of the round before + 50 Mbit/s
    remaining < 256 KB, or next > the highest bandwidth: pause
    else send this round at `next`
while paused send at the highest bandwidth";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "Assumed, because the paper does not say: a round is not sent below the lowest bandwidth; KB are \
     of 1,024 bytes and Mbit of a million.",
    "That pages dirty again are skipped is not the policy's doing but the host's (a setting of the \
     ground).",
];

pub(in super::super) const INFO: PresetInfo = PresetInfo {
    name: "clark-2005",
    summary: "Clark and others: each round 50 Mbit/s faster than the guest dirtied in the one before, until \
              that exceeds the highest bandwidth or less than 256 KB remain.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Source {
        tag: "NSDI",
        what: "Clark and others, Live Migration of Virtual Machines, NSDI 2005",
        version: "2005",
    }],
    parameters: &[
        ParameterInfo {
            name: "min-bandwidth",
            kind: ParameterKind::Bandwidth,
            default: "100Mbit/s",
            doc: "Bandwidth of the first round, and the least of any; what the paper's runs used.",
            source: "NSDI",
        },
        ParameterInfo {
            name: "max-bandwidth",
            kind: ParameterKind::Bandwidth,
            default: "500Mbit/s",
            doc: "Bandwidth while the guest is paused, which it is when a round would need more.",
            source: "NSDI",
        },
        ParameterInfo {
            name: "increment",
            kind: ParameterKind::Bandwidth,
            default: "50Mbit/s",
            doc: "How much faster than the dirty rate of the round before a round is sent.",
            source: "NSDI",
        },
        ParameterInfo {
            name: "remaining",
            kind: ParameterKind::Bytes,
            default: "256KiB",
            doc: "The guest is paused when a round starts with less than this.",
            source: "NSDI",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(Clark2005 {
        min_bandwidth: given.bandwidth("min-bandwidth")?,
        max_bandwidth: given.bandwidth("max-bandwidth")?,
        increment: given.bandwidth("increment")?,
        remaining: given.bytes("remaining")?,
    }))
}

fn rate(limit: Bandwidth) -> Adjustments {
    Adjustments { rate_limit: Some(RateLimit::AtMost(limit)), ..Adjustments::default() }
}

impl Clark2005 {
    /// What the round that starts would have to be sent at; nothing dirtied counts where nothing is known.
    fn next(&self, progress: &Progress) -> Bandwidth {
        let dirty = progress.dirty_rate.map_or(0.0, |rate| rate.bytes_per_second(progress.page_size));
        // A float that does not fit becomes u64::MAX.
        Bandwidth::new(dirty as u64).map_or(self.increment, |dirty| dirty.saturating_add(self.increment))
    }

    fn pause(&self, forced: bool, reason: Reason) -> Verdict {
        let now = Decision::Switchover { when: SwitchoverWhen::Now, forced };
        Verdict::new(now, reason).adjusting(rate(self.max_bandwidth))
    }

    fn at_start(&self, progress: &Progress) -> Verdict {
        let goes_on = |reason, bandwidth| {
            Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END).adjusting(rate(bandwidth))
        };
        let pending = ("pending", Quantity::Bytes(progress.pending_bytes()));
        let small = ("remaining", Quantity::Bytes(self.remaining));
        if progress.pending_bytes() < self.remaining {
            return self.pause(false, Reason::new(pending, Relation::Below, small));
        }
        if progress.round == 0 {
            return goes_on(Reason::new(pending, Relation::AtLeast, small), self.min_bandwidth);
        }
        let next = self.next(progress);
        let highest = ("max-bandwidth", Quantity::Bandwidth(self.max_bandwidth));
        let dirty = ("dirty rate", progress.dirty_rate.map_or(Quantity::Unknown, Quantity::PageRate));
        let reason = |relation| {
            Reason::new(("next round", Quantity::Bandwidth(next)), relation, highest)
                .with(dirty.0, dirty.1)
                .with(pending.0, pending.1)
        };
        if next > self.max_bandwidth {
            return self.pause(true, reason(Relation::Above));
        }
        goes_on(reason(Relation::AtMost), next.max(self.min_bandwidth))
    }
}

impl Policy for Clark2005 {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("min-bandwidth", self.min_bandwidth.to_string()),
            ("max-bandwidth", self.max_bandwidth.to_string()),
            ("increment", self.increment.to_string()),
            ("remaining", self.remaining.to_string()),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        if moment == Moment::RoundStart {
            return self.at_start(progress);
        }
        let small = ("remaining", Quantity::Bytes(self.remaining));
        Verdict::new(Decision::Continue, unknown_above("dirtied", small)).holding(Until::ROUND_END)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Situation, answer};
    use super::*;
    use crate::units::PageRate;

    fn mbit(rate: u64) -> Bandwidth {
        Bandwidth::new(rate * 125_000).expect("not zero")
    }

    fn clark() -> Clark2005 {
        Clark2005 {
            min_bandwidth: mbit(100),
            max_bandwidth: mbit(500),
            increment: mbit(50),
            remaining: ByteCount::kib(256),
        }
    }

    /// The answer at the start of a round with `pending` pages, `dirty` bytes a second before it; the
    /// bandwidth that it sets.
    fn at(round: u32, pending: u64, dirty: f64) -> (Decision, Bandwidth) {
        let mut start = Situation::new("start", Moment::RoundStart, round, pending);
        start.progress.dirty_rate = Some(PageRate::new(dirty / 4096.0).expect("finite"));
        let verdict = answer(&mut clark(), &start);
        let Some(RateLimit::AtMost(limit)) = verdict.adjust.rate_limit else { panic!("no limit") };
        (verdict.decision, limit)
    }

    const fn now(forced: bool) -> Decision {
        Decision::Switchover { when: SwitchoverWhen::Now, forced }
    }

    #[test]
    fn the_first_round_is_sent_at_the_lowest_bandwidth() {
        assert_eq!(at(0, 1 << 20, 0.0), (Decision::Continue, mbit(100)));
    }

    #[test]
    fn a_round_is_sent_50_mbit_faster_than_the_guest_dirtied_before_it() {
        assert_eq!(at(1, 10_000, 20e6), (Decision::Continue, mbit(160 + 50)));
        assert_eq!(at(7, 10_000, 40e6), (Decision::Continue, mbit(320 + 50)));
    }

    #[test]
    fn a_round_that_would_need_more_than_the_highest_bandwidth_is_not_sent_live() {
        // 450 Mbit/s of dirtying are exactly the highest.
        assert_eq!(at(3, 10_000, 56.25e6), (Decision::Continue, mbit(500)));
        assert_eq!(at(3, 10_000, 56.26e6), (now(true), mbit(500)));
    }

    #[test]
    fn less_than_256_kib_ends_it_and_256_kib_do_not() {
        assert_eq!(at(3, 63, 1e6), (now(false), mbit(500)));
        assert_eq!(at(3, 64, 1e6).0, Decision::Continue);
    }

    #[test]
    fn the_last_round_is_sent_at_the_highest_bandwidth() {
        assert_eq!(at(9, 10, 0.0).1, mbit(500));
        assert_eq!(at(9, 1 << 20, 1e9).1, mbit(500));
    }

    #[test]
    fn no_round_is_sent_below_the_lowest_bandwidth() {
        assert_eq!(at(1, 10_000, 0.0), (Decision::Continue, mbit(100)));
    }

    #[test]
    fn neither_rounds_nor_time_bound_it() {
        let mut late = Situation::new("late", Moment::RoundStart, 1_000_000, 10_000).after("30h");
        late.progress.dirty_rate = Some(PageRate::new(1_000.0).expect("finite"));
        assert_eq!(answer(&mut clark(), &late).decision, Decision::Continue);
    }
}
