//! Palettes that readers with any kind of colour vision can follow, and scales from values to colours.

use super::axis::draw_ticks_below;
use super::scale::{Scale, ScaleKind, usable};
use super::svg::{Anchor, Area, Canvas, Rgb, Svg};
use super::unit::Unit;

/// A run of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Dark violet to yellow, evenly brighter (the values of matplotlib's *viridis*).
    Viridis,
    /// Dark violet to pale orange (the values of matplotlib's *magma*, without its black end).
    Magma,
    /// Orange over a pale middle to blue: for shares, where one half is the divide.
    OrangeBlue,
}

const VIRIDIS: [Rgb; 9] = [
    Rgb(68, 1, 84),
    Rgb(71, 44, 122),
    Rgb(59, 81, 139),
    Rgb(44, 113, 142),
    Rgb(33, 144, 141),
    Rgb(39, 173, 129),
    Rgb(92, 200, 99),
    Rgb(170, 220, 50),
    Rgb(253, 231, 37),
];

const MAGMA: [Rgb; 8] = [
    Rgb(39, 17, 89),
    Rgb(81, 18, 124),
    Rgb(129, 37, 129),
    Rgb(181, 54, 122),
    Rgb(229, 80, 100),
    Rgb(251, 135, 97),
    Rgb(254, 194, 135),
    Rgb(252, 236, 174),
];

const ORANGE_BLUE: [Rgb; 7] = [
    Rgb(166, 70, 10),
    Rgb(214, 117, 40),
    Rgb(244, 182, 116),
    Rgb(238, 232, 220),
    Rgb(150, 195, 222),
    Rgb(62, 134, 188),
    Rgb(17, 80, 143),
];

impl Palette {
    const fn stops(self) -> &'static [Rgb] {
        match self {
            Self::Viridis => &VIRIDIS,
            Self::Magma => &MAGMA,
            Self::OrangeBlue => &ORANGE_BLUE,
        }
    }

    /// The colour at a share of the way, 0 to 1; what lies outside gets the nearer end.
    pub fn at(self, share: f64) -> Rgb {
        let stops = self.stops();
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let place = share * (stops.len() - 1) as f64;
        let below = (place as usize).min(stops.len() - 2);
        let part = place - below as f64;
        let (a, b) = (stops[below], stops[below + 1]);
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
        Rgb(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
    }
}

/// From values to colours, shared by the maps that are to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct ColourScale {
    palette: Palette,
    unit: Unit,
    label: String,
    scale: Scale,
}

impl ColourScale {
    /// A scale over all usable `values`: logarithmic where they span more than a factor of thirty.
    pub fn covering(
        palette: Palette,
        unit: Unit,
        label: &str,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter_map(usable).collect();
        if unit == Unit::Share {
            // A share is judged against none and all, not against the other cells.
            values = vec![0.0, 1.0];
        }
        let low = values.iter().copied().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        let negative = values.iter().any(|value| *value < 0.0);
        let kind = if unit != Unit::Share && !negative && high > 30.0 * low {
            ScaleKind::Log
        } else {
            ScaleKind::Linear
        };
        let scale = Scale::covering(kind, values, (0.0, 1.0));
        Self { palette, unit, label: label.to_owned(), scale }
    }

    /// The colour of a value; none if it is not a usable number.
    pub fn colour(&self, value: f64) -> Option<Rgb> {
        usable(value).map(|value| self.palette.at(self.scale.place(value)))
    }

    /// What a tooltip says of a value.
    pub fn describe(&self, value: f64) -> String {
        self.unit.format(value)
    }

    /// The colour bar as a drawing of its own, for a row of maps that share it.
    pub fn bar(&self, canvas: Canvas) -> String {
        let mut svg = Svg::new(320.0, 52.0);
        self.draw_bar(&mut svg, Area::new(1.0, 20.0, 300.0, 10.0));
        svg.finish(canvas, &format!("colour scale: {}", self.label))
    }

    /// Draws the bar with its label above and its ticks below: 16 px above and 20 px below `area`, and nothing beside it.
    pub(super) fn draw_bar(&self, svg: &mut Svg, area: Area) {
        const STEPS: usize = 60;
        svg.text((area.left, area.top - 7.0), Anchor::Start, "small name", &self.label);
        let step = area.width / STEPS as f64;
        for at in 0..STEPS {
            let colour = self.palette.at((at as f64 + 0.5) / STEPS as f64);
            // A little wider than a step, so that no seam shows.
            let width = if at + 1 == STEPS { step } else { step + 0.6 };
            svg.filled(Area::new(area.left + at as f64 * step, area.top, width, area.height), colour, "");
        }
        svg.rect(area, "edge", "");
        let scale = self.scale.over((area.left, area.right()));
        let ticks = scale.ticks(self.unit, 6);
        draw_ticks_below(svg, &ticks, |value| scale.place(value), area.bottom(), (area.left, area.right()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::text_width;
    use super::*;

    #[test]
    fn sequential_palettes_only_get_brighter() {
        for palette in [Palette::Viridis, Palette::Magma] {
            let light = |at: usize| {
                let Rgb(r, g, b) = palette.at(at as f64 / 200.0);
                0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
            };
            for at in 0..200 {
                assert!(light(at + 1) + 1.0 > light(at), "{palette:?} at {at}");
            }
        }
    }

    #[test]
    fn the_bar_s_labels_stay_beside_it() {
        let scale = ColourScale::covering(Palette::OrangeBlue, Unit::Share, "runs", [0.0, 1.0]);
        let drawn = scale.bar(Canvas::Page);
        let mut texts = drawn.split("<text x=\"").skip(2);
        let (first, last) = (texts.next().expect("a first tick"), texts.last().expect("a last one"));
        let middle =
            |text: &str| text.split('"').next().and_then(|x| x.parse::<f64>().ok()).expect("a place");
        assert!(first.contains(">0 %<") && middle(first) >= text_width("0 %", 11.0) / 2.0, "{first}");
        assert!(
            last.contains(">100 %<") && middle(last) + text_width("100 %", 11.0) / 2.0 <= 301.1,
            "{last}"
        );
    }

    #[test]
    fn colours_end_where_the_values_end() {
        let scale =
            ColourScale::covering(Palette::Viridis, Unit::Milliseconds, "t", [10.0, f64::NAN, 90_000.0]);
        assert_eq!(scale.colour(10.0), Some(VIRIDIS[0]));
        assert_eq!(scale.colour(90_000.0), Some(VIRIDIS[8]));
        assert_eq!(scale.colour(f64::NAN), None);
    }
}
