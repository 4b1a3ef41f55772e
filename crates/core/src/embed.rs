//! What an embedder gives: guest memory, a dirty log, and the guest itself.
//!
//! A VMM that implements [`GuestRam`], [`DirtyLog`] and [`Guest`] can be migrated; `whimbrel-guest` has ready-made
//! memory and logs for Linux. All three block, and all are object-safe, so a driver holds them as `dyn`. None of them may
//! decide anything about the migration, or keep pages back: what is pending is the engine's affair.
//!
//! # In which order they are called
//!
//! At the source:
//!
//! 1. [`DirtyLog::start`]; from here on every write is reported.
//! 2. Round after round [`GuestRam::read`] of the pages that are pending, and [`DirtyLog::harvest`], while the guest
//!    runs. [`Guest::throttle`] as the policy says.
//! 3. [`Guest::pause`], one more [`DirtyLog::harvest`], the last [`GuestRam::read`]s, and [`Guest::save`].
//! 4. [`DirtyLog::stop`], however it ended, and the throttle off. If the handover did not happen, [`Guest::resume`].
//!
//! At the destination: [`GuestRam::write`] as pages come, [`Guest::restore`] when all are there, and [`Guest::resume`] when it is
//! told to and not before.
//!
//! # From which threads
//!
//! [`GuestRam`] is called by any number of threads at the same time, while the guest runs and while the log is harvested. A log and a
//! guest are called by one thread at a time, though not always by the same one, and two of their calls never overlap: but writers go on
//! marking, and vCPUs writing, in the middle of each call. While a call blocks the migration waits, and nobody ends it.

use std::error::Error;
use std::io;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::dirty::{PageSet, RangeError};
use crate::layout::{Gpa, RamLayout};
use crate::machine::message::Section;
use crate::throttle::Throttle;
use crate::units::ByteCount;

/// What else can go wrong in an embedder's code.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why guest memory was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RamError {
    /// Not all of it is guest memory. Nothing was read or written.
    #[error("{len} at {at} are not all guest memory")]
    NotMemory {
        /// The first address asked for.
        at: Gpa,
        /// How much was asked for.
        len: ByteCount,
    },
    /// The memory itself failed.
    #[error("guest memory at {at} cannot be accessed")]
    Failed {
        /// The first address asked for.
        at: Gpa,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The descriptor between which and memory bytes were to be moved failed, as a connection that is lost. Nothing is wrong
    /// with the memory.
    #[error("the descriptor to send to or to receive from failed")]
    Descriptor(#[source] io::Error),
}

/// Guest memory, readable and writable while the guest runs.
///
/// A read may tear against a running guest: what it gives is then neither the old content nor the new. That is no harm
/// to a migration, because the page is in the next harvest.
pub trait GuestRam: Send + Sync {
    /// Where memory is, and how its pages are numbered. Always the same.
    fn layout(&self) -> &RamLayout;

    /// Copies guest memory from `at` on into `out`.
    ///
    /// # Errors
    ///
    /// [`RamError::NotMemory`] unless all of it lies in one region; `out` is then as it was.
    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError>;

    /// Reads the first bytes of stretches of `step` bytes, from `at` on, as many as `out` has room for. Where nothing is cached,
    /// memory answers many such questions as fast as one, if nobody waits for an answer before asking the next.
    ///
    /// # Errors
    ///
    /// As of [`GuestRam::read`]; what is in `out` then is of no use.
    fn read_firsts(&self, at: Gpa, step: ByteCount, out: &mut [[u8; 8]]) -> Result<(), RamError> {
        let mut at = at;
        for first in out {
            self.read(at, first)?;
            at = Gpa(at.0.saturating_add(step.0));
        }
        Ok(())
    }

    /// Copies `data` into guest memory from `at` on, without telling any dirty log.
    ///
    /// # Errors
    ///
    /// [`RamError::NotMemory`] unless all of it lies in one region; memory is then as it was.
    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError>;

    /// Makes `range` resident before it is written, so that whoever writes does not wait for the system to find memory.
    /// Content stays. Nothing is done where the system can't be asked for it.
    ///
    /// # Errors
    ///
    /// [`RamError::NotMemory`] unless all of it lies in one region; [`RamError::Failed`] if there is not enough.
    fn prepare(&self, _range: RamRange) -> Result<(), RamError> {
        Ok(())
    }

    /// The same memory as one that sockets take from and put into without a copy in between; none if it cannot.
    #[cfg(unix)]
    fn direct(&self) -> Option<&dyn DirectRam> {
        None
    }
}

/// Consecutive bytes of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RamRange {
    /// Address of the first.
    pub at: Gpa,
    /// How many.
    pub len: ByteCount,
}

