//! Runs a lab guest and harvests its dirty log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{Guest as _, GuestError, LogError};
use whimbrel_core::units::Pages;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::lab::{Heartbeat, Work};
use whimbrel_guest::memory::Backing;
use whimbrel_sim::config::GuestConfig;
use whimbrel_sim::trace::{Trace, TraceBuilder, TraceError};

use super::here::{CheckError, Here, HereError, LogChoice, check};

/// How a guest is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// For how long.
    pub length: Duration,
    /// Time between two harvests.
    pub interval: Duration,
    /// What its memory is made of.
    pub backing: Backing,
    /// Who records its writes.
    pub log: LogChoice,
}

/// A harvest, as it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Harvest {
    /// When it ended, from the guest's start.
    pub at: Duration,
    /// The time since the one before.
    pub since: Duration,
    /// Pages found.
    pub pages: Pages,
    /// How long it took.
    pub took: Duration,
}

/// What a guest did while it was watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The log that was taken.
    pub log: &'static str,
    /// Why not a better one.
    pub instead: Option<String>,
    /// How long starting it took.
    pub start: Duration,
    /// How long stopping it took.
    pub stop: Duration,
    /// All harvests.
    pub harvests: Vec<Harvest>,
    /// The pages that they found.
    pub trace: Trace,
    /// What each vCPU did.
    pub vcpus: Vec<Work>,
    /// What the guest itself saw.
    pub heartbeat: Heartbeat,
}

/// Why a guest was not watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// There is no such guest here.
    #[error(transparent)]
    Here(#[from] HereError),
    /// Its writes cannot be recorded.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It does not do what it is told.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// Afterwards its memory is not what it must be: a fault of whimbrel's own.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// More than a trace has room for.
    #[error("what it dirties is no trace")]
    Trace(#[from] TraceError),
}

/// Runs the lab guest `lab`, made of `config`, and calls `see` after each harvest. Ends early when `stop` is set.
///
/// Afterwards the guest's whole memory is compared with what its registers say.
///
/// # Errors
///
/// A [`WatchError`].
pub fn watch(
    config: &GuestConfig,
    lab: LabConfig,
    watch: &Watch,
    stop: &AtomicBool,
    mut see: impl FnMut(&Harvest),
) -> Result<Watched, WatchError> {
    let Here { memory, mut log, mut guest, instead } = Here::new(config, lab, watch.backing, watch.log)?;
    let numbers = memory.layout().numbers();
    let start = timed(|| log.start())?;
    let mut trace = TraceBuilder::new(config.memory, config.page_size)?;
    let (mut harvests, mut dirty) = (Vec::new(), PageSet::new(numbers));
    let begun = Instant::now();
    guest.resume()?;
    let mut before = Duration::ZERO;
    while before < watch.length && !stop.load(Ordering::Relaxed) {
        let due = (before + watch.interval).min(watch.length);
        sleep(begun + due, stop);
        let took = timed(|| log.harvest(&mut dirty))?;
        // A page of this harvest was written before its end.
        let at = begun.elapsed();
        let harvest = Harvest { at, since: at.saturating_sub(before), pages: dirty.count(), took };
        trace.interval(before, harvest.since)?;
        dirty.runs().try_for_each(|run| trace.dirtied(run))?;
        dirty.clear();
        see(&harvest);
        harvests.push(harvest);
        before = at;
    }
    guest.pause()?;
    let stopped = timed(|| log.stop())?;
    check(&mut guest)?;
    Ok(Watched {
        log: log.name(),
        instead,
        start,
        stop: stopped,
        harvests,
        trace: trace.build(),
        vcpus: (0..guest.config().writers.len()).map(|index| guest.work(index)).collect(),
        heartbeat: guest.heartbeat(),
    })
}

/// How long nobody looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Sleeps until `due`, or until `stop` is set.
fn sleep(due: Instant, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

fn timed<E>(act: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed())
}
