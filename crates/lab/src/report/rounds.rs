//! Representative runs: their rounds as curves, and where their downtime went.

use super::grid::{Grid, axis_len, value_text};
use super::{Representative, Round};
use crate::chart::{
    Canvas, Dot, LineAxis, LineChart, Look, ScaleKind, Series, Size, Stack, StackChart, Unit, usable,
};
use crate::page::{
    Column, Entry, Kind, Markup, Section, Table, figure, folded, heading, legend, note, panels,
};

/// From so many rounds on the axis is logarithmic.
const MANY: usize = 40;

/// A table of more rows than this is folded away.
const MOST_OPEN: usize = 6;

/// The runs of one place of the grid.
struct Place<'a> {
    /// Its values, in words.
    name: String,
    /// The compared ones, each with its name.
    runs: Vec<(String, usize, &'a Representative)>,
}

/// The places that have runs, in their order.
fn places<'a>(grid: &Grid<'a>) -> Vec<Place<'a>> {
    let axes = &grid.input.axes;
    let valid = |run: &&Representative| {
        run.coords.len() == axes.len() && run.coords.iter().zip(axes).all(|(at, axis)| *at < axis_len(axis))
    };
    let groups = grid.groups();
    let mut places: Vec<Place<'a>> = Vec::new();
    for run in grid.input.representatives.iter().filter(valid) {
        let coords = run.coords.iter().enumerate().filter(|(at, _)| Some(*at) != grid.series);
        let values =
            coords.map(|(at, place)| format!("{} {}", axes[at].label, value_text(&axes[at], *place)));
        let name = values.collect::<Vec<_>>().join(", ");
        let group = grid.series.map_or(0, |at| run.coords[at]);
        let entry = (groups[group].name.clone(), group, run);
        match places.iter_mut().find(|place| place.name == name) {
            Some(place) => place.runs.push(entry),
            None => places.push(Place { name, runs: vec![entry] }),
        }
    }
    places
}

/// The curves' section; nothing without runs.
pub(super) fn section(grid: &Grid<'_>) -> Option<Section> {
    let places = places(grid);
    if places.is_empty() {
        return None;
    }
    let mut body = legend([
        (Some(0), "pending when the round begins"),
        (Some(1), "found dirty by the harvest before it"),
    ]);
    for place in &places {
        if !place.name.is_empty() {
            body.push(&heading(&place.name));
        }
        let most = place.runs.iter().flat_map(|(_, _, run)| &run.kept);
        let most = most.flat_map(|round| [round.pending_pages, round.dirtied_pages]).filter_map(usable);
        let cover: Vec<f64> = most.map(|pages| pages.max(1.0)).collect();
        let charts = place.runs.iter().map(|(name, _, run)| {
            let chart = figure("", name, &curves(name, run, &cover).render(Canvas::Page));
            [chart, ending(run)].into_iter().collect::<Markup>().within("div", "")
        });
        body.push(&panels("", charts));
    }
    let intro = "Representative runs: of a cell's runs the one whose total time is the median. What must still be sent \
                 when a round begins, and what of it the guest wrote since the harvest before; where both are the same, one line \
                 hides the other. A migration converges where the upper line falls; the last round, marked open, is sent while the guest is paused or runs at \
                 the destination.";
    let held = if places.len() > 1 {
        " First a place where most converge, then the one nearby that divides them."
    } else {
        ""
    };
    Some(Section::new("rounds", "Round by round", format!("{intro}{held}"), body))
}

/// How the run ended, below its curves.
fn ending(run: &Representative) -> Markup {
    let ms = |value| Unit::Milliseconds.format(value);
    let rounds = if run.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", run.rounds) };
    let mut text = format!("{}, {rounds}, {}", run.outcome, ms(run.total_ms));
    if run.downtime_ms > 0.0 {
        text.push_str(&format!(", downtime {}", ms(run.downtime_ms)));
    }
    if run.outcome == "completed" && !run.converged {
        text.push_str("; forced");
    }
    let throttle = run.kept.iter().map(|round| round.throttle).fold(0.0, f64::max);
    if throttle > 0.0 {
        text.push_str(&format!("; throttle up to {}", Unit::Share.format(throttle)));
    }
    note(&format!("{text}; seed {}", run.seed))
}

