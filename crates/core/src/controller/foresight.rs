//! Progress and the time that is left, for any policy.
//!
//! The controller holds everything that the decision depends on, so it can be asked in earnest: a copy of it,
//! policy and memory and all, is led through the rounds that the guest's curve and the link's rate make likely
//! (`imagined.rs`), until it ends the migration. That is done for what is expected and for nineteen cases of chance
//! (`chance.rs`). How far their ends lie apart says how sure the forecast is, and so how wide its interval
//! has to be: as wide as forecasts as sure as that missed by on the design scenarios. No policy has to know of it.
//!
//! Progress is a share of the whole journey as forecast. Of the stretch between two forecasts, which took Δ
//! and left R to go, the share Δ/(Δ + R) of what had been left is done:
//!
//! ```text
//! p' = p + (1 − p)·Δ/(Δ + R)
//! ```
//!
//! If forecasts are right this is elapsed over total; if one was wrong, progress goes slower or faster from then
//! on. It never runs backwards, because Δ is never negative, and is 1 only when nothing is left: nothing is
//! clamped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Controller;
use super::chance::{Chance, Changes};
use super::imagined::{Imagined, World, pace};
use super::link::Link;
use crate::forecast::{DirtyCurve, Guessed, HostPair, Mixture, WorkingSet};
use crate::policy::{RateLimit, Verdict};
use crate::progress::Progress;
use crate::units::{Bandwidth, ByteCount, Share, Timestamp, duration};

/// What is left of a migration, as forecast when a round starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outlook {
    /// When it was made. A round that is sent while the guest is paused began later than what was foreseen of it.
    #[serde(default)]
    pub at: Timestamp,
    /// How much of the whole is done. It never falls from one round to the next.
    pub progress: Share,
    /// Time until the migration is over, however it ends; none if no end is in sight.
    #[serde(with = "duration::option")]
    pub remaining: Option<Duration>,
    /// Nine of ten migrations take at least this and at most `high`.
    #[serde(with = "duration")]
    pub low: Duration,
    /// See `low`; none if no end is in sight.
    #[serde(with = "duration::option")]
    pub high: Option<Duration>,
    /// How sure the forecast is, by how far chance may lead the migration apart: from 0, whose ends lie within 10 %, to 4; 5 for a
    /// limit that may be reached, 6 for one that will be. The interval follows from it and from `remaining`.
    #[serde(default)]
    pub class: u8,
}

/// What is known of a migration before it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prior {
    /// What a look at the running guest showed, as QEMU's `calc-dirty-rate` takes one: distinct pages dirtied in
    /// windows of a few lengths. Empty if nobody looked.
    pub observed: DirtyCurve,
    /// When whoever drives the migration gives it up, counted from its start.
    pub limit: Option<Duration>,
}

/// What was seen, for outlooks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Foresight {
    curve: DirtyCurve,
    mixture: Mixture,
    limit: Option<Timestamp>,
    link: Link,
    page_bytes: Option<f64>,
    /// What one of the pending pages becomes on the average, and how many bytes a page of the bulk round.
    becomes: Option<f64>,
    /// Bytes sent in the round that is over.
    round_sent: f64,
    /// The window in which the pending pages were dirtied, and how many they were.
    window: Duration,
    pending: f64,
    changes: Changes,
    /// By what factor more of what was left over was dirtied again than the windows say.
    again: f64,
    rate_limit: Option<Bandwidth>,
    done: f64,
    updated: Timestamp,
    /// Outlooks given so far.
    given: u32,
}

/// What hosts are taken to cost beside the pages, found on the design scenarios: the middle, where a policy that must not be
/// late assumes more.
const HOSTS: HostPair = HostPair {
    fixed: Duration::from_micros(4_200),
    harvest: Duration::from_millis(1),
    state: ByteCount::mib(1),
    bandwidth: None,
};

/// Rounds that each have an outlook.
const EVERY_ROUND: u32 = 64;
/// Cases of chance that are led to the end beside what is expected.
const CASES: u32 = 19;
/// Fewer pages tell nothing of a share.
const MANY: f64 = 64.0;
/// A window that is so near one that was seen is much like it: doubt of it, at most; and by how much, in logarithms,
/// what it finds is off the expectation if the guest has changed.
const SEEN: f64 = 0.15;
const OTHER: f64 = 0.7;
/// How far apart the second-soonest and the second-latest of the cases may end, as a logarithm, for a forecast to be of the
/// first class, the second and so on.
const APART: [f64; 4] = [0.1, 0.2, 0.4, 1.0];
/// Up to which class a forecast is sure.
const SURE: usize = 1;
/// From how many cases on that reach the limit on a forecast is one of a limit that may be reached, or will be.
const MAY_REACH: usize = 3;
const WILL_REACH: usize = 17;
/// Between which multiples of the forecast the end lies: at the first forecast and at later ones, for the classes of [`APART`],
/// one that is less sure, a limit that may be reached and one that will be. They are the shortest
/// that hold on the design scenarios what `docs/progress.md` says.
const BETWEEN: [[(f64, f64); 7]; 2] = [
    [(0.79, 1.17), (0.79, 3.93), (0.06, 9.13), (0.06, 9.13), (0.0, 22.0), (0.01, 1.01), (0.01, 1.01)],
    [(0.963, 1.058), (0.925, 1.088), (0.72, 1.24), (0.39, 1.89), (0.0, 22.0), (0.0, 30.0), (0.99, 1.01)],
];
/// What hosts and buffers take more or less than is assumed of them.
const MARGIN: Duration = Duration::from_millis(4);
/// A limit is not kept to the instant.
const GRACE: Duration = Duration::from_millis(50);

