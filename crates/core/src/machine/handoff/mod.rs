//! Who may run the guest.
//!
//! Two small machines, [`SourceHandoff`] and [`DestinationHandoff`], answer every question of
//! ownership from the first message of a migration to the last, and nothing else answers any. The
//! migration machines embed one each, feed it events and carry out its [`Effects`] in order. This
//! module must never guess: where a side cannot know, it stays [`Right::Undecided`], with its guest
//! paused, until it is told.
//!
//! # The model
//!
//! There is one *right to run* the guest. It starts at the source and moves at most once.
//!
//! 1. The source pauses the guest and sends the last pages and the state. It still holds the right
//!    and may cancel.
//! 2. The destination restores, verifies and sends [`Ready`](HandoffMessage::Ready). It may
//!    withdraw until then; afterwards it keeps the paused replica until it is told, because it
//!    cannot know whether *go* was sent.
//! 3. The source writes [`StableRecord::Go`], then sends [`Go`](HandoffMessage::Go). When it
//!    *starts* to write, the right has left its hands: it never resumes on its own again.
//! 4. The destination writes [`StableRecord::Running`], then resumes the guest. From the write on
//!    the right is the destination's, for ever: even if the guest dies with its host, it is started
//!    again there.
//! 5. The destination sends [`Running`](HandoffMessage::Running) and the source releases its guest.
//!
//! If the connection is lost before 3, the source takes the guest back at once, and tells the
//! destination to drop the replica as soon as there is a connection again. After 3 it asks on the
//! next connection ([`Ask`](HandoffMessage::Ask)), and does what the answer says ([`Standing`]).
//!
//! # Crashes
//!
//! A crash takes everything but stable storage, the guest's memory included. Each side starts again
//! with `restarted(record)`. A write in progress at the crash may have happened or not; both are safe.
//! A host that is asked about a migration it has no record of builds `restarted(None)` and answers
//! with that: a destination then says *gone*; a source says *cancel*, so a source must keep its
//! *go* for as long as its inventory lists the guest, and a destination its *running* for as long as
//! the source might ask.
//!
//! # Fencing
//!
//! When the other side may never come back, somebody outside can end the doubt, if they can
//! guarantee what [`Fence`] demands. [`DestinationEvent::Discard`] gives up a replica and needs no
//! guarantee to be safe. Both are taken only without a connection: with one, asking is better.
//!
//! # What the driver owes
//!
//! * Messages on one connection arrive in order and without gaps; a lost connection loses what was
//!   still under way. `Disconnected` is reported for the old connection before `Connected` for the
//!   new one, and nothing from the old one is delivered afterwards.
//! * Every message carries the migration's identity on the wire, and one of another migration is
//!   never passed in here. There are no sequence numbers: every message is safe to repeat.
//! * [`Effect::Persist`] is answered by `Persisted` only when the record would survive a power cut,
//!   and by `NotPersisted` only when no restart can find it. Who cannot tell must go on trying.
//! * Effects are carried out in their order. Events are passed in one at a time.

#[cfg(test)]
mod courses;
mod destination;
#[cfg(test)]
mod model;
mod source;
#[cfg(test)]
mod table;

pub use destination::{DestinationEvent, DestinationHandoff};
pub use source::{SourceEvent, SourceHandoff};

use core::fmt;

use serde::{Deserialize, Serialize};

/// What the two sides say to each other about the right to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandoffMessage {
    /// Destination: the replica is complete and verified; I keep it paused until you tell me.
    Ready,
    /// Source: the guest is yours. Sent only after *go* is on stable storage.
    Go,
    /// Destination: the guest runs here.
    Running,
    /// Source: the guest stays with me; drop the replica. Answered by `Answer(Gone)`.
    Cancel,
    /// Destination: I cannot take the guest and have dropped the replica. Never sent after `Ready`.
    /// Why it cannot is told beside this message, not in it.
    Withdraw,
    /// Source, on a new connection, after *go*: how do you stand?
    Ask,
    /// Destination: this is how I stand.
    Answer(Standing),
}

/// How the destination stands, as it tells a source that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The replica is complete and has not run yet. The source sends *go* (again).
    Prepared,
    /// The right is the destination's: *running* is on its stable storage and the guest runs there,
    /// or died there with its host.
    Running,
    /// No replica, no record of *running*: the guest never ran here and never will. Only this answer
    /// lets a source that wrote *go* have its guest back.
    Gone,
}

/// What a side keeps on stable storage for one migration. Nothing is written before this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StableRecord {
    /// At the source: *go* may have been sent.
    Go,
    /// At the destination: the guest may have run here.
    Running,
}

/// What a side knows about the right to run.
///
/// Never do both sides hold [`Right::Mine`]. Who holds it may start the guest again from its disks
/// when its memory is lost; nobody else may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// This side may run the guest, and the other side may not.
    Mine,
    /// This side cannot know. It keeps what it has, paused.
    Undecided,
    /// This side may not run the guest and never will again in this migration.
    Theirs,
}

/// The guest's memory on one side, as far as the handoff is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// It is here and the guest runs.
    Running,
    /// It is here, whole, and the guest is paused.
    Paused,
    /// It is not here, or not whole: still arriving, released, dropped, or lost in a crash.
    Nothing,
}

