//! `xen-classic`: the rule of Xen's first live migration code, `xc_linux_save` and later `xc_domain_save`,
//! until libxc's rewrite (X5).
//!
//! [`RULE`] is the rule.
//!
//! * Decides once a round, when it is sent and what was dirtied meanwhile is not known.
//! * *Skipped* are pages of the round that were found dirty again before their turn came; the ground leaves
//!   them out (a host setting), the policy only counts them.
//! * The round before the first counts as one that sent all memory, so the first clause cannot end the first.
//! * The rate never falls, and is compared in whole Mbit/s. The limiter lets 100 KiB pass in every
//!   `781250 / rate` us, by which a Mbit is 2^20 bits: at "100 Mbit/s" it lets 104.9 pass.
//! * Neither bandwidth nor downtime is looked at. The limit stays in force while the guest is suspended.

use super::super::parameters::{Given, on_off};
use super::super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source, unknown_above};
use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, RateLimit, Reason, Relation,
    SwitchoverWhen, Until, Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::{Bandwidth, Pages};

/// Bytes a second in a Mbit/s.
const MEGABIT: u64 = 125_000;
/// Bytes that the limiter lets pass in a slot (`BURST_BUDGET`).
const BURST: u64 = 100 * 1024;
/// A slot in microseconds, times Mbit/s (`RATE_TO_BTU`).
const SLOT: u64 = 781_250;

/// At most so many rounds and bytes; fewer once a round is small, or grows at the highest rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XenClassic {
    /// Live rounds, the full one counted, after which the guest is suspended in any case.
    pub max_iterations: u32,
    /// It is suspended, too, when more pages than this many times its memory were sent.
    pub max_factor: u32,
    /// A round of fewer pages, sent and skipped, is the last.
    pub min_remaining: Pages,
    /// Whether the sending rate is limited at all.
    pub adaptive: bool,
    /// To what it is limited.
    pub rates: AdaptiveRate,
    /// The rate of the round, in bytes a second.
    rate: u64,
    /// Pages sent in the round before; none before the first.
    sent_before: Option<Pages>,
}

/// A limit of the sending rate that rises with the dirty rate (`ADAPTIVE_SAVE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveRate {
    /// In the first round; no more than `most` counts.
    pub start: Bandwidth,
    /// Above the dirty rate of the round before.
    pub step: Bandwidth,
    /// Never more.
    pub most: Bandwidth,
}

/// The rule in short, at the defaults.
const RULE: &str = "\
after each round, with the pages sent in it and those skipped:
    last if sent more than in the round before, and the rate is at its maximum
                (ADAPTIVE_SAVE only)
         or rounds >= 29
         or sent + skipped < 50
         or sent in all > 3 x memory
    suspend before the dirty log is fetched, if last
with ADAPTIVE_SAVE, when the log was fetched:
    dirtied Mbit/s > rate: rate = min(dirtied Mbit/s + 50, 500)   # first 100";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "Not certain: that released builds left ADAPTIVE_SAVE out, which is why it is off unless asked \
     for.",
    "Not certain: how pages that were found dirty again before their turn came were skipped. The \
     ground leaves them out (a host setting); the policy only counts them.",
    "Not modelled: what the last fetch finds may raise the rate once more, with the guest suspended; \
     the budget of one burst (the ground limits over windows of its own).",
];

