//! Axes: labels that never touch each other, grid lines, titles.

use super::scale::{Scale, ScaleKind, Tick, usable};
use super::svg::{Anchor, Area, Svg, text_width};
use super::unit::Unit;

/// Size of tick labels, pixels.
pub(super) const SMALL: f64 = 11.0;
/// Charts narrower than this name the unit once, in the axis' title.
const NARROW: f64 = 480.0;

/// The places of a grid along one axis.
#[derive(Clone, Debug, PartialEq)]
pub enum GridValues {
    /// Numbers, spaced by a linear or logarithmic scale, whichever fits.
    Numbers {
        /// What they mean.
        unit: Unit,
        /// In the order of the cells.
        values: Vec<f64>,
    },
    /// Names, equally spaced.
    Names(Vec<String>),
}

/// One axis of a grid of cells.
#[derive(Clone, Debug, PartialEq)]
pub struct GridAxis {
    /// What the axis shows, in words and without its unit.
    pub label: String,
    /// Its places.
    pub values: GridValues,
}

/// Where the cells of an axis lie, as shares of its length.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bands {
    /// From and to, a pair a cell, in the order of the cells.
    pub(super) spans: Vec<(f64, f64)>,
    /// Ticks at shares of the length (in `value`).
    pub(super) ticks: Vec<Tick>,
    /// From values to shares, where the axis has numbers.
    pub(super) scale: Option<Scale>,
}

impl GridAxis {
    /// How many cells lie along it.
    pub fn len(&self) -> usize {
        match &self.values {
            GridValues::Numbers { values, .. } => values.len(),
            GridValues::Names(names) => names.len(),
        }
    }

    /// There is no cell along it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn base(&self) -> &'static str {
        match &self.values {
            GridValues::Numbers { unit, .. } => unit.base(),
            GridValues::Names(_) => "",
        }
    }

    pub(super) fn bands(&self, room: usize) -> Bands {
        match &self.values {
            GridValues::Names(names) => even_bands(names.iter().map(|name| (name.clone(), name.clone()))),
            GridValues::Numbers { unit, values } => numeric_bands(*unit, values, room).unwrap_or_else(|| {
                even_bands(values.iter().map(|value| (unit.format(*value), unit.compact(*value))))
            }),
        }
    }
}

fn even_bands(labels: impl Iterator<Item = (String, String)>) -> Bands {
    let labels: Vec<(String, String)> = labels.collect();
    let count = labels.len().max(1) as f64;
    let spans = (0..labels.len()).map(|at| (at as f64 / count, (at + 1) as f64 / count)).collect();
    let ticks = labels
        .into_iter()
        .enumerate()
        .map(|(at, (label, short))| Tick { value: (at as f64 + 0.5) / count, label, short })
        .collect();
    Bands { spans, ticks, scale: None }
}

/// Cells around their values; `None` where they could not be told apart (equal or very uneven values).
fn numeric_bands(unit: Unit, values: &[f64], room: usize) -> Option<Bands> {
    let numbers: Vec<f64> = values.iter().copied().map(usable).collect::<Option<_>>()?;
    if numbers.len() < 2 {
        return None;
    }
    let kind = ScaleKind::fitting(&numbers);
    let map = |value: f64| {
        if kind == ScaleKind::Log { value.log10() } else { value }
    };
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let sorted: Vec<f64> = order.iter().map(|at| map(numbers[*at])).collect();
    let last = sorted.len() - 1;
    let mut edges = vec![sorted[0] - (sorted[1] - sorted[0]) / 2.0];
    edges.extend(sorted.windows(2).map(|pair| f64::midpoint(pair[0], pair[1])));
    edges.push(sorted[last] + (sorted[last] - sorted[last - 1]) / 2.0);
    let (low, high) = (edges[0], edges[last + 1]);
    let narrowest = edges.windows(2).map(|pair| (pair[1] - pair[0]) / (high - low)).fold(1.0, f64::min);
    if narrowest.is_nan() || narrowest < 0.2 / sorted.len() as f64 {
        return None;
    }
    let mut spans = vec![(0.0, 0.0); numbers.len()];
    for (rank, at) in order.iter().enumerate() {
        spans[*at] = ((edges[rank] - low) / (high - low), (edges[rank + 1] - low) / (high - low));
    }
    let scale = Scale::between(kind, (low, high), (0.0, 1.0));
    let ticks = if numbers.len() <= room {
        order.iter().map(|at| Tick::at(numbers[*at], unit)).collect()
    } else {
        scale.ticks(unit, room)
    };
    let ticks = ticks.into_iter().map(|tick| Tick { value: scale.place(tick.value), ..tick }).collect();
    Some(Bands { spans, ticks, scale: Some(scale) })
}

