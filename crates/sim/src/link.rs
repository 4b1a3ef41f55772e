//! The link between the hosts, as the sender meets it: a socket that fills and a wire that empties it.
//!
//! What the source hands over goes into a queue of [`LinkConfig::buffer`] bytes (socket buffers and the
//! queue of the network device) that the wire carries away at its bandwidth. While there is room the
//! source goes on at the speed of memory. When the queue is full it blocks, and as Linux's TCP does
//! (`sk_stream_min_wspace` in `include/net/sock.h`: free at least half of what is queued), it is woken
//! only when the queue has fallen to two thirds: everything on a link slower than memory happens in
//! quanta of a third of the buffer. This is why a slice of sending on such a link lasts a little longer
//! than was asked for, and why what is left at a switchover comes in steps.
//!
//! Bandwidth may change and the link may be out for a while; nothing is lost in an outage. The way back
//! carries small messages only and is not queued.

#[cfg(test)]
use whimbrel_core::units::ByteCount;
use whimbrel_core::units::{Bandwidth, Share, Timestamp};

use crate::config::LinkConfig;

/// The share of the buffer at which a blocked writer is woken.
const WAKE_AT: f64 = 2.0 / 3.0;

/// What TCP hands to the device at once, and frees at once when it has left: 64 KiB (`GSO_MAX_SIZE`).
const SEGMENT: f64 = 65_536.0;

/// A time as the simulator computes with it: nanoseconds since the migration began. Exact to less than
/// a nanosecond for weeks.
pub(crate) type Nanos = f64;

/// The core's time for it: rounded up, so that nothing is told before it has happened.
pub(crate) fn timestamp(nanos: Nanos) -> Timestamp {
    // Saturates: what never happens has the last time there is.
    Timestamp::from_nanos(nanos.ceil() as u64)
}

/// From `at` on the wire carries `rate` bytes a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    at: Nanos,
    rate: f64,
}

/// The forward direction of the link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// In the order of time; the first at zero.
    schedule: Vec<Stretch>,
    /// The stretch that `updated` lies in.
    current: usize,
    /// Bytes that fit before the sender blocks.
    buffer: f64,
    /// At how many bytes in the queue a blocked writer is woken: the next one, and those after it.
    wake_at: [f64; 2],
    /// Bytes in the queue at `updated`.
    queued: f64,
    updated: Nanos,
    /// The destination takes no more than this, bytes a nanosecond.
    receiver: f64,
    /// What is carried now, by wire and destination together, and until when that holds.
    rate: f64,
    until: Nanos,
}

impl Link {
    /// An empty link. `phase` (0 to 1) is where in its sawtooth the queue's first cycle ends: it depends
    /// on what the connection carried before, and so on chance.
    pub(crate) fn new(config: &LinkConfig, phase: f64) -> Self {
        let rate = |bandwidth: Bandwidth, payload: Share| bandwidth.as_f64() * payload.as_f64() / 1e9;
        let mut schedule = vec![Stretch { at: 0.0, rate: rate(config.bandwidth, config.payload) }];
        for change in &config.changes {
            let at = change.at.as_nanos() as f64;
            schedule.push(Stretch { at, rate: rate(change.bandwidth, config.payload) });
        }
        for outage in &config.outages {
            let at = outage.at.as_nanos() as f64;
            interrupt(&mut schedule, at, at + outage.length.as_nanos() as f64);
        }
        let buffer = config.buffer.as_f64().max(1.0);
        // Whole segments leave the queue, so the level is passed by a part of one.
        let level = buffer * WAKE_AT;
        let wake_at = if buffer < 8.0 * SEGMENT { level } else { (level / SEGMENT).floor() * SEGMENT };
        let mut link = Self {
            schedule,
            current: 0,
            buffer,
            wake_at: [wake_at + phase * (buffer - wake_at), wake_at],
            queued: 0.0,
            updated: 0.0,
            receiver: f64::INFINITY,
            rate: 0.0,
            until: 0.0,
        };
        link.enter(0);
        link
    }

