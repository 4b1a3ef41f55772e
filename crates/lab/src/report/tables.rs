//! The numbers behind the figures.

use super::grid::{Grid, Metric, axis_len, value_text};
use super::{Axis, Cell, GridValues};
use crate::chart::Unit;
use crate::page::{Column, Entry, Kind, Markup, Section, Table, folded, grouped};

/// More rows than this are left to the result files.
const MOST_ROWS: usize = 6000;
/// More rows than this are folded away.
const MOST_OPEN: usize = 60;
/// The filter offers the values of an axis as a list if there are no more than this.
const MOST_CHOICES: usize = 40;

/// The axes and the numbers.
pub(super) fn section(grid: &Grid<'_>) -> Section {
    let mut body = axes(grid);
    let all: Vec<&Cell> = in_order(grid);
    let shown = &all[..all.len().min(MOST_ROWS)];
    let count = if shown.len() == all.len() {
        format!("{} {}", grouped(all.len() as u64), if all.len() == 1 { "cell" } else { "cells" })
    } else {
        format!(
            "the first {} of {} cells; the rest is in the result files",
            grouped(shown.len() as u64),
            grouped(all.len() as u64)
        )
    };
    if !shown.is_empty() {
        body.push(&folded("All cells", &count, shown.len() <= MOST_OPEN, &numbers(grid, shown)));
    }
    let intro = "Medians over the runs of a cell. A dash stands where no run gave the value.";
    Section::new("numbers", "The numbers", intro, body)
}

/// Every cell, group by group.
fn in_order<'a>(grid: &Grid<'a>) -> Vec<&'a Cell> {
    let mut all: Vec<&Cell> = grid.all().collect();
    all.sort_by_key(|cell| grid.group_of(cell));
    all
}

fn axes(grid: &Grid<'_>) -> Markup {
    if grid.input.axes.is_empty() {
        return Markup::default();
    }
    let columns =
        [("axis", Kind::Text), ("key", Kind::Text), ("values", Kind::Text), ("count", Kind::Number)];
    let mut table =
        Table::new("The axes of the sweep", columns.map(|(name, kind)| Column::new(name, kind)).to_vec());
    for axis in &grid.input.axes {
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
        table.row(vec![
            Entry::text(&axis.label),
            Entry::markup(Markup::text(&axis.key).within("code", "")),
            Entry::markup(Markup::text(&values).within("span", " class=\"list\"")),
            Entry::text(&count.to_string()),
        ]);
    }
    table.render()
}

/// Where a cell lies on an axis; numbers sort as numbers.
fn place(grid: &Grid<'_>, number: usize, at: usize) -> Entry {
    let (axis, entry) = (&grid.input.axes[number], Entry::text(grid.text(number, at)));
    match &axis.values {
        GridValues::Numbers { values, .. } => entry.sorted_by(values.get(at).copied().unwrap_or(f64::NAN)),
        GridValues::Names(_) => entry,
    }
}

fn numbers(grid: &Grid<'_>, cells: &[&Cell]) -> Markup {
    // What stands side by side in the figures comes first.
    let series = grid.series.into_iter();
    let order: Vec<usize> =
        series.chain((0..grid.input.axes.len()).filter(|at| Some(*at) != grid.series)).collect();
    let kind = |axis: &Axis| if axis_len(axis) <= MOST_CHOICES { Kind::Choice } else { Kind::Text };
    let axes = order.iter().map(|at| &grid.input.axes[*at]);
    let mut columns: Vec<Column> = axes.map(|axis| Column::new(axis.label.clone(), kind(axis))).collect();
    columns.extend([
        Column::new("runs", Kind::Number),
        Column::new("converged", Kind::Number),
        Column::new("outcomes", Kind::Choice),
    ]);
    let measures = ["total time", "downtime", "downtime p90", "bytes sent", "rounds", "lost guest time"];
    columns.extend(measures.map(|name| Column::new(name, Kind::Number)));
    let mut table = Table::new("The cells of the sweep", columns);
    for cell in cells {
        let mut row: Vec<Entry> = order.iter().map(|at| place(grid, *at, cell.coords[*at])).collect();
        row.extend([
            Entry::text(&cell.runs.to_string()).sorted_by(f64::from(cell.runs)),
            Entry::value(Unit::Share, Metric::Converged.of(cell)),
            Entry::text(&outcomes(cell)),
            Entry::value(Unit::Milliseconds, cell.total_ms),
            Entry::value(Unit::Milliseconds, cell.downtime_ms),
            Entry::value(Unit::Milliseconds, cell.downtime_p90_ms),
            Entry::value(Unit::Bytes, cell.sent_bytes),
            Entry::value(Unit::Number, cell.rounds),
            Entry::value(Unit::VcpuSeconds, cell.disruption_vcpu_s),
        ]);
        table.row(row);
    }
    table.sortable().render()
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
