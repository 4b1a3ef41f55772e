//! What a guest waits for after a post-copy handover is the mean of exact runs: not only until it shows itself, which is
//! downtime and compared elsewhere, but how often it asks and how long its vCPUs stand in all.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use whimbrel_sim::config::{Fidelity, Pattern};
use whimbrel_sim::{Run, Setup, simulate};

use super::cases::{Kind, Parameters};

const RUNS: u64 = 12;
const AFTER_A_SECOND: Parameters = &[("postcopy-after", "1s"), ("downtime-limit", "60ms")];

/// Requests, and the seconds that vCPUs stood.
fn waited(run: &Run) -> [f64; 2] {
    let requests = run.report.post_copy.as_ref().map_or(0, |post_copy| post_copy.requests);
    [requests as f64, run.disruption.post_copy.as_f64()]
}

/// Whether both are right to 4 % of themselves (and one request or millisecond) and four standard errors.
fn is_the_mean(setup: &Setup, fluid: &Run) -> Result<(), String> {
    let exact: Vec<_> =
        (0..RUNS).map(|seed| waited(&simulate(&Setup { seed, ..setup.clone() }).unwrap())).collect();
    for (index, name) in ["requests", "seconds stood"].into_iter().enumerate() {
        let of = exact.iter().map(|run| run[index]);
        let mean = of.clone().sum::<f64>() / RUNS as f64;
        let error =
            (of.map(|one| (one - mean).powi(2)).sum::<f64>() / RUNS as f64 / (RUNS - 1) as f64).sqrt();
        let bound = (0.04 * mean).max([1.0, 1e-3][index]) + 4.0 * error;
        let fluid = waited(fluid)[index];
        if (fluid - mean).abs() > bound {
            return Err(format!("{name}: fluid {fluid}, exact {mean} +- {error}"));
        }
    }
    Ok(())
}

/// All the same every time; of eight cases one may be beyond the bounds.
fn the_wait_is_the_mean(patterns: &'static [Pattern]) {
    let kind = Kind { policies: vec![("qemu-postcopy", AFTER_A_SECOND)], patterns, ..Kind::of(&[]) };
    let mut runner = TestRunner::deterministic();
    let setups = kind.slow().busy().setups();
    let (mut compared, mut beyond) = (0, Vec::new());
    for _ in 0..8 {
        let setup = setups.new_tree(&mut runner).unwrap().current();
        let fluid = simulate(&Setup { fidelity: Fidelity::Fluid, ..setup.clone() }).unwrap();
        if fluid.near_threshold.is_none() && waited(&fluid)[0] > 0.0 {
            compared += 1;
            beyond.extend(is_the_mean(&setup, &fluid).err());
        }
    }
    assert!(compared >= 5, "{compared} compared");
    assert!(beyond.len() <= 1, "{beyond:?}");
}

#[test]
fn what_a_guest_with_uniform_writers_waits_for_is_the_mean() {
    the_wait_is_the_mean(&[Pattern::Uniform]);
}

#[test]
fn what_a_guest_with_writers_in_turn_waits_for_is_the_mean() {
    the_wait_is_the_mean(&[Pattern::Sequential]);
}

#[test]
fn what_a_guest_with_zipf_writers_waits_for_is_the_mean() {
    the_wait_is_the_mean(&[Pattern::Zipf]);
}
