//! The lab guest: a real guest without a hypervisor.
//!
//! Its vCPUs are threads that write real memory by the writer patterns of the simulated guest, at a pace that they hold and
//! report. It has a device, too, and a heartbeat that notices when it stands still. What it is for: to try dirty logs, the live
//! engine and policies on memory that is truly written, and to *know* afterwards whether a page was lost: what memory must hold
//! follows from the saved registers alone ([`Expected`]).
//!
//! | module | what it has |
//! |---|---|
//! | [`config`] | what the guest is to do |
//! | `writes` | which page a write goes to, and what it leaves there |
//! | `pace` | how many writes are due |
//! | `control` | running, paused, throttled: what all its threads obey |
//! | `vcpu`, `device`, `heartbeat` | its threads, each with registers that continue at the destination |
//! | `expected` | what memory must hold |
//!
//! A guest is made paused: at the source it is [filled](LabGuest::fill) and resumed, at the destination its memory comes page by page and
//! its registers by [`Guest::restore`]. It must never write while it is paused, nor forget in a restore what
//! it has done.

pub mod config;

mod control;
mod device;
mod expected;
mod heartbeat;
mod pace;
mod registers;
#[cfg(test)]
mod tests;
mod vcpu;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::dirty::DirtyBitmap;
use whimbrel_core::embed::{Guest, GuestError};
use whimbrel_core::layout::PageNumber;
use whimbrel_core::machine::message::Section;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::Pages;

use self::config::{ConfigError, LabConfig};
use self::control::{Control, Threads};
use self::device::Device;
use self::heartbeat::Pulse;
use self::registers::Registers;
use self::vcpu::Vcpu;
use crate::memory::GuestMemory;

pub use self::device::RING;
pub use self::expected::{Expected, Stale, checksum};
pub use self::heartbeat::{Gap, Heartbeat};

/// Time of the host's monotonic clock, which all its processes share: what a [`Heartbeat`] tells its times by.
pub fn host_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// What its vCPUs have done, for a report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Page writes made.
    pub writes: u64,
    /// Page writes that it wanted to make by now.
    pub wanted: f64,
    /// Page writes that it gave up, because it was held up for too long.
    pub forgone: u64,
    /// How long it has run, pauses left out.
    pub ran: Duration,
}

/// What its threads share.
#[derive(Debug)]
struct Shared {
    memory: Arc<GuestMemory>,
    /// What is marked after each write, if a software log wants that.
    marks: Option<Arc<DirtyBitmap>>,
    control: Control,
}

/// The lab guest. See the [module](self).
#[derive(Debug)]
pub struct LabGuest {
    config: LabConfig,
    shared: Arc<Shared>,
    vcpus: Vec<Arc<Vcpu>>,
    device: Arc<Device>,
    pulse: Arc<Pulse>,
    /// Ended and waited for when dropped.
    _threads: Threads,
}

impl LabGuest {
    /// A guest in `memory`, paused. Its writers mark `marks` after each write, if there are any.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if there is no such guest, or no thread or pipe for it.
    pub fn new(
        memory: Arc<GuestMemory>,
        config: LabConfig,
        marks: Option<Arc<DirtyBitmap>>,
    ) -> Result<Self, ConfigError> {
        config.check(memory.layout())?;
        let shared = Arc::new(Shared { memory, marks, control: Control::paused() });
        let vcpus: Vec<_> =
            (0..config.writers.len()).map(|index| Arc::new(Vcpu::new(&config, index))).collect();
        let device = Arc::new(Device::new(&config, &shared.memory));
        let pulse = Arc::new(Pulse::default());
        let mut threads = Threads::new(Arc::clone(&shared));
        for (index, vcpu) in vcpus.iter().enumerate() {
            let vcpu = Arc::clone(vcpu);
            threads.spawn(format!("lab-vcpu-{index}"), move |shared| vcpu.run(shared))?;
        }
        if let Some(period) = device.period() {
            let device = Arc::clone(&device);
            let pipe = std::io::pipe().map_err(ConfigError::Pipe)?;
            threads.spawn("lab-device".into(), move |shared| device.run(shared, period, pipe))?;
        }
        if config.heartbeat {
            let pulse = Arc::clone(&pulse);
            threads.spawn("lab-heartbeat".into(), move |shared| pulse.run(shared))?;
        }
        // Until they stand still.
        shared.control.pause();
        Ok(Self { config, shared, vcpus, device, pulse, _threads: threads })
    }

