//! Records as files of a directory.
//!
//! # What may be claimed
//!
//! A file gets its name when its two blocks ([`super::file`]) are on the disk, record-less, and [`DirectoryStore::prepare`] returns
//! when its name is there too. So nothing that fails before the record's block is touched can leave a record behind: *not
//! written*. From the moment it is touched until `fdatasync` says that it is on the disk, nobody knows what a restart
//! would find, and `fdatasync` that fails says nothing either (the kernel may have written half, and forgets that it
//! has not). Then the file is removed and the directory synchronised: if that succeeds no restart can find it: *not
//! written* again, and the source takes its guest back although its disk is full. If that fails too it is *not known*. The next
//! call begins anew: in the same file, whose block is written again because a second `fdatasync` alone would lie; or in
//! a new one, if the old one has lost its name.
//!
//! Where `pwrite` itself fails (a file system that was made read-only is the usual case), the block is read back: as long as it is
//! zero it was not touched.
//!
//! A record that is found is synchronised before it is told: a process may have died between its `pwrite` and its `fdatasync`,
//! and who acts on what only memory holds may act on what a power cut takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

use super::file::{BLOCK, Found, Header, RECORD, decode_record, encode_record};
use super::warming::{Scratch, Warming};
use super::{PersistError, Role, StableStore, StoreError};

/// How often, and with what pauses, somebody else's lock is waited for: a listing holds it for an instant.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Files without a record that are older than this, and that nobody has locked, were left by a crash.
const LEFT_BEHIND: Duration = Duration::from_mins(1);

/// A file a migration. The process that holds a record has its file locked, so that no two act on one; each that was prepared,
/// written or found is held until it is erased or the store is dropped. Room that was made and not needed is given back then.
///
/// The directory must be on a disk: on `tmpfs` a power cut takes it away. Its file system must know hard links, as all of Unix do.
#[derive(Debug)]
pub struct DirectoryStore {
    directory: PathBuf,
    /// To synchronise it.
    handle: File,
    role: Role,
    pub(super) held: BTreeMap<MigrationId, Held>,
    /// Of which nobody knows what a restart would find.
    doubtful: BTreeSet<MigrationId>,
    /// What keeps the disk awake; none if there was nothing to be warmed for, or it could not be made.
    pub(super) warming: Option<Warming>,
    #[cfg(test)]
    pub(super) watch: super::tests::Watch,
}

/// A locked file under its name.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    /// The record is in it, and survives a power cut.
    pub(super) written: bool,
}

/// A call to the system that can fail, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Create,
    WriteBlocks,
    SyncBlocks,
    Name,
    SyncDirectory,
    Open,
    Lock,
    Read,
    WriteRecord,
    SyncRecord,
    Remove,
    MakeScratch,
}

impl Call {
    const fn what(self) -> &'static str {
        match self {
            Self::Create | Self::MakeScratch => "create",
            Self::WriteBlocks => "write",
            Self::SyncBlocks | Self::SyncDirectory | Self::SyncRecord => "synchronise",
            Self::Name => "name",
            Self::Open => "open",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::WriteRecord => "write the record to",
            Self::Remove => "remove",
        }
    }
}

/// The name of a record's file.
fn name(id: MigrationId, role: Role) -> String {
    format!("{:016x}-{role}{SUFFIX}", id.0)
}

/// How names of records end.
pub(super) const SUFFIX: &str = ".handoff";
/// How names end of files that are not records yet.
const NEW: &str = ".new";

impl DirectoryStore {
    /// The records of one side in `directory`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if there is no such directory and none can be made.
    pub fn open(directory: impl Into<PathBuf>, role: Role) -> Result<Self, StoreError> {
        let directory = directory.into();
        let failed = |what| {
            let path = directory.clone();
            move |cause| StoreError::Failed { what, path, cause }
        };
        make(&directory).map_err(failed("make"))?;
        let handle = File::open(&directory).map_err(failed("open"))?;
        sweep(&directory);
        Ok(Self {
            directory,
            handle,
            role,
            held: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            warming: None,
            #[cfg(test)]
            watch: super::tests::Watch::default(),
        })
    }

