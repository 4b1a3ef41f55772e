//! One migration from start to end: pending pages over time, rounds, throttle, the downtime and its parts.
//!
//! For `simulate --plot FILE.svg`.

use super::axis::{draw_ticks_below, draw_ticks_left};
use super::heading::Heading;
use super::labels::Names;
use super::scale::{Scale, ScaleKind, usable};
use super::style::series_class;
use super::svg::{Anchor, Area, Canvas, Mark, Svg, fitted, text_width};
use super::unit::Unit;

/// One pass over memory, as it was recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimelineRound {
    /// 0 is the bulk round.
    pub round: u32,
    /// Sent while the guest was paused.
    pub paused: bool,
    /// Since the start of the migration, milliseconds.
    pub started_ms: f64,
    /// Milliseconds.
    pub length_ms: f64,
    /// Pages that the harvest at its beginning found dirty.
    pub dirtied_pages: f64,
    /// Pages pending when it began.
    pub pending_pages: f64,
    /// Pages sent.
    pub sent_pages: f64,
    /// Share of CPU taken away at its end, 0 to 1.
    pub throttle: f64,
    /// The last decision in it.
    pub decision: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// The timeline of one migration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Above the chart: what was moved, by which policy.
    pub title: String,
    /// Below the title: how it ended, in a sentence.
    pub subtitle: String,
    /// In order.
    pub rounds: Vec<TimelineRound>,
    /// Total migration time, milliseconds.
    pub total_ms: f64,
    /// When the guest was paused, milliseconds since the start; `None` if it never was.
    pub paused_at_ms: Option<f64>,
    /// How long the guest was away, milliseconds.
    pub downtime_ms: f64,
    /// The downtime's parts, `(name, milliseconds)`; those of nothing are left out.
    pub ledger: Vec<(String, f64)>,
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 104.0;
const RIGHT: f64 = 24.0;
/// Room above the curve for the decisions, with two rows of names.
const DECISIONS: f64 = 66.0;
/// Where one round has this many times the pages of another, bars grow by ratios, or the small ones could not be seen.
const UNEVEN: f64 = 50.0;
/// More bars than this could not be told apart: neighbouring rounds then share one.
const MOST_BARS: usize = 72;
/// More rounds than this are thinned out in the curve.
const MOST_STEPS: usize = 1500;

fn number(value: f64) -> f64 {
    usable(value).unwrap_or(0.0).max(0.0)
}

impl Timeline {
    /// The drawing.
    pub fn render(&self, canvas: Canvas) -> String {
        let throttled = self.rounds.iter().any(|round| number(round.throttle) > 0.0);
        let ledger: Vec<(&str, f64)> = self
            .ledger
            .iter()
            .map(|(name, part)| (name.as_str(), number(*part)))
            .filter(|part| part.1 > 0.0)
            .collect();
        let plot_width = WIDTH - LEFT - RIGHT;
        let heading = Heading::new(&self.title, [self.subtitle.as_str()], 24.0, WIDTH);
        let pending = Area::new(LEFT, heading.bottom() + DECISIONS, plot_width, 200.0);
        let mut bottom = pending.bottom() + 44.0;
        let throttle = throttled.then(|| Area::new(LEFT, bottom + 24.0, plot_width, 60.0));
        bottom = throttle.map_or(bottom, |area| area.bottom() + 20.0);
        let rounds = Area::new(LEFT, bottom + 40.0, plot_width, 150.0);
        bottom = rounds.bottom() + 46.0;
        let parts = (!ledger.is_empty()).then(|| Area::new(LEFT, bottom + 30.0, plot_width, 22.0));
        let key_rows = parts.map_or(0, |area| ledger_rows(&ledger, area));
        bottom = parts.map_or(bottom, |area| area.bottom() + 12.0 + key_rows as f64 * 20.0);

        let mut svg = Svg::new(WIDTH, bottom + 8.0);
        heading.draw(&mut svg);
        let time = self.time_scale(pending);
        self.draw_pending(&mut svg, pending, &time, throttle);
        if let Some(area) = throttle {
            self.draw_throttle(&mut svg, area, &time);
        }
        self.draw_rounds(&mut svg, rounds);
        if let Some(area) = parts {
            draw_ledger(&mut svg, area, &ledger, number(self.downtime_ms));
        }
        svg.finish(canvas, &format!("{}: {}", self.title, self.subtitle))
    }

    fn time_scale(&self, area: Area) -> Scale {
        let ends = self.rounds.iter().map(|round| number(round.started_ms) + number(round.length_ms));
        let times = ends.chain([0.0, number(self.total_ms)]);
        Scale::covering(ScaleKind::Linear, times, (area.left, area.right()))
    }

