use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes as _, GuestAddress, GuestRegionMmap};
use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::DirtyLog as _;
use whimbrel_core::layout::PageNumber;

use super::*;
use crate::conformance::{WrittenRam, pipe_with};

const RESERVED: i32 = libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_PRIVATE;
const BOTH: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A region of `len` bytes, with a bitmap over `known` of them that has a bit for `bit` bytes.
fn region(at: u64, len: usize, known: usize, bit: usize) -> GuestRegionMmap<AtomicBitmap> {
    let bitmap = AtomicBitmap::new(known, NonZeroUsize::new(bit).unwrap());
    let builder = MmapRegionBuilder::new_with_bitmap(len, bitmap);
    let mapped = builder.with_mmap_prot(BOTH).with_mmap_flags(RESERVED).build().unwrap();
    GuestRegionMmap::new(mapped, GuestAddress(at)).unwrap()
}

fn of(regions: Vec<GuestRegionMmap<AtomicBitmap>>, page_size: PageSize) -> Result<VmMemory, VmMemoryError> {
    VmMemory::new(GuestMemoryMmap::from_regions(regions).unwrap(), page_size)
}

/// Memory of the suite's guest, which writes it as a monitor does: through `Bytes`.
pub(crate) struct Written {
    pub(crate) memory: VmMemory,
}

impl Written {
    pub(crate) fn new() -> Self {
        let regions = [(GuestAddress(0), 6 << 20), (GuestAddress(16 << 20), 10 << 20)];
        let memory = GuestMemoryMmap::from_ranges(&regions).unwrap();
        Self { memory: VmMemory::new(memory, PageSize::Kib4).unwrap() }
    }
}

impl WrittenRam for Written {
    fn ram(&self) -> &dyn GuestRam {
        &self.memory
    }

    fn add_one(&self, at: Gpa) {
        let (memory, at) = (self.memory.memory(), GuestAddress(at.0));
        let count: u64 = memory.load(at, Ordering::Relaxed).unwrap();
        memory.store(count + 1, at, Ordering::Relaxed).unwrap();
    }

    fn kernel_write(&self, at: Gpa, value: u64) -> bool {
        let mut file = File::from(OwnedFd::from(pipe_with(value)));
        let read = self.memory.memory().read_volatile_from(GuestAddress(at.0), &mut file, 8);
        assert_eq!(read.unwrap(), 8);
        true
    }
}

/// The pages that `log` reports of `memory`.
fn harvest(log: &mut BitmapLog) -> Vec<u64> {
    let mut found = PageSet::new(GuestRam::layout(log.memory()).numbers());
    log.harvest(&mut found).unwrap();
    found.pages().map(|page| page.0).collect()
}

/// Two regions, of three pages and of 70.
fn two() -> VmMemory {
    let regions = [(GuestAddress(0), 3 << 12), (GuestAddress(1 << 20), 70 << 12)];
    VmMemory::new(GuestMemoryMmap::from_ranges(&regions).unwrap(), PageSize::Kib4).unwrap()
}

#[test]
fn pages_are_numbered_as_the_layout_has_them() {
    let memory = two();
    let mut log = memory.log().unwrap();
    log.start().unwrap();
    for at in [0, 0x2fff, 1 << 20, (1 << 20) + (64 << 12), (1 << 20) + (70 << 12) - 1] {
        memory.memory().write_obj(1_u8, GuestAddress(at)).unwrap();
    }
    assert_eq!(harvest(&mut log), [0, 2, 64, 128, 133]);
    assert_eq!(harvest(&mut log), Vec::<u64>::new());
    // One write over three pages, and one through a slice of a slice.
    memory.memory().write_slice(&[7; 4098], GuestAddress((1 << 20) + 4095)).unwrap();
    let slice = memory.memory().get_slice(GuestAddress(0x1000), 0x2000).unwrap();
    slice.subslice(0x1000, 8).unwrap().write_obj(1_u64, 0).unwrap();
    assert_eq!(harvest(&mut log), [2, 64, 65, 66]);
    let ranges = memory.ranges();
    assert_eq!(ranges.iter().map(|range| range.pages.first.0).collect::<Vec<_>>(), [0, 64]);
    assert_eq!(ranges.iter().map(|range| range.len).collect::<Vec<_>>(), [3 << 12, 70 << 12]);
}

#[test]
fn the_migration_itself_marks_nothing() {
    let memory = two();
    let mut log = memory.log().unwrap();
    log.start().unwrap();
    GuestRam::write(&memory, Gpa(5), &[1; 5000]).unwrap();
    GuestRam::read(&memory, Gpa(5), &mut [0; 5000]).unwrap();
    assert_eq!(harvest(&mut log), Vec::<u64>::new());
}

#[test]
fn what_is_not_all_memory_is_refused() {
    let memory = two();
    for (at, len) in
        [(0x2fff, 2), (0x3000, 1), ((1 << 20) - 1, 1), ((1 << 20) + (70 << 12) - 1, 2), (u64::MAX, 2)]
    {
        let mut out = vec![5; len];
        assert!(matches!(memory.read(Gpa(at), &mut out), Err(RamError::NotMemory { .. })), "{at:#x}");
        assert!(
            matches!(GuestRam::write(&memory, Gpa(at), &out), Err(RamError::NotMemory { .. })),
            "{at:#x}"
        );
        assert_eq!(out, vec![5; len]);
    }
}

