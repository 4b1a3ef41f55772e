//! Convergence policies: when to go on, when to stop, and why.
//!
//! A [`Policy`] is a pure function of [`Progress`] with memory: the controller calls it on its tick,
//! when a round starts and when it ends, and obeys the [`Verdict`]. A policy reads no clock, draws no
//! random number and never sees the ground it runs on. Presets are values with parameters
//! ([`presets`]); whoever wants another policy implements the trait.
//!
//! Every verdict says *why* ([`Reason`]) and *until when* ([`Until`]): the reason is what a person
//! reads in the table of rounds, `until` lets a simulator skip the ticks at which nothing can change.

pub mod presets;
mod reason;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::reason::{Input, Quantity, Reason, Relation};
use crate::progress::{Capabilities, Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{Bandwidth, Pages, Timestamp};

/// Decides how a migration goes on.
///
/// # Contract
///
/// * Called in the order of time, with one [`Progress`] a call; the same calls give the same verdicts.
/// * Between ticks the policy may be skipped while its last [`Until`] does not hold: such calls must
///   neither change the answer nor be missed in the policy's memory.
/// * It never panics, whatever the numbers.
pub trait Policy: fmt::Debug + Send + Sync {
    /// The name of the preset, or of the policy's own.
    fn name(&self) -> &str;

    /// Its parameters by name, as texts that [`presets::build`] reads back: with the name they say in a
    /// journal which policy it was. A policy that is no preset may leave them out.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// How it wants to be called and measured: the same as long as no parameter is changed, so that it is read
    /// only when the policy begins and after [`Policy::set_parameter`]. The length of a tick alone may change with what
    /// it plans: where there is one, it is read again whenever the policy has decided at the start of a round.
    fn cadence(&self) -> Cadence;

    /// What it needs of the ground; more than the ground offers is refused before the migration starts.
    fn needs(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Why no migration of this guest can be what the policy is to make of it, as far as that is known before
    /// anything was done: `progress` is the record at the very start. Such a migration is given up before the
    /// destination hears of it and the guest is touched.
    fn refuses(&self, progress: &Progress) -> Option<Reason> {
        let _ = progress;
        None
    }

    /// Decides.
    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict;

    /// Changes a parameter while the migration runs, as an administrator of the product can. The next
    /// verdict follows it, and makes the adjustments that follow from it.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if it can't be changed, or not to that; the policy is then as before.
    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        let _ = value;
        Err(ChangeError {
            policy: self.name().to_owned(),
            parameter: name.to_owned(),
            why: "it can't be changed while the migration runs".to_owned(),
        })
    }

    /// A copy with the same memory, so that a run can be forked at any moment.
    fn boxed_clone(&self) -> Box<dyn Policy>;
}

impl Clone for Box<dyn Policy> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}

/// Why a parameter was not changed while the migration runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parameter `{parameter}` of policy `{policy}`: {why}")]
pub struct ChangeError {
    /// The policy.
    pub policy: String,
    /// The parameter.
    pub parameter: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

/// How a policy wants to be called, and how what it reads is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cadence {
    /// Time of sending between two ticks; none: only the ends of rounds.
    #[serde(with = "crate::units::duration::option")]
    pub tick: Option<Duration>,
    /// Over what the bandwidth is measured.
    pub bandwidth: BandwidthWindow,
    /// Whether the source waits at a round's end until the destination has acknowledged it.
    pub gate: Gate,
}

/// Over what the bandwidth in [`Progress`] is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BandwidthWindow {
    /// Over the last window of at least this length, looked at when a slice of sending ends
    /// (QEMU: 100 ms, `BUFFER_DELAY`).
    Time(#[serde(with = "crate::units::duration")] Duration),
    /// Over the last whole round, from its first page to its end (its acknowledgement, if the source
    /// waits for it).
    Round,
}

/// What the source does at the end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Goes on; the acknowledgement arrives when it arrives.
    Pipelined,
    /// Waits for the acknowledgement (Cloud Hypervisor).
    Wait,
}

