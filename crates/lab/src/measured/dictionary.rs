//! What pages of one kind look like in a measurement: the columns of the fit.
//!
//! A kind is a rate (pages written at random) or the length of a turn (pages written one after another).
//! Given how busy the program was in each tick, a kind says how many of a thousand of its pages a window
//! finds, and in how many ticks each is found.

use whimbrel_sim::config::Follows;

use super::fit::{Levels, Stage};

/// How pages recur, and in which phases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kind {
    pub(super) turn: Turn,
    pub(super) follows: Follows,
}

/// When a page is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Turn {
    /// At random, so many times a second.
    Random(f64),
    /// In turn, once in so many seconds.
    Cyclic(f64),
}

/// Neighbouring rates and turns differ by this factor.
const STEP: f64 = 1.35;
/// The fastest pages: writes in a tick. They are found in every tick, however idle the program is.
const FASTEST: f64 = 100.0;
/// The slowest: writes in the whole measurement.
const SLOWEST: f64 = 0.1;
/// Turns in the whole measurement, at least: fewer are not seen to be turns.
const TURNS: f64 = 3.0;

/// All kinds that a measurement of so many seconds in ticks of so many can tell apart.
pub(super) fn kinds(tick: f64, length: f64) -> Vec<Kind> {
    let scale = |from: f64, to: f64| {
        let steps = ((to / from).ln() / STEP.ln()).floor().max(0.0) as i32;
        (0..=steps).map(move |step| from * STEP.powi(step))
    };
    let random = scale(SLOWEST / length, FASTEST / tick).map(Turn::Random);
    let turns: Vec<Turn> = random.chain(scale(tick * STEP, length / TURNS).map(Turn::Cyclic)).collect();
    let all = [Follows::Busy, Follows::Quiet, Follows::Always].into_iter();
    all.flat_map(|follows| turns.iter().map(move |&turn| Kind { turn, follows })).collect()
}

/// A stretch of a program's time, in seconds, and what it did in it in either kind of phase, in seconds at
/// average activity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) time: f64,
    pub(super) busy: f64,
    pub(super) quiet: f64,
}

impl Span {
    /// A time of average activity.
    pub(super) fn even(time: f64) -> Self {
        Self { time, busy: time, quiet: time }
    }

    /// The same stretch of a program that is so many times as fast.
    pub(super) fn faster(self, speed: f64) -> Self {
        Self { time: self.time * speed, busy: self.busy * speed, quiet: self.quiet * speed }
    }
}

impl Kind {
    /// The share of its pages that is written in `span`.
    pub(super) fn found(self, span: Span) -> f64 {
        self.turn.found(match self.follows {
            Follows::Always => span.time,
            Follows::Busy => span.busy,
            Follows::Quiet => span.quiet,
        })
    }
}

impl Turn {
    /// The share of its pages that is written while the program does the work of `busy` seconds at average
    /// activity.
    pub(super) fn found(self, busy: f64) -> f64 {
        match self {
            Self::Random(rate) => -(-rate * busy).exp_m1(),
            Self::Cyclic(turn) => (busy / turn).min(1.0),
        }
    }

    /// Writes to each page a second.
    pub(super) fn rate(self) -> f64 {
        match self {
            Self::Random(rate) => rate,
            Self::Cyclic(turn) => 1.0 / turn,
        }
    }

    /// The share of its pages found in `from` to `to` of `ticks` ticks, each with the chance `chance` on
    /// average.
    ///
    /// As if all ticks were alike; a page of ticks that are not varies a little less (Hoeffding 1956).
    pub(super) fn found_in(self, chance: f64, ticks: usize, (from, to): (usize, usize)) -> f64 {
        match self {
            Self::Random(_) => Binomial::new(chance, ticks).between(from, to.min(ticks)),
            Self::Cyclic(_) => {
                // Found once in so many turns as there were, or once more.
                let times = chance * ticks as f64;
                let (low, more) = (times.floor(), times.fract());
                let within = |times: f64| f64::from(u8::from((from as f64..=to as f64).contains(&times)));
                (1.0 - more) * within(low) + more * within(low + 1.0)
            }
        }
    }
}

/// The chance of each number of hits.
struct Binomial {
    chance: f64,
    ticks: usize,
    /// Logarithms of the chances of a hit and a miss.
    logs: (f64, f64),
}

impl Binomial {
    fn new(chance: f64, ticks: usize) -> Self {
        Self { chance, ticks, logs: (chance.ln(), (-chance).ln_1p()) }
    }

