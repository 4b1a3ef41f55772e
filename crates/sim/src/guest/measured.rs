//! The pages of a measured program: where each class lies, and which of them a stretch of time dirties.
//!
//! One of the shapes of a writer. Counts of writes are the program's own time here: the mean rate times
//! the time that it ran. What is done in it varies with its activity, see `activity`.
//!
//! Nobody measured where in memory pages of a class are, so they are scattered, page by page, over the
//! writer's working set; pages that are written in turn lie anywhere, too. Which pages they are is drawn
//! once in a run: a hot page stays hot.
//!
//! What faults of first writes cost (`untouched`, `fresh`) is reckoned at average activity.

use std::ops::Range;

use super::activity::Path;
use super::mask::{Law, Sampler, each_word};
use super::rng::{Generator, below, normal, shuffle};
use super::shape::cycle_runs;
use super::touch::unit;
use super::wear::Wear;
use crate::config::{Follows, MeasuredWrites, WriteAt};

/// Pages of one kind; their places are neighbours in the list of pages.
#[derive(Clone, Debug)]
struct Kind {
    places: Range<u64>,
    turn: Turn,
    follows: Follows,
    /// Bytes that a write changes, and whether they are always the same.
    change: (f64, bool),
}

/// When its pages are written.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Any time: the share of the writes that each page gets.
    Random(f64),
    /// One after another: the share of all of them together, and where in the turn the first write is.
    Cyclic(f64, f64),
}

/// How far the program is, in writes at average activity.
#[derive(Clone, Copy, Debug)]
struct Done {
    always: f64,
    busy: f64,
    quiet: f64,
}

impl Done {
    fn of(self, follows: Follows) -> f64 {
        match follows {
            Follows::Always => self.always,
            Follows::Busy => self.busy,
            Follows::Quiet => self.quiet,
        }
    }
}

/// In the list of places: no page of this program.
const NOBODY: u32 = u32::MAX;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    set: Range<u64>,
    kinds: Vec<Kind>,
    /// The page at each place.
    pages: Vec<u64>,
    /// The place of each page of the set.
    places: Vec<u32>,
    path: Path,
    /// Writes, at average activity, in a tick.
    tick: f64,
    /// How many times as much as on average it does in the same time in this run; its phases are as long.
    speed: f64,
}

impl Measured {
    /// Scatters the pages of `model` over `set`, which must have room for them, in pieces of `cluster` pages; none
    /// if it never writes.
    pub(super) fn new(
        model: &MeasuredWrites,
        set: Range<u64>,
        cluster: u64,
        rng: &mut Generator,
    ) -> Option<Self> {
        let rate = model.rate();
        let count = model.pages().0;
        if rate <= 0.0 || count == 0 || count > set.end - set.start {
            return None;
        }
        let mut pages: Vec<u64> = set.clone().collect();
        if cluster > 1 {
            let mut pieces: Vec<&[u64]> = pages.chunks(cluster as usize).collect();
            shuffle(rng, &mut pieces);
            pages = pieces.concat();
        } else {
            shuffle(rng, &mut pages);
        }
        pages.truncate(count as usize);
        let mut places = vec![NOBODY; (set.end - set.start) as usize];
        for (place, page) in (0..).zip(&pages) {
            places[(page - set.start) as usize] = place;
        }
        let mut kinds = Vec::new();
        let mut begin = 0;
        let mut add = |pages: u64, (turn, follows), change: f64, at| {
            let places = begin..begin + pages;
            begin = places.end;
            kinds.push(Kind { places, turn, follows, change: (change, at == WriteAt::Fixed) });
        };
        for class in &model.classes {
            let turn = (Turn::Random(class.rate / rate), class.follows);
            add(class.pages.0, turn, class.change.as_f64(), class.write_at);
        }
        for cycle in model.cycles.iter().filter(|cycle| cycle.pages.0 > 0) {
            let first = below(rng, cycle.pages.0) as f64;
            let turn = (Turn::Cyclic(cycle.rate() / rate, first), cycle.follows);
            add(cycle.pages.0, turn, cycle.change.as_f64(), cycle.write_at);
        }
        let path = Path::new(&model.activity, rng);
        let speed = (model.speed_spread * normal(rng)).exp();
        // Drawn last, so that it shifts nothing else.
        let size = if model.change_spread > 0.0 { (model.change_spread * normal(rng)).exp() } else { 1.0 };
        for kind in &mut kinds {
            kind.change.0 *= size;
        }
        let tick = rate * model.activity.tick.as_secs_f64();
        Some(Self { set, kinds, pages, places, path, tick, speed })
    }

    /// The first page it may write to and the one behind the last.
    pub(super) fn extent(&self) -> (u64, u64) {
        (self.set.start, self.set.end)
    }

    /// What is done after `writes` for pages that follow each kind of phase, in writes at average activity.
    fn done(&self, writes: f64) -> Done {
        let [busy, quiet] = self.path.done(writes / self.tick);
        let tick = self.tick * self.speed;
        Done { always: writes * self.speed, busy: busy * tick, quiet: quiet * tick }
    }

