//! How sure anybody could be of the time that is left: what chance alone leaves open.
//!
//! ```sh
//! cargo run --release --example eta_bound -- design|comparison|held-out [SEEDS]
//! ```
//!
//! An oracle that knows guest, link and policy exactly, what will change and when, and does not know the random draws:
//! every preset on every workload of a set is run with many seeds, and the interval that holds nine of ten of the times that
//! were left at the start of a round is set beside those times. It is the width that a forecast of these processes cannot fall below
//! by knowing them better, but for what the rounds of the run itself show of its draws. A run counts once, its rounds
//! share its weight; *first* is the round after the bulk round alone.

use std::error::Error;
use std::time::Duration;

use whimbrel::core::policy::presets::PRESETS;
use whimbrel::lab::sweep::simulation;
use whimbrel::lab::workloads::Set;
use whimbrel::sim::simulate;

/// The shortest interval that holds nine of ten, as (low, high).
fn interval(left: &mut [f64]) -> (f64, f64) {
    left.sort_by(f64::total_cmp);
    let held = (left.len() * 9).div_ceil(10).max(1);
    let intervals = left.windows(held).map(|held| (held[0], held[held.len() - 1]));
    intervals.min_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0))).unwrap_or_default()
}

/// The median of the first numbers by the weight of the second.
fn median(weighed: &mut [(f64, f64)]) -> f64 {
    weighed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = 0.5 * weighed.iter().map(|one| one.1).sum::<f64>();
    let mut seen = 0.0;
    let middle = weighed.iter().find(|one| {
        seen += one.1;
        seen >= half
    });
    middle.map_or(f64::NAN, |one| one.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let set = args.next().and_then(|name| Set::named(&name)).ok_or("design, comparison or held-out?")?;
    let seeds: u64 = args.next().map_or(Ok(50), |text| text.parse())?;
    let (mut all, mut first) = (Vec::new(), Vec::new());
    for workload in set.workloads()? {
        let (mut all_here, mut first_here) = (Vec::new(), Vec::new());
        for preset in PRESETS {
            let mut setup = workload.scenario.setup().clone();
            preset.name.clone_into(&mut setup.policy.preset);
            setup.policy.parameters.clear();
            setup.policy.changes.clear();
            // The times left by round and run.
            let mut runs: Vec<Vec<f64>> = Vec::new();
            for seed in 0..seeds {
                let mut migration = simulation(&setup, seed)?;
                migration.journal = false;
                migration.time_limit = migration.time_limit.min(Duration::from_mins(10));
                let report = simulate(&migration)?.report;
                let rounds = report.rounds.iter().skip(1).filter(|round| !round.paused && !round.post_copy);
                let end = report.total.as_secs_f64();
                runs.push(rounds.map(|round| end - round.started.as_secs_f64()).collect());
            }
            for round in 0..runs.iter().map(Vec::len).max().unwrap_or(0) {
                let mut left: Vec<f64> = runs.iter().filter_map(|run| run.get(round).copied()).collect();
                let (low, high) = interval(&mut left);
                for run in runs.iter().filter(|run| run.len() > round) {
                    let width = (high - low) / run[round].max(1e-9);
                    all_here.push((width, 1.0 / run.len() as f64));
                    if round == 0 {
                        first_here.push((width, 1.0));
                    }
                }
            }
        }
        let percent = |weighed: &mut Vec<(f64, f64)>| 100.0 * median(weighed);
        println!(
            "{:18} all: width {:5.1} % | first: {:5.1} %",
            workload.name,
            percent(&mut all_here),
            percent(&mut first_here)
        );
        all.append(&mut all_here);
        first.append(&mut first_here);
    }
    println!(
        "{:18} all: width {:5.1} % | first: {:5.1} %",
        set.name(),
        100.0 * median(&mut all),
        100.0 * median(&mut first)
    );
    Ok(())
}
