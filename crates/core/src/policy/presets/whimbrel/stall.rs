//! What to do while the rest does not fit: go on, wait for a good moment, slow the guest, post-copy, give up.
//!
//! Waiting costs little (the faults of tracking), and how long a good moment will take to come nobody knows: the
//! problem of renting or buying skis. Waiting until it has cost what the cheapest way out costs is never worse
//! than twice the best that hindsight could have done (Karlin 1988), so that is how long it pays.

use std::time::Duration;

use super::early::{self, Tried, Way};
use super::memory::Memory;
use super::{FAULT, Intent, whole_downtime};
use crate::forecast::{Forecast, Path};
use crate::policy::{Adjustments, Decision, Quantity, Reason, Relation, Verdict};
use crate::progress::Progress;
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, CpuShare, Pages, Timestamp};

/// How it stands while the rest does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stall {
    share: CpuShare,
    /// The greatest allowed share did not suffice.
    in_vain: bool,
    /// Since when what vCPUs dirty is limited.
    limited: Option<Timestamp>,
    /// The limit did not suffice for as long as it was allowed.
    limited_in_vain: bool,
    /// Since when going on leads nowhere.
    since: Option<Timestamp>,
    /// What that has cost the guest, vCPU-seconds.
    spent: f64,
    seen: Downtimes,
    tried: Tried,
    /// When the last round start was.
    last: Timestamp,
}

/// The downtimes that round starts of a stall would have had.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Downtimes {
    count: u32,
    /// Mean of the logarithms and sum of their squared deviations.
    mean: f64,
    squares: f64,
    least: Duration,
}

impl Downtimes {
    fn add(&mut self, downtime: Duration) {
        let value = downtime.as_secs_f64().max(1e-9).ln();
        self.least = if self.count == 0 { downtime } else { self.least.min(downtime) };
        self.count = self.count.saturating_add(1);
        let off = value - self.mean;
        self.mean += off / f64::from(self.count);
        self.squares += off * (value - self.mean);
    }

    /// By how many standard deviations `limit` is below what was seen.
    fn out_of_reach(&self, limit: Duration) -> f64 {
        let spread = (self.squares / f64::from(self.count.max(1))).sqrt().max(0.05);
        (self.mean - limit.as_secs_f64().max(1e-9).ln()) / spread
    }
}

/// What is asked.
pub(super) struct Asked<'a> {
    pub(super) forecast: Forecast<'a>,
    pub(super) progress: &'a Progress,
    pub(super) memory: &'a Memory,
    /// The downtime allowed.
    pub(super) limit: Duration,
    /// Time left until the deadline.
    pub(super) left: Duration,
}

impl Asked<'_> {
    fn pending(&self) -> f64 {
        self.progress.pending.as_f64()
    }
}

/// What is chosen.
pub(super) struct Choice {
    decision: Decision,
    throttle: Option<Throttle>,
    pub(super) reason: Reason,
    /// How the round that begins is harvested early, if it is to be.
    pub(super) early: Option<Way>,
}

impl Choice {
    fn go_on(reason: Reason) -> Self {
        Self { decision: Decision::Continue, throttle: None, reason, early: None }
    }

    fn abort(reason: Reason) -> Self {
        Self { decision: Decision::Abort, throttle: None, reason, early: None }
    }

    pub(super) fn verdict(&self, going_on: Verdict) -> Verdict {
        let adjust = Adjustments { throttle: self.throttle, ..Adjustments::default() };
        Verdict { decision: self.decision, adjust, ..going_on }
    }
}

