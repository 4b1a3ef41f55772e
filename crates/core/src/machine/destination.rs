//! The destination's machine: builds the replica, fills it, and runs it when told.
//!
//! Sans-IO like the source's. It answers *ready* only when everything is restored, runs the guest only
//! after *go*, and after *ready* keeps the paused replica until somebody says what to do with it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handoff::{
    self, DestinationHandoff, Effect, Effects, Fence, HandoffMessage, Notice, StableRecord,
};
use super::message::{Configuration, Message, Section};
use super::phase::{DestinationEventKind, DestinationPhase};
use super::waiting::{Action, Waiting};
use super::{Failure, MachineError};
use crate::layout::PageNumber;
use crate::units::{Pages, Timestamp};

/// What the destination's driver does next, in the order in which it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DestinationAction {
    /// Send this.
    Send(Message),
    /// Check that the guest can be taken, build the replica and reserve its memory; answer with
    /// `Built` or `Refused`.
    Build(Arc<Configuration>),
    /// Restore the state into the replica and verify it; answer with `Restored` or `Failed`.
    Restore(Vec<Section>),
    /// Write this to stable storage; answer with `Persisted` or `NotPersisted`.
    Persist(StableRecord),
    /// Run the guest; answer with `Resumed`.
    Resume,
    /// Free the replica, as far as it was built. Not answered.
    DropReplica,
    /// This side has nothing left to do by itself; it still answers a source that asks.
    Done(DestinationOutcome),
}

/// The [`DestinationAction`]s that are wanted in every migration, by the same names, and owning nothing; as
/// [`PlainSourceAction`](super::PlainSourceAction)s are. See [`Destination::poll_plain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainDestinationAction {
    /// Build what [`Destination::take_configuration`] gives.
    Build,
    /// Send the message that the replica is built.
    Accept,
    /// Send the message that all pages of this round are in the replica.
    Acknowledge(u32),
    /// Restore the state that [`Destination::take_state`] gives.
    Restore,
    /// Send *ready*, which took as long as [`Destination::took`] says.
    Ready,
    /// Write to stable storage that the guest may have run here.
    PersistRunning,
    /// Run the guest.
    Resume,
    /// Send *running*, which took as long as [`Destination::took`] says.
    Running,
    /// Free the replica.
    DropReplica,
    /// This side has nothing left to do by itself: [`Destination::outcome`].
    Done,
}

/// How it ended at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestinationOutcome {
    /// The guest runs here.
    Running,
    /// There is no replica.
    Gone,
    /// The right to run is here, but the guest's memory is not: it is to be started from its disks.
    GuestLost,
}

/// What happened at the destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DestinationEvent {
    /// The source said this. Pages that were sent before it are in the replica.
    Received(Message),
    /// The replica is built.
    Built,
    /// The guest can't be taken.
    Refused {
        /// Why, for a person.
        reason: String,
    },
    /// The state is restored and verified.
    Restored,
    /// The record is in stable storage.
    Persisted,
    /// The record could not be written, and no restart can find it.
    NotPersisted,
    /// The guest runs.
    Resumed,
    /// The guest waits for a page that has not come yet. To be told once a page and connection: after
    /// `Connected` again for all that are still waited for.
    Missed(PageNumber),
    /// Somebody here does not want the guest.
    Withdraw,
    /// A step that was asked for failed, or the peer broke the protocol.
    Failed(Failure),
    /// There is a connection again.
    Connected,
    /// The connection is lost.
    Disconnected,
    /// Somebody guarantees that the source is out of the game.
    Fenced(Fence),
    /// Somebody gives up a replica whose source does not come back: one that is kept paused, or one that
    /// runs and lacks pages.
    Discard,
}

