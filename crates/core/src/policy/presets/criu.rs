//! `criu-phaul`: when p.haul ends its pre-dumps of a container (R2).
//!
//! [`RULE`] is the rule.
//!
//! * Decides once a pre-dump, after it, by pages alone: no time, no bandwidth, no downtime.
//! * Growth ends it: a guest that dirties more than before will not get better by waiting.
//! * The first pre-dump has none before it: the rule in per cent is not asked then. The older rule is, with
//!   nothing written before, and so it ends nearly every migration after one pre-dump.

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source, unknown_above};
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::{Pages, Share};

/// Pre-dumps until one is small, one has grown, or there were enough.
#[derive(Clone, Debug, PartialEq)]
pub struct CriuPhaul {
    /// Pre-dumps, the full one counted, after which the rest is dumped in any case.
    pub max_iterations: u32,
    /// A pre-dump of fewer pages is the last.
    pub min_pages: Pages,
    /// A pre-dump that has grown by more than this share of the one before is the last.
    pub max_growth: Share,
    /// The older rule in its place: grown by at least so many pages.
    pub max_growth_pages: Option<u32>,
    /// What the pre-dump before wrote.
    written: Pages,
}

/// The word for not having the older rule.
const OFF: &str = "off";

/// The rule in short, at the defaults.
const RULE: &str = "\
after each pre-dump, with the pages that it wrote:
    8 pre-dumps are done, or it wrote < 64 pages: last
    it wrote more than 10 % above what the one before wrote: last
        (a rule of older versions: >= 32 pages more)
freeze, dump the rest, restore";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "Not certain: versions differ in the growth rule (both are here, the strictness of each as read) \
     and in whether they count the first pre-dump as 1, as here, or as 0, which makes nine of eight.",
    "CRIU does not write zero pages; the pages counted here are those sent, zero pages among them.",
];

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "criu-phaul",
    summary: "CRIU's p.haul: at most 8 pre-dumps, fewer if one is small or more than 10 % larger than the \
              one before.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Source {
        tag: "R2",
        what: "checkpoint-restore/go-criu phaul/client.go",
        version: "0434b6a9 (growth in pages) and a version with growth in per cent",
    }],
    parameters: &[
        ParameterInfo {
            name: "max-iterations",
            kind: ParameterKind::Count,
            default: "8",
            doc: "Pre-dumps, the full one counted, before the rest is dumped in any case.",
            source: "R2",
        },
        ParameterInfo {
            name: "min-pages",
            kind: ParameterKind::Pages,
            default: "64",
            doc: "A pre-dump that wrote fewer pages is the last.",
            source: "R2",
        },
        ParameterInfo {
            name: "max-growth",
            kind: ParameterKind::Share,
            default: "10%",
            doc: "A pre-dump that wrote more than the one before and this share of it is the last.",
            source: "R2",
        },
        ParameterInfo {
            name: "max-growth-pages",
            kind: ParameterKind::OptionalCount { none: OFF },
            default: OFF,
            doc: "The rule of other versions in place of max-growth: at least so many pages more (32 there).",
            source: "R2",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(CriuPhaul {
        max_iterations: given.count("max-iterations")?,
        min_pages: given.pages("min-pages")?,
        max_growth: given.share("max-growth")?,
        max_growth_pages: given.optional_count("max-growth-pages")?,
        written: Pages::ZERO,
    }))
}

impl CriuPhaul {
    /// Whether a pre-dump of `written` pages has grown too much, and with what it was compared.
    fn growth(&self, written: Pages) -> (bool, Reason) {
        let left = ("written", Quantity::Pages(written));
        let before = ("before", Quantity::Pages(self.written));
        if let Some(more) = self.max_growth_pages {
            let bound = self.written.saturating_add(Pages(more.into()));
            let grown = written >= bound;
            let relation = if grown { Relation::AtLeast } else { Relation::Below };
            return (
                grown,
                Reason::new(left, relation, ("bound", Quantity::Pages(bound))).with(before.0, before.1),
            );
        }
        if self.written.is_zero() {
            let small = ("min-pages", Quantity::Pages(self.min_pages));
            return (false, Reason::new(left, Relation::AtLeast, small));
        }
        let bound = self.written.as_f64() * (1.0 + self.max_growth.as_f64());
        let grown = written.as_f64() > bound;
        let relation = if grown { Relation::Above } else { Relation::AtMost };
        // Whole pages are above a bound exactly if they are above its floor.
        let bound = ("bound", Quantity::Pages(Pages(bound as u64)));
        let reason = Reason::new(left, relation, bound)
            .with(before.0, before.1)
            .with("max-growth", Quantity::Share(self.max_growth));
        (grown, reason)
    }

