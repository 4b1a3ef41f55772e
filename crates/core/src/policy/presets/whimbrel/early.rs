//! Rounds that end before everything is sent, where the guest writes again what is still pending.

use std::time::Duration;

use super::stall::Asked;
use crate::forecast::{Early, Forecast, Path};
use crate::progress::Progress;

/// Pages that may be left for the next round, as parts of those that fit the downtime (ours).
const PARTS: [f64; 4] = [0.25, 0.5, 0.75, 0.9];
/// Early harvests that come to more than this share of what whole rounds come to are not worth their cost (ours).
const BETTER: f64 = 0.95;

/// Whether harvests inside a round are possible, and both what the last pages wait for then and what the guest
/// dirties meanwhile can be known.
pub(super) fn possible(progress: &Progress) -> bool {
    // A guest that sleeps long shows little of itself in a short window.
    progress.capabilities.harvest_on_demand && progress.in_flight.is_some() && progress.throttle.is_off()
}

/// Where rounds lead that leave some pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) left: f64,
    pub(super) path: Path,
}

/// The rounds with early harvests that lead soonest to what fits, or if none do settle at least.
///
/// If none do, the part that is `asked_for` is left, if one is.
pub(super) fn towards(asked: &Asked<'_>, asked_for: Option<f64>) -> Option<Way> {
    if !possible(asked.progress) {
        return None;
    }
    let pages = asked.progress.pending.as_f64();
    let whole = Forecast { behind: Duration::ZERO, ..asked.forecast };
    let forecast = Forecast { behind: asked.memory.behind_early(&whole), ..whole };
    let budget = forecast.budget(asked.limit);
    if budget <= 0.0 {
        return None;
    }
    let again = asked.memory.again(&forecast, pages);
    let ways = PARTS.iter().map(|part| {
        let left = part * budget;
        Way { left, path: forecast.path_early(pages, budget, Early { left, again }) }
    });
    let best = ways.min_by(|a, b| {
        let leads = |way: &Way| way.path.rounds.is_none();
        let then = |way: &Way| if leads(way) { way.path.pages } else { way.path.time.as_secs_f64() };
        leads(a).cmp(&leads(b)).then(then(a).total_cmp(&then(b)))
    })?;
    // What the guest does in shorter windows than were seen nobody knows until it is tried.
    let left = asked_for.filter(|_| best.path.rounds.is_none()).map_or(best.left, |part| part * budget);
    Some(Way { left, ..best })
}

/// What whole rounds and early harvests came to while the rest did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tried {
    /// The downtimes that starts of rounds would have had, as moving averages in seconds: after whole rounds, and
    /// after those that were harvested early.
    whole: Option<f64>,
    early: Option<f64>,
    /// Early harvests since they were tried last.
    count: u32,
    /// Whole rounds until they are tried again, and how many that were the last time.
    rest: u32,
    rested: u32,
    /// Rounds until what fits was to be reached by early harvests.
    promised: Option<u32>,
}

/// So many early harvests show what they lead to; then, if that is nothing, so many whole rounds follow, and twice as
/// many each time (ours).
const TRIED: u32 = 4;
const REST: u32 = 8;
/// So many early harvests are made in the same way (ours).
const TURN: u32 = 16;

impl Tried {
    /// A round starts at which the rest does not fit.
    pub(super) fn came_to(&mut self, downtime: Duration, early: bool) {
        let now = downtime.as_secs_f64();
        let level = if early { &mut self.early } else { &mut self.whole };
        *level = Some(level.map_or(now, |before| 0.5 * (before + now)));
        if !early {
            self.rest = self.rest.saturating_sub(1);
            return;
        }
        self.count = self.count.saturating_add(1);
        self.promised = self.promised.map(|rounds| rounds.saturating_sub(1));
    }

    pub(super) fn fits(&mut self) {
        self.promised = None;
    }

    /// The part to be left while early harvests lead nowhere; none: that of which the least is forecast. Forecasts
    /// of rounds all alike say little of others, so they take turns with short rounds.
    pub(super) fn asks_for(&self) -> Option<f64> {
        match (self.count, self.count / TURN % 4) {
            (..TRIED, _) | (_, 1) => Some(PARTS[3]),
            (_, 3) => Some(PARTS[2]),
            _ => None,
        }
    }

    /// Whether early harvests that are forecast to lead there in so many rounds are to be believed: twice the time,
    /// and a little.
    pub(super) fn believes(&mut self, rounds: u32) -> bool {
        *self.promised.get_or_insert(2 * rounds + TRIED) > 0
    }

    /// Whether it is better to wait with early harvests than with whole rounds.
    pub(super) fn prefers(&mut self) -> bool {
        if self.rest > 0 {
            return false;
        }
        let better = match (self.early, self.whole) {
            (Some(early), Some(whole)) => early < BETTER * whole,
            _ => true,
        };
        if self.count < TRIED || better {
            return true;
        }
        self.rested = if self.rested == 0 { REST } else { self.rested.saturating_mul(2) };
        (self.rest, self.count, self.early) = (self.rested, 0, None);
        false
    }
}
