//! What a simulated migration came to, told by somebody who sees both sides.

use whimbrel_core::machine::{DestinationPhase, SourcePhase};
use whimbrel_core::report::{Outcome, Report};
use whimbrel_core::units::Pages;

use super::simulation::Simulation;
use super::{GuestAt, Run};
use crate::guest::Lost;

impl Simulation<'_> {
    /// In post-copy the world knows better than the source how it ended.
    fn name_the_end(&self, report: &mut Report) {
        // A source in doubt does not even know that the guest runs there.
        let lacks_pages = self.source.phase() == SourcePhase::PostCopy
            && self.destination.phase() == DestinationPhase::Filling;
        let (outcome, why) = if self.is_out_of_time() {
            (
                Outcome::TimedOut,
                "the time limit was reached in post-copy: the guest runs at the destination and lacks pages",
            )
        } else if lacks_pages && !self.connected {
            (
                Outcome::GuestLost,
                "the connection was lost in post-copy: the guest lacks pages that only the source has",
            )
        } else {
            return;
        };
        report.outcome = outcome;
        why.clone_into(&mut report.why);
    }

    /// With a witness: whether what was sent is the guest's memory.
    pub(super) fn copied(&self) -> Option<bool> {
        self.witness.as_ref().map(|witness| witness.differs(&self.guest).is_none())
    }

    pub(super) fn into_run(mut self) -> Run {
        self.guest.advance(self.now);
        let disruption = Lost { post_copy: self.post_copy.stalled(self.now), ..self.guest.lost() };
        let silence = self.runs_there.zip(self.paused_at).map(|(there, here)| there.since(here));
        let mut report = self.source.report(self.now);
        let commit_as_told = silence.map(|_| report.downtime.commit);
        if let (Outcome::Completed, Some(silence)) = (report.outcome, silence) {
            // The source takes the way of *go* for half of the way there and back. Here both clocks are
            // known, and an outage on one way is not.
            let others = report.downtime.total().saturating_sub(report.downtime.commit);
            report.downtime.commit = silence.saturating_sub(others);
            self.count_first_pages(&mut report.downtime);
        }
        self.name_the_end(&mut report);
        let announced = silence.map(|silence| silence + self.setup.host.announce);
        if self.post_copy.is_used() && report.outcome == Outcome::Completed {
            self.copy_exact = self.copied();
        }
        let seen = report.downtime.total();
        let [full, zero] = report.rounds.iter().fold([Pages(0); 2], |[full, zero], round| {
            let whole = round.sent_pages.saturating_sub(round.zero_pages);
            [full.saturating_add(whole), zero.saturating_add(round.zero_pages)]
        });
        let guest_at = match (self.runs_here, self.runs_there.is_some()) {
            (true, false) => GuestAt::Source,
            (false, true) => GuestAt::Destination,
            (false, false) => GuestAt::Nowhere,
            (true, true) => GuestAt::Both,
        };
        Run {
            report,
            disruption,
            unchanged_pages: self.unchanged,
            encoding: self.sender.encoding(full, zero),
            handed_over: self.handed_over,
            silence,
            commit_as_told,
            unreachable: announced.map(|announced| announced.max(seen)),
            near_threshold: None,
            clean: !self.tracking && !self.throttled,
            guest_at,
            copy_exact: self.copy_exact,
            journal: self.source.into_journal(),
        }
    }
}
