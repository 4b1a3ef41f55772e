//! Two measures against each other, each with its interval: what can be had for what.

use super::Size;
use super::axis::{axis_title, draw_ticks_below, draw_ticks_left, draw_titles, is_narrow, widest};
use super::line::LineAxis;
use super::scale::{Scale, usable};
use super::style::series_class;
use super::svg::{Anchor, Area, Canvas, Mark, Svg, fitted, text_width};

/// Marks that are nearer to each other than this are seen as one: half the width of a mark.
const COVERED: f64 = 5.0;

/// A value and the interval it is believed to lie in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// From where to where; none: not known.
    pub interval: Option<(f64, f64)>,
}

/// One thing that is judged by two measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Beside its mark, where there is room.
    pub name: String,
    /// From left to right.
    pub x: Estimate,
    /// From bottom to top.
    pub y: Estimate,
    /// Which colour and mark.
    pub style: usize,
    /// On the Pareto front: nothing else is better in one measure and at least as good in the other. Others are
    /// drawn open.
    pub front: bool,
}

/// A Pareto plot; less is better on both axes.
#[derive(Clone, Debug, PartialEq)]
pub struct ParetoChart {
    /// Above the plot; may be empty.
    pub title: String,
    /// What a screen reader says.
    pub description: String,
    /// From left to right.
    pub x: LineAxis,
    /// From bottom to top.
    pub y: LineAxis,
    /// In any order.
    pub candidates: Vec<Candidate>,
    /// Natural size.
    pub size: Size,
}

impl Estimate {
    /// Its ends: the value itself where there is no interval.
    fn ends(self) -> [f64; 3] {
        let (low, high) = self.interval.unwrap_or((self.value, self.value));
        [low, self.value, high]
    }
}

impl ParetoChart {
    /// The drawing: a mark with a cross of its two intervals for each candidate, a dotted line through the front.
    pub fn render(&self, canvas: Canvas) -> String {
        let width = self.size.width;
        let top = if self.title.is_empty() { 10.0 } else { 42.0 };
        let height = (self.size.height - top - 42.0).max(40.0);
        let mut svg = Svg::new(width, top + height + 42.0);
        if !self.title.is_empty() {
            svg.text((12.0, 23.0), Anchor::Start, "title", &fitted(&self.title, 15.5, width - 24.0));
        }
        let y_scale = self.scale(&self.y, |candidate| candidate.y, (top + height - 8.0, top + 8.0));
        let y_ticks = y_scale.ticks(self.y.unit, (height / 38.0) as usize);
        let short = is_narrow(width) || widest(&y_ticks, false) > 90.0;
        let left = 30.0 + widest(&y_ticks, short);
        let plot = Area::new(left, top, (width - left - 16.0).max(20.0), height);
        let x_scale = self.scale(&self.x, |candidate| candidate.x, (plot.left + 12.0, plot.right() - 12.0));
        let x_ticks = x_scale.ticks(self.x.unit, (plot.width / 80.0) as usize);
        for tick in &y_ticks {
            let y = y_scale.place(tick.value);
            svg.line((plot.left, y), (plot.right(), y), "grid");
        }
        for tick in &x_ticks {
            let x = x_scale.place(tick.value);
            svg.line((x, plot.top), (x, plot.bottom()), "grid");
        }
        svg.line((plot.left, plot.bottom()), (plot.right(), plot.bottom()), "edge");
        let x_short =
            draw_ticks_below(&mut svg, &x_ticks, |value| x_scale.place(value), plot.bottom(), (0.0, width));
        draw_ticks_left(&mut svg, &y_ticks, |value| y_scale.place(value), plot.left, short);
        let x_title = axis_title(&self.x.label, self.x.unit.base(), x_short);
        draw_titles(&mut svg, plot, &x_title, &axis_title(&self.y.label, self.y.unit.base(), short));
        self.draw_candidates(&mut svg, plot, &x_scale, &y_scale);
        let said: Vec<String> =
            self.candidates.iter().map(|each| self.said(each).replace('\n', ", ")).collect();
        svg.finish_described(canvas, &self.description, &said.join("; "))
    }

    fn scale(&self, axis: &LineAxis, of: fn(&Candidate) -> Estimate, pixels: (f64, f64)) -> Scale {
        let values = self.candidates.iter().flat_map(|candidate| of(candidate).ends());
        Scale::covering(axis.kind, values.chain(axis.cover.iter().copied()), pixels)
    }

