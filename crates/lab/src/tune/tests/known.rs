//! Optima that are known in the simulator are found.
//!
//! A guest that writes page after page at half the rate at which pages are sent, over all its memory: what
//! is pending halves in each round, so after `n` rounds the downtime is `2^-n` of a full copy's time, and
//! the total time (2 - 2^-n) of it, plus fixed costs.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use whimbrel_core::policy::presets;
use whimbrel_core::units::duration;

use crate::outcome::Objective;
use crate::scenario::Scenario;
use crate::tune::{Choice, Dimension, Options, Plan, Point, Space, Tuned, Tuning};
use crate::workloads::Workload;

/// A full copy takes one second.
const HALVING: &str = "
[guest]
memory = \"64MiB\"
writers = [{ pattern = \"sequential\", rate = 8192, working-set = \"64MiB\" }]
[link]
bandwidth = \"64MiB/s\"
buffer = \"64KiB\"
queue = \"0B\"
[run]
time-limit = \"10s\"
";

/// Writes 16 MiB over and over: at 64 MiB/s nothing below 250 ms is ever pending at a round's start.
const HOT: &str = "
[guest]
memory = \"64MiB\"
writers = [{ pattern = \"sequential\", rate = 200000, working-set = \"16MiB\" }]
[link]
bandwidth = \"64MiB/s\"
buffer = \"64KiB\"
queue = \"0B\"
[run]
time-limit = \"10s\"
";

pub(super) fn workload(name: &str, text: &str) -> Workload {
    let scenario = Scenario::parse(text, name).expect("a scenario");
    Workload { name: name.to_owned(), about: String::new(), scenario }
}

pub(super) fn plan(
    preset: &str,
    ranges: &[&str],
    workloads: Vec<Workload>,
    objectives: &[Objective],
) -> Plan {
    let mut space = Space::new(presets::find(preset).expect("a preset"), BTreeMap::new()).expect("a space");
    for name in space.dimensions().iter().map(Dimension::name).collect::<Vec<_>>() {
        space.fix(name).expect("a parameter");
    }
    for range in ranges {
        space.range(range).expect("a range");
    }
    Plan {
        space,
        objectives: objectives.to_vec(),
        workloads,
        held_out: Vec::new(),
        fidelity: None,
        seed: 1,
        repeat: 1,
        check: 1,
        population: 16,
        generations: 8,
    }
}

pub(super) fn found(plan: Plan, jobs: usize) -> Tuned {
    let mut tuning = Tuning::begin(plan, None).expect("a search");
    let stop = AtomicBool::new(false);
    let options =
        Options { jobs: NonZeroUsize::new(jobs), stop: &stop, begins: &|_, _| (), after_run: &|| () };
    tuning.run(&options).expect("a search");
    tuning.found(&options).expect("results").expect("not stopped")
}

const BOTH: [Objective; 2] = [Objective::Downtime, Objective::TotalTime];

#[test]
fn every_number_of_rounds_that_is_worth_it_is_on_the_front() {
    for seed in 1..=5 {
        let mut plan = plan("fixed-rounds", &["rounds=1..8"], vec![workload("halving", HALVING)], &BOTH);
        plan.seed = seed;
        let tuned = found(plan, 1);
        let mut rounds: Vec<u32> =
            tuned.front.iter().map(|point| point.parameters["rounds"].parse().expect("a number")).collect();
        rounds.sort_unstable();
        assert_eq!(rounds, (1..=8).collect::<Vec<_>>(), "seed {seed}");
        let least = tuned.choose(Choice::Least(Objective::Downtime)).expect("a point");
        assert_eq!(tuned.point(least).parameters["rounds"], "8");
    }
}

#[test]
fn the_front_is_where_the_formula_has_it() {
    let tuned = found(plan("fixed-rounds", &["rounds=1..8"], vec![workload("halving", HALVING)], &BOTH), 1);
    let fixed = |point: &Point, place: usize| {
        let rounds = f64::from(point.parameters["rounds"].parse::<u32>().expect("a number"));
        let halved = 0.5_f64.powf(rounds);
        point.design.scores[place] - if place == 0 { halved } else { 2.0 - halved }
    };
    // The costs that no round changes: pause, state, resume. They are the same at every point.
    let costs: Vec<f64> = tuned.front.iter().map(|point| fixed(point, 0)).collect();
    for (cost, point) in costs.iter().zip(&tuned.front) {
        assert!((cost - costs[0]).abs() < 0.01 && (0.0..0.1).contains(cost), "{costs:?}");
        // Headers are 8 bytes a page, and a round trip ends a round.
        assert!((fixed(point, 1) - cost).abs() < 0.02 * 2.0, "{point:?}");
    }
}

#[test]
fn a_threshold_that_the_start_is_below_is_found() {
    for seed in 1..=5 {
        let objectives = [Objective::Downtime, Objective::Failures];
        let mut plan = plan("qemu-default", &[], vec![workload("hot", HOT)], &objectives);
        plan.space.fix("downtime-limit=30ms").expect("a value");
        plan.space.range("downtime-limit=10ms..5s").expect("a range");
        plan.seed = seed;
        let tuned = found(plan, 1);
        assert!(tuned.start.design.scores[1] > 0.999, "the start fails");
        let point = tuned.point(tuned.choose(Choice::Better).expect("a point"));
        let limit = duration::parse(&point.parameters["downtime-limit"]).expect("a duration");
        // 16 MiB at 64 MiB/s; above 1 s the bulk round itself would be cut short.
        assert!(
            (Duration::from_millis(245)..Duration::from_secs(1)).contains(&limit),
            "seed {seed}: {limit:?}"
        );
        assert!(point.design.scores[1] < 0.001, "seed {seed}");
        assert!((0.25..0.35).contains(&point.design.scores[0]), "seed {seed}: {point:?}");
    }
}
