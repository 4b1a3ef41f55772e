//! What dirty logs cost on real, resident memory: start, harvest, stop, and the first write to a page after a harvest.
//!
//! Guests of 1 and 8 GiB in pages of 4 KiB; the larger one only where 12 GiB are free. Before each harvest that is timed, a share
//! of all pages anywhere is written, outside the measured time. Machines do other work, so at the end the shortest of all
//! passes is printed beside criterion's means, as the table that stands in `docs/benchmarks.md`. With criterion's
//! `--test` guests have 64 MiB and everything is done once.
#![allow(missing_docs)]

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod linux {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use criterion::{BenchmarkId, Criterion};
    use whimbrel_core::dirty::{DirtyBitmap, PageSet};
    use whimbrel_core::embed::DirtyLog;
    use whimbrel_core::layout::{PageNumber, PageSize, RamLayout};
    use whimbrel_core::units::ByteCount;
    use whimbrel_guest::log::{SoftwareLog, UserfaultfdLog, probe};
    use whimbrel_guest::memory::{Backing, GuestMemory, available};

    /// Writes that are timed together.
    const WRITES: usize = 4096;

    /// How pages are written, each once, and marked where that is the writer's business.
    type Write = Box<dyn Fn(&[u64])>;

    /// A log, and how its guest writes.
    struct Subject {
        log: RefCell<Box<dyn DirtyLog>>,
        write: Write,
        /// All pages, in an order of no meaning.
        order: Vec<u64>,
        found: RefCell<PageSet>,
    }

    /// Where something stands in a row of the table, and its name.
    type Column = (usize, &'static str);

    /// What was measured of a log, by column.
    type Row = BTreeMap<Column, Duration>;

    /// The shortest pass of each thing: by guest, log and what is timed.
    #[derive(Default)]
    struct Shortest(RefCell<BTreeMap<(String, String), Row>>);

    impl Shortest {
        fn note(&self, guest: &str, log: &str, column: Column, took: Duration) {
            let mut all = self.0.borrow_mut();
            let row = all.entry((guest.to_owned(), log.to_owned())).or_default();
            let shortest = row.entry(column).or_insert(took);
            *shortest = took.min(*shortest);
        }

        /// As Markdown, in microseconds and nanoseconds a write.
        fn print(&self) {
            let mut head = String::new();
            println!("\nThe shortest pass of each; writes: each of {WRITES}\n");
            for ((guest, log), row) in &*self.0.borrow() {
                let names: Vec<_> = row.keys().map(|(_, what)| *what).collect();
                let this = format!("| guest | log | {} |", names.join(" | "));
                if this != head {
                    println!("\n{this}\n|{}", "---|".repeat(names.len() + 2));
                    head = this;
                }
                let cell = |((_, what), took): (&Column, &Duration)| match what.contains("write") {
                    true => format!("{:.1} ns", took.as_nanos() as f64 / WRITES as f64),
                    false if *took < Duration::from_millis(1) => {
                        format!("{:.1} us", took.as_secs_f64() * 1e6)
                    }
                    false => format!("{:.2} ms", took.as_secs_f64() * 1e3),
                };
                let cells: Vec<_> = row.iter().map(cell).collect();
                println!("| {guest} | {log} | {} |", cells.join(" | "));
            }
        }
    }

    /// Numbers below `count` in an order of no meaning: a walk with a step that has no factor in common with a power of
    /// two.
    fn scattered(count: u64) -> Vec<u64> {
        let step = (count as f64 * 0.618) as u64 | 1;
        (0..count).map(|index| index.wrapping_mul(step) & (count - 1)).collect()
    }

    fn layout(size: ByteCount) -> RamLayout {
        RamLayout::contiguous(size, PageSize::Kib4).expect("whole pages")
    }

    fn resident(size: ByteCount, backing: Backing) -> Arc<GuestMemory> {
        let memory = GuestMemory::new(layout(size), backing).expect("memory");
        memory.populate().expect("so much memory");
        Arc::new(memory)
    }

    /// Writes one page after another.
    fn each(write: impl Fn(u64) + 'static) -> Write {
        Box::new(move |pages| pages.iter().for_each(|&page| write(black_box(page))))
    }

    /// The first word of a page counts up.
    fn bare_write(memory: Arc<GuestMemory>) -> impl Fn(u64) {
        move |page| {
            let words = memory.region(0).expect("one region");
            words[page as usize * 512].fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Subject {
        fn new(size: ByteCount, log: Box<dyn DirtyLog>, write: Write) -> Self {
            let numbers = layout(size).numbers();
            Self {
                log: RefCell::new(log),
                write,
                order: scattered(numbers),
                found: RefCell::new(PageSet::new(numbers)),
            }
        }

        fn software(size: ByteCount) -> Self {
            let log = SoftwareLog::new(&layout(size));
            let (marks, write) = (Arc::clone(log.bitmap()), bare_write(resident(size, Backing::Private)));
            let write = move |page| {
                write(page);
                marks.mark(PageNumber(page)).expect("a page of this guest");
            };
            Self::new(size, Box::new(log), each(write))
        }

        fn userfaultfd(size: ByteCount, backing: Backing) -> Self {
            let memory = resident(size, backing);
            let log = UserfaultfdLog::new(memory.clone()).expect("it was tried");
            Self::new(size, Box::new(log), each(bare_write(memory)))
        }

        #[cfg(feature = "rust-vmm")]
        fn vm_memory(size: ByteCount) -> Self {
            use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
            use whimbrel_guest::rust_vmm::VmMemory;
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size.0 as usize)]).expect("memory");
            let memory = VmMemory::new(memory, PageSize::Kib4).expect("whole pages");
            let log = memory.log().expect("a whole bitmap");
            let write = move |page: u64| {
                memory.memory().store(page, GuestAddress(page * 4096), Ordering::Relaxed).expect("memory");
            };
            scattered(size.0 / 4096).into_iter().for_each(&write);
            Self::new(size, Box::new(log), each(write))
        }

        /// A vCPU writes, told of the pages by a list: the exits that takes are in the time of a write.
        #[cfg(all(feature = "kvm", target_arch = "x86_64"))]
        fn kvm(size: ByteCount) -> Self {
            use whimbrel_core::layout::PageRun;
            use whimbrel_core::units::Pages;
            use whimbrel_guest::kvm::{KvmGuest, Pace, Pattern, Shape, Writer};
            use whimbrel_guest::log::KvmLog;
            let pages = PageRun { first: PageNumber(0), count: Pages(size.0 / 4096) };
            let writers = vec![Writer { pages, pattern: Pattern::Sequential }];
            let memory = resident(size, Backing::Private);
            let guest = KvmGuest::boot(memory, &Shape { writers, pace: Pace::Free }).expect("a KVM guest");
            let log = KvmLog::new(Arc::clone(guest.slots()));
            let guest = RefCell::new(guest);
            let write = move |pages: &[u64]| {
                let pages: Vec<_> = pages.iter().copied().map(PageNumber).collect();
                guest.borrow_mut().write_to(&pages).expect("pages of this guest");
            };
            let made = Self::new(size, Box::new(log), Box::new(write));
            made.dirty(1.0);
            made
        }

        fn start(&self) {
            self.log.borrow_mut().start().expect("it starts");
        }

        fn stop(&self) {
            self.log.borrow_mut().stop().expect("it stops");
        }

        fn harvest(&self) {
            self.log.borrow_mut().harvest(&mut self.found.borrow_mut()).expect("it works");
        }

        /// Writes a share of all pages, each once.
        fn dirty(&self, share: f64) {
            let count = (self.order.len() as f64 * share) as usize;
            (self.write)(&self.order[..count]);
        }
    }

    /// What is timed, and what is done before and after it.
    struct Pass<'a> {
        before: &'a dyn Fn(),
        work: &'a dyn Fn(),
        after: &'a dyn Fn(),
    }

    /// After so long criterion has to do with the passes that there were.
    const ENOUGH: Duration = Duration::from_millis(150);

    impl Pass<'_> {
        /// As often as criterion asks, or until it was [`ENOUGH`]: what comes before a pass may take a thousand times as long.
        /// Each pass is noted.
        fn timed(&self, times: u64, mut note: impl FnMut(Duration)) -> Duration {
            let begun = Instant::now();
            let (mut done, mut total) = (0, Duration::ZERO);
            while done < times && (done == 0 || begun.elapsed() < ENOUGH) {
                (self.before)();
                let start = Instant::now();
                (self.work)();
                let took = start.elapsed();
                (self.after)();
                note(took);
                total += took;
                done += 1;
            }
            total.mul_f64(times as f64 / done as f64)
        }
    }

    const SHARES: [(f64, &str); 4] =
        [(0.0, "clean"), (0.001, "0.1 % dirty"), (0.1, "10 % dirty"), (1.0, "all dirty")];

    fn subject(criterion: &mut Criterion, shortest: &Shortest, guest: &str, name: &str, subject: &Subject) {
        let mut group = criterion.benchmark_group(format!("dirty logs {guest}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(1));
        group.measurement_time(Duration::from_millis(300));
        let mut bench = |column: Column, pass: Pass<'_>| {
            group.bench_function(BenchmarkId::new(name, column.1), |bencher| {
                bencher
                    .iter_custom(|times| pass.timed(times, |took| shortest.note(guest, name, column, took)));
            });
        };
        let (start, stop, harvest, nothing) =
            (|| subject.start(), || subject.stop(), || subject.harvest(), || ());
        bench((0, "start"), Pass { before: &nothing, work: &start, after: &stop });
        for (index, (share, what)) in SHARES.into_iter().enumerate() {
            subject.start();
            subject.harvest();
            let before = || {
                subject.found.borrow_mut().clear();
                subject.dirty(share);
            };
            bench((1 + index, what), Pass { before: &before, work: &harvest, after: &nothing });
            black_box(subject.found.borrow().count());
        }
        let writes = || (subject.write)(&subject.order[..WRITES]);
        bench((5, "first write"), Pass { before: &harvest, work: &writes, after: &nothing });
        bench((6, "second write"), Pass { before: &nothing, work: &writes, after: &nothing });
        bench((7, "stop"), Pass { before: &start, work: &stop, after: &nothing });
        subject.stop();
        bench((8, "write when stopped"), Pass { before: &nothing, work: &writes, after: &nothing });
    }

    fn guests() -> Vec<ByteCount> {
        if std::env::args().any(|argument| argument == "--test") {
            return vec![ByteCount::mib(64)];
        }
        let free = available().unwrap_or_default();
        if free < ByteCount::gib(12) {
            eprintln!("the guest of 8GiB is left out: it wants 12GiB of memory, and {free} are free");
            return vec![ByteCount::gib(1)];
        }
        vec![ByteCount::gib(1), ByteCount::gib(8)]
    }

    fn logs(criterion: &mut Criterion, shortest: &Shortest) {
        let watchable = probe();
        println!("{watchable}");
        for size in guests() {
            let guest = size.to_string();
            let mut run = |name: &str, one: Subject| subject(criterion, shortest, &guest, name, &one);
            run("software", Subject::software(size));
            if matches!(watchable.of("userfaultfd"), Some(Ok(()))) {
                run("userfaultfd", Subject::userfaultfd(size, Backing::Private));
                if size <= ByteCount::gib(1) {
                    run("userfaultfd, huge pages", Subject::userfaultfd(size, Backing::PrivateHuge));
                    run("userfaultfd, memfd", Subject::userfaultfd(size, Backing::Memfd));
                }
            }
            #[cfg(feature = "rust-vmm")]
            run("vm-memory", Subject::vm_memory(size));
            #[cfg(all(feature = "kvm", target_arch = "x86_64"))]
            match whimbrel_guest::kvm::open() {
                Ok(_) => run("KVM", Subject::kvm(size)),
                Err(error) => eprintln!("the log of KVM is left out: {error}"),
            }
        }
    }

    /// One mark beside one `fetch_or`, both checked against the end, over the same pages.
    fn marks(criterion: &mut Criterion, shortest: &Shortest) {
        let mut group = criterion.benchmark_group("marks");
        for size in guests() {
            let pages = layout(size).numbers();
            let order: Vec<_> = scattered(pages).into_iter().take(WRITES).collect();
            let bare: Vec<AtomicU64> = (0..pages / 64).map(|_| AtomicU64::new(0)).collect();
            let bitmap = DirtyBitmap::new(pages);
            let fetch_or = |page: u64| {
                if let Some(word) = bare.get((page / 64) as usize) {
                    word.fetch_or(1 << (page % 64), Ordering::Release);
                }
            };
            let mark = |page| {
                let _ = black_box(bitmap.mark(PageNumber(page)));
            };
            let guest = size.to_string();
            let mut bench = |name: &str, column: Column, act: &dyn Fn(u64)| {
                let all = || order.iter().for_each(|&page| act(black_box(page)));
                group.bench_function(BenchmarkId::new(name, &guest), |bencher| {
                    bencher.iter_custom(|times| {
                        let note = |took| shortest.note(&guest, "marks alone", column, took);
                        Pass { before: &|| (), work: &all, after: &|| () }.timed(times, note)
                    });
                });
            };
            bench("fetch_or", (0, "bare `fetch_or`, a write"), &fetch_or);
            bench("mark", (1, "mark, a write"), &mark);
        }
    }

    pub(crate) fn main() {
        let mut criterion = Criterion::default().configure_from_args();
        let shortest = Shortest::default();
        marks(&mut criterion, &shortest);
        logs(&mut criterion, &shortest);
        criterion.final_summary();
        shortest.print();
    }
}

fn main() {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    linux::main();
}
