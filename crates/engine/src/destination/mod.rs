//! The destination's driver: carries out what the destination's machine asks for.
//!
//! One thread, the caller's, feeds the machine, restores and resumes the guest and writes to stable storage. Beside it a thread
//! takes connections (`admission`), one reads control messages, one fills the replica from each page stream (`receivers`),
//! and one makes memory resident ahead of them (`preparing`). The guest runs when the machine says so and never before. The store is told
//! that *running* may be near when the bulk round is nearly through (`nearing`), and at the end of each round.
//!
//! After a crash there is no replica any more, only records: [`answer`] tells a source in doubt what they say, as [`receive`] does
//! beside its own migration.
//!
//! A destination takes one migration. Before somebody has shown the token nothing is allocated for them, and before the host has
//! agreed no memory for their guest.

mod admission;
mod answering;
mod conversation;
mod driver;
mod housed;
mod nearing;
mod preparing;
mod receivers;
mod stalling;
#[cfg(test)]
mod tests;
mod touched;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::embed::{Cause, Guest, GuestRam};
use whimbrel_core::layout::PageSize;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::Configuration;
use whimbrel_core::machine::{DestinationOutcome, PATIENCE};
use whimbrel_core::units::ByteCount;
use whimbrel_wire::hello::Token;
use whimbrel_wire::pages::Tallies;

pub use self::answering::{Records, answer};
pub use self::conversation::Afterlife;
use self::driver::Driver;
use crate::observer::Observer;
use crate::orders::Orders;
use crate::stable::StableStore;
use crate::transport::{Listen, TransportError};

/// A guest that is being built: nothing of it has run.
pub struct Replica {
    /// Its memory, with the layout that the source told. Where it is a [`DirectRam`](whimbrel_core::embed::DirectRam) too, pages come from
    /// a socket without a copy.
    pub ram: Arc<dyn GuestRam>,
    /// Its vCPUs and devices, paused and as they are when just made. The driver restores and resumes it.
    pub guest: Box<dyn OwnedGuest>,
    /// Nobody has written its memory: all of it reads as zeroes, so pages of zeroes need not be written.
    pub fresh: bool,
}

/// A guest that borrows nothing, so that whoever made it can have it back as what it was ([`Replica::into_guest`]). Every [`Guest`]
/// that borrows nothing is one.
pub trait OwnedGuest: Guest + Any {}

impl<G: Guest + Any> OwnedGuest for G {}

impl Replica {
    /// The guest as the type that the host made it of.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use whimbrel_core::embed::{Guest, GuestError};
    /// use whimbrel_core::layout::{PageSize, RamLayout};
    /// use whimbrel_core::machine::message::Section;
    /// use whimbrel_core::units::ByteCount;
    /// use whimbrel_engine::destination::Replica;
    /// use whimbrel_guest::memory::{Backing, GuestMemory};
    ///
    /// struct Vmm { number: u32 }
    /// # struct Other;
    /// # impl Guest for Other {
    /// #     fn pause(&mut self) -> Result<(), GuestError> { Ok(()) }
    /// #     fn resume(&mut self) -> Result<(), GuestError> { Ok(()) }
    /// #     fn save(&mut self) -> Result<Vec<Section>, GuestError> { Ok(Vec::new()) }
    /// #     fn restore(&mut self, _: Vec<Section>) -> Result<(), GuestError> { Ok(()) }
    /// # }
    /// # impl Guest for Vmm {
    /// #     fn pause(&mut self) -> Result<(), GuestError> { Ok(()) }
    /// #     fn resume(&mut self) -> Result<(), GuestError> { Ok(()) }
    /// #     fn save(&mut self) -> Result<Vec<Section>, GuestError> { Ok(Vec::new()) }
    /// #     fn restore(&mut self, _: Vec<Section>) -> Result<(), GuestError> { Ok(()) }
    /// # }
    ///
    /// let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4)?;
    /// let ram = Arc::new(GuestMemory::new(layout, Backing::Private)?);
    /// let replica = Replica { ram, guest: Box::new(Vmm { number: 7 }), fresh: true };
    /// # let replica = replica.into_guest::<Other>().err().ok_or("it is a Vmm")?;
    /// let vmm: Box<Vmm> = replica.into_guest().map_err(|_| "another type")?;
    /// assert_eq!(vmm.number, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The replica as it was, if it is of another type.
    pub fn into_guest<G: Guest + Any>(self) -> Result<Box<G>, Self> {
        let Self { ram, guest, fresh } = self;
        let any: &dyn Any = &*guest;
        if !any.is::<G>() {
            return Err(Self { ram, guest, fresh });
        }
        let any: Box<dyn Any> = guest;
        Ok(any.downcast().unwrap_or_else(|_| unreachable!("it was looked at before")))
    }
}

/// Who has room for guests. A closure is one.
pub trait Host {
    /// Makes a replica for this guest, or says why not. What it takes to hold the guest is to be taken now, so
    /// that nothing is missing later. Called once, with a guest of no more memory than [`DestinationSettings::memory`]. The source
    /// waits for it no longer than its patience.
    ///
    /// # Errors
    ///
    /// Why the guest is not taken: any error, or words. The source is told it with all its causes, as far as they fit into the 1,024
    /// bytes that a peer takes ([`DestinationResult::why`] has all), and goes on running the guest.
    fn build(&mut self, configuration: &Configuration) -> Result<Replica, Cause>;
}

