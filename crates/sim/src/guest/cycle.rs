//! Throttles by the clock: all vCPUs sleep, then run, then sleep again.
//!
//! The guest keeps a [`Pulse`] and tells it when the throttle is set, lifted or changed; writers ask it what
//! is in force and go through their sleeps here.
//!
//! # The mechanism
//!
//! QEMU's timer (`cpu_throttle_timer_tick` in `migration/cpu-throttle.c`) makes every vCPU sleep and comes
//! again after a period. With the share t and the run R, the sleep is S = R·t/(1 − t) and the period R + S.
//! So:
//!
//! - A period begins with the sleep, at the moment at which the throttle is set.
//! - The timer reads the share when it comes: a change holds from the next period on.
//! - A throttle that is lifted leaves the sleep under way to end. A guest that is paused then, or moved, is
//!   free at once: QEMU ends the sleep of a vCPU that is stopped.
//! - While the guest is paused the timer stands still, as the guest's virtual clock does.
//!
//! Sleeps of a fixed length (S given, R = S·(1 − t)/t) are the same with other numbers.
//!
//! # What it does to a writer
//!
//! A writer that wants r writes a second owes r·S when it wakes, at most r·K, K being its `catch_up`, and in
//! the run it can do R/c writes, c being what one costs. If r·(R + min(S, K)) ≤ R/c, all that is owed is done
//! in each run and a period sees exactly r·(R + min(S, K)) writes; else it is always behind and writes all
//! the time. With K = 50 ms and R = 10 ms nothing is lost up to t = 5/6, at 90 % the mean rate falls to 60 %,
//! at 99 % to 6 %; measured on QEMU: 58 % and 6 %.
//!
//! # In closed form
//!
//! Parts of a period at both ends are followed as they come. For the whole periods between them, let v(n) be
//! what is owed at the end of sleep n, and A(n) the writes of n runs in which the writer does nothing else:
//! costs fall from write to write, so A is convex, and v(0) + r·(R + S)·n − A(n) = B(n) is concave. As owing
//! has a bound, C, v(n) = B(n) − max(0, max(B(0..n)) − C), peaks of B within runs included. The writer is
//! behind until the first run that can take v(n) and all that is wanted meanwhile, and never again after,
//! because costs fall; that run and the peak of B are found by bisection.

use std::time::Duration;

use whimbrel_core::throttle::Throttle;

use super::pace::Done;
use super::stretch::Stretch;

/// The shortest run or sleep that is given, in nanoseconds: shorter ones are taken for this. No timer is
/// finer.
const SHORTEST: f64 = 1e3;

/// Periods of sleep and run. Kept in nanoseconds, of which moments are whole numbers, so that no period is
/// missed by rounding; given in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cycle {
    /// When the first period begins.
    from: u64,
    /// Infinite if all of the CPU is taken.
    sleep_nanos: f64,
    run_nanos: f64,
}

impl Cycle {
    /// The periods of a throttle by the clock that begins at `from`; none of another throttle.
    fn of(throttle: Throttle, from: u64) -> Option<Self> {
        let nanos = |time: Duration| (time.as_nanos() as f64).max(SHORTEST);
        let (share, run_nanos, sleep) = match throttle {
            Throttle::DutyCycle { share, run } => {
                let (share, run) = (share.as_f64(), nanos(run));
                (share, run, run * (share / (1.0 - share)))
            }
            Throttle::MicroSleeps { share, sleep } => {
                let (share, sleep) = (share.as_f64(), nanos(sleep));
                (share, sleep * ((1.0 - share) / share), sleep)
            }
            _ => return None,
        };
        let sleep_nanos = if share < 1.0 { sleep } else { f64::INFINITY };
        (share > 0.0).then_some(Self { from, sleep_nanos, run_nanos })
    }

    /// Seconds.
    fn sleep(&self) -> f64 {
        self.sleep_nanos * 1e-9
    }

    /// Seconds.
    fn run(&self) -> f64 {
        self.run_nanos * 1e-9
    }

    /// Seconds.
    fn period(&self) -> f64 {
        self.period_nanos() * 1e-9
    }

    fn period_nanos(&self) -> f64 {
        self.sleep_nanos + self.run_nanos
    }

    /// How far into a period it is at `at`, in nanoseconds.
    fn position(&self, at: u64) -> f64 {
        at.saturating_sub(self.from) as f64 % self.period_nanos()
    }

    /// Nanoseconds asleep from the beginning to `at`.
    fn slept(&self, at: u64) -> f64 {
        let since = at.saturating_sub(self.from) as f64;
        let whole = (since / self.period_nanos()).floor();
        if whole > 0.0 {
            let rest = since - whole * self.period_nanos();
            whole * self.sleep_nanos + rest.clamp(0.0, self.sleep_nanos)
        } else {
            since.min(self.sleep_nanos)
        }
    }

    /// `at`, if a period begins there or if none ever ends; else the beginning of the next one.
    fn next_period(&self, at: u64) -> u64 {
        let position = self.position(at);
        if position == 0.0 || self.sleep_nanos == f64::INFINITY {
            return at;
        }
        at.saturating_add((self.period_nanos() - position).round() as u64)
    }

