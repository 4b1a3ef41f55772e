//! Runs a lab guest and harvests its dirty log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, Guest as _, GuestError, LogError};
use whimbrel_core::layout::{LayoutError, RamLayout};
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_guest::lab::config::{ConfigError, LabConfig};
use whimbrel_guest::lab::{Heartbeat, LabGuest, Stale, Work};
use whimbrel_guest::log::{self, SoftwareLog, UserfaultfdLog};
use whimbrel_guest::memory::{Backing, GuestMemory, MemoryError, available};
use whimbrel_sim::config::GuestConfig;
use whimbrel_sim::trace::{Trace, TraceBuilder, TraceError};

/// Which dirty log watches the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogChoice {
    /// The best that there is.
    #[default]
    Best,
    /// Write protection by the kernel.
    Userfaultfd,
    /// Marks by the guest's own threads.
    Software,
}

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
    /// Memory of no possible size.
    #[error("guest.memory is not accepted")]
    Layout(#[from] LayoutError),
    /// The lab guest cannot be so.
    #[error("the lab guest cannot be so")]
    Config(#[from] ConfigError),
    /// More than the machine can give now.
    #[error(
        "guest.memory = {memory}, and {} are free on this machine: take a smaller guest (--set guest.memory=1GiB)",
        .available.human()
    )]
    TooLarge {
        /// Of the guest.
        memory: ByteCount,
        /// Of the machine.
        available: ByteCount,
    },
    /// No memory for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Its writes cannot be recorded.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It does not do what it is told.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// More than a trace has room for.
    #[error("what it dirties is no trace")]
    Trace(#[from] TraceError),
    /// Afterwards its memory is not what it must be: a fault of whimbrel's own.
    #[error("the guest's memory is not what its registers say")]
    Stale(#[from] Stale),
}

/// A log for `memory`, what its writers must mark for it, and why it is not a better one.
struct Chosen {
    log: Box<dyn DirtyLog>,
    marks: Option<Arc<whimbrel_core::dirty::DirtyBitmap>>,
    instead: Option<String>,
}

fn choose(choice: LogChoice, memory: &Arc<GuestMemory>) -> Result<Chosen, LogError> {
    match choice {
        LogChoice::Best => {
            let log::Choice { log, marks, passed_over } = log::best(Arc::clone(memory) as Arc<_>);
            Ok(Chosen { log, marks, instead: passed_over.first().map(ToString::to_string) })
        }
        LogChoice::Userfaultfd => {
            let log = UserfaultfdLog::new(Arc::clone(memory) as Arc<_>)?;
            Ok(Chosen { log: Box::new(log), marks: None, instead: None })
        }
        LogChoice::Software => {
            let log = SoftwareLog::new(memory.layout());
            let marks = Some(Arc::clone(log.bitmap()));
            Ok(Chosen { log: Box::new(log), marks, instead: None })
        }
    }
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
    let layout = RamLayout::contiguous(config.memory, config.page_size)?;
    let numbers = layout.numbers();
    if let Some(available) = available().filter(|available| config.memory > *available) {
        return Err(WatchError::TooLarge { memory: config.memory, available });
    }
    let memory = Arc::new(GuestMemory::new(layout, watch.backing)?);
    memory.populate()?;
    let Chosen { mut log, marks, instead } = choose(watch.log, &memory)?;
    let mut guest = LabGuest::new(Arc::clone(&memory), lab, marks)?;
    guest.fill();
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
    let state = guest.save()?;
    guest.expected(&state)?.check(&*memory)?;
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
