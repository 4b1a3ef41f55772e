//! How often the time that is left, as forecast at the start of a round, lies in its interval.
//!
//! ```sh
//! cargo run --release --example eta -- design|comparison|held-out [REPEATS] [LOOK]
//! ```
//!
//! Every preset on every workload of a set, at its defaults, given up after ten minutes at most; LOOK is for how
//! long the guest is looked at before (`2s`). A run counts once, however many rounds it has: its rounds share
//! its weight. A run that is cut off ends at its time limit, which is known to whoever forecasts.

use std::error::Error;
use std::time::Duration;

use whimbrel::core::policy::presets::PRESETS;
use whimbrel::core::report::Outcome;
use whimbrel::core::units::duration;
use whimbrel::lab::sweep::simulation;
use whimbrel::lab::workloads::Set;
use whimbrel::sim::{Run, simulate};

/// A forecast and what came of it.
#[derive(Clone, Copy)]
struct Forecast {
    weight: f64,
    first: bool,
    cut: bool,
    left: f64,
    low: f64,
    high: f64,
}

/// What came of the forecasts of some runs.
#[derive(Default)]
struct Tally {
    runs: u64,
    backwards: u64,
    forecasts: Vec<Forecast>,
}

impl Tally {
    fn add(&mut self, run: &Run) {
        let report = &run.report;
        let outlooks: Vec<_> =
            report.rounds.iter().filter_map(|round| Some((round.started, round.outlook?))).collect();
        self.runs += u64::from(!outlooks.is_empty());
        let pairs = outlooks.windows(2);
        self.backwards += pairs.filter(|pair| pair[1].1.progress < pair[0].1.progress).count() as u64;
        for (number, (started, outlook)) in outlooks.iter().enumerate() {
            self.forecasts.push(Forecast {
                weight: 1.0 / outlooks.len() as f64,
                first: number == 0,
                cut: report.outcome == Outcome::TimedOut,
                left: report.total.as_secs_f64() - started.as_secs_f64(),
                low: outlook.low.as_secs_f64(),
                high: outlook.high.map_or(f64::INFINITY, |high| high.as_secs_f64()),
            });
        }
    }

    fn print(&self, name: &str) {
        let all = Share::of(self.forecasts.iter().copied());
        let ended = Share::of(self.forecasts.iter().copied().filter(|forecast| !forecast.cut));
        let first = |forecast: &Forecast| forecast.first;
        let alone = Forecast::alone;
        let first = Share::of(self.forecasts.iter().copied().filter(first).map(alone));
        println!(
            "{name:18} {:4} runs | {all} | not cut off: {ended} | first: {first} | backwards {}",
            self.runs, self.backwards
        );
    }
}

impl Forecast {
    fn alone(self) -> Self {
        Self { weight: 1.0, ..self }
    }
}

/// Shares of some forecasts, by weight.
struct Share {
    within: f64,
    sooner: f64,
    later: f64,
    width: f64,
}

impl Share {
    fn of(forecasts: impl Iterator<Item = Forecast>) -> Self {
        let (mut weight, mut sooner, mut later) = (0.0, 0.0, 0.0);
        let mut widths = Vec::new();
        for Forecast { weight: one, left, low, high, .. } in forecasts {
            weight += one;
            sooner += if left < low { one } else { 0.0 };
            later += if left > high { one } else { 0.0 };
            widths.push(((high - low) / left, one));
        }
        widths.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut seen = 0.0;
        let middle = widths.iter().find(|width| {
            seen += width.1;
            seen >= 0.5 * weight
        });
        let width = middle.map_or(f64::NAN, |width| width.0);
        let (sooner, later) = (sooner / weight, later / weight);
        Self { within: 1.0 - sooner - later, sooner, later, width }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { within, sooner, later, width } = self;
        let percent = |share: &f64| share * 100.0;
        write!(
            f,
            "within {:5.1} % (sooner {:4.1}, later {:4.1}), width {:5.1} %",
            percent(within),
            percent(sooner),
            percent(later),
            percent(width)
        )
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let set = args.next().and_then(|name| Set::named(&name)).ok_or("design, comparison or held-out?")?;
    let repeats: u64 = args.next().map_or(Ok(1), |text| text.parse())?;
    let look = args.next().map(|text| duration::parse(&text)).transpose()?;
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
                (migration.outlook, migration.look) = (true, look);
                migration.time_limit = migration.time_limit.min(Duration::from_mins(10));
                let run = simulate(&migration)?;
                for tally in [&mut all, &mut tally, of_preset] {
                    tally.add(&run);
                }
            }
        }
        by_workload.push((workload.name, tally));
    }
    all.print(set.name());
    for (name, tally) in &by_workload {
        tally.print(name);
    }
    for (name, tally) in &by_preset {
        tally.print(name);
    }
    Ok(())
}