    fn kind(&self, page: u64) -> Option<(&Kind, u64)> {
        let place = *self.places.get(page.checked_sub(self.set.start)? as usize)?;
        let place = (place != NOBODY).then_some(u64::from(place))?;
        let index = self.kinds.partition_point(|kind| kind.places.end <= place);
        Some((self.kinds.get(index)?, place))
    }

    /// The share of the writes that `page` gets, on average.
    pub(super) fn weight(&self, page: u64) -> f64 {
        self.kind(page).map_or(0.0, |(kind, _)| kind.turn.weight(&kind.places))
    }

    /// Bytes that a write to `page` changes, and whether they are always the same.
    pub(super) fn change(&self, page: u64) -> Option<(f64, bool)> {
        self.kind(page).map(|(kind, _)| kind.change)
    }

    /// How often `page` was written after `writes`.
    pub(super) fn wear(&self, page: u64, writes: f64) -> Option<Wear> {
        let (kind, place) = self.kind(page)?;
        let done = self.done(writes).of(kind.follows);
        Some(match kind.turn {
            Turn::Random(weight) => Wear { mean: done * weight, count: 0.0 },
            Turn::Cyclic(share, start) => {
                let length = kind.places.end - kind.places.start;
                let total = (done * share + start) as u64;
                let count = total / length + u64::from(total % length > place - kind.places.start);
                Wear { mean: 0.0, count: count as f64 }
            }
        })
    }

    /// Draws the pages dirtied between two counts of writes, each in a call of its own; says how many.
    pub(super) fn draw(
        &self,
        (from, to): (f64, f64),
        sampler: &mut Sampler,
        sink: &mut impl FnMut(usize, u64),
    ) -> u64 {
        let (before, after) = (self.done(from), self.done(to));
        let mut each = |word: usize, mask: u64| {
            let mut rest = mask;
            while rest != 0 {
                let page = self.pages[word * 64 + rest.trailing_zeros() as usize];
                sink((page / 64) as usize, 1 << (page % 64));
                rest &= rest - 1;
            }
        };
        let mut count = 0;
        for Kind { places, turn, follows, .. } in &self.kinds {
            let (from, to) = (before.of(*follows), after.of(*follows));
            match turn {
                Turn::Random(weight) => {
                    let law = Law::of_exposure((to - from) * weight);
                    count += sampler.pages(places.start, places.end, law, &mut each);
                }
                Turn::Cyclic(share, start) => {
                    for run in cycle_runs(places, from * share + start, to * share + start) {
                        each_word(run.start, run.end, &mut each);
                        count += run.end - run.start;
                    }
                }
            }
        }
        count
    }

    /// The same for the pages of one word.
    pub(super) fn draw_word(&self, word: usize, (from, to): (f64, f64), sampler: &mut Sampler) -> u64 {
        let (before, after) = (self.done(from), self.done(to));
        let mut dirty = |kind: &Kind, place| {
            let (from, to) = (before.of(kind.follows), after.of(kind.follows));
            match kind.turn {
                Turn::Random(weight) => sampler.event((to - from) * weight),
                Turn::Cyclic(share, start) => {
                    let runs = cycle_runs(&kind.places, from * share + start, to * share + start);
                    runs.iter().any(|run| run.contains(&place))
                }
            }
        };
        (0..64).fold(0, |mask, lane| {
            let dirty = self.kind(word as u64 * 64 + lane).is_some_and(|(kind, place)| dirty(kind, place));
            mask | u64::from(dirty) << lane
        })
    }

    /// How many pages are expected to be clean still after `writes` from a clean start.
    pub(super) fn untouched(&self, writes: f64) -> f64 {
        let clean = |kind: &Kind| {
            let pages = (kind.places.end - kind.places.start) as f64;
            match kind.turn {
                Turn::Random(weight) => pages * (-writes * weight).exp(),
                Turn::Cyclic(share, _) => (pages - writes * share).max(0.0),
            }
        };
        self.kinds.iter().map(clean).sum()
    }

    /// The chance that the next write goes to a clean page.
    pub(super) fn fresh(&self, writes: f64) -> f64 {
        let fresh = |kind: &Kind| {
            let pages = (kind.places.end - kind.places.start) as f64;
            match kind.turn {
                Turn::Random(weight) => pages * weight * (-writes * weight).exp(),
                Turn::Cyclic(share, _) if writes * share < pages => share,
                Turn::Cyclic(..) => 0.0,
            }
        };
        self.kinds.iter().map(fresh).sum()
    }

    /// The page of one write, on average over the program's phases.
    pub(super) fn draw_page(&self, rng: &mut Generator) -> Option<u64> {
        let mut at = unit(rng);
        let all = |kind: &Kind| kind.turn.weight(&kind.places) * (kind.places.end - kind.places.start) as f64;
        let kind = self.kinds.iter().find(|kind| {
            at -= all(kind);
            at < 0.0
        });
        let kind = kind.or_else(|| self.kinds.iter().rev().find(|kind| all(kind) > 0.0))?;
        let place = kind.places.start + below(rng, kind.places.end - kind.places.start);
        self.pages.get(place as usize).copied()
    }
}

impl Turn {
    /// The share of the writes that each page gets.
    fn weight(self, places: &Range<u64>) -> f64 {
        match self {
            Self::Random(weight) => weight,
            Self::Cyclic(share, _) => share / (places.end - places.start) as f64,
        }
    }
}
