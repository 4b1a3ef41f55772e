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

use std::sync::Arc;

use whimbrel_core::units::{Bandwidth, ByteCount, Share, Timestamp};

use crate::config::LinkConfig;

/// The share of the buffer at which a blocked writer is woken.
const WAKE_AT: f64 = 2.0 / 3.0;

/// What TCP hands to the device at once, and frees at once when it has left: 64 KiB (`GSO_MAX_SIZE`).
const SEGMENT: f64 = 65_536.0;

/// A time as the simulator computes with it: nanoseconds since the migration began. Exact to less than
/// a nanosecond for weeks.
pub(crate) type Nanos = f64;

/// The core's time for it: rounded up, so that nothing is told before it has happened.
#[inline]
pub(crate) fn timestamp(nanos: Nanos) -> Timestamp {
    // Saturates: what never happens has the last time there is.
    Timestamp::from_nanos(whole_up(nanos))
}

/// `number.ceil() as u64`. That is a call into the library, as not every processor has the instruction, and of
/// rounds there are millions.
#[inline(always)]
fn whole_up(number: f64) -> u64 {
    /// Added to this, a smaller number stands in the lowest bits, rounded to the nearest whole one.
    const WHOLE: f64 = (1_u64 << 52) as f64;
    if !(0.0..WHOLE).contains(&number) {
        return whole_up_anywhere(number);
    }
    let near = number + WHOLE;
    near.to_bits().wrapping_sub(WHOLE.to_bits()).wrapping_add(u64::from(near - WHOLE < number))
}

#[cold]
fn whole_up_anywhere(number: f64) -> u64 {
    number.ceil() as u64
}

/// A whole number as a float. Signed ones, as nearly all are that could be, take a third of the instructions.
#[inline(always)]
pub(crate) fn float(number: u64) -> f64 {
    if number > i64::MAX as u64 { large(number) } else { number.cast_signed() as f64 }
}

#[cold]
#[inline(never)]
fn large(number: u64) -> f64 {
    number as f64
}

/// The larger of two numbers, of which the second is one. (Of [`f64::max`] both may be none, which takes longer.)
#[inline(always)]
pub(crate) fn larger(one: f64, other: f64) -> f64 {
    if one > other { one } else { other }
}

/// From `at` on the wire carries `rate` bytes a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    at: Nanos,
    rate: f64,
}

/// The forward direction of the link.
///
/// The queue is kept as the time at which the wire will have emptied it; how many bytes are in it at
/// some moment follows from the rates until then.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// In the order of time; the first at zero.
    schedule: Arc<Vec<Stretch>>,
    /// Bytes that fit before the sender blocks.
    buffer: f64,
    /// So long before now the wire may begin to carry what is handed over, if it was idle: silence that is made up for.
    burst: Nanos,
    /// At how many bytes in the queue a blocked writer is woken: the next one, and those after it.
    wake_at: [f64; 2],
    /// The destination takes no more than this, bytes a nanosecond.
    receiver: f64,
    /// The sender copies into the queue at this speed, bytes a nanosecond.
    sender: f64,
    /// When everything handed over so far has left the wire.
    drained: Nanos,
    /// Where pages are encoded behind the queue: when whoever does that is done with everything handed over so far.
    worked: Nanos,
    /// The stretch that `drained` lies in.
    current: Current,
}

/// How far a link is, see [`Link::position`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    wake_at: [f64; 2],
    receiver: f64,
    drained: Nanos,
    worked: Nanos,
    current: Current,
}

/// A stretch with what the destination leaves of its rate, ready for use.
#[derive(Clone, Copy, Debug, Default)]
struct Current {
    index: usize,
    from: Nanos,
    until: Nanos,
    rate: f64,
    nanos_per_byte: f64,
    /// Nanoseconds in which the queue grows by a byte while the sender copies; negative or infinite if it
    /// does not grow.
    growth: f64,
    /// Bytes that the sender copies from being woken until the queue is full again, and one over it.
    quantum: [f64; 2],
    /// How long it sleeps until it is woken.
    rest: f64,
    /// The same, and zero where it never sleeps.
    sleep: f64,
}

