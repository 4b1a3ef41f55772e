//! What an explanation says is what the policy would do and what the run came to.

// Numbers that are equal here are the same number.
#![allow(clippy::float_cmp)]

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, presets,
};
use whimbrel_core::progress::{Moment, Progress};
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_sim::Setup;
use whimbrel_sim::config::{GuestConfig, WriterConfig};

use super::branch::Verdict;
use super::decision::DecisionRecord;
use super::moment::Lesson;
use super::run::Noted;
use super::{ExplainError, Explanation, contenders, explain, preset};
use crate::compare::Contender;
use crate::scenario::{PolicySpec, Scenario};

fn named(name: &str, parameters: &[(&str, &str)]) -> Contender {
    let given = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let policy = presets::build(name, &given.collect::<BTreeMap<_, _>>()).expect("a preset");
    Contender::new(name, policy)
}

/// 64 MiB, half of them written to at this rate, over 1 Gbit/s.
fn setup(rate: f64, policy: Contender) -> Setup {
    let writer = WriterConfig { working_set: ByteCount::mib(32), rate, ..WriterConfig::default() };
    let guest = GuestConfig { memory: ByteCount::mib(64), writers: vec![writer], ..GuestConfig::default() };
    Setup { time_limit: Duration::from_secs(20), ..Setup::new(guest, policy.policy) }
}

fn told(rate: f64, policy: Contender, others: &[Contender]) -> Explanation {
    explain(&setup(rate, policy), &[], others).expect("an explanation")
}

const TIGHT: &[(&str, &str)] = &[("downtime-limit", "20ms")];

#[test]
fn what_would_have_been_needed_is_the_policys_own_threshold_to_a_page() {
    let told = told(100_000.0, named("qemu-default", TIGHT), &[]);
    let mut compared = 0;
    for decision in told.decisions.iter().filter(|decision| decision.starts_a_round()) {
        let Quantity::Bytes(threshold) = decision.reason.right().value else {
            panic!("{}", decision.reason);
        };
        let most = decision.would_end_at_bytes.expect("a number");
        // It hands over below the threshold.
        assert!(most < threshold.0.max(1) && most + 4096 >= threshold.0, "{most}: {}", decision.reason);
        compared += 1;
    }
    assert!(compared > 5);
}

#[test]
fn what_could_have_been_pending_where_it_handed_over_is_known_too() {
    let told = told(2_000.0, named("qemu-default", TIGHT), &[]);
    let last = told.decisions.iter().find(|decision| decision.last).expect("it converges");
    let Quantity::Bytes(threshold) = last.reason.right().value else {
        panic!("{}", last.reason);
    };
    let most = last.would_end_at_bytes.expect("a number");
    assert!(most >= last.pending_bytes && most < threshold.0 && most + 4096 >= threshold.0);
    assert!(last.sentence.contains("handed the guest over"), "{}", last.sentence);
}

#[test]
fn the_bandwidth_that_would_have_done_would_have() {
    let policy = named("qemu-default", TIGHT);
    let told = told(100_000.0, policy.clone(), &[]);
    let decision = told.decisions.iter().rfind(|decision| decision.starts_a_round()).expect("rounds");
    let enough = decision.would_end_with_bytes_per_s.expect("a number") as f64;
    // With it the limit allows just what was pending.
    let allowed = enough * 0.020;
    assert!((allowed / decision.pending_bytes as f64 - 1.0).abs() < 0.002, "{allowed} {decision:?}");
}

#[test]
fn a_forced_end_depends_on_nothing_pending() {
    let told = told(100_000.0, named("fixed-rounds", &[("rounds", "3")]), &[]);
    let last = told.decisions.iter().find(|decision| decision.last).expect("an end");
    assert_eq!(last.would_end_at_bytes, None);
    assert!(last.sentence.contains("made no difference"), "{}", last.sentence);
    assert!(last.sentence.contains("though the rest was not small enough"), "{}", last.sentence);
}

