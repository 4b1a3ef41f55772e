//! Marking and harvesting dirty pages, beside the bare operations and beside `vm-memory`.
//!
//! The guest has 1 TiB in pages of 4 KiB. Only the harvest is timed: the bitmap is made dirty again
//! before each, outside the measured time. Compare lines of one run only, the machine's state differs
//! between runs. Results and what they were measured on are in `docs/benchmarks.md`.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vm_memory::bitmap::AtomicBitmap;
use whimbrel_core::dirty::{Backlog, DirtyBitmap, PageSet, Take};
use whimbrel_core::layout::{PageNumber, PageRun, PageSize, RamLayout};
use whimbrel_core::units::{ByteCount, Pages};

/// Pages of the guest: 1 TiB.
const PAGES: u64 = 1 << 28;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A small generator with a period beyond any bench: the pattern only has to be without order.
struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What a guest wrote between two harvests.
#[derive(Clone, Copy)]
enum Dirt {
    Clean,
    /// 0.1 % of all pages, in runs of 64 anywhere.
    Clusters,
    /// Every page with probability one half.
    Half,
}

impl Dirt {
    const ALL: [(Self, &str); 3] =
        [(Self::Clean, "clean"), (Self::Clusters, "0.1% in clusters"), (Self::Half, "half")];

    /// The words that are dirty, each with its pages.
    fn each_word(self, mut visit: impl FnMut(u64, u64)) {
        let mut random = XorShift(0x9E37_79B9_7F4A_7C15);
        match self {
            Self::Clean => {}
            Self::Clusters => {
                for _ in 0..PAGES / 1000 / 64 {
                    visit(random.next() % (PAGES / 64), u64::MAX);
                }
            }
            Self::Half => (0..PAGES / 64).for_each(|word| visit(word, random.next())),
        }
    }

    fn mark(self, bitmap: &DirtyBitmap) {
        self.each_word(|word, mask| {
            let mut left = mask;
            // Runs, or marking 134 million pages one by one takes the whole bench.
            while left != 0 {
                let first = left.trailing_zeros();
                let count = (left >> first).trailing_ones();
                let run = PageRun {
                    first: PageNumber(word * 64 + u64::from(first)),
                    count: Pages(u64::from(count)),
                };
                bitmap.mark_run(run).expect("in range");
                left &= !(u64::MAX >> (64 - count) << first);
            }
        });
    }

    fn mark_vm_memory(self, bitmap: &AtomicBitmap) {
        self.each_word(|word, mask| {
            (0..64)
                .filter(|bit| mask >> bit & 1 != 0)
                .for_each(|bit| bitmap.set_bit(word as usize * 64 + bit));
        });
    }
}