impl Link {
    /// An empty link, and a sender that copies at `sender` bytes a nanosecond. `phase` (0 to 1) is where in its sawtooth the queue's first cycle ends: it depends
    /// on what the connection carried before, and so on chance.
    pub(crate) fn new(config: &LinkConfig, sender: f64, phase: f64) -> Self {
        let mut link = Self {
            schedule: Arc::default(),
            buffer: 0.0,
            burst: 0.0,
            wake_at: [0.0; 2],
            receiver: f64::INFINITY,
            sender,
            drained: 0.0,
            worked: 0.0,
            current: Current::default(),
        };
        link.begin(config, sender, phase);
        link
    }

    /// Makes it what [`Link::new`] gives, in the memory that it has.
    pub(crate) fn begin(&mut self, config: &LinkConfig, sender: f64, phase: f64) {
        let rate = |bandwidth: Bandwidth, payload: Share| bandwidth.as_f64() * payload.as_f64() / 1e9;
        let schedule = Arc::make_mut(&mut self.schedule);
        schedule.clear();
        schedule.push(Stretch { at: 0.0, rate: rate(config.bandwidth, config.payload) });
        for change in &config.changes {
            let at = change.at.as_nanos() as f64;
            schedule.push(Stretch { at, rate: rate(change.bandwidth, config.payload) });
        }
        for outage in &config.outages {
            let at = outage.at.as_nanos() as f64;
            interrupt(schedule, at, at + outage.length.as_nanos() as f64);
        }
        let buffer = config.buffer.as_f64().max(1.0);
        // Whole segments leave the queue, so the level is passed by a part of one.
        let level = buffer * WAKE_AT;
        let wake_at = if buffer < 8.0 * SEGMENT { level } else { (level / SEGMENT).floor() * SEGMENT };
        self.buffer = buffer;
        self.burst = config.burst.as_nanos() as f64;
        self.wake_at = [wake_at + phase * (buffer - wake_at), wake_at];
        self.receiver = f64::INFINITY;
        self.sender = sender;
        self.drained = 0.0;
        self.worked = 0.0;
        self.current = self.stretch(0);
    }

    /// How far it is: what a link can be taken back to.
    #[inline]
    pub(crate) fn position(&self) -> Position {
        Position {
            wake_at: self.wake_at,
            receiver: self.receiver,
            drained: self.drained,
            worked: self.worked,
            current: self.current,
        }
    }

    /// Takes it back there, or forward again.
    pub(crate) fn go_to(&mut self, position: Position) {
        Position {
            wake_at: self.wake_at,
            receiver: self.receiver,
            drained: self.drained,
            worked: self.worked,
            current: self.current,
        } = position;
    }

    /// The destination takes no more than `rate` bytes a nanosecond of what is handed over from now on.
    #[inline]
    pub(crate) fn receive_at(&mut self, rate: f64) {
        if rate.to_bits() != self.receiver.to_bits() {
            self.receiver = rate;
            self.current = self.stretch(self.current.index);
        }
    }

    /// Copies `bytes` into the queue from `now` on; gives the time at which the last of them is in it.
    ///
    /// However many bytes are copied at once, the result is that of copying them one by one: the queue
    /// grows by what the sender is faster than the wire until it is full, then the sender sleeps until the
    /// queue has fallen to where writers are woken, and so on.
    #[inline(always)]
    pub(crate) fn copy(&mut self, now: Nanos, bytes: f64) -> Nanos {
        let current = &self.current;
        let busy = self.drained - now;
        let done = self.drained + bytes * current.nanos_per_byte;
        // An idle wire, a slow sender and a change of rate are rare and take their time.
        if busy < 0.0 || current.growth <= 0.0 || done > current.until || now < current.from {
            return self.copy_slowly(now, bytes);
        }
        let copying = bytes / self.sender;
        let room = (self.buffer - busy * current.rate) * current.growth * self.sender;
        self.drained = done;
        if bytes <= room {
            return now + copying;
        }
        if self.wake_at[0] > self.wake_at[1] {
            return self.first_sleep(now + copying, bytes - room);
        }
        let sleeps = ((bytes - room) * current.quantum[1]).ceil();
        now + copying + sleeps * current.rest
    }

