//! Rounds that end before everything is sent, where the guest writes again what is still pending.

use super::stall::Asked;
use crate::forecast::{Early, Forecast, Path};
use crate::progress::Progress;

/// Pages that may be left for the next round, as parts of those that fit the downtime (ours).
const PARTS: [f64; 4] = [0.25, 0.5, 0.75, 0.9];
/// Rounds that settle at more than this share of what whole rounds settle at are not worth their harvests (ours).
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
    /// Rounds so short were not seen yet.
    pub(super) is_untried: bool,
}

/// The rounds with early harvests that lead soonest to what fits, or if none do settle at least.
pub(super) fn towards(asked: &Asked<'_>) -> Option<Way> {
    if !possible(asked.progress) {
        return None;
    }
    let pages = asked.progress.pending.as_f64();
    let whole = Forecast { behind: std::time::Duration::ZERO, ..asked.forecast };
    let forecast = Forecast { behind: asked.memory.behind_early(&whole), ..whole };
    let budget = forecast.budget(asked.limit);
    if budget <= 0.0 {
        return None;
    }
    let again = asked.memory.again(&forecast, pages);
    let ways = PARTS.iter().map(|part| {
        let left = part * budget;
        Way { left, is_untried: false, path: forecast.path_early(pages, budget, Early { left, again }) }
    });
    let best = ways.min_by(|a, b| {
        let leads = |way: &Way| way.path.rounds.is_none();
        let then = |way: &Way| if leads(way) { way.path.pages } else { way.path.time.as_secs_f64() };
        leads(a).cmp(&leads(b)).then(then(a).total_cmp(&then(b)))
    })?;
    if best.path.rounds.is_none() && !asked.memory.knows_early() {
        // What the guest does in shorter windows than were seen nobody knows until it is tried.
        return Some(Way { left: PARTS[PARTS.len() - 1] * budget, is_untried: true, ..best });
    }
    Some(best)
}

impl Way {
    /// Whether it settles at so much less than whole rounds that it is better to wait so.
    pub(super) fn settles_below(&self, whole: &Path) -> bool {
        self.path.pages < BETTER * whole.pages
    }
}
