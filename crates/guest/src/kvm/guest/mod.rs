//! A KVM guest whose registers say what its memory must hold.
//!
//! A whole VMM around 53 bytes of code. The parts: [`code`] is what vCPUs execute, [`board`] what they need for it besides memory,
//! [`writer`] what their registers say, [`vcpu`] the threads, [`state`] a vCPU as bytes. Nothing here is called by an embedder, who has
//! all that already.

mod board;
mod code;
mod kick;
mod pace;
mod state;
mod throttle;
mod vcpu;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use kvm_bindings::{kvm_regs, kvm_xsave};
use kvm_ioctls::{Cap, Kvm, VmFd};

use whimbrel_core::embed::{Cause, Guest, GuestError, GuestRam};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, RamLayout};
use whimbrel_core::machine::message::Section;
use whimbrel_core::throttle::Throttle;

use self::board::{Board, LIST_LEN};
use self::code::at;
use self::state::{VERSION, VcpuState};
use self::throttle::Throttler;
use self::vcpu::Vcpu;
use self::writer::{Progress, Task};
use super::{KvmError, KvmSlots, failed, open};
use crate::cycle::Cycle;
use crate::memory::{GuestMemory, Mapped as _};

pub use self::pace::Pace;
pub use self::verify::{Found, Mismatch, VerifyError};
pub use self::writer::{Pattern, Writer, WriterError};

/// The most vCPUs that such a guest has. Word `n` of each page belongs to vCPU `n`.
pub const MAX_VCPUS: usize = KINDS.len();

/// The word of a page that [`KvmGuest::write_to`] counts up.
pub const TOLD_WORD: usize = MAX_VCPUS;

/// Names of the sections that vCPUs are saved in.
const KINDS: [&str; 16] = [
    "vcpu-0", "vcpu-1", "vcpu-2", "vcpu-3", "vcpu-4", "vcpu-5", "vcpu-6", "vcpu-7", "vcpu-8", "vcpu-9",
    "vcpu-10", "vcpu-11", "vcpu-12", "vcpu-13", "vcpu-14", "vcpu-15",
];

/// What a guest is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What each vCPU writes; so also how many there are, from 1 to [`MAX_VCPUS`].
    pub writers: Vec<Writer>,
    /// How fast.
    pub pace: Pace,
}

/// A KVM guest whose registers say what its memory must hold: for tests, benches and the laboratory.
///
/// Each vCPU writes a word of its own in the pages of its working set, in 64-bit mode and unprivileged; what it writes is the number of
/// the write. So whoever has the registers can compute what every page must hold, and [`KvmGuest::verify`] finds each page that a
/// migration has lost or left stale, among those that were never written too. Its code and page tables are in memory of their own,
/// which no migration has to move.
///
/// The first real-time signal of this process is used to interrupt its vCPUs; what handled that before is gone.
///
/// ```no_run
/// use std::sync::Arc;
/// use whimbrel_core::embed::Guest as _;
/// use whimbrel_core::layout::{PageNumber, PageRun, PageSize, RamLayout};
/// use whimbrel_core::units::{ByteCount, Pages};
/// use whimbrel_guest::kvm::{KvmGuest, Pace, Pattern, Shape, Writer};
/// use whimbrel_guest::log::KvmLog;
/// use whimbrel_guest::memory::{Backing, GuestMemory};
///
/// let layout = RamLayout::contiguous(ByteCount::mib(16), PageSize::Kib4)?;
/// let memory = Arc::new(GuestMemory::new(layout, Backing::Private)?);
/// let pages = PageRun { first: PageNumber(0), count: Pages(1024) };
/// let writers = vec![Writer { pages, pattern: Pattern::Uniform { seed: 1 } }];
/// let mut guest = KvmGuest::boot(memory.clone(), &Shape { writers, pace: Pace::Free })?;
/// let log = KvmLog::new(guest.slots().clone());
/// guest.resume()?;
/// // …
/// guest.pause()?;
/// guest.verify(&*memory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KvmGuest {
    memory: Arc<GuestMemory>,
    /// Gone before the board and the slots: threads end first.
    vcpus: Vec<Arc<Vcpu>>,
    throttler: Option<Throttler>,
    board: Board,
    slots: Arc<KvmSlots>,
    stage: Stage,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A replica without state.
    Empty,
    Paused,
    Running,
}

