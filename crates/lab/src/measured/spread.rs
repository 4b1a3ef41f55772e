//! How fast a program will be in a run, as far as its measurement tells: the spread of its speed.
//!
//! Called by the fit when its classes are found. Three things are not known, and add up:
//!
//! - how much of its own time a tick was ([`Stage::tick_error`]);
//! - where the model is off: each stage is fitted best at a speed of its own;
//! - what windows vary by beyond the one activity that all classes share: a second rhythm, as a database's
//!   checkpoints, is not in the model, and a window that met more or less of it looks like one of a faster or slower
//!   program.

use super::dictionary::windows;
use super::fit::{Classes, Levels, Stage, WindowFact};

/// Speeds that are tried: so many steps of so much of a logarithm either way.
const SPEEDS: i32 = 20;
const SPEED_STEP: f64 = 0.005;
/// Fewer windows have no standard deviation to speak of.
const FEWEST: f64 = 5.0;
/// Of the first stage, at least so many windows lie side by side where its activity is compared.
const SIDE_BY_SIDE: usize = 3;
/// A speed that is a little higher, to see how many more pages a window finds then.
const FASTER: f64 = 1.05;

/// The standard deviation of the logarithm of a program's speed in a run; see the module. `activity` are the levels
/// of each stage.
pub(super) fn speed_spread(stages: &[Stage], activity: &[Levels], classes: &Classes) -> f64 {
    let off = stages
        .iter()
        .zip(activity)
        .map(|(stage, levels)| best_speed(stage, levels, classes).powi(2) + stage.tick_error.powi(2));
    let off = mean(off).unwrap_or(0.0);
    let beyond = match (stages.first(), activity.first()) {
        (Some(first), Some(levels)) => {
            mean(stages.iter().filter_map(|stage| unexplained(stage, (first, levels), classes)))
        }
        _ => None,
    };
    (off + beyond.unwrap_or(0.0).max(0.0)).sqrt().min(1.0)
}

/// The logarithm of the speed at which the model fits the means of this stage's windows best.
fn best_speed(stage: &Stage, levels: &Levels, classes: &Classes) -> f64 {
    let off = |speed: f64| {
        let off = |window: &WindowFact| {
            let spans = windows(stage, levels, window.ticks);
            let found = spans.iter().map(|&span| classes.found(span.faster(speed))).sum::<f64>();
            ((found / spans.len() as f64 - window.mean) / window.mean.max(1.0)).powi(2)
        };
        stage.windows.iter().map(off).sum::<f64>()
    };
    let steps = (-SPEEDS..=SPEEDS).map(|step| f64::from(step) * SPEED_STEP);
    let best = steps.map(|log| (off(log.exp()), log)).min_by(|one, other| one.0.total_cmp(&other.0));
    best.map_or(0.0, |(_, log)| log)
}

/// What the windows of `stage` vary by beyond the activity of the `first` one and chance, as a variance of the
/// logarithm of speed: least squares over their lengths, so that those count whose pages depend on speed. Negative
/// where the model varies more.
fn unexplained(stage: &Stage, (first, levels): (&Stage, &Levels), classes: &Classes) -> Option<f64> {
    let of = |window: &WindowFact| {
        let ticks = (window.ticks as f64 * stage.tick / first.tick).round() as usize;
        if ticks == 0 || ticks * SIDE_BY_SIDE > first.series.len() || window.windows < FEWEST {
            return None;
        }
        let spans = windows(first, levels, ticks);
        let found = |speed| spans.iter().map(move |span| classes.found(span.faster(speed)));
        let counts: Vec<f64> = found(1.0).collect();
        let usual = mean(counts.iter().copied()).filter(|usual| *usual > 0.0 && window.mean > 0.0)?;
        let more = mean(found(FASTER))?;
        let activity = mean(counts.iter().map(|count| (count - usual).powi(2)))?;
        let explained = activity + classes.chance(first.tick * ticks as f64);
        // Pages by speed, both as logarithms.
        let slope = (more / usual).ln() / FASTER.ln();
        Some(((window.sd.powi(2) - explained) / window.mean.powi(2), slope.powi(2)))
    };
    let (mut products, mut squares) = (0.0, 0.0);
    for (beyond, slope) in stage.windows.iter().filter_map(of) {
        products += beyond * slope;
        squares += slope * slope;
    }
    (squares > 0.0).then(|| products / squares)
}

fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}
