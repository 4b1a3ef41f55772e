//! Progress, policy and journal in one: observation in, verdict out.
//!
//! The source's machine holds a [`Controller`]; where someone else is the sender, as QEMU is, the
//! controller is used alone. It turns observations into the [`Progress`] record, asks the policy at the
//! three moments, skips ticks at which the answer cannot change, and writes everything to the
//! [`Journal`]. It never acts: whoever asked obeys the verdict.

mod chance;
mod foresight;
mod imagined;
mod link;
mod replacing;
mod verdicts;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::foresight::Foresight;
pub use self::foresight::{Outlook, Prior};
pub use self::replacing::ReplaceError;
use self::verdicts::Gist;
pub(crate) use self::verdicts::Ruling;
use crate::journal::Journal;
use crate::layout::PageSize;
use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, ChangeError, Decision, Gate, Policy, Reason, Verdict,
};
use crate::progress::{Capabilities, Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, PageRate, Pages, Timestamp};

/// What was harvested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Harvested {
    /// Pages found dirty, whether or not they were still pending.
    pub dirtied: Pages,
    /// Pages that were pending before.
    pub left_over: Pages,
    /// Pages pending now.
    pub pending: Pages,
    /// As [`Progress::in_flight`], when the log was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<ByteCount>,
}

/// What was sent since the last such record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Transmitted {
    /// Pages handed to the transport, zero pages among them.
    pub pages: Pages,
    /// Zero pages among them.
    pub zero: Pages,
    /// Bytes handed to the transport.
    pub bytes: ByteCount,
    /// Pages still pending that are meant for this round.
    pub pending: Pages,
    /// Pages that were left out of this round because they were dirty again ("peek"); the next
    /// harvest will find them.
    pub skipped: Pages,
    /// As [`Progress::in_flight`], when the last of them was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<ByteCount>,
}

/// Why a controller cannot work with a policy on a ground.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy `{policy}` needs `{capability}`, which this ground does not offer")]
pub struct Unsupported {
    /// The policy.
    pub policy: String,
    /// What it needs.
    pub capability: &'static str,
}

/// Observation in, verdict out.
#[derive(Clone, Debug)]
pub struct Controller {
    policy: Box<dyn Policy>,
    /// The policy's own; wanted several times a round.
    cadence: Cadence,
    progress: Progress,
    window: Window,
    last_harvest: Timestamp,
    /// The last answer, unless it was let go of. Its adjustments are made.
    last: Option<Verdict>,
    /// What of it everybody needs.
    gist: Gist,
    /// Ticks of this round get the same one, until it says.
    stands: bool,
    /// Answers that only go on are let go of.
    forgetful: bool,
    skipping: bool,
    /// What a policy that took over has yet to order.
    owed: Adjustments,
    journal: Journal,
    /// What outlooks are made from, if they are wanted.
    foresight: Option<Box<Foresight>>,
    outlook: Option<Outlook>,
}

/// Bytes since a moment: the running bandwidth window.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Timestamp,
    bytes: ByteCount,
}

impl Controller {
    /// A controller at the start of a migration.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if the policy needs what the ground does not offer.
    pub fn new(
        policy: Box<dyn Policy>,
        page_size: PageSize,
        memory: Pages,
        capabilities: Capabilities,
    ) -> Result<Self, Unsupported> {
        if let Some(capability) = policy.needs().missing_from(capabilities) {
            return Err(Unsupported { policy: policy.name().to_owned(), capability });
        }
        Ok(Self {
            cadence: policy.cadence(),
            policy,
            progress: Progress::at_start(page_size, memory, capabilities),
            window: Window { since: Timestamp::ZERO, bytes: ByteCount(0) },
            last_harvest: Timestamp::ZERO,
            last: None,
            gist: Gist::NONE,
            stands: false,
            forgetful: false,
            skipping: true,
            owed: Adjustments::default(),
            journal: Journal::recording(),
            foresight: None,
            outlook: None,
        })
    }

    /// Makes it a controller at the start of another migration, in the memory that it has; what it records
    /// remains. It makes no outlooks.
    pub(crate) fn begin_anew(
        &mut self,
        policy: &dyn Policy,
        page_size: PageSize,
        memory: Pages,
        every_tick: bool,
    ) -> Result<(), Unsupported> {
        let capabilities = self.progress.capabilities;
        if let Some(capability) = policy.needs().missing_from(capabilities) {
            return Err(Unsupported { policy: policy.name().to_owned(), capability });
        }
        self.policy = policy.boxed_clone();
        self.cadence = self.policy.cadence();
        self.progress = Progress::at_start(page_size, memory, capabilities);
        self.skipping = !every_tick;
        self.window = Window { since: Timestamp::ZERO, bytes: ByteCount(0) };
        self.last_harvest = Timestamp::ZERO;
        self.last = None;
        self.gist = Gist::NONE;
        self.stands = false;
        self.owed = Adjustments::default();
        self.journal.clear();
        self.foresight = None;
        self.outlook = None;
        Ok(())
    }