/// What a policy answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// What happens now.
    pub decision: Decision,
    /// What is changed besides.
    #[serde(default, skip_serializing_if = "Adjustments::is_empty")]
    pub adjust: Adjustments,
    /// Before this holds, a tick gets the same answer.
    pub until: Until,
    /// The rule that decided.
    pub reason: Reason,
}

impl Verdict {
    /// A verdict that adjusts nothing and must be asked again at the next moment.
    #[inline]
    pub fn new(decision: Decision, reason: Reason) -> Self {
        Self { decision, adjust: Adjustments::default(), until: Until::NEXT, reason }
    }

    /// The same, holding until `until`.
    #[inline]
    #[must_use]
    pub fn holding(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// The same, with changes besides.
    #[must_use]
    pub fn adjusting(mut self, adjust: Adjustments) -> Self {
        self.adjust = adjust;
        self
    }
}

/// What happens now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Decision {
    /// Go on sending; when nothing is pending, harvest and start the next round.
    Continue,
    /// Harvest now, though pages are pending: a new round starts with them and what is found dirty.
    Harvest,
    /// Pause the guest, send the rest, hand over.
    Switchover {
        /// Whether what is pending is still sent live.
        when: SwitchoverWhen,
        /// The policy did not find the remainder small enough but ran into a bound of its own (rounds,
        /// time, bytes): the migration completes without having converged.
        forced: bool,
    },
    /// Hand over now and fetch the rest afterwards. The policy is not asked again.
    PostCopy,
    /// Pause the guest and go on: harvest and send rounds, which end because nobody writes. The policy
    /// is asked as before, sees [`Progress::paused`], and says when to switch over.
    Pause,
    /// Give up: the guest stays at the source.
    Abort,
}

/// Which set is sent live before a switchover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchoverWhen {
    /// Pause at once; what is pending is sent while the guest is paused (Cloud Hypervisor, QEMU).
    Now,
    /// What is pending is still sent live, then the guest is paused (Xen).
    AfterRound,
}

/// Changes that a verdict makes besides its decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Adjustments {
    /// How the guest is slowed from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// Limit of the sending rate from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

impl Adjustments {
    /// Nothing is changed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.throttle.is_none() && self.rate_limit.is_none()
    }

    /// These, or those that `newer` has in their place.
    #[must_use]
    pub fn replaced_by(self, newer: Self) -> Self {
        Self { throttle: newer.throttle.or(self.throttle), rate_limit: newer.rate_limit.or(self.rate_limit) }
    }
}

/// A limit of the sending rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateLimit {
    /// As fast as the link takes it.
    Unlimited,
    /// No more than this, over windows of the ground's own (QEMU's are 100 ms).
    AtMost(Bandwidth),
}

/// When the answer of a policy can change at a tick: as soon as one of the three holds.
///
/// Only for the moments between: the start and the end of a round are always asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Until {
    /// The time is at least this.
    pub at: Timestamp,
    /// No more than this is pending.
    pub pending: Pages,
    /// The bandwidth in [`Progress`] is above this; none: whatever it is. (A policy that waits for a
    /// bandwidth to become known answers with [`Until::NEXT`].)
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bandwidth: Option<Bandwidth>,
}

impl Until {
    /// At the very next moment: nothing may be skipped.
    pub const NEXT: Self = Self { at: Timestamp::ZERO, pending: Pages(u64::MAX), bandwidth: None };

    /// Not before the round ends.
    pub const ROUND_END: Self = Self { at: Timestamp::MAX, pending: Pages(0), bandwidth: None };

    /// Whether the answer can have changed at `progress`.
    #[inline]
    pub fn reached(&self, progress: &Progress) -> bool {
        let faster = match (self.bandwidth, progress.bandwidth) {
            (Some(limit), Some(now)) => now > limit,
            _ => false,
        };
        progress.now >= self.at || progress.pending <= self.pending || faster
    }
}