    /// Ends as a process that is killed does.
    #[cfg(test)]
    pub(super) fn kill(mut self) {
        self.held.clear();
    }

    /// Where the record of `id` is, or would be.
    pub fn path(&self, id: MigrationId) -> PathBuf {
        self.directory.join(name(id, self.role))
    }

    /// Makes one call, and says what it was if it fails.
    #[cfg_attr(not(test), allow(clippy::unused_self))]
    fn call<T>(&self, call: Call, path: &Path, act: impl FnOnce() -> io::Result<T>) -> Result<T, StoreError> {
        #[cfg(test)]
        let act = || self.watch.around(call, act);
        act().map_err(|cause| StoreError::Failed { what: call.what(), path: path.into(), cause })
    }

    /// A name that no other file has, and that is swept if it is left behind.
    fn temporary(&self, id: MigrationId) -> PathBuf {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unique = format!("{}.{}-{}{NEW}", name(id, self.role), std::process::id(), since.as_nanos());
        self.directory.join(unique)
    }

    /// Makes what is written to keep the disk awake, and the thread that writes it, unless they are there and at it: a bad moment of
    /// an earlier migration says nothing of this one. Without it nothing but that is missing.
    fn prepare_warming(&mut self, id: MigrationId) {
        if self.warming.as_ref().is_some_and(|warming| !warming.has_ended()) {
            return;
        }
        let path = self.temporary(id);
        let made = self.call(Call::MakeScratch, &path, || {
            let file = make_file(&path)?;
            fs::remove_file(&path)?;
            Scratch::fill(file)
        });
        let Ok(scratch) = made else { return };
        #[cfg(test)]
        let watch = self.watch.clone();
        let write = move || {
            let write = || scratch.write();
            #[cfg(test)]
            let write = || watch.beside(write);
            write()
        };
        self.warming = Warming::start(write).ok();
    }

    /// Makes a file without a record, under its name, on the disk and ours alone.
    fn create(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
        let path = self.path(id);
        let temporary = self.temporary(id);
        let file = self.call(Call::Create, &temporary, || make_file(&temporary))?;
        let named = self.fill_and_name(&file, id, guest, &temporary);
        // Left behind it would do no harm.
        let _ = fs::remove_file(&temporary);
        named?;
        if let Err(error) = self.sync_directory() {
            // There is no record in it.
            let _ = self.call(Call::Remove, &path, || fs::remove_file(&path));
            return Err(error);
        }
        self.held.insert(id, Held { file, written: false });
        Ok(())
    }

    fn fill_and_name(
        &self,
        file: &File,
        id: MigrationId,
        guest: &str,
        temporary: &Path,
    ) -> Result<(), StoreError> {
        self.call(Call::Lock, temporary, || file.try_lock().map_err(io::Error::from))?;
        let header = Header { role: self.role, id, made: SystemTime::now(), guest: guest.to_owned() };
        // Zeroes that were written need no change of the file's metadata when they are overwritten, as a hole would.
        let blocks = [header.encode(), [0; BLOCK]].concat();
        self.call(Call::WriteBlocks, temporary, || file.write_all_at(&blocks, 0))?;
        self.call(Call::SyncBlocks, temporary, || file.sync_all())?;
        // Unlike a rename this never replaces a file that is there.
        self.call(Call::Name, &self.path(id), || fs::hard_link(temporary, self.path(id)))
    }

    fn sync_directory(&self) -> Result<(), StoreError> {
        self.call(Call::SyncDirectory, &self.directory, || self.handle.sync_all())
    }

