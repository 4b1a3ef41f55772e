//! A migration led to its end in imagination: the same policy, on the guest and link as they have been so far.
//!
//! Rounds are computed, not played: a round of so many pages takes so long, and in a window of that length the
//! guest dirties what its curve says. The policy is asked as in earnest, but for ticks at which its answer holds.

use std::time::Duration;

use super::chance::Chance;
use super::{Controller, Harvested, Transmitted};
use crate::forecast::{Guessed, HostPair, WorkingSet};
use crate::journal::Journal;
use crate::policy::{Decision, Gate, RateLimit, SwitchoverWhen, Verdict};
use crate::progress::Moment;
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, Pages, Timestamp};

/// The guest and the link as they are imagined.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    pub(super) set: &'a WorkingSet,
    pub(super) bandwidth: Bandwidth,
    pub(super) page_bytes: f64,
    /// Bytes that one of the pages becomes that are pending now: zero pages may be left over.
    pub(super) first_page_bytes: f64,
    /// The rate was held down by a limit, so that another limit means another rate.
    pub(super) bound: bool,
    pub(super) harvest: Duration,
    /// The window in which the pending pages were dirtied, and by what factor more of what was left over was
    /// dirtied again than the windows say.
    pub(super) window: Duration,
    pub(super) again: f64,
    pub(super) host: HostPair,
    /// Bytes that the link's buffers take, and that lie in them now.
    pub(super) buffer: f64,
    pub(super) queued: f64,
    pub(super) round_trip: Duration,
    /// What becomes of it by chance.
    pub(super) chance: Chance,
    /// When whoever drives the migration gives it up, if that is known.
    pub(super) limit: Option<Timestamp>,
}

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
pub(super) struct Imagined<'a> {
    controller: Controller,
    world: World<'a>,
    /// Harvests so far.
    harvests: u32,
    limit: Option<Bandwidth>,
    moment: Moment,
    now: Timestamp,
    pending: f64,
    /// Bytes in the link's buffers.
    queued: f64,
    /// How many were pending when the round began, in what window they were dirtied, and what one becomes.
    round: (f64, Duration, f64),
    /// The ground tells what is in flight.
    tells_flight: bool,
}

