//! A vCPU: a thread that writes as its writer wants, and registers that continue elsewhere.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::LabConfig;
use super::control::{Slowed, Turn};
use super::pace::Pace;
use super::writes::{Choice, Generator, LINE, key, leave, line};
use super::{Shared, Work, mark};

/// How often the thread looks whether something is due.
const TICK: Duration = Duration::from_millis(1);

/// Writes after which it looks whether it is to stand still; fewer where they would take longer than [`TICK`]. So long a pause
/// waits.
const BATCH: u64 = 32;

/// All that a vCPU is, beside memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VcpuRegisters {
    /// The program counter: writes made.
    pub(super) writes: u64,
    /// The state of what chooses pages.
    pub(super) generator: u64,
    /// Time that it has run, in nanoseconds.
    pub(super) time: u64,
    /// Writes given up.
    pub(super) forgone: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Vcpu {
    index: usize,
    key: u64,
    choice: Choice,
    pace: Pace,
    write_cost: Duration,
    /// Writes in one go.
    batch: u64,
    registers: Mutex<VcpuRegisters>,
}

impl Vcpu {
    pub(super) fn new(config: &LabConfig, index: usize) -> Self {
        let writer = &config.writers[index];
        Self {
            index,
            key: vcpu_key(config, index),
            choice: Choice::new(writer),
            pace: Pace::new(writer),
            write_cost: writer.write_cost,
            batch: (TICK.as_nanos() / writer.write_cost.as_nanos().max(1)).clamp(1, BATCH.into()) as u64,
            registers: Mutex::new(first_registers(config, index)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VcpuRegisters> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn registers(&self) -> VcpuRegisters {
        *self.lock()
    }

    pub(super) fn restore(&self, registers: VcpuRegisters) {
        *self.lock() = registers;
    }

    pub(super) fn work(&self) -> Work {
        let VcpuRegisters { writes, time, forgone, .. } = self.registers();
        let ran = Duration::from_nanos(time);
        Work { writes, wanted: self.pace.wanted(ran), forgone, ran }
    }

    /// What the thread does.
    pub(super) fn run(&self, shared: &Shared) {
        let mut since = Instant::now();
        let mut turn = shared.control.turn();
        loop {
            match turn {
                Turn::End => return,
                Turn::Woken => since = Instant::now(),
                Turn::Go => {}
            }
            let now = Instant::now();
            let made = self.write_what_is_due(shared, now - since);
            since = now;
            turn = if made == 0 { shared.control.rest(TICK, Slowed::Yes) } else { shared.control.turn() };
        }
    }

    /// Lets `time` pass; gives how many writes it made.
    fn write_what_is_due(&self, shared: &Shared, time: Duration) -> u64 {
        let begun = Instant::now();
        let mut registers = self.lock();
        registers.time += time.as_nanos() as u64;
        let ran = Duration::from_nanos(registers.time);
        let (due, too_late) = self.pace.due(ran, registers.writes + registers.forgone);
        registers.forgone += too_late;
        let due = due.min(self.batch);
        for _ in 0..due {
            self.write(shared, &mut registers);
        }
        drop(registers);
        // The rest of what a write costs: the program's own work.
        let busy = self.write_cost * due as u32;
        while begun.elapsed() < busy {
            std::hint::spin_loop();
        }
        due
    }

    /// One write.
    fn write(&self, shared: &Shared, registers: &mut VcpuRegisters) {
        let mut generator = Generator(registers.generator);
        let page = self.choice.page(registers.writes, &mut generator);
        registers.generator = generator.0;
        registers.writes += 1;
        let words = shared.memory.layout().page_size().bytes().0 as usize / 8;
        let at = page as usize * words + self.index * LINE;
        if let Some(words) = shared.memory.region(0).and_then(|region| region.get(at..at + LINE)) {
            leave(words, line(self.key, registers.writes));
        }
        mark(shared.marks.as_deref(), page);
    }
}

/// The key of what vCPU `index` writes.
pub(super) fn vcpu_key(config: &LabConfig, index: usize) -> u64 {
    key(config.seed, 2 + index as u64)
}

/// The registers of a vCPU that has done nothing yet.
pub(super) fn first_registers(config: &LabConfig, index: usize) -> VcpuRegisters {
    VcpuRegisters { writes: 0, generator: !vcpu_key(config, index), time: 0, forgone: 0 }
}
