//! Rounds while the guest runs here: what was sent and harvested goes to the controller, and what the policy
//! decides is done.
//!
//! Everything else of a migration happens once, this some fifty times; a simulator makes millions. So the two
//! events of a round have methods of their own, which [`Source::handle`] calls too.

use std::mem::ManuallyDrop;

use super::super::MachineError;
use super::super::event::{PlainSourceAction, SourceAction, SourceEvent, Transmit};
use super::super::handoff;
use super::super::phase::{SourceEventKind, SourcePhase};
use super::post_copy::PostCopy;
use super::{Source, Why};
use crate::controller::{Harvested, Ruling, Transmitted};
use crate::dirty::Stock;
use crate::policy::{Decision, Gate as GateRule, SwitchoverWhen};
use crate::progress::Moment;
use crate::report::Outcome;
use crate::units::{Pages, Timestamp};

impl<S: Stock> Source<S> {
    /// [`Source::handle`] of [`SourceEvent::Transmitted`], for drivers that have it as such.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline(always)]
    pub fn transmitted(&mut self, now: Timestamp, sent: &Transmitted) -> Result<(), MachineError> {
        if self.phase != SourcePhase::Sending {
            return self.transmitted_otherwise(now, sent);
        }
        self.check_count(sent.pending.saturating_add(sent.skipped))?;
        if self.controller.journal().is_recording() {
            self.controller.journal_mut().event(now, &SourceEvent::Transmitted(*sent));
        }
        self.pages_sent(now, sent);
        self.check_step(SourcePhase::Sending, SourceEventKind::Transmitted);
        Ok(())
    }

    /// [`Source::handle`] of [`SourceEvent::Harvested`], for drivers that have it as such.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline(always)]
    pub fn harvested(&mut self, now: Timestamp, harvested: &Harvested) -> Result<(), MachineError> {
        if self.phase != SourcePhase::Harvesting {
            return self.harvested_otherwise(now, harvested);
        }
        self.check_count(harvested.pending)?;
        if self.controller.journal().is_recording() {
            self.controller.journal_mut().event(now, &SourceEvent::Harvested(*harvested));
        }
        self.next_round(now, harvested);
        self.check_step(SourcePhase::Harvesting, SourceEventKind::Harvested);
        Ok(())
    }

    #[inline(never)]
    fn transmitted_otherwise(&mut self, now: Timestamp, sent: &Transmitted) -> Result<(), MachineError> {
        self.take_known(now, &mut ManuallyDrop::new(SourceEvent::Transmitted(*sent)))
    }

    #[inline(never)]
    fn harvested_otherwise(&mut self, now: Timestamp, harvested: &Harvested) -> Result<(), MachineError> {
        self.take_known(now, &mut ManuallyDrop::new(SourceEvent::Harvested(*harvested)))
    }

    /// Whether as many pages are pending as the driver says. A replay has none.
    #[inline]
    fn check_count(&self, claimed: Pages) -> Result<(), MachineError> {
        if self.backlog.holds(claimed) || self.replaying {
            return Ok(());
        }
        Err(MachineError::Miscounted { claimed, pending: self.backlog.pending() })
    }

    /// That the table names the step that was made.
    #[inline]
    pub(super) fn check_step(&self, before: SourcePhase, event: SourceEventKind) {
        debug_assert!(
            before.after(event).contains(&self.phase),
            "{before:?} --{event:?}--> {:?} is not in the table",
            self.phase
        );
    }

    pub(super) fn bulk_round(&mut self, now: Timestamp) {
        let memory = self.controller.progress().memory;
        let all = Harvested { dirtied: memory, pending: memory, ..Harvested::default() };
        self.rounds.begin(now, &all, None);
        let ruling = self.controller.begin_bulk_round(now);
        self.obey(now, Moment::RoundStart, ruling);
    }

    #[inline(always)]
    fn next_round(&mut self, now: Timestamp, harvested: &Harvested) {
        self.controller.fixed_cost(now.since(self.harvest_asked));
        let ruling = self.controller.take_harvest(now, harvested);
        let progress = self.controller.progress();
        if progress.paused {
            self.rounds.begin_held(now, harvested, progress.dirty_rate);
        } else {
            self.rounds.begin(now, harvested, progress.dirty_rate);
        }
        self.rounds.foreseen(self.controller.outlook());
        self.obey(now, Moment::RoundStart, ruling);
    }

    #[inline(always)]
    fn pages_sent(&mut self, now: Timestamp, sent: &Transmitted) {
        self.rounds.sent(sent);
        if self.last_round {
            self.controller.count(now, sent);
            if sent.pending == Pages(0) {
                self.round_sent(now);
            } else {
                self.transmit();
            }
            return;
        }
        match self.controller.take_sent(now, sent) {
            Some(ruling) => self.obey(now, Moment::Tick, ruling),
            None => self.round_sent(now),
        }
    }

    /// Everything of this round is with the transport.
    #[inline(always)]
    fn round_sent(&mut self, now: Timestamp) {
        if self.controller.cadence().gate == GateRule::Wait {
            self.close_round(now);
            self.phase = SourcePhase::Gating;
            self.await_answer(now);
        } else {
            self.round_ended(now);
        }
    }

