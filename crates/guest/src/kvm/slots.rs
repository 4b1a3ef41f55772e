//! Guest memory as a VM sees it: a memory slot for each region.
//!
//! The only place that gives addresses of ours to KVM. Slots are taken away from the VM before the memory behind them can be
//! unmapped, whoever else still holds the VM.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};

use whimbrel_core::layout::{Gpa, PageNumber};
use whimbrel_core::units::ByteCount;

use super::{KvmError, failed};
use crate::memory::{HostRange, Mapped};

/// What of a region KVM has to know.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: Gpa,
    len: usize,
    address: usize,
    first: PageNumber,
}

/// Whether KVM records writes to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logging {
    Off,
    On,
}

/// The memory slots of a VM that hold a guest's memory, one for each region.
///
/// Dropping it takes the memory from the VM: keep it for as long as the guest is to run. Slots that are there already with
/// exactly this memory are taken over.
///
/// ```no_run
/// use std::sync::Arc;
/// use whimbrel_core::layout::{PageSize, RamLayout};
/// use whimbrel_core::units::ByteCount;
/// use whimbrel_guest::kvm::{self, KvmSlots};
/// use whimbrel_guest::log::KvmLog;
/// use whimbrel_guest::memory::{Backing, GuestMemory};
///
/// let vm = Arc::new(kvm::open()?.create_vm()?);
/// let layout = RamLayout::contiguous(ByteCount::mib(16), PageSize::Kib4)?;
/// let memory = Arc::new(GuestMemory::new(layout, Backing::Private)?);
/// let slots = Arc::new(KvmSlots::new(vm, memory, 0)?);
/// let log = KvmLog::new(slots);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KvmSlots {
    vm: Arc<VmFd>,
    /// Gone only after the slots.
    memory: Option<Arc<dyn Mapped>>,
    parts: Vec<Part>,
    first_slot: u32,
    /// Some log records.
    watched: AtomicBool,
}

impl fmt::Debug for KvmSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmSlots")
            .field("first_slot", &self.first_slot)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl KvmSlots {
    /// Gives `memory` to `vm`, its first region as slot `first_slot` and the others behind it.
    ///
    /// # Errors
    ///
    /// [`KvmError::Slots`] or [`KvmError::Failed`]; the VM then has none of it.
    pub fn new(vm: Arc<VmFd>, memory: Arc<dyn Mapped>, first_slot: u32) -> Result<Self, KvmError> {
        let part = |range: HostRange| Part {
            // Where there is no such page KVM refuses.
            start: memory.layout().address_of(range.pages.first).unwrap_or(Gpa(u64::MAX)),
            len: range.len,
            address: range.address,
            first: range.pages.first,
        };
        let parts: Vec<_> = memory.ranges().into_iter().map(part).collect();
        check_slots(&vm, first_slot, parts.len())?;
        let mut slots =
            Self { vm, memory: Some(memory), parts: Vec::new(), first_slot, watched: AtomicBool::new(false) };
        for part in parts {
            // What was given so far is taken away again if one is refused.
            slots.set(slots.parts.len(), part, Logging::Off)?;
            slots.parts.push(part);
        }
        Ok(slots)
    }

    /// The memory that is in them.
    ///
    /// # Panics
    ///
    /// Never: it is there until they are dropped.
    pub fn memory(&self) -> &Arc<dyn Mapped> {
        self.memory.as_ref().expect("there until dropped")
    }

    /// The VM that has them.
    pub fn vm(&self) -> &Arc<VmFd> {
        &self.vm
    }

    /// Lets KVM record writes to all of them from now on; if it refuses one, to none.
    pub(crate) fn start_logging(&self) -> Result<(), KvmError> {
        self.set_all(Logging::On).inspect_err(|_| drop(self.set_all(Logging::Off)))
    }

    /// Ends that, for each of them even if it fails for another.
    pub(crate) fn stop_logging(&self) -> Result<(), KvmError> {
        let stop = |(index, &part): (usize, &Part)| self.set(index, part, Logging::Off);
        self.parts.iter().enumerate().map(stop).fold(Ok(()), Result::and)
    }

    /// Reserves the log for one that records; false if there is such a one.
    pub(crate) fn watch(&self) -> bool {
        !self.watched.swap(true, Ordering::AcqRel)
    }

    /// Gives it free again.
    pub(crate) fn unwatch(&self) {
        self.watched.store(false, Ordering::Release);
    }

    /// For each slot its first page, and the host pages of it that were written since the last time, bit by bit; they are
    /// protected again. Stops at the first error.
    pub(crate) fn harvest<E>(
        &self,
        failed: impl Fn(String, kvm_ioctls::Error) -> E,
        mut found: impl FnMut(PageNumber, &[u64]),
    ) -> Result<(), E> {
        for (index, part) in self.parts.iter().enumerate() {
            let words = self.vm.get_dirty_log(self.slot(index), part.len);
            let words =
                words.map_err(|cause| failed(format!("fetch what was written in {}", name(*part)), cause))?;
            found(part.first, &words);
        }
        Ok(())
    }

    fn slot(&self, index: usize) -> u32 {
        // `check_slots` has seen that all of them fit.
        self.first_slot + index as u32
    }

    fn set_all(&self, logging: Logging) -> Result<(), KvmError> {
        self.parts.iter().enumerate().try_for_each(|(index, &part)| self.set(index, part, logging))
    }

    fn set(&self, index: usize, part: Part, logging: Logging) -> Result<(), KvmError> {
        let flags = if logging == Logging::On { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        let what = if logging == Logging::On { "log writes to" } else { "use" };
        self.set_region(index, part, part.len, flags).map_err(|cause| {
            failed(format!("{what} guest memory of {}", name(part)), slot_help(cause), cause)
        })
    }

    /// Gives a region to the VM, or takes it away if it has no length.
    fn set_region(&self, index: usize, part: Part, len: usize, flags: u32) -> Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: self.slot(index),
            flags,
            guest_phys_addr: part.start.0,
            memory_size: len as u64,
            userspace_addr: part.address as u64,
        };
        // SAFETY: it is `Mapped` memory, readable, writable and at this address while `memory` lives, and that lives until the slot
        // is taken away; KVM itself refuses what overlaps other slots.
        unsafe { self.vm.set_user_memory_region(region) }
    }
}

impl Drop for KvmSlots {
    fn drop(&mut self) {
        for (index, &part) in self.parts.iter().enumerate() {
            if self.set_region(index, part, 0, 0).is_err() {
                // The VM may go on to use it, so it must stay.
                std::mem::forget(self.memory.take());
            }
        }
    }
}

fn name(part: Part) -> String {
    format!("{} at {}", ByteCount(part.len as u64), part.start)
}

fn check_slots(vm: &VmFd, first: u32, count: usize) -> Result<(), KvmError> {
    // Those who do not say have 32, says the interface's description.
    let most = u64::try_from(vm.check_extension_int(Cap::NrMemslots)).ok().filter(|&most| most > 0);
    let most = most.unwrap_or(32);
    let end = u64::from(first) + count as u64;
    if end <= most { Ok(()) } else { Err(KvmError::Slots { first, last: end - 1, most }) }
}

fn slot_help(cause: kvm_ioctls::Error) -> &'static str {
    match cause.errno() {
        libc::EEXIST => "another slot of this VM has some of these guest addresses",
        libc::EINVAL => {
            "another slot of this number is there already, or the addresses are beyond what KVM takes"
        }
        libc::ENOMEM => "the kernel has no memory left for it",
        _ => "",
    }
}
