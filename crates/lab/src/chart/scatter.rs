//! Two measures against each other, each with its interval: what can be had for what.

use std::collections::BTreeSet;

use super::Size;
use super::axis::{axis_title, draw_ticks_below, draw_ticks_left, draw_titles, is_narrow, widest};
use super::labels::Names;
use super::line::{LineAxis, Look, draw_legend, legend_places};
use super::scale::{Scale, usable};
use super::style::series_class;
use super::svg::{Anchor, Area, Canvas, Mark, Svg, fitted};

/// Marks that are nearer to each other than this are seen as one: half the width of a mark.
const COVERED: f64 = 5.0;
/// An axis spans at least this share of its values: what differs by less is as good as equal, and is drawn so.
const LEAST_SPAN: f64 = 0.1;

/// A value and the interval it is believed to lie in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// From where to where; none: not known.
    pub interval: Option<(f64, f64)>,
}

/// One thing that is judged by two measures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Beside its mark; empty for one of many that the legend names together.
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
    /// Of several sets with a front each, which it belongs to.
    pub set: usize,
    /// Drawn with a ring around it: the one that was chosen.
    pub chosen: bool,
    /// Shown when the pointer rests on it, below its name and values.
    pub remark: String,
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
    /// Styles with what they stand for, above the plot; empty where every mark has its name.
    pub legend: Vec<(usize, String)>,
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
        let title_room = if self.title.is_empty() { 10.0 } else { 42.0 };
        let legend = legend_places(self.legend.iter().map(|(_, name)| name.as_str()), width);
        let rows = legend.last().map_or(0, |(_, row, _)| row + 1);
        let top = title_room + rows as f64 * 18.0;
        let height = (self.size.height - top - 42.0).max(40.0);
        let mut svg = Svg::new(width, top + height + 42.0);
        if !self.title.is_empty() {
            svg.text((12.0, 23.0), Anchor::Start, "title", &fitted(&self.title, 15.5, width - 24.0));
        }
        draw_legend(&mut svg, &legend, self.legend.iter().map(|(style, _)| Look::Mark(*style)), title_room);
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
        Scale::covering(axis.kind, values.chain(axis.cover.iter().copied()), pixels).spanning(LEAST_SPAN)
    }

    fn draw_candidates(&self, svg: &mut Svg, plot: Area, x: &Scale, y: &Scale) {
        let usable = |candidate: &&Candidate| {
            usable(candidate.x.value).is_some() && usable(candidate.y.value).is_some()
        };
        let mut drawn: Vec<&Candidate> = self.candidates.iter().filter(usable).collect();
        drawn.sort_by(|a, b| a.x.value.total_cmp(&b.x.value).then(a.y.value.total_cmp(&b.y.value)));
        let place = |candidate: &Candidate| (x.place(candidate.x.value), y.place(candidate.y.value));
        let sets: BTreeSet<usize> = drawn.iter().map(|each| each.set).collect();
        let steps: Vec<Vec<(f64, f64)>> = sets
            .into_iter()
            .map(|set| {
                stairs(plot, drawn.iter().filter(|each| each.set == set && each.front).map(|e| place(e)))
            })
            .collect();
        svg.path(&steps, "front", false);
        let mut names = Names::within(plot);
        for stroke in &steps {
            names.avoid(stroke);
        }
        for candidate in &drawn {
            let strokes = cross(candidate, x, y);
            for stroke in &strokes {
                names.avoid(stroke);
            }
            svg.path(&strokes, &format!("interval {}", series_class(candidate.style)), false);
        }
        for candidate in &drawn {
            let mark = if candidate.front { Mark::Full } else { Mark::Open };
            svg.mark(candidate.style, place(candidate), mark, &self.said(candidate));
            names.keep_clear_of(place(candidate));
        }
        for candidate in drawn.iter().filter(|candidate| candidate.chosen) {
            svg.ring(place(candidate));
        }
        let wanted = joined(drawn.iter().map(|candidate| (place(candidate), candidate.name.as_str())));
        for found in names.place(&wanted, plot.width * 0.4).into_iter().flatten() {
            found.draw(svg, "small name over");
        }
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
        let name = if candidate.name.is_empty() { String::new() } else { format!("{}\n", candidate.name) };
        let remark =
            if candidate.remark.is_empty() { String::new() } else { format!("\n{}", candidate.remark) };
        format!("{name}{}\n{}{front}{remark}", of(&self.x, candidate.x), of(&self.y, candidate.y))
    }
}

/// The steps of a front whose corners come from left to right: what lies right of and above a step is worse.
fn stairs(plot: Area, corners: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for corner in corners {
        match steps.last().copied() {
            None => steps.push((corner.0, plot.top)),
            // The front may be one of more measures than two: here only what is ahead in these is joined.
            Some(last) if corner.1 <= last.1 => continue,
            Some(last) => steps.push((corner.0, last.1)),
        }
        steps.push(corner);
    }
    steps.extend(steps.last().map(|last| (plot.right(), last.1)));
    steps
}

/// The two intervals of a candidate, with a bar across each of their ends.
fn cross(candidate: &Candidate, x: &Scale, y: &Scale) -> Vec<Vec<(f64, f64)>> {
    const CAP: f64 = 3.0;
    let (px, py) = (x.place(candidate.x.value), y.place(candidate.y.value));
    let mut strokes = Vec::new();
    if let Some((left, right)) = candidate.x.interval {
        let (left, right) = (x.place(left), x.place(right));
        strokes.push(vec![(left, py), (right, py)]);
        strokes.extend([left, right].map(|end| vec![(end, py - CAP), (end, py + CAP)]));
    }
    if let Some((low, high)) = candidate.y.interval {
        let (low, high) = (y.place(low), y.place(high));
        strokes.push(vec![(px, low), (px, high)]);
        strokes.extend([low, high].map(|end| vec![(px - CAP, end), (px + CAP, end)]));
    }
    strokes
}

/// Marks that cover one another have one name in common.
fn joined<'a>(names: impl Iterator<Item = ((f64, f64), &'a str)>) -> Vec<((f64, f64), String)> {
    let mut joined: Vec<((f64, f64), Vec<&str>)> = Vec::new();
    for ((x, y), name) in names.filter(|(_, name)| !name.is_empty()) {
        match joined.iter_mut().find(|((x1, y1), _)| (x - x1).hypot(y - y1) < COVERED) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => joined.push(((x, y), vec![name])),
        }
    }
    joined.into_iter().map(|(at, names)| (at, names.join(", "))).collect()
}
