//! One writer after the handover, while pages are missing: when it next touches one of them.
//!
//! Owned by a resumed vCPU, which tells it when it ran and when it was held up by a missing page. It
//! follows the rules of [`pace`](super::pace) without throttle, pause and tracking: work missed while it
//! was held up is owed, at most `catch_up` of it, and done as fast as the CPU allows.

use std::ops::Range;

use whimbrel_core::dirty::PageSet;

use super::pace::{Ability, Wish};
use super::rng::Generator;
use super::shape::Shape;
use super::touch::{Miss, Touches};

/// Seconds in a nanosecond.
const NANO: f64 = 1e-9;
/// Less than this of a write is none: times are whole nanoseconds.
const NONE: f64 = 1e-6;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    shape: Shape,
    habit: Habit,
    touches: Touches,
    rng: Generator,
    pace: Pace,
    /// Writes at which it has done what it owed when it began.
    goal: f64,
    /// The count of writes at which it touches a page that was missing when that was drawn.
    next: Option<Miss>,
}

/// What it wants and what it can do.
#[derive(Clone, Debug)]
struct Habit {
    wish: Wish,
    ability: Ability,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Writes made since the handover.
    made: f64,
    /// Missed writes that it means to catch up.
    owed: f64,
}

/// A stretch in which its speed is the same.
struct Stretch {
    /// Writes a second.
    speed: f64,
    /// What it wants beyond that, writes a second; negative while it catches up.
    behind: f64,
    /// When it ends, in nanoseconds.
    until: u64,
}

impl Habit {
    /// The most writes a second that it can make.
    fn full(&self) -> f64 {
        // Writes that cost nothing need no CPU, whatever is left of it; and no clock is finer than that.
        if self.ability.write_cost <= 0.0 { 1e12 } else { self.ability.cpu / self.ability.write_cost }
    }

    /// How a writer goes on that stands so at `at`.
    fn stretch(&self, pace: Pace, at: u64) -> Stretch {
        let (rate, until) = self.wish.at(at);
        let full = self.full();
        if rate >= full {
            return Stretch { speed: full, behind: rate - full, until };
        }
        if pace.owed <= NONE {
            return Stretch { speed: rate, behind: 0.0, until };
        }
        let caught_up = nanos(pace.owed / (full - rate)).max(1);
        Stretch { speed: full, behind: rate - full, until: until.min(at.saturating_add(caught_up)) }
    }

    /// Runs from `from` to `to`.
    fn run(&self, mut pace: Pace, from: u64, to: u64) -> Pace {
        let mut at = from;
        while at < to {
            let Stretch { speed, behind, until } = self.stretch(pace, at);
            let end = until.min(to);
            let time = (end - at) as f64 * NANO;
            pace.made += speed * time;
            pace.owed = self.owing(pace.owed, behind * time, at);
            at = end;
        }
        pace
    }

    fn owing(&self, owed: f64, more: f64, at: u64) -> f64 {
        let most = self.wish.at(at).0 * self.ability.catch_up;
        (owed + more).clamp(0.0, most.max(owed))
    }

    /// When it has made `count` writes if it runs from `at` on; none if never.
    fn makes(&self, mut pace: Pace, count: f64, mut at: u64) -> Option<u64> {
        let full = self.full();
        let keeps_up = self.wish.peak() < full;
        if full <= 0.0 && count > pace.made + NONE {
            return None;
        }
        loop {
            if count <= pace.made + NONE {
                return Some(at);
            }
            // Who owes nothing and always keeps up does the same in every cycle of phases.
            if keeps_up
                && pace.owed <= NONE
                && self.wish.at(at).1 < u64::MAX
                && let Some((length, wanted, end)) = self.wish.cycle()
            {
                let most = end.saturating_sub(at) / length;
                let cycles = ((count - pace.made) / wanted).floor().min(most as f64) as u64;
                let later = at.saturating_add(cycles.saturating_mul(length));
                if wanted <= 0.0 || later == u64::MAX {
                    return None;
                }
                // Where it stops writing, what is left is less than a cycle.
                pace.made += wanted * cycles as f64;
                at = later;
                if count <= pace.made + NONE {
                    return Some(at);
                }
            }
            let stretch = self.stretch(pace, at);
            let end = at.saturating_add(nanos((count - pace.made) / stretch.speed));
            if end <= stretch.until {
                return (end < u64::MAX).then_some(end);
            }
            if stretch.until == u64::MAX {
                return None;
            }
            pace = self.run(pace, at, stretch.until);
            at = stretch.until;
        }
    }
}

/// Whole nanoseconds, rounded up; the last time there is for what never happens.
fn nanos(seconds: f64) -> u64 {
    (seconds / NANO).ceil() as u64
}

impl Thread {
    /// A writer that has made `writes` writes before the handover and owes `owed`.
    pub(super) fn new(
        (shape, wish, ability): (Shape, Wish, Ability),
        (writes, owed): (f64, f64),
        rng: Generator,
    ) -> Self {
        let touches = Touches::new(&shape, writes);
        let (habit, pace) = (Habit { wish, ability }, Pace { made: 0.0, owed });
        Self { shape, habit, touches, rng, pace, goal: 0.0, next: None }
    }

