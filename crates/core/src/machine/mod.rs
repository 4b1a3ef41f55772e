//! The machines: what each side of a migration does, as pure state machines.
//!
//! [`Source`] and [`Destination`] take events and give actions; drivers (the simulator, the live
//! engine) carry the actions out and report what happened, each event with its time. Neither machine
//! owns a socket, a clock or a page of memory. Who may run the guest is decided in [`handoff`] alone;
//! which phase may follow which is the table in [`phase`].

mod destination;
mod event;
pub mod handoff;
pub mod message;
pub mod phase;
mod rounds;
mod source;
mod stopwatch;

pub use self::destination::{Destination, DestinationAction, DestinationEvent, DestinationOutcome};
pub use self::event::{CancelReason, Failure, RoundAction, SourceAction, SourceEvent, Step, Transmit};
pub use self::phase::{DestinationPhase, SourcePhase};
pub use self::source::{PATIENCE, Source};
use crate::dirty::GateError;
use crate::journal::Journal;
use crate::units::Pages;

/// What replaying a journal gives: the journal that the fresh machine wrote.
pub type Replay = Result<Journal, MachineError>;

/// Why a machine did not take an event. It is then unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The event does not belong to the phase. From the peer it is a breach of the protocol, from the
    /// driver a mistake.
    #[error("`{event}` does not fit the phase `{phase}`")]
    Misfit {
        /// What happened.
        event: &'static str,
        /// Where the machine was.
        phase: Phase,
    },
    /// The driver says that another number of pages is pending than the backlog holds.
    #[error("{} pages are said to be pending, the backlog holds {}", claimed.0, pending.0)]
    Miscounted {
        /// What the event says.
        claimed: Pages,
        /// What the backlog holds.
        pending: Pages,
    },
    /// The handoff did not take it.
    #[error(transparent)]
    Handoff(#[from] handoff::HandoffError),
    /// The policy did not take a change of a parameter.
    #[error(transparent)]
    Change(#[from] crate::policy::ChangeError),
    /// The journal that was to be replayed has two policies, and only one can be given.
    #[error("the journal can't be replayed: policy `{policy}` took over in it")]
    Replaced {
        /// Who took over.
        policy: String,
    },
    /// A round was acknowledged out of turn.
    #[error(transparent)]
    Gate(#[from] GateError),
}

/// A phase of either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The source's.
    Source(SourcePhase),
    /// The destination's.
    Destination(DestinationPhase),
}

impl From<SourcePhase> for Phase {
    fn from(phase: SourcePhase) -> Self {
        Self::Source(phase)
    }
}

impl From<DestinationPhase> for Phase {
    fn from(phase: DestinationPhase) -> Self {
        Self::Destination(phase)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source(phase) => write!(f, "{phase:?}"),
            Self::Destination(phase) => write!(f, "{phase:?}"),
        }
    }
}
