use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use whimbrel_core::dirty::DirtyBitmap;
use whimbrel_core::embed::DirtyLog;
use whimbrel_core::layout::{PageSize, Region};
use whimbrel_core::units::Pages;
use whimbrel_guest::log::{SoftwareLog, UserfaultfdLog};
use whimbrel_guest::memory::{Backing, GuestMemory};

use super::*;

const PAGE: u64 = 4096;

/// Regions of these lengths in pages, with holes between them.
fn layout(pages: &[u64]) -> RamLayout {
    let region = |(index, pages): (usize, &u64)| Region {
        start: Gpa(index as u64 * (1 << 30)),
        len: ByteCount(pages * PAGE),
    };
    RamLayout::new(PageSize::Kib4, pages.iter().enumerate().map(region).collect()).unwrap()
}

fn memory(layout: &RamLayout) -> GuestMemory {
    GuestMemory::new(layout.clone(), Backing::Private).unwrap()
}

fn root(ram: &dyn GuestRam) -> [u8; 32] {
    Digest::new(ram.layout()).root(ram).unwrap().hash
}

fn run(first: u64, count: u64) -> PageRun {
    PageRun { first: PageNumber(first), count: Pages(count) }
}

#[test]
fn the_root_is_what_the_documentation_says() {
    // 16 chunks and one of 3 pages; one of a page.
    let layout = layout(&[259, 1]);
    let memory = memory(&layout);
    for page in 0..259 {
        memory.write(Gpa(page * PAGE + page), &page.to_le_bytes()).unwrap();
    }
    memory.write(Gpa((1 << 30) + 4095), &[7]).unwrap();
    let mut chunks = [0_u64; (320 + 64) / 16];
    for (index, chunk) in chunks.iter_mut().enumerate() {
        let (at, len) = match index {
            0..16 => (index as u64 * 65536, 65536),
            16 => (16 * 65536, 3 * 4096),
            20 => (1 << 30, 4096),
            _ => continue,
        };
        let mut bytes = vec![0; len];
        memory.read(Gpa(at), &mut bytes).unwrap();
        *chunk = u64::from_le_bytes(blake3::hash(&bytes).as_bytes()[..8].try_into().unwrap());
    }
    let group = blake3::hash(&chunks.map(u64::to_le_bytes).concat());
    let numbers = [4096, 2, 0, 259 * PAGE, 1 << 30, PAGE].map(u64::to_le_bytes).concat();
    let expected = blake3::hash(&[b"whimbrel memory digest 1", &numbers[..], group.as_bytes()].concat());
    let root = Digest::new(&layout).root(&memory).unwrap();
    assert_eq!(root.hash, *expected.as_bytes());
    assert_eq!(root.hashed, Hashed { chunks: 18, bytes: ByteCount(260 * PAGE), done: true });
}

#[test]
fn only_what_changed_is_hashed_again() {
    // More than two groups.
    let layout = layout(&[40_000, 5]);
    let memory = memory(&layout);
    let digest = Digest::new(&layout);
    assert_eq!(digest.stale_chunks(), 2501);
    let first = digest.root(&memory).unwrap();
    assert_eq!(first.hashed.bytes, layout.bytes());
    let again = digest.root(&memory).unwrap();
    assert_eq!((again.hash, again.hashed.chunks), (first.hash, 0));
    // Two pages of one chunk, one of the last of a region, and one of another region.
    let mut written = PageSet::new(layout.numbers());
    let second = layout.runs().nth(1).unwrap().first.0;
    for page in [20_000, 20_001, 39_999, second + 4] {
        written.insert(PageNumber(page)).unwrap();
        memory.write(layout.address_of(PageNumber(page)).unwrap(), &[9]).unwrap();
    }
    digest.stale(&written).unwrap();
    assert_eq!(digest.stale_chunks(), 3);
    let changed = digest.root(&memory).unwrap();
    assert_eq!(changed.hashed.chunks, 3);
    assert_eq!(changed.hashed.bytes, ByteCount((16 + 16 + 5) * PAGE));
    assert_eq!(changed.hash, root(&memory));
    assert_ne!(changed.hash, first.hash);
    digest.stale_run(run(20_015, 2)).unwrap();
    assert_eq!(digest.stale_chunks(), 2);
    digest.stale_run(run(0, layout.numbers())).unwrap();
    assert_eq!(digest.refresh(&memory, ByteCount(u64::MAX)).unwrap().bytes, layout.bytes());
}

