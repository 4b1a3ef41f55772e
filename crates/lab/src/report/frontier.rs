//! The frontier where convergence is lost.

use super::frame::legend;
use super::grid::{Grid, converges, unit_of, value_text};
use crate::chart::{Canvas, Dot, LineAxis, LineChart, Look, ScaleKind, Series, Size, Unit, usable};
use crate::page::{Column, Entry, Kind, Markup, Section, Table, figure, note};

/// From which end of the y axis convergence is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Going up: low values converge, as with dirty rates.
    Upwards,
    /// Going down: high values converge, as with downtime limits.
    Downwards,
}

/// The frontier of one group at one place of the x axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// The place on the x axis.
    pub(super) x: usize,
    /// The last place on the y axis, counted from the easy end, up to which every cell converges.
    pub(super) last: Option<usize>,
    /// Nothing was tried beyond it.
    pub(super) open: bool,
    /// Some cell beyond the first that does not converge does.
    pub(super) again: bool,
}

/// Which end of the y axis is the easy one: the half in which more cells converge.
pub(super) fn direction(grid: &Grid<'_>) -> Lost {
    let ys = grid.ascending(grid.y);
    let half = ys.len() / 2;
    let count = |part: &[usize]| {
        let groups = grid.groups();
        let at = groups.iter().flat_map(|group| part.iter().map(move |y| (group.index, *y)));
        at.flat_map(|(group, y)| {
            grid.ascending(grid.x).into_iter().filter_map(move |x| grid.cell(group, x, y))
        })
        .filter(|cell| converges(cell))
        .count()
    };
    if count(&ys[..half]) >= count(&ys[ys.len() - half..]) { Lost::Upwards } else { Lost::Downwards }
}

/// The frontier of a group, by ascending x. Cells that were not run are passed over.
pub(super) fn frontier(grid: &Grid<'_>, group: usize, direction: Lost) -> Vec<Point> {
    let mut ys = grid.ascending(grid.y);
    if direction == Lost::Downwards {
        ys.reverse();
    }
    let points = grid.ascending(grid.x).into_iter().filter_map(|x| {
        let tried: Vec<(usize, bool)> =
            ys.iter().filter_map(|y| grid.cell(group, x, *y).map(|cell| (*y, converges(cell)))).collect();
        if tried.is_empty() {
            return None;
        }
        let held = tried.iter().take_while(|(_, holds)| *holds).count();
        Some(Point {
            x,
            last: held.checked_sub(1).map(|at| tried[at].0),
            open: held == tried.len(),
            again: tried[held..].iter().any(|(_, holds)| *holds),
        })
    });
    points.collect()
}

/// Where the dirty rate equals the bandwidth, within the rates that were tried.
pub(super) fn line_rate_points(grid: &Grid<'_>) -> Vec<(f64, f64)> {
    const STEPS: u32 = 240;
    let positive = |values: &[f64]| {
        let values = values.iter().copied().filter_map(usable).filter(|value| *value > 0.0);
        values.fold((f64::INFINITY, 0.0), |(low, high), value| (f64::min(low, value), f64::max(high, value)))
    };
    let ((low, high), (least, most)) = (positive(grid.numbers(grid.x)), positive(grid.numbers(grid.y)));
    if low > high || least > most {
        return Vec::new();
    }
    // A little beyond the values, because the cells of a map reach beyond them.
    let (low, high) = (low / 2.0, high * 2.0);
    (0..=STEPS)
        .map(|at| low * (high / low).powf(f64::from(at) / f64::from(STEPS)))
        .filter_map(|x| grid.line_rate(x).map(|y| (x, y)))
        .filter(|(_, y)| *y >= least / 2.0 && *y <= most * 2.0)
        .collect()
}

/// The chart's and table's section; empty unless there are two axes with numbers.
pub(super) fn section(grid: &Grid<'_>) -> Option<Section> {
    let (x, y) = (grid.axis(grid.x)?, grid.axis(grid.y)?);
    if grid.count() == 0 {
        return None;
    }
    let way = direction(grid);
    let (end, rest) = match way {
        Lost::Upwards => ("highest", "lower"),
        Lost::Downwards => ("lowest", "higher"),
    };
    let mut intro = format!(
        "For each {}, the {end} {} up to which at least half of the runs converge, with every {rest} value as well. \
         An open mark means that nothing beyond it was tried.",
        x.label, y.label,
    );
    let reference = line_rate_points(grid);
    if !reference.is_empty() {
        intro.push_str(
            " The dashed line is theory: dirty rate × page size = bandwidth, where a guest that never writes a page \
             twice between two harvests dirties memory as fast as the link carries it. A guest that rewrites a small \
             working set can converge above it.",
        );
    }
    let drawn = chart(grid, way, &reference);
    let caption = format!("The {end} {} that converges, over {}", y.label, x.label);
    let mut body = legend(grid, (!reference.is_empty()).then_some("dirty rate × page size = bandwidth"));
    body.push(&figure("wide", "", &drawn));
    body.push(&numbers(grid, way, &caption));
    Some(Section::new("frontier", "Where convergence is lost", intro, body))
}

