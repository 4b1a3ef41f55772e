//! The fluid simulation is the mean of exact runs: over all patterns, random guests, links and policies, wherever
//! it does not say itself that the outcome hung on chance.

mod cases;
mod comparison;
mod post_copy;
mod presets;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use whimbrel_core::policy::presets as core_presets;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_sim::config::{Fidelity, GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::{GuestAt, Setup, Simulator, simulate};

use self::cases::Kind;
use self::comparison::{Comparison, compare};

/// Policies that look between rounds only.
const ROUND_BY_ROUND: &[&str] =
    &["xen-5", "fixed-rounds", "quick", "cloud-hypervisor", "ch-legacy", "hyperv-5"];

fn is_the_mean(setup: &Setup) -> Result<(), TestCaseError> {
    match compare(setup) {
        Comparison::Near | Comparison::Within => Ok(()),
        Comparison::Beyond(difference) => Err(TestCaseError::fail(difference.to_string())),
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(64))]

    /// Policies that look between rounds only.
    #[test]
    fn round_by_round_it_is_the_mean_of_exact_runs(setup in Kind::of(ROUND_BY_ROUND).setups()) {
        is_the_mean(&setup)?;
    }

    /// The totals are those of the run, and nothing of one migration is left in the next.
    #[test]
    fn a_simulator_gives_the_same_again_and_again(
        setups in prop::collection::vec(Kind::of(&["xen-5", "cloud-hypervisor", "qemu-default"]).setups(), 1..4),
    ) {
        let mut simulator = Simulator::default();
        for setup in setups.iter().chain(setups.iter().rev()) {
            let totals = simulator.run(setup).unwrap();
            let run = simulate(&Setup { fidelity: Fidelity::Fluid, ..setup.clone() }).unwrap();
            prop_assert_eq!(totals.outcome, run.report.outcome);
            prop_assert_eq!(totals.total, run.report.total);
            prop_assert_eq!(totals.downtime, run.report.downtime);
            prop_assert_eq!((totals.sent, totals.sent_pages), (run.report.sent, run.report.sent_pages));
            prop_assert_eq!(totals.rounds as usize, run.report.rounds.len());
            prop_assert_eq!(totals.disruption, run.disruption);
            prop_assert_eq!(totals.near_threshold, run.near_threshold);
            prop_assert!(run.clean && run.guest_at != GuestAt::Both);
        }
    }
}

proptest! {
    #![proptest_config(config(64))]

    /// A simulator keeps memory from run to run and nothing else, however the runs end; and what it says of one is
    /// what the report of that run says.
    #[test]
    fn a_run_is_the_same_whatever_ran_before(
        setups in prop::collection::vec(
            (Kind::of(&["qemu-default", "xen-5", "cloud-hypervisor", "qemu-auto-converge"]).setups(),
             0u64..20_000, 0u8..8),
            2..6,
        ),
    ) {
        let mut simulator = Simulator::default();
        for (mut setup, at, how) in setups {
            let at = Duration::from_millis(at);
            match how {
                0 => setup.link.lost_at = Some(at),
                1 => setup.time_limit = at,
                2 => setup.link.round_trip = at / 100,
                3 => setup.host.persist = at / 10,
                // Refused.
                4 => setup.guest.vcpus = 0,
                _ => {}
            }
            let fresh = Simulator::default().run_and_tell(&setup).map_err(|error| error.to_string());
            let told = simulator.run_and_tell(&setup).map_err(|error| error.to_string());
            prop_assert_eq!(&told, &fresh);
            let run = simulate(&Setup { fidelity: Fidelity::Fluid, ..setup });
            prop_assert_eq!(run.is_ok(), told.is_ok());
            if let (Ok(run), Ok((totals, why))) = (run, told) {
                let report = &run.report;
                prop_assert_eq!((totals.outcome, totals.total, totals.sent), (report.outcome, report.total, report.sent));
                prop_assert_eq!((totals.rounds as usize, why), (report.rounds.len(), report.why.clone()));
            }
        }
    }
}

/// Policies that look while a round is sent: of 64 cases, all the same every time, one may be beyond the bounds. (Where
/// memory passes in less than about a second, the first looks at the bandwidth decide, and the result mostly says that
/// it hung on chance.)
fn all_but_one_are_the_mean(kind: &Kind) {
    let mut runner = TestRunner::deterministic();
    let setups = kind.setups();
    let comparisons: Vec<Comparison> =
        (0..64).map(|_| compare(&setups.new_tree(&mut runner).unwrap().current())).collect();
    let beyond: Vec<_> =
        comparisons.iter().filter(|comparison| matches!(comparison, Comparison::Beyond(_))).collect();
    let compared = comparisons.iter().filter(|comparison| **comparison != Comparison::Near).count();
    assert!(compared >= 12, "{compared} compared");
    assert!(beyond.len() <= 1, "{beyond:?}");
}

