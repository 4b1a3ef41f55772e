//! What keeping an intent means, and what presets are told.

use std::collections::BTreeMap;

use whimbrel_core::policy::presets::{self, PRESETS};

use super::*;
use crate::scenario::Scenario;
use crate::sweep::simulation;

fn setup() -> Setup {
    let text = "[guest]\nmemory = \"256MiB\"\n[[guest.writers]]\nworking-set = \"16MiB\"\nrate = 500\n\
                [link]\nbandwidth = \"1Gbit/s\"\n";
    Scenario::parse(text, "test").unwrap().setup().clone()
}

/// A run of `preset` as `intent` is told to it.
fn run(setup: &Setup, preset: &str, intent: &Intent) -> Run {
    let mut setup = setup.clone();
    setup.policy.preset = preset.to_owned();
    setup.policy.parameters = terms(preset, intent, &setup, &HostPair::default());
    whimbrel_sim::simulate(&simulation(&setup, 1).unwrap()).unwrap()
}

const LAX: Intent = intent("lax", "", 1_000, (10.0, 60));

#[test]
fn every_preset_takes_what_it_is_told_of_every_intent() {
    for preset in PRESETS {
        for intent in &INTENTS {
            let terms = terms(preset.name, intent, &setup(), &HostPair::default());
            presets::build(preset.name, &terms).unwrap_or_else(|error| panic!("{}: {error}", intent.name));
        }
    }
}

#[test]
fn a_run_is_held_against_each_bound() {
    let setup = setup();
    let run = run(&setup, "xen-5", &LAX);
    assert!(judge(&LAX, &setup, &run).none());
    let away = run.report.downtime.total();
    let just = Intent { downtime: away, ..LAX };
    let less = Intent { downtime: away.saturating_sub(Duration::from_nanos(1)), ..LAX };
    assert!(judge(&just, &setup, &run).none() && judge(&less, &setup, &run).away);
    let late = Intent { copies: 0.5, grace: Duration::ZERO, ..LAX };
    assert_eq!(judge(&late, &setup, &run), Misses { late: true, ..Misses::default() });
}

#[test]
fn post_copy_and_throttles_break_an_intent_that_forbids_them() {
    let setup = setup();
    let post = run(&setup, "pure-postcopy", &LAX);
    assert!(judge(&LAX, &setup, &post).post_copy);
    assert!(!judge(&Intent { post_copy: true, ..LAX }, &setup, &post).post_copy);
    let mut slowed = run(&setup, "xen-5", &LAX);
    slowed.report.rounds[0].throttle = Throttle::duty_cycle("20%".parse().unwrap());
    assert!(judge(&LAX, &setup, &slowed).slowed);
    assert!(!judge(&Intent { slowdown: Share::percent(20), ..LAX }, &setup, &slowed).slowed);
}

#[test]
fn a_migration_that_was_refused_is_unfinished_and_cost_nothing() {
    let setup = setup();
    let run = run(&setup, "whimbrel", &Intent { downtime: Duration::from_millis(1), ..LAX });
    assert_eq!(judge(&LAX, &setup, &run), Misses { unfinished: true, ..Misses::default() });
    assert!(run.report.why.starts_with("refused before the start: least downtime"), "{}", run.report.why);
    assert_eq!((run.report.sent, run.report.total), (ByteCount(0), Duration::ZERO));
}

#[test]
fn what_is_learned_of_two_hosts_is_what_a_handover_between_them_costs() {
    let mut setup = setup();
    let usual = learned(&setup).unwrap();
    // Pause, save, restore, resume at 1 ms each, two records of 0.1 ms and the way of *go*.
    assert!((4.0..6.0).contains(&(usual.fixed.as_secs_f64() * 1e3)), "{usual:?}");
    assert!((0.9..1.1).contains(&(usual.harvest.as_secs_f64() * 1e3)), "{usual:?}");
    assert!((0.9..1.6).contains(&(usual.state.as_f64() / ByteCount::mib(1).as_f64())), "{usual:?}");
    setup.host.switchover_gate = Duration::from_millis(70);
    let slow = learned(&setup).unwrap();
    assert!(slow.fixed.saturating_sub(usual.fixed).as_secs_f64() > 0.069, "{slow:?}");
}

#[test]
fn what_a_preset_has_no_word_for_is_left_at_its_default() {
    assert_eq!(terms("xen-5", &LAX, &setup(), &HostPair::default()), BTreeMap::new());
}
