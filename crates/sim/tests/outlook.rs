//! Outlooks: asking for them changes nothing, progress never falls, and a steady guest's end is known.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::policy::presets::{self, PRESETS};
use whimbrel_core::report::Outcome;
use whimbrel_core::units::{Bandwidth, ByteCount, Timestamp};
use whimbrel_sim::config::{GuestConfig, Outage, Pattern, WriterConfig};
use whimbrel_sim::{Run, Setup, observe, simulate};

fn setup(preset: &str, pattern: Pattern, rate: f64) -> Setup {
    let writer = WriterConfig { pattern, rate, working_set: ByteCount::mib(16), ..WriterConfig::default() };
    let guest = GuestConfig { memory: ByteCount::mib(128), writers: vec![writer], ..GuestConfig::default() };
    let mut setup = Setup::new(guest, presets::build(preset, &BTreeMap::new()).unwrap());
    setup.time_limit = Duration::from_secs(12);
    setup
}

fn foreseen(setup: &Setup) -> Run {
    simulate(&Setup { outlook: true, ..setup.clone() }).unwrap()
}

#[test]
fn asking_for_outlooks_changes_nothing_and_progress_never_falls() {
    for preset in PRESETS {
        for rate in [2_000.0, 60_000.0] {
            let setup = setup(preset.name, Pattern::HotCold, rate);
            let mut run = foreseen(&setup);
            let outlooks: Vec<_> = run.report.rounds.iter_mut().map(|round| round.outlook.take()).collect();
            assert_eq!(run.report, simulate(&setup).unwrap().report, "{} at {rate}", preset.name);
            let known: Vec<_> = outlooks.into_iter().flatten().collect();
            for pair in known.windows(2) {
                assert!(pair[0].progress <= pair[1].progress, "{}: {pair:?}", preset.name);
            }
            for outlook in known {
                assert!(outlook.remaining.is_none_or(|middle| outlook.low <= middle), "{outlook:?}");
                assert!(outlook.high.is_none_or(|high| Some(high) >= outlook.remaining), "{outlook:?}");
                assert!(outlook.progress.as_f64() < 1.0, "it is not over yet");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn progress_never_falls_whatever_the_guest_and_the_policy(
        preset in 0..PRESETS.len(),
        pattern in prop::sample::select(vec![Pattern::Uniform, Pattern::HotCold, Pattern::Zipf, Pattern::Sequential]),
        rate in 100.0..200_000.0f64,
        set in 1u64..96,
        look in prop::option::of(1u64..2_000),
    ) {
        let mut setup = setup(PRESETS[preset].name, pattern, rate);
        setup.guest.writers[0].working_set = ByteCount::mib(set);
        setup.look = look.map(Duration::from_millis);
        let outlooks: Vec<_> = foreseen(&setup).report.rounds.iter().filter_map(|round| round.outlook).collect();
        for pair in outlooks.windows(2) {
            prop_assert!(pair[0].progress <= pair[1].progress, "{pair:?}");
        }
        for outlook in outlooks {
            prop_assert!(outlook.progress.as_f64() <= 1.0);
            prop_assert!(outlook.high.is_none_or(|high| outlook.low <= high), "{outlook:?}");
        }
    }
}

#[test]
fn the_end_of_a_steady_guest_is_foreseen_after_the_bulk_round() {
    for preset in ["qemu-default", "xen-5", "cloud-hypervisor", "hyperv-5", "whimbrel"] {
        let look = Some(Duration::from_secs(1));
        let run = foreseen(&Setup { look, ..setup(preset, Pattern::Uniform, 6_000.0) });
        assert_eq!(run.report.outcome, Outcome::Completed);
        let round = run.report.rounds.iter().find(|round| round.outlook.is_some()).expect("foreseen");
        let outlook = round.outlook.unwrap();
        let left = run.report.total.as_secs_f64() - round.started.as_secs_f64();
        let middle = outlook.remaining.expect("it converges").as_secs_f64();
        assert!((middle / left - 1.0).abs() < 0.25, "{preset}: {left} s were left, foreseen {outlook:?}");
        let high = outlook.high.map_or(f64::INFINITY, |high| high.as_secs_f64());
        assert!(outlook.low.as_secs_f64() <= left && left <= high, "{preset}: {left} s, {outlook:?}");
    }
}

#[test]
fn a_migration_that_has_no_end_is_forecast_to_end_at_its_limit() {
    let mut setup = setup("qemu-default", Pattern::Uniform, 300_000.0);
    setup.guest.writers[0].working_set = ByteCount::mib(64);
    let run = foreseen(&setup);
    assert_eq!(run.report.outcome, Outcome::TimedOut);
    for round in &run.report.rounds {
        let Some(outlook) = round.outlook else { continue };
        let left = setup.time_limit.saturating_sub(outlook.at.since(Timestamp::ZERO));
        assert_eq!(outlook.remaining, Some(left));
        assert!(outlook.high.is_some_and(|high| left <= high), "{outlook:?}");
    }
}

#[test]
fn a_look_before_the_start_narrows_the_forecast_and_changes_nothing_else() {
    let setup = setup("xen-5", Pattern::Uniform, 6_000.0);
    let (blind, seen) =
        (foreseen(&setup), foreseen(&Setup { look: Some(Duration::from_secs(1)), ..setup.clone() }));
    let first = |run: &Run| run.report.rounds.iter().find_map(|round| round.outlook).expect("foreseen");
    let width = |run: &Run| first(run).high.expect("it converges").saturating_sub(first(run).low);
    assert!(width(&seen) < width(&blind), "{:?}, {:?}", first(&seen), first(&blind));
    assert_eq!(seen.report.total, blind.report.total);
    let look = observe(&setup, Duration::from_secs(1)).unwrap();
    // 6,000 writes a second into 4,096 pages dirty 4,096·(1 − e^(−t·6,000/4,096)) of them in t.
    assert!(look.lost.as_f64() > 0.0, "tracking is felt");
}

/// The first forecast of a run of this setup, and what was left then, in seconds.
fn first(setup: &Setup) -> (f64, f64) {
    let run = foreseen(setup);
    let round = run.report.rounds.iter().find(|round| round.outlook.is_some()).expect("foreseen");
    let outlook = round.outlook.expect("found by it");
    let remaining = outlook.remaining.expect("it ends");
    (remaining.as_secs_f64(), run.report.total.as_secs_f64() - outlook.at.as_secs_f64())
}

#[test]
fn the_way_there_and_back_is_in_the_forecast() {
    for preset in ["xen-5", "cloud-hypervisor", "whimbrel"] {
        let mut setup = setup(preset, Pattern::HotCold, 2_000.0);
        setup.look = Some(Duration::from_secs(1));
        setup.link.bandwidth = Bandwidth::new(25_000_000).unwrap();
        setup.link.round_trip = Duration::from_millis(60);
        let (remaining, left) = first(&setup);
        assert!((remaining / left - 1.0).abs() < 0.1, "{preset}: {left} s were left, {remaining} s foreseen");
    }
}

#[test]
fn an_outage_that_is_over_does_not_slow_the_forecast() {
    let mut setup = setup("qemu-default", Pattern::HotCold, 2_000.0);
    setup.look = Some(Duration::from_secs(1));
    setup.link.bandwidth = Bandwidth::new(25_000_000).unwrap();
    setup.link.outages = vec![Outage { at: Duration::from_secs(4), length: Duration::from_secs(1) }];
    let (remaining, left) = first(&setup);
    assert!((remaining / left - 1.0).abs() < 0.1, "{left} s were left, {remaining} s foreseen");
}

#[test]
fn intervals_hold_nine_of_ten_ends_and_three_of_ten_are_narrow_for_guests_that_go_on_as_they_are() {
    let guests = [(Pattern::Uniform, 6_000.0), (Pattern::HotCold, 20_000.0), (Pattern::Zipf, 40_000.0)];
    // By forecast: whether its interval held the end, its width over what was left, and its weight.
    let mut forecasts = Vec::new();
    for preset in PRESETS {
        for (pattern, rate) in guests {
            let mut setup = setup(preset.name, pattern, rate);
            setup.guest.writers[0].working_set = ByteCount::mib(48);
            setup.look = Some(Duration::from_millis(500));
            let run = foreseen(&setup);
            let end = run.report.total.as_secs_f64();
            let known: Vec<_> = run.report.rounds.iter().filter_map(|round| round.outlook).collect();
            for outlook in &known {
                let left = end - outlook.at.as_secs_f64();
                let (low, high) =
                    (outlook.low.as_secs_f64(), outlook.high.expect("a limit is known").as_secs_f64());
                forecasts.push(((low..=high).contains(&left), (high - low) / left, 1.0 / known.len() as f64));
            }
        }
    }
    let all: f64 = forecasts.iter().map(|forecast| forecast.2).sum();
    let held: f64 = forecasts.iter().filter(|forecast| forecast.0).map(|forecast| forecast.2).sum();
    let narrow: f64 = forecasts.iter().filter(|forecast| forecast.1 <= 0.3).map(|forecast| forecast.2).sum();
    assert!(held / all >= 0.86, "{} of {all} runs are held", held / all);
    // Measured: 0.31. Guests as small as these are over after a few rounds, most of them seen for the first time.
    assert!(narrow / all >= 0.27, "{} of {all} runs have an interval of less than 30 %", narrow / all);
}
