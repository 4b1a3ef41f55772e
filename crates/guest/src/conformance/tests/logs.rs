//! The logs of this crate, on every kind of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_core::dirty::{DirtyBitmap, PageSet};
use whimbrel_core::embed::{DirtyLog, GuestRam, LogError};
use whimbrel_core::layout::{Gpa, PageNumber, PageSize, RamLayout, Region};
use whimbrel_core::units::ByteCount;

use super::{harvests, passes, passes_after};
use crate::conformance::skip;
use crate::conformance::{MemoryGround, WrittenRam};
use crate::log::{SoftwareLog, Union, UserfaultfdLog};
use crate::memory::{Backing, GuestMemory, HostRange, Mapped};
use crate::surroundings::{has_userfaultfd, smaps};

/// A guest of 16 MiB in two regions.
fn layout() -> RamLayout {
    let mib = |start: u64, len: u64| Region { start: Gpa(start << 20), len: ByteCount::mib(len) };
    RamLayout::new(PageSize::Kib4, vec![mib(0, 6), mib(16, 10)]).unwrap()
}

fn memory(backing: Backing) -> Arc<GuestMemory> {
    Arc::new(GuestMemory::new(layout(), backing).unwrap())
}

/// The suite on userfaultfd, which watches `memory`.
fn userfaultfd(memory: &Arc<GuestMemory>) {
    if has_userfaultfd() {
        let log = UserfaultfdLog::new(memory.clone()).unwrap();
        passes(MemoryGround::new(memory.clone(), Box::new(log), None), &[]);
    }
}

#[test]
fn software() {
    let memory = memory(Backing::Private);
    let log = SoftwareLog::new(memory.layout());
    let bitmap = Arc::clone(log.bitmap());
    passes(MemoryGround::new(memory, Box::new(log), Some(bitmap)), &[]);
}

#[test]
fn userfaultfd_on_private_memory() {
    userfaultfd(&memory(Backing::Private));
}

#[test]
fn userfaultfd_on_memory_that_is_resident() {
    let memory = memory(Backing::Private);
    memory.populate().unwrap();
    userfaultfd(&memory);
}

#[test]
fn userfaultfd_on_shared_memory() {
    userfaultfd(&memory(Backing::Shared));
}

#[test]
fn userfaultfd_on_a_memfd() {
    userfaultfd(&memory(Backing::Memfd));
}

#[test]
fn userfaultfd_on_memory_that_may_have_huge_pages() {
    userfaultfd(&memory(Backing::PrivateHuge));
}

/// Makes huge pages of all memory before each start, as far as the kernel can.
struct Collapsing {
    memory: Arc<GuestMemory>,
    log: UserfaultfdLog,
    /// The most huge pages that there were at a start, in bytes.
    huge: Arc<AtomicU64>,
}

impl DirtyLog for Collapsing {
    fn name(&self) -> &'static str {
        self.log.name()
    }

    fn start(&mut self) -> Result<(), LogError> {
        // Not under a log that records: that would be a write to nobody's knowledge.
        if !self.log.is_armed() {
            self.memory.collapse();
            let huge = self.memory.ranges().into_iter().map(|range| smaps(range.address, "AnonHugePages"));
            // The kernel may have made one map of them.
            self.huge.fetch_max(huge.max().unwrap_or(0), Ordering::Relaxed);
        }
        self.log.start()
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        self.log.harvest(into)
    }

    fn stop(&mut self) -> Result<(), LogError> {
        self.log.stop()
    }
}

#[test]
fn userfaultfd_on_huge_pages() {
    if !has_userfaultfd() {
        return;
    }
    let (memory, huge) = (memory(Backing::PrivateHuge), Arc::new(AtomicU64::new(0)));
    let log = UserfaultfdLog::new(memory.clone()).unwrap();
    let log = Collapsing { memory: memory.clone(), log, huge: huge.clone() };
    passes(MemoryGround::new(memory, Box::new(log), None), &[]);
    match huge.load(Ordering::Relaxed) {
        0 => skip("huge-pages", &"the kernel made none: this was a test of small ones"),
        bytes => eprintln!("{} of this guest of 16MiB were in huge pages", ByteCount(bytes)),
    }
}

#[test]
fn userfaultfd_on_many_regions_with_holes() {
    let sizes = [1, 70, 64, 3, 129, 2, 511, 513];
    let region = |(index, pages): (usize, u64)| Region {
        start: Gpa((index as u64) << 24),
        len: ByteCount(pages * PageSize::Kib4.bytes().0),
    };
    let regions = sizes.into_iter().enumerate().map(region).collect();
    let layout = RamLayout::new(PageSize::Kib4, regions).unwrap();
    userfaultfd(&Arc::new(GuestMemory::new(layout, Backing::Private).unwrap()));
}

