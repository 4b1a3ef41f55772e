//! Names beside what they name, for every chart: where they touch no mark and no other name, cross as few lines as can
//! be, and hang on a leader line where all places near the mark are taken.

use std::collections::BTreeSet;

use super::axis::SMALL;
use super::svg::{Anchor, Area, Svg, text_width, wrapped};

/// From one line of a name to the next, pixels.
const LINE: f64 = 12.0;
/// Half the size of a mark with the air around it.
const MARK: f64 = 5.5;
/// Side of the squares in which drawn lines are remembered: finer than the height of a letter.
const SQUARE: f64 = 3.0;
/// How far out names are tried around their mark, pixels from the mark to the nearest edge of the name.
const RINGS: [f64; 4] = [8.0, 14.0, 22.0, 34.0];
/// In so many directions.
const DIRECTIONS: u32 = 16;
/// Further out names stand in columns left and right of their marks, so that many leader lines make a fan.
const COLUMNS: [f64; 5] = [24.0, 40.0, 64.0, 96.0, 140.0];
/// Up to so many half lines above and below.
const STEPS: i32 = 18;
/// Marks nearer to each other than this crowd: there names are tried from the first column on, too.
const CROWD: f64 = 14.0;
/// A name whose edge is further from its mark than this hangs on a leader line.
const NEAR: f64 = 16.0;
/// What a square that a line runs through costs, in pixels of distance.
const CROSSED: f64 = 2.5;

/// Where a name goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// What the text covers.
    pub(super) area: Area,
    /// The name, in as many lines as it needs.
    lines: Vec<String>,
    anchor: Anchor,
    /// From the mark to the text, where they are far apart.
    leader: Option<Leader>,
}

/// A line from a mark to its name.
type Leader = [(f64, f64); 2];
/// What a name covers, and its leader line.
type Tried = (Area, Option<Leader>);

/// How many names have no place, what the places cost, and they.
type Arranged = ((usize, f64), Vec<Option<Place>>);

/// The names of one drawing, and what they must keep clear of.
#[derive(Debug)]
pub(super) struct Names {
    bounds: Area,
    taken: Vec<Area>,
    inked: BTreeSet<(i32, i32)>,
}

impl Names {
    /// No name leaves `bounds`.
    pub(super) const fn within(bounds: Area) -> Self {
        Self { bounds, taken: Vec::new(), inked: BTreeSet::new() }
    }

    /// No name covers the mark at a point.
    pub(super) fn keep_clear_of(&mut self, (x, y): (f64, f64)) {
        self.taken.push(Area::new(x - MARK, y - MARK, 2.0 * MARK, 2.0 * MARK));
    }

    /// Names cross these lines only where they must.
    pub(super) fn avoid(&mut self, stroke: &[(f64, f64)]) {
        for pair in stroke.windows(2) {
            let steps = (distance(pair[0], pair[1]) / (SQUARE / 2.0)).ceil().clamp(1.0, 4000.0) as u32;
            let squares = (0..=steps).map(|step| square(between(pair, f64::from(step) / f64::from(steps))));
            self.inked.extend(squares);
        }
    }

    /// Finds the places of names, each at most `room` pixels wide; none for one of which every place would cover
    /// something.
    ///
    /// A name takes the best place that those before it left. The order matters where marks crowd, so a few are tried,
    /// and the one is taken that leaves the fewest without a place, and of these the one with the shortest ways.
    pub(super) fn place(&self, wanted: &[((f64, f64), String)], room: f64) -> Vec<Option<Place>> {
        let mut best: Option<Arranged> = None;
        for order in orders(wanted) {
            for fan in [false, true] {
                let (cost, places) = self.in_order(wanted, &order, fan, room);
                let missing = places.iter().filter(|place| place.is_none()).count();
                let better = |(least, _): &((usize, f64), _)| {
                    (missing, cost).partial_cmp(least) == Some(std::cmp::Ordering::Less)
                };
                if best.as_ref().is_none_or(better) {
                    best = Some(((missing, cost), places));
                }
            }
        }
        best.map(|(_, places)| places).unwrap_or_default()
    }

