//! Managers: what sits above a hypervisor and moves its downtime limit (nova, Proxmox VE, oVirt, kubevirt).
//!
//! None of them decides about a switchover by itself: QEMU below does, by its own rule. A manager looks
//! at the migration now and then (a *poll*), and then may raise QEMU's downtime limit, pause the guest,
//! go over to post-copy or give up. A preset here is therefore a [`Hypervisor`] and the product's rule
//! for the polls:
//!
//! ```text
//! asked at a moment:
//!     if a poll is due: poll                     # once, however late; the limit may change
//!     abort ordered: that
//!     ask QEMU's rule with the limit as it is now
//!         it switches over: that; `forced` if the guest is paused or the limit was lifted to force it
//!     pause or post-copy ordered: that; at a round's end, once the harvest that follows is made
//!     the answer holds until QEMU's would change, or the next poll that could change something
//! ```
//!
//! * A poll that remembers what it saw (kubevirt's and oVirt's remainder, Proxmox VE's average) must be
//!   made: the answer then holds no longer than to the next one. Nova's polls remember nothing, so it
//!   says when the next step or the timeout is, which may be minutes ahead.
//! * Time counts from the start of the migration, and the first poll is due one interval after it. Where a
//!   product starts its clock a moment earlier or later was not checked, and is below an interval.
//! * [`POLLED`] and [`AFTER_PAUSE`] are what people are told of polls.
//! * "Remaining" is what is pending, in bytes: QEMU's own counter, which it corrects at each harvest.
//!
//! What a manager must never do here: decide by what a skipped tick showed, or ask the hypervisor's rule
//! twice at a moment (QEMU's throttling counts what it sees).

mod kubevirt;
mod nova;
mod ovirt;
mod proxmox;

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::parameters::{Given, LONGEST_LIMIT, UNLIMITED, cap_text, on_off};
use super::{AutoConverge, ParameterInfo, ParameterKind, PresetError, PresetInfo, Qemu, QemuDefault, Source};
use crate::policy::{Cadence, Decision, RateLimit, Reason, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Bandwidth, Timestamp};

pub(super) use self::kubevirt::legacy::{INFO_LEGACY as KUBEVIRT_LEGACY, INFO_STEPPED as KUBEVIRT_STEPPED};
pub(super) use self::kubevirt::stall::INFO as KUBEVIRT_STALL;
pub(super) use self::nova::INFO as NOVA;
pub(super) use self::ovirt::{
    INFO_MINIMAL as OVIRT_MINIMAL, INFO_POSTCOPY as OVIRT_POSTCOPY, INFO_SUSPEND as OVIRT_SUSPEND,
};
pub(super) use self::proxmox::INFO as PROXMOX;

/// QEMU's downtime limit where nobody has set one.
const UNSET_LIMIT: Duration = Duration::from_millis(300);
/// What a parameter that is switched accepts.
const SWITCH: ParameterKind = ParameterKind::Choice(&["off", "on"]);
/// A downtime, as QEMU accepts it.
const DOWNTIME: ParameterKind = ParameterKind::Duration { most: Some(LONGEST_LIMIT) };
/// A cap of the sending rate.
const CAP: ParameterKind = ParameterKind::OptionalBandwidth { none: UNLIMITED };

/// What people should know of a manager's polls.
const POLLED: &str = "Assumed: a poll takes no time and never fails. It is made at the first moment asked at \
     or after it is due; moments are slices of QEMU's sending (51 ms) and the ends of rounds, so it is up to \
     a slice late.";
/// And of the deadlines of those that have one.
const AFTER_PAUSE: &str = "Not modelled: polls go on while QEMU sends the rest with the guest paused, and \
     their deadlines abort that too. Here a deadline ends with the decision to switch over.";

/// What a manager orders at a poll, and why.
#[derive(Clone, Debug, PartialEq)]
struct Order {
    /// [`Decision::Pause`], [`Decision::PostCopy`] or [`Decision::Abort`].
    decision: Decision,
    reason: Reason,
}