    /// Looks for its next touch of a page of `missing`, from where it stands.
    pub(super) fn look(&mut self, missing: &PageSet) {
        let touch = self.touches.next(&self.shape, missing, &mut self.rng);
        self.next = touch.map(|touch| Miss { after: self.pace.made + touch.after, ..touch });
    }

    /// Its next touch of a missing page is that of `page` after so many writes from here; none: it touches none.
    pub(super) fn aim(&mut self, touch: Option<(f64, u64)>) {
        self.next = touch.map(|(after, page)| Miss { after: self.pace.made + after, page });
    }

    /// Of a writer in turn, how many pages into its working set the next page is, and that set.
    pub(super) fn place(&self) -> Option<(f64, Range<u64>)> {
        let (Shape::Cycle(set, _), Touches::Cycle(begun)) = (&self.shape, &self.touches) else { return None };
        let length = (set.end - set.start).max(1) as f64;
        Some(((begun + self.pace.made + NONE).floor() % length, set.clone()))
    }

    /// Of a writer in turn, lets it begin a share of its round further on.
    pub(super) fn move_on(&mut self, share: f64) {
        if let (Shape::Cycle(set, _), Touches::Cycle(begun)) = (&self.shape, &mut self.touches) {
            let length = (set.end - set.start).max(1) as f64;
            *begun = (*begun + (share * length).floor()) % length;
        }
    }

    /// The page that it touches now, if it does.
    pub(super) fn touching(&self) -> Option<u64> {
        self.next.filter(|touch| touch.after <= self.pace.made + NONE).map(|touch| touch.page)
    }

    /// Runs from `from` to `to`.
    pub(super) fn run(&mut self, from: u64, to: u64) {
        self.pace = self.habit.run(self.pace, from, to);
    }

    /// Was held up from `from` to `to`.
    pub(super) fn stand(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let (rate, until) = self.habit.wish.at(at);
            let end = until.min(to);
            self.pace.owed = self.habit.owing(self.pace.owed, rate * (end - at) as f64 * NANO, at);
            at = end;
        }
    }

    /// When it touches a missing page if it runs from `at` on.
    pub(super) fn touches_at(&self, at: u64) -> Option<u64> {
        self.habit.makes(self.pace, self.next?.after, at)
    }

    /// From now on, `at`, its goal is to do what it owes, or the work of `beat` if that is more.
    pub(super) fn begin(&mut self, at: u64, beat: u64) {
        let fresh = self.habit.wish.at(at).0 * beat as f64 * NANO;
        self.goal = self.pace.made + self.pace.owed.max(fresh);
    }

    /// When it has reached its goal if it runs from `at` on and meets no missing page.
    pub(super) fn reaches_goal_at(&self, at: u64) -> Option<u64> {
        self.habit.makes(self.pace, self.goal, at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use whimbrel_core::layout::PageNumber;

    use super::super::rng::stream;
    use super::*;
    use crate::config::{PhaseConfig, WriterConfig};

    fn thread(phases: &[(u64, f64)]) -> Thread {
        with_ability(phases, 2e-7, 1.0)
    }

    fn with_ability(phases: &[(u64, f64)], write_cost: f64, cpu: f64) -> Thread {
        let phases = phases.iter().map(|&(ms, rate)| PhaseConfig { length: Duration::from_millis(ms), rate });
        let config = WriterConfig { phases: phases.collect(), ..WriterConfig::default() };
        let mut rng = stream(1, "thread");
        let shape = Shape::new(&config, &(0..64), &mut rng).unwrap();
        let ability = Ability { write_cost, catch_up: 0.05, cpu, pays_faults: true };
        Thread::new((shape, Wish::new(&config), ability), (0.0, 0.0), rng)
    }

    fn everything() -> PageSet {
        let mut missing = PageSet::new(64);
        for page in 0..64 {
            missing.insert(PageNumber(page)).unwrap();
        }
        missing
    }

    #[test]
    fn a_writer_that_never_writes_is_known_to_touch_nothing() {
        let mut idle = thread(&[(1, 0.0), (1, 0.0)]);
        idle.look(&everything());
        assert_eq!(idle.touches_at(5), None);
    }

    #[test]
    fn a_writer_without_cpu_touches_nothing_unless_its_writes_cost_none() {
        let mut starved = with_ability(&[(1, 500.0), (1, 0.0)], 1e-6, 0.0);
        starved.look(&everything());
        assert_eq!(starved.touches_at(5), None);
        let mut free = with_ability(&[(1, 500.0), (1, 0.0)], 0.0, 0.0);
        free.look(&everything());
        assert!(free.touches_at(5).is_some());
    }

    #[test]
    fn whole_cycles_of_phases_are_jumped_over_to_the_same_moment() {
        // A write in a hundred seconds, in phases of a millisecond: some 100,000 phases a write.
        let mut rare = thread(&[(1, 0.02), (1, 0.0)]);
        rare.look(&everything());
        let at = rare.touches_at(0).unwrap();
        let mut walked = rare.clone();
        walked.run(0, at);
        assert!(walked.touching().is_some(), "not yet touching at {at}");
        let mut before = rare.clone();
        before.run(0, at - 10_000_000);
        assert!(before.touching().is_none(), "touched earlier than {at}");
    }
}
