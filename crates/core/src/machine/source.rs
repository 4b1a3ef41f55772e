//! The source's machine: sends memory until the policy is content, then hands the guest over.
//!
//! Sans-IO: the driver passes in events with their times and carries out the actions that
//! [`Source::poll`] gives, in order. The same machine runs under the simulator and the live driver. It
//! reads no clock and never decides who may run the guest: that is
//! [`SourceHandoff`]'s.

mod actions;
mod ending;
mod post_copy;
mod pre_copy;
mod replacing;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use self::actions::Actions;
use self::post_copy::PostCopy;
use super::MachineError;
use super::event::{PlainSourceAction, RoundAction, SourceAction, SourceEvent, Transmit};
use super::handoff::{self, Fence, HandoffMessage, SourceHandoff, StableRecord, Standing};
use super::message::{Configuration, Message, Section};
use super::phase::SourcePhase;
use super::rounds::Rounds;
use super::stopwatch::Stopwatch;
use super::waiting::Action;
use crate::controller::{Controller, Unsupported};
use crate::dirty::{Backlog, Expected, Gate, PageSet, Stock};
use crate::policy::Policy;
use crate::report::{Outcome, RoundReport};
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
    configuration: Arc<Configuration>,
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
    /// The guest's state, from when it is saved until it is sent.
    saved: Vec<Section>,
    ending: Option<Ending>,
    clean_up_failures: Vec<String>,
    actions: Actions,
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

/// Why it ended.
#[derive(Clone, Debug)]
enum Why {
    Words(Cow<'static, str>),
    /// The rule of the policy's last verdict: once it has decided how the migration ends it is not asked again. Put into words
    /// only when somebody wants to read it. `paused`: the policy had paused the guest before.
    Rule {
        paused: bool,
    },
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

    /// Makes it a source that has done nothing yet of another migration, in the memory that it has: what
    /// `configure` makes of its configuration, under `policy`, which is asked at every tick or not. How it goes about its
    /// work remains: its patience, what it records and keeps of its rounds. No outlooks are made.
    ///
    /// # Errors
    ///
    /// What `configure` gives, and [`Unsupported`] if the policy needs what the ground does not offer. It is then good
    /// for nothing but to begin anew.
    pub fn begin_anew<E: From<Unsupported>>(
        &mut self,
        configure: impl FnOnce(&mut Configuration) -> Result<(), E>,
        policy: &dyn Policy,
        every_tick: bool,
    ) -> Result<(), E> {
        let configuration = Arc::make_mut(&mut self.configuration);
        configure(configuration)?;
        let (vcpus, pages) = (configuration.vcpus, configuration.layout.pages());
        let page_size = configuration.layout.page_size();
        self.controller.begin_anew(policy, page_size, pages, every_tick)?;
        self.controller.count_vcpus(vcpus);
        self.backlog = Backlog::expecting(pages);
        self.phase = SourcePhase::Idle;
        self.handoff = SourceHandoff::new();
        self.duties = Duties::default();
        self.deadline = None;
        self.last_round = false;
        self.post_copy = None;
        self.harvest_asked = Timestamp::ZERO;
        self.awaited = None;
        self.closed = None;
        self.rounds.begin_anew();
        self.stopwatch = Stopwatch::default();
        self.saved.clear();
        self.ending = None;
        self.clean_up_failures.clear();
        self.actions.clear();
        self.replaying = false;
        Ok(())
    }
}

impl<S: Stock> Source<S> {
    fn with(backlog: Backlog<S>, configuration: Configuration, controller: Controller) -> Self {
        let controller = controller.with_vcpus(configuration.vcpus);
        Self {
            phase: SourcePhase::Idle,
            configuration: Arc::new(configuration),
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
            saved: Vec::new(),
            ending: None,
            clean_up_failures: Vec::new(),
            actions: Actions::default(),
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
        self.controller.forget_reasons();
        self
    }

    /// Passes over memory so far, an open one counted.
    pub fn round_count(&self) -> u32 {
        self.rounds.count()
    }

    /// The round before the last that has begun, as the report will have it.
    pub fn round_before(&self) -> Option<&RoundReport> {
        self.rounds.last_but_one()
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

    /// What the destination must know to build the replica.
    pub fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// The saved state, for [`PlainSourceAction::State`]; empty if it was taken or not saved.
    pub fn take_state(&mut self) -> Vec<Section> {
        std::mem::take(&mut self.saved)
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
    #[inline]
    pub fn poll(&mut self) -> Option<SourceAction> {
        match self.actions.pop()? {
            Action::Plain(action) => Some(self.whole(action)),
            Action::Other(action) => Some(action),
        }
    }

    /// What a plain action stands for.
    fn whole(&mut self, action: PlainSourceAction) -> SourceAction {
        use PlainSourceAction as P;
        match action {
            P::Configure => SourceAction::Send(Message::Configure(self.configuration.clone())),
            P::State => SourceAction::Send(Message::State(self.take_state())),
            P::EndRound(round) => SourceAction::Send(Message::RoundEnd { round }),
            P::Go => SourceAction::Send(Message::handoff(HandoffMessage::Go)),
            P::StartTracking => SourceAction::StartTracking,
            P::StopTracking => SourceAction::StopTracking,
            P::Pause => SourceAction::Pause,
            P::SaveState => SourceAction::SaveState,
            P::Resume => SourceAction::Resume,
            P::PersistGo => SourceAction::Persist(StableRecord::Go),
            P::Erase => SourceAction::Erase,
            P::Release => SourceAction::Release,
            P::Done => SourceAction::Done,
        }
    }

    /// The guest that was to be paused stood still from `at` on: for drivers whose guest goes on for a while after it was told.
    /// Whoever does not say so has a guest that stops when it is told.
    pub fn guest_stopped(&mut self, at: Timestamp) {
        self.stopwatch.stopped = at;
    }

    /// Whether there is nothing to do now: [`Source::poll`] gives none.
    #[inline]
    pub fn is_silent(&self) -> bool {
        self.actions.is_empty()
    }

    /// What to do now, if it is one of what is wanted in every round, by name: for drivers that make rounds by the
    /// million. None if it is something else, or nothing: [`Source::poll`] tells.
    #[inline]
    pub fn poll_round(&mut self) -> Option<RoundAction> {
        self.actions.pop_of_round()
    }

    /// What to do now, if it is a plain action, by name: for drivers that hand over by the million. None if it is something
    /// else, or nothing: [`Source::poll`] tells.
    #[inline]
    pub fn poll_plain(&mut self) -> Option<PlainSourceAction> {
        self.actions.pop_plain()
    }

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

    fn last_harvest(&mut self) {
        self.phase = SourcePhase::LastHarvest;
        self.actions.harvest();
    }

    fn save(&mut self, now: Timestamp) {
        self.stopwatch.pages_sent = now;
        self.phase = SourcePhase::Saving;
        let round = self.last_numbered_round();
        self.actions.push(PlainSourceAction::EndRound(round));
        match self.post_copy.as_ref().map(|behind| behind.missing).filter(|missing| *missing > Pages(0)) {
            Some(missing) => self.actions.push_any(SourceAction::Send(Message::PostCopy { missing })),
            None => self.rounds.close(now),
        }
        self.actions.push(PlainSourceAction::SaveState);
    }

    /// The number of the round that ends with the handover.
    fn last_numbered_round(&self) -> u32 {
        self.controller.progress().round.saturating_add(1)
    }
}
