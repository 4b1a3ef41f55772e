//! Results as they are printed and stored: one record a migration, one a round. Field names are stable.
//!
//! Made from a [`whimbrel_sim::Run`] of any ground; read by tables, charts and whoever opens the
//! files. Nothing is computed here that the report does not already hold.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use whimbrel_core::policy::{Decision, SwitchoverWhen};
use whimbrel_core::report::{Ledger, Outcome, PostCopyReport, Report, RoundReport};
use whimbrel_core::units::{Bandwidth, ByteCount, PageRate};
use whimbrel_sim::{Encoding, Lost, NearThreshold, Run, Totals};

use crate::table::fields::{Fields, name};

/// The version of these records.
pub const SCHEMA: u32 = 1;

/// One of a few names that are stable. (Under this name: what is written as a reference is not read from text that goes away.)
pub type Name = &'static str;

/// One migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// How it ended: `completed`, `aborted`, `timed-out`, ….
    #[serde(deserialize_with = "known_outcome")]
    pub outcome: Name,
    /// It completed, not because the policy ran into a bound of its own and not by post-copy.
    pub converged: bool,
    /// Why it ended so, in words.
    pub why: String,
    /// The seed that repeats it.
    pub seed: u64,
    /// Total migration time, milliseconds.
    pub total_ms: f64,
    /// From the last instruction at the source to the first at the destination that brings the guest on,
    /// milliseconds. In post-copy that is more than the handover: see `downtime.first_pages_ms`.
    pub downtime_ms: f64,
    /// The downtime and the time until the network knows the guest's new place, milliseconds.
    pub unreachable_ms: f64,
    /// Time for which a guest that stayed at the source was paused in vain, milliseconds.
    pub paused_in_vain_ms: f64,
    /// Bytes handed to the transport.
    pub sent_bytes: u64,
    /// Passes over memory, the bulk round and the paused one counted.
    pub rounds: usize,
    /// Bytes sent over guest memory.
    pub amplification: f64,
    /// What the guest lost to throttle, pause, waiting for pages and tracking faults, vCPU-seconds.
    pub disruption_vcpu_s: f64,
    /// The same by cause.
    pub disruption: DisruptionRecord,
    /// The downtime by parts.
    pub downtime: LedgerRecord,
    /// What was done by post-copy.
    pub post_copy: PostCopyRecord,
    /// Pages that harvests found dirty though their content had not changed.
    pub unchanged_pages: u64,
    /// What encoding pages came to, and the CPU time of sending.
    pub encoding: EncodingRecord,
    /// In a fluid simulation, the decision that hung on chance the most, if any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near_threshold: Option<NearThresholdRecord>,
    /// The rounds; left out where only totals are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub round: Vec<RoundRecord>,
}

/// What the guest lost, by cause, vCPU-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DisruptionRecord {
    /// Throttling.
    pub throttle_vcpu_s: f64,
    /// Paused.
    pub pause_vcpu_s: f64,
    /// Waiting for pages after the handover.
    pub post_copy_vcpu_s: f64,
    /// First writes to pages that were write-protected for tracking.
    pub tracking_faults_vcpu_s: f64,
}

/// What was done by post-copy; zero if nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PostCopyRecord {
    /// From the handover until the destination had every page, milliseconds.
    pub length_ms: f64,
    /// Pages that the destination lacked at the handover.
    pub missing_pages: u64,
    /// Pages that it asked for.
    pub requests: u64,
}

/// A decision of a fluid simulation that hung on chance: of exact runs some go on for a round more there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearThresholdRecord {
    /// In which round.
    pub round: u32,
    /// Pages that were pending.
    pub pending_pages: u64,
    /// How far from the rule's threshold that was, in standard deviations of the number of pages.
    pub deviations: f64,
}

impl NearThresholdRecord {
    fn name_fields(&self, to: &mut impl Fields) {
        to.open(name!("near_threshold"));
        to.whole(name!("round"), self.round.into());
        to.whole(name!("pending_pages"), self.pending_pages);
        to.number(name!("deviations"), Some(self.deviations));
        to.close();
    }

