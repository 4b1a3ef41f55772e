//! Lines over an axis, one a series.

use super::Size;
use super::axis::{axis_title, draw_ticks_below, draw_ticks_left, draw_titles, is_narrow, widest};
use super::scale::{Scale, ScaleKind, usable};
use super::style;
use super::svg::{Anchor, Area, Canvas, Mark, Svg, fitted, text_width};
use super::unit::Unit;

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub struct LineAxis {
    /// What it shows, without the unit.
    pub label: String,
    /// What its numbers mean.
    pub unit: Unit,
    /// How its distances grow.
    pub kind: ScaleKind,
    /// Values that the axis must cover besides those of the lines, so that charts can share it.
    pub cover: Vec<f64>,
}

/// One point of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Where it lies.
    pub x: f64,
    /// Its value; without one the line has a gap here.
    pub y: Option<f64>,
    /// Drawn open, where the value means less: the chart's text says what.
    pub hollow: bool,
    /// Shown when the pointer rests on it.
    pub tooltip: String,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// In the colour and with the marks of a style.
    Line(usize),
    /// Only the marks of a style.
    Mark(usize),
    /// Dashed and grey without marks: for theory and limits.
    Dashed,
    /// Dotted and grey without marks: for a second of those.
    Dotted,
}

impl Look {
    /// Whose marks it has.
    const fn style(self) -> Option<usize> {
        match self {
            Self::Line(style) | Self::Mark(style) => Some(style),
            Self::Dashed | Self::Dotted => None,
        }
    }

    /// The class of its line, if it has one.
    fn class(self) -> Option<String> {
        match self {
            Self::Line(style) => Some(format!("curve {}", style::series_class(style))),
            Self::Mark(_) => None,
            Self::Dashed => Some("reference".to_owned()),
            Self::Dotted => Some("dotted".to_owned()),
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub look: Look,
    /// In the order they are joined.
    pub points: Vec<Dot>,
}

/// A line chart.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// Above the plot; may be empty.
    pub title: String,
    /// What a screen reader says.
    pub description: String,
    /// From left to right.
    pub x: LineAxis,
    /// From bottom to top.
    pub y: LineAxis,
    /// The lines, drawn in this order.
    pub series: Vec<Series>,
    /// Draw the legend above the plot.
    pub legend: bool,
    /// Natural size.
    pub size: Size,
}

/// The sign of a series for a legend in a page's text; `None` is the dashed line.
pub fn swatch(style: Option<usize>) -> String {
    let mut svg = Svg::new(26.0, 12.0);
    draw_sign(&mut svg, style.map_or(Look::Dashed, Look::Line), (0.0, 6.0));
    let drawn = svg.finish(Canvas::Page, "");
    // Beside its name the sign says nothing more to a screen reader.
    drawn.replacen(
        "class=\"chart\" role=\"img\" aria-label=\"\"",
        "class=\"chart sign\" aria-hidden=\"true\"",
        1,
    )
}

fn draw_sign(svg: &mut Svg, look: Look, (x, y): (f64, f64)) {
    if let Some(class) = look.class() {
        svg.line((x + 1.0, y), (x + 25.0, y), &class);
    }
    if let Some(style) = look.style() {
        svg.mark(style, (x + 13.0, y), Mark::Full, "");
    }
}

/// Where each name of a legend goes: left end, row, the name as it fits.
pub(super) fn legend_places<'a>(
    names: impl Iterator<Item = &'a str>,
    width: f64,
) -> Vec<(f64, usize, String)> {
    let (mut x, mut row) = (12.0, 0);
    let room = width - 24.0;
    let mut places = Vec::new();
    for name in names {
        let name = fitted(name, 11.0, room - 40.0);
        let width = 32.0 + text_width(&name, 11.0) + 16.0;
        if x > 12.0 && x + width > room {
            (x, row) = (12.0, row + 1);
        }
        places.push((x, row, name));
        x += width;
    }
    places
}

/// The signs and names of a legend whose first row stands at `top`.
pub(super) fn draw_legend(
    svg: &mut Svg,
    places: &[(f64, usize, String)],
    looks: impl Iterator<Item = Look>,
    top: f64,
) {
    for ((x, row, name), look) in places.iter().zip(looks) {
        let y = top + *row as f64 * 18.0;
        draw_sign(svg, look, (*x, y));
        svg.text((x + 32.0, y + 4.0), Anchor::Start, "small name", name);
    }
}

