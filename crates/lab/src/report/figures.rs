//! The figures: maps over two axes, curves along one, bars where there are none.

use std::fmt::Write as _;

use rayon::prelude::*;

use super::Cell;
use super::frame::legend;
use super::frontier::line_rate_points;
use super::grid::{Grid, Group, Metric, converges, unit_of, value_text};
use super::tables::outcomes;
use crate::chart::{
    Bar, BarChart, Canvas, ColourScale, Dot, HeatCell, HeatMap, HeatMaps, LineAxis, LineChart, Look,
    Reference, ScaleKind, Series, Size, Unit,
};
use crate::page::{Markup, Section, figure, folded_charts, heading, panels};

/// Beyond so many cells in all, tooltips would make the page too heavy.
const MOST_TOOLTIPS: usize = 40_000;
/// More bars than this are left to the tables.
const MOST_BARS: usize = 60;
/// Curves are drawn at so many places of the x axis.
const PANELS: usize = 4;

const FIRST: [Metric; 3] = [Metric::Converged, Metric::Total, Metric::Downtime];
const MORE: [Metric; 2] = [Metric::Sent, Metric::Disruption];

fn tooltip(grid: &Grid<'_>, group: &Group, metric: Metric, cell: &Cell) -> String {
    let mut text = String::new();
    if !group.name.is_empty() {
        text.push_str(&group.name);
        text.push_str(" · ");
    }
    for (index, at) in [grid.x, grid.y].into_iter().flatten().enumerate() {
        text.push_str(if index > 0 { " · " } else { "" });
        text.push_str(grid.text(at, cell.coords[at]));
    }
    text.push('\n');
    if metric != Metric::Converged {
        let value = metric.of(cell).map(|value| metric.unit().format(value));
        let value = value.as_deref().unwrap_or("no value");
        // Into memory.
        let _ = writeln!(text, "{}: {value}", metric.axis());
    }
    let share = Metric::Converged.of(cell).unwrap_or(0.0);
    let converged = (share * f64::from(cell.runs)).round();
    let _ = write!(text, "{converged} of {} converged; {}", cell.runs, outcomes(cell));
    text
}

/// Every cell of the shown plane.
fn plane<'a>(grid: &'a Grid<'_>) -> impl Iterator<Item = &'a Cell> {
    let (xs, ys) = (grid.chart_axis(grid.x).len(), grid.chart_axis(grid.y).len());
    let groups = grid.groups();
    groups.into_iter().flat_map(move |group| {
        (0..ys).flat_map(move |y| (0..xs).filter_map(move |x| grid.cell(group.index, x, y)))
    })
}

/// The maps' sections; empty unless there are two axes with numbers.
pub(super) fn maps(grid: &Grid<'_>) -> Vec<Section> {
    if grid.x.is_none() || grid.y.is_none() || grid.count() == 0 {
        return Vec::new();
    }
    let mut note =
        " The outlined border separates the cells where at least half of the runs converge from the others."
            .to_owned();
    if grid.line_rate(1.0).is_some() {
        note.push_str(" The dashed line is where dirty rate × page size equals the bandwidth.");
    }
    let further = MORE.into_iter().filter(|metric| plane(grid).any(|cell| metric.of(cell).is_some()));
    let metrics: Vec<Metric> = FIRST.into_iter().chain(further).collect();
    let rows: Vec<Markup> = metrics.par_iter().map(|metric| row_of_maps(grid, *metric)).collect();
    let mut rows = metrics.into_iter().zip(rows);
    let mut out = Vec::new();
    for (id, (metric, row)) in ["maps", "map-total", "map-downtime"].into_iter().zip(rows.by_ref()) {
        let more = if metric == Metric::Converged { note.as_str() } else { "" };
        let intro = format!("{}{more}", metric.about());
        out.push((id, metric, intro, row));
    }
    let mut more = Markup::default();
    for (metric, row) in rows {
        more.push(&heading(metric.name()));
        more.push(&Markup::text(metric.about()).within("p", ""));
        more.push(&row);
    }
    if let Some((_, _, _, body)) = out.last_mut().filter(|_| !more.is_empty()) {
        body.push(&folded_charts("More maps", "bytes sent, guest disruption", &more));
    }
    out.into_iter().map(|(id, metric, intro, body)| Section::new(id, metric.name(), intro, body)).collect()
}

