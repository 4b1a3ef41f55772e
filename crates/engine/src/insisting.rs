//! What both drivers do not give up at once: writing a record, and letting a guest run.
//!
//! Both are called from within the handover, where there is nothing else to do meanwhile.

use std::thread;
use std::time::Duration;

use whimbrel_core::embed::{Guest, GuestError};
use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

use crate::link::in_words;
use crate::observer::Event;
use crate::orders::{Order, Orders};
use crate::stable::{PersistError, StableStore};

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

/// Writes the record, and goes on trying for as long as nobody can know whether it is there. `show` hears of each failure, and of
/// orders that have come too late.
pub(crate) fn persist(
    store: &mut dyn StableStore,
    (id, record): (MigrationId, StableRecord),
    orders: &Orders,
    mut show: impl FnMut(&Event<'_>),
) -> Kept {
    loop {
        match store.persist(id, record) {
            Ok(()) => return Kept::Written,
            Err(PersistError::Not(error)) => {
                show(&Event::StorageFails { what: &in_words(&error) });
                return Kept::NotWritten;
            }
            Err(PersistError::Unknown(error)) => show(&Event::StorageFails { what: &in_words(&error) }),
        }
        while let Some(order) = orders.next() {
            if order == Order::Leave {
                return Kept::Left;
            }
            show(&Event::Ignored { order: &order, why: "a record of the handover is being written" });
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
