use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use whimbrel_core::layout::PageSize;
use whimbrel_core::units::Pages;

use super::*;
use crate::surroundings::{Refuse, in_a_child, refusing, smaps, unprivileged};

const PAGE: u64 = 4096;

/// Two pages from zero on, and three behind a hole.
fn layout() -> RamLayout {
    let region = |first: u64, pages: u64| Region { start: Gpa(first * PAGE), len: ByteCount(pages * PAGE) };
    RamLayout::new(PageSize::Kib4, vec![region(0, 2), region(16, 3)]).unwrap()
}

fn memory(backing: Backing) -> GuestMemory {
    GuestMemory::new(layout(), backing).unwrap()
}

/// One region of so much.
fn plain(len: ByteCount, backing: Backing) -> Result<GuestMemory, MemoryError> {
    GuestMemory::new(RamLayout::contiguous(len, PageSize::Kib4).unwrap(), backing)
}

fn bytes(memory: &GuestMemory, at: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0xEE; len];
    memory.read(Gpa(at), &mut out).unwrap();
    out
}

/// The whole of an error, as the program prints it.
fn text(error: &MemoryError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error} ({})", cause.unwrap_or_default())
}

/// Of this process; it can be raised again.
fn limit(resource: Resource, current: u64) {
    let maximum = rustix::process::getrlimit(resource).maximum;
    rustix::process::setrlimit(resource, Rlimit { current: Some(current), maximum }).unwrap();
}

#[test]
fn new_memory_is_zero_and_is_where_the_layout_says() {
    for backing in Backing::ALL {
        let memory = memory(backing);
        assert_eq!(memory.backing(), backing);
        assert_eq!(bytes(&memory, 0, 8192), vec![0; 8192], "{backing}");
        assert_eq!(bytes(&memory, 16 * PAGE, 3 * 4096), vec![0; 3 * 4096], "{backing}");
        let ranges = memory.ranges();
        assert_eq!(ranges.iter().map(|range| range.len).collect::<Vec<_>>(), [8192, 3 * 4096]);
        assert!(ranges.iter().map(|range| range.pages).eq(layout().runs()));
        assert!(ranges.iter().all(|range| range.address.is_multiple_of(4096)));
        assert_eq!(memory.region(1).unwrap().len(), 3 * 512);
        assert!(memory.region(2).is_none());
        assert_eq!(memory.page(PageNumber(65)).unwrap().as_ptr(), memory.region(1).unwrap()[512..].as_ptr());
        assert!(memory.page(PageNumber(2)).is_none(), "padding");
        let last = memory.region(1).unwrap().last().unwrap();
        assert!(memory.word(Gpa(19 * PAGE - 8)).is_some_and(|word| std::ptr::eq(word, last)));
        assert!([19 * PAGE - 7, 19 * PAGE, 2 * PAGE, 4].iter().all(|&at| memory.word(Gpa(at)).is_none()));
    }
}

proptest! {
    /// Whatever is written where, at any alignment, reads back as from plain bytes, and nothing else changes.
    #[test]
    fn memory_is_bytes(
        writes in prop::collection::vec((0..8192_usize, prop::collection::vec(any::<u8>(), 0..40)), 1..20),
        reads in prop::collection::vec((0..8192_usize, 0..70_usize), 1..10),
    ) {
        let memory = memory(Backing::Private);
        let mut model = vec![0; 8192];
        for (at, data) in writes {
            let data = &data[..data.len().min(8192 - at)];
            model[at..at + data.len()].copy_from_slice(data);
            memory.write(Gpa(at as u64), data).unwrap();
        }
        for (at, len) in reads {
            let len = len.min(8192 - at);
            prop_assert_eq!(bytes(&memory, at as u64, len), &model[at..at + len]);
        }
        prop_assert_eq!(bytes(&memory, 0, 8192), model);
    }
}

#[test]
fn every_alignment_and_length_up_to_four_words() {
    let memory = memory(Backing::Private);
    for at in 0..17_u64 {
        for len in 0..33 {
            memory.write(Gpa(0), &[0x55; 64]).unwrap();
            let data: Vec<u8> = (1..=len).collect();
            memory.write(Gpa(at), &data).unwrap();
            let mut expected = vec![0x55; 64];
            expected[at as usize..at as usize + data.len()].copy_from_slice(&data);
            assert_eq!(bytes(&memory, 0, 64), expected, "{len} at {at}");
            assert_eq!(bytes(&memory, at, data.len()), data, "{len} at {at}");
        }
    }
}

