//! What other policies would have made of a run from a moment on, and whether that would have been better.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;
use whimbrel_core::policy::presets;
use whimbrel_sim::{Run, SimError, Simulation};

use super::words;
use crate::compare::Contender;
use crate::result::{MigrationRecord, milliseconds};
use crate::scenario::PolicySpec;

/// A preset, with those of `shared` that it has and takes: a downtime limit that was wished for the run is wished
/// for all. None if there is no such preset.
pub fn preset(name: &str, shared: &BTreeMap<String, String>) -> Option<Contender> {
    let preset = presets::find(name)?;
    let shared = shared.iter().filter(|(name, _)| preset.parameter(name).is_some());
    let shared: BTreeMap<_, _> = shared.map(|(name, value)| (name.clone(), value.clone())).collect();
    let policy = preset.build(&shared).or_else(|_| preset.build(&BTreeMap::new())).ok()?;
    Some(Contender::new(name, policy))
}

/// Every preset but the run's own, with the parameters that they share with it.
pub fn contenders(own: &PolicySpec) -> Vec<Contender> {
    let names = presets::PRESETS.iter().map(|preset| preset.name).filter(|name| *name != own.preset);
    names.filter_map(|name| preset(name, &own.parameters)).collect()
}

/// How a branch compares with what happened. Two figures that nobody would tell apart count as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verdict {
    /// It brings the guest over, and the run did not; at which price, the figures say.
    Completes,
    /// Better by at least one of total time, downtime, bytes and guest loss, and worse by none.
    Better,
    /// Better by some and worse by others.
    Traded,
    /// The same.
    Same,
    /// Worse by some and better by none.
    Worse,
    /// It does not bring the guest over, and the run did; or it loses the guest.
    Fails,
}

impl Verdict {
    /// A word for tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completes => "completes",
            Self::Better => "better",
            Self::Traded => "traded",
            Self::Same => "same",
            Self::Worse => "worse",
            Self::Fails => "fails",
        }
    }
}

/// A run continued under another policy.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Branch {
    /// The policy.
    pub policy: String,
    /// Whether that would have been better.
    pub verdict: Verdict,
    /// What it came to, without its rounds.
    pub run: MigrationRecord,
    /// Less what happened: total time, milliseconds.
    pub total_ms: f64,
    /// Less what happened: downtime, milliseconds.
    pub downtime_ms: f64,
    /// Less what happened: bytes sent.
    pub sent_bytes: f64,
    /// Less what happened: what the guest lost, vCPU-seconds.
    pub disruption_vcpu_s: f64,
    /// The verdict and its reason, in a sentence.
    pub sentence: String,
    /// What was pending from the moment on: `(milliseconds, bytes)` at the start of each round.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// Continues a run under each of `others`, on all cores. Those that are better come first; among those of the
/// same verdict, those that lose the guest less.
pub(super) fn branches(
    simulation: &Simulation<'_>,
    others: &[Contender],
    happened: &MigrationRecord,
) -> Result<Vec<Branch>, SimError> {
    if !super::is_open(simulation) {
        return Ok(Vec::new());
    }
    let branch = |other: &Contender| -> Result<Branch, SimError> {
        let mut fork = simulation.clone();
        fork.replace_policy(other.policy.clone())?;
        let from = milliseconds(simulation.now().as_duration());
        Ok(Branch::new(other, &fork.finish()?, from, simulation, happened))
    };
    let mut branches = others.par_iter().map(branch).collect::<Result<Vec<_>, _>>()?;
    branches.sort_by(|a, b| {
        let lost = |branch: &Branch| branch.disruption_vcpu_s;
        a.verdict.cmp(&b.verdict).then(lost(a).total_cmp(&lost(b))).then_with(|| a.policy.cmp(&b.policy))
    });
    Ok(branches)
}

