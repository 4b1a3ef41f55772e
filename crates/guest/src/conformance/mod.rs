//! What every dirty log promises, as one suite.
//!
//! A [`Ground`] is a dirty log together with the guest that it watches. [`check`] puts it through all promises of
//! [`DirtyLog`] and gives the first that it breaks. It runs on every log of this crate and on simulated guests; whoever writes
//! a log of their own implements a ground and runs it too. It trusts nothing but the content of memory: a page has to be
//! reported if what it holds has changed, whoever changed it.

#[cfg(all(feature = "kvm", target_os = "linux", target_arch = "x86_64"))]
mod kvm;
mod promises;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod real;
mod skipping;
#[cfg(test)]
mod tests;

use std::fmt;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, LogError};
use whimbrel_core::layout::{PageNumber, PageRun, RamLayout};

#[cfg(all(feature = "kvm", target_os = "linux", target_arch = "x86_64"))]
pub use self::kvm::KvmGround;
use self::promises::Found;
#[cfg(all(test, feature = "rust-vmm"))]
pub(crate) use self::real::pipe_with;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use self::real::{MemoryGround, WrittenRam};
pub use self::skipping::skip;

/// A dirty log, the guest that it watches, and ways to make that write.
pub trait Ground {
    /// The guest's memory.
    fn layout(&self) -> RamLayout;

    /// The log.
    fn log(&mut self) -> &mut dyn DirtyLog;

    /// A number that every write to `page` changes, and that never returns to an earlier value.
    fn content(&self, page: PageNumber) -> u64;

    /// Whether the guest ever writes `page`. Some it must, and some not, or reports of too much go unnoticed.
    fn writes(&self, page: PageNumber) -> bool;

    /// Lets the guest write, and returns when it is still again. It writes to `wanted`, where it can be told; all of these
    /// are pages that it writes.
    fn write(&mut self, wanted: &[PageNumber]);

    /// Calls `act` while the guest writes to all its pages at the same time, as fast as it can. It is still when this
    /// returns.
    fn while_writing(&mut self, act: &mut dyn FnMut(&mut dyn Running));

    /// Lets the kernel write to `page` on the guest's behalf, as `read(2)` does; false if this ground has no such thing.
    fn kernel_write(&mut self, page: PageNumber) -> bool {
        let _ = page;
        false
    }

    /// Gives the memory of `run` back to the system, as a balloon does, so that it reads as zeroes; false if this ground has
    /// no such thing. Content may return to an earlier value here.
    fn discard(&mut self, run: PageRun) -> bool {
        let _ = run;
        false
    }
}

/// A guest that is writing.
pub trait Running {
    /// As [`DirtyLog::harvest`].
    ///
    /// # Errors
    ///
    /// The log's.
    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError>;

    /// As [`Ground::content`], of this moment or a later one.
    fn content(&self, page: PageNumber) -> u64;

    /// The same, if it is known that the log has been told of all writes that this content shows: if it is not what it was after
    /// the harvest before, then the next harvest has to have the page. A log that loses a write is then found at once
    /// and not only when the guest stands still. `None` if nobody can say.
    ///
    /// What is marked before it is written, as by hardware, is always told. Who marks after a write tells it some moments
    /// later.
    fn settled(&self, page: PageNumber) -> Option<u64> {
        let _ = page;
        None
    }
}

/// What a dirty log promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Promise {
    /// A harvest has the pages written since the one before, and no others.
    Exact,
    /// Of a guest that writes all the time, no write is ever missing, and no page reported that is not written.
    NothingLost,
    /// What the set to harvest into has already stays in it.
    Adds,
    /// Starting twice forgets nothing.
    StartIsIdempotent,
    /// Stopping twice is stopping.
    StopIsIdempotent,
    /// Who is not started says so instead of reporting nothing.
    NotStartedIsSaid,
    /// What was written before a start is not reported after it.
    StartsClean,
    /// A set of another guest is refused.
    OtherGuestIsRefused,
    /// Writes by the kernel count.
    SeesTheKernel,
    /// Memory that was given back and is written again is reported.
    SurvivesBalloons,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "a harvest has the pages written, and no others",
            Self::NothingLost => "no write is lost while the guest runs",
            Self::Adds => "a harvest adds to the set",
            Self::StartIsIdempotent => "starting twice forgets nothing",
            Self::StopIsIdempotent => "stopping twice is stopping",
            Self::NotStartedIsSaid => "a log that is not started says so",
            Self::StartsClean => "a start begins clean",
            Self::OtherGuestIsRefused => "a set of another guest is refused",
            Self::SeesTheKernel => "writes by the kernel are seen",
            Self::SurvivesBalloons => "memory given back and written again is reported",
        })
    }
}

/// A promise that was broken.
#[derive(Debug, thiserror::Error)]
#[error("the {log} dirty log breaks its promise that {promise}: {how}")]
pub struct Broken {
    /// The log's name.
    pub log: &'static str,
    /// Which promise.
    pub promise: Promise,
    /// How.
    pub how: String,
}

/// Puts `ground` through all promises, with so many harvests while the guest writes. Gives what could not be checked,
/// because the ground has no such thing. The log is stopped before and after.
///
/// # Errors
///
/// The first promise that is [`Broken`].
pub fn check(ground: &mut dyn Ground, harvests: u64) -> Result<Vec<Promise>, Broken> {
    let log = ground.log().name();
    let mut missing = Vec::new();
    for (promise, check) in promises::STILL {
        match check(ground).and_then(|found| promises::stop(ground).map(|()| found)) {
            Ok(Found::Kept) => {}
            Ok(Found::NoSuchThing) => missing.push(promise),
            Err(how) => return Err(Broken { log, promise, how }),
        }
    }
    let lost = |how| Broken { log, promise: Promise::NothingLost, how };
    promises::nothing_lost(ground, harvests).and_then(|()| promises::stop(ground)).map_err(lost)?;
    Ok(missing)
}

/// All pages of a guest.
fn pages_of(layout: &RamLayout) -> impl Iterator<Item = PageNumber> {
    let runs: Vec<_> = layout.runs().collect();
    runs.into_iter().flat_map(|run| run.range().map(PageNumber))
}