    /// The first time that the queue is full, the sender is woken at a level of its own.
    #[cold]
    fn first_sleep(&mut self, now: Nanos, waiting: f64) -> Nanos {
        let [first, later] = self.wake_at;
        self.wake_at = [later; 2];
        let Current { nanos_per_byte, growth, quantum, rest, .. } = self.current;
        let now = now + (self.buffer - first) * nanos_per_byte;
        let room = (self.buffer - first) * growth * self.sender;
        now + ((waiting - room).max(0.0) / quantum[0]).ceil() * rest
    }

    /// The same in pieces that are handed over at once, each after the time of copying it.
    #[cold]
    fn copy_slowly(&mut self, now: Nanos, bytes: f64) -> Nanos {
        let (mut now, mut left) = (now, bytes);
        while left > 0.0 {
            let piece = left.min(SEGMENT);
            now = self.push(now + piece / self.sender, piece);
            left -= piece;
        }
        now
    }

    /// Hands over `bytes` at `now`; gives the time at which the last of them found room.
    #[inline]
    pub(crate) fn push(&mut self, now: Nanos, bytes: f64) -> Nanos {
        let done = self.drained.max(now - self.burst) + bytes * self.current.nanos_per_byte;
        if done > self.current.until || now < self.current.from {
            return self.push_across(now, bytes);
        }
        self.drained = done;
        if (done - now) * self.current.rate <= self.buffer { now } else { self.block(now) }
    }

    /// The same where the rate changes meanwhile.
    #[cold]
    fn push_across(&mut self, now: Nanos, bytes: f64) -> Nanos {
        let (mut at, mut left) = (self.drained.max(now - self.burst), bytes);
        while at >= self.current.until {
            self.current = self.stretch(self.current.index + 1);
        }
        loop {
            let done = at + left * self.current.nanos_per_byte;
            // Also if it is never done, in the last stretch.
            if done <= self.current.until || self.current.until == f64::INFINITY {
                self.drained = done;
                break;
            }
            left -= self.current.rate * (self.current.until - at);
            at = self.current.until;
            self.current = self.stretch(self.current.index + 1);
        }
        if self.queued(now) <= self.buffer { now } else { self.block(now) }
    }

    /// The queue is over-full by what could not be handed over yet: when it could be.
    fn block(&mut self, now: Nanos) -> Nanos {
        let [first, later] = self.wake_at;
        self.wake_at = [later; 2];
        let waiting = self.queued(now) - self.buffer;
        // Each time it is woken, the writer fills the queue up again, but for the last.
        let (first_room, room) = (self.buffer - first, (self.buffer - later).max(1.0));
        let level = if waiting <= first_room {
            first + waiting
        } else {
            let last = (waiting - first_room) % room;
            later + if last == 0.0 { room } else { last }
        };
        now.max(self.falls_to(level))
    }

    /// Hands over what becomes `bytes` behind the queue, by `work`: a thread takes it from there, works, waits until the wire has carried
    /// the bytes, and takes the next. While it works the wire is idle, which it makes up for later as far as it does that at all.
    /// Gives the time at which it found room.
    pub(crate) fn work(&mut self, now: Nanos, work: Nanos, bytes: f64) -> Nanos {
        self.worked = larger(self.worked, now) + work + bytes / self.sender;
        if bytes > 0.0 {
            self.push(self.worked, bytes);
            self.worked = larger(self.worked, self.drained);
        }
        if self.queued(now) <= self.buffer { now } else { self.block(now) }
    }

    /// Hands over `bytes` at `now` on a connection of their own, which shares with this one what is queued
    /// at the device: the last `shared` bytes handed over, or rather what is left of them. Gives the time
    /// at which they have left the wire; everything else leaves that much later.
    pub(crate) fn overtake(&mut self, now: Nanos, bytes: f64, shared: f64) -> Nanos {
        let queued = self.queued(now);
        let behind = (queued - shared).max(0.0);
        self.push(now, bytes);
        larger(self.falls_to(behind), now)
    }

