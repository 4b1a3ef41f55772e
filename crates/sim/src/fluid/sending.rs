//! Sending in the mean: how far a slice, a round or many slices at once come, and when they are over.
//!
//! The exact sender looks at the clock after each batch, and on a link slower than memory its clock jumps
//! from one wake-up to the next. Slices therefore last a whole number of sleeps ([`Sending::tick`]), and
//! at a tick the queue stands where writers wake; at the end of a round it stands anywhere in its sawtooth,
//! halfway on average. Ticks at which the policy's answer can't change are not made; where one falls in
//! relation to the moment at which the answer changes is chance, evenly spread, so the tick that sees it
//! comes half a tick late on average.

use whimbrel_core::controller::Transmitted;
use whimbrel_core::policy::{RateLimit, Until};
use whimbrel_core::units::{ByteCount, Pages};

use super::field::{Ahead, Field};
use crate::config::HostConfig;
use crate::link::{Link, Nanos};
use crate::sender::Costs;

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
    /// Bytes of syncs that are due.
    sync_due: f64,
}

/// Where to stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// Nothing is pending.
    Everything,
    /// A slice of sending so long.
    Slice(Nanos),
    /// The first slice of this length at which `until` may hold, or the last before `before`.
    Until { slice: Nanos, until: Until, before: Nanos },
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
}

impl Sent {
    /// For the machine, with what is pending now.
    pub(super) fn told(&self, pending: Pages) -> Transmitted {
        let whole = |number: f64| (number + 0.5) as u64;
        Transmitted {
            pages: Pages(whole(self.pages)),
            zero: Pages(whole(self.zero)),
            bytes: ByteCount(whole(self.bytes)),
            pending,
            skipped: Pages(0),
        }
    }
}

/// A bound on a scan.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Not beyond this time.
    at: Nanos,
    /// Not more pages than this.
    pages: f64,
}

impl Sending {
    pub(super) fn new(host: &HostConfig, costs: Costs) -> Self {
        Self {
            costs,
            copying: costs.page / f64::from(host.streams),
            batch: f64::from(host.send_batch),
            window: host.limit_window.as_nanos() as f64,
            quota: f64::INFINITY,
            sync_due: 0.0,
        }
    }

    pub(super) fn costs(&self) -> &Costs {
        &self.costs
    }

    pub(super) fn limit(&mut self, limit: RateLimit) {
        self.quota = match limit {
            RateLimit::Unlimited => f64::INFINITY,
            RateLimit::AtMost(rate) => rate.as_f64() * self.window / 1e9,
        };
    }

    pub(super) fn begin_round(&mut self) {
        self.sync_due += self.costs.sync;
    }

    /// How long a slice lasts that was asked to last `slice`.
    pub(super) fn tick(&self, slice: Nanos, link: &Link) -> Nanos {
        if self.quota < f64::INFINITY {
            return self.window.max(slice);
        }
        match link.rest() {
            // Asleep most of the time: it wakes after a whole number of rests.
            Some(rest) => (slice / rest - 1e-6).ceil().max(1.0) * rest,
            None => slice,
        }
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
            Goal::Everything => Bound { at: f64::INFINITY, pages: f64::INFINITY },
            Goal::Slice(slice) => {
                let tick = self.next_tick(slice, field, link);
                Bound { at: now + tick, pages: f64::INFINITY }
            }
            Goal::Until { slice, until, before } => {
                let tick = self.next_tick(slice, field, link);
                self.bound(now, pending, tick, (until, before), field, link)
            }
        };
        let sync = std::mem::take(&mut self.sync_due);
        if sync > 0.0 {
            sent.at = link.flow(sent.at, 0.0, sync, link.levels()[1]);
            sent.bytes += sync;
        }
        self.scan(bound, &mut sent, field, link);
        sent
    }

    fn next_tick(&self, slice: Nanos, field: &Field, link: &mut Link) -> Nanos {
        if let Some(ahead) = field.ahead() {
            self.meet(&ahead, link);
        }
        self.tick(slice, link)
    }

    /// The destination takes what comes at the speed of this memory.
    fn meet(&self, ahead: &Ahead, link: &mut Link) {
        if ahead.zero < 1.0 {
            link.receive_at(self.costs.receive[usize::from(ahead.first)]);
        }
    }

    /// Where the first tick falls at which `until` may hold, on average.
    fn bound(
        &self,
        now: Nanos,
        pending: f64,
        tick: Nanos,
        (until, before): (Until, Nanos),
        field: &Field,
        link: &Link,
    ) -> Bound {
        let next = now + tick;
        let whole = ((before - now) / tick).floor();
        let last = if whole >= 1.0 { now + whole * tick } else { next };
        let timely = (until.at.as_nanos() as f64 + tick / 2.0).max(next).min(last);
        let per_tick = self.pages_in(tick, field, link);
        let left = until.pending.0 as f64 - per_tick / 2.0;
        // At least one tick, and what is left of the last one is not worth another.
        let pages = (pending - left).max(per_tick);
        Bound { at: timely, pages }
    }

    /// Pages that leave in a tick, of those that come next.
    fn pages_in(&self, tick: Nanos, field: &Field, link: &Link) -> f64 {
        let Some(ahead) = field.ahead() else { return 0.0 };
        let (bytes, busy) = self.of_a_page(&ahead);
        let bytes_in = if self.quota < f64::INFINITY { self.quota } else { link.rate() * tick };
        (bytes_in / bytes).min(tick / busy)
    }

    /// Bytes and time of the sender of an average page of this memory.
    #[inline]
    fn of_a_page(&self, ahead: &Ahead) -> (f64, Nanos) {
        let (costs, zero) = (&self.costs, ahead.zero);
        let bytes = costs.page_bytes + zero * (costs.zero_bytes - costs.page_bytes);
        // Copying goes with the bytes, whatever they are.
        (bytes, bytes / costs.page_bytes * self.copying + zero * costs.zero)
    }

    fn scan(&self, bound: Bound, sent: &mut Sent, field: &mut Field, link: &mut Link) {
        let [wake, full] = link.levels();
        // A batch was copied when the sender looks at the clock.
        let at_tick = (wake + self.batch * self.costs.page_bytes).min(full);
        let halfway = f64::midpoint(wake, full);
        while let Some(ahead) = field.ahead() {
            self.meet(&ahead, link);
            let here = ahead.pages();
            let (bytes, busy) = self.of_a_page(&ahead);
            let mut pages = here.min(bound.pages - sent.pages);
            if bound.at < f64::INFINITY {
                let room = link.room(sent.at, bound.at, at_tick) / bytes;
                let time = (bound.at - sent.at) / busy;
                pages = pages.min(room).min(time);
            }
            let pages = pages.max(0.0);
            let stops = pages < here - 1e-9;
            let level = if stops { at_tick } else { halfway };
            sent.at = link.flow(sent.at, pages * busy, pages * bytes, level);
            sent.pages += pages;
            sent.zero += pages * ahead.zero;
            sent.bytes += pages * bytes;
            if stops {
                if bound.at < f64::INFINITY && sent.pages < bound.pages - 1e-9 {
                    sent.at = sent.at.max(bound.at);
                }
                field.pass(ahead.from + pages / ahead.density);
                return;
            }
            field.pass(ahead.to);
        }
        sent.all = true;
    }
}
