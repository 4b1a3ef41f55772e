//! A lab guest on this machine: its memory, what sees its writes, itself; and whether it is what it must be.
//!
//! Made by whoever runs a scenario's guest for real: [`run`](super::run), which only watches it, and the command line, which moves
//! it. A guest that comes from elsewhere has its memory and its registers from there, and is checked by the same rule.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whimbrel_core::dirty::DirtyBitmap;
use whimbrel_core::embed::{DirtyLog, Guest, GuestError, LogError};
use whimbrel_core::layout::{LayoutError, RamLayout};
use whimbrel_core::machine::message::Section;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::ByteCount;
use whimbrel_guest::lab::config::{ConfigError, LabConfig};
use whimbrel_guest::lab::{Heartbeat, LabGuest, Stale};
use whimbrel_guest::log::{self, SoftwareLog, UserfaultfdLog};
use whimbrel_guest::memory::{Backing, GuestMemory, MemoryError, available};
use whimbrel_sim::config::GuestConfig;

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

/// Why there is no such guest here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HereError {
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
}

impl HereError {
    /// Whether another guest would do: then it is for whoever configured it to change.
    pub fn is_the_guests(&self) -> bool {
        match self {
            // No more threads or files to be had: nothing is wrong with the scenario.
            Self::Config(ConfigError::Thread { .. } | ConfigError::Pipe(_)) => false,
            Self::Layout(_) | Self::Config(_) | Self::TooLarge { .. } => true,
            Self::Memory(_) | Self::Log(_) => false,
        }
    }
}

/// Why a guest is not what it must be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It does not do what it is told.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A page was lost, or is stale: a fault of whimbrel's own.
    #[error("the guest's memory is not what its registers say")]
    Stale(#[from] Stale),
}

/// A guest that begins here: paused, its memory full, its log not started.
pub struct Here {
    /// Its memory.
    pub memory: Arc<GuestMemory>,
    /// What sees its writes.
    pub log: Box<dyn DirtyLog>,
    /// Itself.
    pub guest: LabGuest,
    /// Why the log is not a better one.
    pub instead: Option<String>,
}

impl Here {
    /// The lab guest `lab`, made of `config`.
    ///
    /// # Errors
    ///
    /// A [`HereError`].
    pub fn new(
        config: &GuestConfig,
        lab: LabConfig,
        backing: Backing,
        log: LogChoice,
    ) -> Result<Self, HereError> {
        let layout = RamLayout::contiguous(config.memory, config.page_size)?;
        if let Some(available) = available().filter(|available| config.memory > *available) {
            return Err(HereError::TooLarge { memory: config.memory, available });
        }
        let memory = Arc::new(GuestMemory::new(layout, backing)?);
        memory.populate()?;
        let Chosen { log, marks, instead } = choose(log, &memory)?;
        let guest = LabGuest::new(Arc::clone(&memory), lab, marks)?;
        guest.fill();
        Ok(Self { memory, log, guest, instead })
    }
}

/// A log for `memory`, what its writers must mark for it, and why it is not a better one.
struct Chosen {
    log: Box<dyn DirtyLog>,
    marks: Option<Arc<DirtyBitmap>>,
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

/// Stops the guest and compares its whole memory with what its registers say.
///
/// # Errors
///
/// A [`CheckError`].
pub fn check(guest: &mut LabGuest) -> Result<(), CheckError> {
    guest.pause()?;
    let state = guest.save()?;
    Ok(guest.expected(&state)?.check(&**guest.memory())?)
}

/// A guest that somebody else runs and that can be asked about itself. All clones are one guest.
#[derive(Clone, Debug)]
pub struct Kept(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    guest: LabGuest,
    /// The last beat of the state that it was restored from.
    last_beat: Option<Duration>,
}

impl Kept {
    /// This guest.
    pub fn new(guest: LabGuest) -> Self {
        Self(Arc::new(Mutex::new(Inner { guest, last_beat: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its heartbeat has seen.
    pub fn heartbeat(&self) -> Heartbeat {
        self.lock().guest.heartbeat()
    }

    /// The time without a beat between where it came from and here; none if it did not come, has not beaten since, or stood
    /// still for longer many times. Only where both are one machine, whose clock they share.
    pub fn gap_of_the_move(&self) -> Option<Duration> {
        let inner = self.lock();
        let last = inner.last_beat?;
        let gaps = inner.guest.heartbeat().longest;
        gaps.into_iter().find(|gap| gap.ended.saturating_sub(gap.length) == last).map(|gap| gap.length)
    }

    /// As [`check`].
    ///
    /// # Errors
    ///
    /// A [`CheckError`].
    pub fn check(&self) -> Result<(), CheckError> {
        check(&mut self.lock().guest)
    }
}

impl Guest for Kept {
    fn pause(&mut self) -> Result<(), GuestError> {
        self.lock().guest.pause()
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.lock().guest.resume()
    }

    fn turned_ago(&self) -> Option<Duration> {
        self.lock().guest.turned_ago()
    }

    fn save(&mut self) -> Result<Vec<Section>, GuestError> {
        self.lock().guest.save()
    }

    fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
        let mut inner = self.lock();
        inner.guest.restore(state)?;
        inner.last_beat = inner.guest.heartbeat().last;
        Ok(())
    }

    fn throttle(&mut self, throttle: Throttle) -> Result<bool, GuestError> {
        self.lock().guest.throttle(throttle)
    }
}
