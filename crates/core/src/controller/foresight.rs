//! Progress and the time that is left, for any policy.
//!
//! The controller holds everything that the decision depends on, so it can be asked in earnest: a copy of it,
//! policy and memory and all, is led through the rounds that the guest's curve and the link's rate make likely
//! (`imagined.rs`), until it ends the migration. That is done for a guest as expected and for guests that dirty
//! more or fewer pages; the ends that come of it, widened by what was missed on the design scenarios, are the
//! interval. No policy has to know of it.
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
use super::imagined::{Imagined, World, pace};
use crate::forecast::{DirtyCurve, HostPair, Mixture, SendRate};
use crate::policy::{RateLimit, Verdict};
use crate::progress::Progress;
use crate::units::{Bandwidth, ByteCount, Share, Timestamp, duration};

/// What is left of a migration, as forecast when a round starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outlook {
    /// How much of the whole is done. It never falls from one round to the next.
    pub progress: Share,
    /// Time until the migration is over, however it ends; none if no end is in sight.
    #[serde(with = "duration::option")]
    pub remaining: Option<Duration>,
    /// Nine of ten migrations take at least this and at most `high`: half of the others are sooner.
    #[serde(with = "duration")]
    pub low: Duration,
    /// See `low`; none if no end is in sight.
    #[serde(with = "duration::option")]
    pub high: Option<Duration>,
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
    rate: SendRate,
    mark: (ByteCount, Timestamp),
    page_bytes: Option<f64>,
    window: Duration,
    rate_limit: Option<Bandwidth>,
    done: f64,
    updated: Timestamp,
    /// Outlooks given so far.
    given: u32,
}

/// What hosts are taken to cost beside the pages, found on the design scenarios: the middle, where a policy that must not be
/// late assumes more.
const HOSTS: HostPair = HostPair {
    fixed: Duration::from_millis(14),
    harvest: Duration::from_millis(1),
    state: ByteCount::mib(1),
    bandwidth: None,
};

/// Rounds that each have an outlook.
const EVERY_ROUND: u32 = 64;
/// Guests that dirty more or fewer pages than expected, in standard deviations.
const GUESTS: [f64; 4] = [-1.6, -0.8, 0.8, 1.6];
/// How wide the ends of those guests lie apart, as a share of the time left: below these a forecast is sure, then less and
/// less so.
const SURE: [f64; 3] = [0.06, 0.25, 0.6];
/// Between which multiples of the forecast 92 % of the ends lay on the design scenarios: at the first forecast and
/// later; for the classes of [`SURE`], for a limit that only some of the guests reach, that the expected one
/// reaches, and that all do. The shortest such interval in each class; what it comes to elsewhere stands
/// in `docs/progress.md`.
const BETWEEN: [[(f64, f64); 7]; 2] = [
    [(0.52, 1.55), (0.00, 3.32), (0.06, 1.23), (0.08, 1.38), (0.92, 1.38), (0.00, 1.06), (0.00, 1.06)],
    [(0.60, 1.10), (0.66, 1.65), (0.42, 1.26), (0.00, 1.90), (0.00, 1.37), (0.00, 1.06), (0.00, 1.06)],
];
/// What hosts and acknowledgements take more or less than is assumed of them.
const MARGIN: Duration = Duration::from_millis(10);
/// A limit is not kept to the instant.
const GRACE: Duration = Duration::from_millis(50);
/// A shorter time is no measure of the rate: buffers and the way of an acknowledgement blur it.
const LONG: Duration = Duration::from_millis(50);

impl Foresight {
    pub(super) fn new(prior: &Prior) -> Self {
        let limit = prior.limit.map(|limit| Timestamp::ZERO.saturating_add(limit));
        Self { curve: prior.observed, limit, ..Self::default() }
    }

    /// The bulk round starts.
    pub(super) fn begin(&mut self, progress: &Progress) {
        self.mark = (progress.sent, progress.now);
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
        if progress.now.since(self.mark.1) >= LONG {
            self.observe_rate(progress);
        }
    }

    /// A round is over, at the latest now: the last that was heard of it stands in `progress`.
    pub(super) fn round_over(&mut self, progress: &Progress) {
        if self.rate.bandwidth().is_none() {
            self.observe_rate(progress);
        }
        if progress.round > 1 && progress.round_sent_pages.0 >= 64 {
            self.page_bytes = Some(progress.round_sent.as_f64() / progress.round_sent_pages.as_f64());
        }
    }

