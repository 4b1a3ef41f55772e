//! The fluid simulation is the mean of exact runs: over all patterns, random guests, links and policies, wherever
//! it does not say itself that the outcome hung on chance.

mod cases;
mod comparison;
mod presets;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use whimbrel_sim::config::Fidelity;
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

    /// Policies that look while a round is sent. (Where memory passes in less than about a second, the first
    /// looks at the bandwidth decide, and the result mostly says that it hung on chance.)
    #[test]
    fn with_ticks_it_is_the_mean_of_exact_runs(setup in Kind::of(&["qemu-default"]).slow().setups()) {
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
