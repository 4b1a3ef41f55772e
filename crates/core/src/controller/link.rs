//! What sending shows of the link: its rate, the way there and back, and what lies in its buffers.

use std::time::Duration;

use super::chance::Changes;
use crate::forecast::SendRate;
use crate::units::{Bandwidth, ByteCount, Timestamp};

/// A shorter time is no measure of the rate: buffers and the way of an acknowledgement blur it.
const LONG: Duration = Duration::from_millis(50);
/// A stretch whose rate is off the others' by this factor is something else than they are: a gap if the next is as
/// they were, a change if it is not (ours).
const OTHER: f64 = 1.25;
/// What is taken to lie in the buffers of a link that is the bottleneck, until an acknowledgement tells
/// (measured: about 3.2 MiB in the reference runs).
const BUFFER: f64 = 3.0 * 1024.0 * 1024.0;

/// What is known of the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    rate: SendRate,
    /// What was sent when the stretch that is being measured began, and when that was.
    mark: (ByteCount, Timestamp),
    /// A stretch that was unlike those before it: whether it was a gap or a change the next one tells.
    doubtful: Option<(ByteCount, Duration)>,
    /// How much stretches were off the rate before them: the mean square of the logarithm.
    varied: f64,
    changes: Changes,
    round_trip: Duration,
    buffer: f64,
    /// Bytes that lie in the buffers, reckoned with what was handed over, and when.
    queued: (f64, Timestamp),
    sent: ByteCount,
    /// When the end of the last round was handed over, and what lay before it in the buffers.
    closed: Option<(Timestamp, f64)>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            rate: SendRate::default(),
            mark: (ByteCount(0), Timestamp::ZERO),
            doubtful: None,
            varied: 0.0,
            changes: Changes::default(),
            round_trip: Duration::ZERO,
            buffer: BUFFER,
            queued: (0.0, Timestamp::ZERO),
            sent: ByteCount(0),
            closed: None,
        }
    }
}

impl Link {
    /// So much was sent until `now`; a new stretch begins.
    pub(super) fn mark(&mut self, sent: ByteCount, now: Timestamp) {
        self.mark = (sent, now);
    }

    /// A message of no size was answered after this time.
    pub(super) fn answered(&mut self, after: Duration) {
        self.round_trip = after;
    }

    /// So much was handed over until `now`.
    pub(super) fn sent(&mut self, sent: ByteCount, now: Timestamp) {
        let handed = sent.0.saturating_sub(self.sent.0) as f64;
        self.sent = sent;
        // Before a rate is known the link is taken to be what binds.
        let left = self.queued(now).unwrap_or(self.buffer);
        self.queued = ((left + handed).min(self.buffer), now);
        if now.since(self.mark.1) >= LONG {
            self.measure(sent, now);
        }
    }

    /// A round is over: if nothing else told the rate, it does.
    pub(super) fn round_over(&mut self, sent: ByteCount, now: Timestamp) {
        if self.rate.bandwidth().is_none() {
            self.measure(sent, now);
        }
    }

    fn measure(&mut self, sent: ByteCount, now: Timestamp) {
        let stretch = (ByteCount(sent.0.saturating_sub(self.mark.0.0)), now.since(self.mark.1));
        self.mark = (sent, now);
        let rate = |(bytes, time): (ByteCount, Duration)| bytes.as_f64() / time.as_secs_f64().max(1e-9);
        let unlike = |known: f64, seen: f64| seen > known * OTHER || seen < known / OTHER;
        let Some(known) = self.rate.bandwidth().map(Bandwidth::as_f64) else {
            return self.rate.observe(stretch.0, stretch.1);
        };
        match (self.doubtful.take(), unlike(known, rate(stretch))) {
            (_, false) => {
                let off = (rate(stretch) / known).ln();
                self.varied += 0.2 * (off * off - self.varied);
                self.rate.observe(stretch.0, stretch.1);
            }
            (None, true) => self.doubtful = Some(stretch),
            (Some(before), true) => {
                self.changes.seen((rate(stretch) / known).max(1e-3).ln());
                self.rate = SendRate::default();
                if !unlike(rate(before), rate(stretch)) {
                    self.rate.observe(before.0, before.1);
                }
                self.rate.observe(stretch.0, stretch.1);
            }
        }
    }

    /// The end of a round was handed over.
    pub(super) fn closed(&mut self, now: Timestamp) {
        self.closed = self.queued(now).map(|queued| (now, queued));
    }

    /// The end of the round that was closed last has arrived, and the answer, too.
    pub(super) fn acknowledged(&mut self, now: Timestamp) {
        let (Some((at, queued)), Some(rate)) = (self.closed.take(), self.rate.bandwidth()) else { return };
        let way = now.since(at).saturating_sub(self.round_trip).as_secs_f64();
        let drained = way * rate.as_f64();
        if queued >= 0.9 * self.buffer && drained > 0.0 {
            self.buffer = drained;
        }
        self.queued.0 = self.queued.0.min(self.buffer);
    }

    /// Bytes that lie in the buffers now; none before a rate is known.
    pub(super) fn queued(&self, now: Timestamp) -> Option<f64> {
        let rate = self.rate.bandwidth()?.as_f64();
        Some((self.queued.0 - rate * now.since(self.queued.1).as_secs_f64()).max(0.0))
    }

    /// The rate of the last seconds, gaps left out; none before anything was seen.
    pub(super) fn bandwidth(&self) -> Option<Bandwidth> {
        self.rate.bandwidth()
    }

    /// By how much the rate varied from one stretch to the next: the standard deviation of its logarithm.
    pub(super) fn varied(&self) -> f64 {
        self.varied.sqrt()
    }

    /// Lasting changes of the rate.
    pub(super) fn changes(&self) -> Changes {
        self.changes
    }

    /// The way there and back.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Bytes that the buffers take.
    pub(super) fn buffer(&self) -> f64 {
        self.buffer
    }
}

#[cfg(test)]
mod tests;