#[test]
fn userfaultfd_with_guest_pages_of_two_mebibytes() {
    let region = |start: u64, pages: u64| Region { start: Gpa(start << 21), len: ByteCount(pages << 21) };
    let layout = RamLayout::new(PageSize::Mib2, vec![region(0, 12), region(64, 20)]).unwrap();
    for backing in [Backing::PrivateHuge, Backing::Memfd] {
        userfaultfd(&Arc::new(GuestMemory::new(layout.clone(), backing).unwrap()));
    }
}

/// The kernel can tell of so few runs at a time that every scan takes many calls.
#[test]
fn userfaultfd_with_room_for_few_runs() {
    if !has_userfaultfd() {
        return;
    }
    for room in [1, 2, 7] {
        let memory = memory(Backing::Private);
        let log = UserfaultfdLog::new(memory.clone()).unwrap().with_room(room);
        // A harvest is thousands of calls here.
        passes_after(harvests().div_ceil(20), MemoryGround::new(memory, Box::new(log), None), &[]);
    }
}

/// The first region of a guest's memory.
struct First(Arc<GuestMemory>);

// SAFETY: a part of what `GuestMemory` promises, which lives as long.
unsafe impl Mapped for First {
    fn layout(&self) -> &RamLayout {
        GuestRam::layout(&*self.0)
    }

    fn ranges(&self) -> Vec<HostRange> {
        self.0.ranges()[..1].to_vec()
    }
}

/// Memory that is marked in its second region only, because the first is watched.
struct HalfMarked {
    memory: Arc<GuestMemory>,
    bitmap: Arc<DirtyBitmap>,
    second: Gpa,
}

impl WrittenRam for HalfMarked {
    fn ram(&self) -> &dyn GuestRam {
        &*self.memory
    }

    fn add_one(&self, at: Gpa) {
        self.memory.word(at).unwrap().fetch_add(1, Ordering::Relaxed);
        if at >= self.second {
            self.bitmap.mark(self.memory.layout().page_at(at).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_union_of_logs_each_of_which_sees_a_half() {
    if !has_userfaultfd() {
        return;
    }
    let memory = memory(Backing::Private);
    let software = SoftwareLog::new(memory.layout());
    let bitmap = Arc::clone(software.bitmap());
    let watched = UserfaultfdLog::new(Arc::new(First(memory.clone()))).unwrap();
    let union = Union::of(vec![Box::new(watched), Box::new(software)]);
    let second = memory.layout().regions()[1].start;
    let guest = HalfMarked { memory, bitmap, second };
    let lacks = [super::Promise::SeesTheKernel, super::Promise::SurvivesBalloons];
    passes(MemoryGround::over(Arc::new(guest), Box::new(union)), &lacks);
}

#[test]
fn a_union_of_logs_that_both_see_everything() {
    if !has_userfaultfd() {
        return;
    }
    let memory = memory(Backing::Memfd);
    let software = SoftwareLog::new(memory.layout());
    let bitmap = Arc::clone(software.bitmap());
    let watched = UserfaultfdLog::new(memory.clone()).unwrap();
    let union = Union::of(vec![Box::new(software), Box::new(watched)]);
    passes(MemoryGround::new(memory, Box::new(union), Some(bitmap)), &[]);
}

#[cfg(feature = "rust-vmm")]
mod vm_memory {
    use super::*;
    use crate::rust_vmm::tests::Written;

    #[test]
    fn its_bitmap() {
        let written = Written::new();
        let log = written.memory.log().unwrap();
        let lacks = [crate::conformance::Promise::SurvivesBalloons];
        passes(MemoryGround::over(Arc::new(written), Box::new(log)), &lacks);
    }

    #[test]
    fn userfaultfd_on_it() {
        if has_userfaultfd() {
            let written = Written::new();
            let log = UserfaultfdLog::new(Arc::new(written.memory.clone())).unwrap();
            let lacks = [crate::conformance::Promise::SurvivesBalloons];
            passes(MemoryGround::over(Arc::new(written), Box::new(log)), &lacks);
        }
    }
}

/// What the grounds here write: some pages and not all, all their regions' edges among them.
#[test]
fn every_fourth_page_is_left_alone() {
    let memory = memory(Backing::Private);
    let log = SoftwareLog::new(memory.layout());
    let ground = MemoryGround::new(memory, Box::new(log), None);
    let written = |page| super::Ground::writes(&ground, PageNumber(page));
    assert_eq!((0..8).map(written).collect::<Vec<_>>(), [true, true, true, false, true, true, true, false]);
}