    fn in_order(
        &self,
        wanted: &[((f64, f64), String)],
        order: &[usize],
        fan: bool,
        room: f64,
    ) -> (f64, Vec<Option<Place>>) {
        let mut given = Given { areas: self.taken.clone(), leaders: Vec::new() };
        let mut places = vec![None; wanted.len()];
        let mut sum = 0.0;
        for &at in order {
            let (mark, name) = &wanted[at];
            let near = |(other, _): &((f64, f64), String)| distance(*mark, *other) < CROWD;
            let alone = wanted.iter().filter(|other| near(other)).count() < 2;
            if let Some((cost, place)) = self.best(*mark, name, alone || !fan, room, &given) {
                given.areas.push(place.area);
                given.leaders.extend(place.leader);
                places[at] = Some(place);
                sum += cost;
            }
        }
        (sum, places)
    }

    /// The best place that is left.
    fn best(
        &self,
        at: (f64, f64),
        name: &str,
        close: bool,
        room: f64,
        given: &Given,
    ) -> Option<(f64, Place)> {
        let lines = wrapped(name, SMALL, room, 8);
        let width = lines.iter().map(|line| text_width(line, SMALL)).fold(0.0, f64::max);
        let size = (width, LINE * lines.len() as f64);
        let mut best: Option<(f64, Tried)> = None;
        for (preference, area) in places(at, size, close) {
            let way = distance(at, nearest(area, at)) + preference;
            if best.as_ref().is_some_and(|(least, _)| way >= *least) || !lies_in(area, self.bounds) {
                continue;
            }
            let Some((area, leader)) = given.free(at, area) else { continue };
            let crossed = squares(area).filter(|square| self.inked.contains(square)).count();
            let line = leader.as_ref().into_iter().flat_map(steps);
            let followed = line.filter(|point| self.inked.contains(&square(*point))).count();
            let cost = way + (crossed + followed) as f64 * CROSSED;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, (area, leader)));
            }
        }
        let (cost, (area, leader)) = best?;
        Some((cost, Place { area, anchor: anchor(at, area), lines, leader }))
    }
}

/// Places that are given away.
struct Given {
    areas: Vec<Area>,
    leaders: Vec<Leader>,
}

impl Given {
    /// If a name can stand there and covers nothing: the leader line to it, if it needs one.
    fn free(&self, at: (f64, f64), area: Area) -> Option<Tried> {
        if self.areas.iter().any(|other| touch(area, *other))
            || self.leaders.iter().any(|leader| runs_through(leader, area))
        {
            return None;
        }
        let end = nearest(area, at);
        let leader = (distance(at, end) > NEAR).then(|| [between(&[at, end], MARK / distance(at, end)), end]);
        let Some(line) = &leader else { return Some((area, None)) };
        // Past marks a line may run closely: they are half the size of their air.
        let shrunk = |other: &Area| {
            let air = if other.width > 2.0 * MARK + 0.1 { 0.0 } else { MARK / 2.0 };
            Area::new(other.left + air, other.top + air, other.width - 2.0 * air, other.height - 2.0 * air)
        };
        let hidden = self.areas.iter().any(|other| !holds(*other, at) && runs_through(line, shrunk(other)));
        (!hidden && !self.leaders.iter().any(|other| cross(line, other))).then_some((area, leader))
    }
}

impl Place {
    /// The text, and the leader line if it has one.
    pub(super) fn draw(&self, svg: &mut Svg, class: &str) {
        if let Some([from, to]) = self.leader {
            svg.line(from, to, "leader");
        }
        let x = match self.anchor {
            Anchor::Start => self.area.left,
            Anchor::Middle => self.area.left + self.area.width / 2.0,
            Anchor::End => self.area.right(),
        };
        for (at, line) in self.lines.iter().enumerate() {
            let y = self.area.top + LINE * (at as f64 + 1.0) - 3.0;
            svg.text((x, y), self.anchor, class, line);
        }
    }
}

