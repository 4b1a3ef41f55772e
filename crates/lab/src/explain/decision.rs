//! The decisions of a run: why each fell, by how much, and what would have had to be otherwise.

use serde::Serialize;
use whimbrel_core::journal::{Entry, Journal};
use whimbrel_core::machine::SourceEvent;
use whimbrel_core::policy::{Decision, Policy, Reason, Verdict};
use whimbrel_core::progress::{Moment, Progress};
use whimbrel_core::units::{Bandwidth, ByteCount, Timestamp};

use super::probe::{Probe, ends};
use super::words;
use crate::result::{decision_name, milliseconds};

/// A decision, its reason, and how far it was from another.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DecisionRecord {
    /// When, milliseconds since the start.
    pub at_ms: f64,
    /// In which round; 0 is the bulk round.
    pub round: u32,
    /// At which moment: `round-start`, `tick`, `round-end`.
    pub moment: &'static str,
    /// What was decided, by its name in results.
    pub decision: &'static str,
    /// How the guest is slowed from then on, if that was ordered with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<String>,
    /// The rule that decided, with its numbers.
    pub reason: Reason,
    /// By which share of the right side the rule held.
    pub margin: Option<f64>,
    /// What was pending, bytes.
    pub pending_bytes: u64,
    /// What was sent by then, bytes.
    pub sent_bytes: u64,
    /// The most that could have been pending for the guest to be handed over then: below `pending_bytes` where
    /// the policy went on, above where it did not. None if it would not have depended on that.
    pub would_end_at_bytes: Option<u64>,
    /// Where it went on: the least bandwidth with which it would have handed the guest over, bytes a second.
    pub would_end_with_bytes_per_s: Option<u64>,
    /// Whether the guest is handed over or given up by it.
    pub last: bool,
    /// All that in a sentence or two.
    pub sentence: String,
    #[serde(skip)]
    pub(super) at: Timestamp,
    #[serde(skip)]
    pub(super) shown: Progress,
}

/// How near the two sides of a rule came to each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Approach {
    /// The left side's name.
    pub left: String,
    /// The right side's.
    pub right: String,
    /// How often the rule decided.
    pub decided: usize,
    /// How often with the left side below the right.
    pub below: usize,
    /// When they were nearest, milliseconds since the start; none if they were never both known.
    pub nearest_at_ms: Option<f64>,
    /// The left side over the right, less one: -0.04 is 4 % below.
    pub nearest: Option<f64>,
}

/// A journal, read.
pub(super) struct Watched {
    pub(super) asked: usize,
    pub(super) decisions: Vec<DecisionRecord>,
    pub(super) rules: Vec<Approach>,
}

/// Asks a fresh copy of the policy once more what the journal's was asked, and looks around at each moment.
pub(super) fn watch(journal: &Journal, fresh: &dyn Policy) -> Watched {
    let mut policy = fresh.boxed_clone();
    let mut watched = Watched { asked: 0, decisions: Vec::new(), rules: Vec::new() };
    for entry in journal.entries() {
        match entry {
            Entry::Event { event: SourceEvent::Change { parameter, value }, .. } => {
                // One that it did not take was not recorded.
                let _ = policy.set_parameter(parameter, value);
            }
            Entry::Decision { moment, progress, verdict } => {
                watched.asked += 1;
                approach(&mut watched.rules, progress, &verdict.reason);
                let more = verdict.decision != Decision::Continue || verdict.adjust.throttle.is_some();
                if more || *moment == Moment::RoundStart {
                    let probe = Probe { policy: &*policy, moment: *moment, progress };
                    watched.decisions.push(DecisionRecord::of(&probe, verdict));
                }
                let _ = policy.decide(*moment, progress);
            }
            _ => {}
        }
    }
    watched
}

fn approach(rules: &mut Vec<Approach>, progress: &Progress, reason: &Reason) {
    let (left, right) = (reason.left(), reason.right());
    let known = rules.iter().position(|rule| rule.left == left.name && rule.right == right.name);
    let index = known.unwrap_or_else(|| {
        let (left, right) = (left.name.to_owned(), right.name.to_owned());
        rules.push(Approach { left, right, decided: 0, below: 0, nearest_at_ms: None, nearest: None });
        rules.len() - 1
    });
    let rule = &mut rules[index];
    rule.decided += 1;
    let (Some(left), Some(right)) = (left.value.as_f64(), right.value.as_f64()) else { return };
    rule.below += usize::from(left < right);
    if right > 0.0 {
        let distance = left / right - 1.0;
        if rule.nearest.is_none_or(|nearest| distance.abs() < nearest.abs()) {
            rule.nearest = Some(distance);
            rule.nearest_at_ms = Some(milliseconds(progress.elapsed()));
        }
    }
}

impl DecisionRecord {
    fn of(probe: &Probe<'_>, verdict: &Verdict) -> Self {
        let Probe { moment, progress, .. } = *probe;
        let ended = ends(verdict.decision);
        let bytes = |pages: whimbrel_core::units::Pages| pages.bytes(progress.page_size).0;
        let would_end_at = if moment == Moment::RoundEnd {
            // Nothing is pending, and what was dirtied is not known.
            None
        } else if ended {
            let most = probe.would_still_end_at();
            (most < progress.memory).then(|| bytes(most))
        } else {
            probe.would_end_at().map(bytes)
        };
        let would_end_with = if ended { None } else { probe.would_end_with() };
        let mut record = Self {
            at_ms: milliseconds(progress.elapsed()),
            round: progress.round,
            moment: moment_name(moment),
            decision: decision_name(verdict.decision),
            throttle: verdict.adjust.throttle.map(|throttle| throttle.to_string()),
            reason: verdict.reason.clone(),
            margin: verdict.reason.margin(),
            pending_bytes: progress.pending_bytes().0,
            sent_bytes: progress.sent.0,
            would_end_at_bytes: would_end_at,
            would_end_with_bytes_per_s: would_end_with.map(Bandwidth::bytes_per_second),
            last: ended || matches!(verdict.decision, Decision::PostCopy | Decision::Abort),
            sentence: String::new(),
            at: progress.now,
            shown: progress.clone(),
        };
        record.sentence = words::decision(&record, verdict.decision, progress.bandwidth);
        record
    }

    /// By which share too much was pending for the guest to be handed over; none if that is not why it wasn't.
    pub fn missed_by(&self) -> Option<f64> {
        let most = self.would_end_at_bytes.filter(|&most| most > 0 && !self.last)?;
        Some(self.pending_bytes as f64 / most as f64 - 1.0)
    }

    /// Whether it is this very decision.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.at, self.moment) == (other.at, other.moment)
    }

    pub(super) fn starts_a_round(&self) -> bool {
        self.moment == moment_name(Moment::RoundStart)
    }

    /// What was pending.
    pub fn pending(&self) -> ByteCount {
        ByteCount(self.pending_bytes)
    }
}

/// The stable name of a moment.
const fn moment_name(moment: Moment) -> &'static str {
    match moment {
        Moment::Tick => "tick",
        Moment::RoundStart => "round-start",
        Moment::RoundEnd => "round-end",
    }
}
