//! Another policy takes over in the middle of a migration.
//!
//! Policies have memory: earlier rounds, their own bandwidth window, polls made. A fresh one would decide as if
//! the migration had just begun. So it first *watches* the run so far: every moment that the journal holds is
//! shown to it, with the bandwidth measured over its own window, and what it answers is not obeyed. Then it
//! knows what it would know had it watched from the start.
//!
//! What it can't know is what would have become of its own orders. It watches a guest that was slowed, or not,
//! by another policy; the throttle and the rate limit that it ordered meanwhile are carried out with its first
//! verdict after taking over, and those of the policy before are taken back with it.

use super::{Controller, Gist, Unsupported, Window};
use crate::journal::{Entry, Journal};
use crate::machine::SourceEvent;
use crate::policy::{Adjustments, BandwidthWindow, Policy, RateLimit};
use crate::progress::{Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{ByteCount, Timestamp};

/// Why a policy can't take over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// It needs what the ground does not offer.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Nothing was recorded that it could be shown.
    #[error("policy `{policy}` can't take over: the run so far was not recorded")]
    Unrecorded {
        /// The policy.
        policy: String,
    },
    /// The policy before has decided how the migration ends, and none is asked any more.
    #[error("policy `{policy}` can't take over: how the migration ends is decided already")]
    Decided {
        /// The policy.
        policy: String,
    },
}

impl Controller {
    /// Lets `policy` take over from now on, after it has watched the run so far in the journal.
    ///
    /// The moments shown are those of the run, whose ticks are the cadence's of the policy before; changes of
    /// parameters are made where it takes them. Its first verdict also makes the adjustments that it ordered
    /// while it watched, as far as they are not in force. A fresh copy of the policy in charge takes over
    /// without a trace.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`]; nothing is changed then.
    pub fn replace_policy(&mut self, policy: Box<dyn Policy>, now: Timestamp) -> Result<(), ReplaceError> {
        if let Some(capability) = policy.needs().missing_from(self.progress.capabilities) {
            return Err(Unsupported { policy: policy.name().to_owned(), capability }.into());
        }
        if !self.journal.is_whole() {
            return Err(ReplaceError::Unrecorded { policy: policy.name().to_owned() });
        }
        let (policy_name, parameters) = (policy.name().to_owned(), policy.parameters());
        let mut watching = Watching::new(policy, self);
        for entry in self.journal.entries() {
            watching.sees(entry);
        }
        let Watching { shadow, ordered, in_force } = watching;
        self.policy = shadow.policy;
        self.cadence = shadow.cadence;
        self.window = shadow.window;
        self.progress.bandwidth = shadow.progress.bandwidth;
        let owed = ordered.beyond(in_force);
        // With something to order it must be asked, even where its answer can't have changed.
        self.last = shadow.last;
        self.gist = shadow.gist;
        self.stands = shadow.stands && owed.is_empty();
        self.owed = owed;
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.journal.replaced(now, policy_name, parameters);
        Ok(())
    }
}

/// A policy that is shown a run in which another decides.
struct Watching {
    /// Its controller, whose verdicts nobody obeys.
    shadow: Controller,
    /// What it ordered, and what was ordered by those who were obeyed.
    ordered: Orders,
    in_force: Orders,
}

/// What slows guest and link.
#[derive(Clone, Copy)]
struct Orders {
    throttle: Throttle,
    rate_limit: RateLimit,
}

impl Orders {
    const NONE: Self = Self { throttle: Throttle::Off, rate_limit: RateLimit::Unlimited };

    fn take(&mut self, adjust: Adjustments) {
        self.throttle = adjust.throttle.unwrap_or(self.throttle);
        self.rate_limit = adjust.rate_limit.unwrap_or(self.rate_limit);
    }

    /// What has to be ordered for these to be in force in place of `others`.
    fn beyond(self, others: Self) -> Adjustments {
        Adjustments {
            throttle: (self.throttle != others.throttle).then_some(self.throttle),
            rate_limit: (self.rate_limit != others.rate_limit).then_some(self.rate_limit),
        }
    }
}

impl Watching {
    fn new(policy: Box<dyn Policy>, watched: &Controller) -> Self {
        let Progress { page_size, memory, capabilities, .. } = watched.progress;
        let shadow = Controller {
            foresight: None,
            outlook: None,
            cadence: policy.cadence(),
            policy,
            progress: Progress::at_start(page_size, memory, capabilities),
            window: Window { since: Timestamp::ZERO, bytes: ByteCount(0) },
            last_harvest: Timestamp::ZERO,
            last: None,
            gist: Gist::NONE,
            stands: false,
            forgetful: false,
            skipping: watched.skipping,
            owed: Adjustments::default(),
            journal: Journal::off(),
        };
        Self { shadow, ordered: Orders::NONE, in_force: Orders::NONE }
    }

    fn sees(&mut self, entry: &Entry) {
        match entry {
            Entry::Event { at, event: SourceEvent::Transmitted(sent) } => {
                if let Some(verdict) = self.shadow.transmitted(*at, *sent) {
                    self.answered(verdict.adjust);
                }
            }
            // An administrator's change; what it does not take was meant for another policy.
            Entry::Event { event: SourceEvent::Change { parameter, value }, .. } => {
                let _ = self.shadow.set_parameter(parameter, value);
            }
            Entry::Event { .. } | Entry::Replaced { .. } => {}
            Entry::Decision { moment, progress, verdict } => {
                self.is_asked(*moment, progress);
                self.in_force.take(verdict.adjust);
                self.shadow.progress.throttle = self.in_force.throttle;
            }
        }
    }

    /// A round starts or ends. Ticks come with what was sent, because the policy before may have been asked
    /// at fewer of them.
    fn is_asked(&mut self, moment: Moment, shown: &Progress) {
        let by_round = self.shadow.cadence.bandwidth == BandwidthWindow::Round;
        let started = shown.round == 0 || by_round;
        match moment {
            Moment::Tick => return,
            Moment::RoundStart if started => {
                self.shadow.window = Window { since: shown.now, bytes: ByteCount(0) };
            }
            Moment::RoundEnd if by_round => self.shadow.close_window(shown.now),
            _ => {}
        }
        self.shadow.progress = Progress {
            bandwidth: self.shadow.progress.bandwidth,
            throttle: self.in_force.throttle,
            ..shown.clone()
        };
        self.shadow.ask(moment);
        self.answered(self.shadow.adjustments());
    }

    fn answered(&mut self, adjust: Adjustments) {
        self.ordered.take(adjust);
        self.shadow.progress.throttle = self.in_force.throttle;
    }
}
