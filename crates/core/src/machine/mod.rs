//! The machines: what each side of a migration does, as pure state machines.
//!
//! [`Source`] and [`Destination`] take events and give actions; drivers (the simulator, the live
//! engine) carry the actions out and report what happened, each event with its time. Neither machine
//! owns a socket, a clock or a page of memory. Who may run the guest is decided in [`handoff`] alone;
//! which phase may follow which is the table in [`phase`].
//!
//! # A driver
//!
//! A driver is a loop: poll both machines until they are silent, do what they ask, report it. This one has both sides in
//! one process, a guest of 64 pages that writes while it is moved, and a queue for a connection. What a real one adds are
//! sockets, a dirty log, stable storage, a clock, and the events for what fails.
//!
//! ```
//! use std::collections::{BTreeMap, VecDeque};
//! use std::time::Duration;
//!
//! use whimbrel_core::controller::{Controller, Harvested, Transmitted};
//! use whimbrel_core::dirty::{PageSet, Take};
//! use whimbrel_core::layout::{PageNumber, PageSize, RamLayout};
//! use whimbrel_core::machine::message::{Configuration, Message, MigrationId};
//! use whimbrel_core::machine::{Destination, DestinationAction, DestinationEvent};
//! use whimbrel_core::machine::{Source, SourceAction, SourceEvent};
//! use whimbrel_core::policy::presets;
//! use whimbrel_core::progress::Capabilities;
//! use whimbrel_core::report::Outcome;
//! use whimbrel_core::units::{ByteCount, Pages, Timestamp};
//!
//! /// What travels: messages, and pages beside them in the same order.
//! enum Wire {
//!     Message(Message),
//!     Page(usize, u8),
//! }
//!
//! const PAGES: usize = 64;
//! let layout = RamLayout::contiguous(ByteCount(64 * 4096), PageSize::Kib4)?;
//! let policy = presets::build("fixed-rounds", &BTreeMap::new())?;
//! let controller = Controller::new(policy, PageSize::Kib4, Pages(64), Capabilities::default())?;
//! let guest = Configuration { id: MigrationId(1), name: "guest".into(), layout: layout.clone(), vcpus: 1 };
//! let (mut source, mut destination) = (Source::new(guest, controller), Destination::new());
//!
//! // One byte stands for a page.
//! let (mut memory, mut replica) = ([0_u8; PAGES], [0_u8; PAGES]);
//! let mut dirty_log = PageSet::new(layout.numbers());
//! let (mut runs_here, mut runs_there, mut tracked, mut done) = (true, false, false, false);
//! let mut wire: VecDeque<Wire> = VecDeque::new();
//! let mut here = VecDeque::from([SourceEvent::Start]);
//! let (mut now, mut page) = (Timestamp::ZERO, 0);
//!
//! while !done {
//!     now = now.saturating_add(Duration::from_millis(1));
//!     // The guest writes to one page after another, as long as it runs here.
//!     if runs_here {
//!         page = (page + 7) % PAGES;
//!         memory[page] = memory[page].wrapping_add(1);
//!         if tracked {
//!             dirty_log.insert(PageNumber(page as u64))?;
//!         }
//!     }
//!     // Something happens: what the source waits for, or else what comes next on the wire.
//!     if let Some(event) = here.pop_front() {
//!         source.handle(now, event)?;
//!     } else {
//!         match wire.pop_front() {
//!             Some(Wire::Page(page, content)) => replica[page] = content,
//!             Some(Wire::Message(message)) => destination.handle(now, DestinationEvent::Received(message))?,
//!             None => return Err("nobody does anything".into()),
//!         }
//!     }
//!     while let Some(action) = source.poll() {
//!         match action {
//!             SourceAction::Send(message) => wire.push_back(Wire::Message(message)),
//!             SourceAction::StartTracking => {
//!                 tracked = true;
//!                 here.push_back(SourceEvent::TrackingStarted);
//!             }
//!             SourceAction::StopTracking => {
//!                 tracked = false;
//!                 here.push_back(SourceEvent::TrackingStopped);
//!             }
//!             SourceAction::Transmit(_) => {
//!                 let taken = source.backlog_mut().take_with(|block| {
//!                     for bit in (0..64).filter(|bit| block.mask >> bit & 1 == 1) {
//!                         let page = block.word * 64 + bit;
//!                         wire.push_back(Wire::Page(page, memory[page]));
//!                     }
//!                     Take::Continue(block.mask)
//!                 });
//!                 here.push_back(SourceEvent::Transmitted(Transmitted {
//!                     pages: taken.taken,
//!                     bytes: ByteCount(taken.taken.0 * 4096),
//!                     pending: source.backlog().pending(),
//!                     ..Transmitted::default()
//!                 }));
//!             }
//!             SourceAction::Harvest => {
//!                 let backlog = source.backlog_mut();
//!                 let left_over = backlog.pending();
//!                 let dirtied = backlog.harvested(&mut dirty_log)?.dirty;
//!                 let pending = backlog.pending();
//!                 // What the wire holds is not known here.
//!                 let harvested = Harvested { dirtied, left_over, pending, in_flight: None };
//!                 here.push_back(SourceEvent::Harvested(harvested));
//!             }
//!             SourceAction::Pause => {
//!                 runs_here = false;
//!                 here.push_back(SourceEvent::Paused);
//!             }
//!             SourceAction::SaveState => here.push_back(SourceEvent::Saved(Vec::new())),
//!             // A real one answers when the record is in stable storage.
//!             SourceAction::Persist(_) => here.push_back(SourceEvent::Persisted),
//!             SourceAction::Done => done = true,
//!             // Throttles, limits, and wishes to be woken if no answer comes.
//!             _ => {}
//!         }
//!     }
//!     while let Some(action) = destination.poll() {
//!         match action {
//!             DestinationAction::Send(message) => here.push_back(SourceEvent::Received(message)),
//!             DestinationAction::Build(_) => destination.handle(now, DestinationEvent::Built)?,
//!             DestinationAction::Restore(_) => destination.handle(now, DestinationEvent::Restored)?,
//!             DestinationAction::Persist(_) => destination.handle(now, DestinationEvent::Persisted)?,
//!             DestinationAction::Resume => {
//!                 runs_there = true;
//!                 destination.handle(now, DestinationEvent::Resumed)?;
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! assert!(!runs_here && runs_there && !tracked);
//! assert_eq!(memory, replica, "the copy is the memory at the pause");
//! assert_eq!(source.report(now).outcome, Outcome::Completed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod destination;
mod event;
pub mod handoff;
pub mod message;
pub mod phase;
mod rounds;
mod source;
mod stopwatch;
#[cfg(test)]
mod tests;
mod waiting;

pub use self::destination::{
    Destination, DestinationAction, DestinationEvent, DestinationOutcome, PlainDestinationAction,
};
pub use self::event::{
    CancelReason, Failure, PlainSourceAction, RoundAction, SourceAction, SourceEvent, Step, Transmit,
};
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