/// The destination's side of one migration.
#[derive(Clone, Debug)]
pub struct Destination {
    phase: DestinationPhase,
    handoff: DestinationHandoff,
    /// Pages that are still missing when the guest is resumed.
    missing: Pages,
    /// The guest lacked pages that will not come: why.
    lost: Option<String>,
    actions: Waiting<DestinationAction, PlainDestinationAction>,
    /// What is to be built, and the state to be restored, until the driver takes them.
    configuration: Option<Arc<Configuration>>,
    sent: Vec<Section>,
    took: Duration,
    outcome: Option<DestinationOutcome>,
    restoring_since: Timestamp,
    go_at: Timestamp,
}

impl Default for Destination {
    fn default() -> Self {
        Self::new()
    }
}

impl Destination {
    /// A destination that nobody has asked for anything.
    pub fn new() -> Self {
        Self {
            phase: DestinationPhase::Listening,
            handoff: DestinationHandoff::new(),
            missing: Pages(0),
            lost: None,
            actions: Waiting::default(),
            configuration: None,
            sent: Vec::new(),
            took: Duration::ZERO,
            outcome: None,
            restoring_since: Timestamp::ZERO,
            go_at: Timestamp::ZERO,
        }
    }

    /// Makes it as [`Destination::new`] does, in the memory that it has.
    pub fn begin_anew(&mut self) {
        self.phase = DestinationPhase::Listening;
        self.handoff = DestinationHandoff::new();
        self.missing = Pages(0);
        self.lost = None;
        self.actions.clear();
        self.configuration = None;
        self.sent.clear();
        (self.took, self.outcome) = (Duration::ZERO, None);
        (self.restoring_since, self.go_at) = (Timestamp::ZERO, Timestamp::ZERO);
    }

    /// Where it is.
    pub fn phase(&self) -> DestinationPhase {
        self.phase
    }

    /// Who may run the guest, as far as this side knows.
    pub fn handoff(&self) -> &DestinationHandoff {
        &self.handoff
    }

    /// What to do now; none when the next event is awaited.
    #[inline]
    pub fn poll(&mut self) -> Option<DestinationAction> {
        match self.actions.pop()? {
            Action::Plain(action) => self.whole(action),
            Action::Other(action) => Some(action),
        }
    }

    /// What a plain action stands for.
    fn whole(&mut self, action: PlainDestinationAction) -> Option<DestinationAction> {
        use DestinationAction as A;
        use PlainDestinationAction as P;
        let report = |message| A::Send(Message::Handoff { message, took: self.took });
        Some(match action {
            P::Build => A::Build(self.take_configuration()?),
            P::Accept => A::Send(Message::Accept),
            P::Acknowledge(round) => A::Send(Message::Acknowledge { round }),
            P::Restore => A::Restore(self.take_state()),
            P::Ready => report(HandoffMessage::Ready),
            P::PersistRunning => A::Persist(StableRecord::Running),
            P::Resume => A::Resume,
            P::Running => report(HandoffMessage::Running),
            P::DropReplica => A::DropReplica,
            P::Done => A::Done(self.outcome?),
        })
    }

    /// What is to be built, for [`PlainDestinationAction::Build`]; none if it was taken or nobody sent it.
    pub fn take_configuration(&mut self) -> Option<Arc<Configuration>> {
        self.configuration.take()
    }

    /// How long what it reports now took: to restore, or to write down and to resume.
    #[inline]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// How it ended; none as long as there is something to do.
    pub fn outcome(&self) -> Option<DestinationOutcome> {
        self.outcome
    }

    /// The state that was sent, for [`PlainDestinationAction::Restore`]; empty if it was taken or nobody sent it.
    pub fn take_state(&mut self) -> Vec<Section> {
        std::mem::take(&mut self.sent)
    }

    /// Whether there is nothing to do now: [`Destination::poll`] gives none.
    #[inline]
    pub fn is_silent(&self) -> bool {
        self.actions.is_empty()
    }

    /// What to do now, if it is a plain action, by name: for drivers that hand over by the million. None if it is something
    /// else, or nothing: [`Destination::poll`] tells.
    #[inline]
    pub fn poll_plain(&mut self) -> Option<PlainDestinationAction> {
        self.actions.pop_plain()
    }

