//! Outlooks: asking for them changes nothing, progress never falls, and a steady guest's end is known.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::policy::presets::{self, PRESETS};
use whimbrel_core::report::Outcome;
use whimbrel_core::units::ByteCount;
use whimbrel_sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::{Run, Setup, simulate};

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

#[test]
fn the_end_of_a_steady_guest_is_foreseen_after_the_bulk_round() {
    for preset in ["qemu-default", "xen-5", "cloud-hypervisor", "hyperv-5", "whimbrel"] {
        let run = foreseen(&setup(preset, Pattern::Uniform, 6_000.0));
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
fn no_end_is_promised_of_a_migration_that_has_none() {
    let run = foreseen(&setup("qemu-default", Pattern::Uniform, 300_000.0));
    assert_eq!(run.report.outcome, Outcome::TimedOut);
    let last = run.report.rounds.iter().rev().find_map(|round| round.outlook).expect("foreseen");
    assert_eq!((last.remaining, last.high), (None, None));
}