    /// The stretch in force is this one from now on.
    fn enter(&mut self, stretch: usize) {
        self.current = stretch;
        self.rate = self.rate_of(stretch);
        self.until = self.end_of(stretch);
    }

    /// The destination takes no more than `rate` bytes a nanosecond from now on.
    #[inline]
    pub(crate) fn receive_at(&mut self, rate: f64) {
        if rate.to_bits() != self.receiver.to_bits() {
            self.receiver = rate;
            self.enter(self.current);
        }
    }

    /// Hands over `bytes` at `now`; gives the time at which the last of them found room.
    #[inline]
    pub(crate) fn push(&mut self, now: Nanos, bytes: f64) -> Nanos {
        self.carry_until(now);
        self.queued += bytes;
        if self.queued <= self.buffer {
            return now;
        }
        self.block(now)
    }

    /// The queue is over-full by what could not be handed over yet: waits until it could.
    #[cold]
    fn block(&mut self, now: Nanos) -> Nanos {
        let mut now = now;
        let mut waiting = self.queued - self.buffer;
        self.queued = self.buffer;
        while waiting > 0.0 {
            let [wake_at, later] = self.wake_at;
            self.wake_at = [later; 2];
            now = self.time_to_carry(now, self.buffer - wake_at);
            self.carry_until(now);
            // At least a byte, so that the tiniest buffer comes to an end.
            let quantum = waiting.min((self.buffer - wake_at).max(1.0));
            self.queued = wake_at + quantum;
            waiting -= quantum;
        }
        now
    }

    /// When everything handed over so far has left the wire, if nothing more comes.
    pub(crate) fn drained(&self) -> Nanos {
        self.time_to_carry(self.updated, self.queued)
    }

    /// When a message of `bytes` that the destination sends at `now` has left the wire on the way back.
    pub(crate) fn back(&self, now: Nanos, bytes: f64) -> Nanos {
        let way = Self {
            current: self.schedule.partition_point(|stretch| stretch.at <= now).saturating_sub(1),
            receiver: f64::INFINITY,
            schedule: self.schedule.clone(),
            ..*self
        };
        way.time_to_carry(now, bytes)
    }

    /// Bytes handed over and still on their way at `now`.
    #[cfg(test)]
    pub(crate) fn in_flight(&mut self, now: Nanos) -> ByteCount {
        self.carry_until(now);
        ByteCount(self.queued as u64)
    }

    fn rate_of(&self, stretch: usize) -> f64 {
        self.schedule.get(stretch).map_or(0.0, |stretch| stretch.rate).min(self.receiver)
    }

    fn end_of(&self, stretch: usize) -> Nanos {
        self.schedule.get(stretch + 1).map_or(f64::INFINITY, |next| next.at)
    }

    /// Lets the wire carry until `now`.
    #[inline]
    fn carry_until(&mut self, now: Nanos) {
        while now > self.until {
            self.carry(self.until);
            self.enter(self.current + 1);
        }
        self.carry(now.max(self.updated));
    }

    #[inline]
    fn carry(&mut self, now: Nanos) {
        self.queued = (self.queued - self.rate * (now - self.updated)).max(0.0);
        self.updated = now;
    }

    /// When `bytes` will have been carried, from `from` (not before `updated`) on. Infinite if the wire
    /// never carries them.
    fn time_to_carry(&self, from: Nanos, bytes: f64) -> Nanos {
        let (mut at, mut left, mut stretch) = (from, bytes, self.current);
        while left > 0.0 {
            let end = self.end_of(stretch);
            let rate = self.rate_of(stretch);
            let done = at + left / rate;
            if done <= end || end == f64::INFINITY {
                return done;
            }
            if end > at {
                left -= rate * (end - at);
                at = end;
            }
            stretch += 1;
        }
        at
    }
}

