//! A policy on a guest that is slowed from the beginning.

use whimbrel_core::policy::{Cadence, Policy, Verdict};
use whimbrel_core::progress::{Capabilities, Moment, Progress};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::CpuShare;

/// Another policy, with the guest throttled from its first verdict on until that policy sets a throttle of its own.
#[derive(Clone, Debug)]
pub(super) struct Slowed {
    pub(super) inner: Box<dyn Policy>,
    pub(super) share: CpuShare,
    pub(super) begun: bool,
}

impl Policy for Slowed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn cadence(&self) -> Cadence {
        self.inner.cadence()
    }

    fn needs(&self) -> Capabilities {
        Capabilities { throttle: true, ..self.inner.needs() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let mut verdict = self.inner.decide(moment, progress);
        if !self.begun && verdict.adjust.throttle.is_none() {
            verdict.adjust.throttle = Some(Throttle::duty_cycle(self.share));
        }
        self.begun = true;
        verdict
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