    /// From when to when the guest was paused, in pixels.
    fn pause(&self, time: &Scale) -> Option<(f64, f64)> {
        let start = usable(self.paused_at_ms?)?;
        let (from, to) = (time.place(start), time.place(start + number(self.downtime_ms)));
        // A pause too short to see is drawn three pixels wide.
        Some((from.min(time.place(f64::MAX) - 3.0), to.max(from + 3.0).min(time.place(f64::MAX))))
    }

    fn draw_pending(&self, svg: &mut Svg, area: Area, time: &Scale, below: Option<Area>) {
        let most = self.rounds.iter().map(|round| number(round.pending_pages)).chain([0.0]);
        let pages = Scale::covering(ScaleKind::Linear, most, (area.bottom(), area.top + 2.0));
        let ticks = pages.ticks(Unit::Pages, 5);
        if let Some((from, to)) = self.pause(time) {
            let length = Unit::Milliseconds.format(number(self.downtime_ms));
            svg.rect(
                Area::new(from, area.top - 6.0, to - from, area.height + 6.0),
                "pause",
                &format!("downtime {length}"),
            );
            if let Some(below) = below {
                svg.rect(Area::new(from, below.top, to - from, below.height), "pause", "");
            }
        }
        for tick in &ticks {
            let y = pages.place(tick.value);
            svg.line((area.left, y), (area.right(), y), "grid");
        }
        self.draw_curve(svg, area, time, &pages);
        svg.line((area.left, area.bottom()), (area.right(), area.bottom()), "edge");
        draw_ticks_left(svg, &ticks, |value| pages.place(value), area.left, true);
        svg.text_upwards((18.0, area.top + area.height / 2.0), "small name", "pending pages");
        let times = time.ticks(Unit::Milliseconds, 9);
        draw_ticks_below(svg, &times, |value| time.place(value), area.bottom(), (0.0, WIDTH));
        svg.text((area.right(), area.bottom() + 34.0), Anchor::End, "small name", "time since the start");
        self.draw_decisions(svg, area, time);
    }

    fn draw_curve(&self, svg: &mut Svg, area: Area, time: &Scale, pages: &Scale) {
        let stride = self.rounds.len().div_ceil(MOST_STEPS).max(1);
        let mut points = Vec::new();
        for round in self.rounds.iter().step_by(stride) {
            let (start, pending) = (number(round.started_ms), number(round.pending_pages));
            points.push((time.place(start), pages.place(pending)));
            let left = (pending - number(round.sent_pages)).max(0.0);
            points.push((time.place(start + number(round.length_ms)), pages.place(left)));
        }
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let mut shade = vec![(first.0, area.bottom())];
        shade.extend(&points);
        shade.push((last.0, area.bottom()));
        svg.path(&[shade], "shade s0", true);
        let class = if self.rounds.len() > 150 { "curve thin s0" } else { "curve s0" };
        svg.path(&[points], class, false);
    }

    /// What was decided and when, from the last to the first.
    fn decided(&self) -> Vec<(f64, &TimelineRound, &str)> {
        let decided = self.rounds.iter().rev().filter_map(|round| {
            let decision = round.decision.as_deref()?;
            // The decision that pauses the guest comes before the round that is sent meanwhile.
            let at = if round.paused { 0.0 } else { number(round.length_ms) };
            Some((number(round.started_ms) + at, round, decision))
        });
        decided.collect()
    }

    /// A mark where a decision was taken, with its reason; a name where it was not to go on.
    fn draw_decisions(&self, svg: &mut Svg, area: Area, time: &Scale) {
        let y = area.top - 14.0;
        let mut named: Vec<((f64, f64), &str, usize)> = Vec::new();
        let (mut last_mark, mut latest) = (f64::INFINITY, f64::INFINITY);
        for (at, round, decision) in self.decided() {
            let x = time.place(at);
            let goes_on = decision == "continue";
            if !goes_on {
                match named.last_mut() {
                    // The same shortly before: both have one name, at the first of them.
                    Some((first, name, count)) if *name == decision && latest - x < 60.0 => {
                        first.0 = x;
                        *count += 1;
                    }
                    _ => {
                        latest = x;
                        named.push(((x, y), decision, 1));
                    }
                }
            }
            // Of many rounds that go on, those are marked that can be told apart.
            if (goes_on && x > last_mark - 9.0) || x > last_mark - 0.5 {
                continue;
            }
            last_mark = x;
            let reason = round.reason.as_deref().unwrap_or("");
            let tooltip = format!("round {}: {decision}\n{reason}", round.round);
            if goes_on {
                svg.mark(4, (x, y), Mark::Open, &tooltip);
            } else {
                svg.line((x, y), (x, area.bottom()), "decided");
                svg.mark(3, (x, y), Mark::Full, &tooltip);
            }
        }
        let room = Area::new(4.0, area.top - DECISIONS + 10.0, WIDTH - 8.0, DECISIONS - 30.0);
        let wanted = named.into_iter().map(|(at, decision, count)| {
            (at, if count > 1 { format!("{decision} ×{count}") } else { decision.to_owned() })
        });
        let places = Names::within(room).place(&wanted.collect::<Vec<_>>(), 300.0);
        for place in places.into_iter().flatten() {
            place.draw(svg, "small name");
        }
    }