    /// Writes what memory holds when the guest is new. Only for a guest that begins here, before it is resumed for the first
    /// time; at a destination memory comes from the source.
    pub fn fill(&self) {
        expected::fill(&self.config, &self.shared.memory);
    }

    /// What it is configured to do.
    pub fn config(&self) -> &LabConfig {
        &self.config
    }

    /// Its memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.shared.memory
    }

    /// What vCPU `index` has done up to now; nothing if there is no such vCPU.
    pub fn work(&self, index: usize) -> Work {
        self.vcpus.get(index).map(|vcpu| vcpu.work()).unwrap_or_default()
    }

    /// What the heartbeat has seen up to now.
    pub fn heartbeat(&self) -> Heartbeat {
        self.pulse.seen()
    }

    /// What memory must hold, from the registers that `state` has: those of a guest of this configuration.
    ///
    /// # Errors
    ///
    /// As [`Guest::restore`].
    pub fn expected(&self, state: &[Section]) -> Result<Expected, GuestError> {
        let registers = Registers::read(&self.config, state)?;
        Ok(Expected::new(&self.config, self.shared.memory.layout(), &registers))
    }

    fn registers(&self) -> Registers {
        Registers {
            vcpus: self.vcpus.iter().map(|vcpu| vcpu.registers()).collect(),
            device: self.device.registers(),
            heartbeat: self.pulse.seen(),
        }
    }
}

impl Guest for LabGuest {
    fn pause(&mut self) -> Result<(), GuestError> {
        self.shared.control.pause();
        Ok(())
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.shared.control.resume();
        Ok(())
    }

    fn turned_ago(&self) -> Option<Duration> {
        Some(self.shared.control.turned_ago())
    }

    fn save(&mut self) -> Result<Vec<Section>, GuestError> {
        if !self.shared.control.is_paused() {
            return Err(GuestError::WrongMoment { what: "save its state", does: "runs" });
        }
        Ok(self.registers().write(&self.config))
    }

    fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
        if !self.shared.control.is_paused() {
            return Err(GuestError::WrongMoment { what: "restore its state", does: "runs" });
        }
        let registers = Registers::read(&self.config, &state)?;
        for (vcpu, registers) in self.vcpus.iter().zip(registers.vcpus) {
            vcpu.restore(registers);
        }
        self.device.restore(registers.device);
        self.pulse.restore(registers.heartbeat);
        Ok(())
    }

    fn throttle(&mut self, throttle: Throttle) -> Result<bool, GuestError> {
        Ok(self.shared.control.throttle(throttle))
    }
}

/// Marks a write to `page`.
fn mark(marks: Option<&DirtyBitmap>, page: u64) {
    if let Some(marks) = marks {
        // The configuration was checked against this memory.
        let marked = marks.mark(PageNumber(page));
        debug_assert!(marked.is_ok(), "{marked:?}");
    }
}

/// Pages of the guest that nobody ever writes: those behind all working sets, as many as the share of zero pages says.
fn zero_pages(config: &LabConfig, pages: Pages) -> std::ops::Range<u64> {
    let written = config.writers.iter().map(|writer| writer.pages.end).max().unwrap_or(0);
    let zero = config.zero_pages.of(pages).0.min(pages.0 - written.min(pages.0));
    pages.0 - zero..pages.0
}
