use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::units::{ByteCount, Pages, Share};

use super::*;
use crate::config::{GuestConfig, Pattern, WriterConfig};

const PAGES: u64 = 4096;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn run(first: u64, count: u64) -> PageRun {
    PageRun { first: PageNumber(first), count: Pages(count) }
}

fn builder() -> TraceBuilder {
    TraceBuilder::new(ByteCount(PAGES * 4096), PageSize::Kib4).unwrap()
}

#[test]
fn what_is_no_trace_is_refused_and_changes_nothing() {
    assert!(TraceBuilder::new(ByteCount(0), PageSize::Kib4).is_err());
    assert!(TraceBuilder::new(ByteCount(5000), PageSize::Kib4).is_err());
    assert!(TraceBuilder::new(ByteCount::gib(1 << 15), PageSize::Kib4).is_err());
    let mut trace = builder();
    assert_eq!(trace.dirtied(run(0, 1)), Err(TraceError::NoInterval));
    assert!(matches!(trace.interval(ms(0), ms(0)), Err(TraceError::Interval { .. })));
    assert!(matches!(trace.interval(MAX_TIME, ms(1)), Err(TraceError::Interval { .. })));
    assert!(matches!(trace.interval(Duration::MAX, ms(1)), Err(TraceError::Interval { .. })));
    trace.interval(ms(10), ms(50)).unwrap();
    trace.dirtied(run(PAGES - 1, 1)).unwrap();
    for refused in [run(PAGES, 1), run(PAGES - 1, 2), run(0, 0), run(u64::MAX, 2)] {
        assert!(matches!(trace.dirtied(refused), Err(TraceError::Run { .. })), "{refused:?}");
    }
    let overlap = TraceError::Overlap { start: ms(59), end: ms(60) };
    assert_eq!(trace.interval(ms(59), ms(5)), Err(overlap));
    trace.interval(ms(60), ms(5)).unwrap();
    let trace = trace.build();
    assert_eq!((trace.intervals().len(), trace.dirtied(), trace.end()), (2, Pages(1), ms(65)));
}

#[test]
fn the_last_page_that_there_can_be_is_accepted() {
    let mut trace = TraceBuilder::new(ByteCount(MAX_PAGES * 4096), PageSize::Kib4).unwrap();
    trace.interval(ms(0), ms(1)).unwrap();
    trace.dirtied(run(MAX_PAGES - 2, 1)).unwrap();
    trace.dirtied(run(MAX_PAGES - 1, 1)).unwrap();
    assert_eq!(trace.build().touched().collect::<Vec<_>>(), [run(MAX_PAGES - 2, 2)]);
}

#[test]
fn more_dirtied_pages_than_there_may_be_are_refused() {
    let mut trace = TraceBuilder::new(ByteCount(MAX_PAGES * 4096), PageSize::Kib4).unwrap();
    trace.interval(ms(0), ms(1)).unwrap();
    trace.dirtied(run(0, MAX_PAGES)).unwrap();
    trace.interval(ms(1), ms(1)).unwrap();
    assert!(matches!(trace.dirtied(run(0, 1)), Err(TraceError::TooMany { .. })));
}

#[test]
fn a_recording_holds_what_the_guest_dirties() {
    let writer = WriterConfig {
        pattern: Pattern::HotCold,
        hot_pages: Share::percent(10),
        working_set: ByteCount(1000 * 4096),
        offset: Some(ByteCount(37 * 4096)),
        rate: 10_000.0,
        ..WriterConfig::default()
    };
    let config = GuestConfig { memory: ByteCount::mib(16), writers: vec![writer], ..GuestConfig::default() };
    let recording =
        Recording { interval: ms(50), length: ms(20_025), tracking_fault: Duration::ZERO, seed: 3 };
    let trace = record(&config, &recording).unwrap();
    assert_eq!((trace.intervals().len(), trace.end()), (401, ms(20_025)));
    assert_eq!(trace.intervals().next_back().unwrap().length(), ms(25));
    assert!(trace.touched().all(|run| run.first.0 >= 37 && run.end().0 <= 1037));
    // 450 writes to 100 pages, 50 to 900.
    let expected = 100.0 * (1.0 - (-4.5_f64).exp()) + 900.0 * (1.0 - (-50.0 / 900.0_f64).exp());
    let mean = trace.intervals().take(400).map(|interval| interval.pages().0 as f64).sum::<f64>() / 400.0;
    assert!((mean / expected - 1.0).abs() < 0.02, "{mean} pages an interval, expected {expected}");
}

proptest! {
    /// Whatever runs are given, in any order: an interval holds their union, each page once, runs apart.
    #[test]
    fn an_interval_is_the_union_of_its_runs(
        intervals in prop::collection::vec(
            (1_u64..5, 0_u64..3, prop::collection::vec((0..PAGES, 1_u64..200), 0..20)), 0..8),
    ) {
        let (mut trace, mut sets, mut all) = (builder(), Vec::new(), BTreeSet::new());
        for (length, gap, runs) in intervals {
            let start = trace.end() + ms(gap);
            trace.interval(start, ms(length)).unwrap();
            let mut set = BTreeSet::new();
            for (first, count) in runs {
                let count = count.min(PAGES - first);
                trace.dirtied(run(first, count)).unwrap();
                set.extend(first..first + count);
            }
            all.extend(set.iter().copied());
            sets.push((start, set));
        }
        let trace = trace.build();
        prop_assert_eq!(trace.intervals().len(), sets.len());
        let mut dirtied = 0;
        for (interval, (start, set)) in trace.intervals().zip(&sets) {
            prop_assert_eq!(interval.start(), *start);
            let runs: Vec<_> = interval.runs().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end().0 < pair[1].first.0), "{:?}", runs);
            let pages: BTreeSet<u64> = runs.iter().flat_map(|run| run.range()).collect();
            prop_assert_eq!(&pages, set);
            dirtied += set.len() as u64;
        }
        prop_assert_eq!(trace.dirtied(), Pages(dirtied));
        let touched: BTreeSet<u64> = trace.touched().flat_map(PageRun::range).collect();
        prop_assert_eq!(touched, all);
    }
}
