//! Events at the source: what fits is taken, and means something; what does not leaves everything as it was.
//!
//! Called by whoever drives the machine. The handoff is asked before anything is changed, and what it says is carried out
//! last (`ending`). The events of rounds have a short way of their own (`pre_copy`).

use super::super::MachineError;
use super::super::event::{PlainSourceAction, SourceEvent, Transmit};
use super::super::handoff::{self, Fence, HandoffMessage, Standing};
use super::super::message::Message;
use super::super::phase::SourcePhase;
use super::Source;
use crate::dirty::Stock;
use crate::report::Outcome;
use crate::units::{Pages, Timestamp};

impl<S: Stock> Source<S> {
    /// Takes an event.
    ///
    /// # Errors
    ///
    /// [`MachineError`] if it does not fit the phase or contradicts what is known. The machine is then
    /// unchanged.
    pub fn handle(&mut self, now: Timestamp, event: SourceEvent) -> Result<(), MachineError> {
        match event {
            SourceEvent::Transmitted(sent) => self.transmitted(now, &sent),
            SourceEvent::Harvested(harvested) => self.harvested(now, &harvested),
            event => self.handle_any(now, event),
        }
    }

    /// The same, put together anew for each event that it is called with: for drivers that know which one it is, and
    /// hand over by the million. What the machine keeps of the event is taken out of it.
    ///
    /// # Errors
    ///
    /// As of [`Source::handle`].
    #[inline(always)]
    pub fn take_known(&mut self, now: Timestamp, event: &mut SourceEvent) -> Result<(), MachineError> {
        let before = self.phase;
        let misfit = |event: &SourceEvent| MachineError::Misfit { event: event.name(), phase: before.into() };
        let kind = event.kind().ok_or_else(|| misfit(event))?;
        if before.after(kind).is_empty() {
            return Err(misfit(event));
        }
        // The handoff is asked first, and changed last: whatever does not fit leaves everything as it was.
        let mut handoff = self.handoff;
        let effects = match self.handoff_event(event) {
            Some(event) => Some(handoff.handle(event)?),
            None => None,
        };
        self.check(event)?;
        self.controller.journal_mut().event(now, event);
        self.take(now, event)?;
        if let Some(effects) = effects {
            self.handoff = handoff;
            self.carry_out(now, effects);
        }
        self.check_step(before, kind);
        Ok(())
    }

    /// Takes an event that is not one of a round's.
    fn handle_any(&mut self, now: Timestamp, mut event: SourceEvent) -> Result<(), MachineError> {
        self.take_known(now, &mut event)
    }

    /// Whether the numbers of an event can be true, and its parameter set: what the phase alone can't tell. Nothing is
    /// changed.
    #[inline(always)]
    fn check(&self, event: &SourceEvent) -> Result<(), MachineError> {
        let claimed = match event {
            SourceEvent::Change { parameter, value } => {
                return Ok(self.controller.changed(parameter, value).map(drop)?);
            }
            SourceEvent::Harvested(harvested) => harvested.pending,
            // Nothing is left out of what is sent last.
            SourceEvent::Transmitted(sent) => sent.pending,
            _ => return Ok(()),
        };
        let pending = self.backlog.pending();
        // A replay has no pages, and a driver that was called off may stop anywhere.
        let called_off =
            matches!(self.phase, SourcePhase::Returning | SourcePhase::Releasing | SourcePhase::Done);
        // A page that was asked for may have been taken since the driver counted.
        let asked_for = self.phase == SourcePhase::PostCopy && claimed >= pending;
        if self.replaying || called_off || asked_for || claimed == pending {
            return Ok(());
        }
        Err(MachineError::Miscounted { claimed, pending })
    }

    /// What the handoff is told of an event.
    #[inline(always)]
    fn handoff_event(&self, event: &SourceEvent) -> Option<handoff::SourceEvent> {
        use handoff::SourceEvent as H;
        Some(match event {
            SourceEvent::Persisted => H::Persisted,
            SourceEvent::NotPersisted => H::NotPersisted,
            SourceEvent::Connected => H::Connected,
            SourceEvent::Disconnected => H::Disconnected,
            // The handoff is over: the guest is there, and with the destination its memory is gone.
            SourceEvent::Fenced(_) if self.phase == SourcePhase::PostCopy => return None,
            SourceEvent::Fenced(fence) => H::Fenced(*fence),
            SourceEvent::Cancel(_) if self.phase != SourcePhase::Idle => H::Cancel,
            // A destination that refuses has built nothing: the same as having withdrawn.
            SourceEvent::Received(Message::Refuse { .. }) if self.phase == SourcePhase::Connecting => {
                H::Received(HandoffMessage::Withdraw)
            }
            SourceEvent::Received(Message::Handoff { message, .. }) => H::Received(*message),
            SourceEvent::Failed(_) if self.handoff.may_cancel() => H::Cancel,
            _ => return None,
        })
    }