/// The downtime's maps as one drawing; none unless there are two axes with numbers.
pub(super) fn downtime_maps(grid: &Grid<'_>) -> Option<HeatMaps> {
    let (x, y) = (grid.axis(grid.x)?, grid.axis(grid.y)?);
    let metric = Metric::Downtime;
    let colours = colours(grid, metric);
    let groups = grid.groups();
    let maps = groups.iter().map(|group| {
        let name = if group.name.is_empty() { "all runs" } else { &group.name };
        (name.to_owned(), map(grid, group, metric, &colours))
    });
    let mut subtitles =
        vec!["Outlined: at least half of the runs converge; hatched: none completed".to_owned()];
    if !line_rate_points(grid).is_empty() {
        subtitles.push("Dashed: dirty rate × page size = bandwidth".to_owned());
    }
    subtitles.extend(Some(grid.held()).filter(|held| !held.is_empty()));
    Some(HeatMaps {
        title: format!("{} over {} and {}", metric.name(), x.label, y.label),
        subtitles,
        maps: maps.collect(),
        columns: if groups.len() <= 4 { 2 } else { 4 },
        colours,
    })
}

/// One map a group, all in the same colours.
fn row_of_maps(grid: &Grid<'_>, metric: Metric) -> Markup {
    let colours = colours(grid, metric);
    let mut out = Markup::raw(colours.bar(Canvas::Page)).within("div", " class=\"bar-key\"");
    let maps = grid.groups();
    let maps = maps
        .par_iter()
        .map(|group| figure("", &group.name, &map(grid, group, metric, &colours).render(Canvas::Page)));
    out.push(&panels("", maps.collect::<Vec<_>>()));
    out
}

fn colours(grid: &Grid<'_>, metric: Metric) -> ColourScale {
    let values: Vec<f64> = plane(grid).filter_map(|cell| metric.of(cell)).collect();
    let label = if metric == Metric::Converged {
        metric.axis().to_owned()
    } else {
        format!("{}, median", metric.axis())
    };
    ColourScale::covering(metric.palette(), metric.unit(), &label, values)
}

fn map(grid: &Grid<'_>, group: &Group, metric: Metric, colours: &ColourScale) -> HeatMap {
    let (x, y) = (grid.chart_axis(grid.x), grid.chart_axis(grid.y));
    let words = grid.expected() <= MOST_TOOLTIPS;
    let mut cells = Vec::with_capacity(x.len() * y.len());
    for row in 0..y.len() {
        for column in 0..x.len() {
            cells.push(grid.cell(group.index, column, row).map_or_else(
                || HeatCell { tooltip: "not run".to_owned(), ..HeatCell::default() },
                |cell| HeatCell {
                    value: metric.of(cell),
                    tooltip: if words { tooltip(grid, group, metric, cell) } else { String::new() },
                    inside: converges(cell),
                },
            ));
        }
    }
    let points = line_rate_points(grid);
    HeatMap {
        title: String::new(),
        description: named(metric, group),
        x,
        y,
        cells,
        colours: colours.clone(),
        bar: false,
        reference: (!points.is_empty()).then_some(Reference { points }),
        size: Size::new(290.0, 290.0),
    }
}

/// What a map shows, for who doesn't see it.
fn named(metric: Metric, group: &Group) -> String {
    let name = if group.name.is_empty() { String::new() } else { format!(", {}", group.name) };
    format!("{}{name}", metric.name())
}