fn chart(grid: &Grid<'_>, way: Lost, reference: &[(f64, f64)]) -> String {
    let (xs, ys) = (grid.numbers(grid.x), grid.numbers(grid.y));
    let axis = |at: Option<usize>, values: &[f64]| LineAxis {
        label: grid.axis(at).map_or_else(String::new, |axis| axis.label.clone()),
        unit: grid.axis(at).and_then(unit_of).unwrap_or(Unit::Number),
        kind: ScaleKind::fitting(values),
        cover: values.to_vec(),
    };
    let range = |values: &[f64]| {
        let usable = values.iter().copied().filter_map(usable);
        usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (f64::min(low, value), f64::max(high, value))
        })
    };
    let ((left, right), (low, high)) = (range(xs), range(ys));
    let inside = |(x, y): &&(f64, f64)| *x >= left && *x <= right && *y >= low && *y <= high;
    let theory = reference.iter().filter(inside);
    let theory = theory.map(|(x, y)| Dot { x: *x, y: Some(*y), hollow: false, tooltip: String::new() });
    let mut series = vec![Series { name: "theory".to_owned(), look: Look::Dashed, points: theory.collect() }];
    for group in grid.groups() {
        let points = frontier(grid, group.index, way).into_iter().map(|point| Dot {
            x: xs[point.x],
            y: point.last.map(|at| ys[at]),
            hollow: point.open,
            tooltip: tooltip(grid, &group.name, point),
        });
        series.push(Series {
            name: group.name.clone(),
            look: Look::Line(group.index),
            points: points.collect(),
        });
    }
    let description = "Where convergence is lost; the table below has the same numbers".to_owned();
    let chart = LineChart {
        title: String::new(),
        description,
        x: axis(grid.x, xs),
        y: axis(grid.y, ys),
        series,
        legend: false,
        size: Size::new(720.0, 380.0),
    };
    chart.render(Canvas::Page)
}

fn tooltip(grid: &Grid<'_>, name: &str, point: Point) -> String {
    let at = |axis: Option<usize>, place: usize| {
        grid.axis(axis).map_or_else(String::new, |axis| value_text(axis, place))
    };
    let last = point.last.map_or_else(|| "none".to_owned(), |place| at(grid.y, place));
    let open = if point.open { " (nothing tried beyond)" } else { "" };
    format!("{name}\n{}: converges up to {last}{open}", at(grid.x, point.x))
}

/// A point of the frontier in the table.
fn point_text(point: Option<&Point>, way: Lost, value: impl Fn(usize) -> String) -> String {
    let Some(point) = point else {
        return "not run".to_owned();
    };
    let Some(last) = point.last else {
        return "none".to_owned();
    };
    let sign = match (point.open, way) {
        (false, _) => "",
        (true, Lost::Upwards) => "≥ ",
        (true, Lost::Downwards) => "≤ ",
    };
    let star = if point.again { " *" } else { "" };
    format!("{sign}{}{star}", value(last))
}

/// The same as a table: a row a place on the x axis, a column a group.
fn numbers(grid: &Grid<'_>, way: Lost, caption: &str) -> Markup {
    let (Some(x), Some(y)) = (grid.axis(grid.x), grid.axis(grid.y)) else {
        return Markup::default();
    };
    let groups = grid.groups();
    let frontiers: Vec<Vec<Point>> = groups.iter().map(|group| frontier(grid, group.index, way)).collect();
    let mut columns = vec![Column::new(x.label.clone(), Kind::Text)];
    columns.extend(groups.iter().map(|group| {
        let name = if group.name.is_empty() { "frontier" } else { &group.name };
        Column::new(name, Kind::Number)
    }));
    let theory = grid.line_rate(1.0).is_some();
    if theory {
        columns.push(Column::new("theory", Kind::Number));
    }
    let mut table = Table::new(caption, columns);
    let mut again = false;
    for place in grid.ascending(grid.x) {
        let mut row = vec![Entry::text(&value_text(x, place))];
        for points in &frontiers {
            let point = points.iter().find(|point| point.x == place);
            again |= point.is_some_and(|point| point.last.is_some() && point.again);
            row.push(Entry::text(&point_text(point, way, |at| value_text(y, at))));
        }
        if theory {
            row.push(Entry::value(Unit::PageRate, grid.line_rate(grid.numbers(grid.x)[place])));
        }
        table.row(row);
    }
    let mut out = table.render();
    out.push(&note(if again { "* Some value beyond converges again." } else { "" }));
    out
}
