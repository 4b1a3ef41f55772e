//! The source's machine: sends memory until the policy is content, then hands the guest over.
//!
//! Sans-IO: the driver passes in events with their times and carries out the actions that
//! [`Source::poll`] gives, in order. The same machine runs under the simulator and the live driver. It
//! reads no clock and never decides who may run the guest: that is
//! [`SourceHandoff`]'s.

mod ending;
mod post_copy;
mod replacing;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use self::post_copy::PostCopy;
use super::MachineError;
use super::event::{SourceAction, SourceEvent, Transmit};
use super::handoff::{self, Fence, HandoffMessage, SourceHandoff, Standing};
use super::message::{Configuration, Message};
use super::phase::SourcePhase;
use super::rounds::Rounds;
use super::stopwatch::Stopwatch;
use crate::controller::{Controller, Harvested, Ruling, Transmitted};
use crate::dirty::{Backlog, Expected, Gate, PageSet, Stock};
use crate::policy::{Decision, Gate as GateRule, Reason, SwitchoverWhen};
use crate::progress::Moment;
use crate::report::Outcome;
use crate::units::{Pages, Timestamp};

/// How long the source waits for an answer, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The source's side of one migration.
///
/// # Calls
///
/// [`handle`](Self::handle) takes what happened, [`poll`](Self::poll) gives what is to be done now; poll
/// until it is empty after every event. Times passed in never go back. An event that does not fit the
/// phase is an error and changes nothing. [`report`](Self::report) may be asked for at any time.
///
/// # Promise
///
/// Every end but a commit leaves the guest running here, tracking off and the throttle gone.
#[derive(Clone, Debug)]
pub struct Source<S = PageSet> {
    phase: SourcePhase,
    configuration: Configuration,
    controller: Controller,
    backlog: Backlog<S>,
    handoff: SourceHandoff,
    duties: Duties,
    patience: Duration,
    deadline: Option<Timestamp>,
    /// The policy wants to switch over when this round is sent.
    last_round: bool,
    /// Pages that are left are sent after the handover.
    post_copy: Option<PostCopy>,
    /// When the harvest in progress was asked for.
    harvest_asked: Timestamp,
    /// The backlog's closed gate, and the round whose acknowledgement opens it.
    awaited: Option<(Gate, u32)>,
    /// The last round that the destination was told the end of.
    closed: Option<u32>,
    rounds: Rounds,
    stopwatch: Stopwatch,
    ending: Option<Ending>,
    clean_up_failures: Vec<String>,
    actions: VecDeque<SourceAction>,
    replaying: bool,
}

/// What must be undone, however the migration ends.
#[derive(Clone, Copy, Debug, Default)]
struct Duties {
    tracking: bool,
    /// Its end was asked for.
    stopping: bool,
    resuming: bool,
    /// Memory is to be released when the driver has stopped sending it.
    releasing: bool,
}

/// How it ended, as soon as that is known.
#[derive(Clone, Debug)]
struct Ending {
    outcome: Outcome,
    why: Why,
    forced: bool,
    at: Option<Timestamp>,
}

/// Why it ended; put into words only when somebody wants to read it.
#[derive(Clone, Debug)]
enum Why {
    Words(Cow<'static, str>),
    /// A rule of the policy, which had paused the guest before or had not.
    Rule(Reason, bool),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Rule(reason, false) => reason.fmt(f),
            Self::Rule(reason, true) => write!(f, "{reason}; the policy had paused the guest before"),
        }
    }
}

impl Source {
    /// A source that has done nothing yet.
    pub fn new(configuration: Configuration, controller: Controller) -> Self {
        let backlog = Backlog::new(&configuration.layout);
        Self::with(backlog, configuration, controller)
    }
}

impl Source<Expected> {
    /// A source that has done nothing yet and will know only how many pages are expected to be pending and
    /// in flight: for simulations of that fidelity. For everything else it is the same machine.
    pub fn expecting(configuration: Configuration, controller: Controller) -> Self {
        let backlog = Backlog::expecting(configuration.layout.pages());
        Self::with(backlog, configuration, controller)
    }
}

