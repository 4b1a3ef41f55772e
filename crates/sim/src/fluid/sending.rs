//! Sending in the mean: how far a slice, a round or many slices at once come, and when they are over.
//!
//! The exact sender looks at the clock after each batch, and on a link slower than memory its clock jumps
//! from one wake-up to the next. Slices therefore last a whole number of sleeps ([`Sending::tick`]), and
//! at a tick the queue holds what was copied since the sender woke ([`looks::queued`]); at the end of a round it stands anywhere in its sawtooth,
//! halfway on average. Ticks at which the policy's answer can't change are not made; where one falls in
//! relation to the moment at which the answer changes is chance, evenly spread, so the tick that sees it
//! comes half a tick late on average.

use whimbrel_core::controller::Transmitted;
use whimbrel_core::policy::{RateLimit, Until};
use whimbrel_core::units::{ByteCount, Pages};

use super::aim::{Aim, Bound, Crossing, FAR, Ticks};
use super::dice::Dice;
use super::field::{Ahead, Field};
use super::looks::{self, Cycle, Tick};
use super::world::nanos;
use crate::config::HostConfig;
use crate::link::{Link, Nanos};
use crate::sender::Costs;

/// The window over which policies with ticks measure the bandwidth, nanoseconds.
const FIRST_LOOK: Nanos = 1e8;

/// The sending half of the source host.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    costs: Costs,
    /// Nanoseconds in which a page is copied into the socket.
    copying: Nanos,
    batch: f64,
    window: Nanos,
    /// Bytes that may pass in a window.
    quota: f64,
    /// When the window in progress began, and what has passed in it.
    since: Nanos,
    used: f64,
    /// Bytes of syncs that are due.
    sync_due: f64,
    /// The sender slept since the queue was empty or a slice ended.
    slept: bool,
    /// Nothing was sent yet.
    fresh: bool,
    /// The last slice ended because of the time: which of the ticks that was is chance.
    by_time: bool,
    /// Takes the place of the means over what is chance, in an ensemble.
    pub(super) dice: Option<Dice>,
}

/// Where to stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// Nothing is pending.
    Everything,
    /// A slice of sending so long.
    Slice(Nanos),
    /// The first slice of this length at which `until` may hold, or the last before `before`.
    Until { slice: Nanos, until: Until, before: Nanos, ticks: Ticks },
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) at: Nanos,
    pub(super) pages: f64,
    pub(super) zero: f64,
    pub(super) bytes: f64,
    /// Everything.
    pub(super) all: bool,
    /// How many pages more or fewer would have taken another number of the limiter's windows, if it binds.
    pub(super) of_a_window: Option<f64>,
    /// Where that tick falls some runs find other memory, which takes another time to send.
    pub(super) uneven: bool,
    /// It ended with a tick at which the policy's answer may have changed because of what is pending.
    pub(super) crossing: Option<Crossing>,
}

impl Sent {
    /// Tells the machine, with what is pending and in flight now.
    #[inline]
    pub(super) fn tell(&self, (pending, in_flight): (Pages, ByteCount), told: &mut Transmitted) {
        // None is negative, and no guest has 2^53 bytes.
        let whole = |number: f64| (number + 0.5) as i64 as u64;
        told.pages = Pages(whole(self.pages));
        // Mostly none.
        told.zero = if self.zero > 0.0 { Pages(whole(self.zero)) } else { Pages(0) };
        told.bytes = ByteCount(whole(self.bytes));
        told.pending = pending;
        told.skipped = Pages(0);
        told.in_flight = Some(in_flight);
    }
}

impl Sending {
    pub(super) fn new(host: &HostConfig, costs: Costs) -> Self {
        Self {
            costs,
            copying: costs.page / f64::from(host.streams),
            batch: f64::from(host.send_batch),
            window: host.limit_window.as_nanos() as u64 as f64,
            quota: f64::INFINITY,
            since: 0.0,
            used: 0.0,
            sync_due: 0.0,
            slept: false,
            fresh: true,
            by_time: false,
            dice: None,
        }
    }

