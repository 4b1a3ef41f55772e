//! A run and what else it could have become: pending over time, decisions, and the branches from a moment.
//!
//! For `explain --plot FILE.svg`. Three drawings below each other: the whole run with what its policy would have
//! needed; the time from the moment on, enlarged, with a line a branch; a row a branch with what it came to.

use super::axis::{draw_ticks_below, draw_ticks_left};
use super::heading::Heading;
use super::labels::Names;
use super::scale::{Scale, ScaleKind, usable};
use super::svg::{Anchor, Area, Canvas, Mark, Svg, fitted, text_width};
use super::unit::Unit;

/// How a branch compares with what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compared {
    /// It is what happened.
    #[default]
    Happened,
    /// It brings the guest over, and what happened did not.
    Completes,
    /// Better.
    Better,
    /// Better by some and worse by others.
    Traded,
    /// The same.
    Same,
    /// Worse.
    Worse,
    /// It does not bring the guest over, and what happened did.
    Fails,
}

impl Compared {
    const fn style(self) -> usize {
        match self {
            Self::Happened => 0,
            Self::Completes => 7,
            Self::Better => 2,
            Self::Traded => 6,
            Self::Same => 4,
            Self::Worse => 1,
            Self::Fails => 3,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Happened => "as it was",
            Self::Completes => "brings it over",
            Self::Better => "better",
            Self::Traded => "a trade",
            Self::Same => "the same",
            Self::Worse => "worse",
            Self::Fails => "fails",
        }
    }
}

/// One course of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Its policy.
    pub name: String,
    /// How it compares.
    pub compared: Compared,
    /// `(milliseconds, bytes pending)` when each round began.
    pub curve: Vec<(f64, f64)>,
    /// When it ended, milliseconds.
    pub ended_ms: f64,
    /// How, if not by handing the guest over.
    pub failed: Option<String>,
    /// How long the guest was away, milliseconds.
    pub downtime_ms: f64,
    /// What the guest lost, vCPU-seconds.
    pub lost_vcpu_s: f64,
    /// Its verdict in a sentence.
    pub tooltip: String,
}

/// A decision at the start of a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CourseDecision {
    /// When, milliseconds.
    pub at_ms: f64,
    /// What was pending, bytes.
    pub pending: f64,
    /// The most with which the guest would have been handed over, if there is such a number.
    pub needed: Option<f64>,
    /// It was the last one.
    pub last: bool,
    /// What was decided and why.
    pub tooltip: String,
}

/// The drawing of an explanation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Branching {
    /// Above the chart: what was moved, by which policy.
    pub title: String,
    /// Below the title: how it ended.
    pub subtitle: String,
    /// What happened.
    pub happened: Course,
    /// Decisions at the start of rounds.
    pub decisions: Vec<CourseDecision>,
    /// The moment from which there are branches, milliseconds.
    pub fork_ms: Option<f64>,
    /// What the moment is.
    pub fork: String,
    /// The branches, in the order of their rows.
    pub branches: Vec<Course>,
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 28.0;
const PLOT: f64 = WIDTH - LEFT - RIGHT;
/// More points than this are thinned out in a curve.
const MOST_POINTS: usize = 1500;
/// More rows than this are summed up.
const MOST_ROWS: usize = 26;
const ROW: f64 = 19.0;
/// From one row of a key to the next.
const KEY: f64 = 18.0;
/// What the dashed line is.
const NEEDED: (&str, &str) = ("reference", "the policy would have handed over with so much pending");
/// Of more rows than this, only so many of a kind have their name in the drawing, too.
const CROWDED: usize = 12;
const MOST_NAMES: usize = 2;

fn number(value: f64) -> f64 {
    usable(value).unwrap_or(0.0).max(0.0)
}

/// Branches that come to the same, under the names of all.
struct Row<'a> {
    names: Vec<&'a str>,
    course: &'a Course,
}

