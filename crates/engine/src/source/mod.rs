//! The source's driver: carries out what the source's machine asks for.
//!
//! One thread, the caller's, feeds the machine and does what takes no time or must not be interrupted: the dirty log, the guest, stable
//! storage, control messages. Beside it a thread reads control messages, one sends the pages of each page stream
//! (`pages`), and one makes a new connection where the machine wants that (`reconnect`). All of them end with the
//! migration. The store is told when its record is near, before the guest is paused, and may have a thread of its own for it.
//!
//! After a crash there is no guest to move any more, only a record: [`settle`] asks the destination what became of it.
//!
//! The driver decides nothing. Whatever goes wrong becomes an event of the machine's, which says what follows.

mod charge;
mod connecting;
mod driver;
mod pages;
mod reconnect;
mod settling;
mod showing;
mod spent;
mod tracking;
mod transmit;

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::controller::Unsupported;
use whimbrel_core::embed::{DirtyLog, Guest, GuestRam};
use whimbrel_core::machine::PATIENCE;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::policy::{Policy, RateLimit};
use whimbrel_core::progress::Capabilities;
use whimbrel_core::report::Report;
use whimbrel_wire::WireError;
use whimbrel_wire::hello::{Reject, Token};
use whimbrel_wire::pages::{Encoded, EncoderConfig};

use self::driver::Driver;
pub use self::settling::{Restarted, SettleError, Settled, settle};
pub use self::tracking::Tracking;
use crate::hello::HelloError;
use crate::observer::Observer;
use crate::orders::Orders;
use crate::stable::{StableStore, StoreError};
use crate::transport::{Connect, TransportError};

/// What is to be moved, and what is wanted for it. The guest runs.
pub struct Outgoing<'a> {
    /// The guest's name, as the destination is told and as the record says it.
    pub name: String,
    /// Number of its vCPUs, as the destination is told.
    pub vcpus: u32,
    /// Its memory. Where it is a [`DirectRam`](whimbrel_core::embed::DirectRam) too, pages are not copied on the way to a socket.
    pub ram: Arc<dyn GuestRam>,
    /// What sees all of its writes. Not started.
    pub log: &'a mut dyn DirtyLog,
    /// The guest. Until [`send`] returns nobody else may pause, resume or slow it.
    pub guest: &'a mut dyn Guest,
    /// Where it is decided how to go on, as by [`presets`](whimbrel_core::policy::presets::build).
    pub policy: Box<dyn Policy>,
    /// The way to the destination. Called once for each connection, and again for as long as one that was lost is needed: it must
    /// reach the same destination then.
    pub connect: Arc<dyn Connect>,
    /// What survives a crash: [`DirectoryStore`](crate::stable::DirectoryStore), unless the guest may be lost.
    pub store: &'a mut dyn StableStore,
}

/// How to go about it. [`SourceSettings::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Names this attempt: no two may be alike. [`new_id`] makes one.
    pub id: MigrationId,
    /// What the destination wants to hear.
    pub token: Token,
    /// Page connections: 1 to 64. Default: 1. More than one pays where a core is slower than the link. Each has a thread on either
    /// side.
    pub streams: u16,
    /// How pages are encoded, if the destination can do that too. Default: pages of zeroes are sent as such, all others as they are.
    pub encoding: EncoderConfig,
    /// Whether the destination is to compare a digest of all memory before it says that it is ready, if it can. Default: no. Costs a
    /// thread and 0.0124 % of the guest's memory on either side, and at the switchover the time to hash what was written last: a round is
    /// over when it is hashed, too, and no guest is paused before all of its memory was hashed once. The destination's part of that is
    /// waited for where the policy waits for its acknowledgement; under another policy it may have more to hash while the guest
    /// stands still, if its threads have no core to themselves.
    pub verify: bool,
    /// How long to wait for an answer, or for the peer to take or give anything, before it counts as lost. Default: 30 s. Shorter than
    /// the destination needs to build a replica, or to restore its state, no migration succeeds.
    pub patience: Duration,
    /// Pages are sent no faster than this, nor faster than the policy wants. Default: unlimited. Can be changed on the way
    /// ([`Order::Limit`](crate::orders::Order::Limit)).
    pub limit: RateLimit,
    /// After so long, counted from when all connections are made, the guest stays here, unless it was given away by then. Default: no limit.
    pub time_limit: Option<Duration>,
    /// How long a destination that could not be told that the guest stays here is still called. Default: 3 s.
    pub farewell: Duration,
    /// How long to ask a destination that was lost behind *go*. The guest is paused meanwhile, and afterwards too. Default: until it
    /// answers or somebody orders otherwise.
    pub asking: Option<Duration>,
    /// Whether each round begins with an outlook on the rest, which reports and observers then have. It costs up to some
    /// milliseconds a round.
    pub outlook: bool,
}