    /// Takes an event. Times are this side's own; they need not agree with the source's.
    ///
    /// # Errors
    ///
    /// [`MachineError`] if it does not fit the phase. The machine is then unchanged.
    pub fn handle(&mut self, now: Timestamp, mut event: DestinationEvent) -> Result<(), MachineError> {
        self.take_known(now, &mut event)
    }

    /// The same, put together anew for each event that it is called with: for drivers that know which one it is, and
    /// hand over by the million. What the machine keeps of the event is taken out of it.
    ///
    /// # Errors
    ///
    /// As of [`Destination::handle`].
    #[inline(always)]
    pub fn take_known(&mut self, now: Timestamp, event: &mut DestinationEvent) -> Result<(), MachineError> {
        let before = self.phase;
        let misfit =
            |event: &DestinationEvent| MachineError::Misfit { event: event.name(), phase: before.into() };
        let kind = event.kind().ok_or_else(|| misfit(event))?;
        let allowed = before.after(kind);
        if allowed.is_empty() {
            return Err(misfit(event));
        }
        // The handoff is asked first, and changed last: what does not fit leaves everything as it was.
        let mut handoff = self.handoff;
        let effects = match self.handoff_event(event) {
            Some(event) => Some(handoff.handle(event)?),
            None => None,
        };
        self.take(now, event);
        if let Some(effects) = effects {
            self.handoff = handoff;
            self.carry_out(now, effects);
        }
        debug_assert!(
            allowed.contains(&self.phase),
            "{before:?} --{kind:?}--> {:?} is not in the table",
            self.phase
        );
        Ok(())
    }

    /// What the handoff is told of an event.
    #[inline(always)]
    fn handoff_event(&self, event: &DestinationEvent) -> Option<handoff::DestinationEvent> {
        use handoff::DestinationEvent as H;
        let gone = self.phase == DestinationPhase::Gone;
        Some(match event {
            // The handoff is over; what is missing is not its affair.
            DestinationEvent::Failed(_) | DestinationEvent::Fenced(_) | DestinationEvent::Discard
                if self.phase == DestinationPhase::Filling =>
            {
                return None;
            }
            // A replica that lacks pages is none: nobody will send them.
            DestinationEvent::Fenced(_) if self.missing > Pages(0) => H::Fenced(Fence::MayHaveRun),
            DestinationEvent::Received(Message::Handoff { message, .. }) => H::Received(*message),
            DestinationEvent::Restored if !gone => H::Verified,
            DestinationEvent::Persisted => H::Persisted,
            DestinationEvent::NotPersisted => H::NotPersisted,
            DestinationEvent::Resumed => H::Resumed,
            DestinationEvent::Refused { .. } | DestinationEvent::Withdraw | DestinationEvent::Failed(_)
                if !gone =>
            {
                H::Withdraw
            }
            DestinationEvent::Connected => H::Connected,
            DestinationEvent::Disconnected => H::Disconnected,
            DestinationEvent::Fenced(fence) => H::Fenced(*fence),
            DestinationEvent::Discard => H::Discard,
            _ => return None,
        })
    }

