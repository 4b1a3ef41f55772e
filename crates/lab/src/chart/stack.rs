//! Bars that are made of parts, one row a thing: where a time goes.

use super::axis::draw_ticks_below;
use super::scale::{Scale, ScaleKind, usable};
use super::style::{self, series_class};
use super::svg::{Anchor, Area, Canvas, Svg, Texture, fitted, text_width};
use super::unit::Unit;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Left of it.
    pub label: String,
    /// As many as the chart names; what is no positive number is left out.
    pub parts: Vec<f64>,
}

/// Stacked bars; as high as their rows need.
#[derive(Clone, Debug, PartialEq)]
pub struct StackChart {
    /// Above the bars; may be empty.
    pub title: String,
    /// What a screen reader says.
    pub description: String,
    /// What the values mean.
    pub unit: Unit,
    /// The names of the parts, from left to right. Each has a colour and a texture of its own.
    pub parts: Vec<String>,
    /// From top to bottom.
    pub rows: Vec<Stack>,
    /// Draw every row equally long: shares instead of sizes.
    pub shares: bool,
    /// Natural width, pixels.
    pub width: f64,
}

const ROW: f64 = 26.0;
/// Height of a row of the key.
const KEY: f64 = 20.0;

/// A value, nothing if it is none.
fn size(part: f64) -> f64 {
    usable(part).unwrap_or(0.0).max(0.0)
}

fn sum(row: &Stack) -> f64 {
    row.parts.iter().copied().map(size).sum()
}

impl StackChart {
    /// The drawing: the key of the parts that occur, the bars with their sums behind them, an axis below.
    pub fn render(&self, canvas: Canvas) -> String {
        let width = super::Size::new(self.width, 0.0).width;
        let title = if self.title.is_empty() { 6.0 } else { 38.0 };
        let key = self.key(width);
        let top = title + key.last().map_or(0.0, |(_, row, _, _)| (*row as f64 + 1.0) * KEY + 8.0);
        let mut svg = Svg::new(width, top + ROW * self.rows.len() as f64 + 30.0);
        if !self.title.is_empty() {
            svg.text((12.0, 23.0), Anchor::Start, "title", &fitted(&self.title, 15.5, width - 24.0));
        }
        for (x, row, part, name) in &key {
            let y = title + *row as f64 * KEY;
            draw_part(&mut svg, Area::new(*x, y + 2.0, 14.0, 14.0), *part, "");
            svg.text((x + 20.0, y + 13.0), Anchor::Start, "small name", name);
        }
        self.draw_rows(&mut svg, width, top);
        svg.finish_described(canvas, &self.description, &self.detail())
    }

    fn draw_rows(&self, svg: &mut Svg, width: f64, top: f64) {
        let room = width * 0.4;
        let labels = self.rows.iter().map(|row| text_width(&row.label, 12.0)).fold(0.0, f64::max).min(room);
        let texts =
            self.rows.iter().map(|row| text_width(&self.unit.format(sum(row)), 11.0)).fold(0.0, f64::max);
        let left = 12.0 + labels + 10.0;
        let full = (width - left - texts - 18.0).max(10.0);
        let bottom = top + ROW * self.rows.len() as f64;
        let (most, unit) = if self.shares {
            (1.0, Unit::Share)
        } else {
            (self.rows.iter().map(sum).fold(0.0, f64::max), self.unit)
        };
        let scale = Scale::covering(ScaleKind::Linear, [0.0, most], (left, left + full));
        let ticks = scale.ticks(unit, (full / 70.0) as usize);
        for tick in &ticks {
            let x = scale.place(tick.value);
            svg.line((x, top), (x, bottom), "grid");
        }
        for (at, row) in self.rows.iter().enumerate() {
            let y = top + ROW * at as f64;
            svg.text((left - 10.0, y + 17.0), Anchor::End, "name", &fitted(&row.label, 12.0, room));
            let whole = sum(row);
            let one = if self.shares && whole > 0.0 { 1.0 / whole } else { 1.0 };
            let mut before = 0.0;
            for (part, value) in
                row.parts.iter().copied().map(size).enumerate().filter(|(_, value)| *value > 0.0)
            {
                let (from, to) = (scale.place(before * one), scale.place((before + value) * one));
                before += value;
                let name = self.parts.get(part).map_or("", String::as_str);
                let tooltip = format!(
                    "{}\n{name}: {} of {}",
                    row.label,
                    self.unit.format(value),
                    self.unit.format(whole)
                );
                // A hair of space keeps neighbours apart.
                draw_part(
                    svg,
                    Area::new(from, y + 4.0, (to - from - 0.8).max(0.4), ROW - 8.0),
                    part,
                    &tooltip,
                );
            }
            let end = if whole > 0.0 { scale.place(whole * one) } else { left };
            let text = if whole > 0.0 { self.unit.format(whole) } else { "none".to_owned() };
            svg.text((end + 7.0, y + 17.0), Anchor::Start, "small", &text);
        }
        svg.line((left, top), (left, bottom), "edge");
        svg.line((left, bottom), (left + full, bottom), "edge");
        draw_ticks_below(svg, &ticks, |value| scale.place(value), bottom, (0.0, width));
    }

    /// The key: left end, row, which part, its name.
    fn key(&self, width: f64) -> Vec<(f64, usize, usize, String)> {
        let occurs =
            |at: usize| self.rows.iter().any(|row| row.parts.get(at).is_some_and(|part| size(*part) > 0.0));
        let (mut x, mut row) = (12.0, 0);
        let mut places = Vec::new();
        for (part, name) in self.parts.iter().enumerate().filter(|(at, _)| occurs(*at)) {
            let name = fitted(name, 11.0, width - 60.0);
            let wide = 20.0 + text_width(&name, 11.0) + 14.0;
            if x > 12.0 && x + wide > width {
                (x, row) = (12.0, row + 1);
            }
            places.push((x, row, part, name));
            x += wide;
        }
        places
    }

    /// What the bars show, in words.
    fn detail(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let parts = row.parts.iter().zip(&self.parts).filter(|(part, _)| size(**part) > 0.0);
            let parts = parts.map(|(part, name)| format!("{name} {}", self.unit.format(*part)));
            format!(
                "{}: {} ({})",
                row.label,
                self.unit.format(sum(row)),
                parts.collect::<Vec<_>>().join(", ")
            )
        });
        rows.collect::<Vec<_>>().join("; ")
    }
}

fn draw_part(svg: &mut Svg, area: Area, part: usize, tooltip: &str) {
    svg.rect(area, &format!("bar {}", series_class(part)), tooltip);
    // The texture moves on when the colours begin again.
    svg.texture(area, Texture::of(part + part / style::SERIES));
}