/// A part of what is sent: bytes of the sender's own, or of guest memory.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// Those that guest memory holds when the system comes to read them.
    Ram(RamRange),
}

/// Guest memory between which and a descriptor the system moves bytes itself.
///
/// What is sent may tear against a running guest, as in [`GuestRam::read`]. Nothing tells a dirty log what was received.
#[cfg(unix)]
pub trait DirectRam: Send + Sync {
    /// Hands `pieces` to `to`, in order, as `writev(2)` does; gives how many bytes were taken, which may be fewer than there
    /// are. More pieces than the system takes at once are left for the next call.
    ///
    /// # Errors
    ///
    /// [`RamError::NotMemory`] if a range is not within one region: nothing was sent. [`RamError::Descriptor`] with what the system
    /// says of `to`; `WouldBlock` is a time limit of its. [`RamError::Failed`] if memory itself cannot be read.
    fn send(&self, pieces: &[Piece<'_>], to: BorrowedFd<'_>) -> Result<usize, RamError>;

    /// Fills `ranges`, in order, with what comes from `from`, as `readv(2)` does; gives how many bytes came. None is the end
    /// of the stream.
    ///
    /// # Errors
    ///
    /// As of [`DirectRam::send`].
    fn receive(&self, ranges: &[RamRange], from: BorrowedFd<'_>) -> Result<usize, RamError>;
}

/// Why a dirty log does not work. It must be taken to have lost writes: a migration that meets this fails, and the guest
/// runs on at the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It was asked for what was written while nobody recorded it.
    #[error("the {log} dirty log was harvested without being started")]
    NotStarted {
        /// Its name.
        log: &'static str,
    },
    /// The set to harvest into is of another guest.
    #[error("the {log} dirty log and the set to harvest into do not belong together")]
    OtherGuest {
        /// The log's name.
        log: &'static str,
        /// By how many page numbers.
        #[source]
        cause: RangeError,
    },
    /// The system refused.
    #[error("the {log} dirty log cannot {what}{}", advice(.help))]
    Failed {
        /// The log's name.
        log: &'static str,
        /// What it was about to do, as "arm 1GiB at 0x0".
        what: String,
        /// What can be done about it; empty where nobody knows.
        help: &'static str,
        /// What the system says.
        #[source]
        cause: Cause,
    },
}

/// Refuses a set of another guest, as every log has to before it takes anything out: `log` is its name, `numbers` are those of the
/// guest that it watches ([`RamLayout::numbers`]).
///
/// # Errors
///
/// [`LogError::OtherGuest`].
pub fn check_set(log: &'static str, numbers: u64, into: &PageSet) -> Result<(), LogError> {
    let (left, right) = (into.numbers(), numbers);
    if left == right {
        Ok(())
    } else {
        Err(LogError::OtherGuest { log, cause: RangeError::OtherGuest { left, right } })
    }
}

/// What can be done, behind what is wrong.
fn advice(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!(": {help}") }
}

/// Which pages were written since when. May report too much, never too little.
pub trait DirtyLog: Send {
    /// What kind of log it is, in a word or two: `software`, `userfaultfd`.
    fn name(&self) -> &'static str;

    /// Begins to record: every write to guest memory after this returns is reported by some later harvest.
    ///
    /// Idempotent: a log that records goes on, and forgets nothing.
    ///
    /// # Errors
    ///
    /// A [`LogError`]. The log then does not record and costs nothing.
    fn start(&mut self) -> Result<(), LogError>;