    /// What an event means besides the handoff, which it leaves alone.
    #[inline(always)]
    fn take(&mut self, now: Timestamp, event: &mut DestinationEvent) {
        use DestinationPhase as P;
        match event {
            DestinationEvent::Received(message @ Message::Configure(_)) => {
                if let Message::Configure(configuration) = std::mem::replace(message, Message::Accept) {
                    self.phase = P::Building;
                    self.configuration = Some(configuration);
                    self.actions.push_plain(PlainDestinationAction::Build);
                }
            }
            DestinationEvent::Built if self.phase == P::Building => {
                self.phase = P::Loading;
                self.actions.push_plain(PlainDestinationAction::Accept);
            }
            DestinationEvent::Refused { reason } if self.phase == P::Building => {
                self.actions
                    .push(DestinationAction::Send(Message::Refuse { reason: std::mem::take(reason) }));
            }
            DestinationEvent::Received(Message::RoundEnd { round }) if self.phase == P::Loading => {
                self.actions.push_plain(PlainDestinationAction::Acknowledge(*round));
            }
            DestinationEvent::Received(Message::State(sections)) if self.phase == P::Loading => {
                self.phase = P::Restoring;
                self.restoring_since = now;
                std::mem::swap(&mut self.sent, sections);
                self.actions.push_plain(PlainDestinationAction::Restore);
            }
            DestinationEvent::Received(Message::Handoff { message: HandoffMessage::Go, .. })
                if self.phase == P::Prepared =>
            {
                self.go_at = now;
            }
            DestinationEvent::Received(Message::PostCopy { missing }) if self.phase == P::Loading => {
                self.missing = *missing;
            }
            DestinationEvent::Missed(page) if self.phase != P::Running => {
                self.actions.push(DestinationAction::Send(Message::Request { page: *page }));
            }
            // Whatever the source says, it is to know.
            DestinationEvent::Received(_) if self.lost.is_some() => self.say_lost(),
            DestinationEvent::Received(Message::RoundEnd { round })
                if matches!(self.phase, P::Filling | P::Running) =>
            {
                self.actions.push_plain(PlainDestinationAction::Acknowledge(*round));
                if self.phase == P::Filling {
                    self.missing = Pages(0);
                    self.done(P::Running, DestinationOutcome::Running);
                }
            }
            DestinationEvent::Failed(failure) if self.phase == P::Filling => {
                self.lose_the_guest(failure.to_string());
            }
            DestinationEvent::Fenced(_) | DestinationEvent::Discard if self.phase == P::Filling => {
                self.lose_the_guest("the source that had its pages was given up".to_owned());
            }
            // Back to where *go* or a fence found it; the handoff says which.
            DestinationEvent::NotPersisted => self.phase = P::Prepared,
            _ => {}
        }
    }

