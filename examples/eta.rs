//! How often the time that is left, as forecast at the start of a round, lies in its interval.
//!
//! ```sh
//! cargo run --release --example eta -- design|comparison|held-out [REPEATS]
//! ```
//!
//! Every preset on every workload of a set, at its defaults. A run counts once, however many rounds it has: its
//! rounds share its weight. Runs that the time limit cut off have no end to be forecast; of them is said
//! whether the interval reached beyond the cut.

use std::error::Error;

use whimbrel::core::policy::presets::PRESETS;
use whimbrel::core::report::Outcome;
use whimbrel::lab::stats::{median, wilson};
use whimbrel::lab::sweep::simulation;
use whimbrel::lab::workloads::Set;
use whimbrel::sim::simulate;

/// What came of the forecasts of some runs.
#[derive(Default)]
struct Tally {
    runs: u64,
    rounds: f64,
    within: f64,
    below: f64,
    above: f64,
    /// Of the first round after the bulk round: within, and width over what was left.
    first_within: u64,
    first_widths: Vec<f64>,
    errors: Vec<f64>,
    backwards: u64,
    cut: u64,
    cut_within: u64,
    detail: Vec<(f64, f64, f64, f64)>,
}

impl Tally {
    fn add(&mut self, run: &whimbrel::sim::Run) {
        let report = &run.report;
        let outlooks: Vec<_> =
            report.rounds.iter().filter_map(|round| Some((round.started, round.outlook?))).collect();
        if outlooks.is_empty() {
            return;
        }
        let pairs = outlooks.windows(2);
        self.backwards += pairs.filter(|pair| pair[1].1.progress < pair[0].1.progress).count() as u64;
        let end = report.total.as_secs_f64();
        if report.outcome == Outcome::TimedOut {
            self.cut += 1;
            let (started, last) = outlooks[outlooks.len() / 2];
            let beyond = last.high.is_none_or(|high| started.as_secs_f64() + high.as_secs_f64() >= end);
            self.cut_within += u64::from(beyond);
            return;
        }
        self.runs += 1;
        let weight = 1.0 / outlooks.len() as f64;
        for (number, (started, outlook)) in outlooks.iter().enumerate() {
            let left = end - started.as_secs_f64();
            let low = outlook.low.as_secs_f64();
            let high = outlook.high.map_or(f64::INFINITY, |high| high.as_secs_f64());
            let within = low <= left && left <= high;
            self.rounds += weight;
            self.within += if within { weight } else { 0.0 };
            self.below += if left < low { weight } else { 0.0 };
            self.above += if left > high { weight } else { 0.0 };
            if std::env::var_os("DUMP").is_some() {
                let middle = outlook.remaining.map_or(f64::INFINITY, |middle| middle.as_secs_f64());
                println!("DUMP {weight} {number} {left} {low} {middle} {high}");
            }
            if number == 0 {
                self.first_within += u64::from(within);
                self.first_widths.push((high - low) / left);
                let middle = outlook.remaining.map_or(f64::INFINITY, |middle| middle.as_secs_f64());
                self.errors.push((middle / left - 1.0).abs());
                self.detail.push((left, low, middle, high));
            }
        }
    }

    fn print(&mut self, name: &str) {
        let share =
            wilson(self.within.round() as u64, self.runs).map_or((f64::NAN, f64::NAN), |i| (i.low, i.high));
        println!(
            "{name:20} {:5} runs  within {:5.1} % ({:.1} to {:.1}), sooner {:4.1}, later {:4.1} | after the bulk round \
             within {:5.1} %, width {:5.1} %, error {:4.1} % | backwards {} | cut off {}, beyond {}",
            self.runs,
            self.within / self.rounds * 100.0,
            share.0 * 100.0,
            share.1 * 100.0,
            self.below / self.rounds * 100.0,
            self.above / self.rounds * 100.0,
            self.first_within as f64 / self.runs as f64 * 100.0,
            median(&mut self.first_widths).unwrap_or(f64::NAN) * 100.0,
            median(&mut self.errors).unwrap_or(f64::NAN) * 100.0,
            self.backwards,
            self.cut,
            self.cut_within
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let set = args.next().and_then(|name| Set::named(&name)).ok_or("design, comparison or held-out?")?;
    let repeats: u64 = args.next().map_or(Ok(5), |text| text.parse())?;
    let mut all = Tally::default();
    let mut by_workload = Vec::new();
    let mut by_preset: Vec<(&str, Tally)> = PRESETS.iter().map(|p| (p.name, Tally::default())).collect();
    for workload in set.workloads()? {
        let mut tally = Tally::default();
        for (preset, of_preset) in &mut by_preset {
            let mut setup = workload.scenario.setup().clone();
            (*preset).clone_into(&mut setup.policy.preset);
            setup.policy.parameters.clear();
            setup.policy.changes.clear();
            for seed in 0..repeats {
                let mut migration = simulation(&setup, seed)?;
                migration.outlook = true;
                migration.time_limit = migration.time_limit.min(std::time::Duration::from_secs(600));
                let run = simulate(&migration)?;
                all.add(&run);
                tally.add(&run);
                of_preset.add(&run);
            }
        }
        by_workload.push((workload.name, tally));
    }
    all.print(set.name());
    for (name, tally) in &mut by_workload {
        tally.print(name);
    }
    for (name, tally) in &mut by_preset {
        tally.print(name);
    }
    Ok(())
}
