//! Several heat maps in one file, with one colour bar: what a page shows side by side.

use super::colour::ColourScale;
use super::heading::Heading;
use super::heatmap::HeatMap;
use super::svg::{Anchor, Area, Canvas, Svg, fitted, text_width};

/// Maps that share their colours.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMaps {
    /// Above all of them.
    pub title: String,
    /// Below the title, a line each.
    pub subtitles: Vec<String>,
    /// Each map with its name.
    pub maps: Vec<(String, HeatMap)>,
    /// The scale of all maps.
    pub colours: ColourScale,
    /// How many stand in a row.
    pub columns: usize,
}

const GAP: f64 = 18.0;
const NAME: f64 = 24.0;

impl HeatMaps {
    /// The drawing.
    pub fn render(&self, canvas: Canvas) -> String {
        let columns = self.columns.clamp(1, self.maps.len().max(1));
        let cell = self.maps.iter().map(|(_, map)| (map.size.width, map.size.height));
        let (wide, high) =
            cell.fold((220.0, 60.0), |(w, h), (width, height)| (f64::max(w, width), f64::max(h, height)));
        let rows = self.maps.len().div_ceil(columns);
        let width = GAP + columns as f64 * (wide + GAP);
        let heading = Heading::new(&self.title, self.subtitles.iter().map(String::as_str), GAP, width);
        let bar = heading.bottom() + 34.0;
        let top = bar + 42.0;
        let mut svg = Svg::new(width.max(420.0), top + rows as f64 * (high + NAME + GAP));
        heading.draw(&mut svg);
        self.colours.draw_bar(&mut svg, Area::new(GAP + 12.0, bar, 300.0, 10.0));
        for (at, (name, map)) in self.maps.iter().enumerate() {
            let (column, row) = (at % columns, at / columns);
            let (x, y) = (GAP + column as f64 * (wide + GAP), top + row as f64 * (high + NAME + GAP));
            let name = fitted(name, 12.0, wide);
            svg.text(
                (x + (wide - text_width(&name, 12.0)).max(0.0) / 2.0, y + 14.0),
                Anchor::Start,
                "strong",
                &name,
            );
            svg.inset(&map.draw(), (x, y + NAME));
        }
        let names: Vec<&str> = self.maps.iter().map(|(name, _)| name.as_str()).collect();
        svg.finish_described(
            canvas,
            &self.title,
            &format!("{}; maps of {}", self.subtitles.join("; "), names.join(", ")),
        )
    }
}