/// The middle of each label that can be shown without touching another, for ascending `places`.
fn clear_of_each_other<'a>(
    places: &[f64],
    labels: impl Iterator<Item = &'a str>,
    limits: (f64, f64),
) -> Vec<Option<f64>> {
    let mut end = limits.0;
    let places = places.iter().zip(labels).map(|(place, label)| {
        let half = text_width(label, SMALL) / 2.0;
        // A label at the rim moves inwards, as long as it still covers its tick.
        let middle = place.max(limits.0 + half).min(limits.1 - half);
        // The slack is for what rounding takes from a label at the rim.
        let shown = middle - half >= end - 0.1 && (middle - place).abs() <= half;
        shown.then(|| {
            end = middle + half + 8.0;
            middle
        })
    });
    places.collect()
}

/// Draws tick labels below a horizontal axis at `y`; leaves out those that would touch. Returns whether
/// the short labels were used.
pub(super) fn draw_ticks_below(
    svg: &mut Svg,
    ticks: &[Tick],
    place: impl Fn(f64) -> f64,
    y: f64,
    limits: (f64, f64),
) -> bool {
    let mut ticks: Vec<&Tick> = ticks.iter().collect();
    ticks.sort_by(|a, b| place(a.value).total_cmp(&place(b.value)));
    let places: Vec<f64> = ticks.iter().map(|tick| place(tick.value)).collect();
    let mut middles = clear_of_each_other(&places, ticks.iter().map(|tick| tick.label.as_str()), limits);
    let short = middles.contains(&None);
    if short {
        middles = clear_of_each_other(&places, ticks.iter().map(|tick| tick.short.as_str()), limits);
    }
    for ((tick, x), middle) in ticks.iter().zip(places).zip(middles) {
        svg.line((x, y), (x, y + 4.0), "edge");
        if let Some(middle) = middle {
            let label = if short { &tick.short } else { &tick.label };
            svg.text((middle, y + 17.0), Anchor::Middle, "small", label);
        }
    }
    short
}

/// Draws tick labels left of a vertical axis at `x`; leaves out those that would touch.
pub(super) fn draw_ticks_left(
    svg: &mut Svg,
    ticks: &[Tick],
    place: impl Fn(f64) -> f64,
    x: f64,
    short: bool,
) {
    let mut ticks: Vec<(f64, &Tick)> = ticks.iter().map(|tick| (place(tick.value), tick)).collect();
    ticks.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut free = f64::INFINITY;
    for (y, tick) in ticks {
        svg.line((x - 4.0, y), (x, y), "edge");
        if y + SMALL > free {
            continue;
        }
        svg.text((x - 7.0, y + 4.0), Anchor::End, "small", if short { &tick.short } else { &tick.label });
        free = y - 2.0;
    }
}

/// The widest of the labels, pixels.
pub(super) fn widest(ticks: &[Tick], short: bool) -> f64 {
    let label = |tick: &Tick| text_width(if short { &tick.short } else { &tick.label }, SMALL);
    ticks.iter().map(label).fold(0.0, f64::max)
}

/// The title of an axis, with the unit if its ticks leave it out.
pub(super) fn axis_title(label: &str, base: &str, short: bool) -> String {
    if short && !base.is_empty() { format!("{label} ({base})") } else { label.to_owned() }
}

pub(super) fn is_narrow(width: f64) -> bool {
    width < NARROW
}

/// The titles of both axes around a plot.
pub(super) fn draw_titles(svg: &mut Svg, plot: Area, x: &str, y: &str) {
    svg.text((plot.left + plot.width / 2.0, plot.bottom() + 34.0), Anchor::Middle, "small name", x);
    svg.text_upwards((12.0, plot.top + plot.height / 2.0), "small name", y);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_tile_the_axis_without_gaps() {
        let values = vec![1000.0, 100.0, 10_000.0, 100_000.0];
        let bands =
            GridAxis { label: String::new(), values: GridValues::Numbers { unit: Unit::PageRate, values } }
                .bands(8);
        let mut spans = bands.spans.clone();
        assert!((spans[0].0 - 0.25).abs() < 1e-9, "the second smallest value lies second: {spans:?}");
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(spans[0].0.abs() < 1e-9 && (spans[3].1 - 1.0).abs() < 1e-9);
        assert!(spans.windows(2).all(|pair| (pair[0].1 - pair[1].0).abs() < 1e-9), "{spans:?}");
    }

    #[test]
    fn equal_values_are_told_apart_by_place() {
        let values = vec![5.0, 5.0, f64::NAN];
        let bands =
            GridAxis { label: String::new(), values: GridValues::Numbers { unit: Unit::Number, values } }
                .bands(8);
        assert_eq!(bands.spans.len(), 3);
        assert!(bands.spans.iter().all(|span| span.1 - span.0 > 0.3));
    }

    #[test]
    fn labels_that_would_touch_are_left_out() {
        let mut svg = Svg::new(100.0, 100.0);
        let ticks: Vec<Tick> = (0..50).map(|at| Tick::at(f64::from(at), Unit::Number)).collect();
        draw_ticks_below(&mut svg, &ticks, |value| value * 2.0, 10.0, (0.0, 100.0));
        let shown = svg.finish(super::super::svg::Canvas::Page, "").matches("<text").count();
        assert!((2..=6).contains(&shown), "{shown}");
    }
}
