//! How values are spread, one row a thing: quantile strips.

use super::axis::draw_ticks_below;
use super::scale::{Scale, ScaleKind, usable};
use super::style::series_class;
use super::svg::{Anchor, Canvas, Mark, Svg, fitted, text_width};
use super::unit::Unit;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Strip {
    /// Left of it.
    pub label: String,
    /// Its 5th, 25th, 50th, 75th and 95th percentile; none if there are no values.
    pub quantiles: Option<[f64; 5]>,
    /// Which colour and mark.
    pub style: usize,
    /// Right of it: how many there are, for example.
    pub remark: String,
}

/// Quantile strips; as high as their rows need.
#[derive(Clone, Debug, PartialEq)]
pub struct StripChart {
    /// Above the strips; may be empty.
    pub title: String,
    /// What a screen reader says.
    pub description: String,
    /// What the values mean.
    pub unit: Unit,
    /// From top to bottom.
    pub rows: Vec<Strip>,
    /// Natural width, pixels.
    pub width: f64,
}

const ROW: f64 = 24.0;

/// The five numbers, if all can be drawn.
fn numbers(strip: &Strip) -> Option<[f64; 5]> {
    strip.quantiles.filter(|values| values.iter().all(|value| usable(*value).is_some()))
}

impl StripChart {
    /// The drawing: a thin line from the 5th to the 95th percentile, a thick one between the quartiles, a mark at the
    /// median. Logarithmic where the values span more than a factor of thirty.
    pub fn render(&self, canvas: Canvas) -> String {
        let width = super::Size::new(self.width, 0.0).width;
        let top = if self.title.is_empty() { 6.0 } else { 38.0 };
        let bottom = top + ROW * self.rows.len() as f64;
        let mut svg = Svg::new(width, bottom + 30.0);
        if !self.title.is_empty() {
            svg.text((12.0, 23.0), Anchor::Start, "title", &fitted(&self.title, 15.5, width - 24.0));
        }
        let wide = width * 0.36;
        let widest = |text: fn(&Strip) -> &str, size: f64| {
            self.rows.iter().map(|row| text_width(text(row), size)).fold(0.0, f64::max)
        };
        let left = 12.0 + widest(|row| &row.label, 12.0).min(wide) + 14.0;
        let right = (width - widest(|row| &row.remark, 11.0).min(wide) - 18.0).max(left + 20.0);
        // A mark at either end lies within the axis.
        let room = ((right - left) / 40.0) as usize;
        let scale = self.scale((left + 5.0, right - 5.0)).rounded(self.unit, room);
        let ticks = scale.ticks(self.unit, room);
        for tick in &ticks {
            let x = scale.place(tick.value);
            svg.line((x, top), (x, bottom), "grid");
        }
        for (at, row) in self.rows.iter().enumerate() {
            let y = top + ROW * (at as f64 + 0.5);
            svg.text((left - 14.0, y + 4.0), Anchor::End, "name", &fitted(&row.label, 12.0, wide));
            svg.text((right + 10.0, y + 4.0), Anchor::Start, "small", &fitted(&row.remark, 11.0, wide));
            let Some(values) = numbers(row) else {
                svg.text((left + 6.0, y + 4.0), Anchor::Start, "small", "no values");
                continue;
            };
            let [p5, p25, p50, p75, p95] = values.map(|value| scale.place(value));
            let class = series_class(row.style);
            svg.line((p5, y), (p95.max(p5 + 0.5), y), &format!("span {class}"));
            svg.line((p25, y), (p75.max(p25 + 0.5), y), &format!("wide {class}"));
            svg.mark(row.style, (p50, y), Mark::Full, &self.said(row));
        }
        svg.line((left, bottom), (right, bottom), "edge");
        draw_ticks_below(&mut svg, &ticks, |value| scale.place(value), bottom, (0.0, width));
        let rows: Vec<String> = self.rows.iter().map(|row| self.said(row).replace('\n', ": ")).collect();
        svg.finish_described(canvas, &self.description, &rows.join("; "))
    }

    fn scale(&self, pixels: (f64, f64)) -> Scale {
        let values: Vec<f64> = self.rows.iter().filter_map(numbers).flatten().collect();
        let positive = values.iter().copied().filter(|value| *value > 0.0);
        let (low, high) = positive
            .fold((f64::INFINITY, 0.0), |(low, high), value| (f64::min(low, value), f64::max(high, value)));
        let kind = if high > 30.0 * low { ScaleKind::Log } else { ScaleKind::Linear };
        let zero = (kind == ScaleKind::Linear).then_some(0.0);
        Scale::covering(kind, values.into_iter().chain(zero), pixels)
    }

    fn said(&self, row: &Strip) -> String {
        let text = |value: f64| self.unit.format(value);
        match numbers(row) {
            None => format!("{}\nno values", row.label),
            Some([p5, p25, p50, p75, p95]) => format!(
                "{}\nmedian {}, half between {} and {}, nine in ten between {} and {}",
                row.label,
                text(p50),
                text(p25),
                text(p75),
                text(p5),
                text(p95)
            ),
        }
    }
}
