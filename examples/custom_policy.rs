//! A policy of one's own: give up early on guests that cannot be moved, instead of sending for hours.
//!
//! `cargo run --release --example custom_policy` runs it beside QEMU's rule, on a guest that converges and
//! on one that never does.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel::core::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict, presets,
};
use whimbrel::core::progress::{Moment, Progress};
use whimbrel::core::units::{ByteCount, Pages};
use whimbrel::sim::config::{GuestConfig, WriterConfig};
use whimbrel::sim::{Setup, SimError, simulate};

/// Stops the guest when the rest fits into the budget; gives up when rounds no longer shrink.
#[derive(Clone, Debug)]
struct ShrinkOrLeave {
    budget: Duration,
    /// Rounds in a row that may fail to shrink.
    patience: u64,
    before: Option<Pages>,
    failed: u64,
}

impl Policy for ShrinkOrLeave {
    fn name(&self) -> &'static str {
        "shrink-or-leave"
    }

    fn cadence(&self) -> Cadence {
        // Asked at the start and the end of rounds only.
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let pending = progress.pending_bytes();
        let budget = progress.bandwidth.map_or(ByteCount(0), |bandwidth| bandwidth.bytes_in(self.budget));
        let [left, right] = [("pending", Quantity::Bytes(pending)), ("budget", Quantity::Bytes(budget))];
        if moment != Moment::RoundStart {
            return Verdict::new(Decision::Continue, Reason::new(left, Relation::AtLeast, right))
                .holding(Until::ROUND_END);
        }
        if pending <= budget {
            let decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
            return Verdict::new(decision, Reason::new(left, Relation::AtMost, right));
        }
        // A tenth less than the round before counts as shrinking.
        let shrank = self.before.is_none_or(|before| progress.pending.0 < before.0 / 10 * 9);
        self.failed = if shrank { 0 } else { self.failed + 1 };
        self.before = Some(progress.pending);
        let patience = ("patience", Quantity::Count(self.patience));
        if self.failed >= self.patience {
            let failed = ("rounds that did not shrink", Quantity::Count(self.failed));
            let reason = Reason::new(failed, Relation::AtLeast, patience).with(left.0, left.1);
            return Verdict::new(Decision::Abort, reason);
        }
        Verdict::new(Decision::Continue, Reason::new(left, Relation::Above, right)).holding(Until::ROUND_END)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limit = BTreeMap::from([("downtime-limit".to_owned(), "300ms".to_owned())]);
    let own = ShrinkOrLeave { budget: Duration::from_millis(300), patience: 3, before: None, failed: 0 };
    let policies: [Box<dyn Policy>; 2] = [presets::build("qemu-default", &limit)?, Box::new(own)];
    for rate in [5_000.0, 100_000.0] {
        println!("{rate} page writes a second over 1 GiB, 1 Gbit/s");
        for policy in &policies {
            tell(policy.as_ref(), rate)?;
        }
    }
    Ok(())
}

fn tell(policy: &dyn Policy, rate: f64) -> Result<(), SimError> {
    let writer = WriterConfig { working_set: ByteCount::gib(1), rate, ..WriterConfig::default() };
    let guest = GuestConfig { writers: vec![writer], ..GuestConfig::default() };
    let mut setup = Setup::new(guest, policy.boxed_clone());
    setup.time_limit = Duration::from_mins(10);
    let report = simulate(&setup)?.report;
    println!(
        "  {:<16} {} after {} rounds, {:.1} s, {}: {}",
        policy.name(),
        report.outcome,
        report.rounds.len(),
        report.total.as_secs_f64(),
        report.sent.human(),
        report.why
    );
    Ok(())
}
