//! The source's half of the handoff.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Effect, Effects, Fence, HandoffError, HandoffMessage, Held, Notice, Right, StableRecord, Standing,
};

/// What happens to the source's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceEvent {
    /// The guest is about to be paused for the last copy. Pass this in *before* asking for the
    /// pause, so that a cancel in between resumes the guest.
    Pause,
    /// Someone here wants the guest to stay: a user, the policy, or a failure of anything local.
    /// Fits until *go* is being written; see [`SourceHandoff::may_cancel`].
    Cancel,
    /// The record asked for is on stable storage.
    Persisted,
    /// The record asked for could not be written, and no restart can find it.
    NotPersisted,
    /// There is a new connection to the destination, and nothing has been said on it.
    Connected,
    /// The connection is lost, or was closed.
    Disconnected,
    /// The destination said this, about this migration.
    Received(HandoffMessage),
    /// Somebody guarantees that the destination is out of the game.
    Fenced(Fence),
}

/// The source's half of the handoff; see the [module](super) for the model.
///
/// Starts when the connection stands and the guest runs here. All state is in the value: a copy of
/// it is an independent machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceHandoff {
    pub(super) state: State,
    pub(super) connected: bool,
    pub(super) held: Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Sending. The guest is ours; it runs, or is paused for the last copy.
    Sending,
    /// *Ready* has come and *go* is being written: no way back but an answer or a fence.
    WritingGo,
    /// *Go* is on stable storage and no answer has come yet.
    Committed,
    /// The guest stays here. `told`: the destination is known to have no replica.
    Kept { told: bool },
    /// The guest is the destination's.
    Released,
}

impl Default for SourceHandoff {
    fn default() -> Self {
        Self::new()
    }
}

impl SourceHandoff {
    /// The start of a migration: connected, with the guest running here.
    pub fn new() -> Self {
        Self { state: State::Sending, connected: true, held: Held::Running }
    }

    /// The source after a crash or restart of its host, with what stable storage says.
    ///
    /// The guest's memory is lost. Without a record *go* was never sent: the right is here, and the
    /// guest is to be started from its disks ([`Right::Mine`] with [`Held::Nothing`] says so; no
    /// effect does). With one, only the destination knows.
    ///
    /// # Errors
    ///
    /// [`HandoffError::ForeignRecord`] if `record` is a destination's.
    pub fn restarted(record: Option<StableRecord>) -> Result<Self, HandoffError> {
        let state = match record {
            None => State::Kept { told: false },
            Some(StableRecord::Go) => State::Committed,
            Some(record @ StableRecord::Running) => {
                return Err(HandoffError::ForeignRecord { record });
            }
        };
        Ok(Self { state, connected: false, held: Held::Nothing })
    }

    /// What this side knows about the right to run.
    pub fn right(&self) -> Right {
        match self.state {
            State::Sending | State::Kept { .. } => Right::Mine,
            State::WritingGo | State::Committed => Right::Undecided,
            State::Released => Right::Theirs,
        }
    }

    /// The guest's memory here.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Whether [`SourceEvent::Cancel`] would be taken now.
    pub fn may_cancel(&self) -> bool {
        self.state == State::Sending
    }

    /// Whether *go* was written and the connection is lost: the one case that only the destination's
    /// answer or a fence can decide.
    pub fn in_doubt(&self) -> bool {
        self.state == State::Committed && !self.connected
    }