fn curves(name: &str, run: &Representative, cover: &[f64]) -> LineChart {
    let many = run.rounds > MANY;
    // A logarithmic axis has no place for round 0.
    let first = if many { 1.0 } else { 0.0 };
    let line = |name: &str, style, of: fn(&Round) -> f64, from: u32| {
        let points = run.kept.iter().filter(|round| round.round >= from).map(|round| Dot {
            x: f64::from(round.round) + first,
            // Nothing found is drawn at the foot of the axis, which has no nought.
            y: Some(of(round).max(1.0)),
            hollow: round.handed_over,
            tooltip: tooltip(round),
        });
        Series { name: name.to_owned(), look: Look::Line(style), points: points.collect() }
    };
    let kind = if many { ScaleKind::Log } else { ScaleKind::Linear };
    let label = if many { "round, counted from 1" } else { "round" };
    LineChart {
        title: String::new(),
        description: format!("Rounds {}{name}", if name.is_empty() { "of the run" } else { "of " }),
        x: LineAxis { label: label.to_owned(), unit: Unit::Count, kind, cover: Vec::new() },
        y: LineAxis {
            label: "pages".to_owned(),
            unit: Unit::Number,
            kind: ScaleKind::Log,
            cover: cover.to_vec(),
        },
        // Before the first round all of memory is taken for dirty.
        series: vec![
            line("found dirty", 1, |round| round.dirtied_pages, 1),
            line("pending", 0, |round| round.pending_pages, 0),
        ],
        legend: false,
        size: Size::new(290.0, 220.0),
    }
}

fn tooltip(round: &Round) -> String {
    let pages = |value| Unit::Pages.format(value);
    let mut text = format!(
        "round {}, begins at {}\npending {}\nfound dirty {}",
        round.round,
        Unit::Milliseconds.format(round.started_ms),
        pages(round.pending_pages),
        pages(round.dirtied_pages)
    );
    if round.throttle > 0.0 {
        text.push_str(&format!("\nthrottle {}", Unit::Share.format(round.throttle)));
    }
    if round.handed_over {
        text.push_str("\nthe guest is away from the source");
    }
    text
}

/// Where the downtime of the same runs went; nothing if none was away.
pub(super) fn ledger(grid: &Grid<'_>) -> Option<Section> {
    let mut body = Markup::default();
    for place in places(grid) {
        let away: Vec<_> = place.runs.iter().filter(|(_, _, run)| run.downtime_ms > 0.0).collect();
        let Some((_, _, first)) = away.first() else {
            continue;
        };
        let parts: Vec<String> = first.ledger.iter().map(|(name, _)| name.clone()).collect();
        let rows = || {
            away.iter().map(|(name, _, run)| Stack {
                label: if name.is_empty() { "this run".to_owned() } else { name.clone() },
                parts: run.ledger.iter().map(|part| part.1).collect(),
            })
        };
        let chart = |name: &str, shares| {
            let chart = StackChart {
                title: String::new(),
                description: format!("Downtime by its parts, {name}, {}", place.name),
                unit: Unit::Milliseconds,
                parts: parts.clone(),
                rows: rows().collect(),
                shares,
                width: 560.0,
            };
            figure("", name, &chart.render(Canvas::Page))
        };
        if !place.name.is_empty() {
            body.push(&heading(&place.name));
        }
        body.push(&panels("large", [chart("in time", false), chart("in shares", true)]));
        let numbers = numbers(grid, &place.name, &parts, &away);
        body.push(&folded("The parts", "numbers", away.len() <= MOST_OPEN, &numbers));
    }
    let intro = "The ledger of the same runs: what the guest waited for between its last instruction at the source and its \
                 first at the destination. Runs that were not handed over are left out.";
    (!body.is_empty()).then(|| Section::new("ledger", "Where the downtime goes", intro, body))
}

/// The same numbers as a table; parts of nothing left out.
fn numbers(
    grid: &Grid<'_>,
    place: &str,
    parts: &[String],
    runs: &[&(String, usize, &Representative)],
) -> Markup {
    let occurs =
        |at: usize| runs.iter().any(|(_, _, run)| run.ledger.get(at).is_some_and(|part| part.1 > 0.0));
    let shown: Vec<usize> = (0..parts.len()).filter(|at| occurs(*at)).collect();
    let mut columns = vec![Column::new(grid.group_word(), Kind::Text)];
    columns.extend(shown.iter().map(|at| Column::new(parts[*at].clone(), Kind::Number)));
    columns.push(Column::new("in all", Kind::Number));
    let mut table = Table::new(format!("Parts of the downtime, {place}"), columns);
    for (name, _, run) in runs {
        let mut row = vec![Entry::text(if name.is_empty() { "this run" } else { name })];
        row.extend(
            shown.iter().map(|at| Entry::value(Unit::Milliseconds, run.ledger.get(*at).map(|part| part.1))),
        );
        row.push(Entry::value(Unit::Milliseconds, Some(run.downtime_ms)));
        table.row(row);
    }
    table.render()
}
