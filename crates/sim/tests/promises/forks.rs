//! Migrations that are stepped, cloned and continued under another policy.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use whimbrel_core::journal::Entry;
use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{SourceEvent, SourcePhase};
use whimbrel_core::policy::{Policy, presets};
use whimbrel_core::report::Outcome;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{ByteCount, Timestamp};
use whimbrel_sim::config::{GuestConfig, WriterConfig};
use whimbrel_sim::{PolicyChange, Setup, SimError, Simulation, simulate};

use crate::setups::{Throttling, setup, throttle, told};

fn at(share: f64, total: Duration) -> Timestamp {
    Timestamp::ZERO.saturating_add(total.mul_f64(share))
}

fn named(name: &str, parameters: &[(&str, &str)]) -> Box<dyn Policy> {
    let given = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    presets::build(name, &given.collect::<BTreeMap<_, _>>()).expect("a preset")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// In whatever pieces time passes, and though it is looked at in between, the run is the same.
    #[test]
    fn pieces_of_time_make_the_whole(
        setup in setup(),
        throttle in prop::option::of(throttle()),
        pieces in prop::collection::vec((0.0..1.2f64, any::<bool>()), 0..8),
    ) {
        let setup = slowed(setup, throttle);
        let whole = simulate(&setup).unwrap();
        let mut simulation = Simulation::new(&setup).unwrap();
        for (share, step) in pieces {
            if step {
                simulation.step().unwrap();
            } else {
                simulation.run_until(at(share, whole.report.total)).unwrap();
            }
            // A clone that runs ahead must not take anything from its original.
            prop_assert_eq!(told(&simulation.clone().finish().unwrap()), told(&whole));
            let _ = (simulation.report(), simulation.progress(), simulation.next_at());
        }
        prop_assert_eq!(told(&simulation.finish().unwrap()), told(&whole));
    }

    /// A fresh copy of the policy in charge takes over at any moment, and nothing is different but the line
    /// that says so: it remembers, and the guest and the link draw the same random numbers.
    #[test]
    fn a_fork_under_the_same_policy_goes_on_the_same(
        setup in setup(),
        throttle in prop::option::of(throttle()),
        share in 0.0..1.0f64,
        again in prop::option::of(0.0..1.0f64),
        every_tick in any::<bool>(),
    ) {
        let setup = Setup { every_tick, ..slowed(setup, throttle) };
        let whole = simulate(&setup).unwrap();
        let mut fork = Simulation::new(&setup).unwrap();
        for share in [Some(share), again].into_iter().flatten() {
            fork.run_until(at(share, whole.report.total)).unwrap();
            if fork.has_a_say() {
                fork.replace_policy(setup.policy.clone()).unwrap();
            }
        }
        let mut forked = fork.finish().unwrap();
        let entries = |journal: &whimbrel_core::journal::Journal| -> Vec<Entry> {
            let kept = journal.entries().iter().filter(|entry| !matches!(entry, Entry::Replaced { .. }));
            kept.cloned().collect()
        };
        prop_assert_eq!(entries(&forked.journal), entries(&whole.journal));
        forked.journal = whole.journal.clone();
        prop_assert_eq!(told(&forked), told(&whole));
    }

    /// Whoever takes over and when: the copy is exact, the end is clean, one side runs the guest.
    #[test]
    fn whoever_takes_over_every_promise_holds(
        setup in setup(),
        throttle in prop::option::of(throttle()),
        share in 0.0..1.0f64,
        other in 0..presets::PRESETS.len(),
    ) {
        let setup = Setup { witness: true, ..slowed(setup, throttle) };
        let total = simulate(&setup).unwrap().report.total;
        let mut fork = Simulation::new(&setup).unwrap();
        fork.run_until(at(share, total)).unwrap();
        let other = presets::PRESETS[other].build(&BTreeMap::new()).unwrap();
        if !fork.has_a_say() {
            let refused = fork.replace_policy(other);
            prop_assert!(matches!(refused, Err(SimError::Replace(_))), "{refused:?}");
            return Ok(());
        }
        fork.replace_policy(other).unwrap();
        let run = fork.finish().unwrap();
        prop_assert_ne!(run.copy_exact, Some(false));
        prop_assert!(run.guest_at != whimbrel_sim::GuestAt::Both);
        prop_assert!(run.clean || run.report.outcome == Outcome::InDoubt);
        prop_assert!(run.report.clean_up_failures.is_empty());
    }
}