    /// Hands over `bytes` that take the sender `busy` to make, evenly; gives the time at which the last of
    /// them is in the queue. It then holds at most `level`, if it would hold more than `most` without
    /// waiting: the means over the phases of its sawtooth, for who wants no single one.
    #[inline]
    pub(crate) fn flow(&mut self, now: Nanos, busy: Nanos, bytes: f64, [most, level]: [f64; 2]) -> Nanos {
        let made = now + busy;
        let begun = larger(self.drained, now - self.burst);
        let done = begun + bytes * self.current.nanos_per_byte;
        if done > self.current.until || now < self.current.from {
            self.push_across(now, bytes);
        } else {
            self.drained = done;
        }
        // The wire can't have carried what was not made, and makes up for so much.
        self.drained = larger(self.drained, made - self.burst);
        let queued = if made >= self.current.from {
            (self.drained - made) * self.current.rate
        } else {
            self.queued(made)
        };
        if queued <= most { made } else { larger(self.falls_to(level), made) }
    }

    /// How many bytes can be handed over from `now` until `then`, so that the queue is at `level` at most.
    #[inline]
    pub(crate) fn room(&self, now: Nanos, then: Nanos, level: f64) -> f64 {
        if self.drained >= then {
            return (level - self.queued(then)).max(0.0);
        }
        level + self.carries(self.drained.max(now - self.burst), then)
    }

    /// What the wire can carry between two times, the earlier one not before the present stretch.
    fn carries(&self, from: Nanos, to: Nanos) -> f64 {
        let (mut at, mut index, mut bytes) = (from, self.current.index, 0.0);
        while at < to {
            let stretch = self.stretch(index);
            let end = stretch.until.min(to);
            bytes += if stretch.rate > 0.0 { stretch.rate * (end - at).max(0.0) } else { 0.0 };
            (at, index) = (at.max(end), index + 1);
        }
        bytes
    }

    /// Bytes a nanosecond that it carries, as things stand.
    #[inline]
    pub(crate) fn rate(&self) -> f64 {
        self.current.rate
    }

    /// When its bandwidth changes next.
    #[inline]
    pub(crate) fn changes_at(&self, now: Nanos) -> Nanos {
        if now < self.current.until && now >= self.current.from {
            return self.current.until;
        }
        let next = self.schedule.partition_point(|stretch| stretch.at <= now);
        self.schedule.get(next).map_or(f64::INFINITY, |stretch| stretch.at)
    }

    /// Bytes in the queue on average over its sawtooth.
    #[inline]
    pub(crate) fn middle(&self) -> f64 {
        0.5 * (self.wake_at[1] + self.buffer)
    }

    /// Bytes in the queue at which a writer is woken, and in a full one.
    #[inline]
    pub(crate) fn levels(&self) -> [f64; 2] {
        [self.wake_at[1], self.buffer]
    }

    /// How long a sender sleeps that is faster than the wire, each time; else zero.
    #[inline]
    pub(crate) fn sleep(&self) -> Nanos {
        self.current.sleep
    }

    /// Whether the sender is faster than the wire, so that it sleeps; how long each time, and how long it
    /// copies in between.
    #[inline]
    pub(crate) fn rest(&self) -> Option<(Nanos, Nanos)> {
        let Current { growth, rest, quantum, .. } = self.current;
        (growth > 0.0 && growth.is_finite()).then_some((rest, quantum[0] / self.sender))
    }

    /// A time by which `bytes` are surely copied from `now` on; infinite where the rate changes meanwhile.
    #[inline(always)]
    pub(crate) fn copied_by(&self, now: Nanos, bytes: f64) -> Nanos {
        let current = &self.current;
        let carried = bytes * current.nanos_per_byte;
        if self.drained.max(now) + carried > current.until || now < current.from {
            return f64::INFINITY;
        }
        // No more sleeps than the wire needs, and one that may be due.
        now + bytes / self.sender + carried + current.rest
    }

