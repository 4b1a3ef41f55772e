//! Moments of a run: which are worth looking at, and what was known at each.

use serde::Serialize;
use whimbrel_core::progress::Progress;
use whimbrel_core::units::{Bandwidth, ByteCount, Timestamp, duration};
use whimbrel_sim::Simulation;

use super::branch::{self, Branch};
use super::decision::DecisionRecord;
use super::words;
use crate::result::milliseconds;

/// Why a moment is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Lesson {
    /// Somebody asked for it.
    Asked,
    /// From here on nothing was gained.
    StoppedShrinking,
    /// The policy went on here, and came nearest to handing the guest over.
    NearestMiss,
    /// How the run ends was decided here.
    Ended,
}

/// A moment, what was known, and what others would have made of it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Moment {
    /// Why it is looked at.
    pub lessons: Vec<Lesson>,
    /// When, milliseconds since the start.
    pub at_ms: f64,
    /// What was known.
    pub known: Known,
    /// What was decided then, or next; or before, if all was decided by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<DecisionRecord>,
    /// The policy was still asked, so that another could have taken over.
    pub open: bool,
    /// What others would have made of it, each from the moment just before.
    pub branches: Vec<Branch>,
    /// What that comes to, a sentence each.
    pub summary: Vec<String>,
}

/// What a policy knew.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Known {
    /// When this was so, milliseconds: the last moment at which anything was reported.
    pub at_ms: f64,
    /// Where the source was.
    pub phase: String,
    /// The round; 0 is the bulk round.
    pub round: u32,
    /// Pending, bytes.
    pub pending_bytes: u64,
    /// What the last harvest found dirty, bytes.
    pub dirtied_bytes: u64,
    /// The same over the time since the harvest before, bytes a second.
    pub dirty_bytes_per_s: Option<f64>,
    /// Bandwidth over the policy's own window, bytes a second.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Time to send what is pending with it, milliseconds.
    pub to_send_ms: Option<f64>,
    /// Sent so far, bytes.
    pub sent_bytes: u64,
    /// What slowed the guest.
    pub throttle: String,
    /// What a handover costs whatever is pending, as far as it was seen, milliseconds.
    pub fixed_costs_ms: f64,
}

impl Known {
    fn of(progress: &Progress, phase: String) -> Self {
        let bytes = progress.pending_bytes();
        Self {
            at_ms: milliseconds(progress.elapsed()),
            phase,
            round: progress.round,
            pending_bytes: bytes.0,
            dirtied_bytes: progress.dirtied.bytes(progress.page_size).0,
            dirty_bytes_per_s: progress.dirty_rate.map(|rate| rate.bytes_per_second(progress.page_size)),
            bandwidth_bytes_per_s: progress.bandwidth.map(Bandwidth::bytes_per_second),
            to_send_ms: progress.bandwidth.map(|bandwidth| milliseconds(bandwidth.time_to_send(bytes))),
            sent_bytes: progress.sent.0,
            throttle: progress.throttle.to_string(),
            fixed_costs_ms: milliseconds(progress.fixed_costs),
        }
    }
}

impl Moment {
    pub(super) fn new(
        lessons: Vec<Lesson>,
        at: Timestamp,
        simulation: &Simulation<'_>,
        decisions: &[DecisionRecord],
        branches: Vec<Branch>,
    ) -> Self {
        let open = super::is_open(simulation);
        let next = decisions.iter().find(|decision| if open { decision.at >= at } else { decision.last });
        // What is decided at the very moment was decided on what the policy was shown then.
        let (progress, phase) = match next {
            Some(next) if next.at == at => (&next.shown, "deciding".to_owned()),
            _ => (simulation.progress(), phase_name(simulation)),
        };
        let known = Known::of(progress, phase);
        let summary = branch::summary(&branches, open);
        let at_ms = milliseconds(at.as_duration());
        Self { lessons, at_ms, known, next: next.cloned(), open, branches, summary }
    }
}

/// `Sending` as `sending`, `AwaitingReady` as `awaiting ready`.
fn phase_name(simulation: &Simulation<'_>) -> String {
    let mut name = String::new();
    for character in format!("{:?}", simulation.phase()).chars() {
        if character.is_uppercase() && !name.is_empty() {
            name.push(' ');
        }
        name.extend(character.to_lowercase());
    }
    name
}