/// A way out of a stall.
#[derive(Clone, Copy, Debug)]
struct WayOut {
    means: Means,
    /// What it costs the guest, vCPU-seconds.
    cost: f64,
    time: Duration,
    /// How long the migration must have lasted before it is allowed.
    from: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Means {
    Throttle(CpuShare),
    Limit,
    PostCopy,
}

/// Steps of the throttle: parts of what is allowed.
const STEPS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];
/// The dirty limit: what all vCPUs together may dirty, as a share of what the link carries. A guest that writes
/// faster than the link carries loses the less in all, the stricter the limit is: it is over sooner.
const LIMIT: f64 = 0.15;
/// What is kept in hand of the slowdown, whose end is not known beforehand.
const SPARE: f64 = 0.05;
/// How often a limit is corrected, QEMU's default (a ring that is not full by then makes nobody sleep); it
/// takes a few corrections to hold.
const PERIOD: Duration = Duration::from_secs(1);
const SETTLES: Duration = Duration::from_secs(2);
/// A resumed guest touches pages scattered over so much memory before anything is seen of it (measured: the
/// simulator's `guest.resume-span`).
const RESUME_SPAN: f64 = 64.0 * 1024.0 * 1024.0;
/// In post-copy, the share of the time for which a vCPU waits for pages (ours).
const WAITS: f64 = 0.5;
/// After a stall of so long, in so many rounds, what it showed counts as the guest's nature.
const PATIENCE: (Duration, u32) = (Duration::from_mins(1), 12);
/// So many standard deviations below what was seen no good moment is waited for.
const OUT_OF_REACH: f64 = 4.0;

impl Stall {
    /// The share of CPU that is taken from the guest.
    pub(super) fn share(&self) -> CpuShare {
        self.share
    }

    /// The share of all vCPUs' time that slowing costs, at most.
    pub(super) fn taken(&self) -> f64 {
        if self.limited.is_some() { 1.0 } else { self.share.as_f64() }
    }

    /// The rest fits.
    pub(super) fn ends(&mut self) {
        self.since = None;
        self.tried.fits();
    }

    pub(super) fn choose(&mut self, asked: &Asked<'_>, intent: &Intent) -> Choice {
        let Asked { forecast, progress, limit, left, .. } = asked;
        let downtime = forecast.downtime(asked.pending());
        let reason = whole_downtime(forecast, progress, (downtime, Relation::Above), *limit);
        // What is in flight is none of a round's that is waited for.
        let settled = Forecast { behind: Duration::ZERO, ..*forecast };
        let budget = settled.budget(*limit);
        if budget < 0.0 {
            let least = ("downtime with nothing pending", Quantity::Duration(settled.downtime(0.0)));
            let allowed = ("downtime allowed", Quantity::Duration(*limit));
            return Choice::abort(
                Reason::new(least, Relation::Above, allowed)
                    .with("harvest", Quantity::Duration(forecast.harvest))
                    .with("fixed", Quantity::Duration(forecast.host.fixed)),
            );
        }
        self.account(asked, downtime);
        self.tried.came_to(downtime, progress.left_over > Pages(0));
        if self.limited.is_some_and(|since| !limit_lasts(asked, intent, since)) {
            self.limited = None;
            self.limited_in_vain = true;
            return Choice { throttle: Some(Throttle::Off), ..Choice::go_on(reason) };
        }
        let path = settled.path_on(asked.pending(), budget);
        let in_time = |path: &Path| path.rounds.is_some() && path.time.saturating_add(*limit) < *left;
        if in_time(&path) {
            return Choice::go_on(reason);
        }
        let part = self.tried.asks_for();
        let early = if self.limited.is_none() { early::towards(asked, part) } else { None };
        let leads = early.and_then(|way| way.path.rounds.filter(|_| in_time(&way.path)));
        if leads.is_some_and(|rounds| self.tried.believes(rounds)) {
            return Choice { early, ..Choice::go_on(reason) };
        }
        self.since.get_or_insert(progress.now);
        if self.limited.is_some() {
            return Choice::go_on(reason);
        }
        let early = early.filter(|_| self.tried.prefers());
        let choice = self.ways_out(asked, intent, budget, reason);
        // A guest that sleeps long shows little of itself in a short window.
        let early = early.filter(|_| choice.throttle.is_none_or(Throttle::is_off));
        Choice { early, ..choice }
    }

    /// Waits, takes a way out of the stall, or gives up.
    fn ways_out(&mut self, asked: &Asked<'_>, intent: &Intent, budget: f64, reason: Reason) -> Choice {
        let limit = self.limit(asked, intent, budget);
        let throttle = self.throttle(asked, intent, budget);
        if !self.share.as_f64().eq(&0.0) && throttle.is_none() {
            // It costs and does not help.
            self.in_vain = true;
            self.share = CpuShare::NONE;
            return Choice { throttle: Some(Throttle::Off), ..Choice::go_on(reason) };
        }
        let post_copy = if intent.post_copy { post_copy(asked) } else { None };
        let cheapest =
            [limit, throttle, post_copy].into_iter().flatten().min_by(|a, b| a.cost.total_cmp(&b.cost));
        match cheapest {
            Some(way) => self.wait_or_take(asked, way, reason),
            None => self.wait_or_give_up(asked, reason),
        }
    }

