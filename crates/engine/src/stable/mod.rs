//! What must survive a crash: *go* at the source, *running* at the destination.
//!
//! A driver calls [`StableStore::prepare`] when a migration starts, and [`StableStore::persist`] when the handoff asks for it: that
//! is in the middle of the blackout, at the source and again at the destination, so it is one overwrite of a block that has
//! been there since the start. `whimbrel resolve` and a driver that starts again call [`StableStore::load`] and [`list()`].
//! Who may run the guest is decided elsewhere. What is said here must be true after a power cut: a record that is said to be
//! written is found by every restart, and one that is said not to be is found by none.
//!
//! | | |
//! |---|---|
//! | [`DirectoryStore`] | a file a migration, in a directory |
//! | [`MemoryStore`] | for tests: survives whoever shares it |
//! | [`FaultyStore`] | for tests: does not do what it is told |

mod directory;
mod faulty;
mod file;
mod list;
mod memory;
mod warming;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

pub use self::directory::DirectoryStore;
pub use self::faulty::{Fault, FaultyStore};
pub use self::list::{Entry, list};
pub use self::memory::MemoryStore;

/// How long a record counts as near from when a driver has said so. It says so again at the end of each round. In a blackout that
/// is longer than this, what a disk takes to wake up is little.
pub(crate) const NEAR: Duration = Duration::from_millis(200);

/// How long before the pages of a round are through a driver says that a record is near, where it can know: somewhat longer than a
/// disk was seen to take to wake up (`warming`).
pub(crate) const AHEAD: Duration = Duration::from_millis(100);

/// The side of a migration that a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It writes *go*.
    Source,
    /// It writes *running*.
    Destination,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Source, Self::Destination];

    /// Its name, in files and to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    /// The only record that this side ever writes.
    pub const fn record(self) -> StableRecord {
        match self {
            Self::Source => StableRecord::Go,
            Self::Destination => StableRecord::Running,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why there is no answer from stable storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {what} {}", .path.display())]
    Failed {
        /// What was tried, as "synchronise".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Somebody else acts on this record.
    #[error("{} is in use: another process takes part in this migration, or resolves it", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not what its name says. It is left as it is.
    #[error("{} is not a record of this migration: {fault}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// A record that the other side writes.
    #[error("a {role} keeps no record of '{record}'")]
    OtherSide {
        /// Whose store this is.
        role: Role,
        /// What it was to keep.
        record: StableRecord,
    },
    /// A store for tests was told to fail.
    #[error("the store was told to fail")]
    Told,
}

/// Why a record was not written, and what that means.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// No restart can find it: to be reported as `NotPersisted`.
    #[error("the record was not written")]
    Not(#[source] StoreError),
    /// It may be found after a restart, or not. Nothing may be concluded: [`StableStore::persist`] is to be called again, until it
    /// gives another answer.
    #[error("it is not known whether the record was written")]
    Unknown(#[source] StoreError),
}

/// Stable storage for one side's records. Used by one thread; none of its calls may be made for a migration that another
/// process takes part in.
pub trait StableStore: Send {
    /// Makes room for the record of a migration that starts, so that [`StableStore::persist`] is fast. Without it, that does
    /// the same first.
    ///
    /// # Errors
    ///
    /// A [`StoreError`]. Nothing was written down, and the migration had better not start.
    fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError>;

    /// Says that [`StableStore::persist`] of this migration, which was prepared, may be called within this time, in a blackout.
    /// Whatever makes it quicker then may be done meanwhile: a disk kept awake, a connection to a database. It is called again
    /// and again, as a rule at the end of each round, and mostly nothing follows.
    ///
    /// Returns at once, cannot fail, and writes nothing that [`StableStore::load`] could find. It ends with `persist`, which may have to
    /// wait for what is in progress: that must be short. Without it, nothing is done.
    fn warm(&mut self, id: MigrationId, within: Duration) {
        let _ = (id, within);
    }

    /// Writes `record`. When this returns, it survives a power cut. May be repeated.
    ///
    /// # Errors
    ///
    /// A [`PersistError`], which says whether a restart may find it.
    fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError>;

    /// The record of a migration; none if there is none. What this gives survives a power cut too, also if the process that wrote
    /// it died while it did.
    ///
    /// # Errors
    ///
    /// A [`StoreError`]: nobody knows. It must not be taken for none.
    fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError>;

    /// Removes all that is kept of a migration. A crash may bring it back, which is safe.
    ///
    /// # Errors
    ///
    /// A [`StoreError`]; the record may still be there, which is safe.
    fn erase(&mut self, id: MigrationId) -> Result<(), StoreError>;
}

/// A driver holds it as `dyn`.
const _: Option<&dyn StableStore> = None;

#[cfg(test)]
mod tests;
