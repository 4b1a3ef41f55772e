//! What is made of a front: which point is chosen, what failures are charged, how it is told.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_sim::config::Fidelity;

use crate::compare::Contender;
use crate::outcome::{Figures, Objective};
use crate::tune::assess::{Assessed, Change, Point, Tuned, compared};
use crate::tune::score::{Scorer, cases, charged};
use crate::tune::{Choice, Space, plot, policy_file, table};
use crate::workloads::{self, Workload};

fn point(name: &str, scores: [f64; 2]) -> Point {
    let changes = vec![Change { change: -0.5, low: -0.6, high: -0.4 }; 2];
    let design = Assessed { scores: scores.to_vec(), changes };
    let parameters = BTreeMap::from([("rounds".to_owned(), name.to_owned())]);
    Point { parameters, held_out: Some(design.clone()), design, genes: Vec::new() }
}

fn tuned(start: [f64; 2], front: &[[f64; 2]]) -> Tuned {
    Tuned {
        schema: 1,
        policy: "fixed-rounds",
        objectives: vec![Objective::Downtime, Objective::TotalTime],
        units: vec!["s", "s"],
        ranges: vec!["rounds=1..8".to_owned()],
        workloads: vec!["a".to_owned()],
        held_out: vec!["b".to_owned()],
        fidelity: None,
        seed: 0,
        repeat: 1,
        check: 1,
        population: 16,
        generations: 8,
        start: point("5", start),
        front: front.iter().enumerate().map(|(at, scores)| point(&at.to_string(), *scores)).collect(),
    }
}

#[test]
fn points_are_chosen_as_asked() {
    let front = [[0.1, 100.0], [0.2, 20.0], [0.5, 10.0], [8.0, 9.0]];
    let tuned = tuned([0.4, 30.0], &front);
    let chosen = |choice: &str| tuned.choose(choice.parse().expect("a choice"));
    assert_eq!(chosen("knee").expect("a point"), 2);
    assert_eq!(chosen("better").expect("a point"), 2);
    assert_eq!(chosen("4").expect("a point"), 4);
    assert_eq!(chosen("min:downtime").expect("a point"), 1);
    assert_eq!(chosen("min:total-time").expect("a point"), 4);
    assert!(chosen("5").expect_err("no point").to_string().contains("4 points; there is no point 5"));
    let error = chosen("min:bytes").expect_err("not minimised").to_string();
    assert!(error.contains("choose by one of downtime, total-time"), "{error}");
}

#[test]
fn nothing_better_leaves_the_start() {
    let tuned = tuned([0.1, 9.0], &[[0.05, 10.0], [0.2, 8.0]]);
    assert_eq!(tuned.choose(Choice::Better).expect("the start"), 0);
    assert_eq!(tuned.point(0), &tuned.start);
}

#[test]
fn bad_choices_are_refused() {
    for text in ["", "0", "-1", "best", "max:downtime", "min:downtme"] {
        let error = text.parse::<Choice>().expect_err(text).to_string();
        assert!(error.contains("expected knee, better, a number from 1 or min:OBJECTIVE"), "{error}");
    }
}

#[test]
fn a_failure_is_charged_a_full_copy() {
    let done =
        Figures { completed: true, total_s: 5.0, downtime_s: 0.2, sent_bytes: 7, ..Figures::default() };
    let (memory, bandwidth) = (ByteCount(1_000), Bandwidth::new(100).expect("a bandwidth"));
    assert_eq!(charged(done, memory, bandwidth, 2), done);
    let failed = Figures { completed: false, downtime_s: 0.0, disruption_vcpu_s: 1.0, ..done };
    let charged = charged(failed, memory, bandwidth, 2);
    assert_eq!((charged.total_s, charged.downtime_s, charged.sent_bytes), (15.0, 10.0, 1_007));
    assert!((charged.disruption_vcpu_s - 21.0).abs() < 1e-9);
}