/// Since when a run gained nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Shrinking {
    /// The round that began as small as any later one, or nearly so.
    pub round: u32,
    /// When it began, milliseconds.
    pub at_ms: f64,
    /// What was pending then, bytes.
    pub pending_bytes: u64,
    /// The least that was pending at the start of a later round, bytes.
    pub least_bytes: u64,
    /// Rounds after it.
    pub rounds_after: usize,
    /// Bytes sent after it.
    pub sent_after_bytes: u64,
    /// All that in a sentence.
    pub sentence: String,
    #[serde(skip)]
    at: Timestamp,
}

/// A round that begins with no more than this times the least of all later ones shows that nothing was gained
/// since.
const NEARLY: f64 = 1.1;
/// A miss by more than this is none.
const A_MISS: f64 = 1.0;
/// So many rounds without gain are worth a word.
const IN_VAIN: usize = 3;

/// Since when rounds stopped getting smaller.
pub(super) fn stopped_shrinking(decisions: &[DecisionRecord], sent: ByteCount) -> Option<Shrinking> {
    let rounds: Vec<&DecisionRecord> =
        decisions.iter().filter(|decision| decision.starts_a_round() && decision.round > 0).collect();
    let least = rounds.iter().map(|round| round.pending_bytes).min()?;
    let first = rounds.iter().position(|round| round.pending_bytes as f64 <= least as f64 * NEARLY)?;
    let (round, after) = (rounds[first], &rounds[first + 1..]);
    if after.len() < IN_VAIN {
        return None;
    }
    let later = after.iter().map(|round| round.pending_bytes).min()?;
    let sent_after = sent.0.saturating_sub(round.sent_bytes);
    let sentence = format!(
        "Rounds stopped getting smaller with round {} at {}, which began with {} pending: none of the {} later \
         rounds began with less than {}, and what was sent from then on, {}, gained nothing.",
        round.round,
        duration::human(round.at.as_duration()),
        words::human(round.pending_bytes),
        after.len(),
        words::human(later),
        words::human(sent_after),
    );
    Some(Shrinking {
        round: round.round,
        at_ms: round.at_ms,
        pending_bytes: round.pending_bytes,
        least_bytes: later,
        rounds_after: after.len(),
        sent_after_bytes: sent_after,
        sentence,
        at: round.at,
    })
}

/// The decision to go on that was nearest to the handover, the first of equals, and by which share too much was
/// pending then.
pub(super) fn nearest_miss(decisions: &[DecisionRecord]) -> Option<(f64, &DecisionRecord)> {
    let missed = decisions.iter().filter_map(|decision| Some((decision.missed_by()?, decision)));
    missed.min_by(|a, b| a.0.total_cmp(&b.0))
}

/// The moments that teach most: where the run stopped getting smaller, where it came nearest to its end
/// without deciding for it, and the decision that ended it.
pub(super) fn lessons(
    decisions: &[DecisionRecord],
    shrinking: Option<&Shrinking>,
) -> Vec<(Timestamp, Vec<Lesson>)> {
    let nearest = nearest_miss(decisions);
    let ended = decisions.iter().find(|decision| decision.last);
    [
        shrinking.map(|shrinking| (shrinking.at, Lesson::StoppedShrinking)),
        nearest
            .filter(|(missed, _)| *missed <= A_MISS)
            .map(|(_, decision)| (decision.at, Lesson::NearestMiss)),
        ended.map(|decision| (decision.at, Lesson::Ended)),
    ]
    .into_iter()
    .flatten()
    .map(|(at, lesson)| (at, vec![lesson]))
    .collect()
}

/// In the order of time, each moment once.
pub(super) fn in_order(mut moments: Vec<(Timestamp, Vec<Lesson>)>) -> Vec<(Timestamp, Vec<Lesson>)> {
    moments.sort_by_key(|(at, _)| *at);
    let mut merged: Vec<(Timestamp, Vec<Lesson>)> = Vec::new();
    for (at, lessons) in moments {
        match merged.last_mut() {
            Some((last, known)) if *last == at => {
                known.extend(lessons.into_iter().filter(|lesson| *lesson != Lesson::Asked));
            }
            _ => merged.push((at, lessons)),
        }
    }
    merged
}
