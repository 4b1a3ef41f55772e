//! The board: what a vCPU needs besides guest memory, and no migration has to move.
//!
//! Code, page tables and a list, in a few pages behind the last of guest memory, and a device behind them. Every guest with the same memory has the same
//! board, so a replica builds its own. It is not guest memory: the processor may count accesses in the page tables without
//! disturbing any dirty log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvm_bindings::{kvm_segment, kvm_sregs};
use kvm_ioctls::VmFd;

use whimbrel_core::embed::GuestRam;
use whimbrel_core::layout::{Gpa, PageSize, RamLayout, Region};
use whimbrel_core::units::ByteCount;

use super::code::{CODE, at};
use crate::kvm::{KvmError, KvmSlots};
use crate::memory::{Backing, GuestMemory};

const PAGE: u64 = PageSize::Kib4.bytes().0;
const MIB2: u64 = PageSize::Mib2.bytes().0;
const GIB: u64 = PageSize::Gib1.bytes().0;

/// Where guest memory has to end: a vCPU of which KVM has not been told what it is has addresses of 36 bits.
const MOST_GIB: u64 = 64;

/// Entries of the list.
pub(super) const LIST_LEN: usize = 4096;

/// Pages of the board before the lowest page tables: code, and the two levels above them.
const CODE_PAGE: u64 = 0;
const LEVEL_4: u64 = 1;
const LEVEL_3: u64 = 2;
const LIST: u64 = 3;
const LEVEL_2: u64 = LIST + (LIST_LEN as u64 * 8) / PAGE;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Board {
    memory: Arc<GuestMemory>,
    start: Gpa,
    /// Keeps it in the VM.
    _slots: KvmSlots,
}

impl Board {
    /// Builds the board of a guest with `ram`, in memory slot `slot` of `vm`.
    pub(super) fn new(vm: Arc<VmFd>, ram: &RamLayout, slot: u32) -> Result<Self, KvmError> {
        let last = ram.regions().last().copied();
        let end = last.map_or(0, |region| region.start.0 + region.len.0);
        let gibs = end.saturating_add((LEVEL_2 + MOST_GIB) * PAGE).div_ceil(GIB);
        if gibs > MOST_GIB {
            let what = format!("run a guest whose memory ends at {}", Gpa(end));
            let cause = std::io::ErrorKind::InvalidInput.into();
            return Err(KvmError::Failed { what, help: "it has to end below 63 GiB", cause });
        }
        let start = Gpa(end.next_multiple_of(PAGE));
        let region = Region { start, len: ByteCount((LEVEL_2 + gibs) * PAGE) };
        let memory = map(region)?;
        let board = Self { _slots: KvmSlots::new(vm, memory.clone(), slot)?, memory, start };
        board.store(CODE_PAGE * PAGE, &CODE);
        board.map_all(gibs);
        Ok(board)
    }

    /// Where its code is.
    pub(super) fn code(&self) -> Gpa {
        Gpa(self.start.0 + CODE_PAGE * PAGE)
    }

    /// Where the list is.
    pub(super) fn list(&self) -> Gpa {
        Gpa(self.start.0 + LIST * PAGE)
    }

    /// Where the device is: behind the board, where there is no memory, so that KVM comes to the monitor.
    pub(super) fn device(&self) -> Gpa {
        Gpa(self.start.0 + GuestRam::layout(&*self.memory).bytes().0)
    }

    /// Writes the list, of at most [`LIST_LEN`].
    pub(super) fn write_list(&self, addresses: &[Gpa]) {
        for (index, address) in addresses.iter().enumerate().take(LIST_LEN) {
            self.store_word(LIST * PAGE, index as u64, address.0);
        }
    }

    /// Control registers and segments of a vCPU in 64-bit mode, unprivileged, given those it has after a reset.
    pub(super) fn boot(&self, mut registers: kvm_sregs) -> kvm_sregs {
        /// Protection, extension type, native errors, paging.
        const CR0: u64 = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 31;
        /// Long page-table entries, and vector registers (`PAE`, `OSFXSR`).
        const CR4: u64 = 1 << 5 | 1 << 9;
        /// Long mode, enabled and active.
        const EFER: u64 = 1 << 8 | 1 << 10;
        /// Types of segments: read and execute, read and write, both accessed.
        const CODE_TYPE: u8 = 11;
        const DATA_TYPE: u8 = 3;
        /// Selectors of an unprivileged program, those that Linux has. There is no table that they would select from.
        const CODE_SELECTOR: u16 = 0x33;
        const DATA_SELECTOR: u16 = 0x2b;
        let flat = kvm_segment { limit: u32::MAX, present: 1, dpl: 3, s: 1, g: 1, ..Default::default() };
        registers.cs = kvm_segment { type_: CODE_TYPE, selector: CODE_SELECTOR, l: 1, ..flat };
        let data = kvm_segment { type_: DATA_TYPE, selector: DATA_SELECTOR, db: 1, ..flat };
        for segment in
            [&mut registers.ds, &mut registers.es, &mut registers.fs, &mut registers.gs, &mut registers.ss]
        {
            *segment = data;
        }
        (registers.cr0, registers.cr4, registers.efer) = (CR0, CR4, EFER);
        registers.cr3 = self.start.0 + LEVEL_4 * PAGE;
        registers
    }

    /// The address of an instruction.
    pub(super) fn entry(&self, offset: u64) -> u64 {
        debug_assert!(offset <= at::LIST);
        self.code().0 + offset
    }

    /// Maps the first `gibs` GiB of addresses to themselves, in pages of 2 MiB.
    fn map_all(&self, gibs: u64) {
        /// Present, writable, for unprivileged programs; accessed and dirty already, so that the processor has nothing to note.
        const TABLE: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 5;
        const LARGE_PAGE: u64 = TABLE | 1 << 6 | 1 << 7;
        self.store_word(LEVEL_4 * PAGE, 0, (self.start.0 + LEVEL_3 * PAGE) | TABLE);
        for gib in 0..gibs {
            let table = (LEVEL_2 + gib) * PAGE;
            self.store_word(LEVEL_3 * PAGE, gib, (self.start.0 + table) | TABLE);
            for entry in 0..GIB / MIB2 {
                self.store_word(table, entry, (gib * GIB + entry * MIB2) | LARGE_PAGE);
            }
        }
    }

    fn store_word(&self, table: u64, index: u64, value: u64) {
        let words = self.memory.region(0).expect("one region");
        words[(table / 8 + index) as usize].store(value.to_le(), Ordering::Relaxed);
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        self.memory.write(Gpa(self.start.0 + at), bytes).expect("room for it");
    }
}

fn map(region: Region) -> Result<Arc<GuestMemory>, KvmError> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| KvmError::Failed {
        what: format!("have {} for code and page tables", region.len),
        help: "",
        cause: std::io::Error::other(cause),
    };
    let layout = RamLayout::new(PageSize::Kib4, vec![region]).map_err(|cause| failed(cause.into()))?;
    let memory = GuestMemory::new(layout, Backing::Private).map_err(|cause| failed(cause.into()))?;
    Ok(Arc::new(memory))
}