    /// Takes hold of the file that is there; says whether there is one.
    fn attach(&mut self, id: MigrationId) -> Result<bool, StoreError> {
        let path = self.path(id);
        for attempt in 0..LOCK_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(LOCK_PAUSE);
            }
            let opened = self.call(Call::Open, &path, || {
                optional(OpenOptions::new().read(true).write(true).open(&path))
            })?;
            let Some(file) = opened else {
                // Whoever removed it may have died before that was on the disk, and it would come back.
                self.sync_directory()?;
                return Ok(false);
            };
            let locked = self.call(Call::Lock, &path, || match file.try_lock() {
                Err(TryLockError::WouldBlock) => Ok(false),
                locked => locked.map(|()| true).map_err(io::Error::from),
            })?;
            // Whoever had it may have removed it.
            if locked && self.call(Call::Open, &path, || is_at(&file, &path))? {
                let header = self.call(Call::Read, &path, || read_block(&file, 0))?;
                check(&header, id, self.role)
                    .map_err(|fault| StoreError::Damaged { path: path.clone(), fault })?;
                // Whoever named it may have died before its name was on the disk.
                self.sync_directory()?;
                self.held.insert(id, Held { file, written: false });
                return Ok(true);
            }
        }
        Err(StoreError::InUse { path })
    }

    /// What the file that is held says.
    fn found(&self, id: MigrationId) -> Result<Found, StoreError> {
        let Some(held) = self.held.get(&id) else { return Ok(Found::Nothing) };
        let block = self.call(Call::Read, &self.path(id), || read_block(&held.file, BLOCK as u64))?;
        Ok(decode_record(&block, id))
    }

    /// Writes the record to the file that is held, and waits for the disk. Notes when nobody knows any more what is there.
    fn write(&mut self, id: MigrationId) -> Result<(), StoreError> {
        let path = self.path(id);
        let Some(held) = self.held.get(&id) else { return Ok(()) };
        let record = encode_record(id, self.role.record(), SystemTime::now());
        let written = self.call(Call::WriteRecord, &path, || {
            let count = held.file.write_at(&record, BLOCK as u64)?;
            // Not of 64 bytes within a page, as file systems are.
            if count == RECORD { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
        });
        if written.is_err() && matches!(self.found(id), Ok(Found::Nothing)) {
            return written;
        }
        self.doubtful.insert(id);
        written?;
        self.call(Call::SyncRecord, &path, || held.file.sync_data())?;
        self.doubtful.remove(&id);
        if let Some(held) = self.held.get_mut(&id) {
            held.written = true;
        }
        Ok(())
    }

    /// Writes the record, wherever it has to begin.
    fn try_persist(&mut self, id: MigrationId) -> Result<(), StoreError> {
        if !self.held.contains_key(&id) {
            let attached = self.attach(id);
            // A file that is there may have a record, whoever wrote it.
            if !matches!(attached, Ok(false)) {
                self.doubtful.insert(id);
            }
            if !attached? {
                let created = self.create(id, "");
                if matches!(&created, Err(StoreError::Failed { cause, .. }) if cause.kind() == ErrorKind::AlreadyExists)
                {
                    self.doubtful.insert(id);
                }
                created?;
            }
        }
        if self.held.get(&id).is_some_and(|held| held.written) {
            return Ok(());
        }
        self.write(id)
    }

    /// Removes the file that is held.
    fn remove(&mut self, id: MigrationId) -> Result<(), StoreError> {
        let path = self.path(id);
        let removed = self.call(Call::Remove, &path, || optional(fs::remove_file(&path)));
        // What is written from here on to a file without a name nobody would find, and it may have lost it all the same.
        self.held.retain(|&other, held| {
            other != id || (removed.is_err() && is_at(&held.file, &path).is_ok_and(|here| here))
        });
        removed.map(drop)
    }

    /// Removes a record of which nobody knows whether it is there.
    fn withdraw(&mut self, id: MigrationId) -> Result<(), StoreError> {
        let path = self.path(id);
        if self.held.contains_key(&id) {
            self.remove(id)?;
        } else if self.call(Call::Open, &path, || optional(fs::metadata(&path)))?.is_some() {
            return Err(StoreError::InUse { path });
        }
        self.sync_directory()?;
        self.doubtful.remove(&id);
        Ok(())
    }
}

/// Room that was made for a record and not needed goes with the store.
impl Drop for DirectoryStore {
    fn drop(&mut self) {
        let ids: Vec<_> = self.held.iter().filter(|(_, held)| !held.written).map(|(&id, _)| id).collect();
        for id in ids {
            if !self.doubtful.contains(&id) && matches!(self.found(id), Ok(Found::Nothing)) {
                let _ = self.remove(id);
            }
        }
    }
}