impl Foresight {
    pub(super) fn new(prior: &Prior) -> Self {
        let limit = prior.limit.map(|limit| Timestamp::ZERO.saturating_add(limit));
        Self { curve: prior.observed, limit, again: 1.0, ..Self::default() }
    }

    /// The bulk round starts.
    pub(super) fn begin(&mut self, progress: &Progress) {
        self.link.mark(progress.sent, progress.now);
        self.updated = Timestamp::ZERO;
    }

    /// The policy limits the rate, or no longer does.
    pub(super) fn limited(&mut self, adjusted: Option<RateLimit>) {
        match adjusted {
            Some(RateLimit::AtMost(limit)) => self.rate_limit = Some(limit),
            Some(RateLimit::Unlimited) => self.rate_limit = None,
            None => {}
        }
    }

    /// Something was sent; `progress` says what it came to so far.
    pub(super) fn sent(&mut self, progress: &Progress) {
        self.link.sent(progress.sent, progress.now);
    }

    /// A round is over, at the latest now: the last that was heard of it stands in `progress`.
    pub(super) fn round_over(&mut self, progress: &Progress) {
        self.link.round_over(progress.sent, progress.now);
        self.round_sent = progress.round_sent.as_f64();
        if progress.round > 1 && progress.round_sent_pages.0 >= 64 {
            self.page_bytes = Some(progress.round_sent.as_f64() / progress.round_sent_pages.as_f64());
        }
    }

    /// The next round starts, after a window of this length.
    pub(super) fn harvested(&mut self, progress: &Progress, window: Duration) {
        let window = window.mul_f64(pace(progress.throttle));
        self.forget_another_guest(progress, window);
        self.curve.observe(window, progress.dirtied);
        self.mixture.fit(&self.curve);
        self.compare_dirtied_again(progress, window);
        let pending = progress.pending.as_f64();
        let kept = if progress.round == 1 { 0.0 } else { progress.left_over.as_f64() / pending.max(1.0) };
        self.window = window + self.window.mul_f64(kept.min(1.0));
        self.link.mark(progress.sent, progress.now);
        self.becomes = Some(self.bytes_of_pending(progress));
        self.pending = pending;
    }

    /// A window much like one that was seen found far more or fewer pages: the guest does something else now, and what was
    /// seen of it says nothing of it but the shape.
    fn forget_another_guest(&mut self, progress: &Progress, window: Duration) {
        // Before the first harvest there was a look at most, and nothing is fitted to it yet.
        if progress.round == 1 || window.is_zero() {
            return;
        }
        let Guessed { pages, scatter, doubt } = self.mixture.guess(&self.curve, window);
        let off = (progress.dirtied.as_f64().max(1.0) / pages.max(1.0)).ln();
        if doubt <= SEEN
            && pages.max(progress.dirtied.as_f64()) >= MANY
            && off.abs() > OTHER.max(3.0 * scatter)
        {
            self.changes.seen(off);
            self.curve = DirtyCurve::default();
        }
    }

    /// How many of the pages that were left over were dirtied again, beside what was to be expected of the windows.
    fn compare_dirtied_again(&mut self, progress: &Progress, window: Duration) {
        let left_over = progress.left_over.as_f64();
        if progress.round == 1 || left_over < MANY || self.pending < left_over {
            return;
        }
        let pages = |window| self.mixture.guess(&self.curve, window).pages;
        let both = pages(self.window) + pages(window) - pages(self.window + window);
        let expected = both * left_over / self.pending;
        if expected >= MANY {
            let again = left_over + progress.dirtied.as_f64() - progress.pending.as_f64();
            let factor = (again / expected).clamp(0.2, 5.0);
            self.again += 0.3 * (factor - self.again);
        }
    }

    /// What one of the pending pages becomes on the average. What the bulk round has left may be zero pages, as
    /// many of them as there were among those sent; what is left over of that later is as it was.
    fn bytes_of_pending(&self, progress: &Progress) -> f64 {
        let page_bytes = self.page_bytes(progress);
        let (left_over, pending) = (progress.left_over.as_f64(), progress.pending.as_f64());
        if pending < 1.0 || progress.sent_pages.0 == 0 {
            return page_bytes;
        }
        let of_bulk = || progress.sent.as_f64() / progress.sent_pages.as_f64();
        // What was pending before is what was sent of it and what is left.
        let before = match self.becomes {
            Some(becomes) if progress.round > 1 => {
                (becomes * self.pending - self.round_sent) / left_over.max(1.0)
            }
            _ => of_bulk(),
        };
        let share = (left_over / pending).min(1.0);
        share * before.clamp(0.0, page_bytes) + (1.0 - share) * page_bytes
    }

