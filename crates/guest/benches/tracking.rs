//! What a guest loses while its writes are recorded: the work that a vCPU gets done in a second, with tracking and without, in turns.
//!
//! `cargo bench -p whimbrel-guest --bench tracking -- [MIB] [PASSES] [idle|busy]`
//!
//! The vCPU is a thread that never rests: so much arithmetic, then one write, and again. Userfaultfd watches all of the guest's memory
//! and is harvested ten times a second, as no migration does for long, by another thread. A pass is half a second without tracking and half a
//! second with it; of all passes the median counts, because machines do other work.
#![allow(missing_docs)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn main() {
    eprintln!("userfaultfd is Linux's");
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::main()
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod linux {
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use whimbrel_core::dirty::PageSet;
    use whimbrel_core::embed::DirtyLog as _;
    use whimbrel_core::layout::{PageSize, RamLayout};
    use whimbrel_core::units::ByteCount;
    use whimbrel_guest::log::UserfaultfdLog;
    use whimbrel_guest::memory::{Backing, GuestMemory};

    type Bad = Box<dyn std::error::Error>;

    /// From one harvest to the next.
    const ROUND: Duration = Duration::from_millis(100);

    /// 64-bit words of a page.
    const WORDS: u64 = 512;

    /// Which page of the working set a write goes to.
    #[derive(Clone, Copy)]
    enum Pattern {
        Uniform,
        Sequential,
        /// Nine of ten writes go to a hundredth of the pages.
        HotCold,
    }

    /// What the vCPU does.
    #[derive(Clone, Copy)]
    struct Program {
        name: &'static str,
        /// Arithmetic between two writes; none: it never writes.
        between: Option<Duration>,
        pattern: Pattern,
        /// Working set, in MiB.
        set: u64,
        backing: Backing,
    }

    const fn program(name: &'static str, us: u64, pattern: Pattern) -> Program {
        let between = Some(Duration::from_micros(us));
        Program { name, between, pattern, set: 256, backing: Backing::Private }
    }

    const PROGRAMS: [Program; 9] = [
        Program { between: None, ..program("idle: computes, writes nothing", 0, Pattern::Uniform) },
        Program { set: 1, ..program("idle: 100 writes/s to 1 MiB", 10_000, Pattern::Uniform) },
        Program { set: 1, ..program("idle: 1,000,000 writes/s to 1 MiB", 1, Pattern::Uniform) },
        program("10,000 writes/s, uniform", 100, Pattern::Uniform),
        program("100,000 writes/s, uniform", 10, Pattern::Uniform),
        program("1,000,000 writes/s, uniform", 1, Pattern::Uniform),
        program("100,000 writes/s, sequential", 10, Pattern::Sequential),
        program("1,000,000 writes/s, 90 % to 1 %", 1, Pattern::HotCold),
        Program {
            backing: Backing::PrivateHuge,
            ..program("100,000 writes/s, uniform, huge pages", 10, Pattern::Uniform)
        },
    ];

    /// What a vCPU got done.
    struct Done {
        /// Units of arithmetic a second.
        rate: f64,
        /// Pages that harvests found, a second.
        found: f64,
    }

    pub(super) fn main() -> Result<(), Bad> {
        let arguments: Vec<String> = std::env::args().collect();
        let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
        // `--test`: whether it still works.
        let test = arguments.iter().any(|argument| argument == "--test");
        let (mib, passes, length) =
            if test { (64, 1, Duration::from_millis(20)) } else { (1024, 7, Duration::from_millis(500)) };
        let (mib, passes) =
            (numbers.first().copied().unwrap_or(mib), numbers.get(1).copied().unwrap_or(passes));
        if let Err(why) = UserfaultfdLog::new(memory(1, Backing::Private)?) {
            println!("skipped: {why}");
            return Ok(());
        }
        let unit = Unit::measured();
        println!(
            "{mib} MiB, {passes} passes, harvested every {ROUND:?}; Munit/s: {:.1} ns of arithmetic\n",
            unit.0
        );
        println!(
            "| the guest | alone | tracked | lost, median | from | to | dirty pages/s | lost a dirty page |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|");
        let idle = arguments.iter().any(|argument| argument == "idle");
        let busy = arguments.iter().any(|argument| argument == "busy");
        for program in PROGRAMS {
            let is_idle = program.name.starts_with("idle");
            if idle && !is_idle || busy && is_idle {
                continue;
            }
            let program = Program { set: program.set.min(mib / 2), ..program };
            let mut pairs = Vec::new();
            let memory = memory(mib, program.backing)?;
            for _ in 0..passes {
                // Tracking breaks huge pages up, and nothing mends them.
                let fresh = if program.backing == Backing::PrivateHuge {
                    self::memory(mib, program.backing)?
                } else {
                    Arc::clone(&memory)
                };
                let alone = run(&fresh, program, &unit, length, false)?;
                pairs.push((alone, run(&fresh, program, &unit, length, true)?));
            }
            print(program.name, &mut pairs);
        }
        Ok(())
    }

    fn print(name: &str, pairs: &mut [(Done, Done)]) {
        let lost = |(alone, tracked): &(Done, Done)| 1.0 - tracked.rate / alone.rate;
        pairs.sort_by(|one, other| lost(one).total_cmp(&lost(other)));
        let (alone, tracked) = &pairs[pairs.len() / 2];
        let middle = lost(&pairs[pairs.len() / 2]);
        let page = if tracked.found > 50.0 {
            format!("{:.0} ns", middle * 1e9 / tracked.found)
        } else {
            String::new()
        };
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} % | {:.2} % | {:.2} % | {:.0} | {page} |",
            alone.rate / 1e6,
            tracked.rate / 1e6,
            middle * 100.0,
            lost(&pairs[0]) * 100.0,
            lost(&pairs[pairs.len() - 1]) * 100.0,
            tracked.found,
        );
    }

    /// Resident memory.
    fn memory(mib: u64, backing: Backing) -> Result<Arc<GuestMemory>, Bad> {
        let layout = RamLayout::contiguous(ByteCount::mib(mib), PageSize::Kib4)?;
        let memory = GuestMemory::new(layout, backing)?;
        memory.populate()?;
        Ok(Arc::new(memory))
    }

    /// One step of arithmetic: the output of `SplitMix64`, which the next one needs.
    fn step(state: u64) -> u64 {
        let value = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// How long a step takes here, nanoseconds.
    struct Unit(f64);

    impl Unit {
        const STEPS: u32 = 2_000_000;

        fn measured() -> Self {
            let mut quickest = f64::INFINITY;
            for _ in 0..5 {
                let (begun, mut state) = (Instant::now(), 0);
                for _ in 0..Self::STEPS {
                    state = step(state);
                }
                black_box(state);
                quickest = quickest.min(begun.elapsed().as_nanos() as f64 / f64::from(Self::STEPS));
            }
            Self(quickest)
        }

        fn steps(&self, time: Duration) -> u64 {
            (time.as_nanos() as f64 / self.0).max(1.0) as u64
        }
    }

    /// Lets the vCPU work for `length`.
    fn run(
        memory: &Arc<GuestMemory>,
        program: Program,
        unit: &Unit,
        length: Duration,
        tracked: bool,
    ) -> Result<Done, Bad> {
        let mut log = UserfaultfdLog::new(Arc::clone(memory) as Arc<_>)?;
        let mut found = PageSet::new(memory.layout().numbers());
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut pages = 0;
        let took = thread::scope(|scope| -> Result<Duration, Bad> {
            scope.spawn(|| work(memory, program, unit, &stop, &done));
            // On its feet.
            thread::sleep(Duration::from_millis(10));
            let mut all = || -> Result<Duration, Bad> {
                if tracked {
                    log.start()?;
                }
                let (begun, before) = (Instant::now(), done.load(Ordering::Relaxed));
                while begun.elapsed() < length {
                    thread::sleep(ROUND.min(length.saturating_sub(begun.elapsed())));
                    if tracked {
                        log.harvest(&mut found)?;
                        pages += found.count().0;
                        found.clear();
                    }
                }
                let (took, after) = (begun.elapsed(), done.load(Ordering::Relaxed));
                done.store(after - before, Ordering::Relaxed);
                Ok(took)
            };
            let took = all();
            stop.store(true, Ordering::Relaxed);
            took
        })?;
        log.stop()?;
        let seconds = took.as_secs_f64();
        Ok(Done { rate: done.load(Ordering::Relaxed) as f64 / seconds, found: pages as f64 / seconds })
    }

    /// What the vCPU's thread does until it is stopped.
    fn work(memory: &GuestMemory, program: Program, unit: &Unit, stop: &AtomicBool, done: &AtomicU64) {
        let Some(words) = memory.region(0) else { return };
        let pages = program.set << 8;
        // It looks up at least so often.
        let longest = unit.steps(Duration::from_micros(100));
        let each = program.between.map_or(u64::MAX, |between| unit.steps(between));
        let (mut state, mut number, mut left) = (1, 0_u64, each);
        while !stop.load(Ordering::Relaxed) {
            let steps = left.min(longest);
            for _ in 0..steps {
                state = step(state);
            }
            done.fetch_add(steps, Ordering::Relaxed);
            left -= steps;
            if left > 0 {
                continue;
            }
            left = each;
            number += 1;
            let page = match program.pattern {
                Pattern::Uniform => state % pages,
                Pattern::Sequential => number % pages,
                Pattern::HotCold if state % 10 < 9 => (state / 10) % (pages / 100).max(1),
                Pattern::HotCold => (state / 10) % pages,
            };
            if let Some(word) = words.get((page * WORDS) as usize) {
                word.store(state, Ordering::Relaxed);
            }
        }
    }
}