    #[inline(always)]
    fn carry_out(&mut self, now: Timestamp, effects: Effects) {
        use DestinationPhase as P;
        let refused =
            matches!(self.actions.last_of_others(), Some(DestinationAction::Send(Message::Refuse { .. })));
        let mut lost = false;
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    self.phase = P::Committing;
                    match record {
                        StableRecord::Running => {
                            self.actions.push_plain(PlainDestinationAction::PersistRunning);
                        }
                        // The source's, never asked for here.
                        StableRecord::Go => self.actions.push(DestinationAction::Persist(record)),
                    }
                }
                // A refusal says it already, with its reason.
                Effect::Send(HandoffMessage::Withdraw) if refused => {}
                Effect::Send(message) => self.say(now, message),
                Effect::ResumeGuest => {
                    self.phase = P::Resuming;
                    self.actions.push_plain(PlainDestinationAction::Resume);
                }
                Effect::DropReplica => self.actions.push_plain(PlainDestinationAction::DropReplica),
                Effect::Report(Notice::GuestLost) => lost = true,
                Effect::Report(Notice::InDoubt) | Effect::Erase | Effect::ReleaseGuest => {}
            }
        }
        self.follow_the_handoff(lost);
    }

    #[inline(always)]
    fn say(&mut self, now: Timestamp, message: HandoffMessage) {
        match message {
            HandoffMessage::Ready => {
                self.took = now.since(self.restoring_since);
                self.actions.push_plain(PlainDestinationAction::Ready);
            }
            HandoffMessage::Running if self.phase == DestinationPhase::Resuming => {
                self.took = now.since(self.go_at);
                self.actions.push_plain(PlainDestinationAction::Running);
            }
            message => self.actions.push(DestinationAction::Send(Message::handoff(message))),
        }
    }

    /// The phase that goes with what the handoff holds now.
    #[inline(always)]
    fn follow_the_handoff(&mut self, lost: bool) {
        use DestinationPhase as P;
        use handoff::{Held, Right};
        let settled = match (self.handoff.right(), self.handoff.held()) {
            (Right::Mine, Held::Paused) => P::Resuming,
            (Right::Mine, Held::Running) if self.missing > Pages(0) => P::Filling,
            (Right::Mine, _) => P::Running,
            (Right::Undecided, _) if self.phase == P::Committing => P::Committing,
            (Right::Undecided, _) => P::Prepared,
            (Right::Theirs, _) if self.handoff.is_settled() => P::Gone,
            (Right::Theirs, _) => self.phase,
        };
        if settled != self.phase && matches!(settled, P::Running | P::Gone) {
            let outcome = match settled {
                P::Running if lost => DestinationOutcome::GuestLost,
                P::Running => DestinationOutcome::Running,
                _ => DestinationOutcome::Gone,
            };
            self.done(settled, outcome);
        } else {
            self.phase = settled;
        }
    }

    /// The guest lacks pages that will not come.
    fn lose_the_guest(&mut self, why: String) {
        self.missing = Pages(0);
        self.lost = Some(why);
        self.actions.push_plain(PlainDestinationAction::DropReplica);
        self.say_lost();
        self.done(DestinationPhase::Running, DestinationOutcome::GuestLost);
    }

    /// Tells a source that is there.
    fn say_lost(&mut self) {
        if let (Some(reason), true) = (self.lost.clone(), self.handoff.is_connected()) {
            self.actions.push(DestinationAction::Send(Message::Lost { reason }));
        }
    }

    fn done(&mut self, phase: DestinationPhase, outcome: DestinationOutcome) {
        self.phase = phase;
        self.outcome = Some(outcome);
        self.actions.push_plain(PlainDestinationAction::Done);
    }
}

impl DestinationEvent {
    /// Its name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Received(message) => message.name(),
            Self::Built => "built",
            Self::Refused { .. } => "refused",
            Self::Restored => "restored",
            Self::Persisted => "persisted",
            Self::NotPersisted => "not-persisted",
            Self::Resumed => "resumed",
            Self::Missed(_) => "missed",
            Self::Withdraw => "withdraw",
            Self::Failed(_) => "failed",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Fenced(_) => "fenced",
            Self::Discard => "discard",
        }
    }

    /// Its kind; none for a message that no destination is ever sent.
    #[inline(always)]
    pub fn kind(&self) -> Option<DestinationEventKind> {
        use DestinationEventKind as K;
        Some(match self {
            Self::Received(Message::Configure(_)) => K::Configure,
            Self::Received(Message::RoundEnd { .. }) => K::RoundEnd,
            Self::Received(Message::PostCopy { .. }) => K::PostCopy,
            Self::Received(Message::State(_)) => K::State,
            Self::Received(Message::Handoff { message, .. }) => match message {
                HandoffMessage::Go => K::Go,
                HandoffMessage::Cancel => K::Cancelled,
                HandoffMessage::Ask => K::Asked,
                _ => return None,
            },
            Self::Received(
                Message::Accept
                | Message::Refuse { .. }
                | Message::Acknowledge { .. }
                | Message::Request { .. }
                | Message::Lost { .. },
            ) => return None,
            Self::Built => K::Built,
            Self::Refused { .. } => K::Refused,
            Self::Restored => K::Restored,
            Self::Persisted => K::Persisted,
            Self::NotPersisted => K::NotPersisted,
            Self::Resumed => K::Resumed,
            Self::Missed(_) => K::Missed,
            Self::Withdraw => K::Withdraw,
            Self::Failed(_) => K::Failed,
            Self::Connected => K::Connected,
            Self::Disconnected => K::Disconnected,
            Self::Fenced(_) => K::Fenced,
            Self::Discard => K::Discard,
        })
    }
}