impl Branching {
    /// The drawing.
    pub fn render(&self, canvas: Canvas) -> String {
        let heading = Heading::new(&self.title, [self.subtitle.as_str()], 24.0, WIDTH);
        let whole = Area::new(LEFT, heading.bottom() + 48.0, PLOT, 190.0);
        let mut bottom = whole.bottom() + 42.0;
        let fork = self.fork_ms.and_then(usable).filter(|_| !self.branches.is_empty());
        let key = self.key();
        let key_rows = key_places(&key).last().map_or(0, |(_, row)| row + 1);
        let closer = fork.map(|_| Area::new(LEFT, bottom + 40.0 + key_rows as f64 * KEY, PLOT, 230.0));
        let rows = self.rows();
        let table = closer.map(|area| area.bottom() + 84.0);
        bottom = table.map_or(bottom, |top| top + rows.len().min(MOST_ROWS) as f64 * ROW + 14.0);
        if rows.len() > MOST_ROWS {
            bottom += ROW;
        }
        let mut svg = Svg::new(WIDTH, bottom);
        heading.draw(&mut svg);
        self.draw_whole(&mut svg, whole, fork);
        if let (Some(fork), Some(area), Some(top)) = (fork, closer, table) {
            let head = format!("From {} on, under other policies", Unit::Milliseconds.format(fork));
            let key_top = area.top - 16.0 - (key_rows as f64 - 1.0) * KEY;
            svg.text((24.0, key_top - 20.0), Anchor::Start, "strong", &head);
            draw_key(&mut svg, key_top, &key);
            self.draw_closer(&mut svg, area, fork);
            draw_rows(&mut svg, top, fork, &rows);
        }
        svg.finish(canvas, &format!("{}: {}", self.title, self.subtitle))
    }

    /// Decisions with a threshold, and the lines of all that is drawn over the whole run.
    fn draw_whole(&self, svg: &mut Svg, area: Area, fork: Option<f64>) {
        let ends = [0.0, number(self.happened.ended_ms)];
        let time = Scale::covering(ScaleKind::Linear, ends, (area.left, area.right()));
        let needed = self.decisions.iter().filter_map(|decision| decision.needed);
        let values = self.happened.curve.iter().map(|point| point.1).chain(needed);
        let bytes = Scale::covering(ScaleKind::Log, values, (area.bottom() - 8.0, area.top + 4.0));
        draw_frame(svg, area, &time, &bytes);
        if let Some(fork) = fork {
            let x = time.place(fork);
            svg.line((x, area.top - 8.0), (x, area.bottom()), "decided");
            let name = format!("{}, {}", Unit::Milliseconds.format(fork), self.fork);
            let (anchor, at) =
                if x > WIDTH / 2.0 { (Anchor::End, x - 6.0) } else { (Anchor::Start, x + 6.0) };
            svg.text((at, area.top - 3.0), anchor, "small strong", &name);
        }
        svg.path(&self.needed(&time, &bytes, (0.0, f64::INFINITY)), "reference", false);
        draw_course(svg, area, &time, &bytes, &self.happened, "curve");
        self.draw_decisions(svg, &time, &bytes, 0.0);
        let key = [("curve s0", "pending when a round began"), NEEDED];
        draw_key(svg, area.top - 26.0, &key.map(|(class, name)| (class.to_owned(), name)));
        svg.text((area.right(), area.bottom() + 34.0), Anchor::End, "small name", "time since the start");
    }

    /// What the policy would have needed, as a line from decision to decision.
    fn needed(&self, time: &Scale, bytes: &Scale, (from, to): (f64, f64)) -> Vec<Vec<(f64, f64)>> {
        let mut strokes: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        let stride = self.decisions.len().div_ceil(MOST_POINTS).max(1);
        for decision in self.decisions.iter().step_by(stride) {
            let inside = decision.at_ms >= from && decision.at_ms <= to;
            match decision.needed.and_then(usable).filter(|needed| *needed > 0.0 && inside) {
                Some(needed) => {
                    let point = (time.place(decision.at_ms), bytes.place(needed));
                    strokes.last_mut().expect("never empty").push(point);
                }
                None => strokes.push(Vec::new()),
            }
        }
        // A number that was known at one moment only is drawn as a short line.
        for stroke in strokes.iter_mut().filter(|stroke| stroke.len() == 1) {
            let (x, y) = stroke[0];
            *stroke = vec![(x - 8.0, y), (x + 8.0, y)];
        }
        strokes
    }