impl fmt::Debug for KvmGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmGuest")
            .field("vcpus", &self.vcpus.len())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl KvmGuest {
    /// A guest that has written nothing yet, paused. All its pages are given a first content.
    ///
    /// # Errors
    ///
    /// A [`KvmError`].
    pub fn boot(memory: Arc<GuestMemory>, shape: &Shape) -> Result<Self, KvmError> {
        let layout = GuestRam::layout(&*memory);
        let tasks =
            shape.writers.iter().map(|&writer| Task::new(writer, layout)).collect::<Result<Vec<_>, _>>();
        let tasks = tasks.map_err(|error| KvmError::Failed {
            what: "run such a vCPU".into(),
            help: "",
            cause: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
        let mut guest = Self::replica(memory, tasks.len(), shape.pace)?;
        verify::stamp_all(&*guest.memory, tasks.len()).map_err(|cause| KvmError::Failed {
            what: "fill guest memory".into(),
            help: "",
            cause: io::Error::other(cause),
        })?;
        for (index, (task, vcpu)) in tasks.iter().zip(&guest.vcpus).enumerate() {
            let set = vcpu.state().and_then(|mut state| {
                state.regs = task.boot(index, guest.layout(), &guest.board);
                state.vectors.set_xmm0(task.vector());
                vcpu.set_state(&state)
            });
            set.map_err(|cause| failed(format!("set the registers of vCPU {index}"), "", cause))?;
        }
        guest.stage = Stage::Paused;
        Ok(guest)
    }

    /// A guest with so many vCPUs that waits for the state of another; its memory is as it was.
    ///
    /// # Errors
    ///
    /// A [`KvmError`].
    pub fn replica(memory: Arc<GuestMemory>, vcpus: usize, pace: Pace) -> Result<Self, KvmError> {
        let kvm = open()?;
        check_vcpus(&kvm, vcpus)?;
        let vm = Arc::new(kvm.create_vm().map_err(|cause| failed("make a VM", "", cause))?);
        check_vectors(&vm)?;
        let slots = Arc::new(KvmSlots::new(Arc::clone(&vm), memory.clone(), 0)?);
        let behind = u32::try_from(memory.ranges().len()).unwrap_or(u32::MAX);
        let board = Board::new(Arc::clone(&vm), GuestRam::layout(&*memory), behind)?;
        kick::prepare().map_err(|cause| KvmError::Failed {
            what: "be interrupted".into(),
            help: "",
            cause,
        })?;
        let mut guest =
            Self { memory, vcpus: Vec::new(), throttler: None, board, slots, stage: Stage::Empty };
        for index in 0..vcpus {
            // Those that there are end if one cannot be made.
            let vcpu = start_vcpu(&vm, &guest.board, index, pace)?;
            guest.vcpus.push(vcpu);
        }
        Ok(guest)
    }

    /// The memory slots of its VM that have its memory, for a [`KvmLog`](crate::log::KvmLog).
    pub fn slots(&self) -> &Arc<KvmSlots> {
        &self.slots
    }

    /// Its memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// How many writes each vCPU has done.
    ///
    /// # Errors
    ///
    /// [`GuestError::WrongMoment`] unless it is paused.
    pub fn writes(&self) -> Result<Vec<u64>, GuestError> {
        Ok(self.progress("count its writes")?.iter().map(|vcpu| vcpu.writes).collect())
    }

    /// The pages that its vCPUs write.
    ///
    /// # Errors
    ///
    /// [`GuestError::WrongMoment`] unless it is paused.
    pub fn working_sets(&self) -> Result<Vec<PageRun>, GuestError> {
        Ok(self.progress("name its working sets")?.iter().map(|vcpu| vcpu.task.run()).collect())
    }

    /// Whether `ram` holds what it must after what the registers say has been written: its own memory, or a copy.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Mismatch`] names the first page that does not; the others say why nobody knows.
    pub fn verify(&self, ram: &dyn GuestRam) -> Result<(), VerifyError> {
        let progress = self.progress("be verified").map_err(VerifyError::Registers)?;
        if ram.layout() != self.layout() {
            return Err(VerifyError::OtherLayout);
        }
        verify::verify(ram, &progress)
    }

    /// Lets a vCPU write to these pages, each once, while the guest is paused: it adds one to word [`TOLD_WORD`]. Its registers
    /// are as before afterwards.
    ///
    /// # Errors
    ///
    /// [`GuestError::WrongMoment`] unless it is paused; [`GuestError::Failed`] if one of them is not its memory, and then
    /// none is written.
    pub fn write_to(&mut self, pages: &[PageNumber]) -> Result<(), GuestError> {
        let what = "write to pages";
        self.must_be_paused(what)?;
        let address = |&page: &PageNumber| {
            let address = self.layout().address_of(page);
            let cause = || Cause::from(format!("page {page} is not its memory"));
            address.map(|at| Gpa(at.0 + 8 * TOLD_WORD as u64)).ok_or_else(cause)
        };
        let addresses = pages.iter().map(address).collect::<Result<Vec<_>, _>>();
        let addresses = addresses.map_err(|cause| GuestError::Failed { what, cause })?;
        for part in addresses.chunks(LIST_LEN) {
            self.board.write_list(part);
            let registers = kvm_regs {
                rip: self.board.entry(at::LIST),
                rsi: self.board.list().0,
                rdx: part.len() as u64,
                r14: self.board.device().0,
                rflags: writer::RFLAGS,
                ..kvm_regs::default()
            };
            let ran = self.vcpus[0].run_aside(&registers);
            ran.map_err(|why| GuestError::Failed { what, cause: why.into() })?;
        }
        Ok(())
    }

    fn layout(&self) -> &RamLayout {
        GuestRam::layout(&*self.memory)
    }

    fn must_be_paused(&self, what: &'static str) -> Result<(), GuestError> {
        match self.stage {
            Stage::Paused => Ok(()),
            Stage::Running => Err(GuestError::WrongMoment { what, does: "runs" }),
            Stage::Empty => Err(GuestError::WrongMoment { what, does: "waits for its state" }),
        }
    }

    /// How far its vCPUs have come.
    fn progress(&self, what: &'static str) -> Result<Vec<Progress>, GuestError> {
        self.must_be_paused(what)?;
        let read = |(index, state): (usize, &VcpuState)| self.read(index, state);
        self.states(what)?.iter().enumerate().map(read).collect()
    }

    fn read(&self, index: usize, state: &VcpuState) -> Result<Progress, GuestError> {
        Progress::read(&state.regs, state.vectors.xmm0(), index, self.layout(), &self.board)
            .map_err(|fault| GuestError::Damaged { kind: KINDS[index], fault })
    }

    fn states(&self, what: &'static str) -> Result<Vec<VcpuState>, GuestError> {
        let states = self.vcpus.iter().map(|vcpu| vcpu.state()).collect::<Result<_, _>>();
        states.map_err(|cause| GuestError::Failed { what, cause: cause.into() })
    }

    /// Finds the state of each vCPU among `sections`, and that there is nothing else.
    fn decode(&self, sections: &[Section]) -> Result<Vec<VcpuState>, GuestError> {
        let kinds = &KINDS[..self.vcpus.len()];
        let mut states = vec![None; kinds.len()];
        for Section { kind, version, bytes } in sections {
            let known = kinds.iter().position(|known| known == kind).filter(|_| *version == VERSION);
            let index =
                known.ok_or_else(|| GuestError::UnknownSection { kind: kind.clone(), version: *version })?;
            let damaged = |fault: String| GuestError::Damaged { kind: kinds[index], fault };
            let state = VcpuState::decode(bytes).map_err(damaged)?;
            if states[index].replace(state).is_some() {
                return Err(damaged("it is there twice".into()));
            }
        }
        let missing = |(state, kind): (Option<VcpuState>, &&'static str)| {
            state.ok_or(GuestError::MissingSection { kind })
        };
        states.into_iter().zip(kinds).map(missing).collect()
    }

    /// Whether vCPU `index` can be in such a state; `now` is what it is in.
    fn check(&self, index: usize, state: &VcpuState, now: &VcpuState) -> Result<(), GuestError> {
        // Nothing of this guest ever changes them.
        if state.sregs != now.sregs {
            let fault = "control registers and segments are not those of such a guest".into();
            return Err(GuestError::Damaged { kind: KINDS[index], fault });
        }
        self.read(index, state).map(|_| ())
    }
}

fn check_vcpus(kvm: &Kvm, asked: usize) -> Result<(), KvmError> {
    let (most, help) = match kvm.get_max_vcpus() {
        theirs if theirs < MAX_VCPUS => (theirs, "KVM on this host has no more"),
        _ => (MAX_VCPUS, "each needs a word of every page"),
    };
    if (1..=most).contains(&asked) { Ok(()) } else { Err(KvmError::Vcpus { asked, most, help }) }
}

/// Refuses vCPUs whose vector state is larger than what [`Vcpu`] sets.
fn check_vectors(vm: &VmFd) -> Result<(), KvmError> {
    let len = usize::try_from(vm.check_extension_int(Cap::Xsave2)).unwrap_or(0);
    if len <= size_of::<kvm_xsave>() {
        return Ok(());
    }
    let help = "this process has asked for larger vectors (ARCH_REQ_XCOMP_GUEST_PERM); run the guest in one that has not";
    Err(KvmError::Lacking { capability: "vector state of 4096 bytes", help })
}

/// A vCPU in the state in which all begin, but for what its task is.
fn start_vcpu(vm: &VmFd, board: &Board, index: usize, pace: Pace) -> Result<Arc<Vcpu>, KvmError> {
    let help = "there may be too many open files (`ulimit -n`), or no memory left in the kernel";
    let fd =
        vm.create_vcpu(index as u64).map_err(|cause| failed(format!("make vCPU {index}"), help, cause))?;
    let set = fd.get_sregs().and_then(|reset| fd.set_sregs(&board.boot(reset)));
    let help = "this processor, or this nested KVM, may lack 64-bit guests";
    set.map_err(|cause| failed(format!("set up vCPU {index}"), help, cause))?;
    Vcpu::start(index, fd, board.device(), pace).map_err(|cause| KvmError::Failed {
        what: format!("start a thread for vCPU {index}"),
        help: "there may be too many threads (`ulimit -u`)",
        cause,
    })
}

impl Guest for KvmGuest {
    fn pause(&mut self) -> Result<(), GuestError> {
        if self.stage == Stage::Running {
            // All at once, so that the guest stands still as one.
            self.vcpus.iter().for_each(|vcpu| vcpu.ask_to_stand());
            // Also for the others if one of them has failed.
            let still = self.vcpus.iter().map(|vcpu| vcpu.wait_until_still()).fold(Ok(()), Result::and);
            self.stage = Stage::Paused;
            still.map_err(|why| GuestError::Failed { what: "pause", cause: why.into() })?;
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        let what = "resume";
        if self.stage == Stage::Running {
            return Ok(());
        }
        self.must_be_paused(what)?;
        if let Some(why) = self.vcpus.iter().find_map(|vcpu| vcpu.failure()) {
            return Err(GuestError::Failed { what, cause: why.into() });
        }
        self.vcpus.iter().for_each(|vcpu| vcpu.ask_to_run());
        self.stage = Stage::Running;
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<Section>, GuestError> {
        self.must_be_paused("save its state")?;
        let section = |(state, kind): (VcpuState, &&str)| Section {
            kind: (*kind).to_owned(),
            version: VERSION,
            bytes: state.encode(),
        };
        Ok(self.states("save its state")?.into_iter().zip(&KINDS).map(section).collect())
    }

    fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
        let what = "restore a state";
        if self.stage == Stage::Running {
            return Err(GuestError::WrongMoment { what, does: "runs" });
        }
        let states = self.decode(&state)?;
        let before = self.states(what)?;
        for (index, (state, now)) in states.iter().zip(&before).enumerate() {
            self.check(index, state, now)?;
        }
        for (vcpu, state) in self.vcpus.iter().zip(&states) {
            if let Err(cause) = vcpu.set_state(state) {
                // What KVM has given before it takes again.
                let back = self.vcpus.iter().zip(&before).try_for_each(|(vcpu, state)| vcpu.set_state(state));
                debug_assert!(back.is_ok(), "a state of a vCPU's own is refused: {back:?}");
                return Err(GuestError::Failed { what, cause: cause.into() });
            }
        }
        self.stage = Stage::Paused;
        Ok(())
    }

    fn throttle(&mut self, throttle: Throttle) -> Result<bool, GuestError> {
        let Ok(cycle) = Cycle::of(throttle) else { return Ok(false) };
        // The old one first, or its vCPUs would be woken from the sleep of the new one.
        self.throttler = None;
        let start = |cycle| Throttler::start(cycle, &self.vcpus);
        let started = cycle.map(start).transpose();
        self.throttler = started.map_err(|cause| GuestError::Failed { what: "slow", cause: cause.into() })?;
        Ok(true)
    }
}

impl Drop for KvmGuest {
    fn drop(&mut self) {
        self.throttler = None;
        self.vcpus.iter().for_each(|vcpu| vcpu.end());
    }
}