    fn observe_rate(&mut self, progress: &Progress) {
        let bytes = ByteCount(progress.sent.0.saturating_sub(self.mark.0.0));
        self.rate.observe(bytes, progress.now.since(self.mark.1));
        self.mark = (progress.sent, progress.now);
    }

    /// The next round starts, after a window of this length.
    pub(super) fn harvested(&mut self, progress: &Progress, window: Duration) {
        let window = window.mul_f64(pace(progress.throttle));
        self.window = window;
        self.curve.observe(window, progress.dirtied);
        self.mixture.fit(&self.curve);
        self.mark = (progress.sent, progress.now);
    }

    /// Whether an outlook is due: at every round to begin with, later when a hundredth of the time so far has passed
    /// since the last. A migration of a hundred thousand rounds is so looked ahead of some hundred times.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.given < EVERY_ROUND || now.since(self.updated) >= now.since(Timestamp::ZERO) / 100
    }

    /// What is left, now that the policy has answered the start of a round with `verdict`.
    pub(super) fn outlook(&mut self, controller: &Controller, verdict: &Verdict) -> Option<Outlook> {
        let progress = &controller.progress;
        let page_bytes = self.page_bytes.unwrap_or(progress.page_size.bytes().as_f64() * 1.002);
        let bandwidth = self.rate.bandwidth()?;
        let world = World {
            curve: self.curve,
            mixture: self.mixture,
            bandwidth,
            page_bytes,
            first_page_bytes: page_bytes_of_pending(progress, page_bytes),
            bound: self.rate_limit.is_some_and(|limit| bandwidth.as_f64() > 0.9 * limit.as_f64()),
            window: self.window,
            harvest: progress.fixed_costs,
            host: HOSTS,
            deviation: 0.0,
            limit: self.limit,
        };
        if world.curve.is_empty() {
            return None;
        }
        self.limited(verdict.adjust.rate_limit);
        let end = |deviation| {
            let world = World { deviation, ..world };
            Imagined::new(controller, &world).ends(verdict.clone()).map(|at| at.since(progress.now))
        };
        let remaining = end(0.0);
        let others = GUESTS.map(end);
        let (low, high) = self.interval(progress, remaining, others);
        self.advance(progress.now, remaining);
        self.given += 1;
        Some(Outlook { progress: Share::clamped(self.done), remaining, low, high })
    }

    /// Between what the time left lies: in nine of ten cases like this one on the design scenarios.
    fn interval(
        &self,
        progress: &Progress,
        remaining: Option<Duration>,
        others: [Option<Duration>; 4],
    ) -> (Duration, Option<Duration>) {
        let Some(remaining) = remaining else { return (Duration::ZERO, None) };
        let limit = self.limit.map(|limit| limit.since(progress.now));
        let soonest = others.into_iter().flatten().fold(remaining, Duration::min);
        let latest = others.into_iter().try_fold(remaining, |latest, end| Some(latest.max(end?)));
        let cut = |end: Option<Duration>| end.is_none_or(|end| limit.is_some_and(|limit| end >= limit));
        let class = if cut(Some(soonest)) {
            6
        } else if cut(Some(remaining)) {
            5
        } else if cut(latest) {
            4
        } else {
            let apart = latest.unwrap_or(remaining).saturating_sub(soonest);
            let apart = apart.as_secs_f64() / remaining.as_secs_f64().max(1e-9);
            SURE.iter().filter(|sure| apart >= **sure).count()
        };
        let (low, high) = BETWEEN[usize::from(progress.round > 1)][class];
        let times =
            |factor| Duration::try_from_secs_f64(remaining.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        let high = times(high)
            .saturating_add(MARGIN)
            .min(limit.map_or(Duration::MAX, |limit| limit.saturating_add(GRACE)));
        (times(low).saturating_sub(MARGIN), latest.map(|_| high))
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

/// What one of the pending pages becomes on the average. What the bulk round has left may be zero pages, as
/// many of them as there were among those sent.
fn page_bytes_of_pending(progress: &Progress, page_bytes: f64) -> f64 {
    let (left_over, pending) = (progress.left_over.as_f64(), progress.pending.as_f64());
    if progress.round != 1 || pending < 1.0 || progress.sent_pages.0 == 0 {
        return page_bytes;
    }
    let of_bulk = progress.sent.as_f64() / progress.sent_pages.as_f64();
    let share = (left_over / pending).min(1.0);
    share * of_bulk.min(page_bytes) + (1.0 - share) * page_bytes
}