    /// When it is awake: `at`, if it is then or never will be; else at the end of the sleep.
    fn awake(&self, at: u64) -> u64 {
        let left = self.sleep_nanos - self.position(at);
        if left == f64::INFINITY { at } else { at.saturating_add(left.max(0.0).round() as u64) }
    }
}

/// What makes the vCPUs sleep by the clock, now and next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pulse {
    now: Option<Cycle>,
    /// When the other takes its place, in nanoseconds; `u64::MAX` if that is not planned.
    until: u64,
    next: Option<Cycle>,
}

impl Pulse {
    /// No sleeps.
    pub(super) const OFF: Self = Self { now: None, until: u64::MAX, next: None };

    /// Whether nobody sleeps, now or later.
    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.now.is_none() && self.next.is_none()
    }

    /// What is in force at `at`, how far into a period it is (seconds), and until when it is so.
    #[inline]
    pub(super) fn at(&self, at: u64) -> (Option<(Cycle, f64)>, u64) {
        let (cycle, until) = if at < self.until { (self.now, self.until) } else { (self.next, u64::MAX) };
        (cycle.map(|cycle| (cycle, cycle.position(at) * 1e-9)), until)
    }

    /// Sleeps like this from `at` on, as soon as what is in force allows.
    pub(super) fn set(&mut self, at: u64, throttle: Throttle, paused: bool) {
        let now = if at < self.until { self.now } else { self.next };
        let until = match (now, Cycle::of(throttle, at)) {
            (Some(now), Some(_)) => now.next_period(at),
            (Some(now), None) if !paused => now.awake(at),
            _ => at,
        };
        let next = Cycle::of(throttle, until);
        *self = if until > at { Self { now, until, next } } else { Self { now: next, ..Self::OFF } };
    }

    /// What is in force from now on does not depend on times before `at`.
    pub(super) fn settle(&mut self, at: u64) {
        if at >= self.until {
            *self = Self { now: self.next, ..Self::OFF };
        }
    }

    /// The clock of the sleeps stood still for `time` nanoseconds.
    pub(super) fn stand_still(&mut self, time: u64) {
        for cycle in [&mut self.now, &mut self.next].into_iter().flatten() {
            cycle.from = cycle.from.saturating_add(time);
        }
        // Stays the greatest if it is.
        self.until = self.until.saturating_add(time);
    }

    /// When the vCPUs are awake: `at`, if they are then; else at the end of their sleep.
    pub(super) fn awake(&self, at: u64) -> u64 {
        let (cycle, until) = self.at(at);
        cycle.map_or(at, |(cycle, _)| cycle.awake(at).min(until))
    }

    /// Nanoseconds asleep from `from` to `to`.
    pub(super) fn slept(&self, from: u64, to: u64) -> f64 {
        let edge = self.until.clamp(from, to.max(from));
        let part = |cycle: &Option<Cycle>, from, to| {
            cycle.as_ref().map_or(0.0, |cycle| cycle.slept(to) - cycle.slept(from))
        };
        part(&self.now, from, edge) + part(&self.next, edge, to.max(from))
    }
}

/// The first of `0..count` of which `holds`, which holds of all after it too; `count` if of none.
fn first(count: u64, holds: impl Fn(u64) -> bool) -> u64 {
    if count == 0 || holds(0) {
        return 0;
    }
    if !holds(count - 1) {
        return count;
    }
    let (mut before, mut found) = (0, count - 1);
    while found - before > 1 {
        let middle = before.midpoint(found);
        if holds(middle) { found = middle } else { before = middle }
    }
    found
}

impl Stretch<'_> {
    /// Moves `done` on by `time` seconds of `cycle`, from `position` of its period on.
    pub(super) fn pulsed(&self, done: Done, harvested: f64, cycle: Cycle, position: f64, time: f64) -> Done {
        let begun = if position > 0.0 { (cycle.period() - position).min(time) } else { 0.0 };
        let done = self.part(done, harvested, cycle, position, begun);
        let left = time - begun;
        let whole = (left / cycle.period()).floor();
        let done = self.periods(done, harvested, cycle, whole as u64);
        let rest = if whole > 0.0 { (left - whole * cycle.period()).max(0.0) } else { left };
        self.part(done, harvested, cycle, 0.0, rest)
    }

    /// Part of a period, `time` seconds from `position` on.
    fn part(&self, done: Done, harvested: f64, cycle: Cycle, position: f64, time: f64) -> Done {
        let asleep = (cycle.sleep() - position).clamp(0.0, time);
        let done = self.idle(done, asleep);
        if time > asleep { self.pass(done, harvested, time - asleep) } else { done }
    }

    /// `count` whole periods.
    fn periods(&self, mut done: Done, harvested: f64, cycle: Cycle, count: u64) -> Done {
        let (sleep, run) = (cycle.sleep(), cycle.run());
        // What a period wants of a writer that owed nothing before it.
        let wanted = self.rate * run + (self.rate * sleep).min(self.most);
        let keeps_up = wanted * (self.write_cost + self.fault) <= self.cpu * run;
        if count == 0 || keeps_up && done.owed == 0.0 {
            done.writes += count as f64 * wanted;
            return done;
        }
        if self.is_starved() {
            return self.idle(done, count as f64 * cycle.period());
        }
        if done.owed > self.most {
            return self.periods_of_old_debts(done, harvested, cycle, count);
        }
        let behind = Behind::new(self, done, harvested, cycle, count);
        let last = first(count, |period| behind.ends_in(period));
        if last == count {
            let run_out = behind.made(count) - behind.made(count - 1);
            done.owed = (behind.due(count - 1) - run_out).clamp(0.0, self.most);
            done.writes += behind.made(count);
            return done;
        }
        done.owed = behind.debt(last);
        done.writes += behind.made(last);
        done = self.pass(done, harvested, run);
        done.writes += (count - last - 1) as f64 * wanted;
        done
    }
}

