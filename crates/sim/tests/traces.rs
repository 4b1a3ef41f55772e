//! A guest that plays back a trace: what harvests find, what throttles and pauses do to it, and that a trace of a
//! guest migrates as the guest does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::policy::presets;
use whimbrel_core::report::Outcome;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, CpuShare, Pages, Share, Timestamp};
use whimbrel_sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::guest::{Detail, Guest};
use whimbrel_sim::trace::{NamedTrace, Recording, Trace, TraceBuilder, record};
use whimbrel_sim::{GuestAt, Run, Setup, simulate};

const PAGES: u64 = 640;

fn run_of(first: u64, count: u64) -> PageRun {
    PageRun { first: PageNumber(first), count: Pages(count) }
}

/// A guest whose only writer plays back `trace`.
fn guest(trace: Trace, change: impl FnOnce(&mut WriterConfig)) -> GuestConfig {
    let memory = trace.memory();
    let mut writer = WriterConfig {
        pattern: Pattern::Trace,
        trace: Some(NamedTrace::new("trace.csv", trace)),
        ..WriterConfig::default()
    };
    change(&mut writer);
    GuestConfig { memory, writers: vec![writer], ..GuestConfig::default() }
}

fn tracked(config: &GuestConfig, seed: u64, detail: Detail) -> Guest {
    let mut guest = Guest::new(config, seed).unwrap().with_detail(detail);
    guest.start_tracking(Timestamp::ZERO, Duration::from_micros(3));
    guest
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

fn harvest(guest: &mut Guest, now: Timestamp) -> BTreeSet<u64> {
    let mut pages = BTreeSet::new();
    let found = guest.harvest(now, |word, mask| {
        for bit in (0..64).filter(|bit| mask >> bit & 1 != 0) {
            assert!(pages.insert(word as u64 * 64 + bit), "a page came twice");
        }
    });
    assert_eq!(found.dirty.0, pages.len() as u64);
    pages
}

/// Intervals of this many milliseconds, gaps before them, and their runs.
type Plan = Vec<(u64, u64, Vec<(u64, u64)>)>;

fn trace_of(plan: &Plan) -> Trace {
    let mut trace = TraceBuilder::new(ByteCount(PAGES * 4096), PageSize::Kib4).unwrap();
    for (length, gap, runs) in plan {
        let start = trace.end() + Duration::from_millis(*gap);
        trace.interval(start, Duration::from_millis(*length)).unwrap();
        for (first, count) in runs {
            trace.dirtied(run_of(*first, (*count).min(PAGES - first))).unwrap();
        }
    }
    trace.build()
}

fn plan() -> impl Strategy<Value = Plan> {
    let runs = prop::collection::vec((0..PAGES, 1_u64..100), 0..6);
    let gap = prop_oneof![3 => Just(0), 1 => 1_u64..30];
    prop::collection::vec((1_u64..60, gap, runs), 1..8)
}

/// The pages of the intervals that lie within `from..to` milliseconds, and of those that reach into it.
fn covered(trace: &Trace, from: u64, to: u64, repeat: bool) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut inside, mut near) = (BTreeSet::new(), BTreeSet::new());
    let length = trace.end().as_millis() as u64;
    for round in 0..=if repeat { to / length } else { 0 } {
        for interval in trace.intervals() {
            let begin = interval.start().as_millis() as u64 + round * length;
            let end = interval.end().as_millis() as u64 + round * length;
            let pages = || interval.runs().flat_map(PageRun::range);
            if from <= begin && end <= to {
                inside.extend(pages());
            }
            if begin < to && from < end {
                near.extend(pages());
            }
        }
    }
    (inside, near)
}