#[test]
fn a_guest_that_writes_too_fast_stopped_shrinking_and_it_is_said_since_when() {
    let told = told(100_000.0, named("qemu-default", TIGHT), &[named("fixed-rounds", &[])]);
    assert_eq!(told.run.outcome, "timed-out");
    let shrinking = told.stopped_shrinking.as_ref().expect("it did");
    assert!(shrinking.round <= 2 && shrinking.rounds_after > 20, "{shrinking:?}");
    assert!(shrinking.sent_after_bytes > 1 << 30);
    let moment = told.moments.first().expect("a moment");
    assert_eq!(moment.lessons, [Lesson::StoppedShrinking]);
    assert_eq!(moment.at_ms, shrinking.at_ms);
    // What it had pending then is what the policy was shown, not what was left a moment before.
    assert_eq!(moment.known.pending_bytes, shrinking.pending_bytes);
    let branch = &moment.branches[0];
    assert_eq!(branch.verdict, Verdict::Completes);
    assert!(branch.total_ms < -10_000.0, "{branch:?}");
    assert!(moment.summary.iter().any(|line| line.contains("fixed-rounds")), "{:?}", moment.summary);
}

#[test]
fn the_same_policy_comes_to_the_same_and_differs_by_nothing() {
    let own = named("qemu-default", TIGHT);
    let told = told(2_000.0, own.clone(), &[own]);
    assert!(!told.moments.is_empty());
    for branch in told.moments.iter().flat_map(|moment| &moment.branches) {
        assert_eq!(branch.verdict, Verdict::Same);
        let differences = [branch.total_ms, branch.downtime_ms, branch.sent_bytes, branch.disruption_vcpu_s];
        assert_eq!(differences, [0.0; 4]);
    }
}

/// Gives up as soon as it is asked.
#[derive(Clone, Debug)]
struct GivesUp;

