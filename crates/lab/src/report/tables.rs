//! The numbers behind the figures.

use super::Cell;
use super::grid::{Grid, Metric, axis_len, value_text};
use super::page::{section as page_section, table};
use crate::chart::{Unit, escape};

/// More rows than this are left to the result files.
const MOST_ROWS: usize = 6000;

/// A value as it is printed; a dash where there is none.
pub(super) fn optional(unit: Unit, value: Option<f64>) -> String {
    escape(&unit.format(value.unwrap_or(f64::NAN)))
}

/// The axes and the numbers.
pub(super) fn section(grid: &Grid<'_>) -> String {
    let mut body = axes(grid);
    let mut left = MOST_ROWS;
    for group in grid.groups() {
        let all: Vec<&Cell> = grid.all().filter(|cell| grid.group_of(cell) == group.index).collect();
        let shown = &all[..all.len().min(left)];
        left -= shown.len();
        if shown.is_empty() {
            continue;
        }
        let name = if group.name.is_empty() { "All cells".to_owned() } else { escape(&group.name) };
        let count = if shown.len() == all.len() {
            format!("{} {}", all.len(), if all.len() == 1 { "cell" } else { "cells" })
        } else {
            format!("the first {} of {} cells; the rest is in the result files", shown.len(), all.len())
        };
        body.push_str(&format!(
            "<details><summary>{name} <small>{count}</small></summary>{}</details>",
            numbers(grid, &group.name, shown)
        ));
    }
    let intro = "Medians over the runs of a cell. A dash stands where no run gave the value.";
    page_section("numbers", "The numbers", intro, &body)
}

fn axes(grid: &Grid<'_>) -> String {
    if grid.input.axes.is_empty() {
        return String::new();
    }
    let head = ["axis", "key", "values", "count"].map(str::to_owned);
    let rows: Vec<Vec<String>> = grid
        .input
        .axes
        .iter()
        .map(|axis| {
            let count = axis_len(axis);
            let text = |range: std::ops::Range<usize>| {
                range.map(|at| value_text(axis, at)).collect::<Vec<_>>().join(", ")
            };
            // A long axis is shown by its ends.
            let values = if count <= 8 {
                text(0..count)
            } else {
                format!("{}, …, {}", text(0..3), text(count - 1..count))
            };
            vec![
                escape(&axis.label),
                format!("<code>{}</code>", escape(&axis.key)),
                escape(&values),
                count.to_string(),
            ]
        })
        .collect();
    table("The axes of the sweep", &head, &rows, 3)
}

fn numbers(grid: &Grid<'_>, name: &str, cells: &[&Cell]) -> String {
    let axes: Vec<usize> = (0..grid.input.axes.len()).filter(|at| Some(*at) != grid.series).collect();
    let mut head: Vec<String> = axes.iter().map(|at| grid.input.axes[*at].label.clone()).collect();
    let columns = [
        "runs",
        "converged",
        "outcomes",
        "total time",
        "downtime",
        "downtime p90",
        "bytes sent",
        "rounds",
        "lost guest time",
    ];
    head.extend(columns.map(str::to_owned));
    let rows: Vec<Vec<String>> = cells
        .iter()
        .map(|cell| {
            let mut row: Vec<String> =
                axes.iter().map(|at| escape(&value_text(&grid.input.axes[*at], cell.coords[*at]))).collect();
            row.push(cell.runs.to_string());
            row.push(optional(Unit::Share, Metric::Converged.of(cell)));
            row.push(escape(&outcomes(cell)));
            row.push(optional(Unit::Milliseconds, cell.total_ms));
            row.push(optional(Unit::Milliseconds, cell.downtime_ms));
            row.push(optional(Unit::Milliseconds, cell.downtime_p90_ms));
            row.push(optional(Unit::Bytes, cell.sent_bytes));
            row.push(optional(Unit::Number, cell.rounds));
            row.push(optional(Unit::VcpuSeconds, cell.disruption_vcpu_s));
            row
        })
        .collect();
    table(&format!("The cells {name}"), &head, &rows, axes.len())
}

/// How the runs of a cell ended, in words.
pub(super) fn outcomes(cell: &Cell) -> String {
    let ended = cell.outcomes.iter().filter(|(_, count)| *count > 0);
    let texts: Vec<String> = match cell.outcomes.iter().filter(|(_, count)| *count > 0).count() {
        1 => ended.map(|(name, _)| name.clone()).collect(),
        _ => ended.map(|(name, count)| format!("{count} {name}")).collect(),
    };
    texts.join(", ")
}