    fn after_pre_dump(&self, progress: &Progress) -> Verdict {
        let last =
            |forced, reason| Verdict::new(Decision::Switchover { when: SwitchoverWhen::Now, forced }, reason);
        let written = progress.round_sent_pages;
        let done = u64::from(progress.round) + 1;
        if written < self.min_pages {
            let small = ("min-pages", Quantity::Pages(self.min_pages));
            return last(false, Reason::new(("written", Quantity::Pages(written)), Relation::Below, small));
        }
        if done >= u64::from(self.max_iterations) {
            let most = ("max-iterations", Quantity::Count(self.max_iterations.into()));
            let reason = Reason::new(("pre-dumps", Quantity::Count(done)), Relation::AtLeast, most)
                .with("written", Quantity::Pages(written));
            return last(true, reason);
        }
        match self.growth(written) {
            (true, reason) => last(true, reason),
            (false, reason) => Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END),
        }
    }
}

impl Policy for CriuPhaul {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let pages = self.max_growth_pages.map_or_else(|| OFF.to_owned(), |pages| pages.to_string());
        vec![
            ("max-iterations", self.max_iterations.to_string()),
            ("min-pages", self.min_pages.to_string()),
            ("max-growth", self.max_growth.to_string()),
            ("max-growth-pages", pages),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Wait }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        if moment != Moment::RoundEnd {
            let small = ("min-pages", Quantity::Pages(self.min_pages));
            return Verdict::new(Decision::Continue, unknown_above("written", small))
                .holding(Until::ROUND_END);
        }
        let verdict = self.after_pre_dump(progress);
        self.written = progress.round_sent_pages;
        verdict
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Situation, Step, steps};
    use super::*;

    fn phaul() -> CriuPhaul {
        CriuPhaul {
            max_iterations: 8,
            min_pages: Pages(64),
            max_growth: Share::percent(10),
            max_growth_pages: None,
            written: Pages::ZERO,
        }
    }

    /// The pre-dumps that are made where they would write so many pages, and how the last one ends.
    fn pre_dumps(policy: &mut CriuPhaul, written: &[u64]) -> (usize, Decision) {
        let ends: Vec<_> = written
            .iter()
            .enumerate()
            .map(|(round, &pages)| {
                let mut end = Situation::new("pre-dump", Moment::RoundEnd, round as u32, 0);
                end.progress.round_sent_pages = Pages(pages);
                end
            })
            .collect();
        let steps: Vec<Step> = steps(policy, &ends);
        (steps.len(), steps.last().expect("asked").verdict.decision)
    }

    const fn last(forced: bool) -> Decision {
        Decision::Switchover { when: SwitchoverWhen::Now, forced }
    }

    #[test]
    fn the_eighth_pre_dump_is_the_last() {
        assert_eq!(pre_dumps(&mut phaul(), &[1_000; 20]), (8, last(true)));
    }

    #[test]
    fn fewer_than_64_pages_are_the_last_pre_dump() {
        assert_eq!(pre_dumps(&mut phaul(), &[1_000, 64]), (2, Decision::Continue));
        assert_eq!(pre_dumps(&mut phaul(), &[1_000, 63]), (2, last(false)));
    }

    #[test]
    fn more_than_a_tenth_of_growth_is_too_much_and_a_tenth_is_not() {
        assert_eq!(pre_dumps(&mut phaul(), &[9_000, 1_000, 1_100]), (3, Decision::Continue));
        assert_eq!(pre_dumps(&mut phaul(), &[9_000, 1_000, 1_101]), (3, last(true)));
    }

    #[test]
    fn growth_is_against_the_pre_dump_before_and_not_against_the_least() {
        assert_eq!(pre_dumps(&mut phaul(), &[9_000, 1_000, 1_100, 1_200, 1_300]), (5, Decision::Continue));
    }

    #[test]
    fn the_older_rule_counts_pages_and_ends_after_the_first_pre_dump() {
        let mut older = CriuPhaul { max_growth_pages: Some(32), ..phaul() };
        assert_eq!(pre_dumps(&mut older.clone(), &[1_000]), (1, last(true)));
        older.written = Pages(1_000);
        assert_eq!(pre_dumps(&mut older.clone(), &[1_031]), (1, Decision::Continue));
        assert_eq!(pre_dumps(&mut older, &[1_032]), (1, last(true)));
    }

    #[test]
    fn nothing_is_decided_before_a_pre_dump_is_done() {
        for moment in [Moment::RoundStart, Moment::Tick] {
            let asked = Situation::new("asked", moment, 9, 0).at("1Gbit/s").after("9h");
            assert_eq!(phaul().decide(asked.moment, &asked.progress).decision, Decision::Continue);
        }
    }
}