#[test]
fn with_ticks_it_is_the_mean_of_exact_runs() {
    all_but_one_are_the_mean(&Kind::of(&["qemu-default"]).slow());
}

/// On links of 1 to 25 Gbit/s, with buffers as connections over them have.
#[test]
fn with_ticks_on_fast_links_it_is_the_mean_of_exact_runs() {
    all_but_one_are_the_mean(&Kind::of(&["qemu-default"]).fast());
}

/// Clark's rule compares rates.
#[test]
fn with_limits_that_follow_the_guest_it_is_the_mean_of_exact_runs() {
    all_but_one_are_the_mean(&Kind::of(&["clark-2005"]));
}

/// A manager's poll and few enough pages may come in the same tick, and which of them comes first is chance.
#[test]
fn where_a_poll_comes_with_the_threshold_it_is_the_mean_of_exact_runs() {
    let given = [("downtime".to_owned(), "50ms".to_owned())].into_iter().collect();
    let policy = core_presets::build("proxmox", &given).unwrap();
    let guest = GuestConfig { memory: ByteCount::mib(200), ..GuestConfig::default() };
    let mut compared = 0;
    for megabytes in (60..100).step_by(2) {
        let mut setup = Setup::new(guest.clone(), policy.clone());
        setup.link.bandwidth = Bandwidth::new(megabytes * 1_000_000).unwrap();
        setup.link.buffer = ByteCount::kib(600);
        setup.journal = false;
        let comparison = compare(&setup);
        assert!(!matches!(comparison, Comparison::Beyond(_)), "{megabytes} MB/s: {comparison:?}");
        compared += usize::from(comparison == Comparison::Within);
    }
    assert!(compared >= 15, "{compared}");
}

/// What a tick finds in memory that is dirty everywhere hangs on slices of two lengths, which follow each other by a rule.
#[test]
fn with_small_buffers_it_is_the_mean_of_exact_runs() {
    let given = [("downtime-limit", "60ms"), ("vcpu-dirty-limit", "8MiB/s")];
    let given = given.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let policy = core_presets::build("qemu-dirty-limit", &given).unwrap();
    let mut compared = 0;
    for (megabytes, kib) in (110..134).step_by(6).flat_map(|megabytes| [(megabytes, 352), (megabytes, 720)]) {
        let bandwidth = Bandwidth::new(megabytes * 1_000_000).unwrap();
        let writer = WriterConfig {
            pattern: Pattern::Sequential,
            working_set: ByteCount::mib(140),
            rate: 1.4 * bandwidth.as_f64() / 4096.0,
            ..WriterConfig::default()
        };
        let guest =
            GuestConfig { memory: ByteCount::mib(180), writers: vec![writer], ..GuestConfig::default() };
        let mut setup = Setup::new(guest, policy.clone());
        setup.link.bandwidth = bandwidth;
        setup.link.buffer = ByteCount::kib(kib);
        setup.journal = false;
        let comparison = compare(&setup);
        assert!(!matches!(comparison, Comparison::Beyond(_)), "{megabytes} MB/s, {kib} KiB: {comparison:?}");
        compared += usize::from(comparison == Comparison::Within);
    }
    assert!(compared >= 6, "{compared}");
}

/// Rounds that are put away are listed with the others.
#[test]
fn a_run_of_many_rounds_tells_all_of_them() {
    let writer = WriterConfig { working_set: ByteCount::mib(48), rate: 100_000.0, ..WriterConfig::default() };
    let guest = GuestConfig { memory: ByteCount::mib(64), writers: vec![writer], ..GuestConfig::default() };
    let policy = core_presets::build("qemu-default", &BTreeMap::new()).unwrap();
    let mut setup = Setup::new(guest, policy);
    setup.fidelity = Fidelity::Fluid;
    setup.link.bandwidth = Bandwidth::new(20_000_000).unwrap();
    let run = simulate(&setup).unwrap();
    let rounds = &run.report.rounds;
    assert!(rounds.len() > 200, "{}", rounds.len());
    assert!(rounds.iter().zip(0..).all(|(round, number)| round.round == number));
    assert!(rounds.windows(2).all(|pair| pair[0].started + pair[0].length <= pair[1].started));
    assert_eq!(Simulator::default().run(&setup).unwrap().rounds as usize, rounds.len());
}