fn line_axis(grid: &Grid<'_>, at: Option<usize>) -> LineAxis {
    let values = grid.numbers(at);
    LineAxis {
        label: grid.axis(at).map_or_else(String::new, |axis| axis.label.clone()),
        unit: grid.axis(at).and_then(unit_of).unwrap_or(Unit::Number),
        kind: ScaleKind::fitting(values),
        cover: values.to_vec(),
    }
}

/// The axis of a measure, the same for all charts that show it.
fn metric_axis(metric: Metric, values: &[f64]) -> LineAxis {
    let positive = values.iter().copied().filter(|value| *value > 0.0);
    let (low, high) = positive
        .fold((f64::INFINITY, 0.0), |(low, high), value| (f64::min(low, value), f64::max(high, value)));
    let log = metric != Metric::Converged && high > 30.0 * low;
    let cover = if metric == Metric::Converged { vec![0.0, 1.0] } else { values.to_vec() };
    let kind = if log { ScaleKind::Log } else { ScaleKind::Linear };
    LineAxis { label: metric.axis().to_owned(), unit: metric.unit(), kind, cover }
}

/// A line a group, along one axis of the grid.
fn series(
    grid: &Grid<'_>,
    metric: Metric,
    along: Option<usize>,
    cell: impl Fn(usize, usize) -> Option<Cell>,
) -> Vec<Series> {
    let numbers = grid.numbers(along);
    let lines = grid.groups().into_iter().map(|group| {
        let points = grid.ascending(along).into_iter().map(|place| {
            let cell = cell(group.index, place);
            Dot {
                x: numbers[place],
                y: cell.as_ref().and_then(|cell| metric.of(cell)),
                hollow: metric != Metric::Converged && cell.as_ref().is_some_and(|cell| !converges(cell)),
                tooltip: cell.map_or_else(String::new, |cell| tooltip(grid, &group, metric, &cell)),
            }
        });
        let points = points.collect();
        Series { name: group.name.clone(), look: Look::Line(group.index), points }
    });
    lines.collect()
}

/// The places of the x axis at which curves are drawn: its ends and what lies evenly between.
pub(super) fn panel_places(order: &[usize]) -> Vec<usize> {
    if order.len() <= PANELS {
        return order.to_vec();
    }
    (0..PANELS).map(|at| order[(at * (order.len() - 1) + (PANELS - 1) / 2) / (PANELS - 1)]).collect()
}

/// Curves along the y axis at some places of the x axis; empty unless there are two axes with numbers.
pub(super) fn curves(grid: &Grid<'_>) -> Option<Section> {
    let (x, y) = (grid.axis(grid.x)?, grid.axis(grid.y)?);
    if grid.count() == 0 {
        return None;
    }
    let places = panel_places(&grid.ascending(grid.x));
    let theory = grid.line_rate(1.0).is_some();
    let mut body = legend(grid, theory.then_some("dirty rate × page size = bandwidth"));
    for metric in [Metric::Total, Metric::Downtime] {
        let values: Vec<f64> = plane(grid).filter_map(|cell| metric.of(cell)).collect();
        let axis = metric_axis(metric, &values);
        let charts: Vec<Markup> = places
            .iter()
            .map(|place| {
                let mut lines = series(grid, metric, grid.y, |group, y| grid.cell(group, *place, y).cloned());
                if let Some(rate) = grid.line_rate(grid.numbers(grid.x)[*place]) {
                    lines.insert(0, upright(grid, rate, &values, axis.kind));
                }
                let chart = LineChart {
                    title: String::new(),
                    description: format!("{} over {} at {}", metric.name(), y.label, value_text(x, *place)),
                    x: line_axis(grid, grid.y),
                    y: axis.clone(),
                    series: lines,
                    legend: false,
                    size: Size::new(290.0, 270.0),
                };
                figure("", &format!("{} {}", x.label, value_text(x, *place)), &chart.render(Canvas::Page))
            })
            .collect();
        body.push(&heading(metric.name()));
        body.push(&panels("", charts));
    }
    let intro = format!(
        "Total time and downtime over the {}, at {} values of the {}. Marks are open where fewer than half of the runs \
         converge; a line ends where no run completes.",
        y.label,
        places.len(),
        x.label
    );
    Some(Section::new("curves", "Curves", intro, body))
}

