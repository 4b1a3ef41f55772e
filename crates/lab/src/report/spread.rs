//! How the runs are spread: distribution functions and quantile strips.

use super::Spread;
use super::frame::legend;
use super::grid::{Grid, Metric};
use crate::chart::{
    Canvas, Dot, LineAxis, LineChart, Look, ScaleKind, Series, Size, Strip, StripChart, Unit, usable,
};
use crate::page::{Column, Entry, Kind, Markup, Section, Table, figure, folded, grouped, heading, panels};

/// More curves than this in one plot can't be told apart; the strips have all.
const MOST_CURVES: usize = 8;
/// Which percentiles strips and table show.
const SHOWN: [usize; 5] = [5, 25, 50, 75, 95];

const METRICS: [Metric; 3] = [Metric::Total, Metric::Downtime, Metric::Disruption];

/// The percentiles of a measure; nothing if no run completed.
fn percentiles(spread: &Spread, metric: Metric) -> Option<&[f64]> {
    let values = match metric {
        Metric::Total => &spread.total_ms,
        Metric::Downtime => &spread.downtime_ms,
        Metric::Disruption => &spread.disruption_vcpu_s,
        _ => return None,
    };
    (values.len() == 101 && values.iter().all(|value| usable(*value).is_some())).then_some(values)
}

/// The spreads of groups that exist, with their names.
fn named<'a>(grid: &Grid<'a>) -> Vec<(String, &'a Spread)> {
    let groups = grid.groups();
    let spreads = grid.input.spreads.iter().filter(|spread| spread.runs > 0);
    spreads.filter_map(|spread| Some((groups.get(spread.group)?.name.clone(), spread))).collect()
}

/// The section; nothing unless something completed.
pub(super) fn section(grid: &Grid<'_>) -> Option<Section> {
    let spreads = named(grid);
    if !spreads.iter().any(|(_, spread)| percentiles(spread, Metric::Total).is_some()) {
        return None;
    }
    let mut body = Markup::default();
    let few = spreads.len() <= MOST_CURVES;
    if few {
        body.push(&legend(grid, None));
        body.push(&panels(
            "middle",
            METRICS.map(|metric| figure("", metric.name(), &function(&spreads, metric).render(Canvas::Page))),
        ));
        body.push(&heading("The same as percentiles"));
    }
    body.push(&panels(
        "middle",
        METRICS.map(|metric| figure("", metric.name(), &strips(&spreads, metric).render(Canvas::Page))),
    ));
    body.push(&folded("The percentiles", "numbers", false, &numbers(grid, &spreads)));
    let mut intro = "Over all runs of the sweep that completed, easy and hard guests alike. The thin line goes from the \
                     5th to the 95th percentile, the thick one holds the middle half, the mark is the median; behind it \
                     stands the share that completed."
        .to_owned();
    if few {
        intro.push_str(
            " The curves have the share of all runs of a policy that completed with at most so much; one ends below \
             100 % where some did not complete.",
        );
    }
    let intro = intro.replace("policy", grid.group_word());
    Some(Section::new("spread", "How the runs are spread", intro, body))
}

/// The share of all runs that completed with at most a value.
fn function(spreads: &[(String, &Spread)], metric: Metric) -> LineChart {
    let series = spreads.iter().map(|(name, spread)| {
        let share = spread.completed as f64 / spread.runs.max(1) as f64;
        let points =
            percentiles(spread, metric).unwrap_or_default().iter().enumerate().map(|(percent, value)| {
                let y = percent as f64 / 100.0 * share;
                let said = (Unit::Share.format(y), metric.unit().format(*value));
                let name = if name.is_empty() { String::new() } else { format!("{name}\n") };
                Dot {
                    x: *value,
                    y: Some(y),
                    hollow: false,
                    tooltip: format!("{name}{} within {}", said.0, said.1),
                }
            });
        Series { name: name.clone(), look: Look::Line(spread.group), points: points.collect() }
    });
    let all = spreads.iter().filter_map(|(_, spread)| percentiles(spread, metric)).flatten().copied();
    let positive = all.filter(|value| *value > 0.0);
    let (low, high) = positive
        .fold((f64::INFINITY, 0.0), |(low, high), value| (f64::min(low, value), f64::max(high, value)));
    let kind = if high > 30.0 * low { ScaleKind::Log } else { ScaleKind::Linear };
    LineChart {
        title: String::new(),
        description: format!("{}: share of the runs that completed with at most this", metric.name()),
        x: LineAxis { label: metric.axis().to_owned(), unit: metric.unit(), kind, cover: around(low, high) },
        y: LineAxis {
            label: "runs that completed".to_owned(),
            unit: Unit::Share,
            kind: ScaleKind::Linear,
            cover: vec![0.0, 1.0],
        },
        series: series.collect(),
        legend: false,
        size: Size::new(380.0, 270.0),
    }
}

/// The ends of an axis that does not blow up what is as good as equal: a tenth of its values wide at least.
fn around(low: f64, high: f64) -> Vec<f64> {
    if high <= low * 1.1 { vec![low * 0.95, high * 1.05] } else { Vec::new() }
}

fn strips(spreads: &[(String, &Spread)], metric: Metric) -> StripChart {
    let rows = spreads.iter().map(|(name, spread)| Strip {
        label: if name.is_empty() { "all runs".to_owned() } else { name.clone() },
        quantiles: percentiles(spread, metric).map(|values| SHOWN.map(|percent| values[percent])),
        style: spread.group,
        remark: Unit::Share.format(spread.completed as f64 / spread.runs.max(1) as f64),
    });
    StripChart {
        title: String::new(),
        description: format!("{}: percentiles of the runs that completed", metric.name()),
        unit: metric.unit(),
        rows: rows.collect(),
        width: 380.0,
    }
}

fn numbers(grid: &Grid<'_>, spreads: &[(String, &Spread)]) -> Markup {
    let mut columns = vec![
        Column::new(grid.group_word(), Kind::Choice),
        Column::new("measure", Kind::Choice),
        Column::new("completed", Kind::Number),
    ];
    columns.extend(SHOWN.map(|percent| Column::new(format!("{percent}th percentile"), Kind::Number)));
    let mut table = Table::new("Percentiles of the runs that completed", columns);
    for (name, spread) in spreads {
        for metric in METRICS {
            let values = percentiles(spread, metric);
            let count = format!("{} of {}", grouped(spread.completed), grouped(spread.runs));
            let mut row = vec![
                Entry::text(if name.is_empty() { "all runs" } else { name }),
                Entry::text(metric.axis()),
                Entry::text(&count).sorted_by(spread.completed as f64 / spread.runs.max(1) as f64),
            ];
            row.extend(
                SHOWN.map(|percent| Entry::value(metric.unit(), values.map(|values| values[percent]))),
            );
            table.row(row);
        }
    }
    table.sortable().render()
}