    /// What an event means besides the handoff, which it leaves alone.
    #[inline(always)]
    fn take(&mut self, now: Timestamp, event: &mut SourceEvent) -> Result<(), MachineError> {
        use SourcePhase as P;
        match event {
            SourceEvent::Start => self.start(now),
            SourceEvent::Received(message) => self.received(now, message)?,
            SourceEvent::TrackingStarted if self.phase == P::StartingTracking => self.bulk_round(now),
            SourceEvent::Transmitted(sent) if self.phase == P::PostCopy => self.pages_followed(now, *sent),
            SourceEvent::Transmitted(_) if self.duties.releasing => self.stopped_sending(now),
            SourceEvent::Transmitted(sent) if self.phase == P::SendingLast => {
                self.controller.account(now, *sent);
                self.rounds.sent(sent);
                if sent.pending == Pages(0) {
                    self.save(now);
                } else {
                    self.actions.transmit(Transmit { slice: None, last: true });
                }
            }
            SourceEvent::Harvested(harvested) if self.phase == P::LastHarvest => {
                self.stopwatch.harvested = now;
                if self.leave_behind(*harvested) {
                    self.rounds.post_copy(now, harvested);
                    self.save(now);
                    return Ok(());
                }
                self.rounds.pause(now, harvested);
                if harvested.pending == Pages(0) {
                    self.save(now);
                } else {
                    self.phase = P::SendingLast;
                    self.actions.transmit(Transmit { slice: None, last: true });
                }
            }
            SourceEvent::Paused if self.phase == P::Pausing => {
                self.stopwatch.paused = now;
                if self.ending.is_some() {
                    self.last_harvest();
                } else {
                    self.controller.paused();
                    self.harvest(now);
                }
            }
            SourceEvent::Saved(sections) if self.phase == P::Saving => {
                self.stopwatch.saved = now;
                self.phase = P::AwaitingReady;
                std::mem::swap(&mut self.saved, sections);
                self.actions.push(PlainSourceAction::State);
                self.await_answer(now);
            }
            SourceEvent::NotPersisted => {
                self.end(Outcome::Failed, "*go* could not be written to stable storage");
            }
            SourceEvent::Disconnected if self.handoff.may_cancel() => {
                self.end(Outcome::Failed, "the connection was lost");
            }
            SourceEvent::Fenced(_) if self.phase == P::PostCopy => {
                self.abandon(now, "the destination was fenced while it lacked pages");
            }
            SourceEvent::Fenced(Fence::NeverRan) => self.end(Outcome::Failed, "the destination was fenced"),
            SourceEvent::Fenced(Fence::MayHaveRun) => self.end(
                Outcome::GuestLost,
                "the destination was fenced and may have run the guest: start it from its disks",
            ),
            SourceEvent::Connected if self.phase == P::PostCopy => self.connected_again(),
            SourceEvent::Disconnected if self.phase == P::PostCopy => self.lost_the_connection(),
            SourceEvent::Change { parameter, value } => self.controller.set_parameter(parameter, value)?,
            SourceEvent::Failed(failure) if self.phase == P::PostCopy => self.failed_behind(now, failure),
            SourceEvent::TrackingStopped if self.phase == P::PostCopy => self.duties.tracking = false,
            SourceEvent::Wake => return self.woken(now),
            SourceEvent::Cancel(reason) => self.cancel(now, *reason),
            SourceEvent::Failed(failure) => self.failed(now, failure),
            SourceEvent::Resumed => {
                self.duties.resuming = false;
                self.stopwatch.resumed_here = Some(now);
                self.settle(now);
            }
            SourceEvent::TrackingStopped => {
                self.duties.tracking = false;
                self.settle(now);
            }
            // Answers to what was asked before it was in vain.
            SourceEvent::TrackingStarted
            | SourceEvent::Transmitted(_)
            | SourceEvent::Harvested(_)
            | SourceEvent::Paused
            | SourceEvent::Saved(_)
            | SourceEvent::Persisted
            | SourceEvent::Connected
            | SourceEvent::Disconnected
            // Only the journal is to know.
            | SourceEvent::Limit(_) => {}
        }
        Ok(())
    }

    fn start(&mut self, now: Timestamp) {
        self.stopwatch.started = now;
        if let Some(reason) = self.controller.refusal() {
            self.end(Outcome::Aborted, format!("refused before the start: {reason}"));
            return self.settle(now);
        }
        self.phase = SourcePhase::Connecting;
        self.actions.push(PlainSourceAction::Configure);
        self.await_answer(now);
    }

    #[inline(always)]
    fn received(&mut self, now: Timestamp, message: &Message) -> Result<(), MachineError> {
        match message {
            Message::Accept if self.phase == SourcePhase::Connecting => {
                self.controller.answered(now.since(self.stopwatch.started));
                self.deadline = None;
                self.phase = SourcePhase::StartingTracking;
                self.duties.tracking = true;
                self.actions.push(PlainSourceAction::StartTracking);
            }
            Message::Refuse { reason } if self.phase == SourcePhase::Connecting => {
                self.end(Outcome::Refused, format!("the destination refused: {reason}"));
            }
            Message::Acknowledge { round } => self.acknowledged(now, *round)?,
            Message::Request { page } => self.requested(*page),
            Message::Lost { reason } => self.lost_there(now, reason),
            Message::Handoff { message, took } => match (*message, self.phase) {
                (HandoffMessage::Ready, SourcePhase::AwaitingReady) => {
                    self.stopwatch.ready(now, *took);
                    self.deadline = None;
                    self.everything_arrived()?;
                }
                (
                    HandoffMessage::Running | HandoffMessage::Answer(Standing::Running),
                    SourcePhase::AwaitingRunning,
                ) => self.stopwatch.running(now, *took),
                (HandoffMessage::Withdraw, _) => {
                    self.end(Outcome::Failed, "the destination withdrew");
                }
                _ => {}
            },
            // Crossed our cancel.
            _ => {}
        }
        Ok(())
    }

    /// *Ready* says that the destination has everything.
    fn everything_arrived(&mut self) -> Result<(), MachineError> {
        if let Some((gate, _)) = self.awaited.take() {
            self.backlog.acknowledge(gate)?;
        }
        let gate = self.backlog.close_gate()?;
        self.backlog.acknowledge(gate)?;
        Ok(())
    }
}
