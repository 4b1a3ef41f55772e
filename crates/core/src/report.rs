//! What a migration came to: rounds, the downtime ledger, totals, the outcome and why.
//!
//! One record feeds the log, the tables and the charts. The source's machine fills it in; a ground that
//! knows more (a simulator sees both sides' clocks) may say more beside it, never other numbers under
//! the same names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::controller::Outlook;
use crate::policy::{Decision, Reason};
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, PageRate, Pages, Timestamp, duration};

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// It has not ended.
    InProgress,
    /// The guest runs at the destination and the source has released it.
    Completed,
    /// The destination would not take the guest; it runs at the source.
    Refused,
    /// The policy gave up; the guest runs at the source.
    Aborted,
    /// Somebody cancelled; the guest runs at the source.
    Cancelled,
    /// The peer was lost, or a step failed, before the commit point; the guest runs at the source.
    Failed,
    /// The time limit of the run was reached; the guest runs at the source, in post-copy at the destination.
    TimedOut,
    /// The peer was lost after *go* was sent: the guest is paused at the source until the destination
    /// answers or is fenced. Or it was lost in post-copy: the guest waits at the destination for pages that
    /// only the source has, unless the last acknowledgement was all that was lost.
    InDoubt,
    /// The destination gave the guest up after *go*, or could not resume it, or will never get the pages
    /// that it lacks: it is to be started from its disks.
    GuestLost,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::InProgress,
        Self::Completed,
        Self::Refused,
        Self::Aborted,
        Self::Cancelled,
        Self::Failed,
        Self::TimedOut,
        Self::InDoubt,
        Self::GuestLost,
    ];

    /// The stable name in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Aborted => "aborted",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::InDoubt => "in-doubt",
            Self::GuestLost => "guest-lost",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pass over memory: what lies between two harvests, or the last one, sent while the guest is paused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RoundReport {
    /// 0 is the bulk round.
    pub round: u32,
    /// Sent while the guest was paused.
    pub paused: bool,
    /// Sent after the guest was handed over (post-copy).
    #[serde(default)]
    pub post_copy: bool,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    #[serde(with = "duration")]
    pub length: Duration,
    /// Pages that the harvest at its beginning found dirty; all memory in round 0.
    pub dirtied: Pages,
    /// Pages left over from the round before.
    pub left_over: Pages,
    /// Pages pending when it began.
    pub pending: Pages,
    /// Pages sent, zero pages among them.
    pub sent_pages: Pages,
    /// Zero pages sent.
    pub zero_pages: Pages,
    /// Bytes sent.
    pub sent: ByteCount,
    /// Pages dirtied over the time since the harvest before; none in round 0.
    pub dirty_rate: Option<PageRate>,
    /// Rate of sending over the whole round.
    pub bandwidth: Option<Bandwidth>,
    /// The throttle in force at its end.
    pub throttle: Throttle,
    /// What was left of the migration when it began, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
    /// The last decision in it, and why; none in a round that no policy ended.
    pub decision: Option<Decided>,
}

/// A decision and its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decided {
    /// When.
    pub at: Timestamp,
    /// What.
    pub decision: Decision,
    /// Why.
    pub reason: Reason,
}