impl Stretch<'_> {
    /// `count` whole periods of a writer that owes more than it may, from a time when it wanted more. Until
    /// it is below that, sleeps add nothing to it: only the runs matter, as if there were no sleeps.
    fn periods_of_old_debts(&self, done: Done, harvested: f64, cycle: Cycle, count: u64) -> Done {
        let run = |periods: u64| self.pass(done, harvested, periods as f64 * cycle.run());
        let whole = first(count, |period| run(period + 1).owed <= self.most);
        let done = if whole > 0 { run(whole) } else { done };
        if whole == count {
            return done;
        }
        let done = self.part(done, harvested, cycle, 0.0, cycle.period());
        self.periods(done, harvested, cycle, count - whole - 1)
    }
}

/// Periods in which a writer is behind all the time; see the module.
struct Behind<'a> {
    stretch: &'a Stretch<'a>,
    cycle: Cycle,
    /// Writes since the harvest, and what is owed, before.
    since: f64,
    owed: f64,
    /// The period after which B falls.
    peak: u64,
    /// The run in which it begins to be faster than it wants, and B there: a peak within a run.
    turn: Option<(u64, f64)>,
}

impl<'a> Behind<'a> {
    fn new(stretch: &'a Stretch<'a>, done: Done, harvested: f64, cycle: Cycle, count: u64) -> Self {
        let since = done.writes - harvested;
        let mut behind = Self { stretch, cycle, since, owed: done.owed, peak: 0, turn: None };
        behind.peak = first(count, |period| behind.takes(period, stretch.rate * cycle.period()));
        behind.turn = behind.find_turn(count);
        behind
    }

    fn find_turn(&self, count: u64) -> Option<(u64, f64)> {
        let Self { stretch, cycle, since, .. } = self;
        if stretch.rate * stretch.next_cost(*since) <= stretch.cpu {
            return None;
        }
        let all = count as f64 * cycle.run();
        let (made, ran) = stretch.behind(*since, all);
        let period = (ran / cycle.run()).floor();
        let wanted = stretch.rate * (period * cycle.sleep() + ran);
        (ran < all).then(|| (period as u64, self.first_debt() + wanted - made))
    }

    /// What is owed at the end of the first sleep.
    fn first_debt(&self) -> f64 {
        (self.owed + self.stretch.rate * self.cycle.sleep()).min(self.stretch.most)
    }

    /// The writes of `periods` runs.
    fn made(&self, periods: u64) -> f64 {
        let periods = periods as f64;
        let limit = self.owed + self.stretch.rate * (periods * self.cycle.period());
        self.stretch.all_out(self.since, periods * self.cycle.run(), limit)
    }

    /// Whether run number `period` can take `writes`.
    fn takes(&self, period: u64, writes: f64) -> bool {
        let need = self.stretch.need(self.since + self.made(period), writes);
        need <= self.stretch.cpu * self.cycle.run()
    }

    /// What would be owed at the end of sleep number `period` if nothing were lost: B.
    fn unbounded(&self, period: u64) -> f64 {
        let wanted = self.stretch.rate * (period as f64 * self.cycle.period());
        self.first_debt() + wanted - self.made(period)
    }

    /// What is lost because no more may be owed, up to the end of sleep number `period` or of the run after
    /// it.
    fn lost(&self, period: u64, through_run: bool) -> f64 {
        let peak = self.unbounded(period.min(self.peak));
        let turned = self.turn.filter(|&(turn, _)| turn < period || through_run && turn == period);
        let peak = turned.map_or(peak, |(_, turn)| peak.max(turn));
        (peak - self.stretch.most).max(0.0)
    }

    /// What is owed at the end of sleep number `period`.
    fn debt(&self, period: u64) -> f64 {
        (self.unbounded(period) - self.lost(period, false)).max(0.0)
    }

    /// What there is to be done in run number `period`.
    fn due(&self, period: u64) -> f64 {
        let wanted = self.stretch.rate * self.cycle.run();
        // Of what is wanted in the run itself some may be lost too.
        (self.unbounded(period) - self.lost(period, true) + wanted).max(0.0)
    }

    /// Whether all of it is done.
    fn ends_in(&self, period: u64) -> bool {
        self.takes(period, self.due(period))
    }
}
