//! What a migration has shown so far.

use std::time::Duration;

use crate::forecast::{DirtyCurve, Early, Forecast, HostPair, SendRate};
use crate::progress::Progress;
use crate::units::{ByteCount, CpuShare, Timestamp};

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    curve: DirtyCurve,
    rate: SendRate,
    /// Bytes carried, and when, as of the last look.
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
    /// Bytes in flight when it last looked inside a round.
    queue: ByteCount,
    /// The rate at which pages that were left pending were written again, per second at full speed; none before
    /// any were left.
    again: Option<f64>,
    /// Rounds that were to be harvested early to see what that comes to.
    trials: u32,
}

/// Bytes that the transport has carried.
fn carried(progress: &Progress) -> ByteCount {
    ByteCount(progress.sent.0.saturating_sub(progress.in_flight.map_or(0, |bytes| bytes.0)))
}

/// A shorter time of sending is no measure of the rate, seconds (ours).
const LONG: f64 = 0.05;

/// So many early harvests show what they lead to (ours).
const TRIED: u32 = 4;
/// A guest that writes more than this share of the pages left in less than this part of a round writes all there are
/// all the time (ours).
const SATURATED: (f64, f64) = (0.95, 0.6);

/// How much of a throttle's share is felt, before it was seen: paced programs catch up part of a sleep, busy
/// ones nothing (ours).
const FELT: f64 = 0.6;

impl Memory {
    /// The bulk round starts.
    pub(super) fn begin(&mut self, progress: &Progress) {
        self.mark = (carried(progress), progress.now);
        self.harvest = progress.now;
    }

    /// Something was sent since the last look.
    pub(super) fn sent(&mut self, progress: &Progress) {
        let bytes = ByteCount(carried(progress).0.saturating_sub(self.mark.0.0));
        self.rate.observe(bytes, progress.now.since(self.mark.1));
        self.mark = (carried(progress), progress.now);
        self.queue = progress.in_flight.unwrap_or(ByteCount(0));
    }

    /// The round in progress is about to be harvested, though pages are pending.
    pub(super) fn ends_early(&mut self, progress: &Progress) {
        self.sent(progress);
        self.weigh(progress);
    }

    /// What pages become, not those of the first round: its zero pages say nothing of those that are written.
    fn weigh(&mut self, progress: &Progress) {
        if progress.round == 0 || progress.round_sent_pages.0 < 64 {
            return;
        }
        let became = progress.round_sent.as_f64() / progress.round_sent_pages.as_f64();
        self.page_bytes = Some(self.page_bytes.map_or(became, |before| 0.5 * (before + became)));
    }

    /// Everything of a round was sent.
    pub(super) fn round_ended(&mut self, progress: &Progress) {
        let bytes = ByteCount(carried(progress).0.saturating_sub(self.mark.0.0));
        let time = progress.now.since(self.mark.1).as_secs_f64();
        if let Some(rate) = self.rate.bandwidth().filter(|_| progress.round > 0) {
            // The link's own rate is seen in long rounds; what is more in a short one is the way there and back.
            let more = (time - bytes.as_f64() / rate.as_f64()).max(0.0);
            self.latency = Some(self.latency.map_or(more, |least| least.min(more)));
        }
        let passing = time - self.latency.unwrap_or(0.0);
        // Nothing was seen yet of the way of acknowledgements when the first round ends.
        if (passing >= LONG && progress.round > 0) || self.rate.bandwidth().is_none() {
            self.rate.observe(bytes, Duration::try_from_secs_f64(passing).unwrap_or_default());
        }
        self.mark = (carried(progress), progress.now);
        self.weigh(progress);
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
        self.left_again(progress, window.as_secs_f64() * speed);
        self.harvest = progress.now;
        // The time of the harvest is no time of sending.
        self.mark = (carried(progress), progress.now);
    }

    /// Of what was left pending some was written again.
    fn left_again(&mut self, progress: &Progress, window: f64) {
        let left = progress.left_over.as_f64();
        if left < 64.0 || window <= 0.0 {
            return;
        }
        let both = left + progress.dirtied.as_f64() - progress.pending.as_f64();
        let whole =
            self.rate.bandwidth().map_or(0.0, |rate| progress.pending_bytes().as_f64() / rate.as_f64());
        if both > SATURATED.0 * left && window < SATURATED.1 * whole {
            // Everything is written in a part of a whole round: early harvests win nothing.
            self.trials = TRIED;
        }
        let again = -(1.0 - (both / left).clamp(0.0, 0.999)).ln() / window;
        self.again = Some(self.again.map_or(again, |before| 0.5 * (before + again)));
    }

    /// The rate at which pending pages are written again: as it was seen, else as the curve has it for these, in a
    /// round of so long.
    pub(super) fn again(&self, forecast: &Forecast<'_>, pending: f64) -> f64 {
        self.again.unwrap_or_else(|| {
            let window = forecast.round(pending).as_secs_f64() * forecast.speed;
            Early::again(forecast, pending, 0.5 * window)
        })
    }

    /// A round is to be harvested early to see what that comes to.
    pub(super) fn tries(&mut self) {
        self.trials = self.trials.saturating_add(1);
    }

    /// Whether that was tried often enough.
    pub(super) fn has_tried(&self) -> bool {
        self.trials >= TRIED
    }

    /// What the last pages wait for if the guest is paused right after a harvest inside a round.
    pub(super) fn behind_early(&self, forecast: &Forecast<'_>) -> Duration {
        let harvests = forecast.harvest.saturating_mul(2);
        forecast.bandwidth.time_to_send(self.queue).saturating_sub(harvests)
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
        let in_flight = progress.in_flight.unwrap_or(ByteCount(0));
        let behind = bandwidth.time_to_send(in_flight).saturating_sub(harvest);
        Some(Forecast { curve, bandwidth, page_bytes, harvest, latency, behind, host, speed })
    }
}
