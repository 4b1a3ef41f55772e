//! A value over two axes, as coloured cells.

use rayon::prelude::*;

use super::Size;
use super::axis::{
    Bands, GridAxis, axis_title, draw_ticks_below, draw_ticks_left, draw_titles, is_narrow, widest,
};
use super::colour::ColourScale;
use super::scale::usable;
use super::svg::{Anchor, Area, Canvas, Svg, fitted};

/// So many cells, or a row, are drawn in one go.
const CELLS_AT_ONCE: usize = 8192;

/// One cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatCell {
    /// Its value; a cell without one is hatched.
    pub value: Option<f64>,
    /// Shown when the pointer rests on it.
    pub tooltip: String,
    /// On which side of the map's outline it lies.
    pub inside: bool,
}

/// A line drawn over the map, by the values of its axes; left out where an axis has no numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// Corners, `(x, y)`.
    pub points: Vec<(f64, f64)>,
}

/// A heat map.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Above the map; may be empty.
    pub title: String,
    /// What a screen reader says.
    pub description: String,
    /// From left to right.
    pub x: GridAxis,
    /// From bottom to top.
    pub y: GridAxis,
    /// Row by row: the cell at `(x, y)` is number `y * x.len() + x`. What is missing at the end is empty.
    pub cells: Vec<HeatCell>,
    /// Colours, possibly shared with other maps.
    pub colours: ColourScale,
    /// Draw the colour bar below the map.
    pub bar: bool,
    /// A dashed line over the map.
    pub reference: Option<Reference>,
    /// Natural size.
    pub size: Size,
}

impl HeatMap {
    /// The drawing. A line separates the cells that are `inside` from those that are not.
    pub fn render(&self, canvas: Canvas) -> String {
        self.draw().finish_described(canvas, &self.description, &self.detail())
    }

    /// What the map shows, in words.
    fn detail(&self) -> String {
        let values = || self.cells.iter().filter_map(|cell| cell.value.and_then(usable));
        let (low, high) = values()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let range = if low > high {
            "no values".to_owned()
        } else {
            format!("values from {} to {}", self.colours.describe(low), self.colours.describe(high))
        };
        let (x, y, inside) =
            (self.x.len(), self.y.len(), self.cells.iter().filter(|cell| cell.inside).count());
        format!("{x} by {y} cells, {range}; {inside} cells lie within the outline")
    }

    pub(super) fn draw(&self) -> Svg {
        let mut svg = Svg::new(self.size.width, self.size.height);
        let narrow = is_narrow(self.size.width);
        let top = if self.title.is_empty() { 8.0 } else { 40.0 };
        let bottom = if self.bar { 102.0 } else { 42.0 };
        let height = (self.size.height - top - bottom).max(20.0);
        let rows = self.y.bands((height / 36.0) as usize);
        let short = narrow || widest(&rows.ticks, false) > 90.0;
        let left = 28.0 + widest(&rows.ticks, short).min(self.size.width * 0.4);
        let plot = Area::new(left, top, (self.size.width - left - 12.0).max(20.0), height);
        let columns = self.x.bands((plot.width / 68.0) as usize);

        if !self.title.is_empty() {
            svg.text(
                (12.0, 24.0),
                Anchor::Start,
                "title",
                &fitted(&self.title, 15.5, self.size.width - 24.0),
            );
        }
        self.draw_cells(&mut svg, plot, &columns, &rows);
        self.draw_outline(&mut svg, plot, &columns, &rows);
        self.draw_reference(&mut svg, plot, &columns, &rows);
        svg.rect(plot, "edge", "");
        let limits = (0.0, self.size.width);
        let x_short = draw_ticks_below(
            &mut svg,
            &columns.ticks,
            |at| plot.left + at * plot.width,
            plot.bottom(),
            limits,
        );
        draw_ticks_left(&mut svg, &rows.ticks, |at| plot.bottom() - at * plot.height, plot.left, short);
        let x_title = axis_title(&self.x.label, self.x.base(), x_short);
        draw_titles(&mut svg, plot, &x_title, &axis_title(&self.y.label, self.y.base(), short));
        if self.bar {
            let width = plot.width.min(420.0);
            self.colours.draw_bar(&mut svg, Area::new(plot.left, plot.bottom() + 66.0, width, 10.0));
        }
        svg
    }

    fn cell(&self, x: usize, y: usize) -> Option<&HeatCell> {
        self.cells.get(y * self.x.len() + x)
    }

