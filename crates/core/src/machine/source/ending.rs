//! How a migration ends at the source: what the handoff says is carried out, what was set up is undone,
//! and it is told what it came to.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::super::event::{CancelReason, Failure, PlainSourceAction, SourceAction, Step};
use super::super::handoff::{self, Effect, Effects, HandoffMessage, Held, Notice, Right, StableRecord};
use super::super::message::Message;
use super::super::phase::SourcePhase;
use super::super::{MachineError, Replay};
use super::{Ending, Source, Why};
use crate::dirty::Stock;
use crate::journal::{Entry, Journal};
use crate::report::{Ledger, Outcome, Report};
use crate::throttle::Throttle;
use crate::units::Timestamp;

impl<S: Stock> Source<S> {
    /// Passes an event to the handoff and does what it says.
    pub(super) fn tell_handoff(
        &mut self,
        now: Timestamp,
        event: handoff::SourceEvent,
    ) -> Result<(), MachineError> {
        let effects = self.handoff.handle(event)?;
        self.carry_out(now, effects);
        Ok(())
    }

    #[inline(always)]
    pub(super) fn carry_out(&mut self, now: Timestamp, effects: Effects) {
        let mut lost = false;
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    self.phase = SourcePhase::Committing;
                    match record {
                        StableRecord::Go => self.actions.push(PlainSourceAction::PersistGo),
                        // The destination's, never asked for here.
                        StableRecord::Running => self.actions.push_any(SourceAction::Persist(record)),
                    }
                }
                Effect::Erase => self.actions.push(PlainSourceAction::Erase),
                Effect::Send(message) => {
                    if message == HandoffMessage::Go {
                        self.stopwatch.go(now);
                    }
                    if matches!(message, HandoffMessage::Go | HandoffMessage::Ask) {
                        self.phase = SourcePhase::AwaitingRunning;
                        self.await_answer(now);
                    }
                    match message {
                        HandoffMessage::Go => self.actions.push(PlainSourceAction::Go),
                        message => self.actions.push_any(SourceAction::Send(Message::handoff(message))),
                    }
                }
                Effect::ResumeGuest => {
                    self.duties.resuming = true;
                    self.actions.push(PlainSourceAction::Resume);
                }
                // Its memory is still wanted.
                Effect::ReleaseGuest if self.owes_pages() && self.handoff.right() == Right::Theirs => {}
                Effect::ReleaseGuest => self.actions.push(PlainSourceAction::Release),
                Effect::Report(Notice::InDoubt) => {
                    // Pages that the guest asked for early may have been lost on their way.
                    self.put_back();
                    self.phase = SourcePhase::InDoubt;
                    self.deadline = None;
                    self.actions.push_any(SourceAction::Reconnect);
                }
                Effect::Report(Notice::GuestLost) => lost = true,
                // Only destinations have replicas.
                Effect::DropReplica => {}
            }
        }
        self.follow_the_right(now, lost);
    }

    /// Where the right to run is now decides which way the migration ends.
    #[inline(always)]
    pub(super) fn follow_the_right(&mut self, now: Timestamp, lost: bool) {
        use SourcePhase as P;
        if matches!(self.phase, P::Idle | P::PostCopy | P::Returning | P::Releasing | P::Done) {
            return;
        }
        match self.handoff.right() {
            Right::Theirs => self.let_go(now),
            Right::Mine if !self.handoff.may_cancel() => self.keep(now, lost),
            Right::Mine | Right::Undecided => {}
        }
    }

    /// The guest is the destination's.
    fn let_go(&mut self, now: Timestamp) {
        if self.owes_pages() {
            return self.send_what_is_missing(now);
        }
        self.deadline = None;
        self.phase = SourcePhase::Releasing;
        self.clean_up(now);
    }

    /// The guest stays here.
    fn keep(&mut self, now: Timestamp, lost: bool) {
        if lost {
            self.end(Outcome::GuestLost, "the right to run is here, the guest's memory is not");
        } else {
            self.end(Outcome::Failed, "the destination has no replica");
        }
        self.deadline = None;
        self.phase = SourcePhase::Returning;
        if !self.handoff.is_settled() && !self.handoff.is_connected() {
            self.actions.push_any(SourceAction::Reconnect);
        }
        self.clean_up(now);
    }

    /// Undoes, in the reverse order of doing, what was set up for the migration.
    pub(super) fn clean_up(&mut self, now: Timestamp) {
        self.lift_the_burden();
        self.rounds.close(now);
        self.settle(now);
    }

    /// Ends what slows the guest.
    pub(super) fn lift_the_burden(&mut self) {
        if !self.controller.progress().throttle.is_off() {
            self.controller.unthrottled();
            self.actions.push_any(SourceAction::Throttle(Throttle::Off));
        }
        if self.duties.tracking && !std::mem::replace(&mut self.duties.stopping, true) {
            self.actions.push(PlainSourceAction::StopTracking);
        }
    }

    /// Done as soon as nothing is left to be undone.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if self.duties.tracking || self.duties.resuming || self.duties.releasing {
            return;
        }
        if let Some(ending) = &mut self.ending {
            ending.at = Some(now);
        }
        self.phase = SourcePhase::Done;
        self.actions.push(PlainSourceAction::Done);
    }

    pub(super) fn give_up(&mut self, now: Timestamp, outcome: Outcome, why: Why) {
        self.end_with(outcome, why, false);
        // Cannot fail: policies are asked only while the guest is ours.
        let kept = self.tell_handoff(now, handoff::SourceEvent::Cancel);
        debug_assert!(kept.is_ok());
    }

    pub(super) fn cancel(&mut self, now: Timestamp, reason: CancelReason) {
        let (outcome, why) = match reason {
            CancelReason::Requested => (Outcome::Cancelled, "cancelled on request"),
            CancelReason::TimeLimit => (Outcome::TimedOut, "the time limit was reached"),
        };
        self.end(outcome, why);
        if self.phase == SourcePhase::Idle {
            self.settle(now);
        }
    }

    pub(super) fn failed(&mut self, now: Timestamp, failure: &Failure) {
        if self.handoff.may_cancel() {
            self.end(Outcome::Failed, failure.to_string());
            return;
        }
        // Cleaning up goes on without the step that failed, and says so.
        match failure.step {
            Step::Resume => self.duties.resuming = false,
            Step::StopTracking => self.duties.tracking = false,
            // Its end was asked for, and is answered.
            Step::StartTracking if self.duties.stopping => {}
            Step::StartTracking => self.duties.tracking = false,
            Step::Transmit if self.duties.releasing => return self.stopped_sending(now),
            _ => {}
        }
        self.clean_up_failures.push(failure.to_string());
        self.settle(now);
    }

    pub(super) fn await_answer(&mut self, now: Timestamp) {
        let deadline = now.saturating_add(self.patience);
        self.deadline = Some(deadline);
        // Whose patience has no end need not be woken.
        if deadline < Timestamp::MAX {
            self.actions.push_any(SourceAction::Wake(deadline));
        }
    }

    pub(super) fn woken(&mut self, now: Timestamp) -> Result<(), MachineError> {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            if self.handoff.may_cancel() {
                self.end(Outcome::Failed, "the destination did not answer in time");
            }
            if self.phase == SourcePhase::PostCopy {
                self.lost_the_connection();
            }
            self.tell_handoff(now, handoff::SourceEvent::Disconnected)?;
        }
        Ok(())
    }

    /// Whether the right to run the guest is here and its memory is not: it is to be started from its disks, here.
    pub fn has_lost_the_guest(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.outcome == Outcome::GuestLost)
    }

    /// The first word on how it ended stays, but completing is only a hope until the commit.
    pub(super) fn end(&mut self, outcome: Outcome, why: impl Into<Cow<'static, str>>) {
        self.end_with(outcome, Why::Words(why.into()), false);
    }

    pub(super) fn end_with(&mut self, outcome: Outcome, why: Why, forced: bool) {
        let open = self.ending.as_ref().is_none_or(|ending| ending.outcome == Outcome::Completed);
        if open && self.phase != SourcePhase::Done && self.phase != SourcePhase::Returning {
            self.ending = Some(Ending { outcome, why, forced, at: None });
        }
    }

    /// How it ended, as far as it is known.
    fn outcome(&self) -> (Outcome, Option<&Why>, &'static str) {
        let completed = self.handoff.right() == Right::Theirs;
        let words = |outcome, words| (outcome, None, words);
        match (&self.ending, self.handoff.right()) {
            (_, Right::Undecided) if self.handoff.in_doubt() => words(
                Outcome::InDoubt,
                "only the destination knows whether it runs the guest, and it was lost",
            ),
            (Some(ending), _)
                if completed && self.phase != SourcePhase::PostCopy
                    || ending.outcome != Outcome::Completed =>
            {
                (ending.outcome, Some(&ending.why), "")
            }
            _ if self.phase == SourcePhase::PostCopy && !self.handoff.is_connected() => words(
                Outcome::InDoubt,
                "the connection was lost in post-copy: the guest waits for pages that only the source has",
            ),
            _ => words(Outcome::InProgress, "the migration has not ended"),
        }
    }

    /// Why it ended as it did, in words, as far as it is known.
    pub fn why(&self) -> String {
        let (_, why, words) = self.outcome();
        let paused = match why {
            None => return words.to_owned(),
            Some(Why::Words(words)) => return words.to_string(),
            Some(&Why::Rule { paused }) => paused,
        };
        let Some(verdict) = self.controller.verdict() else { return "the policy decided so".to_owned() };
        // As long as most: a text that grows is copied each time.
        let mut text = String::with_capacity(96);
        let then = if paused { "; the policy had paused the guest before" } else { "" };
        // Into memory.
        let _ = write!(text, "{}{then}", verdict.reason);
        text
    }

    /// What the migration came to, as far as it is known at `now`.
    pub fn report(&self, now: Timestamp) -> Report {
        let why = self.why();
        let rounds = if self.rounds.only_counts() { Vec::new() } else { self.rounds.finished() };
        Report { why, rounds, ..self.totals(now) }
    }

    /// The same without words and rounds: cheap, for those who run many.
    pub fn totals(&self, now: Timestamp) -> Report {
        let completed = self.handoff.right() == Right::Theirs;
        let (outcome, ..) = self.outcome();
        let ending = self.ending.as_ref();
        let progress = self.controller.progress();
        let end = ending.and_then(|ending| ending.at).unwrap_or(now);
        Report {
            outcome,
            why: String::new(),
            converged: outcome == Outcome::Completed && ending.is_some_and(|ending| !ending.forced),
            total: end.since(self.stopwatch.started),
            downtime: if completed { self.stopwatch.ledger() } else { Ledger::default() },
            paused_in_vain: if completed || self.handoff.held() == Held::Nothing {
                Duration::ZERO
            } else {
                self.stopwatch.paused_in_vain(end)
            },
            sent: progress.sent,
            sent_pages: progress.sent_pages,
            memory: progress.memory.bytes(progress.page_size),
            rounds: Vec::new(),
            post_copy: self.post_copy.as_ref().and_then(|post_copy| post_copy.report(end)),
            clean_up_failures: self.clean_up_failures.clone(),
        }
    }

    /// Events and decisions, when nothing more is wanted of the machine.
    pub fn into_journal(self) -> Journal {
        self.controller.into_journal()
    }

    /// Gives the lines of the journal away that it has so far, in their order, and records on. Whoever runs a machine for long calls
    /// this now and then; the journal of a machine that nobody does this to holds everything in the end.
    pub fn drain_journal(&mut self) -> std::vec::Drain<'_, Entry> {
        self.controller.journal_mut().drain()
    }

    /// The same with room for so many lines of the journal: recording them takes no memory then.
    #[must_use]
    pub fn with_room_for(mut self, lines: usize) -> Self {
        self.controller.journal_mut().reserve(lines);
        self
    }

    /// Feeds the events of `journal` to this machine, which must be as new, and gives the journal that
    /// it writes: the same, byte for byte, if machine, policy and settings are the same.
    ///
    /// # Errors
    ///
    /// [`MachineError`] at the first event that the machine does not take, and where another policy took over.
    pub fn replay(mut self, journal: &Journal) -> Replay {
        for entry in journal.entries() {
            self.replay_line(entry)?;
        }
        Ok(self.into_journal())
    }

    /// Feeds one line of a journal to this machine, which has seen the lines before it and nothing else: an event; decisions it
    /// makes itself. What it writes then should be this line and the decisions behind it ([`Source::drain_journal`]).
    ///
    /// # Errors
    ///
    /// As of [`Source::replay`].
    pub fn replay_line(&mut self, line: &Entry) -> Result<(), MachineError> {
        self.replaying = true;
        match line {
            Entry::Event { at, event } => self.handle(*at, event.clone())?,
            Entry::Decision { .. } => {}
            Entry::Replaced { policy, .. } => {
                return Err(MachineError::Replaced { policy: policy.clone() });
            }
        }
        self.actions.clear();
        Ok(())
    }
}