pub(in super::super) const INFO: PresetInfo = PresetInfo {
    name: "xen-classic",
    summary: "Xen until libxc's rewrite: at most 29 rounds and 3 times the memory, fewer once a round has \
              less than 50 pages; no bound on the downtime.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Source {
        tag: "X5",
        what: "Xen xc_linux_save.c, xc_domain_save.c",
        version: "2004 to Xen 4.5",
    }],
    parameters: &[
        ParameterInfo {
            name: "max-iterations",
            kind: ParameterKind::Count,
            default: "29",
            doc: "Live rounds, the full one counted, before the guest is suspended in any case.",
            source: "X5",
        },
        ParameterInfo {
            name: "max-factor",
            kind: ParameterKind::Count,
            default: "3",
            doc: "Suspends the guest when more pages than this many times its memory were sent.",
            source: "X5",
        },
        ParameterInfo {
            name: "min-remaining",
            kind: ParameterKind::Pages,
            default: "50",
            doc: "A round of fewer pages, sent or skipped because they were dirty again, is the last.",
            source: "X5",
        },
        ParameterInfo {
            name: "adaptive-rate",
            kind: ParameterKind::Choice(&["on", "off"]),
            default: "off",
            doc: "Limits the sending rate (ADAPTIVE_SAVE). A round that sends more than the one before is \
                  then the last, if the rate is at its maximum. The default is ours.",
            source: "ours",
        },
        ParameterInfo {
            name: "start-rate",
            kind: ParameterKind::Bandwidth,
            default: "100Mbit/s",
            doc: "Limit of the rate in the first round (START_MBIT_RATE); no more than max-rate counts.",
            source: "X5",
        },
        ParameterInfo {
            name: "rate-step",
            kind: ParameterKind::Bandwidth,
            default: "50Mbit/s",
            doc: "Above the dirty rate of the round before, if that was above the limit.",
            source: "X5",
        },
        ParameterInfo {
            name: "max-rate",
            kind: ParameterKind::Bandwidth,
            default: "500Mbit/s",
            doc: "The limit never gets higher (MAX_MBIT_RATE).",
            source: "X5",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    let rates = AdaptiveRate {
        start: given.bandwidth("start-rate")?,
        step: given.bandwidth("rate-step")?,
        most: given.bandwidth("max-rate")?,
    };
    Ok(Box::new(XenClassic {
        max_iterations: given.count("max-iterations")?,
        max_factor: given.count("max-factor")?,
        min_remaining: given.pages("min-remaining")?,
        adaptive: given.switch("adaptive-rate")?,
        rates,
        // A rate above the highest could only fall, and would never be at it.
        rate: rates.start.min(rates.most).bytes_per_second(),
        sent_before: None,
    }))
}

/// What the limiter lets pass at `rate`; none where its slots would be shorter than it can tell.
fn limit(rate: u64) -> RateLimit {
    let megabits = (rate / MEGABIT).max(1);
    let passes = (BURST * 1_000_000).checked_div(SLOT / megabits).and_then(Bandwidth::new);
    passes.map_or(RateLimit::Unlimited, RateLimit::AtMost)
}

impl XenClassic {
    /// The rate of the round that starts, if it changes.
    fn next_rate(&self, progress: &Progress) -> Option<u64> {
        if !self.adaptive {
            return None;
        }
        if progress.round == 0 {
            return Some(self.rate);
        }
        let dirty = progress.dirty_rate?.bytes_per_second(progress.page_size) as u64;
        let dirty = dirty / MEGABIT * MEGABIT;
        let raised =
            dirty.saturating_add(self.rates.step.bytes_per_second()).min(self.rates.most.bytes_per_second());
        (dirty > self.rate).then_some(raised)
    }

    fn at_start(&mut self, progress: &Progress) -> Verdict {
        let reason = unknown_above("sent", ("min-remaining", Quantity::Pages(self.min_remaining)));
        let verdict = Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END);
        let Some(rate) = self.next_rate(progress) else {
            return verdict;
        };
        self.rate = rate;
        verdict.adjusting(Adjustments { rate_limit: Some(limit(rate)), ..Adjustments::default() })
    }

    /// The clause that makes the round the last, and whether the rest is small; else why it is not.
    fn after_round(&self, progress: &Progress) -> (Option<bool>, Reason) {
        let sent = progress.round_sent_pages;
        let before = self.sent_before.unwrap_or(progress.memory);
        let both = sent.saturating_add(progress.round_skipped);
        let rounds = u64::from(progress.round) + 1;
        let most_sent = Pages(progress.memory.0.saturating_mul(self.max_factor.into()));
        let small = ("min-remaining", Quantity::Pages(self.min_remaining));
        let looked_at = ("sent and skipped", Quantity::Pages(both));
        let skipped = ("skipped", Quantity::Pages(progress.round_skipped));
        if both < self.min_remaining {
            return (Some(true), Reason::new(looked_at, Relation::Below, small).with(skipped.0, skipped.1));
        }
        if self.adaptive && sent > before && self.rate == self.rates.most.bytes_per_second() {
            let before = ("round before", Quantity::Pages(before));
            let reason = Reason::new(("sent", Quantity::Pages(sent)), Relation::Above, before)
                .with("rate", Quantity::Bandwidth(self.rates.most));
            return (Some(false), reason);
        }
        let count = ("iteration", Quantity::Count(rounds));
        let cap = ("max-iterations", Quantity::Count(self.max_iterations.into()));
        if rounds >= u64::from(self.max_iterations) {
            let reason = Reason::new(count, Relation::AtLeast, cap).with(looked_at.0, looked_at.1);
            return (Some(false), reason);
        }
        if progress.sent_pages > most_sent {
            let all = ("sent in all", Quantity::Pages(progress.sent_pages));
            let reason = Reason::new(all, Relation::Above, ("bound", Quantity::Pages(most_sent)))
                .with("max-factor", Quantity::Count(self.max_factor.into()));
            return (Some(false), reason);
        }
        (
            None,
            Reason::new(looked_at, Relation::AtLeast, small)
                .with(skipped.0, skipped.1)
                .with(count.0, count.1),
        )
    }
}

impl Policy for XenClassic {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("max-iterations", self.max_iterations.to_string()),
            ("max-factor", self.max_factor.to_string()),
            ("min-remaining", self.min_remaining.to_string()),
            ("adaptive-rate", on_off(self.adaptive)),
            ("start-rate", self.rates.start.to_string()),
            ("rate-step", self.rates.step.to_string()),
            ("max-rate", self.rates.most.to_string()),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        match moment {
            Moment::RoundStart => self.at_start(progress),
            Moment::Tick => {
                let small = ("min-remaining", Quantity::Pages(self.min_remaining));
                Verdict::new(Decision::Continue, unknown_above("sent", small)).holding(Until::ROUND_END)
            }
            Moment::RoundEnd => {
                let (last, reason) = self.after_round(progress);
                self.sent_before = Some(progress.round_sent_pages);
                let Some(small) = last else {
                    return Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END);
                };
                let now = Decision::Switchover { when: SwitchoverWhen::Now, forced: !small };
                Verdict::new(now, reason)
            }
        }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests;
