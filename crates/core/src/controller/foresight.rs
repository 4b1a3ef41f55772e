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
use crate::forecast::{DirtyCurve, HostPair, SendRate};
use crate::policy::Verdict;
use crate::progress::Progress;
use crate::units::{ByteCount, Share, Timestamp, duration};

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

/// What was seen, for outlooks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Foresight {
    curve: DirtyCurve,
    rate: SendRate,
    mark: (ByteCount, Timestamp),
    page_bytes: Option<f64>,
    done: f64,
    updated: Timestamp,
}

/// What hosts are taken to cost beside the pages: the middle of what is likely, where a policy that must not be
/// late assumes more.
const HOSTS: HostPair = HostPair {
    fixed: Duration::from_millis(5),
    harvest: Duration::from_millis(1),
    state: ByteCount::mib(1),
    bandwidth: None,
};

/// Guests that dirty more or fewer pages than expected, in standard deviations.
const GUESTS: [f64; 4] = [-1.6, -0.8, 0.8, 1.6];
/// How much wider the interval is than those guests make it, downwards and upwards: while the bulk round alone
/// was seen, and later. Found on the design scenarios, where nine of ten intervals are then true (0.891 of 1,485 runs); what it comes
/// to elsewhere stands in `docs/progress.md`.
const WIDER_AT_FIRST: [f64; 2] = [4.0, 6.0];
const WIDER: [f64; 2] = [3.0, 4.0];
/// How wide it is at least to either side: a share of what is left, and seconds, for what the hosts need beside.
const LEAST: [f64; 2] = [0.08, 0.05];
const LEAST_SECONDS: f64 = 0.03;
/// A shorter round is no measure of the rate: buffers and the way of an acknowledgement blur it.
const LONG: Duration = Duration::from_millis(50);

impl Foresight {
    /// The bulk round starts.
    pub(super) fn begin(&mut self, progress: &Progress) {
        self.mark = (progress.sent, progress.now);
        self.updated = Timestamp::ZERO;
    }

    /// A round is over, at the latest now: the last that was heard of it stands in `progress`.
    pub(super) fn round_over(&mut self, progress: &Progress) {
        let bytes = ByteCount(progress.sent.0.saturating_sub(self.mark.0.0));
        let time = progress.now.since(self.mark.1);
        if time >= LONG || self.rate.bandwidth().is_none() {
            self.rate.observe(bytes, time);
        }
        if progress.round > 0 && progress.round_sent_pages.0 >= 64 {
            self.page_bytes = Some(progress.round_sent.as_f64() / progress.round_sent_pages.as_f64());
        }
    }

    /// The next round starts, after a window of this length.
    pub(super) fn harvested(&mut self, progress: &Progress, window: Duration) {
        let window = window.mul_f64(pace(progress.throttle));
        self.curve.observe(window, progress.dirtied);
        self.mark = (progress.sent, progress.now);
    }

    /// What is left, now that the policy has answered the start of a round with `verdict`.
    pub(super) fn outlook(&mut self, controller: &Controller, verdict: &Verdict) -> Option<Outlook> {
        let progress = &controller.progress;
        let world = World {
            curve: self.curve,
            bandwidth: self.rate.bandwidth()?,
            page_bytes: self.page_bytes.unwrap_or(progress.page_size.bytes().as_f64() * 1.002),
            harvest: progress.fixed_costs,
            host: HOSTS,
            deviation: 0.0,
        };
        if world.curve.is_empty() {
            return None;
        }
        let end = |deviation| {
            let world = World { deviation, ..world };
            Imagined::new(controller, &world).ends(verdict.clone()).map(|at| at.since(progress.now))
        };
        let remaining = end(0.0);
        let others = GUESTS.map(end);
        let known = others.iter().copied().chain([remaining]).flatten();
        let soonest = known.clone().min().unwrap_or(Duration::ZERO).as_secs_f64();
        let latest = others
            .iter()
            .copied()
            .chain([remaining])
            .try_fold(Duration::ZERO, |latest, end| Some(latest.max(end?)));
        let middle = remaining.map(|time| time.as_secs_f64());
        let [down, up] = if progress.round == 1 { WIDER_AT_FIRST } else { WIDER };
        let least = |side: usize, middle: f64| LEAST[side] * middle + LEAST_SECONDS;
        let low = match (middle, latest) {
            (Some(middle), Some(_)) => middle - (middle - soonest) * down - least(0, middle),
            // One may come by chance, at any time.
            _ => 0.0,
        };
        let high = middle
            .zip(latest)
            .map(|(middle, latest)| middle + (latest.as_secs_f64() - middle) * up + least(1, middle));
        let lasting = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        self.advance(progress.now, remaining);
        Some(Outlook {
            progress: Share::clamped(self.done),
            remaining,
            low: lasting(low),
            high: high.map(lasting),
        })
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