    fn of(near: &NearThreshold) -> Self {
        Self { round: near.round, pending_pages: near.pending.0, deviations: near.deviations }
    }
}

/// What encoding pages came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EncodingRecord {
    /// Pages compressed, and pages found in the cache of those sent before.
    pub encoded_pages: u64,
    /// Bytes that they became, without the headers that every page has.
    pub encoded_bytes: u64,
    /// Pages not found in the cache.
    pub cache_misses: u64,
    /// Pages whose difference was longer than they are.
    pub overflow_pages: u64,
    /// CPU seconds at the source: finding, reading, encoding and handing over pages; none of a real move where the system was not asked.
    pub source_cpu_s: Option<f64>,
}

/// The downtime ledger, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // Documented at `whimbrel_core::report::Ledger`.
pub struct LedgerRecord {
    pub pause_ms: f64,
    pub held_ms: f64,
    pub harvest_ms: f64,
    pub last_pages_ms: f64,
    pub save_ms: f64,
    pub transfer_ms: f64,
    pub restore_ms: f64,
    pub commit_ms: f64,
    pub resume_ms: f64,
    pub first_pages_ms: f64,
}

/// One pass over memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// 0 is the bulk round.
    pub round: u32,
    /// Sent while the guest was paused.
    pub paused: bool,
    /// Sent after the guest was handed over.
    pub post_copy: bool,
    /// Since the start of the migration, milliseconds.
    pub started_ms: f64,
    /// Milliseconds.
    pub length_ms: f64,
    /// Pages that the harvest at its beginning found dirty.
    pub dirtied_pages: u64,
    /// Pages left over from the round before.
    pub left_over_pages: u64,
    /// Pages pending when it began.
    pub pending_pages: u64,
    /// Pages sent, zero pages among them.
    pub sent_pages: u64,
    /// Zero pages sent.
    pub zero_pages: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Pages a second over the time since the harvest before.
    pub dirty_pages_per_s: Option<f64>,
    /// Bytes a second over the whole round.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Share of CPU taken away at its end; zero also for a dirty limit.
    pub throttle: f64,
    /// How the guest was slowed at its end; none if it was not.
    pub throttled: Option<String>,
    /// How much of the whole was done when it began, from 0 to 1, as forecast then; it never falls from one
    /// round to the next. None in the first round, of which nothing is known, and where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// How long the migration would go on from then, as forecast then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<EtaRecord>,
    /// The last decision in it.
    #[serde(deserialize_with = "known_decision")]
    pub decision: Option<Name>,
    /// Why.
    pub reason: Option<String>,
}

/// How long a migration goes on, as forecast; milliseconds from the start of a round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EtaRecord {
    /// The middle of it; none if no end is in sight.
    pub remaining_ms: Option<f64>,
    /// Nine of ten migrations take at least this,
    pub low_ms: f64,
    /// and at most this; none if no end is in sight.
    pub high_ms: Option<f64>,
}

/// Milliseconds, to a nanosecond.
pub fn milliseconds(duration: Duration) -> f64 {
    // Up to 584 years in one number that a processor has.
    let whole = duration.as_secs().checked_mul(1_000_000_000);
    match whole.and_then(|nanos| nanos.checked_add(duration.subsec_nanos().into())) {
        Some(nanos) => nanos as f64 / 1e6,
        None => duration.as_nanos() as f64 / 1e6,
    }
}

/// The stable name of a decision.
pub const fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Continue => "continue",
        Decision::Harvest => "harvest",
        Decision::Switchover { when: SwitchoverWhen::Now, forced: false } => "switchover",
        Decision::Switchover { when: SwitchoverWhen::Now, forced: true } => "switchover-forced",
        Decision::Switchover { when: SwitchoverWhen::AfterRound, forced: false } => "switchover-after-round",
        Decision::Switchover { when: SwitchoverWhen::AfterRound, forced: true } => {
            "switchover-after-round-forced"
        }
        Decision::PostCopy => "post-copy",
        Decision::Pause => "pause",
        Decision::Abort => "abort",
        _ => "unknown",
    }
}