impl<S: Stock> Source<S> {
    fn with(backlog: Backlog<S>, configuration: Configuration, controller: Controller) -> Self {
        let controller = controller.with_vcpus(configuration.vcpus);
        Self {
            phase: SourcePhase::Idle,
            configuration,
            controller,
            backlog,
            handoff: SourceHandoff::new(),
            duties: Duties::default(),
            patience: PATIENCE,
            deadline: None,
            last_round: false,
            post_copy: None,
            harvest_asked: Timestamp::ZERO,
            awaited: None,
            closed: None,
            rounds: Rounds::default(),
            stopwatch: Stopwatch::default(),
            ending: None,
            clean_up_failures: Vec::new(),
            actions: VecDeque::new(),
            replaying: false,
        }
    }

    /// The same, waiting this long for an answer before the destination counts as lost.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same, counting its rounds without keeping what each came to: for runs by the million. Its report
    /// lists none; see [`Source::round_count`].
    #[must_use]
    pub fn counting_rounds(mut self) -> Self {
        self.rounds.only_count();
        self
    }

    /// Passes over memory so far, an open one counted.
    pub fn round_count(&self) -> u32 {
        self.rounds.count()
    }

    /// Where it is.
    pub fn phase(&self) -> SourcePhase {
        self.phase
    }

    /// What is pending and in flight; the driver sends from it and harvests into it.
    pub fn backlog_mut(&mut self) -> &mut Backlog<S> {
        &mut self.backlog
    }

    /// What is pending and in flight.
    pub fn backlog(&self) -> &Backlog<S> {
        &self.backlog
    }

    /// Statistics, policy and journal.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Has the policy asked at the next tick, even if its last answer still holds: for drivers that make many
    /// ticks as one where nothing changes, and have seen something change.
    pub fn ask_at_the_next_tick(&mut self) {
        self.controller.ask_at_the_next_tick();
    }

    /// Who may run the guest, as far as this side knows.
    pub fn handoff(&self) -> &SourceHandoff {
        &self.handoff
    }

