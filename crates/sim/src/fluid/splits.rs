//! Where the outcome hangs on where a tick falls, which is chance: the run is continued both ways.

use whimbrel_core::machine::Transmit;
use whimbrel_core::policy::Until;

use super::aim::{Crossing, Ticks};
use super::field::Scan;
use super::sending::Sending;
use super::world::{World, nanos};
use crate::link::{Nanos, Position};

/// The longest slice that splits are looked for with, nanoseconds: QEMU's.
pub(super) const SLICE: Nanos = 51e6;
/// A way that fewer than this share of the phases take is none.
pub(super) const LEAST: f64 = 0.02;
/// A run is split no more often than this on the way to any end.
const MOST_SPLITS: u32 = 4;

/// Where what follows hangs on where a tick falls, which is chance.
#[derive(Debug)]
pub(super) struct Split {
    /// The world before that tick.
    from: Box<World>,
    /// How many of the cases go which way.
    ways: [(f64, Ticks); 2],
}

impl Split {
    /// The worlds that follow, with their shares of a case that has the share `share`.
    pub(super) fn ways(self, share: f64) -> [(f64, Box<World>); 2] {
        let [(one, this), (other, that)] = self.ways;
        let (mut first, mut second) = (self.from.clone(), self.from);
        first.take_way(this);
        second.take_way(that);
        [(share * one, first), (share * other, second)]
    }
}

impl World {
    fn pages_in_a_slice(&self) -> f64 {
        SLICE * self.link.rate() / self.sending.costs().page_bytes
    }

    /// Keeps the world as it was before the sending that has just been made, if the decision may hang on where its tick
    /// fell. (Few sendings end with such a tick, and to copy a world takes longer than to send.)
    pub(super) fn keep_checkpoint(
        &mut self,
        (sending, position, scan): (Sending, Position, Scan),
        now: Nanos,
        transmit: Transmit,
    ) {
        if self.sending.dice.is_some() {
            return;
        }
        let Some(Until { pending: threshold, .. }) = self.source.controller().holds_until() else { return };
        let sending = std::mem::replace(&mut self.sending, sending);
        let after = self.link.position();
        self.link.go_to(position);
        let scan = self.field.go_to(scan);
        let pending = self.source.backlog().expected().pages();
        if self.may_split(now, pending, threshold.as_f64()) {
            self.checkpoint = Some(self.before(transmit));
        }
        self.sending = sending;
        self.link.go_to(after);
        self.field.go_to(scan);
    }

    /// This world with the action still to be carried out.
    fn before(&self, transmit: Transmit) -> Box<Self> {
        let mut before = Box::new(self.clone());
        before.again = Some(transmit);
        before
    }

    /// Whether what a harvest finds after the next tick that matters may be enough and may not, by where
    /// that tick falls: only if few pages are dirtied until then.
    fn may_split(&mut self, now: Nanos, pending: f64, threshold: f64) -> bool {
        if pending <= threshold || self.splits >= MOST_SPLITS {
            return false;
        }
        let page = self.sending.costs().page_bytes;
        let left = (pending - threshold) * page / self.link.rate();
        let since = now - nanos(self.harvested_at) + left + 2.0 * SLICE;
        let length = self.harvested_before.map(|before| nanos(self.harvested_at) - nanos(before));
        let dirty = self.field.would_be_dirty(since, length, &self.guest);
        // Many of those may be among what is left.
        dirty < 4.0 * self.pages_in_a_slice()
    }

    /// Whether the harvest that was just made finds enough sent or not by where the last tick fell.
    #[inline]
    pub(super) fn split(&mut self, dirty: f64, length: f64) -> Option<Box<Split>> {
        let crossing = self.crossing.take()?;
        let checkpoint = self.checkpoint.take()?;
        self.split_at(crossing, checkpoint, dirty, length)
    }

    #[inline(never)]
    fn split_at(
        &mut self,
        Crossing { threshold, pending: [low, high], per_tick, tick }: Crossing,
        checkpoint: Box<Self>,
        dirty: f64,
        length: f64,
    ) -> Option<Box<Split>> {
        // A tick later fewer pages are left and more are dirty.
        let more = self.field.dirty_in_the_last(tick / length) / per_tick;
        if more >= 0.95 {
            return None;
        }
        let middle = f64::midpoint(low, high);
        self.ticks = Ticks::Known((high - low) / 2.0 * (1.0 - more));
        let enough = (threshold + 0.5 - dirty - middle * more) / (1.0 - more);
        let share = (enough - low) / (high - low);
        if share > LEAST && share < 1.0 - LEAST {
            let below = (share, Ticks::Finds([low, enough]));
            let above = (1.0 - share, Ticks::Finds([enough, high]));
            return Some(Box::new(Split { from: checkpoint, ways: [below, above] }));
        }
        None
    }

    /// Takes one of the ways from where it splits.
    fn take_way(&mut self, way: Ticks) {
        self.ticks = way;
        self.splits += 1;
        if let Some(transmit) = self.again.take() {
            self.transmit(transmit);
        }
    }
}