    fn page_bytes(&self, progress: &Progress) -> f64 {
        self.page_bytes.unwrap_or(progress.page_size.bytes().as_f64() * 1.002)
    }

    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Whether an outlook is due: at every round to begin with, later when a hundredth of the time so far has passed
    /// since the last. A migration of a hundred thousand rounds is so looked ahead of some hundred times.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.given < EVERY_ROUND || now.since(self.updated) >= now.since(Timestamp::ZERO) / 100
    }

    /// What is left, now that the policy has answered the start of a round with `verdict`.
    pub(super) fn outlook(&mut self, controller: &Controller, verdict: &Verdict) -> Option<Outlook> {
        let progress = &controller.progress;
        if self.curve.is_empty() {
            return None;
        }
        let page_bytes = self.page_bytes(progress);
        let bandwidth = self.link.bandwidth()?;
        let set = WorkingSet::new(&self.mixture, &self.curve);
        let world = World {
            set: &set,
            bandwidth,
            page_bytes,
            first_page_bytes: self.becomes.unwrap_or(page_bytes),
            buffer: self.link.buffer(),
            queued: self.link.queued(progress.now).unwrap_or(0.0),
            round_trip: self.link.round_trip(),
            bound: self.rate_limit.is_some_and(|limit| bandwidth.as_f64() > 0.9 * limit.as_f64()),
            window: self.window,
            again: self.again,
            harvest: progress.fixed_costs,
            host: HOSTS,
            chance: Chance::NONE,
            limit: self.limit,
        };
        self.limited(verdict.adjust.rate_limit);
        let end = |chance| {
            let world = World { chance, ..world };
            Imagined::new(controller, &world).ends(verdict.clone()).map(|at| at.since(progress.now))
        };
        let expected = end(Chance::NONE);
        let varied = self.link.varied();
        let changes = [self.changes, self.link.changes()];
        let mut ends = [None; CASES as usize];
        for (case, into) in (0..).zip(&mut ends) {
            *into = end(Chance::case(case, CASES, progress.now, varied, changes));
        }
        // Those that have no end in sight are the last.
        ends.sort_unstable_by_key(|end| end.unwrap_or(Duration::MAX));
        let limit = self.limit.map(|limit| limit.since(progress.now));
        let class = class_of(expected, &ends, limit);
        // Where chance has a hand in it the middle of the cases says more than the case in which nothing happens.
        let remaining = if class <= SURE { expected } else { ends[ends.len() / 2] };
        let (low, high) = self.interval(remaining, class, limit);
        // Where no end is in sight and there is no limit, nobody can say how long it may go on.
        let high = high.filter(|_| limit.is_some() || ends[ends.len() - 2].is_some());
        self.advance(progress.now, remaining);
        self.given += 1;
        let (at, progress) = (progress.now, Share::clamped(self.done));
        Some(Outlook { at, progress, remaining, low, high, class: class as u8 })
    }

    /// Between what the time left lies, in nine of ten migrations.
    fn interval(
        &self,
        remaining: Option<Duration>,
        class: usize,
        limit: Option<Duration>,
    ) -> (Duration, Option<Duration>) {
        let Some(remaining) = remaining else { return (Duration::ZERO, None) };
        let (low, high) = BETWEEN[usize::from(self.given > 0)][class];
        let times =
            |factor| Duration::try_from_secs_f64(remaining.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        let high = times(high).saturating_add(MARGIN);
        let high = high.min(limit.map_or(Duration::MAX, |limit| limit.saturating_add(GRACE)));
        (times(low).saturating_sub(MARGIN), Some(high))
    }

    fn advance(&mut self, now: Timestamp, remaining: Option<Duration>) {
        let passed = now.since(self.updated).as_secs_f64();
        self.updated = now;
        let Some(remaining) = remaining else { return };
        let whole = passed + remaining.as_secs_f64();
        if whole > 0.0 {
            self.done += (1.0 - self.done) * passed / whole;
        }
    }
}

/// Of which class of [`BETWEEN`] a forecast is.
fn class_of(expected: Option<Duration>, ends: &[Option<Duration>], limit: Option<Duration>) -> usize {
    let cut = |end: &Option<Duration>| end.is_none_or(|end| limit.is_some_and(|limit| end >= limit));
    match ends.iter().filter(|end| cut(end)).count() {
        WILL_REACH.. => APART.len() + 2,
        MAY_REACH.. => APART.len() + 1,
        _ => {
            let seconds = |end: Duration| end.as_secs_f64().max(1e-4);
            let of = |place: usize| ends[place].map_or(f64::INFINITY, seconds);
            let expected = expected.map_or(f64::INFINITY, seconds);
            let (soon, late) = (of(1).min(expected), of(ends.len() - 2).max(expected));
            let apart = (late / soon).ln();
            APART.iter().filter(|limit| apart >= **limit).count()
        }
    }
}

#[cfg(test)]
mod tests;