    fn draw_candidates(&self, svg: &mut Svg, plot: Area, x: &Scale, y: &Scale) {
        let usable = |candidate: &&Candidate| {
            usable(candidate.x.value).is_some() && usable(candidate.y.value).is_some()
        };
        let mut drawn: Vec<&Candidate> = self.candidates.iter().filter(usable).collect();
        drawn.sort_by(|a, b| a.x.value.total_cmp(&b.x.value).then(a.y.value.total_cmp(&b.y.value)));
        let place = |candidate: &Candidate| (x.place(candidate.x.value), y.place(candidate.y.value));
        let mut lowest = f64::INFINITY;
        let mut front: Vec<(f64, f64)> = Vec::new();
        // The front may be one of more measures than two: here only what is ahead in these is joined.
        for each in drawn.iter().filter(|each| each.front) {
            if each.y.value < lowest {
                lowest = each.y.value;
                front.push(place(each));
            }
        }
        // What lies right and above of a step is worse than its corner.
        let mut steps: Vec<(f64, f64)> = front.first().map(|first| (first.0, plot.top)).into_iter().collect();
        for (at, corner) in front.iter().enumerate() {
            steps.push(*corner);
            steps.push((front.get(at + 1).map_or(plot.right(), |next| next.0), corner.1));
        }
        svg.path(&[steps], "front", false);
        for candidate in &drawn {
            let class = format!("span {}", series_class(candidate.style));
            let ((px, py), [left, _, right], [low, _, high]) =
                (place(candidate), candidate.x.ends(), candidate.y.ends());
            svg.line((x.place(left), py), (x.place(right), py), &class);
            svg.line((px, y.place(low)), (px, y.place(high)), &class);
        }
        for candidate in &drawn {
            let mark = if candidate.front { Mark::Full } else { Mark::Open };
            svg.mark(candidate.style, place(candidate), mark, &self.said(candidate));
        }
        draw_names(svg, plot, drawn.iter().map(|candidate| (place(candidate), candidate.name.as_str())));
    }

    fn said(&self, candidate: &Candidate) -> String {
        let of = |axis: &LineAxis, estimate: Estimate| {
            let text = |value: f64| axis.unit.format(value);
            let interval = estimate
                .interval
                .map_or_else(String::new, |(low, high)| format!(" ({} to {})", text(low), text(high)));
            format!("{} {}{interval}", axis.label, text(estimate.value))
        };
        let front = if candidate.front { "\non the front" } else { "" };
        format!("{}\n{}\n{}{front}", candidate.name, of(&self.x, candidate.x), of(&self.y, candidate.y))
    }
}

/// Names beside their marks, on the side and at the height where they touch no other; those that find no place are
/// left out. Marks that cover one another have one name in common.
fn draw_names<'a>(svg: &mut Svg, plot: Area, names: impl Iterator<Item = ((f64, f64), &'a str)>) {
    let mut joined: Vec<((f64, f64), String)> = Vec::new();
    for ((x, y), name) in names {
        match joined.iter_mut().find(|((x1, y1), _)| (x - x1).hypot(y - y1) < COVERED) {
            Some((_, names)) => {
                names.push_str(", ");
                names.push_str(name);
            }
            None => joined.push(((x, y), name.to_owned())),
        }
    }
    let names = joined;
    let mark = |(x, y): (f64, f64)| Area::new(x - 5.0, y - 5.0, 10.0, 10.0);
    let mut taken: Vec<Area> = names.iter().map(|(at, _)| mark(*at)).collect();
    let apart = |a: Area, b: Area| {
        a.right() < b.left || b.right() < a.left || a.bottom() < b.top || b.bottom() < a.top
    };
    for ((x, y), name) in names {
        let name = fitted(&name, 11.0, plot.width * 0.5);
        let width = text_width(&name, 11.0);
        let (right, left) = (9.0, -9.0 - width);
        let places = [
            (right, -4.0),
            (left, -4.0),
            (right, 14.0),
            (left, 14.0),
            (-width / 2.0, -12.0),
            (-width / 2.0, 22.0),
            (right, -16.0),
            (left, -16.0),
        ];
        let free =
            places.into_iter().map(|(dx, dy)| Area::new(x + dx, y + dy - 9.0, width, 11.0)).find(|area| {
                let inside = area.left >= plot.left
                    && area.right() <= plot.right()
                    && area.top >= plot.top
                    && area.bottom() <= plot.bottom();
                inside && taken.iter().all(|other| apart(*area, *other))
            });
        if let Some(area) = free {
            svg.text((area.left, area.top + 9.0), Anchor::Start, "small name", &name);
            taken.push(area);
        }
    }
}
