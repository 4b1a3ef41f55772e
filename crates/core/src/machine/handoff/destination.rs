//! The destination's half of the handoff.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Effect, Effects, Fence, HandoffError, HandoffMessage, Held, Notice, Right, StableRecord, Standing,
};

/// What happens to the destination's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestinationEvent {
    /// The replica is complete, restored and verified, and needs only to be resumed.
    Verified,
    /// Someone here cannot or will not take the guest. Fits until the replica is verified; see
    /// [`DestinationHandoff::may_withdraw`].
    Withdraw,
    /// The record asked for is on stable storage.
    Persisted,
    /// The record asked for could not be written, and no restart can find it. The replica is kept,
    /// and the next *go* tries again: wait a little before reporting this of a full disk.
    NotPersisted,
    /// The guest runs, as [`Effect::ResumeGuest`] asked.
    Resumed,
    /// There is a new connection to the source, and nothing has been said on it.
    Connected,
    /// The connection is lost, or was closed.
    Disconnected,
    /// The source said this, about this migration.
    Received(HandoffMessage),
    /// Somebody guarantees that the source is out of the game, and gives the right to run to this
    /// host: with the replica if the source never ran the guest again, without it otherwise.
    Fenced(Fence),
    /// Somebody gives up a replica whose source does not come back. Always safe. The guest's memory
    /// is lost if the source lost it too.
    Discard,
}

/// The destination's half of the handoff; see the [module](super) for the model.
///
/// Starts when the connection stands and the replica is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationHandoff {
    pub(super) state: State,
    pub(super) connected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// The replica is being built and filled. Nobody has been promised anything.
    Building,
    /// *Ready* was sent. The replica is kept until someone says what to do with it.
    Prepared,
    /// *Running* is being written. `replica`: there is one, to be resumed afterwards.
    WritingRunning { replica: bool },
    /// The right is here; the guest is being resumed.
    Resuming,
    /// The right is here. `alive`: and so is the guest, as it arrived.
    Running { alive: bool },
    /// No replica, and the guest never ran here.
    Gone,
}

impl Default for DestinationHandoff {
    fn default() -> Self {
        Self::new()
    }
}

impl DestinationHandoff {
    /// The start of a migration: connected, with a replica being built.
    pub fn new() -> Self {
        Self { state: State::Building, connected: true }
    }

    /// The destination after a crash or restart of its host, with what stable storage says.
    ///
    /// The replica or guest is lost. Without a record it never ran; with one it may have, so the
    /// right stays here and the guest is to be started from its disks ([`Right::Mine`] with
    /// [`Held::Nothing`] says so; no effect does).
    ///
    /// # Errors
    ///
    /// [`HandoffError::ForeignRecord`] if `record` is a source's.
    pub fn restarted(record: Option<StableRecord>) -> Result<Self, HandoffError> {
        let state = match record {
            None => State::Gone,
            Some(StableRecord::Running) => State::Running { alive: false },
            Some(record @ StableRecord::Go) => return Err(HandoffError::ForeignRecord { record }),
        };
        Ok(Self { state, connected: false })
    }

    /// What this side knows about the right to run.
    pub fn right(&self) -> Right {
        match self.state {
            State::Building | State::Gone => Right::Theirs,
            State::Prepared | State::WritingRunning { .. } => Right::Undecided,
            State::Resuming | State::Running { .. } => Right::Mine,
        }
    }

    /// The guest's memory here.
    pub fn held(&self) -> Held {
        match self.state {
            State::Prepared | State::WritingRunning { replica: true } | State::Resuming => Held::Paused,
            State::Running { alive: true } => Held::Running,
            State::Building
            | State::WritingRunning { replica: false }
            | State::Running { alive: false }
            | State::Gone => Held::Nothing,
        }
    }

    /// Whether [`DestinationEvent::Withdraw`] would be taken now.
    pub fn may_withdraw(&self) -> bool {
        self.state == State::Building
    }

    /// Whether *ready* was sent, no answer has come and the connection is lost: this side cannot
    /// know whether the source resumed or sent *go*.
    pub fn in_doubt(&self) -> bool {
        self.state == State::Prepared && !self.connected
    }