/// All of them.
const DECISIONS: [Decision; 9] = [
    Decision::Continue,
    Decision::Harvest,
    Decision::Switchover { when: SwitchoverWhen::Now, forced: false },
    Decision::Switchover { when: SwitchoverWhen::Now, forced: true },
    Decision::Switchover { when: SwitchoverWhen::AfterRound, forced: false },
    Decision::Switchover { when: SwitchoverWhen::AfterRound, forced: true },
    Decision::PostCopy,
    Decision::Pause,
    Decision::Abort,
];

/// Reads the name of an outcome.
pub(crate) fn known_outcome<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    let name = String::deserialize(from)?;
    let known = Outcome::ALL.iter().map(|outcome| outcome.as_str()).find(|known| *known == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("no outcome is called `{name}`")))
}

/// Reads the name of a decision, if there was one.
fn known_decision<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Name>, D::Error> {
    let Some(name) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let known = DECISIONS.iter().map(|decision| decision_name(*decision)).find(|known| *known == name);
    known.map(Some).ok_or_else(|| serde::de::Error::custom(format!("no decision is called `{name}`")))
}

impl MigrationRecord {
    /// The record of a run.
    pub fn of(run: &Run, seed: u64) -> Self {
        Self {
            unreachable_ms: milliseconds(run.unreachable.unwrap_or_default()),
            unchanged_pages: run.unchanged_pages.0,
            encoding: EncodingRecord::of(&run.encoding),
            near_threshold: run.near_threshold.as_ref().map(NearThresholdRecord::of),
            ..Self::of_report(&run.report, &run.disruption, seed)
        }
    }

    /// The record of a real run. What its report does not say is zero: when the network knew its new place, what pages became, and what
    /// tracking cost its guest, unless `lost` has it.
    pub fn of_report(report: &Report, lost: &Lost, seed: u64) -> Self {
        Self {
            schema: SCHEMA,
            outcome: report.outcome.as_str(),
            converged: report.converged,
            why: report.why.clone(),
            seed,
            total_ms: milliseconds(report.total),
            downtime_ms: milliseconds(report.downtime.total()),
            unreachable_ms: 0.0,
            paused_in_vain_ms: milliseconds(report.paused_in_vain),
            sent_bytes: report.sent.0,
            rounds: report.rounds.len(),
            amplification: report.amplification(),
            disruption_vcpu_s: lost.total().as_f64(),
            disruption: DisruptionRecord::of(lost),
            downtime: LedgerRecord::of(&report.downtime),
            post_copy: report.post_copy.as_ref().map(PostCopyRecord::of).unwrap_or_default(),
            unchanged_pages: 0,
            encoding: EncodingRecord::default(),
            near_threshold: None,
            round: report.rounds.iter().map(RoundRecord::of).collect(),
        }
    }

    /// The record of a fluid run of which only the totals are known, and why it ended so; `memory` is the guest's.
    pub fn of_totals(totals: &Totals, why: String, memory: ByteCount, seed: u64) -> Self {
        let encoding = Encoding { source_cpu_s: totals.source_cpu_s, ..Encoding::default() };
        let post_copy = totals.post_copy.map(|(length, missing)| PostCopyRecord {
            length_ms: milliseconds(length),
            missing_pages: missing.0,
            requests: 0,
        });
        Self {
            schema: SCHEMA,
            outcome: totals.outcome.as_str(),
            converged: totals.converged,
            why,
            seed,
            total_ms: milliseconds(totals.total),
            downtime_ms: milliseconds(totals.downtime.total()),
            unreachable_ms: milliseconds(totals.unreachable.unwrap_or_default()),
            paused_in_vain_ms: milliseconds(totals.paused_in_vain),
            sent_bytes: totals.sent.0,
            rounds: totals.rounds as usize,
            amplification: totals.amplification(memory),
            disruption_vcpu_s: totals.disruption.total().as_f64(),
            disruption: DisruptionRecord::of(&totals.disruption),
            downtime: LedgerRecord::of(&totals.downtime),
            post_copy: post_copy.unwrap_or_default(),
            unchanged_pages: totals.unchanged_pages.0,
            encoding: EncodingRecord::of(&encoding),
            near_threshold: totals.near_threshold.as_ref().map(NearThresholdRecord::of),
            round: Vec::new(),
        }
    }

