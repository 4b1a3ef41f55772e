//! What records there are, for people. Nothing is changed, and nobody is kept from working.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

use super::directory::{SUFFIX, read_block};
use super::file::{BLOCK, Found, Header, decode_record};
use super::{Role, StoreError};

/// A record, or room for one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// Whose it is.
    pub role: Role,
    /// The migration.
    pub id: MigrationId,
    /// The guest's name; empty if nobody said.
    pub guest: String,
    /// What was written; none as long as there is only room for it. What has rotted is told as written, as
    /// [`load`](super::StableStore::load) does.
    pub record: Option<StableRecord>,
    /// How long ago it was written, or room was made for it, by the wall clock.
    pub age: Duration,
    /// A process holds it: the migration is going on, or being resolved.
    pub in_use: bool,
}

/// All records in `directory`, in the order of their file names; for each file that is none although its name says so, why.
///
/// # Errors
///
/// [`StoreError::Failed`] if the directory cannot be read.
pub fn list(directory: &Path) -> Result<Vec<Result<Entry, StoreError>>, StoreError> {
    let failed = |cause| StoreError::Failed { what: "read", path: directory.into(), cause };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.into_iter().filter_map(|path| entry(path).transpose()).collect())
}

/// None if it has gone.
fn entry(path: PathBuf) -> Result<Option<Entry>, StoreError> {
    let unreadable = |cause| StoreError::Failed { what: "read", path: path.clone(), cause };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    let in_use = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let header = Header::decode(&read_block(&file, 0).map_err(unreadable)?);
    let Header { role, id, guest, made } =
        header.map_err(|fault| StoreError::Damaged { path: path.clone(), fault })?;
    let block = read_block(&file, BLOCK as u64).map_err(unreadable)?;
    let (record, since) = match decode_record(&block, id) {
        Found::Nothing => (None, made),
        Found::Record(record, written) => (Some(record), written),
        Found::Remains => (Some(role.record()), made),
    };
    let age = SystemTime::now().duration_since(since).unwrap_or_default();
    Ok(Some(Entry { path, role, id, guest, record, age, in_use }))
}