/// Runs `work` as often as criterion asks, `prepare` before each, and times `work` alone.
fn timed(times: u64, mut prepare: impl FnMut(), mut work: impl FnMut()) -> Duration {
    (0..times)
        .map(|_| {
            prepare();
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .sum()
}

/// Reads and clears every word once with plain loads and stores: no harvest can be faster when dense.
fn read_and_write(words: &[AtomicU64]) -> u64 {
    let mut sum = 0_u64;
    for word in words {
        sum = sum.wrapping_add(word.load(Ordering::Relaxed));
        word.store(0, Ordering::Relaxed);
    }
    sum
}

fn harvest(c: &mut Criterion) {
    let mut group = c.benchmark_group("harvest 1TiB");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(1));
    for (dirt, name) in Dirt::ALL {
        let bitmap = DirtyBitmap::new(PAGES);
        let mut found = PageSet::new(PAGES);
        // Both sides and the set are resident, as in any harvest but the first.
        for _ in 0..2 {
            Dirt::Half.mark(&bitmap);
            bitmap.harvest_into(&mut found).expect("same guest");
        }
        group.bench_function(BenchmarkId::new("DirtyBitmap", name), |b| {
            let found = std::cell::RefCell::new(&mut found);
            b.iter_custom(|times| {
                let prepare = || {
                    found.borrow_mut().clear();
                    dirt.mark(&bitmap);
                };
                timed(times, prepare, || {
                    black_box(bitmap.harvest_into(&mut found.borrow_mut()).expect("same guest"));
                })
            });
        });
        drop((bitmap, found));
        let rival = AtomicBitmap::new(PAGES as usize * PAGE.get(), PAGE);
        group.bench_function(BenchmarkId::new("vm-memory get_and_reset", name), |b| {
            b.iter_custom(|times| {
                timed(
                    times,
                    || dirt.mark_vm_memory(&rival),
                    || {
                        black_box(rival.get_and_reset());
                    },
                )
            });
        });
    }
    let words: Vec<AtomicU64> = (0..PAGES / 64).map(|_| AtomicU64::new(0)).collect();
    let fill = || {
        Dirt::Half.each_word(|word, mask| words[word as usize].store(mask, Ordering::Relaxed));
    };
    group.bench_function(BenchmarkId::new("read and write the bitmap once", "half"), |b| {
        b.iter_custom(|times| {
            timed(times, fill, || {
                black_box(read_and_write(&words));
            })
        });
    });
    group.bench_function(BenchmarkId::new("exchange every word", "half"), |b| {
        b.iter_custom(|times| {
            timed(times, fill, || {
                black_box(words.iter().fold(0, |sum, word| sum ^ word.swap(0, Ordering::Acquire)));
            })
        });
    });
    group.finish();
}

/// One mark beside one `fetch_or`, both checked against the end, over the same random pages.
fn mark(c: &mut Criterion) {
    const MARKS: u64 = 4096;
    let mut group = c.benchmark_group("4096 marks");
    for (pages, name) in [(1_u64 << 14, "64MiB"), (1 << 20, "4GiB"), (PAGES, "1TiB")] {
        let bitmap = DirtyBitmap::new(pages);
        let bare: Vec<AtomicU64> = (0..pages / 64).map(|_| AtomicU64::new(0)).collect();
        let rival = AtomicBitmap::new(pages as usize * PAGE.get(), PAGE);
        let each = |random: &mut XorShift, mark: &dyn Fn(u64)| {
            (0..MARKS).for_each(|_| mark(black_box(random.next() % pages)));
        };
        let mut bench = |what: &str, mark: &dyn Fn(u64)| {
            let mut random = XorShift(1);
            group.bench_function(BenchmarkId::new(what, name), |b| b.iter(|| each(&mut random, mark)));
        };
        bench("bare fetch_or", &|page| {
            if let Some(word) = bare.get((page / 64) as usize) {
                word.fetch_or(1 << (page % 64), Ordering::Release);
            }
        });
        bench("DirtyBitmap", &|page| {
            let _ = black_box(bitmap.mark(PageNumber(page)));
        });
        bench("vm-memory set_bit", &|page| rival.set_bit(page as usize));
    }
    group.finish();
}

/// A whole pass over a full 4 GiB guest, as the simulator makes it: take every word, then acknowledge.
fn backlog(c: &mut Criterion) {
    let layout = RamLayout::contiguous(ByteCount(4 << 30), PageSize::Kib4).expect("a valid layout");
    let words = (layout.numbers() / 64) as usize;
    let mut group = c.benchmark_group("backlog, 16384 words");
    group.bench_function("new", |b| b.iter(|| black_box(Backlog::new(&layout))));
    let mut backlog = Backlog::new(&layout);
    group.bench_function("mark_dirty_word, take_with, acknowledge", |b| {
        b.iter(|| {
            (0..words).for_each(|word| {
                backlog.mark_dirty_word(word, black_box(0x5555_5555_5555_5555));
            });
            black_box(backlog.take_with(|block| Take::Continue(block.mask)));
            let gate = backlog.close_gate().expect("the last one is acknowledged");
            backlog.acknowledge(gate).expect("the awaited gate");
        });
    });
    group.bench_function("take_with", |b| {
        b.iter_custom(|times| {
            let backlog = std::cell::RefCell::new(&mut backlog);
            let prepare = || {
                let mut backlog = backlog.borrow_mut();
                backlog.put_back();
                (0..words).for_each(|word| {
                    backlog.mark_dirty_word(word, 0x5555_5555_5555_5555);
                });
            };
            timed(times, prepare, || {
                black_box(backlog.borrow_mut().take_with(|block| Take::Continue(block.mask)));
            })
        });
    });
    group.finish();
}

criterion_group!(benches, harvest, mark, backlog);
criterion_main!(benches);
