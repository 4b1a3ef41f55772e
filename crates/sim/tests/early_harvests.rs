//! Harvests inside a round, as `whimbrel` makes them: what they keep, and what is in flight then.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::policy::presets;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::ByteCount;
use whimbrel_sim::config::{Fidelity, GuestConfig, LinkConfig, Pattern, WriterConfig};
use whimbrel_sim::{Run, Setup, simulate};

const DOWNTIME: Duration = Duration::from_millis(300);

/// A log that is appended to and an index that is written all the time, over 1 Gbit/s.
fn run(fidelity: Fidelity, seed: u64) -> Run {
    let log = WriterConfig {
        pattern: Pattern::Sequential,
        working_set: ByteCount::mib(512),
        rate: 11_000.0,
        ..WriterConfig::default()
    };
    let index = WriterConfig { working_set: ByteCount::mib(40), rate: 36_000.0, ..WriterConfig::default() };
    let guest =
        GuestConfig { memory: ByteCount::mib(768), writers: vec![log, index], ..GuestConfig::default() };
    let told = [("downtime", "300ms"), ("deadline", "1min"), ("host-fixed", "5ms"), ("host-state", "1MiB")];
    let told: BTreeMap<String, String> = told.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let mut setup = Setup::new(guest, presets::build("whimbrel", &told).unwrap());
    setup.link = LinkConfig { bandwidth: "1Gbit/s".parse().unwrap(), ..LinkConfig::default() };
    (setup.fidelity, setup.seed) = (fidelity, seed);
    simulate(&setup).unwrap()
}

#[test]
fn they_keep_a_downtime_that_whole_rounds_do_not_and_what_is_in_flight_is_counted() {
    for seed in 0..4 {
        let run = run(Fidelity::Exact, seed);
        assert_eq!(run.report.outcome, Outcome::Completed, "{}", run.report.why);
        assert!(run.report.downtime.total() <= DOWNTIME, "{:?}", run.report.downtime);
        let early = run.report.rounds.iter().filter(|round| round.left_over.0 > 0).count();
        assert!(early > 0, "whole rounds do, too");
    }
}

#[test]
fn fluid_runs_make_them_too() {
    let run = run(Fidelity::Fluid, 0);
    assert_eq!(run.report.outcome, Outcome::Completed, "{}", run.report.why);
    assert!(run.report.rounds.iter().any(|round| round.left_over.0 > 0));
    assert!(run.report.downtime.total() <= DOWNTIME, "{:?}", run.report.downtime);
}