    /// What the time since the last round start cost.
    fn account(&mut self, asked: &Asked<'_>, downtime: Duration) {
        let progress = asked.progress;
        let time = progress.now.since(self.last).as_secs_f64();
        if self.since.is_some() {
            let throttled = self.taken() * time * f64::from(progress.vcpus);
            self.spent += progress.dirtied.as_f64() * FAULT + throttled;
            self.seen.add(downtime);
        }
        self.last = progress.now;
    }

    /// The least throttle that is forecast to suffice, if one does: that in force, or more.
    fn throttle(&self, asked: &Asked<'_>, intent: &Intent, budget: f64) -> Option<WayOut> {
        let most = intent.slowdown.as_f64();
        if self.in_vain || most <= 0.0 {
            return None;
        }
        STEPS.iter().map(|step| step * most).filter(|share| *share > self.share.as_f64()).find_map(|share| {
            let forecast = Forecast { speed: asked.memory.speed(share), ..asked.forecast };
            let path = forecast.path_on(asked.pending(), budget);
            // A round at least, of which the forecast knows little, and the one under way.
            let time = path.time.saturating_add(forecast.round(path.pages)).saturating_add(asked.limit);
            let share = CpuShare::clamped(share);
            (path.rounds.is_some() && time < asked.left).then(|| WayOut {
                means: Means::Throttle(share),
                cost: share.as_f64() * time.as_secs_f64() * f64::from(asked.progress.vcpus),
                time,
                from: Duration::ZERO,
            })
        })
    }

    /// The dirty limit, if it is forecast to suffice before it has taken more CPU than allowed on the average of
    /// the migration, were it to take all there is: nobody tells which vCPUs write.
    fn limit(&self, asked: &Asked<'_>, intent: &Intent, budget: f64) -> Option<WayOut> {
        let Asked { forecast, progress, .. } = asked;
        let most = intent.slowdown.as_f64() * (1.0 - SPARE);
        let possible = progress.capabilities.dirty_limit && most > 0.0 && budget > 0.0;
        if self.limited_in_vain || self.share != CpuShare::NONE || !possible {
            return None;
        }
        // How fast it writes shows best in a short window, where little is written twice; far from those seen
        // nothing shows.
        let window = forecast.round(asked.pending()) / 4;
        let free =
            forecast.curve.expect(window)?.pages * forecast.page_bytes / window.as_secs_f64().max(1e-6);
        let share = (1.0 - LIMIT * forecast.bandwidth.as_f64() / free).max(0.0);
        // Each round leaves so much of it, once the limit holds.
        let fits = (budget / asked.pending()).min(1.0).ln() / LIMIT.ln();
        let rounds = forecast.round(asked.pending()).mul_f64(1.0 / (1.0 - LIMIT));
        let settle = forecast.harvest.mul_f64(fits.clamp(0.0, 1e3)).saturating_add(SETTLES);
        let time = rounds.saturating_add(settle).saturating_add(asked.limit);
        // Before the first correction it takes nothing, and a paused guest has nothing to lose.
        let taken = time.saturating_sub(PERIOD).saturating_sub(asked.limit);
        let whole = Duration::try_from_secs_f64(taken.as_secs_f64() / most).ok()?;
        let from = whole.saturating_sub(time);
        let wait = from.saturating_sub(progress.elapsed());
        let cost = share * time.as_secs_f64() * f64::from(progress.vcpus);
        (time.saturating_add(wait) < asked.left).then_some(WayOut { means: Means::Limit, cost, time, from })
    }