#[test]
fn what_is_another_guests_is_refused() {
    let layout = layout(&[64]);
    let digest = Digest::new(&layout);
    digest.root(&memory(&layout)).unwrap();
    assert!(matches!(digest.stale(&PageSet::new(128)), Err(RangeError::OtherGuest { left: 64, right: 128 })));
    for bad in [run(64, 1), run(63, 2), run(u64::MAX, 1), run(1, u64::MAX)] {
        assert!(matches!(digest.stale_run(bad), Err(RangeError::BeyondEnd { numbers: 64, .. })), "{bad:?}");
    }
    assert_eq!(digest.stale_chunks(), 0);
}

#[test]
fn large_pages_are_chunks_of_their_own() {
    let regions = vec![
        Region { start: Gpa(0), len: ByteCount::mib(6) },
        Region { start: Gpa(1 << 30), len: ByteCount::mib(2) },
    ];
    let large = RamLayout::new(PageSize::Mib2, regions).unwrap();
    let memory = GuestMemory::new(large.clone(), Backing::Private).unwrap();
    let digest = Digest::new(&large);
    let first = digest.root(&memory).unwrap();
    assert_eq!(first.hashed, Hashed { chunks: 4, bytes: ByteCount::mib(8), done: true });
    memory.write(Gpa((4 << 20) + 77), &[1]).unwrap();
    digest.stale_run(run(2, 1)).unwrap();
    let second = digest.root(&memory).unwrap();
    assert_eq!((second.hashed.bytes, second.hash), (ByteCount::mib(2), root(&memory)));
    assert_ne!(first.hash, second.hash);
    // The same bytes in pages of another size are another guest's.
    let other = RamLayout::contiguous(ByteCount::mib(2), PageSize::Mib2).unwrap();
    let small = RamLayout::contiguous(ByteCount::mib(2), PageSize::Kib4).unwrap();
    let of = |layout: &RamLayout| root(&GuestMemory::new(layout.clone(), Backing::Private).unwrap());
    assert_ne!(of(&other), of(&small));
}

#[test]
fn the_layout_is_part_of_the_root() {
    let at = |start: u64, pages: u64| {
        let region = Region { start: Gpa(start), len: ByteCount(pages * PAGE) };
        root(&memory(&RamLayout::new(PageSize::Kib4, vec![region]).unwrap()))
    };
    // All of them zeroes, some of as many page numbers.
    let roots = [at(0, 64), at(0, 63), at(PAGE, 64), root(&memory(&layout(&[32, 32]))), at(0, 128)];
    for (index, one) in roots.iter().enumerate() {
        assert!(roots[..index].iter().all(|other| other != one), "{index}");
    }
}

