//! The destination's driver: carries out what the destination's machine asks for.
//!
//! One thread, the caller's, feeds the machine, restores and resumes the guest and writes to stable storage. Beside it a thread
//! takes connections ([`admission`]), one reads control messages, one fills the replica from each page stream ([`receivers`]),
//! and one makes memory resident ahead of them ([`preparing`]). The guest runs when the machine says so and never before.
//!
//! A destination takes one migration. Before somebody has shown the token nothing is allocated for them, and before the host has
//! agreed no memory for their guest.

mod admission;
mod answering;
mod conversation;
mod driver;
mod preparing;
mod receivers;
mod touched;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::embed::{Guest, GuestRam};
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::Configuration;
use whimbrel_core::machine::{DestinationOutcome, PATIENCE};
use whimbrel_core::units::ByteCount;
use whimbrel_wire::hello::Token;

pub use self::conversation::Afterlife;
use self::driver::Driver;
use crate::observer::Observer;
use crate::orders::Orders;
use crate::stable::StableStore;
use crate::transport::{Listen, TransportError};

/// A guest that is being built: nothing of it has run.
pub struct Replica {
    /// Its memory.
    pub ram: Arc<dyn GuestRam>,
    /// Its vCPUs and devices, paused.
    pub guest: Box<dyn Guest>,
    /// Nobody has written its memory: all of it reads as zeroes.
    pub fresh: bool,
}

/// Who has room for guests.
pub trait Host {
    /// Makes a replica for this guest, or says, for a person, why not. What it takes to hold the guest is to be taken now, so
    /// that nothing is missing later. Called once.
    ///
    /// # Errors
    ///
    /// Why the guest is not taken. The source is told, and goes on running it.
    fn build(&mut self, configuration: &Configuration) -> Result<Replica, String>;
}

impl<F: FnMut(&Configuration) -> Result<Replica, String>> Host for F {
    fn build(&mut self, configuration: &Configuration) -> Result<Replica, String> {
        self(configuration)
    }
}

/// What a destination needs.
pub struct Incoming<'a> {
    /// Where connections come from.
    pub listen: Arc<dyn Listen>,
    /// Who makes the replica.
    pub host: &'a mut dyn Host,
    /// What survives a crash.
    pub store: &'a mut dyn StableStore,
}

/// How to go about it.
#[derive(Clone, Debug)]
pub struct DestinationSettings {
    /// What a source must know.
    pub token: Token,
    /// How long a peer may say nothing, in the middle of what it says or between, before it counts as lost.
    pub patience: Duration,
    /// No guest with more memory is taken.
    pub memory: ByteCount,
    /// How long to wait for somebody to come; none: for ever.
    pub waiting: Option<Duration>,
}

impl DestinationSettings {
    /// The usual ones, for whoever knows this token.
    pub fn new(token: Token, memory: ByteCount) -> Self {
        Self { token, patience: PATIENCE, memory, waiting: None }
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

/// What became of it.
pub struct DestinationResult {
    /// How it ended here.
    pub outcome: DestinationOutcome,
    /// Who may run the guest, as far as this side knows.
    pub right: Right,
    /// What the source said of the guest; none if it never came so far.
    pub configuration: Option<Arc<Configuration>>,
    /// The guest, if it is here. It runs, unless [`DestinationResult::resume_failed`].
    pub replica: Option<Replica>,
    /// The guest belongs here and could not be made to run: why.
    pub resume_failed: Option<String>,
    /// Why there is nothing here, in words.
    pub why: Option<String>,
    /// How long things took.
    pub ledger: DestinationLedger,
    /// Answers a source that did not hear how it ended.
    pub afterlife: Afterlife,
}

/// Waits for a guest and takes it, on the calling thread.
///
/// Returns when the guest runs here, or never will. A source that did not hear of it asks again:
/// [`DestinationResult::afterlife`] answers.
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