/// A dashed vertical line; empty where it would lie outside.
fn upright(grid: &Grid<'_>, at: f64, values: &[f64], kind: ScaleKind) -> Series {
    let numbers = grid.numbers(grid.y);
    let inside = numbers.iter().any(|value| *value <= at) && numbers.iter().any(|value| *value >= at);
    let high = values.iter().copied().fold(0.0, f64::max);
    let low = values.iter().copied().filter(|value| *value > 0.0).fold(high, f64::min);
    let low = if kind == ScaleKind::Log { low } else { 0.0 };
    let ends = if inside { vec![low, high] } else { Vec::new() };
    let points = ends.into_iter().map(|y| Dot { x: at, y: Some(y), hollow: false, tooltip: String::new() });
    Series { name: String::new(), look: Look::Dashed, points: points.collect() }
}

/// Curves along the only axis with numbers; empty if there are none or two.
pub(super) fn lines(grid: &Grid<'_>) -> Option<Section> {
    let (Some(x), None) = (grid.axis(grid.x), grid.axis(grid.y)) else {
        return None;
    };
    if grid.count() == 0 {
        return None;
    }
    let mut body = legend(grid, None);
    let mut charts = Vec::new();
    for metric in FIRST.into_iter().chain(MORE) {
        let values: Vec<f64> = plane(grid).filter_map(|cell| metric.of(cell)).collect();
        if values.is_empty() {
            continue;
        }
        let chart = LineChart {
            title: String::new(),
            description: format!("{} over {}", metric.name(), x.label),
            x: line_axis(grid, grid.x),
            y: metric_axis(metric, &values),
            series: series(grid, metric, grid.x, |group, x| grid.cell(group, x, 0).cloned()),
            legend: false,
            size: Size::new(470.0, 300.0),
        };
        charts.push(figure("", metric.name(), &chart.render(Canvas::Page)));
    }
    body.push(&panels("large", charts));
    let intro = format!("Over the {}. Marks are open where fewer than half of the runs converge.", x.label);
    Some(Section::new("curves", "Curves", intro, body))
}

/// A bar a cell, where no axis has numbers.
pub(super) fn bars(grid: &Grid<'_>) -> Option<Section> {
    if grid.x.is_some() || grid.count() == 0 {
        return None;
    }
    let cells: Vec<&Cell> = grid.all().take(MOST_BARS).collect();
    let name = |cell: &Cell| {
        let names = cell.coords.iter().zip(&grid.input.axes).map(|(at, axis)| value_text(axis, *at));
        let name = names.collect::<Vec<_>>().join(" · ");
        if name.is_empty() { "all runs".to_owned() } else { name }
    };
    let mut charts = Vec::new();
    for metric in FIRST.into_iter().chain(MORE) {
        let bars = cells.iter().map(|cell| Bar {
            label: name(cell),
            value: metric.of(cell),
            style: grid.group_of(cell),
            tooltip: format!("{}\n{}", name(cell), outcomes(cell)),
        });
        let chart = BarChart {
            title: String::new(),
            description: metric.name().to_owned(),
            unit: metric.unit(),
            bars: bars.collect(),
            width: 470.0,
        };
        charts.push(figure("", metric.name(), &chart.render(Canvas::Page)));
    }
    let intro = if grid.count() > MOST_BARS {
        format!("The first {MOST_BARS} of {} cells; the tables have all.", grid.count())
    } else {
        String::new()
    };
    Some(Section::new("bars", "Compared", intro, panels("large", charts)))
}