proptest! {
    /// A harvest finds all pages of the intervals that it covers, and no others than those of intervals that it
    /// touches: where it covers whole ones, exactly their union.
    #[test]
    fn a_harvest_finds_the_union_of_the_intervals_that_it_covers(
        plan in plan(), cuts in prop::collection::vec(0_u64..700, 1..12), repeat in any::<bool>(), seed in 0_u64..9,
        from in 0_u64..200,
    ) {
        let trace = trace_of(&plan);
        // It begins within the trace.
        let from = from % trace.end().as_millis() as u64;
        let change = |writer: &mut WriterConfig| {
            (writer.repeat, writer.trace_from) = (repeat, Duration::from_millis(from));
        };
        let mut guest = tracked(&guest(trace.clone(), change), seed, Detail::Rounds);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let mut before = 0;
        for cut in cuts {
            let found = harvest(&mut guest, at(cut));
            let (inside, near) = covered(&trace, from + before, from + cut, repeat);
            prop_assert!(inside.is_subset(&found), "{:?}", inside.difference(&found));
            prop_assert!(found.is_subset(&near), "{:?}", found.difference(&near));
            before = cut;
        }
    }

    /// Looked at in pieces or word by word, it has written the same pages.
    #[test]
    fn pieces_find_together_what_one_harvest_finds(
        plan in plan(), cuts in prop::collection::vec(0_u64..400, 1..8), repeat in any::<bool>(), seed in 0_u64..9,
    ) {
        let config = guest(trace_of(&plan), |writer| writer.repeat = repeat);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let end = *cuts.last().unwrap();
        let whole = harvest(&mut tracked(&config, seed, Detail::Rounds), at(end));
        let mut guest = tracked(&config, seed, Detail::Rounds);
        let pieces: BTreeSet<u64> = cuts.iter().flat_map(|cut| harvest(&mut guest, at(*cut))).collect();
        prop_assert_eq!(&pieces, &whole);
        let mut guest = tracked(&config, seed, Detail::Words);
        for (index, cut) in cuts.iter().enumerate() {
            let _ = guest.dirtied_mask(index % 10, at(*cut));
        }
        prop_assert_eq!(&harvest(&mut guest, at(end)), &whole);
    }

    /// Whatever the trace, the policy and the link: the copy is the guest's memory, nothing is left behind, and
    /// the same setup gives the same run.
    #[test]
    fn a_trace_is_migrated_as_any_guest(
        plan in plan(), repeat in any::<bool>(), busy in 0_u32..=100, megabits in 20_u64..2000,
        preset in prop::sample::select(presets::PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>()),
        every_tick in any::<bool>(), skip_redirtied in any::<bool>(), cache in any::<bool>(), seed in 0_u64..9,
    ) {
        let config = guest(trace_of(&plan), |writer| {
            (writer.repeat, writer.busy) = (repeat, Share::clamped(f64::from(busy) / 100.0));
        });
        let mut setup = Setup::new(config, presets::build(preset, &BTreeMap::new()).unwrap());
        setup.link.bandwidth = Bandwidth::new(megabits * 125_000).unwrap();
        setup.host.skip_redirtied = skip_redirtied;
        setup.host.xbzrle.cache = cache.then(|| ByteCount::mib(1));
        (setup.seed, setup.witness, setup.time_limit) = (seed, true, Duration::from_secs(20));
        let run = simulate(&setup).unwrap();
        if run.report.outcome == Outcome::Completed {
            prop_assert_eq!(run.copy_exact, Some(true), "{}", &run.report.why);
        }
        prop_assert!(run.clean);
        prop_assert!(matches!(run.guest_at, GuestAt::Source | GuestAt::Destination));
        let again = simulate(&Setup { every_tick, ..setup.clone() }).unwrap();
        prop_assert_eq!(&again.report, &run.report);
    }
}

fn even(pages: u64) -> Trace {
    // A hundred intervals of 10 ms; each dirties pages of its own.
    trace_of(&(0..100).map(|index| (10, 0, vec![(index * pages, pages)])).collect())
}

#[test]
fn its_time_advances_as_far_as_the_guest_runs() {
    let throttled = |share: f64, busy: u8, catch_up: u64| {
        let config = guest(even(6), |writer| {
            writer.busy = Share::percent(busy);
            writer.catch_up = Duration::from_millis(catch_up);
        });
        let mut guest = tracked(&config, 1, Detail::Rounds);
        let share = CpuShare::clamped(share);
        guest.set_throttle(Timestamp::ZERO, Throttle::DutyCycle { share, run: Duration::from_millis(10) });
        harvest(&mut guest, at(800)).len()
    };
    // 800 ms of the trace are 80 intervals; it sleeps half of the time.
    assert_eq!(throttled(0.0, 100, 50), 480);
    assert_eq!(throttled(0.5, 100, 50), 240);
    assert_eq!(throttled(0.75, 100, 50), 120);
    // Who was busy for half of the time catches up what half of a vCPU allows, if it means to.
    assert_eq!(throttled(0.5, 50, 50), 480);
    assert_eq!(throttled(0.5, 50, 0), 240);
    // 200 ms of pause.
    let mut guest = tracked(&guest(even(6), |_| {}), 1, Detail::Rounds);
    guest.pause(at(100));
    guest.resume(at(300));
    assert_eq!(harvest(&mut guest, at(800)).len(), 360);
}

#[test]
fn a_window_within_an_interval_finds_hot_pages_rather_than_cold_ones() {
    // Page 0 in all intervals, each of the others in one of a hundred.
    let plan = (0..100).map(|index| (50, 0, vec![(0, 1), (1 + index * 5, 5)])).collect();
    let config = guest(trace_of(&plan), |_| {});
    let (mut hot, mut cold) = (0, 0);
    for seed in 0..400 {
        let mut guest = tracked(&config, seed, Detail::Rounds);
        harvest(&mut guest, at(20));
        let found = harvest(&mut guest, at(30));
        hot += u32::from(found.contains(&0));
        cold += found.iter().filter(|page| **page > 0).count();
    }
    // λ is ln 200 = 5.3, so 1 − exp(−5.3/5) = 65 %; a fifth of five pages in 400 tries.
    assert!((220..300).contains(&hot), "{hot}");
    assert!((340..460).contains(&cold), "{cold}");
}