    fn draw_decisions(&self, svg: &mut Svg, time: &Scale, bytes: &Scale, from: f64) {
        let mut last = f64::NEG_INFINITY;
        for decision in self.decisions.iter().filter(|decision| decision.at_ms >= from) {
            let at = (time.place(decision.at_ms), bytes.place(decision.pending));
            // Of many that went on, those are marked that can be told apart.
            if decision.last {
                svg.mark(0, at, Mark::Full, &decision.tooltip);
            } else if at.0 >= last + 7.0 {
                svg.mark(0, at, Mark::SmallOpen, &decision.tooltip);
                last = at.0;
            }
        }
    }

    fn draw_closer(&self, svg: &mut Svg, area: Area, fork: f64) {
        let ended = number(self.happened.ended_ms);
        let end = self.worth_showing(fork, ended);
        let span = (end - fork).max(1e-6);
        let time = Scale::covering(
            ScaleKind::Linear,
            [(fork - 0.03 * span).max(0.0), end + 0.02 * span],
            (area.left, area.right()),
        );
        let low = (fork - 0.03 * span).max(0.0);
        let shown = |course: &Course| -> Vec<f64> {
            course.curve.iter().filter(|(at, _)| *at >= low && *at <= end).map(|point| point.1).collect()
        };
        let needed = self.decisions.iter().filter(|decision| decision.at_ms >= low && decision.at_ms <= end);
        let values: Vec<f64> = std::iter::once(&self.happened)
            .chain(&self.branches)
            .flat_map(shown)
            .chain(needed.filter_map(|decision| decision.needed))
            .collect();
        let bytes = Scale::covering(ScaleKind::Log, values, (area.bottom() - 30.0, area.top + 4.0));
        draw_frame(svg, area, &time, &bytes);
        let x = time.place(fork);
        svg.line((x, area.top - 8.0), (x, area.bottom()), "decided");
        let needed = self.needed(&time, &bytes, (low, end));
        svg.path(&needed, "reference", false);
        let mut names = Names::within(area);
        names.avoid(&[(area.left, area.bottom()), (area.right(), area.bottom())]);
        for stroke in &needed {
            names.avoid(stroke);
        }
        // What is better lies on top, and what happened on all.
        let mut ends: Vec<(f64, f64)> = Vec::new();
        for course in self.branches.iter().rev() {
            let drawn = draw_course(svg, area, &time, &bytes, &from(course, fork, &self.happened), "branch");
            names.avoid(&drawn);
            ends.push(drawn.last().copied().unwrap_or((f64::NAN, f64::NAN)));
        }
        ends.reverse();
        let happened = Course {
            curve: self.happened.curve.iter().copied().filter(|(at, _)| *at >= low).collect(),
            ..self.happened.clone()
        };
        names.avoid(&draw_course(svg, area, &time, &bytes, &happened, "curve"));
        self.draw_decisions(svg, &time, &bytes, low);
        self.draw_names(svg, names, &ends);
        svg.text((area.right(), area.bottom() + 34.0), Anchor::End, "small name", "time since the start");
    }

    /// What the lines of the enlarged part are.
    fn key(&self) -> Vec<(String, &'static str)> {
        let kinds = [
            Compared::Completes,
            Compared::Better,
            Compared::Traded,
            Compared::Same,
            Compared::Worse,
            Compared::Fails,
        ];
        let used = kinds.into_iter().filter(|kind| self.branches.iter().any(|other| other.compared == *kind));
        let lines = std::iter::once(Compared::Happened).chain(used).map(|kind| {
            let class = if kind == Compared::Happened { "curve" } else { "branch" };
            (format!("{class} s{}", kind.style()), kind.name())
        });
        lines.chain([(NEEDED.0.to_owned(), NEEDED.1)]).collect()
    }

