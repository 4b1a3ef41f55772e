//! Values by name, as horizontal bars.

use super::scale::{Scale, ScaleKind, usable};
use super::style::series_class;
use super::svg::{Anchor, Area, Canvas, Svg, fitted, text_width};
use super::unit::Unit;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Left of it.
    pub label: String,
    /// Its length; without one the row says so.
    pub value: Option<f64>,
    /// Which colour.
    pub style: usize,
    /// Shown when the pointer rests on it.
    pub tooltip: String,
}

/// A bar chart; as high as its bars need.
#[derive(Clone, Debug, PartialEq)]
pub struct BarChart {
    /// Above the bars; may be empty.
    pub title: String,
    /// What a screen reader says.
    pub description: String,
    /// What the values mean.
    pub unit: Unit,
    /// From top to bottom.
    pub bars: Vec<Bar>,
    /// Natural width, pixels.
    pub width: f64,
}

const ROW: f64 = 26.0;

impl BarChart {
    /// The drawing. Bars start at 0; their values stand behind them.
    pub fn render(&self, canvas: Canvas) -> String {
        let width = super::Size::new(self.width, 0.0).width;
        let top = if self.title.is_empty() { 6.0 } else { 38.0 };
        let mut svg = Svg::new(width, top + ROW * self.bars.len() as f64 + 6.0);
        if !self.title.is_empty() {
            svg.text((12.0, 23.0), Anchor::Start, "title", &fitted(&self.title, 15.5, width - 24.0));
        }
        let room = width * 0.4;
        let labels = self.bars.iter().map(|bar| text_width(&bar.label, 12.0)).fold(0.0, f64::max).min(room);
        let texts = self.bars.iter().map(|bar| text_width(&self.value_text(bar), 11.0)).fold(0.0, f64::max);
        let left = 12.0 + labels + 10.0;
        let full = (width - left - texts - 18.0).max(10.0);
        let values = self.bars.iter().filter_map(|bar| bar.value).chain([0.0]);
        let scale = Scale::covering(ScaleKind::Linear, values, (0.0, full));
        for (at, bar) in self.bars.iter().enumerate() {
            let y = top + ROW * at as f64;
            svg.text((left - 10.0, y + 17.0), Anchor::End, "name", &fitted(&bar.label, 12.0, room));
            let length = bar.value.and_then(usable).map_or(0.0, |value| scale.place(value));
            let class = format!("bar {}", series_class(bar.style));
            svg.rect(Area::new(left, y + 4.0, length.max(1.0), ROW - 8.0), &class, &bar.tooltip);
            svg.text((left + length + 7.0, y + 17.0), Anchor::Start, "small", &self.value_text(bar));
        }
        svg.line((left, top), (left, top + ROW * self.bars.len() as f64), "edge");
        let values = self.bars.iter().map(|bar| format!("{}: {}", bar.label, self.value_text(bar)));
        svg.finish_described(canvas, &self.description, &values.collect::<Vec<_>>().join("; "))
    }

    fn value_text(&self, bar: &Bar) -> String {
        bar.value.and_then(usable).map_or_else(|| "no value".to_owned(), |value| self.unit.format(value))
    }
}
