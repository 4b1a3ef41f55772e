//! What both drivers do not give up at once: writing a record, and letting a guest run.
//!
//! Both are called from within the handover, where there is nothing else to do meanwhile.

use std::thread;
use std::time::Duration;

use whimbrel_core::embed::{Guest, GuestError};
use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

use crate::orders::{Order, Orders};
use crate::stable::{PersistError, StableStore, StoreError};

/// How long somebody who failed is left alone before they are told again.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// How often a guest is told to run.
const RESUMES: u32 = 10;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It survives a power cut.
    Written,
    /// No restart finds it.
    NotWritten,
    /// Nobody knows, and somebody does not want to wait until it is known.
    Left,
}

/// Writes the record, and goes on trying for as long as nobody can know whether it is there. `failed` hears of each failure.
pub(crate) fn persist(
    store: &mut dyn StableStore,
    (id, record): (MigrationId, StableRecord),
    orders: &Orders,
    mut failed: impl FnMut(&StoreError),
) -> Kept {
    loop {
        match store.persist(id, record) {
            Ok(()) => return Kept::Written,
            Err(PersistError::Not(error)) => {
                failed(&error);
                return Kept::NotWritten;
            }
            Err(PersistError::Unknown(error)) => failed(&error),
        }
        if orders.next() == Some(Order::Leave) {
            return Kept::Left;
        }
        thread::sleep(PAUSE);
    }
}

/// Lets a guest run that belongs here.
///
/// # Errors
///
/// What it says the last time.
pub(crate) fn resume(guest: &mut dyn Guest) -> Result<(), GuestError> {
    for _ in 1..RESUMES {
        if guest.resume().is_ok() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    guest.resume()
}
