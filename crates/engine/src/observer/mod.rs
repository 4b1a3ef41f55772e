//! What a migration shows of itself while it runs: to progress bars, logs, metrics.
//!
//! A driver tells its [`Observer`], on its own thread. `Spans` (feature `tracing`) passes that on to a subscriber of `tracing`.
//!
//! ```
//! use whimbrel_core::units::Timestamp;
//! use whimbrel_engine::observer::{Event, Observer};
//!
//! let mut rounds = 0;
//! let mut watch = |at: Timestamp, event: &Event<'_>| match event {
//!     Event::Round(round) => {
//!         rounds += 1;
//!         println!("{at}: round {}: {} sent in {:?}", round.round, round.sent.human(), round.length);
//!     }
//!     Event::Lost { what } => eprintln!("{at}: {what}"),
//!     _ => {}
//! };
//! let _: &mut dyn Observer = &mut watch;
//! ```

#[cfg(feature = "tracing")]
mod spans;

use whimbrel_core::controller::Outlook;
use whimbrel_core::journal::Entry;
use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::machine::{DestinationPhase, SourcePhase};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::progress::{Capabilities, Progress};
use whimbrel_core::report::RoundReport;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::Timestamp;

use crate::orders::Order;

#[cfg(feature = "tracing")]
pub use self::spans::Spans;

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The source's machine is in another phase.
    Source(SourcePhase),
    /// The destination's machine is in another phase.
    Destination(DestinationPhase),
    /// Pages were sent, or the dirty log was harvested.
    Progress(&'a Progress),
    /// A pass over memory has ended.
    Round(&'a RoundReport),
    /// What is left of the migration, as forecast when a pass begins; only where outlooks are wanted.
    Outlook(&'a Outlook),
    /// The guest is slowed like this from now on.
    Throttle(Throttle),
    /// Pages are sent no faster than this.
    Limit(RateLimit),
    /// There is a connection to the peer again.
    Connected,
    /// A connection was lost.
    Lost {
        /// Which, and how.
        what: &'a str,
    },
    /// More lines of the source's journal: every one comes once, in their order. They are shown while nothing waits for it, so those of the
    /// blackout come behind it, unless there are hundreds, and the last when everything is over; nobody keeps them otherwise. In doubt, where
    /// the guest stands still and waits for the peer, they are shown as they come. With a
    /// [`Source`](whimbrel_core::machine::Source) of the same configuration, policy and patience they replay the migration.
    Journal {
        /// What the ground and the guest offered the policy, from the beginning on.
        capabilities: Capabilities,
        /// What happened, and what was decided.
        lines: &'a [Entry],
    },
    /// A record could not be written to stable storage and is tried again.
    StorageFails {
        /// What the system says.
        what: &'a str,
    },
    /// An order was taken, and is carried out.
    Taken {
        /// Which.
        order: &'a Order,
    },
    /// An order was not taken: it has come too late or too early, or is none for this side. So it is with a
    /// [`Fence`](Order::Fence) as long as there is a connection, which a peer that has died without a word leaves behind for as long as the
    /// patience lasts: give it again when the connection is [`Lost`](Self::Lost).
    Ignored {
        /// Which.
        order: &'a Order,
        /// Why not.
        why: &'a str,
    },
    /// At the destination: somebody was not let in, who had no certificate that is trusted, no token, nothing to say, or came second. Who they
    /// are, nobody knows: what they cause here may be as much as they like.
    TurnedAway {
        /// From where they came.
        peer: &'a str,
        /// Why, with the fingerprint of a certificate that was refused.
        why: &'a str,
    },
    /// The right to run the guest is here, and its memory is not: it is to be started from its disks, here. Shown before the phase that
    /// follows, and only where a [`Fence`](whimbrel_core::machine::handoff::Fence) said that the peer may have run it.
    GuestLost,
    /// Somebody asks about a migration of which there is at most a record here, and is answered by that.
    Answered {
        /// Which migration.
        id: MigrationId,
        /// What is written; none, and the source is told that its guest never ran here.
        record: Option<StableRecord>,
    },
}

/// Sees everything, changes nothing. Called on the driver's thread, which waits for it, in the blackout too: be quick, hand on what
/// takes long. A closure is one; `()` sees nothing.
pub trait Observer {
    /// Something happened, so long after the driver began, at the source with all connections made; in the order in which it happened.
    fn on_event(&mut self, at: Timestamp, event: &Event<'_>);
}

/// Sees nothing.
impl Observer for () {
    fn on_event(&mut self, _at: Timestamp, _event: &Event<'_>) {}
}

impl<F: FnMut(Timestamp, &Event<'_>)> Observer for F {
    fn on_event(&mut self, at: Timestamp, event: &Event<'_>) {
        self(at, event);
    }
}
