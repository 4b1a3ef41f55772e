//! Statistics as charts.

use super::stats::{CurvePoint, Statistics};
use crate::chart::{Canvas, Dot, LineAxis, LineChart, Look, ScaleKind, Series, Size, Unit};

/// More points of a dirty rate are joined, so that a drawing stays small.
const MOST_POINTS: usize = 600;

/// Which chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    /// The writable-working-set curve.
    WorkingSet,
    /// The dirty rate over time.
    DirtyRate,
    /// How soon pages are dirtied again.
    Redirty,
    /// How many pages are dirtied how often.
    Hits,
}

impl Plot {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::WorkingSet, Self::DirtyRate, Self::Redirty, Self::Hits];

    /// The name of its file, without extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkingSet => "working-set",
            Self::DirtyRate => "dirty-rate",
            Self::Redirty => "re-dirty",
            Self::Hits => "hits",
        }
    }

    /// The chart of these statistics by name, a line each; with `bands` also the percentiles of one.
    pub fn chart(self, all: &[(String, Statistics)]) -> LineChart {
        let (title, x, y) = match self {
            Self::WorkingSet => (
                "Writable working set: different pages dirtied in a window",
                axis("length of the window", Unit::Milliseconds, ScaleKind::Log, &[]),
                axis("different pages", Unit::Pages, ScaleKind::Log, &[]),
            ),
            Self::DirtyRate => (
                "Dirty rate over time",
                axis("time", Unit::Milliseconds, ScaleKind::Linear, &[0.0]),
                axis("different pages of an interval, a second", Unit::PageRate, ScaleKind::Linear, &[0.0]),
            ),
            Self::Redirty => (
                "Re-dirty distance: time until a dirtied page is dirtied again",
                axis("time", Unit::Milliseconds, ScaleKind::Log, &[]),
                axis("share of those that are, so far", Unit::Share, ScaleKind::Linear, &[0.0, 1.0]),
            ),
            Self::Hits => (
                "How evenly pages are dirtied",
                axis("share of the intervals, at least", Unit::Share, ScaleKind::Log, &[1.0]),
                axis("share of the pages", Unit::Share, ScaleKind::Linear, &[0.0, 1.0]),
            ),
        };
        let series = all
            .iter()
            .enumerate()
            .flat_map(|(style, (name, found))| self.series(style, name, found, all.len() == 1));
        let series: Vec<Series> = series.collect();
        LineChart {
            title: title.to_owned(),
            description: format!("{title}; the tables have the same numbers"),
            x,
            y,
            legend: series.len() > 1,
            series,
            size: Size::new(640.0, 360.0),
        }
    }

    fn series(self, style: usize, name: &str, found: &Statistics, alone: bool) -> Vec<Series> {
        let one = |points| vec![Series { name: name.to_owned(), look: Look::Line(style), points }];
        match self {
            Self::WorkingSet if alone => curve_with_spread(&found.curve),
            Self::WorkingSet => one(curve(&found.curve, |point| point.mean)),
            Self::DirtyRate => one(rate(found)),
            Self::Redirty => one(redirty(found)),
            Self::Hits => one(hits(found)),
        }
    }
}

fn axis(label: &str, unit: Unit, kind: ScaleKind, cover: &[f64]) -> LineAxis {
    LineAxis { label: label.to_owned(), unit, kind, cover: cover.to_vec() }
}

/// All charts in one file, one under the other.
pub fn sheet(all: &[(String, Statistics)]) -> String {
    let charts = Plot::ALL
        .map(|plot| plot.chart(all))
        .into_iter()
        .filter(|chart| chart.series.iter().any(|series| !series.points.is_empty()));
    crate::chart::sheet(charts.map(|chart| chart.render(Canvas::Page)))
}

fn dot(x: f64, y: f64, tooltip: String) -> Dot {
    Dot { x, y: Some(y), hollow: false, tooltip }
}

fn curve(points: &[CurvePoint], value: impl Fn(&CurvePoint) -> f64) -> Vec<Dot> {
    // Nothing has no place on a logarithmic axis.
    let points = points.iter().filter(|point| value(point) > 0.0);
    points
        .map(|point| {
            let words = format!(
                "{} in {}\n{} windows",
                Unit::Pages.format(value(point)),
                Unit::Milliseconds.format(point.window_s * 1e3),
                point.windows
            );
            dot(point.window_s * 1e3, value(point), words)
        })
        .collect()
}

fn curve_with_spread(points: &[CurvePoint]) -> Vec<Series> {
    let line = |name: &str, look, points| Series { name: name.to_owned(), look, points };
    vec![
        line("mean", Look::Line(0), curve(points, |point| point.mean)),
        line("nine in ten windows have no more", Look::Dashed, curve(points, |point| point.p90)),
        line("one in ten has no more", Look::Dotted, curve(points, |point| point.p10)),
    ]
}

fn rate(found: &Statistics) -> Vec<Dot> {
    let each = found.rate.len().div_ceil(MOST_POINTS).max(1);
    let points = found.rate.chunks(each).filter_map(|points| {
        let (first, last) = (points.first()?, points.last()?);
        let pages: u64 = points.iter().map(|point| point.pages).sum();
        let length: f64 = points.iter().map(|point| point.length_s).sum();
        let rate = pages as f64 / length;
        let at = f64::midpoint(first.start_s, last.start_s + last.length_s) * 1e3;
        Some(dot(at, rate, format!("{} at {}", Unit::PageRate.format(rate), Unit::Milliseconds.format(at))))
    });
    points.collect()
}

fn redirty(found: &Statistics) -> Vec<Dot> {
    let steps = found.redirty.iter().flat_map(|redirty| &redirty.steps);
    steps
        .map(|step| {
            let words = format!(
                "{} within {}",
                Unit::Share.format(step.share),
                Unit::Milliseconds.format(step.within_s * 1e3)
            );
            dot(step.within_s * 1e3, step.share, words)
        })
        .collect()
}

/// Of all touched pages, the share that is dirtied in at least such a share of the intervals.
fn hits(found: &Statistics) -> Vec<Dot> {
    let all: u64 = found.hits.iter().map(|hits| hits.pages).sum();
    let mut left = all;
    let mut dots = Vec::new();
    for hits in found.hits.iter().filter(|_| all > 0) {
        let (least, share) = (hits.from as f64 / found.intervals.max(1) as f64, left as f64 / all as f64);
        let words = format!("{} of the pages in {} intervals or more", Unit::Share.format(share), hits.from);
        dots.push(dot(least, share, words));
        left -= hits.pages;
    }
    dots
}
