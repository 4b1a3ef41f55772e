//! What may come otherwise than expected, as a fixed set of cases.
//!
//! The core draws no random numbers: case `n` of `of` is the same in every forecast. What lasts is a quantile of the
//! normal distribution, so that few cases cover it evenly; what changes with every harvest is a hash.

use std::time::Duration;

use crate::units::Timestamp;

/// What a case makes of the guest and the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    /// Which case; none is as expected.
    case: Option<u32>,
    /// Standard deviations by which the guest lastingly dirties more than expected.
    guest: f64,
    /// The logarithm by which the link is lastingly faster.
    link: f64,
    /// The share of what may lie in the buffers that does.
    queued: f64,
    /// From when on the guest is otherwise, and by what factor.
    guest_changes: Option<(Timestamp, f64)>,
    /// The same of the link.
    link_changes: Option<(Timestamp, f64)>,
}

/// Changes that were seen so far, of the guest or of the link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    count: u32,
    /// Sum of the squares of the logarithms of their factors.
    squares: f64,
}

impl Changes {
    /// One was seen, by this factor, as a logarithm.
    pub(super) fn seen(&mut self, by: f64) {
        self.count += 1;
        self.squares += by * by;
    }

    /// When it changes next, if `share` of all cases do so later, and how much a change is, as the standard deviation of a
    /// logarithm. The rate of changes has a gamma distribution, as what was counted in the time so far says, so
    /// that the time without one has Pareto's.
    fn next(self, now: Timestamp, share: f64) -> Option<(Timestamp, f64)> {
        let count = f64::from(self.count);
        let size = ((CHANGE * CHANGE + self.squares) / (1.0 + count)).sqrt();
        let so_far = now.since(Timestamp::ZERO).as_secs_f64();
        let after = so_far * (share.powf(-1.0 / (CHANGES + count)) - 1.0);
        Some((now.saturating_add(Duration::try_from_secs_f64(after).ok()?), size))
    }
}

/// What no curve can know better, as the standard deviation of a logarithm: of a share that is dirtied at random
/// some per cent more or fewer are.
const LASTING: f64 = 0.02;
/// The same for a link whose rate did not vary.
const STEADY: f64 = 0.005;
/// How much what is left over is dirtied more or less than the rest, as the standard deviation of a logarithm (ours).
const AGAIN: f64 = 0.4;
/// How likely something changes of which no change was seen: in as much time as has passed so far, 1 − 2^−c.
const CHANGES: f64 = 0.15;
/// How much a change is, as the standard deviation of a logarithm (ours: it doubles or halves).
const CHANGE: f64 = 0.7;

impl Chance {
    /// What is expected.
    pub(super) const NONE: Self =
        Self { case: None, guest: 0.0, link: 0.0, queued: 1.0, guest_changes: None, link_changes: None };

    /// Case `n` of `of`, at `now`, for a link whose rate varied so much (the standard deviation of its logarithm), and the
    /// changes of guest and link that were seen.
    pub(super) fn case(n: u32, of: u32, now: Timestamp, varied: f64, changes: [Changes; 2]) -> Self {
        // Each has each of the evenly spread quantiles once, in orders that have nothing to do with one another.
        let spread = |order: u32| (f64::from((n * order + order / 2) % of) + 0.5) / f64::from(of);
        let next = |changes: Changes, when, by| {
            let (at, size) = changes.next(now, spread(when))?;
            Some((at, (normal(spread(by)) * size).exp()))
        };
        Self {
            case: Some(n),
            guest: normal((f64::from(n) + 0.5) / f64::from(of)),
            link: normal(spread(7)) * varied.hypot(STEADY),
            queued: 1.0 - 0.6 * spread(5).powi(2),
            guest_changes: next(changes[0], 11, 3),
            link_changes: next(changes[1], 6, 13),
        }
    }

    /// By what the link is faster at `now` than expected.
    pub(super) fn link(&self, now: Timestamp) -> f64 {
        let changed = self.link_changes.filter(|(at, _)| *at <= now).map_or(1.0, |(_, by)| by);
        changed * self.link.exp()
    }

    /// By what factor more of what a harvest finds left over was dirtied again than expected: it depends on where in memory the
    /// sender stands.
    pub(super) fn again(&self, harvest: u32) -> f64 {
        self.case.map_or(1.0, |case| (hashed(case + 1_000, harvest) * AGAIN).exp())
    }

    /// The share of what the link's buffers may hold at the beginning that they do.
    pub(super) fn queued(&self) -> f64 {
        self.queued
    }

    /// By what the guest dirties more at a harvest than expected, where one harvest is off the others by `scatter` and the expectation
    /// may be off by `doubt`, both standard deviations of logarithms.
    pub(super) fn guest(&self, now: Timestamp, harvest: u32, scatter: f64, doubt: f64) -> f64 {
        let Some(case) = self.case else { return 1.0 };
        let changed = self.guest_changes.filter(|(at, _)| *at <= now).map_or(1.0, |(_, by)| by);
        changed * (self.guest * doubt.hypot(LASTING) + hashed(case, harvest) * scatter).exp()
    }
}

/// A number that looks as if drawn from the normal distribution: the sum of four that look evenly drawn.
fn hashed(case: u32, harvest: u32) -> f64 {
    // SplitMix64's finaliser (Steele, Lea and Flood 2014).
    let mut hash =
        (u64::from(case) << 32 | u64::from(harvest)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    let sum: f64 = (0..4).map(|part| ((hash >> (16 * part)) & 0xffff) as f64 / 65_536.0 - 0.5).sum();
    sum * 3f64.sqrt()
}

/// The quantile of the normal distribution; by the logistic curve that is nearest, within 0.1 of it between 0.02 and 0.98.
fn normal(share: f64) -> f64 {
    (share / (1.0 - share)).ln() / 1.702
}

#[cfg(test)]
mod tests;