    /// The names of branches at their ends; the first of each kind, if they are many.
    fn draw_names(&self, svg: &mut Svg, mut names: Names, ends: &[(f64, f64)]) {
        ends.iter().filter(|end| end.0.is_finite()).for_each(|end| names.keep_clear_of(*end));
        let mut wanted = Vec::new();
        let (mut kind, mut of_it) = (Compared::Happened, 0);
        let rows = self.rows();
        let crowded = rows.len() > CROWDED;
        for row in rows.iter().skip(1) {
            if row.course.compared != kind {
                (kind, of_it) = (row.course.compared, 0);
            }
            of_it += 1;
            if crowded && (of_it > MOST_NAMES || kind == Compared::Same) {
                continue;
            }
            let name = match row.names.as_slice() {
                [one] => (*one).to_owned(),
                [first, others @ ..] => format!("{first} +{}", others.len()),
                [] => continue,
            };
            let course = self.branches.iter().position(|course| std::ptr::eq(course, row.course));
            let end = course.and_then(|at| ends.get(at)).filter(|end| end.0.is_finite());
            wanted.extend(end.map(|end| (*end, name)));
        }
        for place in names.place(&wanted, 220.0).into_iter().flatten() {
            place.draw(svg, "small name over");
        }
    }

    /// Up to when branches are worth drawing: one that lasts far longer than the others would hide them.
    fn worth_showing(&self, fork: f64, ended: f64) -> f64 {
        let mut ends: Vec<f64> = self.branches.iter().map(|course| number(course.ended_ms)).collect();
        ends.push(ended);
        ends.sort_by(f64::total_cmp);
        let usual = usual(&ends).max(ended);
        let near = ends.iter().rev().find(|end| **end - fork <= 2.5 * (usual - fork));
        near.copied().unwrap_or(usual)
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = vec![Row { names: vec![&self.happened.name], course: &self.happened }];
        for course in &self.branches {
            let alike = |row: &&mut Row<'_>| {
                let other = row.course;
                other.compared == course.compared
                    && other.failed == course.failed
                    && (other.ended_ms, other.downtime_ms, other.lost_vcpu_s)
                        == (course.ended_ms, course.downtime_ms, course.lost_vcpu_s)
            };
            match rows.iter_mut().find(alike) {
                Some(row) => row.names.push(&course.name),
                None => rows.push(Row { names: vec![&course.name], course }),
            }
        }
        rows
    }
}

/// What four of five values do not exceed; they are sorted.
fn usual(sorted: &[f64]) -> f64 {
    let index = (sorted.len() * 4 / 5).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(0.0)
}

/// A branch begins where what happened was at the moment.
fn from(course: &Course, fork: f64, happened: &Course) -> Course {
    let before = happened.curve.iter().rev().find(|(at, _)| *at <= fork);
    let mut curve: Vec<(f64, f64)> = before.map(|point| (fork, point.1)).into_iter().collect();
    curve.extend(course.curve.iter().filter(|(at, _)| *at > fork));
    Course { curve, ..course.clone() }
}

fn draw_frame(svg: &mut Svg, area: Area, time: &Scale, bytes: &Scale) {
    let ticks = bytes.ticks(Unit::Bytes, 6);
    for tick in &ticks {
        let y = bytes.place(tick.value);
        svg.line((area.left, y), (area.right(), y), "grid");
    }
    svg.line((area.left, area.bottom()), (area.right(), area.bottom()), "edge");
    draw_ticks_left(svg, &ticks, |value| bytes.place(value), area.left, false);
    svg.text_upwards((18.0, area.top + area.height / 2.0), "small name", "pending");
    draw_ticks_below(
        svg,
        &time.ticks(Unit::Milliseconds, 9),
        |value| time.place(value),
        area.bottom(),
        (0.0, WIDTH),
    );
}

/// A course, down to the axis where the guest is handed over; a mark where it ended, an arrow where it goes on
/// beyond the drawing. Returns its corners.
fn draw_course(
    svg: &mut Svg,
    area: Area,
    time: &Scale,
    bytes: &Scale,
    course: &Course,
    class: &str,
) -> Vec<(f64, f64)> {
    let style = course.compared.style();
    let end = time.range().1;
    let stride = course.curve.len().div_ceil(MOST_POINTS).max(1);
    let inside = course.curve.iter().step_by(stride).filter(|(at, _)| *at <= end);
    let mut points: Vec<(f64, f64)> =
        inside.map(|(at, pending)| (time.place(number(*at)), bytes.place(number(*pending)))).collect();
    let Some(&(_, last)) = points.last() else {
        return points;
    };
    let goes_on = course.ended_ms > end;
    let floor = if course.failed.is_some() || goes_on { last } else { area.bottom() };
    let at = (time.place(number(course.ended_ms).min(end)), floor);
    points.push(at);
    let strokes = [points];
    svg.path(&strokes, &format!("{class} s{style}"), false);
    let [points] = strokes;
    if goes_on {
        let arrow = vec![(at.0 - 6.0, at.1 - 4.0), at, (at.0 - 6.0, at.1 + 4.0)];
        svg.path(&[arrow], &format!("{class} s{style}"), false);
    } else {
        let mark = if course.failed.is_some() { Mark::Open } else { Mark::Full };
        svg.mark(style, at, mark, &format!("{}\n{}", course.name, course.tooltip));
    }
    points
}