    fn draw_throttle(&self, svg: &mut Svg, area: Area, time: &Scale) {
        let scale = Scale::covering(ScaleKind::Linear, [0.0, 1.0], (area.bottom(), area.top));
        let ticks = scale.ticks(Unit::Share, 2);
        let mut points = vec![(time.place(0.0), scale.place(0.0))];
        let stride = self.rounds.len().div_ceil(MOST_STEPS).max(1);
        for round in self.rounds.iter().step_by(stride) {
            let end = time.place(number(round.started_ms) + number(round.length_ms));
            let before = points.last().map_or(area.bottom(), |point| point.1);
            points.push((end, before));
            points.push((end, scale.place(number(round.throttle))));
        }
        let mut shade = points.clone();
        shade.push((points.last().map_or(area.left, |point| point.0), area.bottom()));
        svg.path(&[shade], "shade s1", true);
        svg.path(&[points], "curve s1", false);
        svg.line((area.left, area.bottom()), (area.right(), area.bottom()), "edge");
        draw_ticks_left(svg, &ticks, |value| scale.place(value), area.left, false);
        svg.text((area.left, area.top - 8.0), Anchor::Start, "small name", "CPU taken away by the throttle");
    }

    fn draw_rounds(&self, svg: &mut Svg, area: Area) {
        let per_bar = self.rounds.len().div_ceil(MOST_BARS).max(1);
        let slots: Vec<&[TimelineRound]> = self.rounds.chunks(per_bar).collect();
        let mean = |rounds: &[TimelineRound], of: fn(&TimelineRound) -> f64| {
            rounds.iter().map(|round| number(of(round))).sum::<f64>() / rounds.len() as f64
        };
        let heights: Vec<(f64, f64)> = slots
            .iter()
            .map(|bar| (mean(bar, |round| round.sent_pages), mean(bar, |round| round.dirtied_pages)))
            .collect();
        let pages = bar_scale(&heights, (area.bottom(), area.top + 2.0));
        let ticks = pages.ticks(Unit::Pages, 4);
        for tick in &ticks {
            let y = pages.place(tick.value);
            svg.line((area.left, y), (area.right(), y), "grid");
        }
        draw_bars(svg, area, &slots, &heights, &pages);
        svg.line((area.left, area.bottom()), (area.right(), area.bottom()), "edge");
        draw_ticks_left(svg, &ticks, |value| pages.place(value), area.left, true);
        let ratios = pages.kind() == ScaleKind::Log;
        let title = if ratios { "pages, by ratios" } else { "pages" };
        svg.text_upwards((18.0, area.top + area.height / 2.0), "small name", title);
        let title = if per_bar > 1 {
            format!("first round of each bar (a bar is the mean of {per_bar})")
        } else {
            "round".to_owned()
        };
        svg.text((area.right(), area.bottom() + 34.0), Anchor::End, "small name", &title);
        draw_key(svg, area, self.paused_at_ms.is_some());
    }
}

/// The scale of the bars; one by ratios begins at the power of ten below the smallest.
fn bar_scale(heights: &[(f64, f64)], pixels: (f64, f64)) -> Scale {
    let values = || heights.iter().flat_map(|(sent, dirtied)| [*sent, *dirtied]);
    let most = values().fold(0.0, f64::max);
    let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    if most > UNEVEN * least {
        let below = 10f64.powf((least.log10() - 1e-9).floor());
        Scale::covering(ScaleKind::Log, [below, most], pixels)
    } else {
        Scale::covering(ScaleKind::Linear, [0.0, most], pixels)
    }
}