    /// The same, asking the policy at every tick even where its `until` says that nothing can change.
    #[must_use]
    pub fn asking_every_tick(mut self) -> Self {
        self.skipping = false;
        self
    }

    /// The same without a journal: for runs by the million.
    #[must_use]
    pub fn without_journal(mut self) -> Self {
        self.journal = Journal::off();
        self
    }

    /// The same with an [`Outlook`] at the start of each round. It costs up to some millions of instructions a
    /// round, as the policy is led through what is forecast. The more is known before, the better.
    #[must_use]
    pub fn with_outlook(mut self, prior: &Prior) -> Self {
        self.foresight = Some(Box::new(Foresight::new(prior)));
        self
    }

    /// What was left when this round began; none if outlooks are not wanted, before the first harvest, and after
    /// many rounds where the last is recent.
    pub fn outlook(&self) -> Option<Outlook> {
        self.outlook
    }

    /// The same for a guest with so many vCPUs: a policy may weigh what a pause costs them.
    #[must_use]
    pub fn with_vcpus(mut self, vcpus: u32) -> Self {
        self.count_vcpus(vcpus);
        self
    }

    pub(crate) fn count_vcpus(&mut self, vcpus: u32) {
        self.progress.vcpus = vcpus.max(1);
    }

    /// The policy.
    #[inline]
    pub fn policy(&self) -> &dyn Policy {
        &*self.policy
    }

    /// How the policy wants to be called and measured.
    #[inline]
    pub fn cadence(&self) -> Cadence {
        self.cadence
    }

    /// What is known now.
    #[inline]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What was observed and decided.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The journal, when nothing more is wanted of the controller.
    pub fn into_journal(self) -> Journal {
        self.journal
    }

    pub(crate) fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Why the policy refuses the migration before anything is done; none if it does not.
    pub fn refusal(&self) -> Option<Reason> {
        self.policy.refuses(&self.progress)
    }

    /// The memory is about to be sent for the first time: the bulk round starts.
    pub fn bulk_round(&mut self, now: Timestamp) -> Verdict {
        let ruling = self.begin_bulk_round(now);
        self.whole(ruling)
    }

    pub(crate) fn begin_bulk_round(&mut self, now: Timestamp) -> Ruling {
        self.window = Window { since: now, bytes: ByteCount(0) };
        self.last_harvest = now;
        self.progress.now = now;
        self.progress.round_started = now;
        if let Some(foresight) = &mut self.foresight {
            foresight.begin(&self.progress);
        }
        let ruling = self.ask(Moment::RoundStart);
        if let Some(foresight) = &mut self.foresight {
            let limit = self.last.as_ref().and_then(|last| last.adjust.rate_limit);
            foresight.limited(limit);
        }
        ruling
    }

    /// The dirty log was harvested: a round starts.
    pub fn harvested(&mut self, now: Timestamp, harvested: Harvested) -> Verdict {
        let ruling = self.take_harvest(now, &harvested);
        self.whole(ruling)
    }

    #[inline(always)]
    pub(crate) fn take_harvest(&mut self, now: Timestamp, harvested: &Harvested) -> Ruling {
        let since = now.since(self.last_harvest);
        self.last_harvest = now;
        if self.foresight.is_some() {
            return self.foresee(now, since, harvested);
        }
        self.begin_round(now, since, harvested);
        self.ask_here(Moment::RoundStart)
    }

    #[inline(always)]
    fn begin_round(&mut self, now: Timestamp, since: Duration, harvested: &Harvested) {
        let progress = &mut self.progress;
        progress.now = now;
        progress.round += 1;
        progress.round_started = now;
        progress.dirtied = harvested.dirtied;
        progress.left_over = harvested.left_over;
        progress.pending = harvested.pending;
        progress.in_flight = harvested.in_flight;
        progress.dirty_rate = PageRate::measured(harvested.dirtied, since);
        progress.round_sent = ByteCount(0);
        progress.round_sent_pages = Pages(0);
        progress.round_skipped = Pages(0);
        if self.cadence.bandwidth == BandwidthWindow::Round {
            self.window = Window { since: now, bytes: ByteCount(0) };
        }
    }

    /// Takes a harvest, and says what is left where that is wanted.
    #[cold]
    fn foresee(&mut self, now: Timestamp, since: Duration, harvested: &Harvested) -> Ruling {
        if let Some(foresight) = &mut self.foresight {
            foresight.round_over(&self.progress);
        }
        self.begin_round(now, since, harvested);
        if let Some(foresight) = &mut self.foresight {
            foresight.harvested(&self.progress, since);
        }
        let ruling = self.ask(Moment::RoundStart);
        if let Some(mut foresight) = self.foresight.take() {
            self.outlook =
                foresight.is_due(now).then(|| foresight.outlook(self, &self.whole(ruling))).flatten();
            self.foresight = Some(foresight);
        }
        ruling
    }

    /// Some pages were sent. While some are pending this is a tick; else the round has ended, and
    /// [`round_ended`](Self::round_ended) must follow (after the gate, where the source waits there).
    pub fn transmitted(&mut self, now: Timestamp, sent: Transmitted) -> Option<Verdict> {
        let ruling = self.take_sent(now, &sent)?;
        Some(self.whole(ruling))
    }

