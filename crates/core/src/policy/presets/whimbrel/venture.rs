//! Whether going on pays though the rest fits: what it may win, and what it costs.

use std::time::Duration;

use super::memory::Memory;
use super::{FAULT, SHORT, early};
use crate::forecast::{Early, Expected, Forecast};
use crate::progress::Progress;

/// A forecast that may be wrong is acted on if there is time for so many rounds like the next.
const RETRIES: u32 = 10;
/// So many rounds ahead are reckoned when it is asked whether going on pays.
const AHEAD: u32 = 8;
/// Less is not worth a round, vCPU-seconds.
const WORTH: f64 = 0.5e-3;
/// Of what is pending, how much may be left for the next round (ours).
const PARTS: [f64; 3] = [0.25, 0.5, 0.75];

/// What is left of it when something is tried, and what that may cost, as a share of the pause (ours).
const TRIAL: f64 = 0.6;
const CHEAP: f64 = 0.02;

/// The stop that could be made now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop<'a> {
    pub(super) progress: &'a Progress,
    pub(super) downtime: Duration,
    /// The downtime allowed.
    pub(super) limit: Duration,
    /// Time left until the deadline.
    pub(super) left: Duration,
}

/// What going on is expected to come to, in vCPU-seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Venture {
    /// What it saves, and what it costs.
    pub(super) gain: f64,
    pub(super) cost: f64,
    /// What the next round costs.
    pub(super) price: f64,
    /// Pages that the next round leaves, and at how many it is harvested early; none: when all is sent.
    pub(super) next: f64,
    pub(super) leave: f64,
    /// Made to see what it comes to.
    pub(super) is_trial: bool,
}

/// What a round leaves, what of it was dirtied in it, and how long it takes.
struct Round {
    next: Expected,
    dirtied: f64,
    time: Duration,
}

fn round(forecast: &Forecast<'_>, pages: f64, way: Option<Early>) -> Option<Round> {
    let Some(way) = way else {
        let next = forecast.next(pages)?;
        return Some(Round { next, dirtied: next.pages, time: forecast.round(pages) });
    };
    let (next, kept) = forecast.next_early(pages, way)?;
    Some(Round { next, dirtied: next.pages - kept, time: forecast.round_early(pages, way) })
}

/// The way to go on that pays most; `throttled` vCPUs of the guest are held back meanwhile.
pub(super) fn best(
    stop: &Stop<'_>,
    forecast: &Forecast<'_>,
    memory: &Memory,
    throttled: f64,
) -> Option<Venture> {
    let pages = stop.progress.pending.as_f64();
    let whole = Forecast { behind: Duration::ZERO, ..*forecast };
    let mut best = venture(stop, &whole, None, throttled);
    if !early::possible(stop.progress) {
        return best;
    }
    let early = Forecast { behind: memory.behind_early(&whole), ..whole };
    let again = memory.again(&early, pages);
    let pays = |venture: &Venture| venture.gain - venture.cost;
    for part in PARTS {
        let way = Early { left: part * pages, again };
        let other = venture(stop, &early, Some(way), throttled);
        if let Some(other) = other.filter(|other| best.as_ref().is_none_or(|best| pays(other) > pays(best))) {
            best = Some(other);
        }
    }
    best.map(|best| {
        trial(stop, &early, memory, throttled).filter(|trial| pays(trial) > pays(&best)).unwrap_or(best)
    })
}

/// A round that is harvested early to see what the guest does in shorter windows than were seen; none if that is
/// known, or costs too much. It counts as if it won twice what it costs.
fn trial(stop: &Stop<'_>, forecast: &Forecast<'_>, memory: &Memory, throttled: f64) -> Option<Venture> {
    let pending = stop.progress.pending.as_f64();
    let way = Early { left: TRIAL * pending, again: 0.0 };
    let sending = forecast.round(pending - way.left).saturating_sub(forecast.harvest);
    if memory.has_tried() || sending < SHORT.saturating_mul(2) {
        return None;
    }
    let trial = venture(stop, forecast, Some(way), throttled)?;
    let pause = stop.downtime.as_secs_f64() * f64::from(stop.progress.vcpus);
    let (gain, cost) = (2.0 * trial.price, trial.price);
    (trial.price < CHEAP * pause).then_some(Venture { gain, cost, is_trial: true, ..trial })
}

/// What rounds of this kind come to; none if there is no time for one.
fn venture(stop: &Stop<'_>, forecast: &Forecast<'_>, way: Option<Early>, throttled: f64) -> Option<Venture> {
    let Stop { progress, downtime, limit, left } = *stop;
    let pending = progress.pending.as_f64();
    let Round { next, dirtied, time } = round(forecast, pending, way)?;
    // With much time left, a round that goes wrong is made good by those after it.
    let again = time.saturating_add(limit).saturating_mul(RETRIES) < left;
    let at_worst = forecast.downtime(next.pages * (2.0 * next.spread).exp());
    let once_more = time.saturating_mul(2).saturating_add(at_worst) < left && at_worst <= limit;
    if !again && !once_more {
        return None;
    }
    let vcpus = f64::from(progress.vcpus);
    let second = |pages: f64| forecast.downtime(pages).as_secs_f64();
    // One round and its chances, or several and what they lead to.
    let price = dirtied * FAULT + throttled * time.as_secs_f64() + WORTH;
    // As many pages as would now take as long, after such a round.
    let alike = forecast.budget(downtime);
    let chance = if again { next.below(alike) } else { (alike - next.pages).max(0.0) };
    let mut best = (vcpus * (second(chance) - second(0.0)), price);
    let (mut pages, mut total) = (next.pages, price);
    for _ in 1..AHEAD {
        let Some(then) = round(forecast, pages, way) else { break };
        total += then.dirtied * FAULT + throttled * then.time.as_secs_f64() + WORTH;
        pages = then.next.pages;
        let gain = vcpus * (downtime.as_secs_f64() - second(pages));
        if gain - total > best.0 - best.1 {
            best = (gain, total);
        }
    }
    let leave = way.map_or(0.0, |way| way.left);
    Some(Venture { gain: best.0, cost: best.1, price, next: next.pages, leave, is_trial: false })
}