proptest! {
    // Without optimisation reading memory is slow.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any bit that is flipped anywhere shows, and flipped back does not.
    #[test]
    fn a_flipped_bit_changes_the_root(
        fill: u8, flips in prop::collection::vec((0..90 * PAGE, 0..8_u8), 1..4),
    ) {
        let layout = layout(&[70, 20]);
        let memory = memory(&layout);
        memory.write(Gpa(0), &vec![fill; 70 * 4096]).unwrap();
        let digest = Digest::new(&layout);
        let before = digest.root(&memory).unwrap().hash;
        let flip = |at: u64, bit: u8| {
            let at = if at < 70 * PAGE { Gpa(at) } else { Gpa((1 << 30) + at - 70 * PAGE) };
            let mut byte = [0];
            memory.read(at, &mut byte).unwrap();
            memory.write(at, &[byte[0] ^ 1 << bit]).unwrap();
            digest.stale_run(PageRun { first: layout.page_at(at).unwrap(), count: Pages(1) }).unwrap();
        };
        for &(at, bit) in &flips {
            flip(at, bit);
            let now = digest.root(&memory).unwrap().hash;
            prop_assert_ne!(now, before);
            prop_assert_eq!(now, root(&memory));
            flip(at, bit);
            prop_assert_eq!(digest.root(&memory).unwrap().hash, before);
        }
    }

    /// In whatever portions and whatever order things were hashed and written: the root is that of the memory.
    #[test]
    fn the_root_has_no_history(
        steps in prop::collection::vec((0..4_u8, 0..200_u64, 0..40_u64, any::<u8>()), 1..40),
    ) {
        let layout = layout(&[150, 50]);
        let memory = memory(&layout);
        let digest = Digest::new(&layout);
        for (step, page, count, value) in steps {
            let page = PageNumber(if page < 150 { page } else { page - 150 + 192 });
            match step {
                0 => {
                    digest.refresh(&memory, ByteCount(count * 2 * PAGE)).unwrap();
                }
                1 => {
                    let mut set = PageSet::new(layout.numbers());
                    for page in page.0..(page.0 + count).min(layout.numbers()) {
                        if let Some(at) = layout.address_of(PageNumber(page)) {
                            memory.write(at, &[value]).unwrap();
                            set.insert(PageNumber(page)).unwrap();
                        }
                    }
                    digest.stale(&set).unwrap();
                }
                2 => {
                    memory.write(Gpa(layout.address_of(page).unwrap().0 + 1), &[value]).unwrap();
                    digest.stale_run(PageRun { first: page, count: Pages(1) }).unwrap();
                }
                _ => {
                    let now = digest.root(&memory).unwrap();
                    prop_assert!(now.hashed.done);
                    prop_assert_eq!(now.hash, root(&memory));
                }
            }
        }
        prop_assert_eq!(digest.root(&memory).unwrap().hash, root(&memory));
    }
}

/// Memory that lets something happen while it is read.
struct Meddled<'a> {
    memory: &'a GuestMemory,
    before: &'a (dyn Fn(Gpa) -> Result<(), RamError> + Sync),
    after: &'a (dyn Fn(Gpa) + Sync),
}

impl GuestRam for Meddled<'_> {
    fn layout(&self) -> &RamLayout {
        self.memory.layout()
    }

    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
        (self.before)(at)?;
        self.memory.read(at, out)?;
        (self.after)(at);
        Ok(())
    }

    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
        self.memory.write(at, data)
    }
}

/// A write that the hash has not seen, told before its digest is kept.
#[test]
fn a_chunk_that_is_written_while_it_is_hashed_is_stale() {
    let layout = layout(&[64]);
    let memory = memory(&layout);
    let digest = Digest::new(&layout);
    let write = |at: Gpa| {
        memory.write(at, &[1]).unwrap();
        digest.stale_run(PageRun { first: layout.page_at(at).unwrap(), count: Pages(1) }).unwrap();
    };
    let meddled = Meddled { memory: &memory, before: &|_| Ok(()), after: &write };
    let hashed = digest.refresh(&meddled, ByteCount(u64::MAX)).unwrap();
    assert_eq!((hashed.chunks, hashed.done), (4, false));
    assert_eq!(digest.stale_chunks(), 4);
    assert_eq!(digest.root(&memory).unwrap().hash, root(&memory));
}

#[test]
fn what_could_not_be_read_is_still_stale() {
    let layout = layout(&[64]);
    let memory = memory(&layout);
    let digest = Digest::new(&layout);
    let broken = |at: Gpa| match at {
        Gpa(131_072) => Err(RamError::Failed { at, cause: std::io::Error::other("broken memory") }),
        _ => Ok(()),
    };
    let meddled = Meddled { memory: &memory, before: &broken, after: &|_| () };
    for _ in 0..2 {
        digest.refresh(&meddled, ByteCount(u64::MAX)).unwrap_err();
        digest.root(&meddled).unwrap_err();
        assert_eq!(digest.stale_chunks(), 2);
    }
    assert_eq!(digest.root(&memory).unwrap().hash, root(&memory));
}

/// A chunk that is always written is hashed once a round, and all others too.
#[test]
fn a_refresh_goes_round() {
    let layout = layout(&[64 * 64]);
    let memory = memory(&layout);
    let digest = Digest::new(&layout);
    let read = std::sync::Mutex::new(Vec::new());
    let note = |at: Gpa| {
        read.lock().unwrap().push(at.0 >> 16);
        // The first three chunks of each word of the bitmap change always.
        if at.0 >> 16 & 63 < 3 {
            digest.stale_run(run(at.0 >> 12, 1)).unwrap();
        }
    };
    let meddled = Meddled { memory: &memory, before: &|_| Ok(()), after: &note };
    for _ in 0..256 / 2 {
        let hashed = digest.refresh(&meddled, ByteCount(2 * 65536)).unwrap();
        assert_eq!(hashed.chunks, 2);
    }
    let read = read.into_inner().unwrap();
    assert!(read.iter().copied().eq(0..256), "{read:?}");
}