    /// Whether it has decided to hand the guest over: a pause that it asks for then is for good.
    pub fn is_handing_over(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.outcome == Outcome::Completed)
    }

    /// What to do now; none when the next event is awaited.
    pub fn poll(&mut self) -> Option<SourceAction> {
        self.actions.pop_front()
    }

    /// Takes an event.
    ///
    /// # Errors
    ///
    /// [`MachineError`] if it does not fit the phase or contradicts what is known. The machine is then
    /// unchanged.
    pub fn handle(&mut self, now: Timestamp, event: SourceEvent) -> Result<(), MachineError> {
        let before = self.phase;
        let misfit = || MachineError::Misfit { event: event.name(), phase: before.into() };
        let kind = event.kind().ok_or_else(misfit)?;
        let allowed = before.after(kind);
        if allowed.is_empty() {
            return Err(misfit());
        }
        let handoff_event = self.handoff_event(&event);
        self.check(&event, handoff_event)?;
        self.controller.journal_mut().event(now, &event);
        self.take(now, event)?;
        if let Some(event) = handoff_event {
            self.tell_handoff(now, event)?;
        }
        debug_assert!(
            allowed.contains(&self.phase),
            "{before:?} --{kind:?}--> {:?} is not in the table",
            self.phase
        );
        Ok(())
    }

    /// What the phase alone can't tell: whether the handoff would take the event, and whether its
    /// numbers can be true. Nothing is changed.
    fn check(
        &self,
        event: &SourceEvent,
        handoff_event: Option<handoff::SourceEvent>,
    ) -> Result<(), MachineError> {
        if let Some(event) = handoff_event {
            let mut trial = self.handoff;
            trial.handle(event)?;
        }
        let claimed = match event {
            SourceEvent::Change { parameter, value } => {
                return Ok(self.controller.changed(parameter, value).map(drop)?);
            }
            SourceEvent::Harvested(harvested) => harvested.pending,
            SourceEvent::Transmitted(sent)
                if matches!(self.phase, SourcePhase::SendingLast | SourcePhase::PostCopy) =>
            {
                sent.pending
            }
            SourceEvent::Transmitted(sent) => sent.pending.saturating_add(sent.skipped),
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

    fn take(&mut self, now: Timestamp, event: SourceEvent) -> Result<(), MachineError> {
        use SourcePhase as P;
        match event {
            SourceEvent::Start => self.start(now),
            SourceEvent::Received(message) => self.received(now, message)?,
            SourceEvent::TrackingStarted if self.phase == P::StartingTracking => self.bulk_round(now),
            SourceEvent::Transmitted(sent) if self.phase == P::Sending => self.transmitted(now, sent),
            SourceEvent::Transmitted(sent) if self.phase == P::PostCopy => self.pages_followed(now, sent),
            SourceEvent::Transmitted(_) if self.duties.releasing => self.stopped_sending(now),
            SourceEvent::Transmitted(sent) if self.phase == P::SendingLast => {
                self.controller.account(now, sent);
                self.rounds.sent(sent);
                if sent.pending == Pages(0) {
                    self.save(now);
                } else {
                    self.actions.push_back(SourceAction::Transmit(Transmit { slice: None, last: true }));
                }
            }
            SourceEvent::Harvested(harvested) if self.phase == P::Harvesting => {
                self.next_round(now, harvested);
            }
            SourceEvent::Harvested(harvested) if self.phase == P::LastHarvest => {
                self.stopwatch.harvested = now;
                if self.leave_behind(harvested) {
                    self.rounds.post_copy(now, harvested);
                    self.save(now);
                    return Ok(());
                }
                self.rounds.pause(now, harvested);
                if harvested.pending == Pages(0) {
                    self.save(now);
                } else {
                    self.phase = P::SendingLast;
                    self.actions.push_back(SourceAction::Transmit(Transmit { slice: None, last: true }));
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
                self.actions.push_back(SourceAction::Send(Message::State(sections)));
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
            SourceEvent::Change { parameter, value } => self.controller.set_parameter(&parameter, &value)?,
            SourceEvent::Failed(failure) if self.phase == P::PostCopy => self.failed_behind(now, &failure),
            SourceEvent::TrackingStopped if self.phase == P::PostCopy => self.duties.tracking = false,
            SourceEvent::Wake => return self.woken(now),
            SourceEvent::Cancel(reason) => self.cancel(now, reason),
            SourceEvent::Failed(failure) => self.failed(now, &failure),
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
            | SourceEvent::Disconnected => {}
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
        let configuration = Box::new(self.configuration.clone());
        self.actions.push_back(SourceAction::Send(Message::Configure(configuration)));
        self.await_answer(now);
    }

    fn bulk_round(&mut self, now: Timestamp) {
        let memory = self.controller.progress().memory;
        let all = Harvested { dirtied: memory, pending: memory, ..Harvested::default() };
        self.rounds.begin(now, all, None);
        let ruling = self.controller.begin_bulk_round(now);
        self.obey(now, Moment::RoundStart, ruling);
    }

    fn next_round(&mut self, now: Timestamp, harvested: Harvested) {
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

    fn received(&mut self, now: Timestamp, message: Message) -> Result<(), MachineError> {
        match message {
            Message::Accept if self.phase == SourcePhase::Connecting => {
                self.deadline = None;
                self.phase = SourcePhase::StartingTracking;
                self.duties.tracking = true;
                self.actions.push_back(SourceAction::StartTracking);
            }
            Message::Refuse { reason } if self.phase == SourcePhase::Connecting => {
                self.end(Outcome::Refused, format!("the destination refused: {reason}"));
            }
            Message::Acknowledge { round } => self.acknowledged(now, round)?,
            Message::Request { page } => self.requested(page),
            Message::Lost { reason } => self.lost_there(now, &reason),
            Message::Handoff { message, took } => match (message, self.phase) {
                (HandoffMessage::Ready, SourcePhase::AwaitingReady) => {
                    self.stopwatch.ready(now, took);
                    self.deadline = None;
                    self.everything_arrived()?;
                }
                (
                    HandoffMessage::Running | HandoffMessage::Answer(Standing::Running),
                    SourcePhase::AwaitingRunning,
                ) => self.stopwatch.running(now, took),
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

    fn transmitted(&mut self, now: Timestamp, sent: Transmitted) {
        self.rounds.sent(sent);
        if self.last_round {
            self.controller.account(now, sent);
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
    fn round_sent(&mut self, now: Timestamp) {
        if self.controller.policy().cadence().gate == GateRule::Wait {
            self.close_round();
            self.phase = SourcePhase::Gating;
            self.await_answer(now);
        } else {
            self.round_ended(now);
        }
    }

    /// Everything of this round is sent, and acknowledged if the policy waits for that.
    fn round_ended(&mut self, now: Timestamp) {
        if self.last_round {
            self.pause(now);
        } else {
            let ruling = self.controller.end_round(now);
            self.obey(now, Moment::RoundEnd, ruling);
        }
    }

    fn acknowledged(&mut self, now: Timestamp, round: u32) -> Result<(), MachineError> {
        if let Some((gate, awaited)) = self.awaited
            && round >= awaited
        {
            self.backlog.acknowledge(gate)?;
            self.awaited = None;
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

    /// *Ready* says that the destination has everything.
    fn everything_arrived(&mut self) -> Result<(), MachineError> {
        if let Some((gate, _)) = self.awaited.take() {
            self.backlog.acknowledge(gate)?;
        }
        let gate = self.backlog.close_gate()?;
        self.backlog.acknowledge(gate)?;
        Ok(())
    }

    /// Does what the policy decided.
    fn obey(&mut self, now: Timestamp, moment: Moment, ruling: Ruling) {
        if let Some(throttle) = ruling.adjust.throttle {
            self.actions.push_back(SourceAction::Throttle(throttle));
        }
        if let Some(limit) = ruling.adjust.rate_limit {
            self.actions.push_back(SourceAction::Limit(limit));
        }
        if let Some(verdict) = self.controller.verdict() {
            self.rounds.decided(now, self.controller.progress().throttle, verdict);
        }
        match ruling.decision {
            Decision::Pause if !self.controller.progress().paused => self.pause(now),
            Decision::Continue | Decision::Pause => match moment {
                Moment::RoundEnd => self.harvest(now),
                Moment::RoundStart if self.controller.progress().pending == Pages(0) => {
                    self.round_ended_empty(now);
                }
                Moment::RoundStart | Moment::Tick => self.transmit(),
            },
            Decision::Harvest => self.harvest(now),
            Decision::Switchover { when, forced } => {
                let paused = self.controller.progress().paused;
                self.end_with(Outcome::Completed, self.rule(paused), forced);
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
            Decision::Abort => self.give_up(now, Outcome::Aborted, self.rule(false)),
            Decision::PostCopy => {
                self.end_with(Outcome::Completed, self.rule(false), true);
                self.post_copy = Some(PostCopy::default());
                self.pause(now);
            }
        }
    }

    /// The rule that the policy decided by; `paused`: it had paused the guest before.
    fn rule(&self, paused: bool) -> Why {
        match self.controller.verdict() {
            Some(verdict) => Why::Rule(verdict.reason.clone(), paused),
            None => Why::Words(Cow::Borrowed("the policy decided so")),
        }
    }

    /// A round in which nothing was to be sent is over at once.
    fn round_ended_empty(&mut self, now: Timestamp) {
        let ruling = self.controller.end_round(now);
        self.obey(now, Moment::RoundEnd, ruling);
    }

    fn transmit(&mut self) {
        self.phase = SourcePhase::Sending;
        let slice = if self.last_round { None } else { self.controller.policy().cadence().tick };
        self.actions.push_back(SourceAction::Transmit(Transmit { slice, last: false }));
    }

    fn harvest(&mut self, now: Timestamp) {
        if self.controller.policy().cadence().gate == GateRule::Pipelined {
            self.close_round();
        }
        self.rounds.close(now);
        self.harvest_asked = now;
        self.phase = SourcePhase::Harvesting;
        self.actions.push_back(SourceAction::Harvest);
    }

    /// Tells the destination that a round is sent. If the gate before is still closed, this round's
    /// pages stay in flight with the next round's: later than need be, never too early.
    fn close_round(&mut self) {
        let round = self.controller.progress().round;
        // A policy that took over at the gate may want none.
        if self.closed.replace(round) == Some(round) {
            return;
        }
        self.actions.push_back(SourceAction::Send(Message::RoundEnd { round }));
        if self.awaited.is_none()
            && let Ok(gate) = self.backlog.close_gate()
        {
            self.awaited = Some((gate, round));
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
        self.actions.push_back(SourceAction::Pause);
    }

    fn last_harvest(&mut self) {
        self.phase = SourcePhase::LastHarvest;
        self.actions.push_back(SourceAction::Harvest);
    }

    fn save(&mut self, now: Timestamp) {
        self.stopwatch.pages_sent = now;
        self.phase = SourcePhase::Saving;
        let round = self.last_numbered_round();
        self.actions.push_back(SourceAction::Send(Message::RoundEnd { round }));
        match self.post_copy.as_ref().map(|behind| behind.missing).filter(|missing| *missing > Pages(0)) {
            Some(missing) => self.actions.push_back(SourceAction::Send(Message::PostCopy { missing })),
            None => self.rounds.close(now),
        }
        self.actions.push_back(SourceAction::SaveState);
    }

    /// The number of the round that ends with the handover.
    fn last_numbered_round(&self) -> u32 {
        self.controller.progress().round.saturating_add(1)
    }
}