fn slowed(setup: Setup, throttle: Option<Throttle>) -> Setup {
    let policy = match throttle {
        Some(throttle) => Box::new(Throttling { throttle, inner: setup.policy }),
        None => setup.policy,
    };
    Setup { policy, ..setup }
}

/// 256 MiB written to faster than 1 Gbit/s carries: no policy that waits for the rest to fit will see it.
fn never(policy: Box<dyn Policy>) -> Setup {
    let writer =
        WriterConfig { working_set: ByteCount::mib(128), rate: 100_000.0, ..WriterConfig::default() };
    let guest = GuestConfig { memory: ByteCount::mib(256), writers: vec![writer], ..GuestConfig::default() };
    Setup { time_limit: Duration::from_mins(2), ..Setup::new(guest, policy) }
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn a_policy_that_takes_over_remembers_what_it_did_not_decide() {
    // Six rounds are enough for it, and there have been more.
    let rounds = [("rounds", "6")];
    let setup = never(named("qemu-default", &[]));
    let mut fork = Simulation::new(&setup).unwrap();
    fork.run_until(seconds(30)).unwrap();
    assert!(fork.progress().round > 6, "{}", fork.progress().round);
    fork.replace_policy(named("fixed-rounds", &rounds)).unwrap();
    let run = fork.finish().unwrap();
    assert_eq!(run.report.outcome, Outcome::Completed, "{}", run.report.why);
    assert!(run.report.total < Duration::from_secs(34), "{:?}", run.report.total);
}

#[test]
fn a_throttle_goes_with_the_policy_that_ordered_it() {
    let setup = never(named("qemu-auto-converge", &[("downtime-limit", "1ms")]));
    let mut fork = Simulation::new(&setup).unwrap();
    fork.run_until(seconds(10)).unwrap();
    let throttled = fork.progress().throttle;
    assert!(!throttled.is_off());
    fork.replace_policy(named("qemu-default", &[("downtime-limit", "1ms")])).unwrap();
    // Until it is asked, nothing changes.
    assert_eq!(fork.progress().throttle, throttled);
    fork.run_until(seconds(13)).unwrap();
    assert!(fork.progress().throttle.is_off());
}

#[test]
fn a_policy_that_takes_over_orders_what_it_would_have_ordered() {
    let setup = never(named("qemu-default", &[("downtime-limit", "1ms")]));
    let mut fork = Simulation::new(&setup).unwrap();
    fork.run_until(seconds(10)).unwrap();
    fork.replace_policy(named("qemu-auto-converge", &[("downtime-limit", "1ms")])).unwrap();
    fork.run_until(seconds(12)).unwrap();
    // A first throttle would be 20 %: it has watched for ten seconds.
    assert!(fork.progress().throttle.share().as_f64() > 0.4, "{}", fork.progress().throttle);
}

#[test]
fn what_a_cap_left_behind_ends_with_its_policy() {
    let capped = never(named("qemu-default", &[("max-bandwidth", "40MB/s")]));
    let mut fork = Simulation::new(&capped).unwrap();
    fork.run_until(seconds(10)).unwrap();
    assert!(fork.report().sent < ByteCount(500_000_000), "{:?}", fork.report().sent);
    fork.replace_policy(named("qemu-default", &[("downtime-limit", "1ms")])).unwrap();
    let before = fork.report().sent;
    fork.run_until(seconds(20)).unwrap();
    // 1 Gbit/s is 119 MiB/s.
    assert!(fork.report().sent.0 - before.0 > 1_000_000_000, "{:?}", fork.report().sent);
}

#[test]
fn who_takes_over_at_a_gate_tells_the_rounds_end_once() {
    let setup = never(named("cloud-hypervisor", &[("downtime-limit", "1ms")]));
    let mut fork = Simulation::new(&setup).unwrap();
    while fork.phase() != SourcePhase::Gating {
        assert!(fork.step().unwrap());
    }
    fork.replace_policy(named("fixed-rounds", &[])).unwrap();
    let run = fork.finish().unwrap();
    assert_eq!(run.report.outcome, Outcome::Completed, "{}", run.report.why);
    let acknowledged = run.journal.entries().iter().filter_map(|entry| match entry {
        Entry::Event { event: SourceEvent::Received(Message::Acknowledge { round }), .. } => Some(*round),
        _ => None,
    });
    let acknowledged: Vec<u32> = acknowledged.collect();
    assert!(acknowledged.is_sorted_by(|a, b| a < b), "{acknowledged:?}");
}

#[test]
fn bandwidth_is_measured_over_the_new_policys_own_window() {
    let setup = never(named("cloud-hypervisor", &[("downtime-limit", "1ms")]));
    let mut original = Simulation::new(&setup).unwrap();
    while original.progress().round < 2 || original.phase() != SourcePhase::Harvesting {
        assert!(original.step().unwrap());
    }
    let by_round = original.progress().bandwidth;
    assert!(by_round.is_some());
    let mut fork = original.clone();
    fork.replace_policy(setup.policy.clone()).unwrap();
    assert_eq!(fork.progress().bandwidth, by_round);
    // Over a tenth of a second, a round sent in one piece is one window, and that is what was seen of it.
    let mut fork = original.clone();
    fork.replace_policy(named("qemu-default", &[])).unwrap();
    assert!(fork.progress().bandwidth.is_some() && fork.progress().bandwidth != by_round);
}

#[test]
fn planned_changes_that_the_new_policy_does_not_take_are_left_out() {
    let mut setup = never(named("qemu-default", &[("downtime-limit", "1ms")]));
    let (parameter, value) = ("downtime-limit".to_owned(), "2s".to_owned());
    setup.changes = vec![PolicyChange { at: Duration::from_secs(20), parameter, value }];
    let fork = |policy| {
        let mut fork = Simulation::new(&setup).unwrap();
        fork.run_until(seconds(10)).unwrap();
        fork.replace_policy(policy).unwrap();
        fork.finish().unwrap().report
    };
    let taken = fork(named("qemu-default", &[("downtime-limit", "1ms")]));
    assert!(taken.converged, "{}", taken.why);
    assert!(taken.total > Duration::from_secs(20));
    let left_out = fork(named("fixed-rounds", &[("rounds", "100")]));
    assert_eq!(left_out.outcome, Outcome::Completed, "{}", left_out.why);
}

#[test]
fn nobody_takes_over_unrecorded_or_too_late() {
    let setup = Setup { journal: false, ..never(named("qemu-default", &[])) };
    let mut fork = Simulation::new(&setup).unwrap();
    fork.run_until(seconds(5)).unwrap();
    let refused = fork.replace_policy(named("xen-5", &[])).unwrap_err();
    assert_eq!(refused.to_string(), "policy `xen-5` can't take over: the run so far was not recorded");
    let setup = never(named("quick", &[]));
    let mut fork = Simulation::new(&setup).unwrap();
    while fork.step().unwrap() {}
    let refused = fork.replace_policy(named("xen-5", &[])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "policy `xen-5` can't take over: how the migration ends is decided already"
    );
}

#[test]
fn a_journal_holds_what_the_policy_was_shown_not_what_followed_from_it() {
    let throttle = Throttle::duty_cycle(whimbrel_core::units::CpuShare::percent(30));
    let policy = Box::new(Throttling { throttle, inner: named("fixed-rounds", &[]) });
    let run = simulate(&never(policy)).unwrap();
    let shown: Vec<Throttle> = run.journal.decisions().map(|(_, progress, _)| progress.throttle).collect();
    assert_eq!(shown[..2], [Throttle::Off, throttle]);
}
