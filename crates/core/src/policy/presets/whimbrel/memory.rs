//! What a migration has shown so far.

use std::time::Duration;

use crate::forecast::{DirtyCurve, Forecast, HostPair, SendRate};
use crate::progress::Progress;
use crate::units::{ByteCount, CpuShare, Timestamp};

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    curve: DirtyCurve,
    rate: SendRate,
    /// Bytes sent, and when, as of the last look.
    mark: (ByteCount, Timestamp),
    /// When the dirty log was last fetched.
    harvest: Timestamp,
    /// The part of a throttle that the guest really feels; none before it was slowed.
    felt: Option<f64>,
    /// What a round takes beside its bytes: the way of its acknowledgement. The least that was seen, seconds;
    /// none before a round after the first was.
    latency: Option<f64>,
    /// Bytes that a page became in the last rounds after the first; none before those.
    page_bytes: Option<f64>,
}

/// A shorter time of sending is no measure of the rate, seconds (ours).
const LONG: f64 = 0.05;

/// How much of a throttle's share is felt, before it was seen: paced programs catch up part of a sleep, busy
/// ones nothing (ours).
const FELT: f64 = 0.6;

impl Memory {
    /// The bulk round starts.
    pub(super) fn begin(&mut self, progress: &Progress) {
        self.mark = (progress.sent, progress.now);
        self.harvest = progress.now;
    }

    /// Something was sent since the last look.
    pub(super) fn sent(&mut self, progress: &Progress) {
        let bytes = ByteCount(progress.sent.0.saturating_sub(self.mark.0.0));
        self.rate.observe(bytes, progress.now.since(self.mark.1));
        self.mark = (progress.sent, progress.now);
    }

    /// A round has ended. Not the first: its zero pages say nothing of those that are written.
    pub(super) fn round_ended(&mut self, progress: &Progress) {
        let bytes = ByteCount(progress.sent.0.saturating_sub(self.mark.0.0));
        let time = progress.now.since(self.mark.1).as_secs_f64();
        if let Some(rate) = self.rate.bandwidth().filter(|_| progress.round > 0) {
            // The link's own rate is seen in long rounds; what is more in a short one is the way there and back.
            let more = (time - bytes.as_f64() / rate.as_f64()).max(0.0);
            self.latency = Some(self.latency.map_or(more, |least| least.min(more)));
        }
        let carried = time - self.latency.unwrap_or(0.0);
        if carried >= LONG || self.rate.bandwidth().is_none() {
            self.rate.observe(bytes, Duration::try_from_secs_f64(carried).unwrap_or_default());
        }
        self.mark = (progress.sent, progress.now);
        if progress.round == 0 || progress.round_sent_pages.0 < 64 {
            return;
        }
        let became = progress.round_sent.as_f64() / progress.round_sent_pages.as_f64();
        self.page_bytes = Some(self.page_bytes.map_or(became, |before| 0.5 * (before + became)));
    }

    /// A round starts; meanwhile the guest was slowed by `share`.
    pub(super) fn harvested(&mut self, progress: &Progress, share: CpuShare) {
        let window = progress.now.since(self.harvest);
        let share = share.as_f64();
        if share > 0.0 {
            self.feel(progress, window, share);
        }
        let speed = self.speed(share);
        self.curve.observe(window.mul_f64(speed), progress.dirtied);
        self.harvest = progress.now;
        // The time of the harvest is no time of sending.
        self.mark = (progress.sent, progress.now);
    }

    /// The speed of a guest of whose CPU this share is taken.
    pub(super) fn speed(&self, share: f64) -> f64 {
        (1.0 - self.felt.unwrap_or(FELT) * share).clamp(0.02, 1.0)
    }

    /// How much of a throttle was felt: at which speed the guest would have dirtied what it did.
    fn feel(&mut self, progress: &Progress, window: Duration, share: f64) {
        let dirtied = progress.dirtied.as_f64();
        let (mut low, mut high) = (0.02, 1.0);
        for _ in 0..12 {
            let middle = 0.5 * (low + high);
            let Some(expected) = self.curve.expect(window.mul_f64(middle)) else { return };
            if expected.pages < dirtied { low = middle } else { high = middle }
        }
        let felt = ((1.0 - 0.5 * (low + high)) / share).clamp(0.0, 1.0);
        self.felt = Some(self.felt.map_or(felt, |before| 0.5 * (before + felt)));
    }

    /// How long the rest of the bulk round takes at the pace of its pages so far.
    pub(super) fn pace(progress: &Progress) -> Option<Duration> {
        let took = progress.now.since(progress.round_started).as_secs_f64();
        let rest = took * progress.pending.as_f64() / progress.round_sent_pages.as_f64();
        Duration::try_from_secs_f64(rest).ok()
    }

    /// What is to be expected of a guest that goes at this speed; none before anything was sent.
    pub(super) fn forecast(
        &self,
        progress: &Progress,
        host: HostPair,
        share: CpuShare,
    ) -> Option<Forecast<'_>> {
        let bandwidth = self.rate.bandwidth()?;
        let whole = progress.page_size.bytes().as_f64();
        let page_bytes = self.page_bytes.unwrap_or(whole * 1.002).max(1.0);
        let harvest = if progress.fixed_costs.is_zero() {
            host.harvest_of(progress.memory.bytes(progress.page_size))
        } else {
            progress.fixed_costs
        };
        let latency = Duration::try_from_secs_f64(self.latency.unwrap_or(0.0)).unwrap_or_default();
        let (curve, speed) = (&self.curve, self.speed(share.as_f64()));
        Some(Forecast { curve, bandwidth, page_bytes, harvest, latency, host, speed })
    }
}