/// The guarantee given by whoever fences the other side.
///
/// Both say: the other side does not run this guest and never will again. *Never* includes after a
/// reboot and after its network returns: it is powered off for good, or cut off from the guest's
/// disks and network, or its record of this migration and of this guest has been struck out by hand.
/// A host that merely does not answer is not fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fence {
    /// And it has not run the guest since the source paused it for this handoff, so that the memory
    /// held here is the latest and may be resumed. Evidence against a destination: no *running* on
    /// its stable storage. Evidence against a source: *go* on its stable storage.
    NeverRan,
    /// And it may have run the guest meanwhile. The memory held here may be older than what the guest
    /// has written to its disks and told the world, so it is thrown away: the guest is to be started
    /// from its disks, here.
    MayHaveRun,
}

/// Something to tell people; nothing to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notice {
    /// The other side cannot be reached and only it knows who may run. A new connection or a fence
    /// ends this.
    InDoubt,
    /// The right to run is here but the guest's memory is not: start the guest from its disks.
    GuestLost,
}

/// One thing that the embedding machine must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Write this to stable storage, then report `Persisted` (or `NotPersisted`).
    Persist(StableRecord),
    /// Remove this side's record from stable storage, when convenient. Nobody waits for it, and a
    /// crash that leaves the record behind is safe.
    Erase,
    /// Send this on the present connection. Never asked for without one.
    Send(HandoffMessage),
    /// Let the guest run here. At the source: put it back as it was before the pause.
    ResumeGuest,
    /// Source: free the paused guest's memory and devices; it will not run from them again.
    ReleaseGuest,
    /// Destination: free the replica, complete or not.
    DropReplica,
    /// Tell people.
    Report(Notice),
}

/// The most effects that one event can have.
const MOST: usize = 3;

/// The effects of one event, in the order in which they are to be carried out; at most three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effects {
    list: [Option<Effect>; MOST],
}

impl Effects {
    /// No effect.
    pub const NONE: Self = Self { list: [None; MOST] };

    #[inline]
    fn one(effect: Effect) -> Self {
        Self::at_most(Some(effect))
    }

    /// The effect, if it is there.
    #[inline]
    fn at_most(effect: Option<Effect>) -> Self {
        Self { list: [effect, None, None] }
    }

    /// The effects that are there, in order.
    fn of<const N: usize>(candidates: [Option<Effect>; N]) -> Self {
        const { assert!(N <= MOST) };
        let mut effects = Self::NONE;
        for (slot, effect) in effects.list.iter_mut().zip(candidates.into_iter().flatten()) {
            *slot = Some(effect);
        }
        effects
    }

    /// The effects in order.
    pub fn iter(&self) -> InOrder {
        self.into_iter()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list[0].is_none()
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = InOrder;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        InOrder { left: self.list }
    }
}

impl IntoIterator for &Effects {
    type Item = Effect;
    type IntoIter = InOrder;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        InOrder { left: self.list }
    }
}

/// The effects of one event, one after the other.
#[derive(Clone, Debug)]
pub struct InOrder {
    left: [Option<Effect>; MOST],
}

impl Iterator for InOrder {
    type Item = Effect;

    #[inline]
    fn next(&mut self) -> Option<Effect> {
        let [first, second, third] = self.left;
        self.left = [second, third, None];
        first
    }
}

/// Why a handoff did not take an event. The machine is then unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoffError {
    /// The event does not belong to what the source is doing. From the peer it is a breach of the
    /// protocol; from the driver, a mistake or a cancel that comes too late.
    #[error("{event} does not fit a source that is {state}")]
    Source {
        /// What happened.
        event: SourceEvent,
        /// What the source was doing.
        state: &'static str,
    },
    /// The event does not belong to what the destination is doing.
    #[error("{event} does not fit a destination that is {state}")]
    Destination {
        /// What happened.
        event: DestinationEvent,
        /// What the destination was doing.
        state: &'static str,
    },
    /// Stable storage holds the other side's record.
    #[error("a record of '{record}' does not belong to this side of the migration")]
    ForeignRecord {
        /// The record found.
        record: StableRecord,
    },
}

impl fmt::Display for HandoffMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Go => f.write_str("go"),
            Self::Running => f.write_str("running"),
            Self::Cancel => f.write_str("cancel"),
            Self::Withdraw => f.write_str("withdraw"),
            Self::Ask => f.write_str("ask"),
            Self::Answer(standing) => write!(f, "answer {standing}"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepared => "prepared",
            Self::Running => "running",
            Self::Gone => "gone",
        })
    }
}

impl fmt::Display for StableRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "go",
            Self::Running => "running",
        })
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mine => "mine",
            Self::Undecided => "undecided",
            Self::Theirs => "theirs",
        })
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Nothing => "nothing",
        })
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverRan => "never ran",
            Self::MayHaveRun => "may have run",
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InDoubt => "in doubt",
            Self::GuestLost => "guest lost",
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persist(record) => write!(f, "write *{record}*"),
            Self::Erase => f.write_str("erase the record"),
            Self::Send(message) => write!(f, "send *{message}*"),
            Self::ResumeGuest => f.write_str("resume the guest"),
            Self::ReleaseGuest => f.write_str("release the guest"),
            Self::DropReplica => f.write_str("drop the replica"),
            Self::Report(notice) => write!(f, "report \"{notice}\""),
        }
    }
}
