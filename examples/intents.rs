//! Policies compared by the intents that they keep, and where `whimbrel` loses.
//!
//! ```sh
//! cargo run --release --example intents -- design|comparison|held-out [REPEATS [INTENT…]]
//! ```
//!
//! Every preset on every workload of a set, REPEATS times (10), on the same seeds. What keeping an intent means is
//! `whimbrel::lab::intents::judge`; what each preset is told of it, `terms`. Printed is, for each intent, how many
//! runs kept it; what the guest lost, paired run by run where both a policy and `whimbrel` kept it (a ratio above 1
//! is more than under `whimbrel`); and every workload on which another policy did better.

use std::error::Error;

use whimbrel::core::policy::presets::PRESETS;
use whimbrel::lab::intents::{INTENTS, Intent, Misses, judge, learned, terms};
use whimbrel::lab::scenario::Setup;
use whimbrel::lab::stats::{Bootstrap, median, wilson};
use whimbrel::lab::sweep::simulation;
use whimbrel::lab::workloads::Set;
use whimbrel::sim::simulate;

const OURS: &str = "whimbrel";

#[derive(Clone, Copy)]
struct Tried {
    misses: Misses,
    /// vCPU-seconds that the guest lost.
    lost: f64,
    total: f64,
}

/// The runs of a policy: by workload, then by seed.
struct Policy {
    name: &'static str,
    runs: Vec<Vec<Tried>>,
}

impl Policy {
    fn met(&self) -> u64 {
        self.runs.iter().flatten().filter(|run| run.misses.none()).count() as u64
    }

    fn count(&self, which: fn(&Misses) -> bool) -> usize {
        self.runs.iter().flatten().filter(|run| which(&run.misses)).count()
    }

    /// How many times as much as under `other` the guest lost, of the runs in which both kept the intent.
    fn ratios(&self, other: &Self) -> Vec<Vec<f64>> {
        let pairs = |(ours, theirs): (&Vec<Tried>, &Vec<Tried>)| {
            let both = ours.iter().zip(theirs).filter(|(a, b)| a.misses.none() && b.misses.none());
            both.map(|(a, b)| a.lost / b.lost.max(1e-9)).collect()
        };
        self.runs.iter().zip(&other.runs).map(pairs).collect()
    }
}

fn attempt(setup: &Setup, preset: &str, intent: &Intent, seed: u64) -> Result<Tried, Box<dyn Error>> {
    let host = learned(setup)?;
    let mut setup = setup.clone();
    preset.clone_into(&mut setup.policy.preset);
    setup.policy.parameters = terms(preset, intent, &setup, &host);
    setup.policy.changes = Vec::new();
    let mut migration = simulation(&setup, seed)?;
    // Later is too late anyway.
    migration.time_limit = intent.deadline(&setup) + std::time::Duration::from_secs(1);
    let run = simulate(&migration)?;
    let lost = run.disruption;
    let lost = lost.throttle + lost.pause + lost.post_copy + lost.tracking_faults;
    Ok(Tried {
        misses: judge(intent, &setup, &run),
        lost: lost.as_f64(),
        total: run.report.total.as_secs_f64(),
    })
}

/// The geometric mean of ratios, as a statistic of the bootstrap.
fn geometric(values: &mut [f64]) -> Option<f64> {
    let logs: f64 = values.iter().map(|value| value.max(1e-9).ln()).sum();
    (!values.is_empty()).then(|| (logs / values.len() as f64).exp())
}

fn ratio(policy: &Policy, ours: &Policy) -> String {
    let ratios = policy.ratios(ours);
    let strata: Vec<&[f64]> =
        ratios.iter().map(Vec::as_slice).filter(|stratum| !stratum.is_empty()).collect();
    let mut all: Vec<f64> = strata.concat();
    match (geometric(&mut all), Bootstrap::default().interval(&strata, geometric)) {
        (Some(mean), Some(interval)) => format!("{mean:.2} ({:.2} to {:.2})", interval.low, interval.high),
        _ => "-".to_owned(),
    }
}