    /// Whether nothing more happens on this side by itself. It still answers a source that asks.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Gone)
    }

    /// Whether there is a connection, as far as this side was told.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// What this side is doing, in words that complete "a destination that is …".
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Building => "building the replica",
            State::Prepared => "prepared",
            State::WritingRunning { .. } => "writing 'running'",
            State::Resuming => "resuming the guest",
            State::Running { alive: true } => "running the guest",
            State::Running { alive: false } => "owning a guest whose memory is lost",
            State::Gone => "without a replica",
        }
    }

    /// Takes one event and says what to do now.
    ///
    /// # Errors
    ///
    /// [`HandoffError::Destination`] if the event does not fit. The machine is then unchanged.
    #[inline(always)]
    pub fn handle(&mut self, event: DestinationEvent) -> Result<Effects, HandoffError> {
        match (event, self.state) {
            (DestinationEvent::Connected, _) if !self.connected => {
                // The source speaks first: it alone knows what there is to ask.
                self.connected = true;
                Ok(Effects::NONE)
            }
            (DestinationEvent::Disconnected, _) if self.connected => Ok(self.disconnected()),
            (DestinationEvent::Received(message), _) if self.connected => self.received(message),
            (DestinationEvent::Verified, State::Building) => {
                self.state = State::Prepared;
                Ok(Effects::one(Effect::Send(HandoffMessage::Ready)))
            }
            (DestinationEvent::Withdraw, State::Building) => {
                Ok(self.drop_replica(Some(HandoffMessage::Withdraw)))
            }
            (DestinationEvent::Persisted, State::WritingRunning { replica }) => Ok(self.persisted(replica)),
            (DestinationEvent::NotPersisted, State::WritingRunning { replica: true }) => {
                self.state = State::Prepared;
                Ok(Effects::one(self.send_or_doubt(Standing::Prepared)))
            }
            (DestinationEvent::NotPersisted, State::WritingRunning { replica: false }) => {
                self.state = State::Gone;
                Ok(Effects::NONE)
            }
            (DestinationEvent::Resumed, State::Resuming) => {
                self.state = State::Running { alive: true };
                Ok(Effects::at_most(self.send(HandoffMessage::Running)))
            }
            (DestinationEvent::Fenced(fence), State::Prepared) if !self.connected => {
                let replica = fence == Fence::NeverRan;
                let drop = (!replica).then_some(Effect::DropReplica);
                Ok(Effects::of([drop, Some(self.write_running(replica))]))
            }
            (DestinationEvent::Fenced(_), State::Gone) if !self.connected => {
                Ok(Effects::one(self.write_running(false)))
            }
            (DestinationEvent::Discard, State::Prepared) if !self.connected => Ok(self.drop_replica(None)),
            (event, _) => Err(HandoffError::Destination { event, state: self.state() }),
        }
    }

    fn disconnected(&mut self) -> Effects {
        self.connected = false;
        match self.state {
            // Nothing was promised, and the source resumes when it loses us here.
            State::Building => self.drop_replica(None),
            State::Prepared => Effects::one(Effect::Report(Notice::InDoubt)),
            State::WritingRunning { .. } | State::Resuming | State::Running { .. } | State::Gone => {
                Effects::NONE
            }
        }
    }

    #[inline(always)]
    fn received(&mut self, message: HandoffMessage) -> Result<Effects, HandoffError> {
        use HandoffMessage::{Answer, Ask, Cancel, Go, Running};
        Ok(match (self.state, message) {
            (State::Building | State::Prepared, Cancel) => self.drop_replica(Some(Answer(Standing::Gone))),
            (State::Prepared, Go) => Effects::one(self.write_running(true)),
            // It has not run yet, so *prepared* is true; *running* follows by itself.
            (State::Prepared | State::WritingRunning { .. } | State::Resuming, Ask) => {
                Effects::at_most(self.send(Answer(Standing::Prepared)))
            }
            (State::WritingRunning { .. } | State::Resuming, Go) => Effects::NONE,
            (State::Running { .. }, Go) => Effects::at_most(self.send(Running)),
            (State::Running { .. }, Ask) => Effects::at_most(self.send(Answer(Standing::Running))),
            (State::Gone, Go | Ask | Cancel) => Effects::at_most(self.send(Answer(Standing::Gone))),
            // In particular *go* and *ask* before *ready*, and *cancel* after *go*: no honest source
            // can say these.
            _ => {
                let event = DestinationEvent::Received(message);
                return Err(HandoffError::Destination { event, state: self.state() });
            }
        })
    }

    fn persisted(&mut self, replica: bool) -> Effects {
        if replica {
            self.state = State::Resuming;
            Effects::one(Effect::ResumeGuest)
        } else {
            self.state = State::Running { alive: false };
            Effects::one(Effect::Report(Notice::GuestLost))
        }
    }

    fn write_running(&mut self, replica: bool) -> Effect {
        self.state = State::WritingRunning { replica };
        Effect::Persist(StableRecord::Running)
    }

    fn drop_replica(&mut self, say: Option<HandoffMessage>) -> Effects {
        self.state = State::Gone;
        Effects::of([Some(Effect::DropReplica), say.and_then(|message| self.send(message))])
    }

    fn send(self, message: HandoffMessage) -> Option<Effect> {
        self.connected.then_some(Effect::Send(message))
    }

    fn send_or_doubt(self, standing: Standing) -> Effect {
        self.send(HandoffMessage::Answer(standing)).unwrap_or(Effect::Report(Notice::InDoubt))
    }
}

impl fmt::Display for DestinationEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => f.write_str("a verified replica"),
            Self::Withdraw => f.write_str("a withdrawal"),
            Self::Persisted => f.write_str("a finished write"),
            Self::NotPersisted => f.write_str("a failed write"),
            Self::Resumed => f.write_str("a resumed guest"),
            Self::Connected => f.write_str("a new connection"),
            Self::Disconnected => f.write_str("a lost connection"),
            Self::Received(message) => write!(f, "the message '{message}'"),
            Self::Fenced(fence) => write!(f, "a fence ({fence})"),
            Self::Discard => f.write_str("a discard"),
        }
    }
}
