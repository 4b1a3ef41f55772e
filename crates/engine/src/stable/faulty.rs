//! A store that does not do what it is told, for tests of drivers.

use std::collections::VecDeque;
use std::time::Duration;

use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

use super::{PersistError, StableStore, StoreError};

/// What happens to one [`StableStore::persist`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and that is said.
    Not,
    /// Nothing is written, but nobody knows.
    UnknownLost,
    /// It is written, but nobody knows.
    UnknownWritten,
    /// It takes so long, and is written.
    Slow(Duration),
}

/// Another store, of whose writes the first go wrong.
#[derive(Debug)]
pub struct FaultyStore<S> {
    store: S,
    faults: VecDeque<Fault>,
}

impl<S: StableStore> FaultyStore<S> {
    /// What happens to one write after the other; those after them go well.
    pub fn new(store: S, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { store, faults: faults.into_iter().collect() }
    }
}

impl<S: StableStore> StableStore for FaultyStore<S> {
    fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
        self.store.prepare(id, guest)
    }

    fn warm(&mut self, id: MigrationId, within: Duration) {
        self.store.warm(id, within);
    }

    fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError> {
        match self.faults.pop_front() {
            Some(Fault::Not) => {
                // What an earlier write may have left is gone, or this could not be said.
                self.store.erase(id).map_err(PersistError::Unknown)?;
                Err(PersistError::Not(StoreError::Told))
            }
            Some(Fault::UnknownLost) => Err(PersistError::Unknown(StoreError::Told)),
            Some(Fault::UnknownWritten) => {
                self.store.persist(id, record)?;
                Err(PersistError::Unknown(StoreError::Told))
            }
            Some(Fault::Slow(time)) => {
                std::thread::sleep(time);
                self.store.persist(id, record)
            }
            None => self.store.persist(id, record),
        }
    }

    fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError> {
        self.store.load(id)
    }

    fn erase(&mut self, id: MigrationId) -> Result<(), StoreError> {
        self.store.erase(id)
    }
}