    /// Everything of this round is sent, and acknowledged if the policy waits for that.
    #[inline(always)]
    fn round_ended(&mut self, now: Timestamp) {
        if self.last_round {
            self.pause(now);
        } else {
            let ruling = self.controller.end_round(now);
            self.obey(now, Moment::RoundEnd, ruling);
        }
    }

    pub(super) fn acknowledged(&mut self, now: Timestamp, round: u32) -> Result<(), MachineError> {
        if let Some((gate, awaited)) = self.awaited
            && round >= awaited
        {
            self.backlog.acknowledge(gate)?;
            self.awaited = None;
            self.controller.round_acknowledged(now);
            if self.phase == SourcePhase::PostCopy {
                self.nothing_is_missing(now);
            }
        }
        if self.phase == SourcePhase::Gating && round >= self.controller.progress().round {
            self.deadline = None;
            self.round_ended(now);
        }
        Ok(())
    }

    /// Does what the policy decided.
    #[inline(always)]
    fn obey(&mut self, now: Timestamp, moment: Moment, ruling: Ruling) {
        if ruling.adjusts {
            self.adjust();
        }
        if let (false, Some(verdict)) = (self.rounds.only_counts(), self.controller.verdict()) {
            self.rounds.decided(now, self.controller.progress().throttle, verdict);
        }
        match (ruling.decision, moment) {
            (Decision::Harvest, _) | (Decision::Continue, Moment::RoundEnd) => self.harvest(now),
            (Decision::Continue, _) => self.go_on(now, moment),
            (decision, _) => self.turn(now, moment, decision),
        }
    }

    #[inline(always)]
    fn go_on(&mut self, now: Timestamp, moment: Moment) {
        match moment {
            Moment::RoundEnd => self.harvest(now),
            Moment::RoundStart if self.controller.progress().pending == Pages(0) => {
                self.round_ended_empty(now);
            }
            Moment::RoundStart | Moment::Tick => self.transmit(),
        }
    }

    #[inline(never)]
    fn adjust(&mut self) {
        let adjust = self.controller.adjustments();
        if let Some(throttle) = adjust.throttle {
            self.actions.push_any(SourceAction::Throttle(throttle));
        }
        if let Some(limit) = adjust.rate_limit {
            self.actions.push_any(SourceAction::Limit(limit));
        }
    }

    /// A decision that is made once or twice in a migration.
    #[inline(never)]
    fn turn(&mut self, now: Timestamp, moment: Moment, decision: Decision) {
        match decision {
            Decision::Pause if !self.controller.progress().paused => self.pause(now),
            Decision::Continue | Decision::Pause => self.go_on(now, moment),
            Decision::Harvest => self.harvest(now),
            Decision::Switchover { when, forced } => {
                let paused = self.controller.progress().paused;
                self.end_with(Outcome::Completed, Why::Rule { paused }, forced);
                let later = when == SwitchoverWhen::AfterRound
                    && moment != Moment::RoundEnd
                    && self.controller.progress().pending > Pages(0);
                if later {
                    self.last_round = true;
                    self.transmit();
                } else {
                    self.pause(now);
                }
            }
            Decision::Abort => self.give_up(now, Outcome::Aborted, Why::Rule { paused: false }),
            Decision::PostCopy => {
                self.end_with(Outcome::Completed, Why::Rule { paused: false }, true);
                self.post_copy = Some(PostCopy::default());
                self.pause(now);
            }
        }
    }

    /// A round in which nothing was to be sent is over at once.
    #[cold]
    fn round_ended_empty(&mut self, now: Timestamp) {
        let ruling = self.controller.end_round(now);
        self.obey(now, Moment::RoundEnd, ruling);
    }

    #[inline(always)]
    fn transmit(&mut self) {
        self.phase = SourcePhase::Sending;
        let slice = if self.last_round { None } else { self.controller.cadence().tick };
        self.actions.transmit(Transmit { slice, last: false });
    }

    #[inline(always)]
    pub(super) fn harvest(&mut self, now: Timestamp) {
        if self.controller.cadence().gate == GateRule::Pipelined {
            self.close_round(now);
        }
        self.rounds.close(now);
        self.harvest_asked = now;
        self.phase = SourcePhase::Harvesting;
        self.actions.harvest();
    }

    /// Tells the destination that a round is sent. If the gate before is still closed, this round's
    /// pages stay in flight with the next round's: later than need be, never too early.
    #[inline(always)]
    fn close_round(&mut self, now: Timestamp) {
        let round = self.controller.progress().round;
        // A policy that took over at the gate may want none.
        if self.closed.replace(round) == Some(round) {
            return;
        }
        self.actions.end_round(round);
        if self.awaited.is_none()
            && let Ok(gate) = self.backlog.close_gate()
        {
            self.awaited = Some((gate, round));
            self.controller.round_closed(now);
        }
    }

    /// Pauses the guest; one that its policy has paused already is handed over.
    fn pause(&mut self, now: Timestamp) {
        if self.controller.progress().paused {
            self.stopwatch.held_until = now;
            self.rounds.close(now);
            self.last_harvest();
            return;
        }
        // Cannot fail: a policy is asked only while the guest is ours, and here it runs.
        let paused = self.handoff.handle(handoff::SourceEvent::Pause);
        debug_assert!(paused.is_ok());
        self.stopwatch.pause_asked = now;
        self.rounds.close(now);
        self.phase = SourcePhase::Pausing;
        self.actions.push(PlainSourceAction::Pause);
    }
}
