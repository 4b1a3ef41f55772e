//! A limit on dirtying: a vCPU sleeps each time its ring of dirty pages is full.
//!
//! The guest sets how long each writer sleeps and reads what went through its ring; writers go through their
//! laps here. A *lap* is a sleep and the writes that fill the ring after it.
//!
//! # The mechanism
//!
//! KVM pushes a page into the ring of the vCPU that writes it, the first time after the ring was last
//! emptied. When all but 576 entries are used (64 reserved and 512 that the CPU may still log,
//! `kvm_dirty_ring_get_rsvd_entries`), the vCPU exits; QEMU empties its ring and lets it sleep
//! (`dirtylimit_vcpu_execute`). QEMU empties all rings too whenever it harvests and whenever it measures,
//! once a control period. So:
//!
//! - A page that is written again after the ring was emptied counts again, for the ring and for the rate.
//! - A vCPU whose pages all fit into the ring, or that only reads, never sleeps.
//!
//! The ring fills in the mean: after the number of writes that dirty so many different pages on average.
//!
//! A writer is taken for a vCPU of its own, also where there are fewer vCPUs than writers: its ring is full
//! when *it* wrote enough, and nobody else sleeps for it.

use super::pace::Done;
use super::shape::Shape;
use super::stretch::{Stretch, crossing};

/// Entries that KVM keeps free: `KVM_DIRTY_RING_RSVD_ENTRIES` and, on x86-64, the size of a CPU's page
/// modification log.
const RESERVED: u32 = 64 + 512;
/// More writes than anyone makes.
const NEVER: f64 = 1e18;

/// What a ring saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ring {
    /// The writer's writes when it was last emptied.
    pub(super) emptied: f64,
    /// Pages taken out of it since the last measurement.
    pub(super) pages: f64,
    /// What is left of the sleep under way, in seconds.
    pub(super) nap: f64,
    /// All seconds slept.
    pub(super) slept: f64,
}

/// What a full ring costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Toll {
    /// Pages in a full ring.
    pages: f64,
    /// Writes that fill it; infinite if none do.
    writes: f64,
    /// The sleep, in seconds.
    pub(super) sleep: f64,
}

impl Toll {
    /// Of a ring that nobody pays for.
    pub(super) const NONE: Self = Self { pages: f64::INFINITY, writes: f64::INFINITY, sleep: 0.0 };

    /// Of a ring of so many entries, for a writer of this shape; nothing is paid yet.
    pub(super) fn new(entries: u32, shape: &Shape) -> Self {
        let pages = f64::from(entries.saturating_sub(RESERVED).max(1));
        let lacking = |writes: f64| pages - distinct(shape, writes);
        let writes = if lacking(NEVER) > 0.0 || shape.untouched(0.0) <= pages {
            f64::INFINITY
        } else {
            // Never fewer than the pages, and the first power of two of them that is enough.
            let mut most = pages;
            while lacking(most) > 0.0 {
                most *= 2.0;
            }
            crossing(pages / 2.0, most, |writes| -lacking(writes))
        };
        Self { pages, writes, sleep: 0.0 }
    }
}

/// The different pages among so many writes, on average.
fn distinct(shape: &Shape, writes: f64) -> f64 {
    shape.untouched(0.0) - shape.untouched(writes)
}

impl Done {
    /// Empties the ring, as a harvest and a measurement do.
    pub(super) fn empty_ring(&mut self, shape: &Shape) {
        self.ring.pages += distinct(shape, self.writes - self.ring.emptied);
        self.ring.emptied = self.writes;
    }
}

impl Stretch<'_> {
    /// Moves `done` on by `time` seconds in which full rings cost `toll`.
    pub(super) fn tolled(&self, mut done: Done, harvested: f64, toll: Toll, time: f64) -> Done {
        let mut left = time;
        loop {
            left -= self.laps(&mut done, toll, left);
            let nap = done.ring.nap.min(left);
            done = self.idle(done, nap);
            done.ring.nap -= nap;
            done.ring.slept += nap;
            left -= nap;
            if left <= 0.0 {
                return done;
            }
            if toll.sleep <= 0.0 {
                done = self.pass(done, harvested, left);
                done.turn(toll);
                return done;
            }
            let room = (toll.writes - (done.writes - done.ring.emptied)).max(0.0);
            let Some((spent, owed)) = self.time_of(done, harvested, room, left) else {
                return self.pass(done, harvested, left);
            };
            done.writes += room;
            done.owed = owed;
            done.ring.pages += toll.pages;
            done.ring.emptied = done.writes;
            done.ring.nap = toll.sleep;
            left -= spent;
        }
    }

    /// Goes through as many whole laps as fit into `time` seconds, if they are all alike; gives the seconds.
    fn laps(&self, done: &mut Done, toll: Toll, time: f64) -> f64 {
        let Toll { pages, writes, sleep } = toll;
        // Only right after the ring was full, with no work owed.
        let asleep = (sleep..=sleep).contains(&done.ring.nap);
        if sleep <= 0.0 || !asleep || done.owed > 0.0 || done.ring.emptied < done.writes {
            return 0.0;
        }
        let run = (writes - (self.rate * sleep).min(self.most)) / self.rate;
        // Alike if nothing is owed at the end, even if each write costs a fault.
        if !(run > 0.0 && writes * (self.write_cost + self.fault) <= self.cpu * run) {
            return 0.0;
        }
        let laps = (time / (run + sleep)).floor();
        if laps >= 1.0 {
            done.writes += laps * writes;
            done.ring.emptied = done.writes;
            done.ring.pages += laps * pages;
            done.ring.slept += laps * sleep;
            (laps * (run + sleep)).min(time)
        } else {
            0.0
        }
    }

    /// How long `count` more writes take, and what is owed then; none if longer than `within`.
    fn time_of(&self, done: Done, harvested: f64, count: f64, within: f64) -> Option<(f64, f64)> {
        if self.is_starved() || count == f64::INFINITY {
            return None;
        }
        let since = done.writes - harvested;
        let need = self.need(since, count);
        let busy = if need > 0.0 { need / self.cpu } else { 0.0 };
        if busy > within {
            return None;
        }
        let most = self.most.max(done.owed);
        // Work that is lost because more is owed than may be, while it is behind.
        let lost = if busy > 0.0 && self.rate * self.next_cost(since) > self.cpu {
            let (made, spent) = self.behind(since, busy);
            (done.owed + self.rate * spent - made - most).max(0.0)
        } else {
            0.0
        };
        let wanted_by = match count - done.owed + lost {
            lack if lack <= 0.0 => 0.0,
            lack => lack / self.rate,
        };
        if wanted_by > within {
            return None;
        }
        if wanted_by >= busy {
            return Some((wanted_by, 0.0));
        }
        let owed = done.owed + self.rate * busy - lost - count;
        Some((busy, owed.clamp(0.0, most)))
    }
}

impl Done {
    /// Counts the times that a ring was full that cost nothing.
    fn turn(&mut self, toll: Toll) {
        let times = ((self.writes - self.ring.emptied) / toll.writes).floor();
        if times >= 1.0 {
            self.ring.pages += times * toll.pages;
            self.ring.emptied += times * toll.writes;
        }
    }
}
