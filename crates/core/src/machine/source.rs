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
mod taking;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use self::actions::Actions;
use self::post_copy::PostCopy;
use super::event::{PlainSourceAction, RoundAction, SourceAction};
use super::handoff::{HandoffMessage, SourceHandoff, StableRecord};
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
