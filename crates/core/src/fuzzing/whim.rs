//! A policy that decides anything, for the world's machines. Nobody else uses it.

use std::time::Duration;

use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, ChangeError, Decision, Gate, Policy, Quantity, Reason, Relation,
    SwitchoverWhen, Verdict,
};
use crate::progress::{Moment, Progress};
use crate::throttle::Throttle;
use crate::units::CpuShare;

/// A policy that decides by a hash of what it sees: anything, but repeatably so.
#[derive(Clone, Debug)]
pub(super) struct Whim {
    pub(super) seed: u64,
    /// Changes with each change of a parameter.
    pub(super) mood: u64,
}

impl Policy for Whim {
    fn name(&self) -> &'static str {
        "whim"
    }

    fn cadence(&self) -> Cadence {
        Cadence {
            tick: (!self.seed.is_multiple_of(3)).then_some(Duration::from_millis(5)),
            bandwidth: if self.seed.is_multiple_of(2) {
                BandwidthWindow::Round
            } else {
                BandwidthWindow::Time(Duration::from_millis(3))
            },
            gate: if self.seed.is_multiple_of(5) { Gate::Wait } else { Gate::Pipelined },
        }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let mut hash = (self.seed ^ self.mood << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for part in [moment as u64, u64::from(progress.round), progress.pending.0, progress.now.as_nanos()] {
            hash = (hash ^ part).wrapping_mul(0xd134_2543_de82_ef95).rotate_left(23);
        }
        let late = progress.round > 12;
        let when = if hash & 64 == 0 { SwitchoverWhen::Now } else { SwitchoverWhen::AfterRound };
        let decision = match hash % 32 {
            _ if late => Decision::Switchover { when, forced: true },
            0 | 1 => Decision::Switchover { when, forced: false },
            2..=5 => Decision::Harvest,
            6 => Decision::Abort,
            7 | 8 => Decision::PostCopy,
            9 => Decision::Pause,
            _ => Decision::Continue,
        };
        let reason = Reason::new(
            ("hash", Quantity::Count(hash % 32)),
            Relation::Equal,
            ("hash", Quantity::Count(hash % 32)),
        );
        let throttle =
            (hash & 0x300 == 0).then(|| Throttle::duty_cycle(CpuShare::percent((hash >> 10 & 63) as u8)));
        Verdict::new(decision, reason).adjusting(Adjustments { throttle, ..Adjustments::default() })
    }

    fn set_parameter(&mut self, _name: &str, _value: &str) -> Result<(), ChangeError> {
        self.mood += 1;
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