    /// Names its fields, but for the rounds, in the order of the columns of [`csv::MIGRATION`](crate::table::csv::MIGRATION).
    pub(crate) fn name_fields(&self, to: &mut impl Fields) {
        to.whole(name!("schema"), self.schema.into());
        to.text(name!("outcome"), self.outcome);
        to.flag(name!("converged"), self.converged);
        to.text(name!("why"), &self.why);
        to.whole(name!("seed"), self.seed);
        to.number(name!("total_ms"), Some(self.total_ms));
        to.number(name!("downtime_ms"), Some(self.downtime_ms));
        // As a rule the network knows at once.
        if self.unreachable_ms.to_bits() == self.downtime_ms.to_bits() {
            to.again(name!("unreachable_ms"));
        } else {
            to.number(name!("unreachable_ms"), Some(self.unreachable_ms));
        }
        to.number(name!("paused_in_vain_ms"), Some(self.paused_in_vain_ms));
        to.whole(name!("sent_bytes"), self.sent_bytes);
        to.whole(name!("rounds"), self.rounds as u64);
        to.number(name!("amplification"), Some(self.amplification));
        to.number(name!("disruption_vcpu_s"), Some(self.disruption_vcpu_s));
        self.disruption.name_fields(to);
        self.downtime.name_fields(to);
        self.post_copy.name_fields(to);
        to.whole(name!("unchanged_pages"), self.unchanged_pages);
        self.encoding.name_fields(to);
        match &self.near_threshold {
            Some(near) => near.name_fields(to),
            None => to.leave_out(3),
        }
    }

    /// The same without its rounds.
    #[must_use]
    pub fn totals_only(mut self) -> Self {
        self.round = Vec::new();
        self
    }
}

impl DisruptionRecord {
    fn name_fields(&self, to: &mut impl Fields) {
        to.open(name!("disruption"));
        to.number(name!("throttle_vcpu_s"), Some(self.throttle_vcpu_s));
        to.number(name!("pause_vcpu_s"), Some(self.pause_vcpu_s));
        to.number(name!("post_copy_vcpu_s"), Some(self.post_copy_vcpu_s));
        to.number(name!("tracking_faults_vcpu_s"), Some(self.tracking_faults_vcpu_s));
        to.close();
    }

    /// The record of what a guest lost.
    pub fn of(lost: &Lost) -> Self {
        Self {
            throttle_vcpu_s: lost.throttle.as_f64(),
            pause_vcpu_s: lost.pause.as_f64(),
            post_copy_vcpu_s: lost.post_copy.as_f64(),
            tracking_faults_vcpu_s: lost.tracking_faults.as_f64(),
        }
    }
}

impl PostCopyRecord {
    fn name_fields(&self, to: &mut impl Fields) {
        to.open(name!("post_copy"));
        to.number(name!("length_ms"), Some(self.length_ms));
        to.whole(name!("missing_pages"), self.missing_pages);
        to.whole(name!("requests"), self.requests);
        to.close();
    }

    /// The record of a post-copy.
    pub fn of(post_copy: &PostCopyReport) -> Self {
        Self {
            length_ms: milliseconds(post_copy.length),
            missing_pages: post_copy.missing.0,
            requests: post_copy.requests,
        }
    }
}

impl EncodingRecord {
    fn name_fields(&self, to: &mut impl Fields) {
        to.open(name!("encoding"));
        to.whole(name!("encoded_pages"), self.encoded_pages);
        to.whole(name!("encoded_bytes"), self.encoded_bytes);
        to.whole(name!("cache_misses"), self.cache_misses);
        to.whole(name!("overflow_pages"), self.overflow_pages);
        to.number(name!("source_cpu_s"), self.source_cpu_s);
        to.close();
    }

