//! The policy is asked, and what it answered is kept for as long as somebody may want it.
//!
//! The controller asks here at its three moments, when the record is up to date; whoever drives it reads here what was
//! decided. A verdict is written to the journal before it is obeyed, and never changed but for what a policy that took
//! over still owes. Millions of verdicts only go on: most of what is here makes them cheap.

use super::Controller;
use crate::policy::{Adjustments, Decision, Reason, Until, Verdict};
use crate::progress::Moment;

/// What is to be done; the rest is in [`Controller::verdict`], to be copied by who wants to keep it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruling {
    pub(crate) decision: Decision,
    /// The verdict's adjustments are to be made.
    pub(crate) adjusts: bool,
}

/// What is kept of a verdict whatever becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gist {
    decision: Decision,
    pub(super) until: Until,
    /// How many pages more or fewer would have changed what was compared.
    pages_apart: Option<f64>,
    /// The last verdict that was kept is this one.
    kept: bool,
}

impl Gist {
    /// Of a policy that was not asked yet.
    pub(super) const NONE: Self =
        Self { decision: Decision::Continue, until: Until::NEXT, pages_apart: None, kept: false };
}

impl Controller {
    /// Lets go of verdicts that only go on: to keep them takes as long as everything else here.
    pub(crate) fn forget_reasons(&mut self) {
        self.forgetful = true;
    }

    /// The policy's last answer, if it was asked; its adjustments were made. None, too, of a source that only
    /// [counts its rounds](crate::machine::Source::counting_rounds) while it goes on.
    #[inline]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.last.as_ref().filter(|_| self.gist.kept)
    }

    /// What the policy decided last; to go on, if it was not asked yet.
    #[inline]
    pub fn decision(&self) -> Decision {
        self.gist.decision
    }

    /// How many pages more or fewer would have changed what the policy compared last; none if it was not about pages.
    #[inline]
    pub fn pages_apart(&self) -> Option<f64> {
        self.gist.pages_apart
    }

    /// Until when every tick gets the same answer, so that nobody needs to report the ticks before; none if
    /// the next one is to be asked.
    #[inline]
    pub fn holds_until(&self) -> Option<Until> {
        (self.stands && self.skipping).then_some(self.gist.until)
    }

    /// Asks the policy at the next tick, whatever it said.
    pub(crate) fn ask_at_the_next_tick(&mut self) {
        self.stands = false;
    }

    /// The last verdict, with what it adjusts if that is to be done now.
    pub(super) fn whole(&self, ruling: Ruling) -> Verdict {
        match self.verdict().cloned() {
            Some(last) if ruling.adjusts => last,
            Some(last) => last.adjusting(Adjustments::default()),
            // Cannot be: a ruling is made of a verdict.
            None => Verdict::new(ruling.decision, Reason::NONE),
        }
    }

    /// What the last verdict adjusts.
    pub(crate) fn adjustments(&self) -> Adjustments {
        self.last.as_ref().map_or_else(Adjustments::default, |last| last.adjust)
    }

    #[inline(never)]
    pub(super) fn ask(&mut self, moment: Moment) -> Ruling {
        self.ask_here(moment)
    }

    /// The same, put together anew where it is called: for the moments of every round.
    #[inline(always)]
    pub(super) fn ask_here(&mut self, moment: Moment) -> Ruling {
        let mut verdict = self.policy.decide(moment, &self.progress);
        if moment == Moment::RoundStart && self.cadence.tick.is_some() {
            self.cadence.tick = self.policy.cadence().tick;
        }
        if !self.owed.is_empty() {
            verdict.adjust = std::mem::take(&mut self.owed).replaced_by(verdict.adjust);
        }
        if self.journal.is_recording() {
            self.journal.decided(moment, &self.progress, &verdict);
        }
        self.gist.until = verdict.until;
        self.gist.pages_apart = verdict.reason.pages_apart(&self.progress);
        // Mostly it goes on, and of a verdict that was made just now every look as a whole takes its time.
        if matches!(verdict.decision, Decision::Continue) && verdict.adjust.is_empty() {
            self.stands = true;
            self.gist.decision = Decision::Continue;
            self.gist.kept = !self.forgetful;
            if !self.forgetful {
                self.last = Some(verdict);
            }
            return Ruling { decision: Decision::Continue, adjusts: false };
        }
        self.keep(verdict)
    }

    /// Keeps a verdict by which something changes.
    #[inline(never)]
    fn keep(&mut self, verdict: Verdict) -> Ruling {
        if let Some(throttle) = verdict.adjust.throttle {
            self.progress.throttle = throttle;
        }
        let ruling = Ruling { decision: verdict.decision, adjusts: !verdict.adjust.is_empty() };
        // Only "go on" can be repeated unasked.
        self.stands = ruling.decision == Decision::Continue;
        self.gist.decision = ruling.decision;
        self.gist.kept = !(self.forgetful && ruling.decision == Decision::Harvest && !ruling.adjusts);
        if self.gist.kept {
            self.last = Some(verdict);
        }
        ruling
    }
}
