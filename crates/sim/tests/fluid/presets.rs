//! Every preset with every pattern: a new one cannot be forgotten.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use whimbrel_core::policy::presets;
use whimbrel_sim::config::{Fidelity, Pattern};
use whimbrel_sim::{Setup, simulate};

use super::cases::{Kind, PATTERNS, Parameters};
use super::comparison::{Comparison, compare};

/// With what a preset is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Guests {
    /// Any, on links of 20 MB/s to 1.5 GB/s.
    Any,
    /// Those for policies with ticks.
    Slow,
    /// Guests that write too much, on such links.
    Busy,
}

/// A preset with parameters at which small guests meet its rules within a minute, and its guests.
type Row = (&'static str, &'static [Parameters], Guests);

/// Limits that keep a guest of some 100 MB from switching over at once.
const TIGHT: Parameters = &[("downtime-limit", "60ms")];

const TABLE: &[Row] = &[
    ("fixed-rounds", &[&[]], Guests::Any),
    ("quick", &[&[]], Guests::Any),
    ("qemu-default", &[&[], TIGHT], Guests::Slow),
    ("qemu-auto-converge", &[&[], TIGHT], Guests::Busy),
    ("qemu-dirty-limit", &[&[], TIGHT, &[("downtime-limit", "60ms"), ("vcpu-dirty-limit", "8MiB/s")]], Guests::Busy),
    ("xen-5", &[&[]], Guests::Any),
    ("xen-classic", &[&[], &[("adaptive-rate", "on")]], Guests::Any),
    ("clark-2005", &[&[]], Guests::Any),
    ("cloud-hypervisor", &[&[], &[("downtime-limit", "50ms")]], Guests::Any),
    ("ch-legacy", &[&[]], Guests::Any),
    ("hyperv-5", &[&[]], Guests::Any),
    ("hyperv-10", &[&[]], Guests::Any),
    ("vmware-sdps", &[&[("goal", "200ms")]], Guests::Busy),
    ("criu-phaul", &[&[], &[("max-growth-pages", "32")]], Guests::Any),
    ("nova", &[&[("downtime-delay", "1s")]], Guests::Busy),
    ("proxmox", &[&[("downtime", "50ms")]], Guests::Busy),
    ("ovirt-minimal", &[&[("poll-interval", "2s")]], Guests::Busy),
    ("ovirt-suspend", &[&[("poll-interval", "2s")]], Guests::Busy),
    ("kubevirt-legacy", &[&[]], Guests::Busy),
    ("kubevirt-stepped", &[&[("downtime-cooldown", "2s"), ("max-downtime", "400ms"), ("initial-downtime", "50ms")]], Guests::Busy),
    ("kubevirt-stall", &[&[("stall-window", "4s"), ("initial-downtime", "50ms")]], Guests::Busy),
    ("whimbrel", &[&[], &[("downtime", "100ms")]], Guests::Any),
];

fn kind(&(name, parameters, guests): &Row, pattern: &'static [Pattern]) -> Kind {
    let mut kind = Kind::of(&[]);
    kind.policies = parameters.iter().map(|&parameters| (name, parameters)).collect();
    kind.patterns = pattern;
    match guests {
        Guests::Any => kind,
        Guests::Slow => kind.slow(),
        Guests::Busy => kind.slow().busy(),
    }
}

#[test]
#[ignore = "explore"]
fn explore() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let cases: u32 = var("CASES").parse().unwrap_or(40);
    for row in TABLE.iter().filter(|row| row.0.contains(&var("PRESET"))) {
        print!("{:18}", row.0);
        for (index, name) in ["uniform", "sequential", "hot-cold", "zipf", "idle"].iter().enumerate() {
            if !name.contains(&var("PATTERN")) {
                continue;
            }
            let mut runner = TestRunner::deterministic();
            let strategy = kind(row, &PATTERNS[index..=index]).setups();
            let (mut near, mut within, mut beyond) = (0, 0, 0);
            for case in 0..cases {
                let setup = strategy.new_tree(&mut runner).unwrap().current();
                if !var("CASE").is_empty() && var("CASE") != case.to_string() {
                    continue;
                }
                if !var("SHOW").is_empty() {
                    show(&setup);
                }
                match compare(&setup) {
                    Comparison::Near => near += 1,
                    Comparison::Within => within += 1,
                    Comparison::Beyond(difference) => {
                        beyond += 1;
                        eprintln!("{} {name} case {case}: {difference}", row.0);
                    }
                }
            }
            print!(" {name} {near:3}/{within:3}/{beyond:2}");
        }
        println!();
    }
}

fn show(setup: &Setup) {
    for writer in &setup.guest.writers {
        println!(
            "writer {:?} {} at {:?} rate {:.0} hot {:?} {:?} exp {:.2} phases {:?}",
            writer.pattern, writer.working_set, writer.offset, writer.rate, writer.hot_pages.as_f64(),
            writer.hot_writes.as_f64(), writer.exponent, writer.phases
        );
    }
    println!(
        "memory {} zero {:?} {:?} link {} buffer {} {:?}",
        setup.guest.memory, setup.guest.zero_pages.as_f64(), setup.guest.zero_placement, setup.link.bandwidth,
        setup.link.buffer, setup.policy
    );
    let detail = !std::env::var("ROUNDS").unwrap_or_default().is_empty();
    for (fidelity, seeds) in [(Fidelity::Fluid, 1), (Fidelity::Exact, 12)] {
        for seed in 0..seeds {
            let run = simulate(&Setup { fidelity, seed, ..setup.clone() }).unwrap();
            let report = &run.report;
            println!(
                "{fidelity:?} {seed}: {} {:?} sent {} down {:?} rounds {} lost {:.3} {:.3} near {:?}",
                report.outcome,
                report.total,
                report.sent.0,
                report.downtime.total(),
                report.rounds.len(),
                run.disruption.throttle.as_f64(),
                run.disruption.post_copy.as_f64(),
                run.near_threshold,
            );
            if detail {
                println!("   {:?}", report.downtime);
                for round in &report.rounds {
                    println!(
                        "    {:3} at {:.4} for {:.4} left {:6} dirtied {:6} pending {:6} sent {:6} bw {:?} thr {:?} {:?}",
                        round.round, round.started.as_nanos() as f64 * 1e-9, round.length.as_secs_f64(),
                        round.left_over.0, round.dirtied.0, round.pending.0, round.sent_pages.0,
                        round.bandwidth.map(|b| (b.as_f64() / 1e4).round() / 100.0),
                        round.throttle.share().as_f64(), round.decision.as_ref().map(|d| d.reason.to_string())
                    );
                }
            }
        }
    }
}
