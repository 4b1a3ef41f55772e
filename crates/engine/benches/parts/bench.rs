//! What the parts of the engine cost that every migration has: the digest, records on stable storage, the rate limit.
//!
//! `cargo bench -p whimbrel-engine --bench parts` prints the tables of `docs/benchmarks.md`; with the name of a part it is this
//! one alone. Of passes that do the same the shortest counts, of latencies the median and the 99th percentile.
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::GuestRam;
use whimbrel_core::layout::{Gpa, PageNumber, PageSize, RamLayout};
use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_engine::clock::SystemClock;
use whimbrel_engine::digest::Digest;
use whimbrel_engine::limiter::Limiter;
use whimbrel_engine::stable::{DirectoryStore, Role, StableStore};
use whimbrel_guest::memory::{Backing, GuestMemory};

pub(super) fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    // As of `cargo test --benches`: each part once.
    let quick = std::env::args().any(|argument| argument == "--test");
    if wanted("digest") {
        digest(quick);
    }
    if wanted("stable") {
        stable(Path::new(env!("CARGO_TARGET_TMPDIR")), if quick { 3 } else { 200 });
    }
    if wanted("limiter") {
        limiter(Duration::from_millis(if quick { 20 } else { 1000 }));
    }
}

/// The shortest of so many passes.
fn shortest(passes: usize, mut pass: impl FnMut() -> Duration) -> Duration {
    (0..passes).map(|_| pass()).min().unwrap_or_default()
}

fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let since = Instant::now();
    let done = act();
    (since.elapsed(), done)
}

fn rate(bytes: ByteCount, time: Duration) -> String {
    format!("{:.2} GB/s", bytes.as_f64() / time.as_secs_f64() / 1e9)
}

fn digest(quick: bool) {
    let len = ByteCount::mib(if quick { 8 } else { 1024 });
    let layout = RamLayout::contiguous(len, PageSize::Kib4).expect("whole pages");
    let passes = if quick { 1 } else { 5 };
    println!("| digest of {len} | |\n|---|---|");
    let memory = GuestMemory::new(layout.clone(), Backing::PrivateHuge).expect("so much memory");
    memory.populate().expect("so much memory");
    let whole = |memory: &GuestMemory| {
        shortest(passes, || {
            let digest = Digest::new(&layout);
            timed(|| digest.root(memory).expect("memory")).0
        })
    };
    println!("| all of it, zeroes | {} |", rate(len, whole(&memory)));
    let mut word = 1_u64;
    for word_of in memory.region(0).expect("a region") {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        word_of.store(word, Ordering::Relaxed);
    }
    println!("| all of it, random | {} |", rate(len, whole(&memory)));
    for chunk in [4 << 10, 64 << 10, 256 << 10] {
        let mut buffer = vec![0; chunk];
        let read = shortest(passes, || {
            let read = |at| memory.read(Gpa(at), &mut buffer).expect("memory");
            timed(|| (0..len.0).step_by(chunk).for_each(read)).0
        });
        let hash = shortest(passes, || {
            let hash = |_| {
                std::hint::black_box(blake3::hash(&buffer));
            };
            timed(|| (0..len.0).step_by(chunk).for_each(hash)).0
        });
        let chunk = ByteCount(chunk as u64);
        println!(
            "| {chunk} at a time: reading alone, blake3 alone | {}, {} |",
            rate(len, read),
            rate(len, hash)
        );
    }
    let digest = Digest::new(&layout);
    digest.root(&memory).expect("memory");
    for pages in [0, 100, 1000, 10_000] {
        let mut set = PageSet::new(layout.numbers());
        for index in 0..pages {
            let page = index * 0x9E37_79B9 % layout.numbers();
            set.insert(PageNumber(page)).expect("a page");
        }
        let (mut marks, mut chunks) = (Duration::MAX, 0);
        let root = shortest(passes, || {
            marks = marks.min(timed(|| digest.stale(&set).expect("of this guest")).0);
            let (took, root) = timed(|| digest.root(&memory).expect("memory"));
            chunks = root.hashed.chunks;
            took
        });
        println!(
            "| {pages} pages anywhere changed: told in, root in ({chunks} chunks) | {marks:.1?}, {root:.1?} |"
        );
    }
}

/// Median and 99th percentile.
fn row(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!("| {what} | {:.0?} | {:.0?} |", at(0.5), at(0.99));
}

fn stable(directory: &Path, passes: u64) {
    let directory = directory.join("records");
    let _ = std::fs::remove_dir_all(&directory);
    let mut store = DirectoryStore::open(&directory, Role::Source).expect("a directory");
    println!("\n| {passes} times each | median | 99 % |\n|---|---|---|");
    let bare = directory.join("bare");
    let file = OpenOptions::new().create(true).write(true).truncate(true).open(bare).expect("a file");
    file.write_all_at(&[0; 8192], 0).expect("room");
    file.sync_all().expect("a disk");
    File::open(&directory).and_then(|handle| handle.sync_all()).expect("a disk");
    let mut times = [const { Vec::new() }; 4];
    // In turn, so that what else the disk does meets all alike.
    for pass in 0..passes {
        let (prepared, unprepared) = (MigrationId(2 * pass), MigrationId(2 * pass + 1));
        times[0].push(
            timed(|| {
                file.write_all_at(&[pass as u8; 64], 4096).expect("room");
                file.sync_data().expect("a disk");
            })
            .0,
        );
        times[3].push(timed(|| store.prepare(prepared, "guest").expect("a disk")).0);
        times[1].push(timed(|| store.persist(prepared, StableRecord::Go).expect("a disk")).0);
        times[2].push(timed(|| store.persist(unprepared, StableRecord::Go).expect("a disk")).0);
        store.erase(prepared).expect("a disk");
        store.erase(unprepared).expect("a disk");
    }
    let names =
        ["bare `pwrite` and `fdatasync`", "`persist`, prepared", "`persist`, not prepared", "`prepare`"];
    for (name, times) in names.into_iter().zip(times) {
        row(name, times);
    }
    let _ = std::fs::remove_dir_all(&directory);
}

fn limiter(time: Duration) {
    println!("\n| limit, for {time:?} | streams | off by |\n|---|---|---|");
    for (mbit, batch) in [(100, 64 << 10), (1000, 512 << 10), (10_000, 512 << 10)] {
        for streams in [1, 2, 8] {
            let bytes_per_second = mbit * 1_000_000 / 8;
            let limit = Bandwidth::new(bytes_per_second).expect("not zero");
            let limiter = Limiter::new(Arc::new(SystemClock::start()), RateLimit::AtMost(limit));
            let sent = AtomicU64::new(0);
            let since = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..streams {
                    scope.spawn(|| {
                        while limiter.acquire(ByteCount(batch)).is_ok() {
                            sent.fetch_add(batch, Ordering::Relaxed);
                        }
                    });
                }
                std::thread::sleep(time);
                let expected = limit.as_f64() * since.elapsed().as_secs_f64();
                let off = sent.load(Ordering::Relaxed) as f64 / expected - 1.0;
                limiter.close();
                println!(
                    "| {mbit} Mbit/s, {} at a time | {streams} | {:+.2} % |",
                    ByteCount(batch),
                    off * 100.0
                );
            });
        }
    }
}
