//! Charts as SVG text: heat maps, lines, bars and stacked bars, quantile strips, Pareto plots, and the timeline of
//! one migration.
//!
//! For the sweep's report (inside its page) and for `simulate --plot` (a file of its own). A chart takes
//! plain numbers with a [`Unit`] and gives a string; it must never read a result type, touch a file,
//! or fail: a number that is not finite is a missing value and is drawn as such.
//!
//! The SVG is written by hand (`svg`) and not by a plotting crate: cells carry their own tooltips, colours
//! follow the page's light or dark scheme, ticks read `100 Mbit/s` and `10 min`, and a first build has
//! nothing to wait for. What a plotting crate would give, scales and ticks, is the small part.

// Markup is joined from pieces; one allocation more for each does not matter here.
#![allow(clippy::format_push_string, clippy::format_collect)]

mod axis;
mod bars;
mod branching;
mod colour;
mod heading;
mod heatmap;
mod labels;
mod line;
mod panels;
mod scale;
mod scatter;
mod sheet;
mod stack;
mod strip;
mod style;
mod svg;
mod timeline;
mod unit;

#[cfg(test)]
mod tests;

pub use axis::{GridAxis, GridValues};
pub use bars::{Bar, BarChart};
pub use branching::{Branching, Compared, Course, CourseDecision};
pub use colour::{ColourScale, Palette};
pub use heatmap::{HeatCell, HeatMap, Reference};
pub use line::{Dot, LineAxis, LineChart, Look, Series, swatch};
pub use panels::HeatMaps;
pub use scale::ScaleKind;
pub(crate) use scale::usable;
pub use scatter::{Candidate, Estimate, ParetoChart};
pub use sheet::sheet;
pub use stack::{Stack, StackChart};
pub use strip::{Strip, StripChart};
pub use style::page_css;
pub use svg::{Canvas, Rgb, escape};
pub use timeline::{Timeline, TimelineRound};
pub use unit::Unit;

/// The size of a chart in pixels at its natural scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
}

impl Size {
    /// A size; what is too small to draw in, or no number, becomes the least that works.
    pub fn new(width: f64, height: f64) -> Self {
        let sane = |value: f64, least: f64| {
            if value.is_finite() { value.clamp(least, 4000.0) } else { least }
        };
        Self { width: sane(width, 220.0), height: sane(height, 160.0) }
    }
}