/// How well a run ended; more is better.
fn rank(record: &MigrationRecord) -> u8 {
    match record.outcome {
        "completed" => 3,
        "guest-lost" => 0,
        "in-doubt" => 1,
        // In post-copy the guest is left there without its pages.
        "timed-out" if record.post_copy.missing_pages > 0 => 1,
        _ => 2,
    }
}

/// A figure by which runs are judged: what it is called, and a difference that nobody would notice, as a share
/// and at least.
struct Figure {
    less: &'static str,
    more: &'static str,
    of: fn(&MigrationRecord) -> f64,
    told: fn(f64) -> String,
    share: f64,
    least: f64,
}

const FIGURES: [Figure; 4] = [
    Figure {
        less: "sooner",
        more: "later",
        of: |record| record.total_ms,
        told: |value| crate::table::milliseconds(Some(value)),
        share: 0.01,
        least: 10.0,
    },
    Figure {
        less: "less downtime",
        more: "more downtime",
        of: |record| record.downtime_ms + record.paused_in_vain_ms,
        told: |value| crate::table::milliseconds(Some(value)),
        share: 0.05,
        least: 5.0,
    },
    Figure {
        less: "less sent",
        more: "more sent",
        of: |record| record.sent_bytes as f64,
        told: |value| words::human(value as u64),
        share: 0.01,
        least: 1024.0 * 1024.0,
    },
    Figure {
        less: "vCPU-s less lost",
        more: "vCPU-s more lost",
        of: |record| record.disruption_vcpu_s,
        told: |value| format!("{value:.2}"),
        share: 0.05,
        least: 0.02,
    },
];

impl Figure {
    /// By how much `other` differs from `happened`, if anybody would notice.
    fn difference(&self, happened: &MigrationRecord, other: &MigrationRecord) -> Option<f64> {
        let (before, after) = ((self.of)(happened), (self.of)(other));
        let noticed = (before.abs().max(after.abs()) * self.share).max(self.least);
        let difference = after - before;
        (difference.abs() >= noticed).then_some(difference)
    }
}

impl Branch {
    fn new(
        other: &Contender,
        run: &Run,
        from: f64,
        simulation: &Simulation<'_>,
        happened: &MigrationRecord,
    ) -> Self {
        let record = MigrationRecord::of(run, happened.seed).totals_only();
        let differences: Vec<(&Figure, f64)> = FIGURES
            .iter()
            .filter_map(|figure| Some((figure, figure.difference(happened, &record)?)))
            .collect();
        let verdict = judge(happened, &record, &differences);
        let page = simulation.progress().page_size;
        let curve = super::curve(&run.report.rounds, page);
        let sentence = sentence(&record, verdict, &differences, rank(happened) == rank(&record));
        Self {
            policy: other.name.clone(),
            verdict,
            total_ms: record.total_ms - happened.total_ms,
            downtime_ms: record.downtime_ms - happened.downtime_ms,
            sent_bytes: record.sent_bytes as f64 - happened.sent_bytes as f64,
            disruption_vcpu_s: record.disruption_vcpu_s - happened.disruption_vcpu_s,
            sentence,
            curve: curve.into_iter().filter(|(at, _)| *at >= from).collect(),
            run: record,
        }
    }
}

fn judge(happened: &MigrationRecord, other: &MigrationRecord, differences: &[(&Figure, f64)]) -> Verdict {
    match rank(other).cmp(&rank(happened)) {
        Ordering::Greater if other.outcome == "completed" => return Verdict::Completes,
        Ordering::Greater => return Verdict::Better,
        Ordering::Less => return Verdict::Fails,
        Ordering::Equal => {}
    }
    let better = differences.iter().any(|(_, difference)| *difference < 0.0);
    let worse = differences.iter().any(|(_, difference)| *difference > 0.0);
    match (better, worse) {
        (true, false) => Verdict::Better,
        (true, true) => Verdict::Traded,
        (false, true) => Verdict::Worse,
        (false, false) => Verdict::Same,
    }
}