/// Left end and row of each entry.
fn key_places(entries: &[(String, &str)]) -> Vec<(f64, usize)> {
    let (mut x, mut row) = (LEFT, 0);
    let places = entries.iter().map(|(_, name)| {
        let width = 28.0 + text_width(name, 11.0);
        if x > LEFT && x + width > WIDTH - RIGHT {
            (x, row) = (LEFT, row + 1);
        }
        let place = (x, row);
        x += width + 20.0;
        place
    });
    places.collect()
}

fn draw_key(svg: &mut Svg, top: f64, entries: &[(String, &str)]) {
    for ((class, name), (x, row)) in entries.iter().zip(key_places(entries)) {
        let y = top + row as f64 * KEY;
        svg.line((x, y - 4.0), (x + 22.0, y - 4.0), class);
        svg.text((x + 28.0, y), Anchor::Start, "small name", name);
    }
}

/// The left ends of the columns and their width.
const COLUMNS: [f64; 3] = [300.0, 524.0, 744.0];
const BAR: f64 = 120.0;

fn draw_rows(svg: &mut Svg, top: f64, fork: f64, rows: &[Row<'_>]) {
    let heads = ["time from there to the end", "downtime", "vCPU-seconds lost by the guest"];
    for (x, head) in COLUMNS.into_iter().zip(heads) {
        svg.text((x, top - 10.0), Anchor::Start, "small strong", head);
    }
    let values = |course: &Course| {
        let downtime = if course.failed.is_some() { 0.0 } else { number(course.downtime_ms) };
        [number(course.ended_ms - fork), downtime, number(course.lost_vcpu_s)]
    };
    let scales: [f64; 3] = std::array::from_fn(|column| {
        let mut all: Vec<f64> = rows.iter().map(|row| values(row.course)[column]).collect();
        all.sort_by(f64::total_cmp);
        let most = all.last().copied().unwrap_or(1.0);
        // One that is far off would make all others too short to compare.
        let usual = usual(&all).max(values(rows[0].course)[column]);
        let near = all.iter().rev().find(|value| **value <= 3.0 * usual);
        near.copied().filter(|near| *near > 0.0).unwrap_or(most).max(1e-9)
    });
    for (at, row) in rows.iter().take(MOST_ROWS).enumerate() {
        let y = top + at as f64 * ROW;
        let course = row.course;
        let style = course.compared.style();
        let name = fitted(&row.names.join(", "), 12.0, COLUMNS[0] - 24.0 - 26.0);
        svg.mark(style, (30.0, y + 8.0), Mark::Full, course.compared.name());
        svg.text((42.0, y + 12.0), Anchor::Start, if at == 0 { "strong" } else { "name" }, &name);
        let told = [Unit::Milliseconds, Unit::Milliseconds, Unit::VcpuSeconds];
        for (column, value) in values(course).into_iter().enumerate() {
            let share = value / scales[column];
            let width = (BAR * share.min(1.0)).max(1.0);
            let left = COLUMNS[column];
            let bar = Area::new(left, y + 2.0, width, 12.0);
            svg.rect(bar, &format!("bar s{style}"), &course.tooltip);
            let text = match (&course.failed, column) {
                (Some(failed), 1) => failed.clone(),
                _ => told[column].format(value).replace(" vCPU s", ""),
            };
            let more = if share > 1.0 { "› " } else { "" };
            svg.text((left + width + 6.0, y + 12.0), Anchor::Start, "small", &format!("{more}{text}"));
        }
    }
    if rows.len() > MOST_ROWS {
        let y = top + MOST_ROWS as f64 * ROW + 12.0;
        let text = format!("and {} more", rows.len() - MOST_ROWS);
        svg.text((42.0, y), Anchor::Start, "small", &text);
    }
}