    /// Whether nothing more is to be said: the connection may be closed and need not come back.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Kept { told: true } | State::Released)
    }

    /// Whether there is a connection, as far as this side was told.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// What this side is doing, in words that complete "a source that is …".
    pub fn state(&self) -> &'static str {
        match (self.state, self.held) {
            (State::Sending, Held::Running) => "sending",
            (State::Sending, _) => "sending with the guest paused",
            (State::WritingGo, _) => "writing 'go'",
            (State::Committed, _) => "committed to 'go'",
            (State::Kept { told: false }, _) => "keeping the guest, destination not told",
            (State::Kept { told: true }, _) => "keeping the guest",
            (State::Released, _) => "released",
        }
    }

    /// Takes one event and says what to do now.
    ///
    /// # Errors
    ///
    /// [`HandoffError::Source`] if the event does not fit. The machine is then unchanged.
    #[inline(always)]
    pub fn handle(&mut self, event: SourceEvent) -> Result<Effects, HandoffError> {
        match event {
            SourceEvent::Connected if !self.connected => Ok(self.connected()),
            SourceEvent::Disconnected if self.connected => Ok(self.disconnected()),
            SourceEvent::Received(message) if self.connected => self.received(message),
            SourceEvent::Fenced(fence) if self.in_doubt() => Ok(self.fenced(fence)),
            SourceEvent::Pause if self.state == State::Sending && self.held == Held::Running => {
                self.held = Held::Paused;
                Ok(Effects::NONE)
            }
            SourceEvent::Cancel if self.state == State::Sending => Ok(self.keep()),
            SourceEvent::Persisted if self.state == State::WritingGo => Ok(self.persisted()),
            SourceEvent::NotPersisted if self.state == State::WritingGo => Ok(self.keep()),
            event => Err(HandoffError::Source { event, state: self.state() }),
        }
    }

    fn connected(&mut self) -> Effects {
        self.connected = true;
        match self.state {
            State::Committed => Effects::one(Effect::Send(HandoffMessage::Ask)),
            State::Kept { told: false } => Effects::one(Effect::Send(HandoffMessage::Cancel)),
            // While *go* is being written, the message itself will be the question. The others have
            // nothing to say; `Sending` cannot be here, for it does not outlive its connection.
            State::Sending | State::WritingGo | State::Kept { told: true } | State::Released => Effects::NONE,
        }
    }

    fn disconnected(&mut self) -> Effects {
        self.connected = false;
        match self.state {
            State::Sending => self.keep(),
            State::Committed => Effects::one(Effect::Report(Notice::InDoubt)),
            // The write cannot be taken back, so the guest stays paused until the write has ended.
            State::WritingGo | State::Kept { .. } | State::Released => Effects::NONE,
        }
    }

    fn persisted(&mut self) -> Effects {
        self.state = State::Committed;
        Effects::one(if self.connected {
            Effect::Send(HandoffMessage::Go)
        } else {
            Effect::Report(Notice::InDoubt)
        })
    }

    #[inline(always)]
    fn received(&mut self, message: HandoffMessage) -> Result<Effects, HandoffError> {
        use HandoffMessage::{Answer, Ready, Running, Withdraw};
        Ok(match (self.state, message) {
            (State::Sending, Ready) if self.held == Held::Paused => {
                self.state = State::WritingGo;
                Effects::one(Effect::Persist(StableRecord::Go))
            }
            (State::Sending, Withdraw) => {
                self.state = State::Kept { told: true };
                Effects::at_most(self.resume())
            }
            (State::Committed, Running | Answer(Standing::Running)) => {
                self.state = State::Released;
                Effects::at_most(self.release())
            }
            // Repeating *go* is safe: a destination that has it already says so.
            (State::Committed, Answer(Standing::Prepared)) => Effects::one(Effect::Send(HandoffMessage::Go)),
            (State::Committed, Answer(Standing::Gone)) => {
                self.state = State::Kept { told: true };
                Effects::of([Some(Effect::Erase), self.resume_or_report()])
            }
            (State::Kept { .. }, Withdraw | Answer(Standing::Gone)) => {
                self.state = State::Kept { told: true };
                Effects::NONE
            }
            // A *ready* that crossed our *cancel*, and a repeated *running*.
            (State::Kept { told: false }, Ready) | (State::Released, Running | Answer(Standing::Running)) => {
                Effects::NONE
            }
            _ => {
                let event = SourceEvent::Received(message);
                return Err(HandoffError::Source { event, state: self.state() });
            }
        })
    }

    fn fenced(&mut self, fence: Fence) -> Effects {
        self.state = State::Kept { told: true };
        match fence {
            Fence::NeverRan => Effects::of([Some(Effect::Erase), self.resume_or_report()]),
            Fence::MayHaveRun => {
                let release = self.release();
                Effects::of([Some(Effect::Erase), release, Some(Effect::Report(Notice::GuestLost))])
            }
        }
    }

    /// Keeps the guest here and tells the destination if it can be told now. That it *was* told is
    /// known only from its answer.
    fn keep(&mut self) -> Effects {
        self.state = State::Kept { told: false };
        let resume = self.resume();
        Effects::of([resume, self.connected.then_some(Effect::Send(HandoffMessage::Cancel))])
    }

    fn resume(&mut self) -> Option<Effect> {
        let paused = self.held == Held::Paused;
        paused.then(|| {
            self.held = Held::Running;
            Effect::ResumeGuest
        })
    }

    /// Resumes the guest, or says that it went down with this host.
    fn resume_or_report(&mut self) -> Option<Effect> {
        self.resume().or(Some(Effect::Report(Notice::GuestLost)))
    }

    fn release(&mut self) -> Option<Effect> {
        let paused = self.held == Held::Paused;
        paused.then(|| {
            self.held = Held::Nothing;
            Effect::ReleaseGuest
        })
    }
}

impl fmt::Display for SourceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => f.write_str("a pause"),
            Self::Cancel => f.write_str("a cancel"),
            Self::Persisted => f.write_str("a finished write"),
            Self::NotPersisted => f.write_str("a failed write"),
            Self::Connected => f.write_str("a new connection"),
            Self::Disconnected => f.write_str("a lost connection"),
            Self::Received(message) => write!(f, "the message '{message}'"),
            Self::Fenced(fence) => write!(f, "a fence ({fence})"),
        }
    }
}