    /// Some rows at a time, on all cores: most of a large map are its cells.
    fn draw_cells(&self, svg: &mut Svg, plot: Area, columns: &Bands, rows: &Bands) {
        let numbered: Vec<_> = rows.spans.iter().copied().enumerate().collect();
        let at_once = (CELLS_AT_ONCE / columns.spans.len().max(1)).max(1);
        let parts = numbered.par_chunks(at_once).map(|rows| {
            let mut part = Svg::new(self.size.width, self.size.height);
            for (y, row) in rows {
                self.draw_row(&mut part, plot, columns, (*y, *row));
            }
            part
        });
        for part in parts.collect::<Vec<_>>() {
            svg.draw(&part);
        }
    }

    fn draw_row(&self, svg: &mut Svg, plot: Area, columns: &Bands, (y, row): (usize, (f64, f64))) {
        for (x, column) in columns.spans.iter().enumerate() {
            let area = cell_area(plot, *column, row);
            let Some(cell) = self.cell(x, y) else {
                draw_void(svg, area, "not run");
                continue;
            };
            match cell.value.and_then(|value| self.colours.colour(value)) {
                Some(colour) => svg.filled(area, colour, &cell.tooltip),
                None => draw_void(svg, area, &cell.tooltip),
            }
        }
    }

    fn draw_outline(&self, svg: &mut Svg, plot: Area, columns: &Bands, rows: &Bands) {
        let inside = |x: usize, y: usize| self.cell(x, y).is_some_and(|cell| cell.inside);
        let by_place = |bands: &Bands| {
            let mut order: Vec<usize> = (0..bands.spans.len()).collect();
            order.sort_by(|a, b| bands.spans[*a].0.total_cmp(&bands.spans[*b].0));
            order
        };
        let (xs, ys) = (by_place(columns), by_place(rows));
        let mut strokes = Vec::new();
        for (row, y) in ys.iter().enumerate() {
            for (column, x) in xs.iter().enumerate() {
                let area = cell_area(plot, columns.spans[*x], rows.spans[*y]);
                if xs.get(column + 1).is_some_and(|right| inside(*x, *y) != inside(*right, *y)) {
                    strokes.push(vec![(area.right(), area.top), (area.right(), area.bottom())]);
                }
                if ys.get(row + 1).is_some_and(|above| inside(*x, *y) != inside(*x, *above)) {
                    strokes.push(vec![(area.left, area.top), (area.right(), area.top)]);
                }
            }
        }
        svg.path(&strokes, "halo", false);
        svg.path(&strokes, "outline", false);
    }

    fn draw_reference(&self, svg: &mut Svg, plot: Area, columns: &Bands, rows: &Bands) {
        let (Some(reference), Some(x_scale), Some(y_scale)) = (&self.reference, columns.scale, rows.scale)
        else {
            return;
        };
        let (x_scale, y_scale) =
            (x_scale.over((plot.left, plot.right())), y_scale.over((plot.bottom(), plot.top)));
        let (x_range, y_range) = (x_scale.range(), y_scale.range());
        let within = |range: (f64, f64), value: f64| {
            usable(value).is_some_and(|value| value >= range.0 && value <= range.1)
        };
        let points: Vec<(f64, f64)> = reference
            .points
            .iter()
            .filter(|(x, y)| within(x_range, *x) && within(y_range, *y))
            .map(|(x, y)| (x_scale.place(*x), y_scale.place(*y)))
            .collect();
        let strokes = [points];
        svg.path(&strokes, "refhalo", false);
        svg.path(&strokes, "refline", false);
    }
}

fn cell_area(plot: Area, column: (f64, f64), row: (f64, f64)) -> Area {
    // On whole tenths of a pixel, so that neighbours share their edge.
    let round = |value: f64| (value * 10.0).round() / 10.0;
    let (left, right) = (round(plot.left + column.0 * plot.width), round(plot.left + column.1 * plot.width));
    let (top, bottom) =
        (round(plot.bottom() - row.1 * plot.height), round(plot.bottom() - row.0 * plot.height));
    Area::new(left, top, right - left, bottom - top)
}

/// A cell without a value: grey, with strokes across it.
fn draw_void(svg: &mut Svg, area: Area, tooltip: &str) {
    svg.rect(area, "void", if tooltip.is_empty() { "no value" } else { tooltip });
    let side = area.width.min(area.height);
    if side > 3.0 {
        let middle = (area.left + area.width / 2.0, area.top + area.height / 2.0);
        let reach = side * 0.3;
        svg.line((middle.0 - reach, middle.1 + reach), (middle.0 + reach, middle.1 - reach), "hatch");
    }
}