impl LineChart {
    /// The drawing.
    pub fn render(&self, canvas: Canvas) -> String {
        let width = self.size.width;
        let named = self.series.iter().filter(|_| self.legend);
        let legend = legend_places(named.map(|series| series.name.as_str()), width);
        let legend_rows = legend.last().map_or(0, |(_, row, _)| row + 1);
        let title_room = if self.title.is_empty() { 8.0 } else { 38.0 };
        let top = title_room + legend_rows as f64 * 18.0 + if legend_rows > 0 { 8.0 } else { 0.0 };
        // A legend of many rows makes the chart taller, not the plot smaller.
        let extra = (legend_rows.saturating_sub(2)) as f64 * 18.0;
        let height = (self.size.height + extra - top - 42.0).max(40.0);
        let mut svg = Svg::new(width, top + height + 42.0);

        let y_scale = self.scale(&self.y, true, (top + height, top + 4.0));
        let y_ticks = y_scale.ticks(self.y.unit, (height / 34.0) as usize);
        let short = is_narrow(width) || widest(&y_ticks, false) > 90.0;
        let left = 30.0 + widest(&y_ticks, short);
        let plot = Area::new(left, top, (width - left - 16.0).max(20.0), height);
        let x_scale = self.scale(&self.x, false, (plot.left + 6.0, plot.right() - 6.0));
        let each = if is_narrow(width) { 36.0 } else { 84.0 };
        let x_ticks = x_scale.ticks(self.x.unit, (plot.width / each) as usize);

        if !self.title.is_empty() {
            svg.text((12.0, 23.0), Anchor::Start, "title", &fitted(&self.title, 15.5, width - 24.0));
        }
        for tick in &y_ticks {
            let y = y_scale.place(tick.value);
            svg.line((plot.left, y), (plot.right(), y), "grid");
        }
        svg.line((plot.left, plot.bottom()), (plot.right(), plot.bottom()), "edge");
        let x_short = draw_ticks_below(
            &mut svg,
            &x_ticks,
            |value| x_scale.place(value),
            plot.bottom(),
            (plot.left - 12.0, width),
        );
        draw_ticks_left(&mut svg, &y_ticks, |value| y_scale.place(value), plot.left, short);
        let x_title = axis_title(&self.x.label, self.x.unit.base(), x_short);
        draw_titles(&mut svg, plot, &x_title, &axis_title(&self.y.label, self.y.unit.base(), short));
        draw_legend(&mut svg, &legend, self.series.iter().map(|series| series.look), title_room + 8.0);
        let alone = self.series.iter().filter(|series| series.look.style().is_some()).count() < 2;
        for series in &self.series {
            draw_series(&mut svg, series, alone, &x_scale, &y_scale);
        }
        svg.finish_described(canvas, &self.description, &self.detail())
    }

    /// What the lines show, in words: which, from where to where.
    fn detail(&self) -> String {
        let drawn = self.series.iter().filter(|series| series.look.style().is_some());
        let lines = drawn.filter_map(|series| {
            let mut values = series.points.iter().filter_map(|dot| Some((usable(dot.x)?, usable(dot.y?)?)));
            let first = values.next()?;
            let last = values.next_back().unwrap_or(first);
            let said = |(x, y)| format!("{} at {}", self.y.unit.format(y), self.x.unit.format(x));
            Some(format!("{}: from {} to {}", series.name, said(first), said(last)))
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    fn scale(&self, axis: &LineAxis, vertical: bool, pixels: (f64, f64)) -> Scale {
        let points = self.series.iter().flat_map(|series| &series.points);
        let values = points.filter_map(|point| if vertical { point.y } else { point.y.map(|_| point.x) });
        let mut values: Vec<f64> = values.chain(axis.cover.iter().copied()).collect();
        if vertical && axis.kind == ScaleKind::Linear {
            // Heights are compared, so they start at nothing.
            values.push(0.0);
        }
        Scale::covering(axis.kind, values, pixels)
    }
}

/// `alone`: no other line has marks, so that where they would run together none are needed to tell the lines apart.
fn draw_series(svg: &mut Svg, series: &Series, alone: bool, x: &Scale, y: &Scale) {
    let mut strokes: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let mut marks = Vec::new();
    for point in &series.points {
        let (Some(at), Some(value)) = (usable(point.x), point.y.and_then(usable)) else {
            strokes.push(Vec::new());
            continue;
        };
        let place = (x.place(at), y.place(value));
        if let Some(stroke) = strokes.last_mut() {
            stroke.push(place);
        }
        marks.push((place, point));
    }
    if let Some(class) = series.look.class() {
        svg.path(&strokes, &class, false);
    }
    let Some(style) = series.look.style() else { return };
    let Some(stride) = stride(&marks, alone) else { return };
    let small = crowded(&marks);
    for (place, point) in marks.iter().copied().step_by(stride) {
        let mark = match (small, point.hollow) {
            (false, false) => Mark::Full,
            (false, true) => Mark::Open,
            (true, false) => Mark::SmallFull,
            (true, true) => Mark::SmallOpen,
        };
        svg.mark(style, place, mark, &point.tooltip);
    }
}

/// Every how manyth point has a mark: all, or where the line itself is all that can be seen, as many as tell it from
/// others; none if there are no others.
fn stride(marks: &[((f64, f64), &Dot)], alone: bool) -> Option<usize> {
    match dense(marks) {
        false => Some(1),
        true if alone => None,
        true => Some((18.0 / mean_step(marks).max(0.01)).ceil() as usize),
    }
}

/// Whether the points lie so close that large marks would run together.
fn crowded(marks: &[((f64, f64), &Dot)]) -> bool {
    mean_step(marks) <= 12.0
}

/// Whether they lie so close that any marks would.
fn dense(marks: &[((f64, f64), &Dot)]) -> bool {
    marks.len() > 40 && mean_step(marks) <= 6.0
}

/// Pixels from one point to the next.
fn mean_step(marks: &[((f64, f64), &Dot)]) -> f64 {
    match (marks.first(), marks.last()) {
        (Some((first, _)), Some((last, _))) if marks.len() > 1 => {
            (last.0 - first.0).abs() / (marks.len() - 1) as f64
        }
        _ => f64::INFINITY,
    }
}
