//! A migration led to its end in imagination: the same policy, on the guest and link as they have been so far.
//!
//! Rounds are computed, not played: a round of so many pages takes so long, and in a window of that length the
//! guest dirties what its curve says. The policy is asked as in earnest, but for ticks at which its answer holds.

use std::time::Duration;

use super::{Controller, Harvested, Transmitted};
use crate::forecast::{DirtyCurve, Forecast, HostPair, Mixture};
use crate::journal::Journal;
use crate::policy::{Decision, RateLimit, SwitchoverWhen, Verdict};
use crate::progress::Moment;
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, Pages, Timestamp};

/// The guest and the link as they are imagined.
#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    pub(super) curve: DirtyCurve,
    pub(super) mixture: Mixture,
    pub(super) bandwidth: Bandwidth,
    pub(super) page_bytes: f64,
    /// Bytes that one of the pages becomes that are pending now: zero pages may be left over.
    pub(super) first_page_bytes: f64,
    /// The rate was held down by a limit, so that another limit means another rate.
    pub(super) bound: bool,
    pub(super) harvest: Duration,
    /// The window that the last harvest found the pending pages in.
    pub(super) window: Duration,
    pub(super) host: HostPair,
    /// By how many standard deviations the guest dirties more than expected.
    pub(super) deviation: f64,
    /// When whoever drives the migration gives it up, if that is known.
    pub(super) limit: Option<Timestamp>,
}

/// What no curve can know better, as the standard deviation of a logarithm: of a share that is dirtied at random
/// some per cent more or fewer are.
const CHANCE: f64 = 0.03;
/// Questions after which no end is in sight.
const QUESTIONS: u32 = 400;
/// A paced program catches up so much of a sleep (measured: the simulator's `guest.writers.N.catch-up`).
const CATCHES_UP: f64 = 0.05;

/// How fast a guest writes under this throttle.
pub(super) fn pace(throttle: Throttle) -> f64 {
    let Throttle::DutyCycle { share, run } = throttle else { return 1.0 };
    let (share, run) = (share.as_f64().min(0.999), run.as_secs_f64().max(1e-6));
    let sleep = run * share / (1.0 - share);
    (run + sleep.min(CATCHES_UP)) / (run + sleep)
}

/// A controller that is led through a migration.
pub(super) struct Imagined {
    controller: Controller,
    world: World,
    limit: Option<Bandwidth>,
    moment: Moment,
    now: Timestamp,
    pending: f64,
    /// How many were pending when the round began, in what window they were dirtied, and what one becomes.
    round: (f64, Duration, f64),
}

impl Imagined {
    pub(super) fn new(controller: &Controller, world: &World) -> Self {
        let imagined = Controller {
            policy: controller.policy.clone(),
            progress: controller.progress.clone(),
            journal: Journal::off(),
            foresight: None,
            outlook: None,
            last: controller.last.clone(),
            ..*controller
        };
        let (now, pending) = (imagined.progress.now, imagined.progress.pending.as_f64());
        let round = (pending, world.window, world.first_page_bytes);
        Self {
            controller: imagined,
            world: *world,
            limit: None,
            moment: Moment::RoundStart,
            now,
            pending,
            round,
        }
    }

    /// When it ends, if `verdict` answers the start of the round that begins now: at the time limit at the
    /// latest, and there if no end comes in sight before.
    pub(super) fn ends(self, verdict: Verdict) -> Option<Timestamp> {
        let limit = self.world.limit;
        let end = self.ends_by_itself(verdict);
        end.map_or(limit, |end| Some(limit.map_or(end, |limit| end.min(limit))))
    }

    fn ends_by_itself(mut self, mut verdict: Verdict) -> Option<Timestamp> {
        for _ in 0..QUESTIONS {
            if self.world.limit.is_some_and(|limit| self.now >= limit) {
                return None;
            }
            match verdict.adjust.rate_limit {
                Some(RateLimit::AtMost(limit)) => self.limit = Some(limit),
                Some(RateLimit::Unlimited) => self.limit = None,
                None => {}
            }
            verdict = match (verdict.decision, self.moment) {
                (Decision::Switchover { when, .. }, _) => return Some(self.handed_over(when)),
                (Decision::PostCopy, _) => return Some(self.followed()),
                (Decision::Abort, _) => return Some(self.now),
                (Decision::Pause, _) if !self.controller.progress.paused => {
                    self.controller.paused();
                    self.harvest()
                }
                (Decision::Harvest, _) | (_, Moment::RoundEnd) => self.harvest(),
                _ => self.send(&verdict),
            };
        }
        None
    }