    fn wait_or_take(&mut self, asked: &Asked<'_>, way: WayOut, reason: Reason) -> Choice {
        let round = asked.forecast.round(asked.pending());
        if asked.progress.elapsed() < way.from {
            return Choice::go_on(reason);
        }
        // After one window the forecast rests on an assumed slope; another will tell.
        let doubt = if asked.forecast.curve.seen().len() > 1 { way.time / 2 } else { Duration::ZERO };
        let latest = way.time.saturating_add(doubt).saturating_add(round) >= asked.left;
        if self.spent < way.cost && !latest {
            return Choice::go_on(reason);
        }
        let throttle = match way.means {
            Means::Throttle(share) => {
                self.share = share;
                throttle(share, asked.limit)
            }
            Means::Limit => {
                self.limited = Some(asked.progress.now);
                let vcpus = f64::from(asked.progress.vcpus);
                let quota = Bandwidth::new((LIMIT * asked.forecast.bandwidth.as_f64() / vcpus) as u64);
                Throttle::DirtyLimit { quota: quota.unwrap_or(Bandwidth::SLOWEST), period: PERIOD }
            }
            Means::PostCopy => {
                return Choice { decision: Decision::PostCopy, ..Choice::go_on(reason) };
            }
        };
        Choice { throttle: Some(throttle), ..Choice::go_on(reason) }
    }

    fn wait_or_give_up(&mut self, asked: &Asked<'_>, reason: Reason) -> Choice {
        let next = asked.forecast.round(asked.pending());
        let least = asked.forecast.downtime(0.0);
        if next.saturating_add(least) >= asked.left {
            let left = ("round and downtime", Quantity::Duration(next.saturating_add(least)));
            let reason = Reason::new(left, Relation::AtLeast, ("time left", Quantity::Duration(asked.left)))
                .with("downtime seen", Quantity::Duration(self.seen.least))
                .with("downtime allowed", Quantity::Duration(asked.limit));
            return Choice::abort(reason);
        }
        let waited = self.since.map_or(Duration::ZERO, |since| asked.progress.now.since(since));
        let known = waited >= PATIENCE.0 && self.seen.count >= PATIENCE.1;
        if known && self.seen.out_of_reach(asked.limit) > OUT_OF_REACH {
            let left = ("least downtime seen", Quantity::Duration(self.seen.least));
            let allowed = ("downtime allowed", Quantity::Duration(asked.limit));
            let reason = Reason::new(left, Relation::Above, allowed)
                .with("waited", Quantity::Duration(waited))
                .with("round starts", Quantity::Count(self.seen.count.into()));
            return Choice::abort(reason);
        }
        Choice::go_on(reason)
    }
}

/// Takes `share` in sleeps of half the allowed downtime: long, because programs catch up what short sleeps
/// withheld, and no longer, because the guest is not to be away for longer than allowed.
pub(super) fn throttle(share: CpuShare, limit: Duration) -> Throttle {
    let sleep = (limit / 2).clamp(Duration::from_millis(2), Duration::from_millis(500));
    let run = sleep.mul_f64((1.0 - share.as_f64()).max(1e-3) / share.as_f64().max(1e-3));
    Throttle::DutyCycle { share, run }
}

/// Whether a limit in force since then may stay so for another round.
fn limit_lasts(asked: &Asked<'_>, intent: &Intent, since: Timestamp) -> bool {
    let more = asked.forecast.round(asked.pending());
    let taken = asked.progress.now.since(since).saturating_sub(PERIOD).saturating_add(more);
    let whole = asked.progress.elapsed().saturating_add(more);
    taken <= whole.mul_f64(intent.slowdown.as_f64())
}

/// What post-copy would come to from here; none if its downtime is more than allowed or it ends too late.
fn post_copy(asked: &Asked<'_>) -> Option<WayOut> {
    let Asked { forecast, progress, .. } = asked;
    let rate = forecast.bandwidth;
    let time_of = |bytes: f64| rate.time_to_send(ByteCount(bytes as u64));
    let missing = asked.pending() * forecast.page_bytes;
    let bitmap = progress.memory.as_f64() / 8.0;
    let first_pages = time_of(missing.min(RESUME_SPAN) + bitmap);
    let downtime = forecast.downtime(0.0).saturating_add(first_pages);
    let follow = time_of(missing);
    let time = downtime.saturating_add(follow);
    let cost = downtime.as_secs_f64() * f64::from(progress.vcpus) + WAITS * follow.as_secs_f64();
    (downtime <= asked.limit && time < asked.left).then_some(WayOut {
        means: Means::PostCopy,
        cost,
        time,
        from: Duration::ZERO,
    })
}