    fn between(&self, from: usize, to: usize) -> f64 {
        if self.chance <= 0.0 || self.chance >= 1.0 {
            let certain = if self.chance <= 0.0 { 0 } else { self.ticks };
            return f64::from(u8::from((from..=to).contains(&certain)));
        }
        if from > to {
            return 0.0;
        }
        // Beyond ten deviations there is nothing.
        let mean = self.ticks as f64 * self.chance;
        let reach = 10.0 * (mean * (1.0 - self.chance)).sqrt() + 10.0;
        let first = from.max((mean - reach).max(0.0) as usize);
        let last = to.min((mean + reach) as usize);
        if first > last {
            return 0.0;
        }
        let (hit, miss) = self.logs;
        let rest = (self.ticks - first) as f64;
        let choose =
            log_gamma(self.ticks as f64 + 1.0) - log_gamma(first as f64 + 1.0) - log_gamma(rest + 1.0);
        let mut term = (choose + first as f64 * hit + rest * miss).exp();
        let odds = (hit - miss).exp();
        let mut sum = term;
        for hits in first..last {
            term *= odds * (self.ticks - hits) as f64 / (hits + 1) as f64;
            sum += term;
        }
        sum.min(1.0)
    }
}

/// ln Γ by Stirling's series, after shifting small arguments up; relative error below 1e-12.
fn log_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

/// Windows of `ticks` ticks of `stage`, the least busy one first.
pub(super) fn windows(stage: &Stage, levels: &Levels, ticks: usize) -> Vec<Span> {
    let added = |levels: &[f64]| {
        let mut sums = vec![0.0];
        let mut sum = 0.0;
        for level in levels {
            sum += level * stage.tick;
            sums.push(sum);
        }
        sums
    };
    let (busy, quiet) = (added(&levels.busy), added(&levels.quiet));
    let count = stage.series.len();
    let last = count.saturating_sub(ticks);
    let step = (last / WINDOWS).max(1);
    let time = stage.tick * ticks as f64;
    let within = |sums: &[f64], begin: usize| sums[(begin + ticks).min(count)] - sums[begin];
    let span = |begin| Span { time, busy: within(&busy, begin), quiet: within(&quiet, begin) };
    let mut spans: Vec<Span> = (0..=last).step_by(step).map(span).collect();
    spans.sort_by(|one, other| one.busy.total_cmp(&other.busy));
    spans
}

/// Windows of one length that are looked at, about.
const WINDOWS: usize = 150;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chances_of_all_numbers_of_hits_add_up() {
        for chance in [1e-9, 0.003, 0.2, 0.5, 0.97, 1.0 - 1e-9] {
            let sum: f64 = (0..=300).map(|hits| Binomial::new(chance, 300).between(hits, hits)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{chance}: {sum}");
            let mean: f64 =
                (0..=300).map(|hits| hits as f64 * Binomial::new(chance, 300).between(hits, hits)).sum();
            assert!((mean / (300.0 * chance) - 1.0).abs() < 1e-6, "{chance}: {mean}");
        }
    }

    #[test]
    fn a_few_hits_have_the_chances_of_the_textbook() {
        let binomial = Binomial::new(0.25, 4);
        for (hits, chance) in [(0, 81.0), (1, 108.0), (2, 54.0), (3, 12.0), (4, 1.0)] {
            assert!((binomial.between(hits, hits) - chance / 256.0).abs() < 1e-12, "{hits}");
        }
    }

    #[test]
    fn a_page_in_turn_is_found_as_often_as_there_were_turns() {
        let kind = Turn::Cyclic(0.4);
        assert!((kind.found(0.1) - 0.25).abs() < 1e-12 && (kind.found(5.0) - 1.0).abs() < 1e-12);
        // 10.5 turns: half of the pages ten times, half eleven.
        assert!((kind.found_in(10.5 / 300.0, 300, (9, 10)) - 0.5).abs() < 1e-9);
        assert!((kind.found_in(10.5 / 300.0, 300, (11, 20)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn kinds_reach_from_once_in_many_measurements_to_many_times_a_tick() {
        let kinds = kinds(0.05, 30.0);
        assert!(kinds.len() < 300, "{}", kinds.len());
        assert!(kinds.iter().any(|kind| kind.turn.found(30.0) < 0.1));
        assert!(kinds.iter().any(|kind| kind.turn.found(0.05 * 0.1) > 0.999));
    }
}
