//! The source's driver: carries out what the source's machine asks for.
//!
//! One thread, the caller's, feeds the machine and does what takes no time or must not be interrupted: the dirty log, the guest, stable
//! storage, control messages. Beside it a thread reads control messages, one sends the pages of each page stream
//! ([`pages`]), and one makes a new connection where the machine wants that ([`reconnect`]). All of them end with the
//! migration.
//!
//! The driver decides nothing. Whatever goes wrong becomes an event of the machine's, which says what follows.

mod connecting;
mod driver;
mod pages;
mod reconnect;
mod transmit;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::controller::Unsupported;
use whimbrel_core::embed::{DirtyLog, Guest, GuestRam};
use whimbrel_core::journal::Journal;
use whimbrel_core::machine::PATIENCE;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::policy::{Policy, RateLimit};
use whimbrel_core::progress::Capabilities;
use whimbrel_core::report::Report;
use whimbrel_wire::WireError;
use whimbrel_wire::hello::{Reject, Token};
use whimbrel_wire::pages::EncoderConfig;

use self::driver::Driver;
use crate::hello::HelloError;
use crate::observer::Observer;
use crate::orders::Orders;
use crate::stable::StableStore;
use crate::transport::{Connect, TransportError};

/// What is to be moved, and what is wanted for it. The guest runs.
pub struct Outgoing<'a> {
    /// The guest's name.
    pub name: String,
    /// Number of its vCPUs.
    pub vcpus: u32,
    /// Its memory.
    pub ram: Arc<dyn GuestRam>,
    /// What sees all of its writes. Not started.
    pub log: &'a mut dyn DirtyLog,
    /// The guest.
    pub guest: &'a mut dyn Guest,
    /// Where it is decided how to go on.
    pub policy: Box<dyn Policy>,
    /// The way to the destination.
    pub connect: Arc<dyn Connect>,
    /// What survives a crash.
    pub store: &'a mut dyn StableStore,
}

/// How to go about it.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Names this attempt: no two may be alike.
    pub id: MigrationId,
    /// What the destination wants to hear.
    pub token: Token,
    /// Page connections: 1 to 64.
    pub streams: u16,
    /// How pages are encoded.
    pub encoding: EncoderConfig,
    /// Whether the destination is to compare a digest of all memory before it says that it is ready.
    pub verify: bool,
    /// How long to wait for an answer, or for the peer to take or give anything, before it counts as lost.
    pub patience: Duration,
    /// Pages are sent no faster than this, nor faster than the policy wants.
    pub limit: RateLimit,
    /// After so long the guest stays here; none: no limit.
    pub time_limit: Option<Duration>,
    /// How long a destination that could not be told that the guest stays here is still called.
    pub farewell: Duration,
    /// How long to ask a destination that was lost behind *go*; none: until it answers or somebody orders otherwise.
    pub asking: Option<Duration>,
    /// Whether each round begins with an outlook on the rest, which reports and observers then have. It costs up to some
    /// milliseconds a round.
    pub outlook: bool,
}

impl SourceSettings {
    /// The usual ones, for this attempt.
    pub fn new(id: MigrationId, token: Token) -> Self {
        Self {
            id,
            token,
            streams: 1,
            encoding: EncoderConfig::default(),
            verify: false,
            patience: PATIENCE,
            limit: RateLimit::Unlimited,
            time_limit: None,
            farewell: Duration::from_secs(3),
            asking: None,
            outlook: false,
        }
    }
}

/// Why nothing was begun. The guest runs on, untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no way to the destination.
    #[error("no connection to the destination")]
    Connect(#[from] TransportError),
    /// The destination does not take this migration.
    #[error(transparent)]
    Rejected(#[from] Reject),
    /// The destination does not speak this protocol.
    #[error("the destination does not speak this protocol")]
    Wire(#[from] WireError),
    /// The connection was lost before anything was begun.
    #[error("the connection was lost before anything was begun")]
    Lost(#[source] io::Error),
    /// Out of range.
    #[error("{0} page streams: accepted are 1 to 64")]
    Streams(u16),
    /// The policy needs what this guest or ground does not offer.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Pages cannot be encoded as wanted.
    #[error("no encoder of pages")]
    Encoder(#[source] io::Error),
    /// The system gives no thread.
    #[error("no thread for the migration")]
    Thread(#[source] io::Error),
}

impl From<HelloError> for SourceError {
    fn from(error: HelloError) -> Self {
        match error {
            HelloError::Connect(error) => Self::Connect(error),
            HelloError::Lost(error) => Self::Lost(error),
            HelloError::Wire(error) => Self::Wire(error),
            HelloError::Rejected(reject) => Self::Rejected(reject),
        }
    }
}

/// What became of it.
#[derive(Debug)]
pub struct SourceResult {
    /// Rounds, ledger, totals, outcome and why.
    pub report: Report,
    /// Everything that happened and was decided. Fed to a [`Source`](whimbrel_core::machine::Source) of the same
    /// configuration, policy, patience and capabilities it gives itself.
    pub journal: Journal,
    /// What this ground and the guest offered the policy.
    pub capabilities: Capabilities,
    /// Who may run the guest, as far as this side knows.
    pub right: Right,
    /// The destination knows that it has nothing to keep, or has the guest.
    pub settled: bool,
}

/// Moves a guest, on the calling thread, until it is there or stays here.
///
/// Returns when nothing of the migration is left here: tracking is off, the throttle gone, all threads have ended. The guest then
/// runs here, or is paused and belongs to the destination, as [`SourceResult::right`] says: [`Right::Undecided`] if
/// the destination was lost behind *go*; the guest must then stay paused.
///
/// # Errors
///
/// [`SourceError`] if nothing was begun. Whatever goes wrong later is in the report.
pub fn send<'a>(
    outgoing: Outgoing<'a>,
    settings: SourceSettings,
    orders: &'a Orders,
    observer: &'a mut dyn Observer,
) -> Result<SourceResult, SourceError> {
    Ok(Driver::begin(outgoing, settings, orders, observer)?.run())
}