/// Words, lines and what is left of either, up to the last byte of a region; nothing else of the buffer is touched.
#[test]
fn any_length_is_read_from_anywhere() {
    let memory = memory(Backing::Private);
    let all: Vec<u8> = (0..2 * PAGE).map(|at| (at * 7 + at / 251) as u8 | 1).collect();
    memory.write(Gpa(0), &all).unwrap();
    for len in (0..300).chain([4096, 4096 + 77]) {
        for at in (0..20).chain([PAGE - 89, 2 * PAGE - len as u64]) {
            let mut out = vec![0; len + 16];
            memory.read(Gpa(at), &mut out[8..8 + len]).unwrap();
            let expected = [&[0; 8], &all[at as usize..at as usize + len], &[0; 8]].concat();
            assert_eq!(out, expected, "{len} at {at}");
        }
    }
}

/// Three bytes each, side by side: none of them is ever changed by another's write to the same word.
#[test]
fn neighbours_stay_under_writes_to_parts_of_a_word() {
    let memory = memory(Backing::Private);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (memory, stop) = (&memory, &stop);
                scope.spawn(move || {
                    let at = 3 * writer;
                    for turn in 0..20_000_u32 {
                        let data = [turn as u8, (turn >> 8) as u8, writer as u8 + 1];
                        memory.write(Gpa(at), &data).unwrap();
                        if stop.load(Ordering::Relaxed) || bytes(memory, at, 3) != data {
                            stop.store(true, Ordering::Relaxed);
                            return false;
                        }
                    }
                    true
                })
            })
            .collect();
        assert!(writers.into_iter().all(|writer| writer.join().unwrap()), "a neighbour's bytes were changed");
    });
    assert_eq!(bytes(&memory, 12, 4), [0; 4]);
}

#[test]
fn what_is_not_all_memory_is_refused_and_nothing_happens() {
    let memory = memory(Backing::Private);
    let cases = [
        // Across the end of a region, within the hole, across its end, beyond everything.
        (2 * PAGE - 3, 4),
        (2 * PAGE, 1),
        (16 * PAGE - 1, 2),
        (19 * PAGE - 7, 8),
        (19 * PAGE, 1),
        (u64::MAX - 1, 2),
        (u64::MAX, 8),
    ];
    for (at, len) in cases {
        let mut out = vec![7; len];
        let refused = memory.read(Gpa(at), &mut out).unwrap_err();
        assert!(matches!(refused, RamError::NotMemory { at: Gpa(was), len: ByteCount(long) }
            if was == at && long == len as u64));
        assert_eq!(out, vec![7; len], "a read that is refused leaves the buffer");
        memory.write(Gpa(at), &vec![9; len]).unwrap_err();
    }
    assert_eq!(bytes(&memory, 0, 8192), vec![0; 8192]);
    assert_eq!(bytes(&memory, 16 * PAGE, 3 * 4096), vec![0; 3 * 4096]);
    // Nothing at all is nowhere.
    memory.write(Gpa(2 * PAGE), &[]).unwrap();
    memory.read(Gpa(19 * PAGE), &mut []).unwrap();
}

#[test]
fn discarded_memory_is_zero_and_its_neighbours_stay() {
    for backing in Backing::ALL {
        let memory = memory(backing);
        memory.write(Gpa(16 * PAGE), &[1; 3 * 4096]).unwrap();
        memory.discard(PageRun { first: PageNumber(65), count: Pages(1) }).unwrap();
        let expected = [[1; 4096], [0; 4096], [1; 4096]].concat();
        assert_eq!(bytes(&memory, 16 * PAGE, 3 * 4096), expected, "{backing}");
        // Across a region's end, padding, and nothing that exists.
        for (first, count) in [(66, 2), (1, 2), (2, 1), (1 << 60, 1), (64, u64::MAX)] {
            let refused = memory.discard(PageRun { first: PageNumber(first), count: Pages(count) });
            assert!(matches!(refused, Err(RamError::NotMemory { .. })), "{first} {count} {backing}");
        }
        assert_eq!(bytes(&memory, 16 * PAGE, 3 * 4096), expected, "{backing}");
    }
}

#[test]
fn populated_memory_is_resident() {
    for backing in Backing::ALL {
        let memory = plain(ByteCount::mib(4), backing).unwrap();
        let at = memory.ranges()[0].address;
        assert_eq!(smaps(at, "Rss"), 0, "{backing}");
        memory.populate().unwrap();
        assert_eq!(smaps(at, "Rss"), 4 << 20, "{backing}");
        memory.discard(PageRun { first: PageNumber(0), count: Pages(512) }).unwrap();
        assert_eq!(smaps(at, "Rss"), 2 << 20, "{backing}");
    }
}

