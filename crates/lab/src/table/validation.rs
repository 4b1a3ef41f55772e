//! Validations as text: measured and predicted beside each other, and how far apart.

use std::fmt::Write as _;

use whimbrel_core::units::ByteCount;

use super::{Align, Columns, milliseconds, per_cent, wrap};
use crate::sweep::Spread;
use crate::validate::programs::{FIGURES, Figure, Interval, Sample, Sampled};
use crate::validate::{Errors, Validation};

/// Measured and predicted runs.
pub fn validation(validation: &Validation, width: usize) -> String {
    let mut text = String::new();
    if validation.runs > 0 || validation.programs.is_none() {
        text.push_str(&single(validation));
    }
    if let Some(programs) = &validation.programs {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&sampled(programs, width));
    }
    let _ = writeln!(text, "{:<30}{}", "skipped", validation.skipped.len());
    for skipped in &validation.skipped {
        text.push_str(&wrap(&format!("{}: {}", skipped.name, skipped.reason), "  ", width));
    }
    text
}

/// Runs of which there is one prediction each.
fn single(validation: &Validation) -> String {
    use Align::{Left, Right};
    let mut columns = Columns::new(&[
        ("run: measured > predicted", Left),
        ("total", Right),
        ("sent", Right),
        ("downtime", Right),
        ("silence", Right),
        ("rounds", Right),
        ("converged", Left),
    ]);
    let both = |measured: String, predicted: String| format!("{measured} > {predicted}");
    let times = |measured, predicted| both(milliseconds(measured), milliseconds(predicted));
    for run in &validation.per_run {
        let (measured, predicted) = (&run.measured, &run.predicted);
        let sent = |bytes: Option<f64>| {
            bytes.map_or_else(|| "-".to_owned(), |bytes| ByteCount(bytes as u64).human())
        };
        let rounds = |rounds: Option<u64>| rounds.map_or_else(|| "-".to_owned(), |rounds| rounds.to_string());
        let verdict = |converged: bool| if converged { "yes" } else { "no" }.to_owned();
        columns.row(vec![
            run.name.clone(),
            times(measured.total_ms, predicted.total_ms),
            both(sent(measured.sent_bytes), sent(predicted.sent_bytes)),
            times(measured.downtime_ms, predicted.downtime_ms),
            times(measured.silence_ms, predicted.silence_ms),
            both(rounds(measured.rounds), rounds(predicted.rounds)),
            both(verdict(measured.converged), verdict(predicted.converged)),
        ]);
    }
    let mut text = columns.lines().join("\n") + "\n\n";
    text.push_str(&errors(&validation.errors, "error, where both converged"));
    // Of no runs there is no share.
    let any = validation.errors.total_time.median.is_some();
    let share = |share: f64| if any { per_cent(share) } else { "-".to_owned() };
    let wrong = if validation.runs > 0 { validation.verdict_wrong.to_string() } else { "-".to_owned() };
    let figures = [
        ("downtime within 25 % or 20 ms", share(validation.downtime_near)),
        ("rounds exact", share(validation.rounds_exact)),
        ("rounds within 1 or 5 %", share(validation.rounds_near)),
        ("verdict wrong", wrong),
        ("runs", validation.runs.to_string()),
    ];
    for (name, value) in figures {
        let _ = writeln!(text, "{name:<30}{value}");
    }
    text
}

fn errors(found: &Errors, title: &'static str) -> String {
    use Align::{Left, Right};
    let mut errors = Columns::new(&[(title, Left), ("median", Right), ("p90", Right)]);
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), per_cent);
    let row = |name: &str, spread: Spread| vec![name.to_owned(), share(spread.median), share(spread.p90)];
    errors.row(row("  total time", found.total_time));
    errors.row(row("  sent bytes", found.sent_bytes));
    errors.row(row("  downtime", found.downtime));
    errors.row(row("  silence", found.silence));
    errors.lines().join("\n") + "\n\n"
}

/// Runs of real programs, of each of which there are many predictions.
fn sampled(programs: &Sampled, width: usize) -> String {
    use Align::{Left, Right};
    let mut columns = Columns::new(&[
        ("program run", Left),
        ("figure", Left),
        ("measured", Right),
        ("sampled", Right),
        ("5 %", Right),
        ("95 %", Right),
    ]);
    for sample in &programs.configurations {
        rows(sample, &mut columns);
    }
    let mut text = columns.lines().join("\n") + "\n\n";
    text.push_str(&wrap(
        &format!(
            "Sampled: of {} runs the share that converged in time; of those the median and the middle 90 %. \
             `!`: measured outside of that.",
            programs.samples
        ),
        "",
        width,
    ));
    text.push('\n');
    text.push_str(&errors(&programs.errors, "error of the sampled median"));
    let (inside, wide) = (&programs.coverage, &programs.widths);
    let runs: usize = programs.configurations.iter().map(|sample| sample.measured.len()).sum();
    for (name, value) in [
        ("total time in the 90 %", covered(inside.total_time, wide.total_time)),
        ("sent bytes in the 90 %", covered(inside.sent_bytes, wide.sent_bytes)),
        ("downtime in the 90 %", covered(inside.downtime, wide.downtime)),
        ("silence in the 90 %", covered(inside.silence, wide.silence)),
        ("rounds in the 90 %", covered(inside.rounds, wide.rounds)),
        ("Brier score of convergence", format!("{:.3}", programs.brier)),
        ("less probable verdicts", programs.verdict_wrong.to_string()),
        ("program runs", runs.to_string()),
    ] {
        let _ = writeln!(text, "{name:<30}{value}");
    }
    text
}

/// How many are inside, and how wide the intervals are.
fn covered(inside: f64, width: f64) -> String {
    format!("{}, width {}", per_cent(inside), per_cent(width))
}

/// A row for each figure of a configuration.
fn rows(sample: &Sample, columns: &mut Columns) {
    let bytes = |bytes: f64| ByteCount(bytes as u64).human();
    let time = |ms: f64| milliseconds(Some(ms));
    let count = |rounds: f64| format!("{rounds:.0}");
    let done = sample.measured.iter().filter(|measured| measured.converged).count();
    columns.row(vec![
        sample.name.clone(),
        "converged".to_owned(),
        format!("{done} of {}", sample.measured.len()),
        per_cent(sample.convergence),
    ]);
    for Figure { name, measured: of, sampled, step } in FIGURES {
        let interval = sampled(sample);
        let show = |value: f64| match name {
            "sent" => bytes(value),
            "rounds" => count(value),
            _ => time(value),
        };
        let mark = |value: f64| {
            let outside = interval.is_some_and(|interval| !interval.contains(value, step));
            format!("{}{}", show(value), if outside { "!" } else { "" })
        };
        let measured: Vec<String> = sample.measured.iter().filter_map(of).map(mark).collect();
        if measured.is_empty() && interval.is_none() {
            continue;
        }
        let sampled = interval.map(|Interval { p5, median, p95 }| [median, p5, p95].map(show));
        let mut row = vec![String::new(), name.to_owned(), measured.join("  ")];
        row.extend(sampled.into_iter().flatten());
        columns.row(row);
    }
}
