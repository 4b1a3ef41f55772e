//! A model of a disk beside the real one: which calls a store made, which of them are told to fail, and what a power cut could leave.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::super::directory::Call;

/// When a call is told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// It does nothing.
    Before,
    /// It does what it is told.
    After,
}

/// Sees each call that a store makes, lets some of them fail, and knows what a power cut could leave.
#[derive(Clone, Debug, Default)]
pub(in crate::stable) struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: usize,
    pub(super) faults: BTreeMap<usize, When>,
    pub(super) log: Vec<Call>,
    pub(super) disk: Disk,
    /// Writes that keep the disk awake, and whether they fail.
    pub(super) beside: usize,
    pub(super) beside_fails: bool,
}

/// What could be on the disk, told from what is in memory.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: Vec<OnDisk>,
    /// Which file the name is of, in memory.
    live: Option<usize>,
    /// And of which it may be on the disk.
    names: BTreeSet<Option<usize>>,
    /// The one that the store writes to.
    held: Option<usize>,
}

/// A file's second block.
#[derive(Debug)]
struct OnDisk {
    maybe_empty: bool,
    maybe_record: bool,
    /// Memory has it, and will be written when it is asked for.
    dirty: bool,
}

impl Disk {
    /// What a call did, or that it failed and did nothing.
    fn see(&mut self, call: Call, acted: bool) {
        if self.names.is_empty() {
            self.names.insert(None);
        }
        let mut unknown = OnDisk { maybe_empty: true, maybe_record: true, dirty: false };
        let held = self.held.and_then(|held| self.files.get_mut(held)).unwrap_or(&mut unknown);
        match (call, acted) {
            (Call::Create, true) => {
                self.files.push(OnDisk { maybe_empty: true, maybe_record: false, dirty: false });
            }
            (Call::Name, true) => {
                self.live = Some(self.files.len() - 1);
                (self.held, _) = (self.live, self.names.insert(self.live));
            }
            (Call::Remove, true) => {
                self.live = None;
                self.names.insert(None);
            }
            (Call::SyncDirectory, true) => self.names = BTreeSet::from([self.live]),
            // Of the first block, when it takes hold of a file.
            (Call::Lock, true) if self.live.is_some() => self.held = self.live,
            (Call::WriteRecord, true) => {
                // From here on the kernel may write it whenever it likes.
                (held.maybe_record, held.dirty) = (true, true);
            }
            (Call::SyncRecord, acted) => {
                // What failed is not tried again by itself: the page is clean.
                let written = std::mem::take(&mut held.dirty) && acted;
                held.maybe_empty &= !written;
            }
            _ => {}
        }
    }

    /// After a power cut now: whether a restart may find the record, and whether it must.
    pub(super) fn found(&self) -> (bool, bool) {
        let of = |name: &Option<usize>| name.map(|index| &self.files[index]);
        let may = self.names.iter().any(|name| of(name).is_some_and(|file| file.maybe_record));
        let must = !self.names.is_empty()
            && self
                .names
                .iter()
                .all(|name| of(name).is_some_and(|file| file.maybe_record && !file.maybe_empty));
        (may, must)
    }
}

impl Watch {
    pub(super) fn of(seen: Seen) -> Self {
        Self(Arc::new(Mutex::new(seen)))
    }

    /// Whether nobody else can tell it anything.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// Of another thread: what keeps the disk awake.
    pub(in crate::stable) fn beside<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let fails = {
            let mut seen = self.seen();
            seen.beside += 1;
            seen.beside_fails
        };
        let done = act()?;
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(done) }
    }

    /// Until so many of those were begun; false if it took for ever.
    pub(super) fn await_beside(&self, count: usize) -> bool {
        until(|| self.seen().beside >= count)
    }

    pub(in crate::stable) fn around<T>(
        &self,
        call: Call,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let fault = {
            let mut seen = self.seen();
            seen.calls += 1;
            seen.log.push(call);
            let index = seen.calls - 1;
            seen.faults.get(&index).copied()
        };
        let failed = || Err(io::Error::from_raw_os_error(5));
        let outcome = if fault == Some(When::Before) { failed() } else { act() };
        self.seen().disk.see(call, outcome.is_ok());
        if fault == Some(When::After) { failed() } else { outcome }
    }
}

/// Waits for it; false if that took for ever.
pub(super) fn until(mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > Duration::from_mins(1) {
            return false;
        }
        thread::yield_now();
    }
    true
}