/// QEMU as a manager sees it: its rule, whose downtime limit can be moved.
#[derive(Clone, Debug)]
struct Hypervisor {
    qemu: Qemu,
    /// The limit was lifted so that QEMU switches over whatever is left.
    forced: bool,
    /// An order that waits for the next harvest.
    waiting: Option<Order>,
}

impl Hypervisor {
    fn new(downtime_limit: Duration, max_bandwidth: Option<Bandwidth>, auto_converge: bool) -> Self {
        let rule = QemuDefault { downtime_limit, switchover_bandwidth: None, max_bandwidth };
        let qemu =
            if auto_converge { Qemu::converging(rule, AutoConverge::default()) } else { Qemu::new(rule) };
        Self { qemu, forced: false, waiting: None }
    }

    /// Moves the downtime limit, and so takes a forced one back; QEMU takes no more than its longest.
    fn set_limit(&mut self, limit: Duration) {
        self.forced = false;
        self.qemu.rule.downtime_limit = limit.min(LONGEST_LIMIT);
    }

    /// Lifts the downtime limit so far that QEMU switches over without having converged.
    fn force(&mut self, limit: Duration) {
        self.set_limit(limit);
        self.forced = true;
    }

    /// The cap of the sending rate.
    fn cap(&self) -> Option<Bandwidth> {
        self.qemu.rule.max_bandwidth
    }

    /// Changes the cap of the sending rate; the next verdict says so.
    fn set_cap(&mut self, cap: Option<Bandwidth>) {
        self.qemu.rule.max_bandwidth = cap;
    }

    fn cadence(&self) -> Cadence {
        self.qemu.cadence()
    }

    fn needs(&self) -> Capabilities {
        self.qemu.needs()
    }

    /// What follows at this moment from the manager's order, if it gave one, and from QEMU's rule. The
    /// manager is to be asked again at `next`.
    fn decide(
        &mut self,
        moment: Moment,
        progress: &Progress,
        order: Option<Order>,
        next: Timestamp,
    ) -> Verdict {
        // A new order replaces one that waits; a guest that is paused can't be paused.
        let waiting = self.waiting.take();
        let done = |order: &Order| order.decision == Decision::Pause && progress.paused;
        let order = order.or(waiting).filter(|order| !done(order));
        if let Some(Order { decision: Decision::Abort, reason }) = order {
            return Verdict::new(Decision::Abort, reason);
        }
        let mut verdict = self.qemu.decide(moment, progress);
        if let Decision::Switchover { when, forced } = verdict.decision {
            let forced = forced || self.forced || progress.paused;
            verdict.decision = Decision::Switchover { when, forced };
            return verdict;
        }
        match order {
            // The harvest comes first, unasked.
            Some(order) if moment == Moment::RoundEnd => self.waiting = Some(order),
            Some(order) => {
                if order.decision == Decision::PostCopy {
                    // The cap is for pre-copy.
                    verdict.adjust.rate_limit = Some(RateLimit::Unlimited);
                }
                return Verdict::new(order.decision, order.reason).adjusting(verdict.adjust);
            }
            None => {}
        }
        verdict.until.at = verdict.until.at.min(next);
        verdict
    }
}

/// When a manager that remembers its polls makes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Polls {
    next: Timestamp,
}

impl Polls {
    /// The first poll is due after `interval`.
    fn every(interval: Duration) -> Self {
        Self { next: Timestamp::ZERO.saturating_add(interval) }
    }

    /// Whether a poll is due; it is then made, and the next is due `interval` later.
    fn take_due(&mut self, now: Timestamp, interval: Duration) -> bool {
        let due = now >= self.next;
        if due {
            self.made(now, interval);
        }
        due
    }

    /// A poll was made; the next is due `interval` later.
    fn made(&mut self, now: Timestamp, interval: Duration) {
        self.next = now.saturating_add(interval);
    }
}