#[test]
fn what_is_not_of_the_guest_is_refused_by_its_key() {
    let fault = |config: &GuestConfig| config.validate().expect_err("refused").to_string();
    let mut config = guest(even(6), |_| {});
    config.validate().unwrap();
    config.memory = ByteCount(599 * 4096);
    assert!(
        fault(&config).contains("`guest.writers.0.trace` cannot be trace.csv, which goes up to page 599")
    );
    config = guest(even(6), |_| {});
    (config.page_size, config.memory) = (PageSize::Mib2, ByteCount::gib(2));
    assert!(fault(&config).contains("a trace with the guest's pages of 2MiB"));
    config = guest(even(6), |writer| writer.trace = Some(NamedTrace::unloaded("t.csv")));
    assert!(
        fault(&config).contains("`guest.writers.0.trace` cannot be t.csv: accepted is a trace that was read")
    );
    config = guest(even(6), |writer| writer.trace = None);
    assert!(fault(&config).contains("cannot be none"));
    config = guest(even(6), |writer| writer.offset = Some(ByteCount(4096)));
    assert!(fault(&config).contains("guest.writers.0.offset"));
}

#[test]
fn zero_pages_may_lie_between_the_pages_of_a_trace() {
    let plan = vec![(10, 0, vec![(0, 1), (PAGES - 1, 1)])];
    let mut config = guest(trace_of(&plan), |_| {});
    config.zero_pages = Share::clamped(0.9);
    assert_eq!(Guest::new(&config, 0).unwrap().zero_pages(), Pages(576));
}

/// Migrations of a guest and of traces of it, under four seeds: total seconds, downtime, MiB, rounds.
fn compared(writer: &WriterConfig, interval: u64, megabits: u64, preset: &str) -> [[f64; 4]; 2] {
    let config =
        GuestConfig { memory: ByteCount::mib(192), writers: vec![writer.clone()], ..GuestConfig::default() };
    let runs = |of: &dyn Fn(u64) -> GuestConfig| {
        let mut sums = [0.0; 4];
        for seed in 0..4 {
            let mut setup = Setup::new(of(seed), presets::build(preset, &BTreeMap::new()).unwrap());
            setup.link.bandwidth = Bandwidth::new(megabits * 125_000).unwrap();
            (setup.seed, setup.journal, setup.time_limit) = (seed, false, Duration::from_mins(2));
            let Run { report, .. } = simulate(&setup).unwrap();
            let figures = [
                report.total.as_secs_f64(),
                report.downtime.total().as_secs_f64(),
                report.sent.as_f64() / f64::from(1 << 20),
                report.rounds.len() as f64,
            ];
            sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure / 4.0);
        }
        sums
    };
    let recording = |seed| Recording {
        interval: Duration::from_millis(interval),
        length: Duration::from_secs(8),
        tracking_fault: Duration::from_micros(3),
        seed: seed + 100,
    };
    let model = runs(&|_| config.clone());
    let replayed = runs(&|seed| guest(record(&config, &recording(seed)).unwrap(), |_| {}));
    [model, replayed]
}

/// Stated in `docs/traces.md`: total time and bytes within 1 %, downtime within 5 %, rounds within 10 %.
#[test]
fn a_trace_of_a_guest_migrates_as_the_guest() {
    let of = |pattern, mib, rate| WriterConfig {
        pattern,
        working_set: ByteCount::mib(mib),
        rate,
        ..WriterConfig::default()
    };
    for (writer, interval, megabits, preset) in [
        (of(Pattern::Uniform, 128, 8_000.0), 50, 1000, "qemu-default"),
        (of(Pattern::Uniform, 64, 20_000.0), 50, 1000, "qemu-default"),
        (of(Pattern::HotCold, 128, 20_000.0), 50, 1000, "qemu-default"),
        (of(Pattern::HotCold, 128, 20_000.0), 200, 1000, "xen-5"),
        (of(Pattern::Zipf, 128, 20_000.0), 50, 1000, "qemu-default"),
        (of(Pattern::Sequential, 128, 8_000.0), 50, 1000, "qemu-default"),
        (of(Pattern::Zipf, 64, 30_000.0), 20, 500, "cloud-hypervisor"),
    ] {
        let [model, replayed] = compared(&writer, interval, megabits, preset);
        for (index, bound) in [0.01, 0.05, 0.01, 0.1].into_iter().enumerate() {
            let off = replayed[index] / model[index] - 1.0;
            assert!(
                off.abs() < bound,
                "{:?} {interval} ms {preset}: figure {index} is off by {off:.3}, {model:?} {replayed:?}",
                writer.pattern
            );
        }
    }
}
