//! The same plan gives the same bytes: on any number of threads, and after an interruption.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::known::{found, plan, workload};
use crate::outcome::Objective;
use crate::tune::nsga2::Member;
use crate::tune::score::{Scorer, cases};
use crate::tune::settle::best;
use crate::tune::{Options, Plan, TuneError, Tuning};

/// A guest whose writes are drawn: seeds matter.
const DRAWN: &str = "
[guest]
memory = \"16MiB\"
writers = [{ working-set = \"8MiB\", rate = 3000 }]
[link]
bandwidth = \"16MiB/s\"
[run]
time-limit = \"20s\"
";

fn small() -> Plan {
    let ranges = ["downtime-limit=10ms..2s", "max-bandwidth=4MiB/s..64MiB/s"];
    let objectives = [Objective::Downtime, Objective::TotalTime, Objective::Failures];
    let mut plan = plan("qemu-default", &ranges, vec![workload("drawn", DRAWN)], &objectives);
    plan.held_out = vec![workload("other", &DRAWN.replace("3000", "2000"))];
    plan.repeat = 2;
    plan.check = 3;
    plan.generations = 5;
    plan
}

fn fresh(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("whimbrel-tune-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir.join("state.json")
}

fn json(tuned: &crate::tune::Tuned) -> String {
    serde_json::to_string(tuned).expect("a text")
}

fn options<'a>(stop: &'a AtomicBool, after_run: &'a (dyn Fn() + Sync), jobs: usize) -> Options<'a> {
    Options { jobs: NonZeroUsize::new(jobs), stop, begins: &|_, _| (), after_run }
}

#[test]
fn the_same_result_on_one_thread_and_on_three() {
    let one = found(small(), 1);
    assert_eq!(json(&one), json(&found(small(), 3)));
    let other = found(Plan { seed: 2, ..small() }, 1);
    assert_ne!(json(&one), json(&other), "the seed counts");
}

#[test]
fn an_interrupted_search_that_is_resumed_is_the_same_search() {
    let whole = found(small(), 1);
    let state = fresh("resumed");
    // Stopped in the middle of each generation once, and resumed each time.
    let mut tuning = Tuning::begin(small(), Some(state.clone())).expect("a search");
    let mut interruptions = 0;
    while !tuning.is_done() {
        let (stop, runs) = (AtomicBool::new(false), AtomicU64::new(0));
        // A generation is at most 64 runs; candidates that are known cost none.
        let after_run = || {
            if runs.fetch_add(1, Ordering::Relaxed) == 90 {
                stop.store(true, Ordering::Relaxed);
            }
        };
        tuning.run(&options(&stop, &after_run, 2)).expect("a search");
        interruptions += 1;
        tuning = Tuning::resume(small(), &state).expect("the same search");
        assert!(interruptions < 20);
    }
    assert!(interruptions > 2, "{interruptions}");
    let stop = AtomicBool::new(false);
    let resumed = tuning.found(&options(&stop, &|| (), 1)).expect("results").expect("not stopped");
    assert_eq!(json(&resumed), json(&whole));
}

#[test]
fn a_search_goes_on_where_a_shorter_one_ended() {
    let state = fresh("longer");
    let stop = AtomicBool::new(false);
    let mut short = Tuning::begin(Plan { generations: 2, ..small() }, Some(state.clone())).expect("a search");
    short.run(&options(&stop, &|| (), 1)).expect("a search");
    let mut long = Tuning::resume(small(), &state).expect("the same search");
    assert_eq!(long.generation(), 2);
    long.run(&options(&stop, &|| (), 1)).expect("a search");
    let tuned = long.found(&options(&stop, &|| (), 1)).expect("results").expect("not stopped");
    assert_eq!(json(&tuned), json(&found(small(), 1)));
}

#[test]
fn the_state_of_another_search_is_refused_by_what_differs() {
    let state = fresh("other");
    let stop = AtomicBool::new(false);
    let mut tuning =
        Tuning::begin(Plan { generations: 1, ..small() }, Some(state.clone())).expect("a search");
    tuning.run(&options(&stop, &|| (), 1)).expect("a search");
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = small();
        change(&mut plan);
        Tuning::resume(plan, &state).expect_err("another search").to_string()
    };
    for (change, told) in [
        (&(|plan: &mut Plan| plan.seed = 9) as &dyn Fn(&mut Plan), "its seed is `1`, not `9`"),
        (&|plan| plan.repeat = 7, "its repeat is `2`, not `7`"),
        (&|plan| plan.population = 8, "its population is `16`, not `8`"),
        (
            &|plan| plan.objectives.truncate(1),
            "its objectives is `downtime total-time failures`, not `downtime`",
        ),
        (&|plan| plan.space.fix("max-bandwidth").expect("known"), "its ranges is"),
        (&|plan| plan.workloads[0] = workload("drawn", &DRAWN.replace("3000", "3001")), "its workloads is"),
    ] {
        let error = refused(change);
        assert!(error.contains(told), "{error}");
    }
    // What is judged afterwards may change.
    assert!(Tuning::resume(Plan { check: 1, held_out: Vec::new(), ..small() }, &state).is_ok());
}

#[test]
fn what_is_no_state_is_refused() {
    let state = fresh("broken");
    let missing = Tuning::resume(small(), &state).expect_err("missing");
    assert!(matches!(missing, TuneError::ReadState { .. }));
    let stop = AtomicBool::new(false);
    let mut tuning =
        Tuning::begin(Plan { generations: 1, ..small() }, Some(state.clone())).expect("a search");
    tuning.run(&options(&stop, &|| (), 1)).expect("a search");
    let good = fs::read_to_string(&state).expect("a state");
    let members = good.find("\"genes\":[").expect("members");
    let outside = format!("{}\"genes\":[7.5,{}", &good[..members], &good[members + 9..]);
    for bad in [
        "",
        "{}",
        "not json",
        &good[..good.len() / 2],
        &good.replace("\"schema\":1", "\"schema\":2"),
        &outside,
    ] {
        fs::write(&state, bad).expect("write");
        let error = Tuning::resume(small(), &state).expect_err("no state");
        assert!(matches!(error, TuneError::NotState { .. }), "{error}");
    }
}

#[test]
fn nothing_to_search_is_said() {
    let nothing = plan("fixed-rounds", &[], vec![workload("drawn", DRAWN)], &[Objective::Downtime]);
    let error = Tuning::begin(nothing, None).expect_err("nothing").to_string();
    assert!(error.contains("`fixed-rounds` has no parameter left to search"), "{error}");
}

#[test]
fn every_run_has_a_seed_of_its_own_and_the_judgement_other_ones() {
    let plan = small();
    let cases = cases(&plan.workloads, None).expect("cases");
    let stop = AtomicBool::new(false);
    let values = |seed: u64| {
        let what = (&stop, &(|| ()) as &(dyn Fn() + Sync));
        let scorer = Scorer::new(&plan.space, &cases, &[Objective::TotalTime], (seed, 3), what);
        scorer.values(&BTreeMap::new()).expect("runs").expect("not stopped")[0][0].clone()
    };
    let (first, later, fresh) = (values(0), values(1), values(1 << 32));
    assert_eq!(first[1..], later[..2], "seeds follow each other");
    let mut all = [first, fresh].concat();
    all.sort_by(f64::total_cmp);
    all.dedup();
    assert_eq!(all.len(), 6, "{all:?}");
}

#[test]
fn of_points_that_come_to_the_same_the_one_nearest_to_the_start_is_kept() {
    let mut tuning = Tuning::begin(small(), None).expect("a search");
    let start = tuning.plan.space.start();
    let member = |off: f64, value: f64| Member {
        genes: start.iter().map(|gene| gene * (1.0 - off)).collect(),
        values: vec![value, 1.0 - value, 0.0],
    };
    tuning.search.tell([member(0.5, 0.3), member(0.1, 0.3), member(0.2, 0.3), member(0.9, 0.2)]);
    assert_eq!(best(tuning.search.members(), &start), [member(0.9, 0.2), member(0.1, 0.3)]);
}

#[test]
fn what_makes_no_difference_is_put_back_to_where_it_was() {
    let mut searched = plan(
        "kubevirt-stall",
        &["initial-downtime=10ms..2s", "completion-timeout-per-gib=60s..600s"],
        vec![workload("drawn", DRAWN)],
        &[Objective::Downtime, Objective::TotalTime],
    );
    searched.generations = 4;
    let tuned = found(searched, 2);
    assert!(tuned.front.iter().any(|point| point.parameters["initial-downtime"] != "300ms"), "{tuned:?}");
    for point in &tuned.front {
        // A guest of 16 MiB is over long before any of these.
        assert_eq!(point.parameters["completion-timeout-per-gib"], "150s", "{point:?}");
    }
}

#[test]
fn what_was_searched_on_is_not_held_out() {
    let mut plan = small();
    plan.held_out.push(workload("same", DRAWN));
    let error = Tuning::begin(plan, None).expect_err("refused").to_string();
    assert!(error.contains("`same` is searched on and cannot be held out"), "{error}");
}
