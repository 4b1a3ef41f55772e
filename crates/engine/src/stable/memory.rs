//! A store in memory, for tests: what all clones share survives any of them, as a disk survives a process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

use super::{PersistError, Role, StableStore, StoreError};

/// What is kept of each migration: a record, or room for one.
type Records = BTreeMap<MigrationId, Option<StableRecord>>;

/// Records in memory. All clones are one store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    role: Role,
    records: Arc<Mutex<Records>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(role: Role) -> Self {
        Self { role, records: Arc::default() }
    }

    /// How many migrations something is kept of, room for a record included.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.records().is_empty()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StableStore for MemoryStore {
    fn prepare(&mut self, id: MigrationId, _guest: &str) -> Result<(), StoreError> {
        self.records().entry(id).or_default();
        Ok(())
    }

    fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError> {
        if record != self.role.record() {
            return Err(PersistError::Not(StoreError::OtherSide { role: self.role, record }));
        }
        self.records().insert(id, Some(record));
        Ok(())
    }

    fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError> {
        Ok(self.records().get(&id).copied().flatten())
    }

    fn erase(&mut self, id: MigrationId) -> Result<(), StoreError> {
        self.records().remove(&id);
        Ok(())
    }
}