    /// The record of what encoding came to.
    pub fn of(encoding: &Encoding) -> Self {
        Self {
            encoded_pages: encoding.encoded_pages.0,
            encoded_bytes: encoding.encoded_bytes.0,
            cache_misses: encoding.cache_misses.0,
            overflow_pages: encoding.overflow_pages.0,
            source_cpu_s: Some(encoding.source_cpu_s),
        }
    }
}

impl LedgerRecord {
    fn name_fields(&self, to: &mut impl Fields) {
        to.open(name!("downtime"));
        to.number(name!("pause_ms"), Some(self.pause_ms));
        to.number(name!("held_ms"), Some(self.held_ms));
        to.number(name!("harvest_ms"), Some(self.harvest_ms));
        to.number(name!("last_pages_ms"), Some(self.last_pages_ms));
        to.number(name!("save_ms"), Some(self.save_ms));
        to.number(name!("transfer_ms"), Some(self.transfer_ms));
        to.number(name!("restore_ms"), Some(self.restore_ms));
        to.number(name!("commit_ms"), Some(self.commit_ms));
        to.number(name!("resume_ms"), Some(self.resume_ms));
        to.number(name!("first_pages_ms"), Some(self.first_pages_ms));
        to.close();
    }

    /// The record of a ledger.
    pub fn of(ledger: &Ledger) -> Self {
        Self {
            pause_ms: milliseconds(ledger.pause),
            held_ms: milliseconds(ledger.held),
            harvest_ms: milliseconds(ledger.harvest),
            last_pages_ms: milliseconds(ledger.last_pages),
            save_ms: milliseconds(ledger.save),
            transfer_ms: milliseconds(ledger.transfer),
            restore_ms: milliseconds(ledger.restore),
            commit_ms: milliseconds(ledger.commit),
            resume_ms: milliseconds(ledger.resume),
            first_pages_ms: milliseconds(ledger.first_pages),
        }
    }

    /// The parts with their names for people, in the order of time.
    pub fn parts(&self) -> [(&'static str, f64); 10] {
        [
            ("pause", self.pause_ms),
            ("held", self.held_ms),
            ("harvest", self.harvest_ms),
            ("last pages", self.last_pages_ms),
            ("save", self.save_ms),
            ("transfer", self.transfer_ms),
            ("restore", self.restore_ms),
            ("commit", self.commit_ms),
            ("resume", self.resume_ms),
            ("first pages", self.first_pages_ms),
        ]
    }
}

impl RoundRecord {
    /// The record of a round.
    pub fn of(round: &RoundReport) -> Self {
        Self {
            round: round.round,
            paused: round.paused,
            post_copy: round.post_copy,
            started_ms: round.started.as_nanos() as f64 / 1e6,
            length_ms: milliseconds(round.length),
            dirtied_pages: round.dirtied.0,
            left_over_pages: round.left_over.0,
            pending_pages: round.pending.0,
            sent_pages: round.sent_pages.0,
            zero_pages: round.zero_pages.0,
            sent_bytes: round.sent.0,
            dirty_pages_per_s: round.dirty_rate.map(PageRate::per_second),
            bandwidth_bytes_per_s: round.bandwidth.map(Bandwidth::bytes_per_second),
            throttle: round.throttle.share().as_f64(),
            progress: round.outlook.map(|outlook| outlook.progress.as_f64()),
            eta: round.outlook.map(|outlook| EtaRecord {
                remaining_ms: outlook.remaining.map(milliseconds),
                low_ms: milliseconds(outlook.low),
                high_ms: outlook.high.map(milliseconds),
            }),
            throttled: (!round.throttle.is_off()).then(|| round.throttle.to_string()),
            decision: round.decision.as_ref().map(|decided| decision_name(decided.decision)),
            reason: round.decision.as_ref().map(|decided| decided.reason.to_string()),
        }
    }
}