    pub(super) fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Bytes a nanosecond that may pass.
    pub(super) fn quota_rate(&self) -> f64 {
        self.quota / self.window
    }

    /// Bytes a nanosecond that it copies into the queue.
    pub(super) fn copying_rate(&self) -> f64 {
        self.costs.page_bytes / self.copying
    }

    /// Pages after which it looks at its clock.
    pub(super) fn batch(&self) -> f64 {
        self.batch
    }

    pub(super) fn limit(&mut self, limit: RateLimit) {
        self.quota = match limit {
            RateLimit::Unlimited => f64::INFINITY,
            RateLimit::AtMost(rate) => rate.as_f64() * self.window / 1e9,
        };
    }

    /// Whether the link carries more in a window than may pass.
    #[inline]
    pub(super) fn is_limited(&self, link: &Link) -> bool {
        self.quota <= link.rate() * self.window * (1.0 + 1e-9)
    }

    /// Starts the limiter's first window.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.since = now;
    }

    pub(super) fn begin_round(&mut self) {
        self.by_time = false;
        self.sync_due += self.costs.sync;
    }

    /// How long a slice lasts that was asked to last `slice`, in this memory, on average until `enough` pages have left;
    /// the first begins now.
    fn tick(&self, slice: Nanos, ahead: &Ahead, enough: f64, (now, link): (Nanos, &Link)) -> Tick {
        if self.is_limited(link) {
            return Tick::even(self.window);
        }
        let Some((rest, copying)) = link.rest() else { return Tick::even(slice) };
        let cycle = Cycle { rest, copying };
        let [wake, full] = link.levels();
        if 2.0 * self.batch * self.costs.page_bytes > full - wake {
            let page = self.of_a_page(ahead).0 / link.rate();
            let look = looks::pages_between(ahead.density, self.batch) * page;
            if ahead.density >= looks::ALIKE && ahead.zero == 0.0 {
                if self.dice.is_none() {
                    return Tick::of_looks_alike(slice, cycle, look);
                }
                let level = (link.queued(now) - wake) / (full - wake);
                return Tick::of_next_looks(slice, cycle, look, level, enough * page);
            }
            if look > cycle.length() {
                return Tick::of_looks(slice, cycle, look);
            }
        }
        // Asleep most of the time: it looks when it wakes next, unless it is copying then.
        let cycle = cycle.length();
        let whole = (slice / cycle).floor();
        Tick::even(if slice - whole * cycle <= copying { slice } else { (whole + 1.0) * cycle })
    }

    /// Sends from `now` on until `goal` is reached; `pending` pages are pending.
    pub(super) fn send(
        &mut self,
        now: Nanos,
        pending: f64,
        goal: Goal,
        field: &mut Field,
        link: &mut Link,
    ) -> Sent {
        let mut sent = Sent { at: now, ..Sent::default() };
        let bound = match goal {
            Goal::Everything => Bound::NONE,
            Goal::Slice(slice) => {
                let tick = self.next_tick(slice, 0.0, field, (now, link));
                let part = self.part(slice, tick, field, (now, link));
                let late = self.dice.as_mut().map_or(0.0, |dice| (dice.part() - 0.5) * tick.spread);
                Bound { at: now + part * tick.time + late, aim: None, level: tick.level }
            }
            Goal::Until { .. } => self.bound(pending, goal, &mut sent, field, link),
        };
        self.send_syncs(&mut sent, link);
        if self.is_limited(link) {
            self.send_limited(bound, &mut sent, field, link);
        } else {
            self.scan(bound, &mut sent, field, link);
        }
        sent
    }

    /// Where a scan stops that begins now and goes on until the policy's answer may change.
    fn bound(&mut self, pending: f64, goal: Goal, sent: &mut Sent, field: &Field, link: &mut Link) -> Bound {
        let now = sent.at;
        let Goal::Until { slice, until, before, ticks } = goal else { return Bound::NONE };
        let threshold = until.pending.0 as f64;
        let tick = self.next_tick(slice, pending - threshold, field, (now, link));
        let part = self.part(slice, tick, field, (now, link));
        let ticks = self.throw(part, tick).unwrap_or(ticks);
        let (tick, level) = (tick.time, tick.level);
        let next = now + part * tick;
        let whole = ((before - now) / tick).ceil() - 1.0;
        let last = if whole >= 1.0 { now + whole * tick } else { next };
        let due = nanos(until.at);
        let at = if due > now { self.seen(due, next, tick, ticks).max(next).min(last) } else { next };
        let by_time = std::mem::replace(&mut self.by_time, due > now);
        if pending <= threshold {
            return Bound { at, aim: None, level };
        }
        let per_tick = field.ahead().map_or(1.0, |ahead| self.pages_in(tick, &ahead, link));
        let crossing = (pending - threshold) / per_tick;
        // Whether the time comes before few enough pages are pending is chance where both come in the same tick.
        let together = due > now && ((due - now) / tick - crossing).abs() < 1.0;
        sent.uneven |= together || by_time && crossing < 2.0;
        Bound { at, aim: Some(Aim { threshold, pending, tick, part, ticks }), level }
    }

    /// Sends everything that is pending from `now` on, where no limit binds: the usual case.
    #[inline(always)]
    pub(super) fn send_all(&mut self, now: Nanos, field: &mut Field, link: &mut Link) -> Sent {
        let mut sent = Sent { at: now, all: true, ..Sent::default() };
        self.send_syncs(&mut sent, link);
        for ahead in field.all_ahead() {
            self.meet(ahead, link);
            let levels = [self.most(sent.at, link), self.level(link)];
            self.pass(ahead.pages(), ahead, levels, &mut sent, link);
        }
        field.pass_all();
        sent.uneven = self.is_short(&sent, link);
        sent
    }

    /// The part of a slice that is left when the sender begins. In the first it is chance; as the first
    /// look at the bandwidth comes at any time from its window's end to a tick later, it is chosen so that
    /// this look comes half a tick late.
    fn part(&mut self, slice: Nanos, tick: Tick, field: &Field, (now, link): (Nanos, &Link)) -> f64 {
        if !std::mem::take(&mut self.fresh) {
            return 1.0;
        }
        if let Some(dice) = &mut self.dice {
            let part = dice.draw_phase();
            return field
                .ahead()
                .map_or(part, |ahead| self.tick(part * slice, &ahead, 0.0, (now, link)).time / tick.time);
        }
        let part = (FIRST_LOOK / tick.time + 0.5).fract();
        if part > 0.0 { part } else { 1.0 }
    }

    /// When a tick sees that the time is `due`, if the next one is at `next`: half a tick late.
    fn seen(&mut self, due: Nanos, next: Nanos, tick: Nanos, ticks: Ticks) -> Nanos {
        let late = match &mut self.dice {
            None => 0.5,
            Some(_) if due - next < FAR * tick => {
                let count = ((due - next) / tick).max(0.0);
                let late = if let Ticks::Counted { late, .. } = ticks { late * count.sqrt() } else { 0.0 };
                return next + (late + (count - late).ceil().max(0.0)) * tick;
            }
            Some(dice) => dice.part(),
        };
        due + late * tick
    }

    /// In an ensemble, how ticks lie to what is pending.
    fn throw(&mut self, part: f64, tick: Tick) -> Option<Ticks> {
        let dice = self.dice.as_mut()?;
        let (luck, spread) = (dice.part(), tick.spread / tick.time / 12.0_f64.sqrt());
        Some(Ticks::Counted {
            first: part,
            luck,
            late: if spread > 0.0 { dice.normal() * spread } else { 0.0 },
        })
    }

    fn next_tick(&self, slice: Nanos, enough: f64, field: &Field, (now, link): (Nanos, &mut Link)) -> Tick {
        let Some(ahead) = field.ahead() else { return Tick::even(slice) };
        self.meet(&ahead, link);
        self.tick(slice, &ahead, enough, (now, link))
    }

    /// The destination takes what comes at the speed of this memory.
    #[inline]
    fn meet(&self, ahead: &Ahead, link: &mut Link) {
        if ahead.zero < 1.0 {
            link.receive_at(self.costs.receive[usize::from(ahead.first)]);
        }
    }

    /// Pages of this memory that leave in a tick.
    fn pages_in(&self, tick: Nanos, ahead: &Ahead, link: &Link) -> f64 {
        let (bytes, busy) = self.of_a_page(ahead);
        let bytes_in = if self.is_limited(link) { self.quota } else { link.rate() * tick };
        (bytes_in / bytes).min(tick / busy)
    }

    /// How many pages are sent in all up to the tick that `bound` aims at, if it falls into this memory.
    fn aimed(&self, bound: &Bound, ahead: &Ahead, link: &Link) -> (f64, Option<Crossing>) {
        let Some(aim) = bound.aim else { return (f64::INFINITY, None) };
        let per_tick = self.pages_in(aim.tick, ahead, link);
        let pending = aim.finds(per_tick);
        let pages = aim.pending - f64::midpoint(pending[0], pending[1]);
        let crossing = Crossing { threshold: aim.threshold, pending, per_tick, tick: aim.tick };
        (pages, Some(crossing))
    }

    /// Bytes and time of the sender of an average page of this memory.
    #[inline]
    fn of_a_page(&self, ahead: &Ahead) -> (f64, Nanos) {
        let (costs, zero) = (&self.costs, ahead.zero);
        if zero == 0.0 {
            return (costs.page_bytes, self.copying);
        }
        let bytes = costs.page_bytes + zero * (costs.zero_bytes - costs.page_bytes);
        // Copying goes with the bytes, whatever they are.
        (bytes, bytes / costs.page_bytes * self.copying + zero * costs.zero)
    }

    #[inline]
    fn send_syncs(&mut self, sent: &mut Sent, link: &mut Link) {
        let sync = std::mem::take(&mut self.sync_due);
        if sync > 0.0 {
            sent.at = self.message(sent.at, sync, link);
            sent.bytes += sync;
        }
    }

    /// Sends so many pages of this memory.
    #[inline(always)]
    fn pass(&mut self, pages: f64, ahead: &Ahead, levels: [f64; 2], sent: &mut Sent, link: &mut Link) {
        let (bytes, busy) = self.of_a_page(ahead);
        let made = sent.at + pages * busy;
        sent.at = link.flow(sent.at, pages * busy, pages * bytes, levels);
        self.slept |= sent.at > made;
        sent.pages += pages;
        sent.zero += pages * ahead.zero;
        sent.bytes += pages * bytes;
    }

    fn scan(&mut self, mut bound: Bound, sent: &mut Sent, field: &mut Field, link: &mut Link) {
        let [wake, full] = link.levels();
        while let Some(ahead) = field.ahead() {
            self.meet(&ahead, link);
            let at_tick = match bound.level {
                Some(part) => wake + part * (full - wake),
                None => looks::queued(looks::pages_between(ahead.density, self.batch) * self.copying, link),
            };
            let here = ahead.pages();
            let (bytes, busy) = self.of_a_page(&ahead);
            let (most, crossing) = self.aimed(&bound, &ahead, link);
            let mut pages = here.min(most - sent.pages);
            if bound.at < f64::INFINITY {
                let room = link.room(sent.at, bound.at, at_tick) / bytes;
                let time = (bound.at - sent.at) / busy;
                pages = pages.min(room).min(time);
            }
            let pages = pages.max(0.0);
            let stops = pages < here - 1e-9;
            let levels = if stops { [at_tick; 2] } else { [self.most(sent.at, link), self.level(link)] };
            self.pass(pages, &ahead, levels, sent, link);
            if stops {
                // A tick finds the queue where writers wake, whatever it was before.
                self.slept = false;
                if sent.pages >= most - 1e-9 {
                    // The next tick may fall into memory without zero pages.
                    sent.uneven |= ahead.zero > 0.05;
                    sent.uneven |= self.is_uneven(&bound, crossing, here - pages, field);
                    sent.crossing = crossing;
                } else if bound.at < f64::INFINITY {
                    sent.at = sent.at.max(bound.at);
                }
                field.pass(ahead.from + pages / ahead.density);
                return;
            }
            self.cross_late(&mut bound, sent, &ahead, field, link);
            field.pass(ahead.to);
        }
        sent.all = true;
        sent.uneven |= self.is_short(sent, link);
    }

    /// Whether so little time has passed that a sleep more or less is more than a hundredth of it: where in
    /// its sawtooth the queue was is chance.
    fn is_short(&self, sent: &Sent, link: &Link) -> bool {
        self.slept && link.sleep() > 0.01 * sent.at
    }

    /// Where the threshold was passed in memory that is over before its tick, and what follows takes another
    /// time to send, that tick comes half a tick after the passing all the same, and finds what it finds.
    fn cross_late(&mut self, bound: &mut Bound, sent: &mut Sent, ahead: &Ahead, field: &Field, link: &Link) {
        let Some(aim) = bound.aim else { return };
        let below = aim.threshold - (aim.pending - sent.pages);
        let alike = field.behind_ahead().is_some_and(|next| self.are_alike(ahead, &next));
        if below <= 0.0 || alike {
            return;
        }
        let (bytes, busy) = self.of_a_page(ahead);
        let since = below.min(ahead.pages()) * busy.max(bytes / link.rate());
        let late = self.dice.as_mut().map_or(0.5, Dice::part) * aim.tick;
        *bound = Bound { at: bound.at.min(sent.at - since + late).max(sent.at), aim: None, ..*bound };
        sent.uneven = true;
    }

    /// Whether pages of two kinds of memory take about as long.
    fn are_alike(&self, one: &Ahead, other: &Ahead) -> bool {
        (self.of_a_page(one).0 / self.of_a_page(other).0 - 1.0).abs() < 0.1
    }

    /// Whether the tick at `crossing`, with so many pages still to come of the memory in which it falls, may
    /// as well fall behind that memory, and finds something else there.
    fn is_uneven(&self, bound: &Bound, crossing: Option<Crossing>, left_here: f64, field: &Field) -> bool {
        let (Some(aim), Some(Crossing { pending: [low, high], .. })) = (bound.aim, crossing) else {
            return false;
        };
        let behind = f64::midpoint(low, high) - left_here;
        let same = match (field.ahead(), field.behind_ahead()) {
            (Some(here), Some(next)) => self.are_alike(&here, &next),
            _ => false,
        };
        low < behind && aim.threshold > behind && !same
    }

    /// How much the queue holds, at most, when the sender goes on at `now`. Full is full; but where it stands
    /// in its sawtooth is chance after the sender slept, and then it holds half a quantum less on average,
    /// before as behind.
    #[inline]
    fn most(&mut self, now: Nanos, link: &Link) -> f64 {
        self.slept &= link.drained(now) > now;
        if self.slept && self.dice.is_none() { link.middle() } else { link.levels()[1] }
    }

    /// Where in its sawtooth the queue stands.
    #[inline]
    fn level(&mut self, link: &Link) -> f64 {
        if self.dice.is_none() { link.middle() } else { self.lucky_level(link) }
    }

    #[inline(never)]
    fn lucky_level(&mut self, link: &Link) -> f64 {
        let [wake, full] = link.levels();
        wake + self.dice.as_mut().map_or(0.5, Dice::part) * (full - wake)
    }

    /// Hands a message over.
    #[inline(always)]
    pub(super) fn message(&mut self, now: Nanos, bytes: f64, link: &mut Link) -> Nanos {
        let levels = [self.most(now, link), self.level(link)];
        link.flow(now, 0.0, bytes, levels)
    }

    /// The same where a window's quota binds: it goes out at the beginning of each window.
    fn send_limited(&mut self, bound: Bound, sent: &mut Sent, field: &mut Field, link: &mut Link) {
        let windows = ((bound.at - self.since) / self.window + 1e-9).floor();
        let most = windows * self.quota - self.used;
        let mut put = Put::default();
        while let Some(ahead) = field.ahead() {
            self.meet(&ahead, link);
            let (bytes, busy) = self.of_a_page(&ahead);
            let here = ahead.pages();
            let (aimed, crossing) = self.aimed(&bound, &ahead, link);
            let pages = here.min(aimed - sent.pages).min((most - sent.bytes) / bytes).max(0.0);
            sent.pages += pages;
            sent.zero += pages * ahead.zero;
            sent.bytes += pages * bytes;
            self.put(Put { bytes: pages * bytes, busy: pages * busy }, &mut put, sent, link);
            if pages < here - 1e-9 {
                field.pass(ahead.from + pages / ahead.density);
                // A stop is the end of a window; on average, where it falls is chance.
                let part = self.used / self.quota;
                self.since += if self.dice.is_some() { part.round() } else { part } * self.window;
                self.used = 0.0;
                sent.at = sent.at.max(self.since);
                sent.crossing = crossing.filter(|_| sent.pages >= aimed - 1e-9);
                return;
            }
            field.pass(ahead.to);
        }
        sent.all = true;
        sent.of_a_window = Some(self.used.min(self.quota - self.used) / self.costs.page_bytes);
        sent.at = self.hand_over(put, sent.at, link);
        if sent.at >= self.since + self.window {
            (self.since, self.used) = (sent.at, 0.0);
        }
    }

    /// Puts pages into the windows: `last` is what then goes out in the one in progress.
    fn put(&mut self, pages: Put, last: &mut Put, sent: &mut Sent, link: &mut Link) {
        let room = (self.quota - self.used).max(0.0);
        if pages.bytes <= room + 1e-6 {
            self.used += pages.bytes;
            last.bytes += pages.bytes;
            last.busy += pages.busy;
            return;
        }
        let part = room / pages.bytes;
        let first = Put { bytes: last.bytes + room, busy: last.busy + part * pages.busy };
        let full = self.hand_over(first, sent.at, link);
        let left = pages.bytes - room;
        let whole = ((left - 1e-6) / self.quota).floor().max(0.0);
        // Looking at zero pages may take longer than a window.
        let busy = self.quota / pages.bytes * pages.busy;
        self.since = full.max(self.since + self.window) + whole * self.window.max(busy);
        self.used = left - whole * self.quota;
        sent.at = self.since;
        *last = Put { bytes: self.used, busy: self.used / pages.bytes * pages.busy };
    }

    /// Hands over what goes out in a window, from `now` on; gives when that is done. Windows find the queue as
    /// empty as the one before did, so nothing is chance: the queue is the exact one.
    fn hand_over(&mut self, put: Put, now: Nanos, link: &mut Link) -> Nanos {
        let scanning = (put.busy - put.bytes / self.costs.page_bytes * self.copying).max(0.0);
        self.slept = false;
        scanning + if put.bytes > 0.0 { link.copy(now, put.bytes) } else { now }
    }
}

/// What goes out in a window: bytes, and the time of the sender for it.
#[derive(Clone, Copy, Debug, Default)]
struct Put {
    bytes: f64,
    busy: Nanos,
}