impl<'a> Imagined<'a> {
    pub(super) fn new(controller: &Controller, world: &World<'a>) -> Self {
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
        let tells_flight = imagined.progress.in_flight.is_some();
        Self {
            controller: imagined,
            world: *world,
            harvests: 0,
            limit: None,
            moment: Moment::RoundStart,
            now,
            pending,
            queued: world.queued * world.chance.queued(),
            round,
            tells_flight,
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

    /// The rate in bytes per second, and how much the buffers take: nothing where a limit binds, and not they.
    fn rate(&self) -> (f64, f64) {
        let World { bandwidth, bound, buffer, .. } = self.world;
        let bandwidth = bandwidth.as_f64() * self.world.chance.link(self.now);
        match self.limit.map(Bandwidth::as_f64) {
            Some(limit) if bound || limit < bandwidth => (limit, 0.0),
            _ => (bandwidth, buffer),
        }
    }

    /// Time passes, in which the buffers run dry.
    fn wait(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
        self.queued = (self.queued - self.rate().0 * time.as_secs_f64()).max(0.0);
    }

    /// Until the last byte has arrived and its answer, too.
    fn drain(&mut self) {
        let way = seconds(self.queued / self.rate().0).saturating_add(self.world.round_trip);
        self.wait(way);
    }

    /// How long it takes to hand over so many bytes.
    fn handing_over(&self, bytes: f64) -> f64 {
        let (rate, buffer) = self.rate();
        let free = (buffer - self.queued).max(0.0);
        ((bytes - free) / rate).max(0.0)
    }

    /// So many bytes are handed over, in so long.
    fn hand_over(&mut self, bytes: f64, time: f64) {
        let (rate, buffer) = self.rate();
        self.now = self.now.saturating_add(seconds(time));
        self.queued = (self.queued + bytes - rate * time).clamp(0.0, buffer);
    }

    /// What the buffers hold, where the ground tells it.
    fn in_flight(&self) -> Option<ByteCount> {
        self.tells_flight.then_some(ByteCount(self.queued as u64))
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
        let Guessed { pages, scatter, doubt } = self.world.set.at(window_at_pace);
        let pages = pages * self.world.chance.guest(now, self.harvests, scatter, doubt);
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
        let pages = |window| self.world.set.at(window).pages;
        let both = pages(before) + pages(window) - pages(before + window);
        let unsent = self.pending / started.max(self.pending);
        let again = self.world.again * self.world.chance.again(self.harvests);
        (both * unsent * again).clamp(0.0, self.pending.min(dirtied))
    }

    fn harvest(&mut self) -> Verdict {
        self.wait(self.world.harvest);
        let now = self.now;
        let dirtied = self.dirtied(now);
        self.harvests += 1;
        let left_over = Pages(self.pending as u64);
        let window = now.since(self.controller.last_harvest);
        let (unsent, becomes) = (self.pending, self.world.page_bytes);
        self.pending += dirtied - self.dirtied_again(window, dirtied);
        self.pending = self.pending.min(self.controller.progress.memory.as_f64()).max(unsent);
        let each = becomes - (becomes - self.round.2) * unsent / self.pending.max(1.0);
        let kept = (unsent / self.pending.max(1.0)).min(1.0);
        self.round = (self.pending, window + self.round.1.mul_f64(kept), each);
        self.moment = Moment::RoundStart;
        let pending = Pages(self.pending as u64);
        let dirtied = Pages(dirtied as u64);
        self.controller.harvested(now, Harvested { dirtied, left_over, pending, in_flight: self.in_flight() })
    }

    /// Sends until the policy has to be asked, or the round is over.
    fn send(&mut self, standing: &Verdict) -> Verdict {
        let page_bytes = self.round.2;
        let (rate, buffer) = self.rate();
        let free = (buffer - self.queued).max(0.0);
        let whole = self.handing_over(self.pending * page_bytes);
        let time = match self.controller.cadence.tick {
            Some(tick) if self.pending >= 1.0 => {
                let tick = tick.as_secs_f64().max(1e-4);
                let until = standing.until;
                let by_time = until.at.since(self.now).as_secs_f64();
                let by_pages = self.handing_over((self.pending - until.pending.as_f64()) * page_bytes);
                let first =
                    if until.reached(&self.controller.progress) { 0.0 } else { by_time.min(by_pages) };
                ((first / tick).ceil().max(1.0) * tick).min(whole)
            }
            _ => whole,
        };
        let sent = if time >= whole { self.pending } else { (free + time * rate) / page_bytes };
        self.pending = if time >= whole { 0.0 } else { self.pending - sent };
        self.hand_over(sent * page_bytes, time);
        let sent = Transmitted {
            pages: Pages(sent as u64),
            zero: Pages(0),
            bytes: ByteCount((sent * page_bytes) as u64),
            pending: Pages(self.pending as u64),
            skipped: Pages(0),
            in_flight: self.in_flight(),
        };
        if let Some(verdict) = self.controller.transmitted(self.now, sent) {
            self.moment = Moment::Tick;
            return verdict;
        }
        self.pending = 0.0;
        self.moment = Moment::RoundEnd;
        if self.controller.cadence.gate == Gate::Wait {
            self.drain();
        }
        self.controller.round_ended(self.now)
    }

    fn handed_over(mut self, when: SwitchoverWhen) -> Timestamp {
        if when == SwitchoverWhen::AfterRound && self.moment != Moment::RoundEnd {
            let bytes = self.pending * self.round.2;
            self.hand_over(bytes, self.handing_over(bytes));
            if self.controller.cadence.gate == Gate::Wait {
                self.drain();
            }
            self.pending = 0.0;
            self.moment = Moment::RoundEnd;
        }
        if self.moment != Moment::RoundStart {
            self.pending += self.dirtied(self.now);
        }
        self.switched_over(self.pending)
    }

    /// When the guest runs there and the source has heard of it, if so many pages have to pass before.
    fn switched_over(&mut self, pages: f64) -> Timestamp {
        let HostPair { fixed, state, .. } = self.world.host;
        // Pausing, a harvest; then the pages pass while the state is saved; restoring, resuming.
        self.wait(self.world.harvest.saturating_add(fixed / 4));
        self.queued += pages * self.round.2;
        self.wait(fixed / 4);
        let bytes = self.queued + state.as_f64();
        // The state is there, and the guest runs: two ways there and back.
        let ways = self.world.round_trip * 2;
        self.now.saturating_add(fixed / 2).saturating_add(ways).saturating_add(seconds(bytes / self.rate().0))
    }

    fn followed(&mut self) -> Timestamp {
        let running = self.switched_over(0.0);
        running.saturating_add(seconds(self.pending * self.round.2 / self.rate().0))
    }
}

fn seconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX)
}