    #[inline(always)]
    pub(crate) fn take_sent(&mut self, now: Timestamp, sent: &Transmitted) -> Option<Ruling> {
        self.count(now, sent);
        if sent.pending.0 == 0 {
            return None;
        }
        if self.stands && self.skipping && !self.gist.until.reached(&self.progress) {
            return Some(Ruling { decision: Decision::Continue, adjusts: false });
        }
        Some(self.ask(Moment::Tick))
    }

    /// Everything of the round is sent (and acknowledged, where the source waits for that).
    pub fn round_ended(&mut self, now: Timestamp) -> Verdict {
        let ruling = self.end_round(now);
        self.whole(ruling)
    }

    #[inline(always)]
    pub(crate) fn end_round(&mut self, now: Timestamp) -> Ruling {
        self.progress.now = now;
        if self.cadence.bandwidth == BandwidthWindow::Round {
            self.close_window(now);
        }
        if self.cadence.gate == Gate::Wait {
            // What was waited for has arrived.
            self.progress.in_flight = self.progress.in_flight.map(|_| ByteCount(0));
        }
        self.ask_here(Moment::RoundEnd)
    }

    /// Pages were sent after the policy's last word: counted, not judged.
    pub fn account(&mut self, now: Timestamp, sent: Transmitted) {
        self.count(now, &sent);
    }

    #[inline(always)]
    pub(crate) fn count(&mut self, now: Timestamp, sent: &Transmitted) {
        let progress = &mut self.progress;
        progress.now = now;
        progress.pending = sent.pending;
        progress.in_flight = sent.in_flight;
        progress.round_skipped = sent.skipped;
        progress.sent = progress.sent.saturating_add(sent.bytes);
        progress.sent_pages = progress.sent_pages.saturating_add(sent.pages);
        progress.round_sent = progress.round_sent.saturating_add(sent.bytes);
        progress.round_sent_pages = progress.round_sent_pages.saturating_add(sent.pages);
        self.window.bytes = self.window.bytes.saturating_add(sent.bytes);
        if let Some(foresight) = &mut self.foresight {
            foresight.sent(progress);
        }
        if let BandwidthWindow::Time(length) = self.cadence.bandwidth
            && now.since(self.window.since) >= length
        {
            self.close_window(now);
        }
    }

    /// What a switchover is known to cost whatever is pending: so far, the last harvest's time.
    pub fn fixed_cost(&mut self, cost: Duration) {
        self.progress.fixed_costs = cost;
    }

    /// The destination answered a message of no size after this time. It tells outlooks the way there and back.
    pub fn answered(&mut self, after: Duration) {
        if let Some(foresight) = &mut self.foresight {
            foresight.link().answered(after);
        }
    }

    /// The end of a round was handed to the transport; [`round_acknowledged`](Self::round_acknowledged) follows when the
    /// destination has said that it is there. What lay in the buffers before it is told by that to outlooks.
    #[inline]
    pub fn round_closed(&mut self, now: Timestamp) {
        if let Some(foresight) = &mut self.foresight {
            foresight.link().closed(now);
        }
    }

    /// The destination has everything that was sent before [`round_closed`](Self::round_closed).
    #[inline]
    pub fn round_acknowledged(&mut self, now: Timestamp) {
        if let Some(foresight) = &mut self.foresight {
            foresight.link().acknowledged(now);
        }
    }

    #[inline]
    fn close_window(&mut self, now: Timestamp) {
        let Window { since, bytes } = self.window;
        // A window in which nothing passed says that the link is dead, not that nothing is known; the
        // smallest bandwidth there is says so.
        if now > since {
            let measured = Bandwidth::measured_between(bytes, since, now);
            self.progress.bandwidth = Some(measured.unwrap_or(Bandwidth::SLOWEST));
        }
        self.window = Window { since: now, bytes: ByteCount(0) };
    }

    /// Changes a parameter of the policy; it is asked again at the next moment.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if the policy does not take it, or would then need what the ground does not offer;
    /// nothing is changed.
    pub fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        self.policy = self.changed(name, value)?;
        self.cadence = self.policy.cadence();
        self.stands = false;
        Ok(())
    }

    /// The policy as it would be after a change.
    pub(crate) fn changed(&self, name: &str, value: &str) -> Result<Box<dyn Policy>, ChangeError> {
        let mut policy = self.policy.clone();
        policy.set_parameter(name, value)?;
        match policy.needs().missing_from(self.progress.capabilities) {
            None => Ok(policy),
            Some(capability) => Err(ChangeError {
                policy: policy.name().to_owned(),
                parameter: name.to_owned(),
                why: format!(
                    "cannot be `{value}`: that needs `{capability}`, which this ground does not offer"
                ),
            }),
        }
    }

    /// The guest was paused by the policy.
    pub(crate) fn paused(&mut self) {
        self.progress.paused = true;
    }

    /// The throttle was lifted by cleaning up.
    pub(crate) fn unthrottled(&mut self) {
        self.progress.throttle = Throttle::Off;
    }
}