impl<F: FnMut(&Configuration) -> Result<Replica, Cause>> Host for F {
    fn build(&mut self, configuration: &Configuration) -> Result<Replica, Cause> {
        self(configuration)
    }
}

/// What a destination needs.
pub struct Incoming<'a> {
    /// Where connections come from. Kept until the [`Afterlife`] is dropped.
    pub listen: Arc<dyn Listen>,
    /// Who makes the replica.
    pub host: &'a mut dyn Host,
    /// What survives a crash: [`DirectoryStore`](crate::stable::DirectoryStore), unless the guest may be lost. Sources that ask about
    /// migrations of old are answered from it too.
    pub store: &'a mut dyn StableStore,
}

/// How to go about it. [`DestinationSettings::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct DestinationSettings {
    /// What a source must know. Whoever knows it may send a guest, so no two migrations should have the same.
    pub token: Token,
    /// How long a peer may say nothing, in the middle of what it says or between, before it counts as lost. Default: 30 s.
    pub patience: Duration,
    /// No guest with more memory is taken. Looked at before anything is allocated.
    pub memory: ByteCount,
    /// No guest with larger pages is taken: each page connection may need as much memory as a page, and as much again to unpack it.
    /// Default: 2 MiB.
    pub largest_page: PageSize,
    /// How long to wait for somebody to come. Default: for ever.
    pub waiting: Option<Duration>,
    /// How long whoever came may take until the replica is complete; then it is given up, and the guest stays at the source. Default: as long
    /// as the source does not stall, which has a limit of its own.
    pub time_limit: Option<Duration>,
}

impl DestinationSettings {
    /// The defaults, for whoever knows this token.
    pub fn new(token: Token, memory: ByteCount) -> Self {
        Self {
            token,
            patience: PATIENCE,
            memory,
            largest_page: PageSize::Mib2,
            waiting: None,
            time_limit: None,
        }
    }
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// No more connections can be taken.
    #[error("no connection can be taken")]
    Listen(#[from] TransportError),
    /// Nobody came in time.
    #[error("nobody came within {0:?}")]
    Nobody(Duration),
    /// Somebody here did not want to wait any longer.
    #[error("cancelled before anybody came")]
    Cancelled,
    /// The system gives no thread.
    #[error("no thread for the migration")]
    Thread(#[source] io::Error),
}

/// How long the steps at the destination took, as it measured them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationLedger {
    /// Building the replica.
    pub build: Duration,
    /// Restoring the state.
    pub restore: Duration,
    /// Writing *running* to stable storage.
    pub persist: Duration,
    /// Letting the guest run.
    pub resume: Duration,
}

/// What became of it. What to do with the guest is in [`DestinationResult::right`] alone.
pub struct DestinationResult {
    /// How it ended here; none where it has not, because somebody ordered [`Leave`](crate::orders::Order::Leave).
    pub outcome: Option<DestinationOutcome>,
    /// Who may run the guest, as far as this side knows.
    ///
    /// * [`Right::Mine`]: it is in [`DestinationResult::replica`] and runs. If it could not be made to run, or there is no replica, it is to
    ///   be started here, if need be from its disks; and nowhere else.
    /// * [`Right::Theirs`]: nothing of it is here.
    /// * [`Right::Undecided`]: the replica is complete and must stay paused; only after [`Leave`](crate::orders::Order::Leave).
    pub right: Right,
    /// What the source said of the guest; none if it never came so far.
    pub configuration: Option<Arc<Configuration>>,
    /// The guest, if it is here. With [`Right::Mine`] it runs, unless [`DestinationResult::resume_failed`].
    pub replica: Option<Replica>,
    /// The guest belongs here and could not be made to run: why.
    pub resume_failed: Option<String>,
    /// Why there is nothing here, in words.
    pub why: Option<String>,
    /// How long things took.
    pub ledger: DestinationLedger,
    /// What pages came as: of each frame that was put into the replica whole. Of a guest that came it is what the source counted
    /// ([`SourceResult::encoded`](crate::source::SourceResult::encoded)).
    pub taken: Tallies,
    /// Answers a source that did not hear how it ended.
    pub afterlife: Afterlife,
}

/// Waits for a guest and takes it, on the calling thread.
///
/// Returns when the guest runs here, or never will; a source that was lost when the replica was complete is waited for until it comes
/// back, or `orders` ends it. A source that did not hear of the end asks again: [`DestinationResult::afterlife`] answers. Sources of
/// other migrations that ask are answered from [`Incoming::store`] meanwhile.
///
/// The [crate] has an example.
///
/// # Errors
///
/// [`DestinationError`] if nobody came.
pub fn receive<'a>(
    incoming: Incoming<'a>,
    settings: DestinationSettings,
    orders: &'a Orders,
    observer: &'a mut dyn Observer,
) -> Result<DestinationResult, DestinationError> {
    Driver::begin(incoming, settings, orders, observer)?.run()
}