/// The orders in which places are given away: as the names come, downwards, upwards, and from the middle outwards, which
/// makes a fan.
fn orders(wanted: &[((f64, f64), String)]) -> [Vec<usize>; 4] {
    let given: Vec<usize> = (0..wanted.len()).collect();
    let height = |at: usize| wanted[at].0.1;
    let mut downwards = given.clone();
    downwards.sort_by(|a, b| height(*a).total_cmp(&height(*b)));
    let middle = downwards.get(downwards.len() / 2).map_or(0.0, |at| height(*at));
    let mut outwards = downwards.clone();
    outwards.sort_by(|a, b| (height(*a) - middle).abs().total_cmp(&(height(*b) - middle).abs()));
    [given, downwards.iter().rev().copied().collect(), downwards, outwards]
}

/// Where a name of a size may stand, and what that costs besides the distance: close to its mark, then in columns
/// beside it, then above and below, where it may stand in the way of others.
fn places(at: (f64, f64), size: (f64, f64), close: bool) -> impl Iterator<Item = (f64, Area)> {
    let rings = RINGS.into_iter().take(if close { RINGS.len() } else { 0 });
    let close = rings.flat_map(move |ring| {
        (0..DIRECTIONS).map(move |direction| (f64::from(direction) * 0.3, around(at, size, ring, direction)))
    });
    let columns = COLUMNS.into_iter().flat_map(move |away| {
        (-STEPS..=STEPS).flat_map(move |step| {
            let top = at.1 - size.1 / 2.0 + f64::from(step) * LINE / 2.0;
            [at.0 - away - size.0, at.0 + away].map(|left| (2.0, Area::new(left, top, size.0, size.1)))
        })
    });
    let rows = [-56.0, -40.0, -26.0, 26.0, 40.0, 56.0].into_iter().flat_map(move |away| {
        (-4..=4).map(move |step| {
            let middle = at.0 + f64::from(step) * 20.0;
            (14.0, Area::new(middle - size.0 / 2.0, at.1 + away - size.1 / 2.0, size.0, size.1))
        })
    });
    close.chain(columns).chain(rows)
}

/// The area whose nearest edge lies about `ring` pixels from the mark in a direction.
fn around((x, y): (f64, f64), (width, height): (f64, f64), ring: f64, direction: u32) -> Area {
    // Right, left, then what lies between: names beside a mark read best.
    const ORDER: [u32; 16] = [1, 15, 7, 9, 0, 8, 2, 14, 6, 10, 3, 13, 5, 11, 4, 12];
    let turn = f64::from(ORDER[direction as usize % ORDER.len()]) / f64::from(DIRECTIONS);
    let (sin, cos) = (turn * std::f64::consts::TAU).sin_cos();
    // Around the mark on a rounded square, so that a wide text beside it keeps its distance.
    let (across, up) = ((cos * 1.4).clamp(-1.0, 1.0), (sin * 1.4).clamp(-1.0, 1.0));
    let (centre_x, centre_y) = (x + across * (width / 2.0 + ring), y - up * (height / 2.0 + ring));
    Area::new(centre_x - width / 2.0, centre_y - height / 2.0, width, height)
}

/// The end of the text that is towards its mark stays there, however wide the reader's font is.
fn anchor((x, _): (f64, f64), area: Area) -> Anchor {
    if x <= area.left {
        Anchor::Start
    } else if x >= area.right() {
        Anchor::End
    } else {
        Anchor::Middle
    }
}

fn touch(a: Area, b: Area) -> bool {
    a.right() > b.left && b.right() > a.left && a.bottom() > b.top && b.bottom() > a.top
}

fn holds(area: Area, (x, y): (f64, f64)) -> bool {
    x >= area.left && x <= area.right() && y >= area.top && y <= area.bottom()
}

fn nearest(area: Area, (x, y): (f64, f64)) -> (f64, f64) {
    (x.max(area.left).min(area.right()), y.max(area.top).min(area.bottom()))
}

fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

fn between(pair: &[(f64, f64)], share: f64) -> (f64, f64) {
    let (a, b) = (pair[0], pair[1]);
    (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share)
}

/// Points along a line, close enough to meet any text that it runs through.
fn steps(line: &Leader) -> impl Iterator<Item = (f64, f64)> + use<'_> {
    let count = (distance(line[0], line[1]) / SQUARE).ceil().clamp(1.0, 200.0) as u32;
    (0..=count).map(move |at| between(line, f64::from(at) / f64::from(count)))
}

