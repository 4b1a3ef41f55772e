//! What a migration came to in numbers, without its rounds and without words: for runs by the million.

use std::time::Duration;

use whimbrel_core::report::{Ledger, Outcome};
use whimbrel_core::units::{ByteCount, Pages};

use super::near::NearThreshold;
use crate::guest::Lost;

/// The totals of a fluid run; the numbers that a [`Run`](crate::Run) has, under the same names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// How it ended.
    pub outcome: Outcome,
    /// It completed, not because the policy ran into a bound of its own and not by post-copy.
    pub converged: bool,
    /// From the configuration's sending to the end of cleaning up.
    pub total: Duration,
    /// The downtime by parts; zero if the guest was never handed over.
    pub downtime: Ledger,
    /// Time for which a guest that stayed at the source was paused in vain.
    pub paused_in_vain: Duration,
    /// Bytes handed to the transport.
    pub sent: ByteCount,
    /// Pages handed to the transport, zero pages among them.
    pub sent_pages: Pages,
    /// Passes over memory, the bulk round and the paused one counted.
    pub rounds: u32,
    /// What the guest lost.
    pub disruption: Lost,
    /// Pages found dirty whose content had not changed.
    pub unchanged_pages: Pages,
    /// CPU seconds of sending at the source.
    pub source_cpu_s: f64,
    /// From the pause to the first instruction at the destination.
    pub silence: Option<Duration>,
    /// From the pause until the network knows the guest's new place.
    pub unreachable: Option<Duration>,
    /// From the handover until every page was there, and how many were missing.
    pub post_copy: Option<(Duration, Pages)>,
    /// The decision that hung on chance the most, if any did.
    pub near_threshold: Option<NearThreshold>,
}

impl Totals {
    /// Bytes sent over so much guest memory; 1 is every page once.
    pub fn amplification(&self, memory: ByteCount) -> f64 {
        if memory.0 == 0 { 0.0 } else { self.sent.as_f64() / memory.as_f64() }
    }
}