    /// When everything handed over so far has left the wire, if nothing more comes.
    #[inline]
    pub(crate) fn drained(&self, now: Nanos) -> Nanos {
        larger(larger(self.drained, self.worked), now)
    }

    /// When a message of `bytes` that the destination sends at `now` has left the wire on the way back.
    #[inline]
    pub(crate) fn back(&self, now: Nanos, bytes: f64) -> Nanos {
        // Most links stay as they are.
        if let [only] = self.schedule.as_slice() {
            return now + bytes / only.rate;
        }
        self.back_across(now, bytes)
    }

    /// The same where the rate changes.
    #[cold]
    fn back_across(&self, now: Nanos, bytes: f64) -> Nanos {
        let (mut at, mut left) = (now, bytes);
        let first = self.schedule.partition_point(|stretch| stretch.at <= now).saturating_sub(1);
        for index in first..self.schedule.len() {
            let (rate, end) = (self.schedule[index].rate, self.end_of(index));
            if at + left / rate <= end || end == f64::INFINITY {
                break;
            }
            left -= rate * (end - at);
            at = end;
        }
        let last = self.schedule.partition_point(|stretch| stretch.at <= at).saturating_sub(1);
        at + left / self.schedule.get(last).map_or(0.0, |stretch| stretch.rate)
    }

    /// Whole bytes that are handed over and not carried yet at `now`.
    #[inline]
    pub(crate) fn in_flight(&self, now: Nanos) -> ByteCount {
        let queued = if now >= self.current.from {
            (self.drained - now) * self.current.rate
        } else {
            self.queued(now)
        };
        // Nothing, if it is less than nothing. No queue has 2^63 bytes.
        ByteCount(whole_up(larger(queued, 0.0)).min(i64::MAX as u64))
    }

    /// Bytes handed over and still on their way at `now`.
    pub(crate) fn queued(&self, now: Nanos) -> f64 {
        let (mut at, mut index, mut queued) = (self.drained, self.current.index, 0.0);
        while at > now {
            let stretch = self.stretch(index);
            let from = stretch.from.max(now);
            // Nothing passes in an outage, however long it is.
            queued += if stretch.rate > 0.0 { stretch.rate * (at - from) } else { 0.0 };
            (at, index) = (from, index.wrapping_sub(1));
        }
        queued
    }

    /// When no more than `level` bytes are in the queue, if nothing more comes.
    #[inline]
    fn falls_to(&self, level: f64) -> Nanos {
        let Current { from, rate, nanos_per_byte, .. } = self.current;
        if rate > 0.0 && rate * (self.drained - from) >= level {
            return self.drained - level * nanos_per_byte;
        }
        self.falls_to_before(level)
    }

    /// The same if that may be in a stretch before.
    #[cold]
    fn falls_to_before(&self, level: f64) -> Nanos {
        let (mut at, mut left) = (self.drained, level);
        for index in (0..=self.current.index).rev() {
            let stretch = self.stretch(index);
            let here = stretch.rate * (at - stretch.from);
            if stretch.rate > 0.0 && here >= left {
                return at - left * stretch.nanos_per_byte;
            }
            left -= here.max(0.0);
            at = stretch.from;
        }
        at
    }

    fn stretch(&self, index: usize) -> Current {
        let Stretch { at, rate } =
            self.schedule.get(index).copied().unwrap_or(Stretch { at: f64::INFINITY, rate: 0.0 });
        let rate = rate.min(self.receiver);
        let room = (self.buffer - self.wake_at[1]).max(1.0);
        // In the time of copying a byte, `rate / sender` of one leaves.
        let growth = 1.0 / (self.sender - rate);
        let quantum = room * growth * self.sender;
        Current {
            index,
            from: at,
            until: self.end_of(index),
            rate,
            nanos_per_byte: 1.0 / rate,
            growth,
            quantum: [quantum, 1.0 / quantum],
            rest: room / rate,
            sleep: if growth > 0.0 && growth.is_finite() { room / rate } else { 0.0 },
        }
    }

    fn end_of(&self, index: usize) -> Nanos {
        self.schedule.get(index + 1).map_or(f64::INFINITY, |next| next.at)
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
mod tests;