fn table(intent: &Intent, policies: &[Policy]) {
    let Some(ours) = policies.iter().find(|policy| policy.name == OURS) else { return };
    let of: usize = ours.runs.iter().map(Vec::len).sum();
    println!("\n### {}\n\n{}.\n", intent.name, intent.about);
    println!(
        "| policy | kept of {of} (95 %) | guest lost, × {OURS} (95 %) | late | away | slowed | post-copied | not done |"
    );
    println!("|---|---|---|---:|---:|---:|---:|---:|");
    let mut ranked: Vec<&Policy> = policies.iter().collect();
    ranked.sort_by_key(|policy| std::cmp::Reverse((policy.met(), policy.name == OURS)));
    for policy in ranked {
        let share = wilson(policy.met(), of as u64);
        let share =
            share.map_or_else(String::new, |i| format!(" ({:.0} to {:.0} %)", i.low * 100.0, i.high * 100.0));
        println!(
            "| `{}` | {}{share} | {} | {} | {} | {} | {} | {} |",
            policy.name,
            policy.met(),
            ratio(policy, ours),
            policy.count(|m| m.late),
            policy.count(|m| m.away),
            policy.count(|m| m.slowed),
            policy.count(|m| m.post_copy),
            policy.count(|m| m.unfinished),
        );
    }
}

/// Workloads on which another policy keeps the intent more often, or as often at a smaller loss.
fn losses(names: &[String], policies: &[Policy]) {
    let Some(ours) = policies.iter().find(|policy| policy.name == OURS) else { return };
    println!("\nWhere `{OURS}` loses:\n");
    for (at, name) in names.iter().enumerate() {
        let met = |policy: &Policy| policy.runs[at].iter().filter(|run| run.misses.none()).count();
        let more: Vec<String> = policies
            .iter()
            .filter(|policy| met(policy) > met(ours))
            .map(|policy| format!("`{}` {}", policy.name, met(policy)))
            .collect();
        if !more.is_empty() {
            println!("* {name}: kept {} times; {}", met(ours), more.join(", "));
        }
        let mut best: Option<(f64, f64, &str)> = None;
        for policy in policies.iter().filter(|policy| met(policy) == met(ours) && met(ours) > 0) {
            let ratios = policy.ratios(ours).swap_remove(at);
            let interval = Bootstrap::default().interval(&[&ratios], geometric);
            let mean = geometric(&mut ratios.clone());
            if let (Some(mean), Some(interval)) = (mean, interval)
                && interval.high < 0.98
                && best.is_none_or(|(least, ..)| mean < least)
            {
                best = Some((mean, interval.high, policy.name));
            }
        }
        if let Some((mean, high, policy)) = best {
            println!(
                "* {name}: the guest loses {mean:.2} times as much under `{policy}` (at most {high:.2})"
            );
        }
    }
}

/// What refusing and giving up early saved: time of runs that kept no intent, under all policies.
fn in_vain(policies: &[Policy]) {
    let time = |policy: &Policy| {
        let mut times: Vec<f64> =
            policy.runs.iter().flatten().filter(|run| !run.misses.none()).map(|run| run.total).collect();
        median(&mut times)
    };
    let ours = policies.iter().find(|policy| policy.name == OURS).and_then(time);
    let others = policies.iter().filter(|policy| policy.name != OURS).filter_map(time);
    let mut others: Vec<f64> = others.collect();
    if let (Some(ours), Some(others)) = (ours, median(&mut others)) {
        println!(
            "\nRuns that kept it not took {ours:.1} s in the median, under the median of the others {others:.1} s."
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let set = args.next().and_then(|name| Set::named(&name)).ok_or("design, comparison or held-out?")?;
    let repeats: u64 = args.next().map_or(Ok(10), |text| text.parse())?;
    let wanted: Vec<String> = args.collect();
    let workloads = set.workloads()?;
    let names: Vec<String> = workloads.iter().map(|workload| workload.name.clone()).collect();
    println!("## {} ({} workloads, {repeats} runs each)", set.name(), names.len());
    for intent in INTENTS.iter().filter(|i| wanted.is_empty() || wanted.iter().any(|name| name == i.name)) {
        let mut policies = Vec::new();
        for preset in PRESETS {
            let mut runs = Vec::new();
            for workload in &workloads {
                let setup = workload.scenario.setup();
                let seeds = 0..repeats;
                runs.push(
                    seeds.map(|seed| attempt(setup, preset.name, intent, seed)).collect::<Result<_, _>>()?,
                );
            }
            policies.push(Policy { name: preset.name, runs });
        }
        table(intent, &policies);
        in_vain(&policies);
        losses(&names, &policies);
    }
    Ok(())
}