#[test]
fn the_policy_file_and_the_table_say_what_was_found() {
    let tuned = tuned([0.4, 30.0], &[[0.1, 100.0], [0.2, 20.0]]);
    insta::assert_snapshot!(policy_file(&tuned, 2, "my-rounds"));
    insta::assert_snapshot!(table(&tuned, 2, &[], 100));
}

#[test]
fn the_plot_shows_front_start_and_what_was_held_out() {
    let tuned = tuned([0.4, 30.0], &[[0.1, 100.0], [0.2, 20.0]]);
    let svg = plot(&tuned, 2);
    for name in ["front, workloads of the search", "front, held out", ">start<", ">point 2, chosen<"] {
        assert!(svg.contains(name), "{name}");
    }
    // On either set of workloads: the start hollow, as nowhere else, and a ring around the point that was chosen.
    assert_eq!((svg.matches("\"mark hollow").count(), svg.matches("\"ring\"").count()), (2, 2), "{svg}");
    // Between 20 s and 100 s there is no need for an axis from nothing.
    assert!(!svg.contains(">0 s<"), "{svg}");
}

#[test]
fn changes_are_ratios_and_intervals_are_over_workloads() {
    let twice_and_eightfold = [vec![2_f64.ln(); 3], vec![8_f64.ln(); 3]];
    let none = [vec![0.0; 3], vec![0.0; 3]];
    let change = compared(Objective::Downtime, &twice_and_eightfold, &none);
    // Geometric mean 4; a resample has two of the same at times.
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(change.change, 3.0) && near(change.low, 1.0) && near(change.high, 7.0), "{change:?}");
    let change =
        compared(Objective::Failures, &[vec![1.0, 0.0], vec![1.0, 1.0]], &[vec![1.0; 2], vec![1.0; 2]]);
    assert!(near(change.change, -0.25) && near(change.low, -0.5) && near(change.high, 0.0), "{change:?}");
    // A single workload has only its runs.
    let change = compared(Objective::Failures, &[vec![1.0, 0.0]], &[vec![0.0, 0.0]]);
    assert!(near(change.change, 0.5) && near(change.low, 0.0) && near(change.high, 1.0), "{change:?}");
}

/// `docs/tuning.md` and `policies/`: found by a search that is too long for a test, but what was found still does
/// what the page says.
#[test]
fn the_tuned_policy_is_as_much_better_as_the_page_says() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/kubevirt-stall-tuned.toml");
    let tuned = Contender::parse(file).expect("a policy");
    assert_eq!((tuned.name.as_str(), tuned.policy.name()), ("kubevirt-stall-tuned", "kubevirt-stall"));
    let space = Space::of(&*tuned.policy).expect("a space");
    let objectives = [Objective::Downtime, Objective::TotalTime, Objective::Failures];
    let stop = AtomicBool::new(false);
    let against_the_defaults = |workloads: &[Workload]| {
        let cases = cases(workloads, Some(Fidelity::Fluid)).expect("cases");
        let runner = Scorer::new(&space, &cases, &objectives, (0, 1), (&stop, &|| ()));
        let values =
            |given: &BTreeMap<String, String>| runner.values(given).expect("runs").expect("not stopped");
        let (tuned, defaults) = (values(space.given()), values(&BTreeMap::new()));
        let changes = objectives.iter().zip(tuned.iter().zip(&defaults));
        changes
            .map(|(&objective, (tuned, defaults))| compared(objective, tuned, defaults).change)
            .collect::<Vec<_>>()
    };
    let near = |found: &[f64], page: [f64; 3]| {
        let close = found.iter().zip(page).all(|(found, page)| (found - page).abs() < 0.05);
        assert!(close, "{found:?}, and the page says {page:?}");
    };
    near(&against_the_defaults(&workloads::design().expect("workloads")), [-0.82, -0.27, -3.0 / 14.0]);
    near(&against_the_defaults(&workloads::held_out().expect("workloads")), [-0.67, -0.16, 0.0]);
}
