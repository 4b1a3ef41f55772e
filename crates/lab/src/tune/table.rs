//! What a search found, as text and as a policy file.

use std::fmt::Write as _;

use super::{Change, ParameterFound, Point, Tuned};
use crate::chart::Unit;
use crate::outcome::Objective;
use crate::table::{Align, Columns, wrap};

/// The front, the point that was chosen, and what each parameter does there; `width` is for sentences.
pub fn tuned(tuned: &Tuned, chosen: usize, parameters: &[ParameterFound], width: usize) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} over {}, {} of each: {} generations of {} candidates\n",
        tuned.policy,
        counted(tuned.workloads.len(), "workload"),
        counted(tuned.repeat as usize, "run"),
        tuned.generations,
        tuned.population
    );
    front(&mut out, tuned, chosen);
    out.push_str(&wrap(
        "Geometric means over the workloads of the search, with seeds that it did not use, and what they are \
         against the parameters that it started from (0). What failed is charged as if the guest was then paused \
         and copied. * is the point that was chosen.",
        "",
        width,
    ));
    let point = tuned.point(chosen);
    let _ = writeln!(out, "\nPoint {chosen} against the start, with 95 % intervals over workloads");
    judged(&mut out, tuned, point);
    out.push('\n');
    values(&mut out, tuned, parameters);
    out
}

fn front(out: &mut String, tuned: &Tuned, chosen: usize) {
    let mut names = vec![("", Align::Right)];
    for objective in &tuned.objectives {
        names.extend([(objective.name(), Align::Right), ("", Align::Right)]);
    }
    names.push(("", Align::Left));
    let mut columns = Columns::new(&names);
    for number in 0..=tuned.front.len() {
        let point = tuned.point(number);
        let mut row = vec![number.to_string()];
        for ((&objective, &score), change) in
            tuned.objectives.iter().zip(&point.design.scores).zip(&point.design.changes)
        {
            row.push(score_text(objective, score));
            row.push(if number == 0 { String::new() } else { change_text(objective, change.change) });
        }
        row.push(if number == chosen { "*".to_owned() } else { String::new() });
        columns.row(row);
    }
    for line in columns.lines() {
        let _ = writeln!(out, "{line}");
    }
}

fn judged(out: &mut String, tuned: &Tuned, point: &Point) {
    let mut columns = Columns::new(&[
        ("", Align::Left),
        ("workloads of the search", Align::Left),
        ("held out", Align::Left),
    ]);
    for (place, &objective) in tuned.objectives.iter().enumerate() {
        let held_out = point.held_out.as_ref().map(|held_out| held_out.changes[place]);
        columns.row(vec![
            format!("  {objective}"),
            interval_text(objective, point.design.changes[place]),
            held_out.map_or_else(|| "-".to_owned(), |change| interval_text(objective, change)),
        ]);
    }
    for line in columns.lines() {
        let _ = writeln!(out, "{line}");
    }
}

fn values(out: &mut String, tuned: &Tuned, parameters: &[ParameterFound]) {
    let mut names = vec![
        ("parameter".to_owned(), Align::Left),
        ("start".to_owned(), Align::Right),
        ("chosen".to_owned(), Align::Right),
        ("range".to_owned(), Align::Left),
    ];
    names.extend(tuned.objectives.iter().map(|objective| (format!("moves {objective} by"), Align::Left)));
    let names: Vec<(&str, Align)> = names.iter().map(|(name, align)| (name.as_str(), *align)).collect();
    let mut columns = Columns::new(&names);
    for found in parameters {
        let mut row =
            vec![found.name.to_owned(), found.start.clone(), found.value.clone(), found.range.clone()];
        for (&objective, sensitivity) in tuned.objectives.iter().zip(&found.sensitivity) {
            let end = |change| change_text(objective, change);
            row.push(format!("{} to {}", end(sensitivity.best), end(sensitivity.worst)));
        }
        columns.row(row);
    }
    for line in columns.lines() {
        let _ = writeln!(out, "{line}");
    }
}

fn counted(number: usize, name: &str) -> String {
    crate::table::counted(number as u64, name)
}

/// A score for people.
pub(super) fn score_text(objective: Objective, score: f64) -> String {
    unit(objective).format(natural_unit(objective, score))
}

/// How an objective is drawn and printed.
pub(super) fn unit(objective: Objective) -> Unit {
    match objective {
        Objective::TotalTime | Objective::Downtime => Unit::Milliseconds,
        Objective::Bytes => Unit::Bytes,
        Objective::Disruption => Unit::VcpuSeconds,
        Objective::Failures => Unit::Share,
    }
}

/// A score in the unit that it is drawn in.
pub(super) fn natural_unit(objective: Objective, score: f64) -> f64 {
    if unit(objective) == Unit::Milliseconds { score * 1e3 } else { score }
}

/// A change for people: per cent, of failures points of a hundred.
pub(super) fn change_text(objective: Objective, change: f64) -> String {
    let per_cent = change * 100.0;
    // No minus before what rounds to nothing.
    let per_cent = if per_cent.abs() < 0.05 { 0.0 } else { per_cent };
    let sign = if per_cent > 0.0 { "+" } else { "" };
    let unit = if objective == Objective::Failures { "pp" } else { "%" };
    format!("{sign}{per_cent:.1} {unit}")
}

fn interval_text(objective: Objective, change: Change) -> String {
    let end = |change| change_text(objective, change);
    format!("{} ({} to {})", end(change.change), end(change.low), end(change.high))
}

/// A point as a file that names a policy and begins a scenario: the table `policy` with a name.
pub fn policy_file(tuned: &Tuned, number: usize, name: &str) -> String {
    let point = tuned.point(number);
    let mut text = format!("# {}, tuned for ", tuned.policy);
    let names: Vec<&str> = tuned.objectives.iter().map(|objective| objective.name()).collect();
    let _ = writeln!(text, "{} over {}.", names.join(", "), counted(tuned.workloads.len(), "workload"));
    let _ = writeln!(
        text,
        "# Point {number} of a front of {} after {} generations of {}, seed {}.",
        tuned.front.len(),
        tuned.generations,
        tuned.population,
        tuned.seed
    );
    for (place, &objective) in tuned.objectives.iter().enumerate() {
        let design = interval_text(objective, point.design.changes[place]);
        let held_out = point.held_out.as_ref().map(|held_out| held_out.changes[place]);
        let held_out = held_out
            .map(|change| format!("; held out: {}", interval_text(objective, change)))
            .unwrap_or_default();
        let _ = writeln!(text, "# {objective} against the start: {design}{held_out}.");
    }
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let _ = write!(text, "\n[policy]\nname = {}\npreset = {}\n", quoted(name), quoted(tuned.policy));
    for (parameter, value) in &point.parameters {
        let _ = writeln!(text, "{parameter} = {}", quoted(value));
    }
    text
}