impl StableStore for DirectoryStore {
    fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
        if self.held.contains_key(&id) {
            return Ok(());
        }
        self.create(id, guest)?;
        self.prepare_warming(id);
        Ok(())
    }

    fn warm(&mut self, id: MigrationId, within: Duration) {
        let wanted = self.held.get(&id).is_some_and(|held| !held.written);
        if wanted && let Some(warming) = &self.warming {
            warming.want(within);
        }
    }

    fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError> {
        if record != self.role.record() {
            return Err(PersistError::Not(StoreError::OtherSide { role: self.role, record }));
        }
        if let Some(warming) = &self.warming {
            warming.hush();
        }
        let Err(cause) = self.try_persist(id) else { return Ok(()) };
        if self.doubtful.contains(&id) && self.withdraw(id).is_err() {
            return Err(PersistError::Unknown(cause));
        }
        Err(PersistError::Not(cause))
    }

    fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError> {
        if !self.held.contains_key(&id) && !self.attach(id)? {
            return Ok(None);
        }
        if !self.held.get(&id).is_some_and(|held| held.written) {
            match self.found(id)? {
                Found::Nothing => return Ok(None),
                Found::Record(record, _) if record != self.role.record() => {
                    let fault = format!("a {} keeps no record of '{record}'", self.role);
                    return Err(StoreError::Damaged { path: self.path(id), fault });
                }
                Found::Record(..) | Found::Remains => self.write(id)?,
            }
        }
        Ok(Some(self.role.record()))
    }

    fn erase(&mut self, id: MigrationId) -> Result<(), StoreError> {
        if self.held.contains_key(&id) || self.attach(id)? {
            self.remove(id)?;
        }
        self.doubtful.remove(&id);
        Ok(())
    }
}

/// A file that was not there before, for its owner alone.
fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// None for what is not there.
fn optional<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Whether `file` is what `path` names.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let Some(named) = optional(fs::metadata(path))? else { return Ok(false) };
    let opened = file.metadata()?;
    Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino()))
}

/// A block of a file, zeroes behind its end: what is too short has no good checksum.
pub(super) fn read_block(file: &File, at: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut len = 0;
    while len < BLOCK {
        match file.read_at(&mut block[len..], at + len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // It was cut: whether it had a record, nobody knows.
    if len < BLOCK && at > 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(block)
}

/// Checks that a file is the one that its name says.
fn check(block: &[u8; BLOCK], id: MigrationId, role: Role) -> Result<(), String> {
    let header = Header::decode(block)?;
    if (header.id, header.role) == (id, role) {
        Ok(())
    } else {
        Err(format!("it is of the {} of migration {:016x}", header.role, header.id.0))
    }
}

/// Makes a directory, and each above it that is not there, so that a power cut leaves them.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(above)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => {}
        made => made?,
    }
    File::open(above)?.sync_all()
}

/// Removes what crashes have left: files that never got their name, and room for records that were never written. That it
/// cannot be done is no harm.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.to_str().unwrap_or_default();
        let old = || {
            let made = entry.metadata().and_then(|data| data.modified()).ok()?;
            SystemTime::now().duration_since(made).ok()
        };
        if !(name.ends_with(SUFFIX) || name.ends_with(NEW) && name.contains(SUFFIX))
            || old().is_none_or(|age| age < LEFT_BEHIND)
        {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        // Locked, it cannot come to have a record; and whoever waits for the lock looks at the name again.
        if file.try_lock().is_ok() && (name.ends_with(NEW) || is_room(&file)) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a file has room for a record, and none in it.
fn is_room(file: &File) -> bool {
    let header = read_block(file, 0).map(|block| Header::decode(&block));
    let record = read_block(file, BLOCK as u64);
    matches!((header, record), (Ok(Ok(header)), Ok(block)) if decode_record(&block, header.id) == Found::Nothing)
}