/// A name that no other attempt has: 64 random bits of the system's.
///
/// ```
/// use whimbrel_engine::source::new_id;
///
/// assert_ne!(new_id()?, new_id()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If the system gives none.
pub fn new_id() -> io::Result<MigrationId> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(MigrationId(u64::from_le_bytes(bytes)))
}

impl SourceSettings {
    /// The defaults, for this attempt.
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
    /// The destination does not take this migration: another token, another protocol, busy, too much memory.
    #[error(transparent)]
    Rejected(#[from] Reject),
    /// The destination does not speak this protocol.
    #[error("the destination does not speak this protocol")]
    Wire(#[from] WireError),
    /// The connection was lost before anything was begun.
    #[error("the connection was lost before anything was begun")]
    Lost(#[source] io::Error),
    /// [`SourceSettings::streams`] is out of range.
    #[error("{0} page streams: accepted are 1 to 64")]
    Streams(u16),
    /// More is to be said of the guest than a destination takes: a long name, or many regions of memory.
    #[error("no destination takes such a guest")]
    Guest(#[source] WireError),
    /// The policy needs what this guest or ground does not offer.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Pages cannot be encoded as wanted.
    #[error("no encoder of pages")]
    Encoder(#[source] io::Error),
    /// The system gives no thread.
    #[error("no thread for the migration")]
    Thread(#[source] io::Error),
    /// There is no room for the record that the handover needs: better known now than when the guest stands still. Nobody was called: a
    /// destination still waits.
    #[error("the handover could not be written down")]
    Store(#[from] StoreError),
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

/// What became of it. What to do with the guest is in [`SourceResult::right`] alone.
#[derive(Debug)]
pub struct SourceResult {
    /// Rounds, ledger, totals, outcome and why; for people and for tables.
    pub report: Report,
    /// What all pages became that were handed over.
    pub encoded: Encoded,
    /// Processor time that finding, reading, encoding and handing over pages took here, on all threads; none where the system is not
    /// asked, which is so outside 64-bit Linux. The guest's own threads, the dirty log, the digest, messages and the observer are not in it.
    pub cpu: Option<Duration>,
    /// What recording the guest's writes took.
    pub tracking: Tracking,
    /// What this ground and the guest offered the policy.
    pub capabilities: Capabilities,
    /// Who may run the guest, as far as this side knows.
    ///
    /// * [`Right::Mine`]: it runs here as before. With the outcome [`GuestLost`](whimbrel_core::report::Outcome::GuestLost) its memory
    ///   must not be used: it is to be started from its disks.
    /// * [`Right::Theirs`]: it is paused, and must never run again from this memory. Drop it from the inventory, then erase the record.
    /// * [`Right::Undecided`]: the destination was lost behind *go*, and nobody waits for it any more. It must stay paused and
    ///   keep its memory.
    pub right: Right,
    /// The destination knows that it has nothing to keep, or has the guest: it will be asked nothing more. Without it and with
    /// [`Right::Mine`] the destination may still keep a paused replica, until it is told [`Order::Discard`](crate::orders::Order::Discard).
    pub settled: bool,
}

/// Moves a guest, on the calling thread, until it is there or stays here.
///
/// Everything that happens and is decided is shown to `observer`, as the
/// [journal](crate::observer::Event::Journal) too, which is kept nowhere else: it grows for as long as the migration takes.
///
/// Returns when nothing of the migration is left here: tracking is off, the throttle gone, all threads have ended. The guest then
/// runs here, or is paused and belongs to the destination, as [`SourceResult::right`] says. Lost behind *go*, a destination is asked
/// for as long as [`SourceSettings::asking`] says, by default for ever: `orders` ends that.
///
/// The [crate] has an example.
///
/// # Errors
///
/// [`SourceError`] if nothing was begun; room that was made for the record is given back. Whatever goes wrong later is in the report.
pub fn send<'a>(
    outgoing: Outgoing<'a>,
    settings: SourceSettings,
    orders: &'a Orders,
    observer: &'a mut dyn Observer,
) -> Result<SourceResult, SourceError> {
    Ok(Driver::begin(outgoing, settings, orders, observer)?.run())
}
