//! A fluid run beside the mean of exact ones.

use std::fmt;

use whimbrel_core::report::Outcome;
use whimbrel_sim::config::Fidelity;
use whimbrel_sim::{Setup, simulate};

/// Exact runs that a fluid one is compared with.
const RUNS: u64 = 24;

/// What is compared: total time, bytes, downtime; seconds, bytes, seconds.
type Figures = [f64; 3];
const NAMES: [&str; 3] = ["total time", "bytes", "downtime"];

/// How a fluid run lies to the exact ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Comparison {
    /// It says that the outcome hung on chance.
    Near,
    Within,
    Beyond(Difference),
}

/// What is beyond the bounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Difference {
    Outcome { fluid: Outcome, exact: Vec<Outcome> },
    Figure { name: &'static str, fluid: f64, exact: f64, error: f64 },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome { fluid, exact } => write!(f, "fluid {fluid}, exact {exact:?}"),
            Self::Figure { name, fluid, exact, error } => write!(
                f,
                "{name}: fluid {fluid}, exact {exact} +- {error} ({:+.2} %)",
                (fluid / exact - 1.0) * 100.0
            ),
        }
    }
}

/// The mean of exact runs, and the standard error of it.
fn exact(setup: &Setup) -> (Figures, Figures, Vec<Outcome>) {
    let (mut sum, mut squares, mut outcomes) = ([0.0; 3], [0.0; 3], Vec::new());
    for seed in 0..RUNS {
        let run = simulate(&Setup { seed, ..setup.clone() }).unwrap();
        let report = &run.report;
        let figures =
            [report.total.as_secs_f64(), report.sent.as_f64(), report.downtime.total().as_secs_f64()];
        for (index, value) in figures.into_iter().enumerate() {
            sum[index] += value;
            squares[index] += value * value;
        }
        outcomes.push(report.outcome);
    }
    let runs = RUNS as f64;
    let mean = sum.map(|sum| sum / runs);
    let mut error = [0.0; 3];
    for (index, error) in error.iter_mut().enumerate() {
        *error = ((squares[index] / runs - mean[index].powi(2)).max(0.0) / (runs - 1.0)).sqrt();
    }
    (mean, error, outcomes)
}

/// Total time and bytes within 1 %, downtime within 2 % or 1 ms, and what the mean of so few runs is off by
/// chance (four standard errors). Fewer runs can't tell more.
pub(crate) fn compare(setup: &Setup) -> Comparison {
    let fluid = simulate(&Setup { fidelity: Fidelity::Fluid, ..setup.clone() }).unwrap();
    if fluid.near_threshold.is_some() {
        return Comparison::Near;
    }
    let (mean, error, outcomes) = exact(setup);
    let report = &fluid.report;
    if outcomes.iter().any(|outcome| *outcome != report.outcome) {
        return Comparison::Beyond(Difference::Outcome { fluid: report.outcome, exact: outcomes });
    }
    let figures = [report.total.as_secs_f64(), report.sent.as_f64(), report.downtime.total().as_secs_f64()];
    let bounds = [0.01 * mean[0], 0.01 * mean[1], (0.02 * mean[2]).max(0.001)];
    let beyond =
        (0..3).find(|&index| (figures[index] - mean[index]).abs() > bounds[index] + 4.0 * error[index]);
    beyond.map_or(Comparison::Within, |index| {
        Comparison::Beyond(Difference::Figure {
            name: NAMES[index],
            fluid: figures[index],
            exact: mean[index],
            error: error[index],
        })
    })
}