#[test]
fn a_file_is_the_memory_and_nobody_can_cut_it() {
    let memory = memory(Backing::Memfd);
    let (first, second) = (memory.file(0).unwrap(), memory.file(1).unwrap());
    memory.write(Gpa(16 * PAGE + 5), b"written here").unwrap();
    let mut read = [0; 12];
    rustix::io::pread(second, &mut read, 5).unwrap();
    assert_eq!(&read, b"written here");
    rustix::io::pwrite(first, b"written there", 4096).unwrap();
    assert_eq!(bytes(&memory, 4096, 13), b"written there");
    assert_eq!(rustix::fs::ftruncate(first, 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(first, 1 << 20), Err(Errno::PERM));
    for backing in [Backing::Private, Backing::PrivateHuge, Backing::Shared] {
        assert!(super::tests::memory(backing).file(0).is_none());
    }
}

#[test]
fn the_kernel_writes_what_a_file_has() {
    let memory = memory(Backing::Private);
    let (read, mut write) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut write, b"from the kernel").unwrap();
    drop(write);
    let took = memory.read_from(Gpa(PAGE - 4), ByteCount(15), read.as_fd()).unwrap();
    assert_eq!((took, bytes(&memory, PAGE - 4, 15).as_slice()), (ByteCount(15), &b"from the kernel"[..]));
    // The end of the file, and no memory.
    assert_eq!(memory.read_from(Gpa(0), ByteCount(1), read.as_fd()).unwrap(), ByteCount(0));
    assert!(matches!(
        memory.read_from(Gpa(2 * PAGE - 1), ByteCount(2), read.as_fd()),
        Err(RamError::NotMemory { .. })
    ));
    assert!(matches!(memory.read_from(Gpa(0), ByteCount(1), std::io::pipe().unwrap().1.as_fd()),
        Err(RamError::Failed { at: Gpa(0), cause }) if Errno::from_io_error(&cause) == Some(Errno::BADF)));
}

#[test]
fn more_memory_than_there_are_addresses_is_refused() {
    for backing in [Backing::Private, Backing::Shared, Backing::Memfd] {
        let refused = plain(ByteCount(1 << 51), backing).unwrap_err();
        let text = text(&refused);
        assert!(text.starts_with(&format!("no {backing} memory for region ")), "{text}");
        assert!(text.contains("there is not so much; take a smaller guest"), "{text}");
    }
}

#[test]
fn too_little_address_space_names_the_limit() {
    in_a_child("memory::tests::too_little_address_space_names_the_limit", || {
        limit(Resource::As, 512 << 20);
        for backing in Backing::ALL {
            let text = text(&plain(ByteCount(1 << 30), backing).unwrap_err());
            assert!(text.contains("region 1GiB at 0x0") && text.contains("`ulimit -v`"), "{text}");
            // And what fits is there.
            plain(ByteCount::mib(64), backing).unwrap().populate().unwrap();
        }
    });
}

#[test]
fn too_few_descriptors_name_the_limit() {
    in_a_child("memory::tests::too_few_descriptors_name_the_limit", || {
        limit(Resource::Nofile, 0);
        let text = text(&plain(ByteCount::mib(1), Backing::Memfd).unwrap_err());
        assert!(text.contains("raise `ulimit -n`"), "{text}");
    });
}

#[test]
fn too_large_a_file_names_the_limit_and_ends_nobody() {
    in_a_child("memory::tests::too_large_a_file_names_the_limit_and_ends_nobody", || {
        limit(Resource::Fsize, 1 << 20);
        let text = text(&plain(ByteCount::mib(2), Backing::Memfd).unwrap_err());
        assert!(text.contains("raise `ulimit -f`"), "{text}");
        plain(ByteCount::mib(1), Backing::Memfd).unwrap();
        plain(ByteCount::mib(2), Backing::Shared).unwrap();
    });
}

#[test]
fn memory_that_may_not_be_locked_names_the_limit() {
    in_a_child("memory::tests::memory_that_may_not_be_locked_names_the_limit", || {
        // Not none at all (ENOMEM), and none (EPERM).
        for most in [1 << 20, 0] {
            limit(Resource::Memlock, most);
            let refused =
                unprivileged(|| plain(ByteCount::mib(2), Backing::Private).unwrap().lock().unwrap_err());
            let text = text(&refused);
            assert!(text.starts_with("cannot lock 2MiB of guest memory: raise RLIMIT_MEMLOCK"), "{text}");
        }
        limit(Resource::Memlock, 4 << 20);
        unprivileged(|| {
            let memory = plain(ByteCount::mib(2), Backing::Private).unwrap();
            memory.lock().unwrap();
            assert_eq!(smaps(memory.ranges()[0].address, "Locked"), 2 << 20);
            let kept = memory.discard(PageRun { first: PageNumber(0), count: Pages(1) }).unwrap_err();
            let cause = std::error::Error::source(&kept).unwrap().to_string();
            assert_eq!(cause, "the kernel takes no memory back that is locked");
        });
    });
}