fn sentence(
    record: &MigrationRecord,
    verdict: Verdict,
    differences: &[(&Figure, f64)],
    same_end: bool,
) -> String {
    let why = if record.why.is_empty() { String::new() } else { format!(": {}", record.why) };
    let forced = match (record.outcome, record.converged) {
        ("completed", false) if record.post_copy.missing_pages > 0 => " by post-copy",
        ("completed", false) => " by force",
        _ => "",
    };
    let ended =
        format!("{}{forced} after {}", record.outcome, crate::table::milliseconds(Some(record.total_ms)));
    if verdict == Verdict::Same {
        return format!("The same: {ended}{why}.");
    }
    let told: Vec<String> = differences
        .iter()
        .map(|(figure, difference)| {
            let words = if *difference < 0.0 { figure.less } else { figure.more };
            format!("{} {words}", (figure.told)(difference.abs()))
        })
        .collect();
    let word = match verdict {
        Verdict::Completes => "It would have brought the guest over",
        Verdict::Better => "Better",
        Verdict::Fails => "It would have failed",
        Verdict::Worse => "Worse",
        _ => "A trade",
    };
    let told = match (same_end, record.outcome) {
        (true, _) if !told.is_empty() => format!(" ({})", told.join(", ")),
        (false, "completed") => format!(
            " ({} of downtime, {:.2} vCPU-s lost)",
            crate::table::milliseconds(Some(record.downtime_ms)),
            record.disruption_vcpu_s
        ),
        _ => String::new(),
    };
    format!("{word}: {ended}{told}{why}.")
}

/// What the branches of a moment come to.
pub(super) fn summary(branches: &[Branch], open: bool) -> Vec<String> {
    if !open {
        return vec![
            "How the run ends was decided by then; no policy was asked any more, and none could have changed it."
                .to_owned(),
        ];
    }
    let of = |verdict: Verdict| branches.iter().filter(move |branch| branch.verdict == verdict);
    let words = [
        (Verdict::Completes, "would have brought the guest over"),
        (Verdict::Better, "would have done better"),
        (Verdict::Traded, "would have traded one loss for another"),
        (Verdict::Same, "would have done the same"),
        (Verdict::Worse, "would have done worse"),
        (Verdict::Fails, "would have failed"),
    ];
    let counts: Vec<String> = words
        .into_iter()
        .map(|(verdict, words)| (of(verdict).count(), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    let others = if branches.len() == 1 { "other policy" } else { "other policies" };
    let mut told = vec![format!("Of {} {others} {}.", branches.len(), counts.join(", "))];
    let mut name = |what: &str, best: Option<&Branch>| {
        if let Some(best) = best {
            told.push(format!("{what} would have been {}. {}", best.policy, best.sentence));
        }
    };
    let least =
        |verdict, figure: fn(&Branch) -> f64| of(verdict).min_by(|a, b| figure(a).total_cmp(&figure(b)));
    let gentlest = |branch: &Branch| branch.disruption_vcpu_s;
    if of(Verdict::Completes).next().is_some() {
        let shortest = least(Verdict::Completes, |branch| branch.downtime_ms);
        let gentle = least(Verdict::Completes, gentlest);
        name("Shortest away", shortest);
        name("Gentlest on the guest", gentle.filter(|gentle| !is(shortest, gentle)));
    } else if of(Verdict::Better).next().is_none() {
        let soonest = least(Verdict::Traded, |branch| branch.total_ms);
        let gentle = least(Verdict::Traded, gentlest);
        name("Soonest over", soonest);
        name("Gentlest on the guest", gentle.filter(|gentle| !is(soonest, gentle)));
    }
    name("Best for the guest, and worse in nothing,", least(Verdict::Better, gentlest));
    told
}

fn is(branch: Option<&Branch>, other: &Branch) -> bool {
    branch.is_some_and(|branch| branch.policy == other.policy)
}