/// A bit of the bitmap is more or less than a guest page, or none of either.
#[test]
fn bits_of_any_size_stand_for_the_pages_that_they_touch() {
    let len = 40 << 12;
    for bit in [128, 1000, 4096, 5000, 8192, 64 << 10, 1 << 30] {
        let memory = of(vec![region(1 << 30, len, len, bit), region(2 << 30, len, len, bit)], PageSize::Kib4);
        let memory = memory.unwrap();
        let mut log = memory.log().unwrap();
        log.start().unwrap();
        for at in [0, 4095, 4096, 50_000, len - 1] {
            memory.memory().write_obj(1_u8, GuestAddress((2 << 30) + at as u64)).unwrap();
            let first = at / bit * bit;
            let touched = first / 4096..(first + bit).min(len).div_ceil(4096);
            assert_eq!(
                harvest(&mut log),
                touched.map(|page| page as u64 + 64).collect::<Vec<_>>(),
                "{bit} {at}"
            );
        }
    }
}

#[test]
fn guest_pages_may_be_larger_than_those_of_the_bitmap() {
    let memory = of(vec![region(0, 3 << 21, 3 << 21, 4096)], PageSize::Mib2).unwrap();
    let mut log = memory.log().unwrap();
    log.start().unwrap();
    for at in [(1 << 21) - 1, 5 << 20, (5 << 20) + 4096] {
        memory.memory().write_obj(1_u8, GuestAddress(at)).unwrap();
    }
    assert_eq!(harvest(&mut log), [0, 2]);
}

/// A bitmap over more than the region says nothing about pages that do not exist.
#[test]
fn bits_beyond_the_region_are_nobodys_pages() {
    for bit in [4096, 1024] {
        let memory =
            of(vec![region(0, 66 << 12, 200 << 12, bit), region(1 << 20, 4096, 4096, bit)], PageSize::Kib4);
        let memory = memory.unwrap();
        let mut log = memory.log().unwrap();
        log.start().unwrap();
        (**memory.memory().iter().next().unwrap()).bitmap().mark_dirty(0, 200 << 12);
        assert_eq!(harvest(&mut log), (0..66).collect::<Vec<_>>(), "{bit}");
    }
}

#[test]
fn a_bitmap_that_is_too_short_is_refused() {
    // What `MmapRegionBuilder::new` gives: no bit at all.
    for known in [0, 4096, (3 << 12) - 1] {
        let memory =
            of(vec![region(0, 4096, 4096, 4096), region(1 << 20, 3 << 12, known, 4096)], PageSize::Kib4);
        let refused = memory.unwrap().log().unwrap_err().to_string();
        assert!(
            refused.starts_with("the bitmap of region 12KiB at 0x100000 is over its first "),
            "{refused}"
        );
    }
}

#[test]
fn regions_that_cannot_be_migrated_are_named() {
    let odd = of(vec![region(0, 5000, 5000, 4096)], PageSize::Kib4).unwrap_err();
    assert_eq!(odd.to_string(), "the regions of this memory are not whole guest pages: map them larger");
    let cause = std::error::Error::source(&odd).unwrap().to_string();
    assert!(cause.contains("is not a whole number of pages of 4KiB"), "{cause}");
    of(vec![region(0x1800, 4096, 4096, 4096)], PageSize::Kib4).unwrap_err();
    of(vec![region(0, 4096, 4096, 4096)], PageSize::Mib2).unwrap_err();

    let builder = MmapRegionBuilder::<AtomicBitmap>::new(4096).with_mmap_prot(libc::PROT_READ);
    let read_only = builder.with_mmap_flags(RESERVED).build().unwrap();
    let read_only = GuestRegionMmap::new(read_only, GuestAddress(0)).unwrap();
    let refused = of(vec![read_only], PageSize::Kib4).unwrap_err().to_string();
    assert!(refused.starts_with("region 4KiB at 0x0 is not mapped readable and writable"), "{refused}");
}

proptest! {
    /// What we write `vm-memory` reads, and the other way round, at any alignment.
    #[test]
    fn both_see_the_same_bytes(
        writes in prop::collection::vec(
            (any::<bool>(), 0..8192_usize, prop::collection::vec(any::<u8>(), 0..40)), 1..20),
    ) {
        let memory = two();
        let base = 1 << 20;
        let mut model = vec![0; 8192];
        for (ours, at, data) in writes {
            let data = &data[..data.len().min(8192 - at)];
            model[at..at + data.len()].copy_from_slice(data);
            if ours {
                GuestRam::write(&memory, Gpa(base + at as u64), data).unwrap();
            } else {
                memory.memory().write_slice(data, GuestAddress(base + at as u64)).unwrap();
            }
        }
        let (mut ours, mut theirs) = (vec![0; 8192], vec![0; 8192]);
        memory.read(Gpa(base), &mut ours).unwrap();
        memory.memory().read_slice(&mut theirs, GuestAddress(base)).unwrap();
        prop_assert_eq!(&ours, &model);
        prop_assert_eq!(&theirs, &model);
    }
}

#[test]
fn a_log_of_this_memory_sees_only_its_own_pages() {
    let mut log = two().log().unwrap();
    log.start().unwrap();
    let mut other = PageSet::new(64);
    assert!(log.harvest(&mut other).is_err());
    assert!(!other.contains(PageNumber(0)));
}