type Act<'a> = &'a (dyn Fn() -> Result<(), MemoryError> + Sync);

#[test]
fn what_the_kernel_refuses_says_what_to_do() {
    let new = |backing| move || plain(ByteCount::mib(1), backing).map(drop);
    let populate = || plain(ByteCount::mib(1), Backing::Shared).unwrap().populate();
    let lock = || plain(ByteCount::mib(1), Backing::Shared).unwrap().lock();
    let huge = Refuse::advice(libc::MADV_HUGEPAGE, Errno::INVAL);
    let populating = |errno| Refuse::advice(libc::MADV_POPULATE_WRITE, errno);
    let cases: [(Refuse, Act<'_>, &str); 10] = [
        (
            Refuse::call(libc::SYS_mmap, Errno::NOMEM),
            &new(Backing::Private),
            "raise what limits this process",
        ),
        (Refuse::call(libc::SYS_mmap, Errno::AGAIN), &new(Backing::Private), "raise RLIMIT_MEMLOCK"),
        (Refuse::call(libc::SYS_memfd_create, Errno::NOSYS), &new(Backing::Memfd), "has no memfd"),
        (Refuse::call(libc::SYS_memfd_create, Errno::ACCESS), &new(Backing::Memfd), "memfd is forbidden"),
        (Refuse::call(libc::SYS_ftruncate, Errno::FBIG), &new(Backing::Memfd), "`ulimit -f`"),
        (huge, &new(Backing::PrivateHuge), "CONFIG_TRANSPARENT_HUGEPAGE"),
        (populating(Errno::NOMEM), &populate, "memory.max"),
        (populating(Errno::FAULT), &populate, "shared memory is exhausted"),
        (populating(Errno::INVAL), &populate, "Linux 5.14"),
        (Refuse::call(libc::SYS_mlock, Errno::AGAIN), &lock, "memory is exhausted"),
    ];
    for (refused, act, help) in cases {
        let error = refusing(&[refused], act).expect_err(help);
        assert!(text(&error).contains(help), "{}", text(&error));
    }
    // Before Linux 6.3.
    let flag = Refuse { call: libc::SYS_memfd_create, only: Some((1, 11)), errno: Errno::INVAL };
    refusing(&[flag], new(Backing::Memfd)).unwrap();
}

#[test]
fn memory_that_is_there_is_not_made_resident_again() {
    let memory = plain(ByteCount::mib(1), Backing::Private).unwrap();
    let all = RamRange { at: Gpa(0), len: ByteCount::mib(1) };
    let refused = Refuse::advice(libc::MADV_POPULATE_WRITE, Errno::NOMEM);
    refusing(&[refused], || memory.prepare(all)).expect_err("it was never touched");
    memory.populate().unwrap();
    let refused = Refuse::advice(libc::MADV_POPULATE_WRITE, Errno::NOMEM);
    refusing(&[refused], || memory.prepare(all)).unwrap();
    // One page that is not there, and all of it is asked for.
    memory.discard(PageRun { first: PageNumber(200), count: Pages(1) }).unwrap();
    let refused = Refuse::advice(libc::MADV_POPULATE_WRITE, Errno::NOMEM);
    refusing(&[refused], || memory.prepare(all)).expect_err("a page is missing");
}

#[test]
fn the_first_bytes_of_stretches_are_those_that_are_read() {
    let memory = plain(ByteCount::kib(64), Backing::Private).unwrap();
    for page in 0..16_u8 {
        memory.write(Gpa(u64::from(page) * 4096), &[page + 1; 16]).unwrap();
    }
    for offset in [0, 3, 8] {
        let mut firsts = [[0; 8]; 16];
        memory.read_firsts(Gpa(offset), ByteCount(4096), &mut firsts).unwrap();
        assert!((1..=16).zip(firsts).all(|(page, first)| first == [page; 8]), "{firsts:?}");
    }
    let mut beyond = [[0; 8]; 17];
    memory.read_firsts(Gpa(0), ByteCount(4096), &mut beyond).expect_err("there are 16 pages");
    memory.read_firsts(Gpa(0), ByteCount(u64::MAX), &mut beyond).expect_err("and no such stretches");
}

#[test]
fn kinds_of_memory_are_named() {
    for backing in Backing::ALL {
        assert_eq!(backing.to_string().parse(), Ok(backing));
    }
    let refused = "hugetlb".parse::<Backing>().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no memory of kind `hugetlb`: accepted is `private`, `private-huge`, `shared` or `memfd`"
    );
}
