//! What the source's driver is asked to do, and what it answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handoff::{Fence, HandoffMessage, StableRecord};
use super::message::{Message, Section};
use super::phase::SourceEventKind;
use crate::controller::{Harvested, Transmitted};
use crate::layout::PageNumber;
use crate::policy::RateLimit;
use crate::throttle::Throttle;
use crate::units::Timestamp;

/// What the source's driver does next, in the order in which it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourceAction {
    /// Send this, after everything that was sent before it.
    Send(Message),
    /// Record every write from now on; answer with `TrackingStarted`.
    StartTracking,
    /// End the recording and its cost; answer with `TrackingStopped`.
    StopTracking,
    /// Send pending pages, taken from [`Source::backlog_mut`](super::Source::backlog_mut); answer with
    /// `Transmitted` when none is left, or at the first look at the clock after the slice has passed.
    Transmit(Transmit),
    /// The guest waits for this page at the destination: if it is still pending, send it before anything
    /// else that [`Transmit`](Self::Transmit) sends, and go on behind it. Counted in the next
    /// `Transmitted`. Not answered.
    Urgent(PageNumber),
    /// Move what the dirty log holds into the backlog; answer with `Harvested`.
    Harvest,
    /// Slow the guest like this, in place of how it is slowed now. Not answered.
    Throttle(Throttle),
    /// Send no faster than this. Not answered.
    Limit(RateLimit),
    /// Stop vCPUs, drain device I/O: no write to memory afterwards. Answer with `Paused`.
    Pause,
    /// Save the CPU and device state; answer with `Saved`.
    SaveState,
    /// Let the guest run again here; answer with `Resumed`.
    Resume,
    /// Write this to stable storage; answer with `Persisted` or `NotPersisted`.
    Persist(StableRecord),
    /// Remove the record when convenient. Not answered.
    Erase,
    /// Free the paused guest: it runs elsewhere. Not answered.
    Release,
    /// Close the connection if it is still there and try to make a new one; answer with `Connected`
    /// when there is one. The loss is not to be reported again.
    Reconnect,
    /// Report `Wake` at this time.
    Wake(Timestamp),
    /// The migration is over, and this side has nothing left of it; see
    /// [`Source::report`](super::Source::report).
    Done,
}

/// What is wanted in every round: as the [`SourceAction`]s of these names, and where there are only these no queue is
/// gone through; see [`Source::poll_round`](super::Source::poll_round).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundAction {
    /// Send the message that all pages of this round are sent.
    EndRound(u32),
    /// Send pending pages.
    Transmit(Transmit),
    /// Move what the dirty log holds into the backlog.
    Harvest,
}

/// The [`SourceAction`]s that are wanted in every migration, beside those of rounds; by the same names, and owning nothing.
/// See [`Source::poll_plain`](super::Source::poll_plain).
///
/// None carries more than a number of 32 bits: then it is kept in registers, and what was just written is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainSourceAction {
    /// Send the [configuration](super::Source::configuration).
    Configure,
    /// Send the message that all pages of this round are sent.
    EndRound(u32),
    /// Send the state: what [`Source::take_state`](super::Source::take_state) gives.
    State,
    /// Send *go*.
    Go,
    /// Record every write from now on.
    StartTracking,
    /// End the recording.
    StopTracking,
    /// Stop the guest.
    Pause,
    /// Save its state.
    SaveState,
    /// Let it run again here.
    Resume,
    /// Write to stable storage that *go* may have been sent.
    PersistGo,
    /// Remove the record.
    Erase,
    /// Free the paused guest.
    Release,
    /// The migration is over.
    Done,
}

/// How to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Transmit {
    /// For how long; none: until nothing is pending.
    #[serde(with = "crate::units::duration::option")]
    pub slice: Option<Duration>,
    /// The guest does not run here any more: nothing is left out, because there is no later round.
    pub last: bool,
}

/// What happened at the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourceEvent {
    /// There is a connection to the destination, and somebody wants the guest there.
    Start,
    /// The destination said this.
    Received(Message),
    /// The dirty log runs.
    TrackingStarted,
    /// The dirty log is off.
    TrackingStopped,
    /// Pages were sent, as asked by `Transmit`.
    Transmitted(Transmitted),
    /// The dirty log was harvested into the backlog.
    Harvested(Harvested),
    /// The guest is paused.
    Paused,
    /// The state is saved.
    Saved(Vec<Section>),
    /// The guest runs here again.
    Resumed,
    /// The record is in stable storage.
    Persisted,
    /// The record could not be written, and no restart can find it.
    NotPersisted,
    /// The time asked for by `Wake` has come.
    Wake,
    /// Somebody changes a parameter of the policy.
    Change {
        /// Which.
        parameter: String,
        /// To what.
        value: String,
    },
    /// Somebody bounds the rate of sending, whatever the policy wants. The driver sees to it; the policy sees what it comes to in what is
    /// sent.
    Limit(RateLimit),
    /// Somebody wants the guest to stay.
    Cancel(CancelReason),
    /// A step that was asked for failed.
    Failed(Failure),
    /// There is a connection again.
    Connected,
    /// The connection is lost.
    Disconnected,
    /// Somebody guarantees that the destination is out of the game.
    Fenced(Fence),
}

