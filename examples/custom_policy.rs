//! A policy of one's own, compared with the presets: give up early on guests that cannot be moved.
//! `cargo run --release --example custom_policy`

use std::time::Duration;

use whimbrel::core::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
};
use whimbrel::core::progress::{Moment, Progress};
use whimbrel::core::units::{ByteCount, Pages};
use whimbrel::lab::{compare, workloads};

/// Stops the guest when the rest fits into the budget; gives up after three rounds that did not shrink by a tenth.
#[derive(Clone, Debug, Default)]
struct ShrinkOrLeave {
    before: Option<Pages>,
    failed: u64,
}

impl Policy for ShrinkOrLeave {
    fn name(&self) -> &'static str {
        "shrink-or-leave"
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let budget =
            progress.bandwidth.map_or(ByteCount(0), |rate| rate.bytes_in(Duration::from_millis(300)));
        let pending = ("pending", Quantity::Bytes(progress.pending_bytes()));
        let why = |how| Reason::new(pending, how, ("budget", Quantity::Bytes(budget)));
        if moment == Moment::RoundStart {
            if progress.pending_bytes() <= budget {
                let decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
                return Verdict::new(decision, why(Relation::AtMost));
            }
            let before = self.before.replace(progress.pending);
            let shrank = before.is_none_or(|before| progress.pending.0 * 10 < before.0 * 9);
            self.failed = if shrank { 0 } else { self.failed + 1 };
        }
        let decision = if self.failed >= 3 { Decision::Abort } else { Decision::Continue };
        Verdict::new(decision, why(Relation::Above)).holding(Until::ROUND_END)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut policies = compare::Contender::presets()?;
    policies.push(compare::Contender::new("mine", Box::new(ShrinkOrLeave::default())));
    let options = compare::Options { repeat: 2, ..compare::Options::default() };
    print!("{}", compare::run(&workloads::comparison()?, &policies, &options)?.summary());
    Ok(())
}