    fn forecast(&self) -> Forecast<'_> {
        let World { ref curve, bandwidth, bound, harvest, host, .. } = self.world;
        let page_bytes = self.round.2;
        let bandwidth = match self.limit {
            Some(limit) if bound => limit,
            Some(limit) => limit.min(bandwidth),
            None => bandwidth,
        };
        Forecast { curve, bandwidth, page_bytes, harvest, latency: Duration::ZERO, host, speed: 1.0 }
    }

    /// What the guest dirties from the last harvest to `now`.
    fn dirtied(&self, now: Timestamp) -> f64 {
        let progress = &self.controller.progress;
        if progress.paused {
            return 0.0;
        }
        let window = now.since(self.controller.last_harvest);
        if window.is_zero() {
            return 0.0;
        }
        let window_at_pace = window.mul_f64(pace(progress.throttle));
        let expected = self.world.mixture.expect(&self.world.curve, window_at_pace);
        let spread = expected.spread.hypot(CHANCE);
        let pages = expected.pages * (self.world.deviation * spread).exp();
        let held = match progress.throttle {
            Throttle::DirtyLimit { quota, .. } => {
                let each = quota.as_f64() * window.as_secs_f64() / self.world.page_bytes;
                each * f64::from(progress.vcpus)
            }
            _ => f64::INFINITY,
        };
        pages.min(held).min(progress.memory.as_f64())
    }

    /// Of the pages that this round has not sent, those dirtied again in a window that found `dirtied`. Of a guest
    /// that goes on as it is, V + W windows find W(V) + W(W) − W(V + W) pages in both.
    fn dirtied_again(&self, window: Duration, dirtied: f64) -> f64 {
        let (started, before, _) = self.round;
        if self.pending < 1.0 || window.is_zero() || before.is_zero() {
            return 0.0;
        }
        let World { ref mixture, ref curve, .. } = self.world;
        let pages = |window| mixture.expect(curve, window).pages;
        let both = pages(before) + pages(window) - pages(before + window);
        let unsent = self.pending / started.max(self.pending);
        (both * unsent).clamp(0.0, self.pending.min(dirtied))
    }

    fn harvest(&mut self) -> Verdict {
        let now = self.now.saturating_add(self.world.harvest);
        let dirtied = self.dirtied(now);
        let left_over = Pages(self.pending as u64);
        let window = now.since(self.controller.last_harvest);
        let (unsent, becomes) = (self.pending, self.world.page_bytes);
        self.pending += dirtied - self.dirtied_again(window, dirtied);
        self.pending = self.pending.min(self.controller.progress.memory.as_f64()).max(unsent);
        let each = becomes - (becomes - self.round.2) * unsent / self.pending.max(1.0);
        self.round = (self.pending, window, each);
        self.now = now;
        self.moment = Moment::RoundStart;
        let pending = Pages(self.pending as u64);
        self.controller.harvested(now, Harvested { dirtied: Pages(dirtied as u64), left_over, pending })
    }

    /// Sends until the policy has to be asked, or the round is over.
    fn send(&mut self, standing: &Verdict) -> Verdict {
        let page_bytes = self.round.2;
        let rate = self.forecast().bandwidth.as_f64() / page_bytes;
        let whole = self.pending / rate;
        let time = match self.controller.cadence.tick {
            Some(tick) if self.pending >= 1.0 => {
                let tick = tick.as_secs_f64().max(1e-4);
                let until = standing.until;
                let by_time = until.at.since(self.now).as_secs_f64();
                let by_pages = (self.pending - until.pending.as_f64()) / rate;
                let first =
                    if until.reached(&self.controller.progress) { 0.0 } else { by_time.min(by_pages) };
                ((first / tick).ceil().max(1.0) * tick).min(whole)
            }
            _ => whole,
        };
        let sent = if time >= whole { self.pending } else { time * rate };
        self.pending = if time >= whole { 0.0 } else { self.pending - sent };
        let lasting = Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX);
        self.now = self.now.saturating_add(lasting);
        let sent = Transmitted {
            pages: Pages(sent as u64),
            zero: Pages(0),
            bytes: ByteCount((sent * page_bytes) as u64),
            pending: Pages(self.pending as u64),
            skipped: Pages(0),
        };
        if let Some(verdict) = self.controller.transmitted(self.now, sent) {
            self.moment = Moment::Tick;
            return verdict;
        }
        self.pending = 0.0;
        self.moment = Moment::RoundEnd;
        self.controller.round_ended(self.now)
    }

    fn handed_over(&mut self, when: SwitchoverWhen) -> Timestamp {
        if when == SwitchoverWhen::AfterRound && self.moment != Moment::RoundEnd {
            let round = self.forecast().round(self.pending);
            self.now = self.now.saturating_add(round);
            self.pending = 0.0;
            self.moment = Moment::RoundEnd;
        }
        if self.moment != Moment::RoundStart {
            self.pending += self.dirtied(self.now);
        }
        self.now.saturating_add(self.forecast().downtime(self.pending))
    }

    fn followed(&self) -> Timestamp {
        let forecast = self.forecast();
        self.now.saturating_add(forecast.downtime(0.0)).saturating_add(forecast.round(self.pending))
    }
}