/// Who wants the guest to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CancelReason {
    /// A person or a program.
    Requested,
    /// The time limit of the run.
    TimeLimit,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[error("{step} failed: {detail}")]
pub struct Failure {
    /// Which.
    pub step: Step,
    /// What the driver was told, such as the operating system's words.
    pub detail: String,
}

/// A step that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Starting to track.
    StartTracking,
    /// Ending to track.
    StopTracking,
    /// Harvesting the dirty log.
    Harvest,
    /// Reading or sending pages.
    Transmit,
    /// Throttling.
    Throttle,
    /// Pausing.
    Pause,
    /// Saving the state.
    SaveState,
    /// Restoring the state, at the destination.
    Restore,
    /// Resuming.
    Resume,
    /// The peer broke the protocol.
    Protocol,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::StartTracking => "starting to track",
            Self::StopTracking => "ending to track",
            Self::Harvest => "harvesting the dirty log",
            Self::Transmit => "sending pages",
            Self::Throttle => "throttling",
            Self::Pause => "pausing",
            Self::SaveState => "saving the state",
            Self::Restore => "restoring the state",
            Self::Resume => "resuming",
            Self::Protocol => "the protocol",
        })
    }
}

impl SourceEvent {
    /// Its name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Received(message) => message.name(),
            Self::Start => "start",
            Self::TrackingStarted => "tracking-started",
            Self::TrackingStopped => "tracking-stopped",
            Self::Transmitted(_) => "transmitted",
            Self::Harvested(_) => "harvested",
            Self::Paused => "paused",
            Self::Saved(_) => "saved",
            Self::Resumed => "resumed",
            Self::Persisted => "persisted",
            Self::NotPersisted => "not-persisted",
            Self::Wake => "wake",
            Self::Change { .. } => "change",
            Self::Limit(_) => "limit",
            Self::Cancel(_) => "cancel",
            Self::Failed(_) => "failed",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Fenced(_) => "fenced",
        }
    }

    /// Its kind; none for a message that no source is ever sent.
    #[inline(always)]
    pub fn kind(&self) -> Option<SourceEventKind> {
        use SourceEventKind as K;
        Some(match self {
            Self::Start => K::Start,
            Self::Received(message) => return received(message),
            Self::TrackingStarted => K::TrackingStarted,
            Self::TrackingStopped => K::TrackingStopped,
            Self::Transmitted(_) => K::Transmitted,
            Self::Harvested(_) => K::Harvested,
            Self::Paused => K::Paused,
            Self::Saved(_) => K::Saved,
            Self::Resumed => K::Resumed,
            Self::Persisted => K::Persisted,
            Self::NotPersisted => K::NotPersisted,
            Self::Wake => K::Wake,
            Self::Change { .. } => K::Changed,
            Self::Limit(_) => K::Limited,
            Self::Cancel(_) => K::Cancel,
            Self::Failed(_) => K::Failed,
            Self::Connected => K::Connected,
            Self::Disconnected => K::Disconnected,
            Self::Fenced(_) => K::Fenced,
        })
    }
}

#[inline(always)]
fn received(message: &Message) -> Option<SourceEventKind> {
    use SourceEventKind as K;
    Some(match message {
        Message::Accept => K::Accepted,
        Message::Refuse { .. } => K::Refused,
        Message::Acknowledge { .. } => K::Acknowledged,
        Message::Request { .. } => K::Requested,
        Message::Lost { .. } => K::Lost,
        Message::Handoff { message, .. } => match message {
            HandoffMessage::Ready => K::Ready,
            HandoffMessage::Running => K::Running,
            HandoffMessage::Answer(_) => K::Answer,
            HandoffMessage::Withdraw => K::Withdrawn,
            HandoffMessage::Go | HandoffMessage::Cancel | HandoffMessage::Ask => return None,
        },
        Message::Configure(_) | Message::RoundEnd { .. } | Message::PostCopy { .. } | Message::State(_) => {
            return None;
        }
    })
}