impl Policy for GivesUp {
    fn name(&self) -> &'static str {
        "gives-up"
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, _: Moment, progress: &Progress) -> whimbrel_core::policy::Verdict {
        let pending = ("pending", Quantity::Pages(progress.pending));
        let reason = Reason::new(pending, Relation::AtLeast, ("nothing", Quantity::Pages(Pages(0))));
        whimbrel_core::policy::Verdict::new(Decision::Abort, reason)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[test]
fn a_policy_of_ones_own_takes_part_and_fails_where_it_gives_up_what_completed() {
    let own = Contender::new("my own", Box::new(GivesUp));
    let told = told(2_000.0, named("qemu-default", TIGHT), &[own]);
    assert_eq!(told.run.outcome, "completed");
    let branch = &told.moments.last().expect("an end").branches[0];
    assert_eq!((branch.policy.as_str(), branch.run.outcome), ("my own", "aborted"));
    assert_eq!(branch.verdict, Verdict::Fails, "{}", branch.sentence);
}

#[test]
fn the_end_is_a_moment_and_others_may_decide_it_otherwise() {
    let told = told(2_000.0, named("qemu-default", TIGHT), &[named("xen-5", &[])]);
    let end = told.moments.last().expect("a moment");
    assert!(end.lessons.contains(&Lesson::Ended));
    assert!(end.open);
    let next = end.next.as_ref().expect("the decision");
    assert!(next.last);
    assert_eq!(next.at_ms, end.at_ms);
    // It goes on where QEMU hands over.
    assert!(end.branches[0].total_ms > 0.0, "{:?}", end.branches[0]);
}

#[test]
fn moments_asked_for_come_once_and_in_order_and_late_ones_say_that_all_was_decided() {
    let setup = setup(2_000.0, named("qemu-default", TIGHT));
    let total = explain(&setup, &[], &[]).expect("an explanation").run.total_ms;
    let at = |share: f64| Duration::from_secs_f64(total / 1e3 * share);
    let told = explain(&setup, &[at(0.9999), at(0.5), at(0.5)], &[named("quick", &[])]).expect("one");
    let shares: Vec<f64> = told.moments.iter().map(|moment| moment.at_ms / total).collect();
    assert_eq!(shares.len(), 2);
    assert!((shares[0] - 0.5).abs() < 1e-6 && (shares[1] - 0.9999).abs() < 1e-6);
    assert!(told.moments[0].open && told.moments[0].branches.len() == 1);
    let late = &told.moments[1];
    assert!(!late.open && late.branches.is_empty());
    assert!(late.next.as_ref().is_some_and(|next| next.last && next.at_ms < late.at_ms));
    let error = explain(&setup, &[at(1.0)], &[]).expect_err("it is over");
    assert!(matches!(error, ExplainError::AfterTheEnd { .. }));
}

#[test]
fn every_preset_is_explained_and_tried_in_place_of_every_other() {
    for known in presets::PRESETS {
        let spec = PolicySpec { preset: known.name.to_owned(), ..PolicySpec::default() };
        let others = contenders(&spec);
        assert_eq!(others.len(), presets::PRESETS.len() - 1);
        let told = told(30_000.0, named(known.name, &[]), &others);
        assert!(!told.decisions.is_empty(), "{}", known.name);
        let sentences = told.decisions.iter().map(|decision| &decision.sentence);
        for sentence in sentences.chain(told.moments.iter().flat_map(|moment| &moment.summary)) {
            assert!(sentence.ends_with('.') && !sentence.contains("  "), "{}: {sentence}", known.name);
        }
        for moment in &told.moments {
            assert_eq!(moment.branches.len(), if moment.open { others.len() } else { 0 });
            assert!(moment.branches.is_sorted_by_key(|branch| branch.verdict), "{}", known.name);
        }
    }
}

#[test]
fn parameters_that_are_shared_are_shared() {
    let parameters = BTreeMap::from([
        ("downtime-limit".to_owned(), "77ms".to_owned()),
        ("max-bandwidth".to_owned(), "50MB/s".to_owned()),
    ]);
    let contender = preset("cloud-hypervisor", &parameters).expect("a preset");
    let given = contender.policy.parameters();
    assert!(given.contains(&("downtime-limit", "77ms".to_owned())), "{given:?}");
    assert!(preset("cloud-hypervizor", &parameters).is_none());
}

#[test]
fn reasons_read_as_clauses() {
    let told = told(100_000.0, named("qemu-default", TIGHT), &[]);
    let first = told.decisions.iter().find(|decision| decision.round == 1).expect("a round");
    let DecisionRecord { sentence, .. } = first;
    assert!(sentence.starts_with("It went on sending, because pending "), "{sentence}");
    assert!(sentence.contains(" was no less than threshold "), "{sentence}");
    assert!(sentence.contains(" times as much). It would have handed the guest over with "), "{sentence}");
}

#[test]
fn the_drawing_has_the_branches_of_the_first_moment_that_could_have_been_better() {
    let told =
        told(100_000.0, named("qemu-default", TIGHT), &[named("fixed-rounds", &[]), named("nova", &[])]);
    let drawing = told.drawing("title".to_owned());
    assert_eq!(drawing.fork_ms, Some(told.moments[0].at_ms));
    assert_eq!(drawing.branches.len(), 2);
    let rounds = told.decisions.iter().filter(|decision| decision.starts_a_round()).count();
    assert_eq!(drawing.decisions.len(), rounds);
    // A branch shows only what came after the fork.
    let after = drawing.branches.iter().flat_map(|branch| &branch.curve);
    assert!(after.clone().count() > 0 && after.clone().all(|(at, _)| *at >= told.moments[0].at_ms - 1.0e-5));
}

#[test]
fn a_record_of_another_schema_and_an_empty_file_are_no_runs() {
    let folder = std::env::temp_dir().join(format!("whimbrel-noted-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("run.json");
    let load = |text: &str| {
        std::fs::write(&file, text).expect("written");
        Noted::load(&file).map(|noted| noted.came_to.expect("noted"))
    };
    let record = |schema: u32, total: f64| {
        let head =
            "{\"scenario\":\"[guest]\\nmemory = \\\"64MiB\\\"\",\"outcome\":\"completed\",\"sent_bytes\":1";
        format!("{head},\"schema\":{schema},\"total_ms\":{total}}}")
    };
    let error = load(&record(99, 5.0)).expect_err("refused").to_string();
    assert!(error.contains("schema 99, accepted is 1"), "{error}");
    for empty in ["", " \n"] {
        let error = load(empty).expect_err("refused").to_string();
        assert!(error.contains("it is empty"), "{error}");
    }
    let mut run = crate::result::MigrationRecord::of(
        &whimbrel_sim::simulate(
            &crate::sweep::simulation(Scenario::builtin("default").expect("built in").setup(), 0)
                .expect("a setup"),
        )
        .expect("a run"),
        0,
    );
    (run.outcome, run.total_ms, run.sent_bytes) = ("completed", 5.0, 1);
    assert_eq!(load(&record(1, 5.0)).expect("a run").differs(&run), None);
    let differs = load(&record(1, 5.5)).expect("a run").differs(&run);
    assert_eq!(differs.as_deref(), Some("total_ms 5.5 there, 5 here"));
    std::fs::remove_dir_all(folder).expect("removed");
}