/// The bars of the rounds: for each slot what was sent and what was found dirty.
fn draw_bars(svg: &mut Svg, area: Area, slots: &[&[TimelineRound]], heights: &[(f64, f64)], pages: &Scale) {
    let slot = area.width / slots.len().max(1) as f64;
    let width = (slot * 0.38).min(34.0);
    let mut free = 0.0;
    for (at, (bar, (sent, dirtied))) in slots.iter().zip(heights).enumerate() {
        let middle = area.left + slot * (at as f64 + 0.5);
        let (name, tooltip) = describe(bar, *sent, *dirtied);
        if bar.iter().any(|round| round.paused) {
            let wide = (width * 2.0 + 6.0).min(slot);
            svg.rect(Area::new(middle - wide / 2.0, area.top, wide, area.height), "pause", &tooltip);
        }
        for (style, left, value) in [(0, middle - width, *sent), (1, middle + 0.5, *dirtied)] {
            let top = if value > 0.0 { pages.place(value).min(area.bottom() - 1.0) } else { area.bottom() };
            let body = Area::new(left, top, width - 0.5, area.bottom() - top);
            svg.rect(body, &format!("bar {}", series_class(style)), &tooltip);
        }
        let half = text_width(&name, 11.0) / 2.0;
        if middle - half > free && middle + half < WIDTH - 4.0 {
            svg.text((middle, area.bottom() + 16.0), Anchor::Middle, "small", &name);
            free = middle + half + 6.0;
        }
    }
}

fn draw_key(svg: &mut Svg, area: Area, paused: bool) {
    let mut x = area.left;
    let key =
        [("bar s0", "sent in the round"), ("bar s1", "found dirty at its start"), ("pause", "guest away")];
    for (class, name) in key.into_iter().take(if paused { 3 } else { 2 }) {
        svg.rect(Area::new(x, area.top - 24.0, 12.0, 12.0), class, "");
        svg.text((x + 18.0, area.top - 14.0), Anchor::Start, "small name", name);
        x += 18.0 + text_width(name, 11.0) + 20.0;
    }
}

fn describe(bar: &[TimelineRound], sent: f64, dirtied: f64) -> (String, String) {
    let (first, last) =
        (bar.first().map_or(0, |round| round.round), bar.last().map_or(0, |round| round.round));
    let pages = |value: f64| Unit::Pages.format(value);
    let length: f64 = bar.iter().map(|round| number(round.length_ms)).sum();
    let length = Unit::Milliseconds.format(length);
    if first == last {
        let text = format!("round {first}, {length}\nsent {}\nfound dirty {}", pages(sent), pages(dirtied));
        (first.to_string(), text)
    } else {
        let text = format!(
            "rounds {first} to {last}, {length} in all\nmean sent {}\nmean found dirty {}",
            pages(sent),
            pages(dirtied)
        );
        (first.to_string(), text)
    }
}

/// The legend's rows: for each part its row and left end.
fn ledger_places(parts: &[(&str, f64)], area: Area) -> Vec<(usize, f64, String)> {
    let (mut x, mut row) = (area.left, 0);
    parts
        .iter()
        .map(|(name, part)| {
            let text =
                fitted(&format!("{name} {}", Unit::Milliseconds.format(*part)), 11.0, area.width - 20.0);
            let width = 18.0 + text_width(&text, 11.0) + 18.0;
            if x > area.left && x + width > area.right() {
                (x, row) = (area.left, row + 1);
            }
            let place = (row, x, text);
            x += width;
            place
        })
        .collect()
}

fn ledger_rows(parts: &[(&str, f64)], area: Area) -> usize {
    ledger_places(parts, area).last().map_or(0, |(row, _, _)| row + 1)
}

fn draw_ledger(svg: &mut Svg, area: Area, parts: &[(&str, f64)], downtime: f64) {
    let text = format!("downtime {} and its parts", Unit::Milliseconds.format(downtime));
    svg.text((area.left, area.top - 9.0), Anchor::Start, "small strong", &text);
    let total: f64 = parts.iter().map(|part| part.1).sum();
    let mut x = area.left;
    for (at, ((name, part), (row, left, text))) in parts.iter().zip(ledger_places(parts, area)).enumerate() {
        let width = area.width * part / total;
        let class = format!("bar {}", series_class(at));
        let tooltip = format!("{name}: {}", Unit::Milliseconds.format(*part));
        // A hair of space keeps neighbours apart.
        svg.rect(Area::new(x, area.top, (width - 1.0).max(0.6), area.height), &class, &tooltip);
        x += width;
        let y = area.bottom() + 12.0 + row as f64 * 20.0;
        svg.rect(Area::new(left, y, 12.0, 12.0), &class, "");
        svg.text((left + 18.0, y + 10.0), Anchor::Start, "small name", &text);
    }
}