    /// Adds the pages written since the last harvest, or since the start, to `into`, and re-arms in one step: a write that
    /// races with the call is in this harvest or in the next. Whoever reads a page of it afterwards sees what was
    /// written before.
    ///
    /// Pages have the numbers of the guest's layout, so `into` has as many as [`RamLayout::numbers`].
    ///
    /// # Errors
    ///
    /// [`LogError::NotStarted`] before the start and after the stop, [`LogError::OtherGuest`] if `into` has other numbers
    /// ([`check_set`]): `into` is then as it was, and no page is lost. After any other error pages may have been lost.
    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError>;

    /// Ends recording and what it costs the guest. Idempotent, and also right after a failed call.
    ///
    /// # Errors
    ///
    /// A [`LogError`] if traces of the tracking may be left.
    fn stop(&mut self) -> Result<(), LogError>;
}

/// Why the guest did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// State that this guest does not know. Nothing was restored.
    #[error("no device of this guest has state of kind `{kind}`, version {version}")]
    UnknownSection {
        /// Its kind.
        kind: String,
        /// Its version.
        version: u32,
    },
    /// State that this guest needs and was not given. Nothing was restored.
    #[error("the state of `{kind}` is missing")]
    MissingSection {
        /// Its kind.
        kind: &'static str,
    },
    /// State that is not what its kind says. Nothing was restored.
    #[error("the state of `{kind}` is damaged: {fault}")]
    Damaged {
        /// Its kind.
        kind: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// It was told something that it cannot do now, as saving its state while it runs.
    #[error("the guest cannot {what} while it {does}")]
    WrongMoment {
        /// What it was told.
        what: &'static str,
        /// What it does.
        does: &'static str,
    },
    /// Something of it failed.
    #[error("the guest cannot {what}")]
    Failed {
        /// What it was told.
        what: &'static str,
        /// Why.
        #[source]
        cause: Cause,
    },
}

/// vCPUs and devices.
pub trait Guest: Send {
    /// Stops the vCPUs, then drains the devices: nothing writes guest memory after it returns. Idempotent.
    ///
    /// # Errors
    ///
    /// A [`GuestError`]; the guest is then to be resumed.
    fn pause(&mut self) -> Result<(), GuestError>;

    /// Lets it run. Idempotent.
    ///
    /// # Errors
    ///
    /// A [`GuestError`]; the guest does not run.
    fn resume(&mut self) -> Result<(), GuestError>;

    /// After `pause`: how long ago the last of its vCPUs and devices stopped. After `resume`: how long ago the first could go on.
    /// None if it cannot say; then it counts as standing still from the call of `pause` until `resume` has returned. Asked right
    /// after either, for the downtime that is reported, and for nothing else.
    fn turned_ago(&self) -> Option<Duration> {
        None
    }

    /// The state of vCPUs and devices, while paused. Saving changes nothing, so the guest may be resumed afterwards.
    ///
    /// # Errors
    ///
    /// [`GuestError::WrongMoment`] unless it is paused.
    fn save(&mut self) -> Result<Vec<Section>, GuestError>;

    /// Takes over the state of another guest, while paused, as a guest is that has just been made. All or nothing: a section that is unknown, missing or
    /// damaged leaves everything as it was.
    ///
    /// # Errors
    ///
    /// A [`GuestError`] that names the section.
    fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError>;

    /// Slows the vCPUs, or lets them run freely again ([`Throttle::Off`]). Gives `false` if this guest cannot be slowed in
    /// this way; it then runs as before.
    ///
    /// # Errors
    ///
    /// A [`GuestError`] if it is not known how fast it runs now.
    fn throttle(&mut self, throttle: Throttle) -> Result<bool, GuestError> {
        Ok(throttle.is_off())
    }
}

/// A driver holds them as `dyn`.
const _: Option<(&dyn GuestRam, &dyn DirtyLog, &dyn Guest)> = None;
