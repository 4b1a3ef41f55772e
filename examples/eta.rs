//! How often the time that is left, as forecast at the start of a round, lies in its interval, and how wide that is.
//!
//! ```sh
//! cargo run --release --example eta -- design|comparison|held-out [REPEATS] [LOOK] [calibrate]
//! ```
//!
//! Every preset on every workload of a set, at its defaults, given up after ten minutes at most; LOOK is for how
//! long the guest is looked at before (`2s`). A run that is cut off ends at its time limit, which is known to
//! whoever forecasts. What counts how much is a matter of reading, so there are four:
//!
//! * *all*: every forecast after the bulk round; a run counts once, however many rounds it has, and its rounds share its
//!   weight. The sets' main figures.
//! * *each*: every forecast counts once, so that a run of a hundred rounds counts a hundred times.
//! * *first*: the forecast right after the bulk round alone.
//! * *not cut off*: as *all*, without the runs that were.
//!
//! `calibrate` prints from what multiples of the forecast the intervals are made (`BETWEEN` in the core's `foresight.rs`, which
//! also takes each to hold those of surer classes).

use std::error::Error;
use std::time::Duration;

use whimbrel::core::policy::presets::PRESETS;
use whimbrel::core::report::Outcome;
use whimbrel::core::units::duration;
use whimbrel::lab::sweep::simulation;
use whimbrel::lab::workloads::Set;
use whimbrel::sim::{Run, simulate};

/// A forecast and what came of it.
#[derive(Clone, Copy, Debug)]
struct Forecast {
    weight: f64,
    first: bool,
    cut: bool,
    left: f64,
    low: f64,
    high: f64,
    remaining: f64,
    class: u8,
}

/// What share of its ends the interval of a class is to hold: those that are sure, then those that are not, a limit that may be
/// reached, and one that will be. With these a workload of the design set is covered in 9 of 10 cases by what
/// is found on the others; where much is open, more is held and the width does not matter.
const HELD: [f64; 7] = [0.88, 0.88, 0.97, 0.97, 0.97, 0.97, 0.86];
/// How much wider it is made for what the design set does not have.
const WIDER: f64 = 0.01;

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
        let outlooks: Vec<_> = report.rounds.iter().filter_map(|round| round.outlook).collect();
        self.runs += u64::from(!outlooks.is_empty());
        let pairs = outlooks.windows(2);
        self.backwards += pairs.filter(|pair| pair[1].progress < pair[0].progress).count() as u64;
        for (number, outlook) in outlooks.iter().enumerate() {
            self.forecasts.push(Forecast {
                weight: 1.0 / outlooks.len() as f64,
                first: number == 0,
                cut: report.outcome == Outcome::TimedOut,
                left: report.total.as_secs_f64() - outlook.at.as_secs_f64(),
                low: outlook.low.as_secs_f64(),
                high: outlook.high.map_or(f64::INFINITY, |high| high.as_secs_f64()),
                remaining: outlook.remaining.map_or(f64::NAN, |remaining| remaining.as_secs_f64()),
                class: outlook.class,
            });
        }
    }

    fn print(&self, name: &str) {
        let share = |chosen: fn(&Forecast) -> bool, alone: bool| {
            let chosen = self.forecasts.iter().copied().filter(chosen);
            Share::of(chosen.map(|one| if alone { Forecast { weight: 1.0, ..one } } else { one }))
        };
        println!(
            "{name:18} {:4} runs | all: {} | each: {} | first: {} | not cut off: {} | backwards {}",
            self.runs,
            share(|_| true, false),
            share(|_| true, true),
            share(|forecast| forecast.first, true),
            share(|forecast| !forecast.cut, false),
            self.backwards
        );
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

/// For each class of forecasts, the shortest interval that holds the share that it is to hold, in multiples of the forecast.
fn calibrate(forecasts: &[Forecast]) {
    let whole: f64 = forecasts.iter().map(|forecast| forecast.weight).sum();
    for first in [true, false] {
        for class in 0..HELD.len() as u8 {
            let of_class = forecasts.iter().filter(|one| one.first == first && one.class == class);
            let mut ends: Vec<(f64, f64)> = of_class
                .filter(|one| one.remaining > 0.0)
                .map(|one| (one.left / one.remaining, one.weight))
                .collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            let weight: f64 = ends.iter().map(|end| end.1).sum();
            let wanted = weight * HELD[usize::from(class)];
            let (mut to, mut held, mut shortest) = (0, 0.0, (0.0, f64::INFINITY));
            for from in 0..ends.len() {
                while held < wanted && to < ends.len() {
                    held += ends[to].1;
                    to += 1;
                }
                if held < wanted {
                    break;
                }
                let interval = (ends[from].0, ends[to - 1].0);
                if interval.1 - interval.0 < shortest.1 - shortest.0 {
                    shortest = interval;
                }
                held -= ends[from].1;
            }
            let (low, high) = (shortest.0.min(1.0) * (1.0 - WIDER), shortest.1.max(1.0) * (1.0 + WIDER));
            let (share, when) = (100.0 * weight / whole, if first { "first" } else { "later" });
            println!("{when} {class}: {share:4.1} % of forecasts, ({low:.3}, {high:.3})");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let named = args.next().unwrap_or_default();
    let sets: Option<Vec<Set>> = named.split(',').map(Set::named).collect();
    let sets = sets.ok_or("design, comparison or held-out, or several with commas?")?;
    let repeats: u64 = args.next().map_or(Ok(1), |text| text.parse())?;
    let look = args.next().map(|text| duration::parse(&text)).transpose()?;
    let calibrates = args.next().is_some_and(|word| word == "calibrate");
    let mut all = Tally::default();
    let mut by_workload = Vec::new();
    let mut by_preset: Vec<(&str, Tally)> = PRESETS.iter().map(|p| (p.name, Tally::default())).collect();
    let workloads: Vec<_> = sets.into_iter().map(Set::workloads).collect::<Result<Vec<_>, _>>()?.concat();
    for workload in workloads {
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
    all.print(&named);
    for (name, tally) in &by_workload {
        tally.print(name);
    }
    for (name, tally) in &by_preset {
        tally.print(name);
    }
    if calibrates {
        calibrate(&all.forecasts);
    }
    Ok(())
}