/// Makes `schedule` carry nothing between `from` and `to`.
fn interrupt(schedule: &mut Vec<Stretch>, from: Nanos, to: Nanos) {
    let after = schedule.iter().rev().find(|stretch| stretch.at <= to).map_or(0.0, |last| last.rate);
    let first = schedule.partition_point(|stretch| stretch.at < from);
    let past = schedule.partition_point(|stretch| stretch.at <= to);
    schedule.splice(first..past, [Stretch { at: from, rate: 0.0 }, Stretch { at: to, rate: after }]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{BandwidthChange, Outage};

    const MS: f64 = 1e6;

    fn config(megabytes_per_s: u64, buffer: u64) -> LinkConfig {
        LinkConfig {
            bandwidth: Bandwidth::new(megabytes_per_s * 1_000_000).unwrap(),
            payload: Share::ONE,
            buffer: ByteCount(buffer),
            changes: Vec::new(),
            outages: Vec::new(),
            ..LinkConfig::default()
        }
    }

    #[test]
    fn what_fits_is_taken_at_once_and_leaves_at_the_bandwidth() {
        let mut link = Link::new(&config(100, 3_000_000), 0.0);
        assert_eq!(link.push(0.0, 1_000_000.0), 0.0);
        assert!((link.drained() - 10.0 * MS).abs() < 1.0);
        assert_eq!(link.in_flight(5.0 * MS), ByteCount(500_000));
    }

    #[test]
    fn a_full_queue_wakes_the_writer_at_two_thirds() {
        let mut link = Link::new(&config(100, 3_000_000), 0.0);
        link.push(0.0, 3_000_000.0);
        // One byte more waits until a third of the buffer has been carried: 1 MB, 10 ms.
        let woken = link.push(0.0, 1.0);
        assert!((woken - 10.0 * MS).abs() < 1.0, "{woken}");
        assert_eq!(link.in_flight(woken), ByteCount(2_000_001));
    }

    #[test]
    fn in_the_long_run_it_carries_what_its_bandwidth_says() {
        for (buffer, piece) in [(3_000_000, 262_144.0), (1, 4104.0), (100_000, 1_000_000.0)] {
            let mut link = Link::new(&config(100, buffer), 0.4);
            let mut now = 0.0;
            for _ in 0..1000 {
                now = link.push(now, piece);
            }
            let carried_at = link.drained();
            let expected = 1000.0 * piece / 0.1;
            assert!((carried_at / expected - 1.0).abs() < 1e-6, "{buffer}: {carried_at} {expected}");
        }
    }

    #[test]
    fn nothing_passes_in_an_outage_and_nothing_is_lost() {
        let mut config = config(100, 1_000_000);
        config.outages = vec![Outage { at: Duration::from_millis(5), length: Duration::from_millis(20) }];
        let mut link = Link::new(&config, 0.0);
        link.push(0.0, 1_000_000.0);
        assert!((link.drained() - 30.0 * MS).abs() < 1.0);
        assert_eq!(link.in_flight(24.0 * MS), ByteCount(500_000));
    }

    #[test]
    fn bandwidth_changes_when_it_is_said_to_also_within_an_outage() {
        let mut config = config(100, 10_000_000);
        config.changes = vec![
            BandwidthChange {
                at: Duration::from_millis(10),
                bandwidth: Bandwidth::new(50_000_000).unwrap(),
            },
            BandwidthChange {
                at: Duration::from_millis(40),
                bandwidth: Bandwidth::new(200_000_000).unwrap(),
            },
        ];
        config.outages = vec![Outage { at: Duration::from_millis(30), length: Duration::from_millis(20) }];
        let mut link = Link::new(&config, 0.0);
        // 1 MB in 10 ms, 1 MB until 30 ms, nothing until 50 ms, then 200 MB/s: 2 MB in 10 ms.
        link.push(0.0, 4_000_000.0);
        assert!((link.drained() - 60.0 * MS).abs() < 1.0, "{}", link.drained());
    }
}