/// The downtime, split into its parts; they follow one another and add up to it.
///
/// It begins when the last of the guest's vCPUs and devices has stopped, not when that was asked for, and ends when the first may
/// run at the destination. A guest that cannot say so ([`Guest::turned_ago`](crate::embed::Guest::turned_ago)) counts
/// as stopped when it was told to, and as running when it says that it does.
///
/// Durations at the destination are told by the destination (no common clock is needed). All of them are known but one, the
/// way of *go*, which is in `commit`: half of what lies between sending *go* and hearing *running* beyond what the
/// destination needed, or half of `transfer` if that is less, in which the state and *ready* went the same ways. So of all that is
/// counted no more than half of `transfer` can be too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Ledger {
    /// From when the guest stood still until its driver knew; all of stopping it, where the guest cannot tell.
    #[serde(with = "duration")]
    pub pause: Duration,
    /// Held paused by the policy while rounds went on ([`Decision::Pause`]).
    #[serde(with = "duration")]
    pub held: Duration,
    /// The last harvest.
    #[serde(with = "duration")]
    pub harvest: Duration,
    /// Handing the last pages to the transport.
    #[serde(with = "duration")]
    pub last_pages: Duration,
    /// Saving the CPU and device state.
    #[serde(with = "duration")]
    pub save: Duration,
    /// What was still on its way, the state itself, and the way of *ready*.
    #[serde(with = "duration")]
    pub transfer: Duration,
    /// Restoring the state at the destination.
    #[serde(with = "duration")]
    pub restore: Duration,
    /// Writing *go* to stable storage, and its way.
    #[serde(with = "duration")]
    pub commit: Duration,
    /// Writing *running* to stable storage and resuming the vCPUs at the destination.
    #[serde(with = "duration")]
    pub resume: Duration,
    /// In post-copy: from the first instruction at the destination until the guest has the pages without
    /// which it does nothing that can be seen. A ground that can't know it leaves it at zero.
    #[serde(with = "duration")]
    pub first_pages: Duration,
}

impl Ledger {
    /// The parts with their names, in the order of time.
    pub fn parts(&self) -> [(&'static str, Duration); 10] {
        [
            ("pause", self.pause),
            ("held", self.held),
            ("harvest", self.harvest),
            ("last-pages", self.last_pages),
            ("save", self.save),
            ("transfer", self.transfer),
            ("restore", self.restore),
            ("commit", self.commit),
            ("resume", self.resume),
            ("first-pages", self.first_pages),
        ]
    }

    /// The downtime: from the last instruction at the source to the first at the destination that brings
    /// the guest on.
    pub fn total(&self) -> Duration {
        self.parts().iter().map(|(_, part)| *part).sum()
    }

    /// The part that the source alone sees: until it has handed everything to the transport. This is
    /// what QEMU reports as its downtime.
    pub fn at_source(&self) -> Duration {
        self.pause + self.held + self.harvest + self.last_pages + self.save
    }
}

/// The post-copy part of a migration, as the source saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PostCopyReport {
    /// When the source heard that the guest runs at the destination.
    pub started: Timestamp,
    /// From then until the destination had every page.
    #[serde(with = "duration")]
    pub length: Duration,
    /// Pages that the destination lacked when the guest was handed over.
    pub missing: Pages,
    /// Pages that the destination asked for.
    pub requests: u64,
}

/// What a migration came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in words.
    pub why: String,
    /// It completed, not because the policy ran into a bound of its own and not by post-copy: what was
    /// left fitted.
    pub converged: bool,
    /// From the configuration's sending to the end of cleaning up.
    #[serde(with = "duration")]
    pub total: Duration,
    /// The downtime ledger; zero if the guest was never handed over.
    pub downtime: Ledger,
    /// Time for which a guest that stayed at the source was paused in vain.
    #[serde(with = "duration")]
    pub paused_in_vain: Duration,
    /// Bytes handed to the transport.
    pub sent: ByteCount,
    /// Pages handed to the transport, zero pages among them.
    pub sent_pages: Pages,
    /// Guest memory.
    pub memory: ByteCount,
    /// Passes over memory, the bulk round and the paused one among them.
    pub rounds: Vec<RoundReport>,
    /// What was done by post-copy; none if nothing was.
    #[serde(default)]
    pub post_copy: Option<PostCopyReport>,
    /// Steps of cleaning up that failed; empty in a sound migration.
    pub clean_up_failures: Vec<String>,
}

impl Report {
    /// Bytes sent over guest memory; 1 is every page once.
    pub fn amplification(&self) -> f64 {
        if self.memory.0 == 0 { 0.0 } else { self.sent.0 as f64 / self.memory.0 as f64 }
    }
}
