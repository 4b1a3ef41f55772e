//! What a throttle does to the guest as a whole: when it begins, what it costs, how a dirty limit is held.
//!
//! The world sets the throttle; how a writer lives with it is the matter of `cycle` and `ring`. Here is what
//! all writers share: the sleeps by the clock, the account of what was lost, and the control loop of the
//! dirty limit, which measures all rings once a period and corrects the sleep of each vCPU. The loop is
//! caught up with when time passes and so needs no events; its moments are fixed when it begins, so it does
//! not matter who asks when.

use std::time::Duration;

use whimbrel_core::throttle::{DirtyLimit, Throttle};
use whimbrel_core::units::{ByteCount, Pages, Timestamp, VcpuSeconds};

use super::cycle::Pulse;
use super::writer::Writer;
use super::{Guest, Lost, seconds};

/// The shortest control period: shorter ones are taken for this.
const SHORTEST: Duration = Duration::from_millis(1);

/// A dirty limit in force.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    law: DirtyLimit,
    period: Duration,
    /// When it is corrected next, in nanoseconds.
    next: u64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Guest {
    /// The same with rings of so many entries, on a host that tracks with KVM's dirty ring; a dirty limit is
    /// paid whenever one is full. To be called before there is a limit.
    #[must_use]
    pub fn with_dirty_ring(mut self, entries: u32) -> Self {
        self.set_dirty_ring(entries);
        self
    }

    pub(crate) fn set_dirty_ring(&mut self, entries: u32) {
        self.dirty_ring = entries;
    }

    /// Slows it like this from `now` on. A throttle by the clock that is in force ends its period before it
    /// gives way to another, and the sleep under way before it is lifted; a paused guest is free at once.
    pub fn set_throttle(&mut self, now: Timestamp, throttle: Throttle) {
        self.advance(now);
        // Asking for what is in force has no effect, but for naps that a pause caught.
        if throttle == self.throttle && !self.held.paused {
            return;
        }
        self.change(now);
        self.held.pulse.set(self.clock, throttle, self.held.paused);
        if let Throttle::DirtyLimit { quota, period } = throttle {
            let period = period.max(SHORTEST);
            if let Some(limit) = &mut self.limit {
                limit.law.set_quota(quota);
                limit.period = period;
            } else {
                let ring = Pages(u64::from(self.dirty_ring)).bytes(self.layout.page_size());
                let law = DirtyLimit::new(quota, ring, self.writers.len());
                self.limit = Some(Limit { law, period, next: self.clock.saturating_add(nanos(period)) });
                self.writers.iter_mut().for_each(|writer| writer.begin_ring(self.dirty_ring));
            }
        } else {
            self.limit = None;
            self.writers.iter_mut().for_each(|writer| writer.charge(0.0));
            if self.held.paused || !throttle.is_off() {
                self.writers.iter_mut().for_each(Writer::wake);
            }
        }
        self.held.limited = self.limit.is_some();
        self.plan_correction();
        self.throttle = throttle;
    }

    /// Lifts the throttle of a guest that is paused and has its accounts settled. It is free at once.
    pub(super) fn lift_throttle(&mut self) {
        self.held.pulse = Pulse::OFF;
        self.limit = None;
        for writer in &mut self.writers {
            writer.charge(0.0);
            writer.wake();
        }
        self.held.limited = false;
        self.throttle = Throttle::Off;
    }

    /// When its vCPUs are next awake: `now`, unless a throttle by the clock has them asleep.
    pub fn awake_at(&mut self, now: Timestamp) -> Timestamp {
        self.advance(now);
        if self.held.paused { now } else { Timestamp::from_nanos(self.held.pulse.awake(self.clock)) }
    }

    /// How it is slowed.
    pub fn throttle(&self) -> Throttle {
        self.throttle
    }

    /// Says when the limit is corrected next.
    pub(super) fn plan_correction(&mut self) {
        let next = self.limit.as_ref().map(|limit| limit.next);
        self.correction = next.filter(|_| !self.held.paused).unwrap_or(u64::MAX);
    }

    /// Makes the corrections that are due.
    #[cold]
    pub(super) fn correct_limit(&mut self) {
        let page = self.layout.page_size().bytes().0 as f64;
        let Some(limit) = &mut self.limit else { return };
        while limit.next <= self.clock {
            for (vcpu, writer) in self.writers.iter_mut().enumerate() {
                writer.change(limit.next, &self.held);
                let dirtied = ByteCount((writer.measure_ring() * page) as u64);
                writer.charge(limit.law.correct(vcpu, dirtied, limit.period).as_secs_f64());
            }
            let next = limit.next.saturating_add(nanos(limit.period));
            if next == limit.next {
                break;
            }
            limit.next = next;
        }
        self.plan_correction();
    }

    /// vCPU seconds lost to the throttle's clock and to the pause since the account was settled.
    fn open_account(&self) -> [f64; 2] {
        let vcpus = f64::from(self.vcpus);
        if self.held.paused {
            [0.0, (self.clock - self.lost_since) as f64 * 1e-9 * vcpus]
        } else {
            [self.held.pulse.slept(self.lost_since, self.clock) * 1e-9 * vcpus, 0.0]
        }
    }

    /// Settles the account up to now. What stands still while the guest is paused is as far as it was.
    pub(super) fn settle_lost(&mut self) {
        let [throttle, pause] = self.open_account();
        self.lost[0] += throttle;
        self.lost[1] += pause;
        if self.held.paused {
            let time = self.clock - self.lost_since;
            self.held.pulse.stand_still(time);
            if let Some(limit) = &mut self.limit {
                limit.next = limit.next.saturating_add(time);
            }
        }
        self.lost_since = self.clock;
    }

    /// What it lost up to the latest time that it was told.
    pub fn lost(&self) -> Lost {
        let [throttle, pause] = self.open_account();
        let rings: f64 = self.writers.iter().map(|writer| writer.slept(self.clock, &self.held)).sum();
        Lost {
            throttle: seconds(self.lost[0] + throttle + rings),
            pause: seconds(self.lost[1] + pause),
            post_copy: VcpuSeconds::ZERO,
            tracking_faults: seconds(self.faults),
        }
    }
}