/// Writes anywhere as fast as it can.
fn write_until(stop: &AtomicBool, writer: u64, memory: &GuestMemory, bitmap: Option<&DirtyBitmap>) {
    let layout = GuestRam::layout(memory);
    let mut turn = writer;
    while !stop.load(Ordering::Relaxed) {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let page = PageNumber((turn >> 33) % layout.numbers());
        let Some(at) = layout.address_of(page) else { continue };
        let word = memory.word(Gpa(at.0 + 8 * (turn >> 20 & 511))).unwrap();
        word.fetch_add(turn | 1, Ordering::Relaxed);
        if let Some(bitmap) = bitmap {
            bitmap.mark(page).unwrap();
        }
    }
}

/// Threads write as fast as they can, a log records, one thread hashes and another harvests: in the end it is right.
/// Gives how many chunks were hashed, and how many of them at the end.
fn hashed_while_written(
    log: &mut dyn DirtyLog,
    memory: &GuestMemory,
    bitmap: Option<&DirtyBitmap>,
) -> (u64, u64) {
    let layout = GuestRam::layout(memory).clone();
    let digest = Digest::new(&layout);
    let (stop, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    log.start().unwrap();
    let mut rehashed = 0;
    std::thread::scope(|scope| {
        let stop = &stop;
        let write = |writer: u64| scope.spawn(move || write_until(stop, writer, memory, bitmap));
        let writers = [1, 2].map(write);
        // There is time for a write between each read and the digest of what was read.
        let slowly = |_| std::thread::sleep(Duration::from_micros(300));
        let (digest, quiet) = (&digest, &quiet);
        let hasher = scope.spawn(move || {
            let slow = Meddled { memory, before: &|_| Ok(()), after: &slowly };
            let mut chunks = 0;
            while !quiet.load(Ordering::Relaxed) {
                chunks += digest.refresh(&slow, ByteCount(3 * 65536)).unwrap().chunks;
            }
            chunks
        });
        let end = Instant::now() + Duration::from_millis(15);
        let mut harvest = || {
            let mut found = PageSet::new(layout.numbers());
            log.harvest(&mut found).unwrap();
            digest.stale(&found).unwrap();
        };
        // Six at least, however busy the machine is.
        (0..6).for_each(|_| harvest());
        while Instant::now() < end {
            harvest();
        }
        stop.store(true, Ordering::Relaxed);
        // As a driver, which pauses its guest before the last harvest.
        for writer in writers {
            writer.join().unwrap();
        }
        harvest();
        quiet.store(true, Ordering::Relaxed);
        rehashed = hasher.join().unwrap();
    });
    let last = digest.root(memory).unwrap();
    assert_eq!(last.hash, root(memory), "a chunk was hashed before its last write");
    log.stop().unwrap();
    (rehashed, last.hashed.chunks)
}

#[test]
fn nothing_that_is_written_while_it_is_hashed_is_missed() {
    let layout = layout(&[90, 40]);
    let memory = Arc::new(memory(&layout));
    let mut software = SoftwareLog::new(&layout);
    let bitmap = Arc::clone(software.bitmap());
    let mut kernel = UserfaultfdLog::new(memory.clone())
        .inspect_err(|error| whimbrel_guest::conformance::skip("uffd", error));
    // It is the last write to a chunk that can be missed, so there are many endings.
    let mut all = (0, 0);
    for turn in 0..60 {
        let (during, at_the_end) = match &mut kernel {
            Ok(log) if turn % 3 == 0 => hashed_while_written(log, &memory, None),
            _ => hashed_while_written(&mut software, &memory, Some(&bitmap)),
        };
        all = (all.0 + during, all.1 + at_the_end);
    }
    eprintln!("{} chunks were hashed while they were written, {} at the end", all.0, all.1);
    assert!(all.0 > 60, "nothing was hashed: {all:?}");
}
