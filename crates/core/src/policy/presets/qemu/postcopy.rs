//! `qemu-postcopy`: pre-copy, and post-copy once somebody asks for it (Q1, Q2).
//!
//! ```text
//! at each moment:
//!     QEMU's rule first: if it harvests or switches over, so be it
//!     time >= postcopy-after, or rounds >= postcopy-after-rounds: hand over, fetch the rest afterwards
//! ```
//!
//! * With `postcopy-ram` all memory counts as what can follow afterwards; what must go before is next to
//!   nothing, so post-copy starts at once when it is asked for, the first round or not, whatever is pending.
//! * A guest that converges before that switches over as without post-copy.
//! * What is pending at a round's end is harvested first: the rule has the word before post-copy.
//! * `max-bandwidth` does not hold afterwards: QEMU's `max-postcopy-bandwidth` is unlimited by default. (That
//!   parameter is not modelled.)
//!
//! QEMU never starts post-copy by itself: an administrator or a manager does (`migrate-start-postcopy`). The
//! two parameters stand for that person and are ours. While the migration runs, `postcopy-after` can be changed
//! to any time that has passed: that is the command.
//!
//! QEMU 8 compared only what must go before with the threshold for its exact count, and so harvested at every
//! slice where `postcopy-ram` was on. Newer QEMU compares all that is pending; that is modelled.

use std::time::Duration;

use super::limits::{self, DOWNTIME, MAX_BANDWIDTH, SWITCHOVER};
use super::{Q1, Q2, Q3, Q6, Qemu, QemuDefault, rate};
use crate::policy::presets::parameters::Given;
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError, PresetInfo};
use crate::policy::{Cadence, ChangeError, Decision, Policy, Quantity, RateLimit, Reason, Relation, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Timestamp, duration};

const AFTER: &str = "postcopy-after";
const AFTER_ROUNDS: &str = "postcopy-after-rounds";
const NEVER: &str = "never";

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "qemu-postcopy",
    summary: "QEMU with post-copy: as `qemu-default` for 10 s, then hands over and fetches the rest afterwards.",
    approximate: None,
    sources: &[Q1, Q2, Q3, Q6],
    parameters: &[
        DOWNTIME,
        SWITCHOVER,
        MAX_BANDWIDTH,
        ParameterInfo {
            name: AFTER,
            kind: ParameterKind::OptionalDuration { none: NEVER },
            default: "10s",
            doc: "When post-copy is asked for, from the start of the migration. QEMU leaves that to a person.",
            source: "ours",
        },
        ParameterInfo {
            name: AFTER_ROUNDS,
            kind: ParameterKind::OptionalCount { none: NEVER },
            default: NEVER,
            doc: "After how many rounds post-copy is asked for, the bulk round among them. QEMU leaves that to a \
                  person.",
            source: "ours",
        },
    ],
    build: |given| Ok(Box::new(QemuPostCopy::read(given)?)),
};

/// What an administrator changes of them while a migration runs: all.
const CHANGEABLE: [&str; 5] = [limits::NAMES[0], limits::NAMES[1], limits::NAMES[2], AFTER, AFTER_ROUNDS];

/// QEMU's rule, and post-copy after a time or a number of rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct QemuPostCopy {
    qemu: Qemu,
    after: Option<Duration>,
    after_rounds: Option<u32>,
}

impl QemuPostCopy {
    fn read(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            qemu: Qemu::new(QemuDefault::read(given)?),
            after: given.optional_duration(AFTER)?,
            after_rounds: given.optional_count(AFTER_ROUNDS)?,
        })
    }

    /// Why post-copy is asked for, if it is.
    fn asked_for(&self, progress: &Progress) -> Option<Reason> {
        let rule = |left, right| Reason::new(left, Relation::AtLeast, right);
        let by_time = self.after.filter(|&after| progress.elapsed() >= after).map(|after| {
            rule(("elapsed", Quantity::Duration(progress.elapsed())), (AFTER, Quantity::Duration(after)))
        });
        let by_rounds = || {
            self.after_rounds.filter(|&rounds| progress.round >= rounds).map(|rounds| {
                let done = ("rounds", Quantity::Count(progress.round.into()));
                rule(done, (AFTER_ROUNDS, Quantity::Count(rounds.into())))
            })
        };
        let pending = Quantity::Bytes(progress.pending_bytes());
        by_time.or_else(by_rounds).map(|reason| reason.with("pending", pending))
    }
}

impl Policy for QemuPostCopy {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut texts = limits::texts(&self.qemu.rule);
        let never = || NEVER.to_owned();
        texts.extend([
            (AFTER, self.after.map_or_else(never, duration::format)),
            (AFTER_ROUNDS, self.after_rounds.map_or_else(never, |rounds| rounds.to_string())),
        ]);
        texts
    }

    fn cadence(&self) -> Cadence {
        self.qemu.cadence()
    }

    fn needs(&self) -> Capabilities {
        Capabilities { post_copy: true, ..self.qemu.needs() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let mut verdict = self.qemu.decide(moment, progress);
        // At a round's end a harvest follows unasked, and then this is asked again.
        if verdict.decision != Decision::Continue || moment == Moment::RoundEnd {
            return verdict;
        }
        if let Some(reason) = self.asked_for(progress) {
            return Verdict::new(Decision::PostCopy, reason).adjusting(rate(RateLimit::Unlimited));
        }
        if let Some(after) = self.after {
            verdict.until.at = verdict.until.at.min(Timestamp::ZERO.saturating_add(after));
        }
        verdict
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        let fresh = limits::changed(self, (&INFO, &CHANGEABLE), (name, value), Self::read)?;
        self.qemu.rule = fresh.qemu.rule;
        self.after = fresh.after;
        self.after_rounds = fresh.after_rounds;
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