fn runs_through(line: &Leader, area: Area) -> bool {
    let apart = |low: f64, high: f64, a: f64, b: f64| a.max(b) < low || a.min(b) > high;
    let [from, to] = *line;
    !apart(area.left, area.right(), from.0, to.0)
        && !apart(area.top, area.bottom(), from.1, to.1)
        && steps(line).any(|point| holds(area, point))
}

fn lies_in(area: Area, bounds: Area) -> bool {
    area.left >= bounds.left
        && area.right() <= bounds.right()
        && area.top >= bounds.top
        && area.bottom() <= bounds.bottom()
}

fn cross(a: &Leader, b: &Leader) -> bool {
    let side = |[from, to]: &Leader, point: (f64, f64)| {
        (to.0 - from.0) * (point.1 - from.1) - (to.1 - from.1) * (point.0 - from.0)
    };
    side(a, b[0]) * side(a, b[1]) < 0.0 && side(b, a[0]) * side(b, a[1]) < 0.0
}

fn square((x, y): (f64, f64)) -> (i32, i32) {
    ((x / SQUARE).floor() as i32, (y / SQUARE).floor() as i32)
}

fn squares(area: Area) -> impl Iterator<Item = (i32, i32)> {
    let ((left, top), (right, bottom)) =
        (square((area.left, area.top)), square((area.right(), area.bottom())));
    (left..=right).flat_map(move |x| (top..=bottom).map(move |y| (x, y)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLOT: Area = Area::new(80.0, 10.0, 460.0, 380.0);

    fn placed(marks: &[(f64, f64)], strokes: &[Vec<(f64, f64)>]) -> Vec<Option<Place>> {
        let mut names = Names::within(PLOT);
        for mark in marks {
            names.keep_clear_of(*mark);
        }
        for stroke in strokes {
            names.avoid(stroke);
        }
        let wanted: Vec<_> =
            marks.iter().enumerate().map(|(at, mark)| (*mark, format!("policy-number-{at}"))).collect();
        names.place(&wanted, 200.0)
    }

    #[test]
    fn marks_that_crowd_have_all_their_names() {
        let marks: Vec<(f64, f64)> =
            (0..12).map(|at| (520.0 + f64::from(at % 3), 200.0 + 7.0 * f64::from(at))).collect();
        let places = placed(&marks, &[]);
        let missing = places.iter().filter(|place| place.is_none()).count();
        assert_eq!(missing, 0, "{places:?}");
        assert!(places.iter().flatten().any(|place| place.leader.is_some()));
    }

    #[test]
    fn a_name_moves_out_of_a_line_s_way() {
        let mark = (200.0, 200.0);
        let line = vec![(80.0, 197.0), (540.0, 197.0)];
        let free = placed(&[mark], &[]).remove(0).expect("a place");
        assert!(squares(free.area).any(|at| at == square((220.0, 197.0))), "beside its mark: {free:?}");
        let moved = placed(&[mark], &[line]).remove(0).expect("a place");
        assert!(moved.area.top > 197.0 || moved.area.bottom() < 197.0, "{moved:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// No name covers a mark or another name, none leaves the plot, no leader line runs through a name or
        /// across another.
        #[test]
        fn names_keep_clear_of_each_other(
            marks in prop::collection::vec((80.0f64..540.0, 10.0f64..390.0), 1..24),
        ) {
            let places: Vec<Place> = placed(&marks, &[]).into_iter().flatten().collect();
            for (at, place) in places.iter().enumerate() {
                prop_assert!(place.area.left >= PLOT.left && place.area.right() <= PLOT.right());
                prop_assert!(place.area.top >= PLOT.top && place.area.bottom() <= PLOT.bottom());
                prop_assert!(marks.iter().all(|mark| !holds(place.area, *mark)), "{place:?} in {marks:?}");
                for other in &places[at + 1..] {
                    prop_assert!(!touch(place.area, other.area), "{place:?} {other:?}");
                    if let (Some(a), Some(b)) = (&place.leader, &other.leader) {
                        prop_assert!(!cross(a, b), "{place:?} {other:?}");
                    }
                }
            }
        }
    }
}
