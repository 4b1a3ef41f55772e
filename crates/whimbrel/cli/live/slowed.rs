//! What a guest loses to the throttle while it is moved: added up from what the source's driver says.

use std::time::Duration;

use whimbrel_core::machine::SourcePhase;
use whimbrel_core::units::{Timestamp, VcpuSeconds};
use whimbrel_engine::observer::Event;
use whimbrel_sim::Lost;

/// Shares of the vCPUs' time over the time for which they were taken.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Slowed {
    vcpus: f64,
    /// The share in force, and since when.
    now: (f64, Timestamp),
    lost: f64,
}

impl Slowed {
    /// Of a guest with so many vCPUs, which runs freely.
    pub(in super::super) fn new(vcpus: u32) -> Self {
        Self { vcpus: f64::from(vcpus), now: (0.0, Timestamp::ZERO), lost: 0.0 }
    }

    /// Something happened.
    pub(in super::super) fn see(&mut self, at: Timestamp, event: &Event<'_>) {
        let share = match event {
            Event::Throttle(throttle) => throttle.share().as_f64(),
            // It stands still: that is counted as pause.
            Event::Source(SourcePhase::Pausing) => 0.0,
            _ => return,
        };
        let (before, since) = self.now;
        self.lost += before * at.since(since).as_secs_f64() * self.vcpus;
        self.now = (share, at);
    }

    /// What it lost so far, and to standing still for so long.
    pub(in super::super) fn lost(&self, paused: Duration) -> Lost {
        let seconds = |seconds: f64| VcpuSeconds::new(seconds).unwrap_or(VcpuSeconds::ZERO);
        let pause = seconds(paused.as_secs_f64() * self.vcpus);
        Lost { throttle: seconds(self.lost), pause, ..Lost::default() }
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_core::throttle::Throttle;
    use whimbrel_core::units::CpuShare;

    use super::*;

    #[test]
    fn the_throttle_counts_until_the_guest_stands_still() {
        let mut slowed = Slowed::new(4);
        let at = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
        let throttle = Throttle::DutyCycle { share: CpuShare::percent(25), run: Duration::from_millis(10) };
        slowed.see(at(10), &Event::Throttle(throttle));
        slowed.see(at(12), &Event::Connected);
        slowed.see(at(14), &Event::Source(SourcePhase::Pausing));
        let lost = slowed.lost(Duration::from_secs(3));
        assert!((lost.throttle.as_f64() - 4.0).abs() < 1e-9, "4 vCPUs, 4 s, a quarter: {lost:?}");
        assert!((lost.pause.as_f64() - 12.0).abs() < 1e-9, "{lost:?}");
    }
}
