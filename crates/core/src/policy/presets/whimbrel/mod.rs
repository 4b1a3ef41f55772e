//! `whimbrel`: our own policy. It is told what a migration may cost, and finds out how to do it.
//!
//! [`RULE`] is the rule; `docs/whimbrel-policy.md` argues for it and says where it loses.
//!
//! * `intent.rs`: what is wanted, what is known of the hosts, and what is refused for it at the start;
//! * `memory.rs`: what the migration has shown: the writable working set, the rate, what a throttle did;
//! * `stall.rs`: what is done when the rest does not come to fit by itself;
//! * `early.rs`: rounds that are harvested before everything is sent;
//! * `venture.rs`: whether going on pays though it could stop;
//! * here: the moments, and what is decided at them.

mod early;
mod intent;
mod memory;
mod stall;
#[cfg(test)]
mod tests;
mod venture;

use std::time::Duration;

pub use self::intent::Intent;
use self::intent::Wanted;
use self::memory::Memory;
use self::stall::{Asked, Stall};
use self::venture::Stop;
use super::parameters::Given;
use super::{PresetError, PresetInfo, Source};
use crate::forecast::Forecast;
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Pages, Timestamp};

/// The rule in short, at the defaults.
const RULE: &str = "\
before the start: refuse if the fixed costs exceed the downtime, or one copy
    the deadline
at the start of a round, with W(t) the pages that a window of t dirties:
    whole downtime = fixed costs + harvest + (pending + state) / rate
    it fits: stop, unless another round is forecast to shorten it by more
        than tracking and throttle cost meanwhile
    it does not, but the rounds W(pending / rate) lead there in time: go on
    they do not: wait for a good moment until that has cost what the cheapest
        allowed way out costs, or until the last moment for it; then
        throttle just enough, limit dirtying, or post-copy; else give up
inside a round: harvest when little enough is pending, where pages are written
    again before they are sent; give up what can't end by the deadline";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "The downtime is that of the whole handover, and is kept with 3 % and 1 ms to spare.",
    "A throttle sleeps for at most half of the downtime at a time, so that no sleep is felt more than \
     the pause would be; programs that catch up what they missed are slowed by long sleeps alone.",
    "A dirty limit, where the host has one, takes from the vCPUs that write alone, and from those almost \
     everything; it lasts no longer than the slowdown allows on the average of the migration.",
    "The source waits for each round's acknowledgement, so that nothing is in flight when it decides; where a \
     round is harvested early, what is in flight counts in the downtime, and no round is where nobody tells it.",
    "What hosts cost (`host-…`) is assumed until it was learned; a policy that knows nothing of them \
     refuses less, and may be late by what they cost more.",
];

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "whimbrel",
    summary: "Ours: told the downtime, the deadline and the slowdown that are acceptable, forecasts what \
              each choice would come to and takes the least disruptive that keeps them.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[
        Source {
            tag: "Clark 2005",
            what: "Live Migration of Virtual Machines, NSDI 2005: the writable working set",
            version: "2005",
        },
        Source {
            tag: "Akoush 2010",
            what: "Predicting the Performance of Virtual Machine Migration, MASCOTS 2010",
            version: "2010",
        },
    ],
    parameters: intent::PARAMETERS,
    build: |given| Ok(Box::new(Whimbrel::read(given)?)),
};

/// Finds the least disruptive way to keep an intent.
#[derive(Clone, Debug, PartialEq)]
pub struct Whimbrel {
    wanted: Wanted,
    memory: Memory,
    stall: Stall,
    /// When it looks again inside a round.
    look: Timestamp,
    /// The round is harvested when no more than this is pending; nothing: when everything is sent.
    leave: Pages,
    /// Why the last round was begun.
    why: Option<Reason>,
    /// What going on has cost since it could have stopped and has not won, vCPU-seconds.
    gambled: f64,
    /// The least downtime of a stop that it could have made, and did not.
    forgone: Option<Duration>,
}

/// Time between two looks inside a round.
const LOOK: Duration = Duration::from_secs(1);
/// Slices of sending: short against a look.
const TICK: Duration = Duration::from_millis(250);
/// The same where a round is to be harvested early, at so many pages and not many fewer.
const SHORT: Duration = Duration::from_millis(10);
/// What is kept in hand of the downtime: the rate of the last pages is not known beforehand.
const SPARE: (f64, Duration) = (0.03, Duration::from_millis(1));
/// What the first write to a page after a harvest costs the guest (measured, 2.5 to 7 us: the simulator's
/// `host.tracking-fault`).
const FAULT: f64 = 2.5e-6;
/// Going on though it could stop may cost this share of what the pause would cost (ours).
const GAMBLE: f64 = 0.5;

impl Whimbrel {
    fn read(given: &Given<'_>) -> Result<Self, PresetError> {
        let wanted = Wanted::read(given)?;
        Ok(Self {
            wanted,
            memory: Memory::default(),
            stall: Stall::default(),
            look: Timestamp::ZERO,
            leave: Pages(0),
            why: None,
            gambled: 0.0,
            forgone: None,
        })
    }

    /// The downtime that is aimed at: what passes the link may take longer than forecast.
    fn limit(&self, progress: &Progress) -> Duration {
        let downtime = self.wanted.intent.downtime;
        let passing = downtime.saturating_sub(self.wanted.host.fixed).saturating_sub(progress.fixed_costs);
        downtime.saturating_sub(passing.mul_f64(SPARE.0).saturating_add(SPARE.1))
    }

    /// Time until the deadline.
    fn left(&self, progress: &Progress) -> Duration {
        self.wanted.intent.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_sub(deadline.mul_f64(0.005)).saturating_sub(progress.elapsed())
        })
    }

    fn round_start(&mut self, progress: &Progress) -> Verdict {
        if progress.round == 0 {
            if let Some(reason) = self.wanted.refusal(progress) {
                return Verdict::new(Decision::Abort, reason);
            }
            self.memory.begin(progress);
            return self.go_on(progress, first_round(progress));
        }
        self.leave = Pages(0);
        self.memory.harvested(progress, self.stall.share());
        let memory = self.memory;
        let Some(forecast) = memory.forecast(progress, self.wanted.host, self.stall.share()) else {
            return self.go_on(progress, first_round(progress));
        };
        let (limit, pending) = (self.limit(progress), progress.pending.as_f64());
        let downtime = forecast.downtime(pending);
        if downtime > limit {
            let left = self.left(progress);
            let asked = Asked { forecast, progress, memory: &memory, limit, left };
            let choice = self.stall.choose(&asked, &self.wanted.intent);
            self.leave = Pages(choice.early.map_or(0.0, |way| way.left) as u64);
            return choice.verdict(self.go_on(progress, choice.reason.clone()));
        }
        self.stall.ends();
        match self.worth_another(&forecast, progress, downtime) {
            Some(reason) => self.go_on(progress, reason),
            None => Verdict::new(
                Decision::Switchover { when: SwitchoverWhen::Now, forced: false },
                whole_downtime(&forecast, progress, (downtime, Relation::AtMost), limit),
            ),
        }
    }

    /// Why the migration goes on though it could stop, if it pays; the next round is then planned.
    fn worth_another(
        &mut self,
        forecast: &Forecast<'_>,
        progress: &Progress,
        downtime: Duration,
    ) -> Option<Reason> {
        let stop = Stop { progress, downtime, limit: self.limit(progress), left: self.left(progress) };
        let throttled = self.stall.taken() * f64::from(progress.vcpus);
        let vcpus = f64::from(progress.vcpus);
        if let Some(least) = self.forgone {
            let won = vcpus * least.saturating_sub(downtime).as_secs_f64();
            self.gambled = (self.gambled - won).max(0.0);
        }
        let best = venture::best(&stop, forecast, &self.memory, throttled)?;
        let budget = GAMBLE * vcpus * downtime.as_secs_f64();
        if best.gain <= best.cost || self.gambled + best.price > budget {
            return None;
        }
        self.gambled += best.price;
        if best.is_trial {
            self.memory.tries();
        }
        self.forgone = Some(self.forgone.map_or(downtime, |least| least.min(downtime)));
        self.leave = Pages(best.leave as u64);
        let lasting =
            |seconds| Quantity::Duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let left = ("vCPU time that going on saves", lasting(best.gain));
        Some(
            Reason::new(left, Relation::Above, ("vCPU time that it costs", lasting(best.cost)))
                .with("downtime now", Quantity::Duration(downtime))
                .with("pending then", Quantity::Pages(Pages(best.next as u64))),
        )
    }

    /// A look inside a round.
    fn look(&mut self, progress: &Progress) -> Verdict {
        self.memory.sent(progress);
        let left = self.left(progress);
        let going_on = self.go_on(progress, first_round(progress));
        let Some(forecast) = self.memory.forecast(progress, self.wanted.host, self.stall.share()) else {
            return going_on;
        };
        let takes = if progress.round == 0 {
            // Zero pages go faster; what they were so far is taken for what they will be.
            Memory::pace(progress).unwrap_or(Duration::ZERO)
        } else {
            forecast.round(progress.pending.as_f64())
        };
        let rest = ("rest of the round", Quantity::Duration(takes));
        let time_left = ("time left", Quantity::Duration(left));
        let bandwidth = Quantity::Bandwidth(forecast.bandwidth);
        if takes.mul_f64(HOPE) > left {
            let reason = Reason::new(rest, Relation::Above, time_left)
                .with("deadline possible", Quantity::Duration(progress.elapsed().saturating_add(takes)))
                .with("bandwidth", bandwidth);
            return Verdict::new(Decision::Abort, reason);
        }
        let relation = if takes <= left { Relation::AtMost } else { Relation::Above };
        let reason = Reason::new(rest, relation, time_left).with("bandwidth", bandwidth);
        Verdict { reason, ..going_on }
    }

    fn go_on(&mut self, progress: &Progress, reason: Reason) -> Verdict {
        self.look = progress.now.saturating_add(LOOK);
        Verdict::new(Decision::Continue, reason).holding(self.until())
    }

    fn until(&self) -> Until {
        Until { at: self.look, pending: self.leave, bandwidth: None }
    }

    /// Little enough is pending: what of it was written again shall count once.
    fn harvest(&mut self, progress: &Progress) -> Verdict {
        self.memory.ends_early(progress);
        let allowed = ("pending for an early harvest", Quantity::Pages(self.leave));
        let reason = Reason::new(("pending", Quantity::Pages(progress.pending)), Relation::AtMost, allowed);
        self.leave = Pages(0);
        Verdict::new(Decision::Harvest, reason)
    }
}

/// A round that would be this much shorter than forecast is still hoped for before its end is given up.
const HOPE: f64 = 0.85;

/// Why nothing is decided before the first harvest.
fn first_round(progress: &Progress) -> Reason {
    let left = ("pages dirtied meanwhile", Quantity::Unknown);
    Reason::new(left, Relation::Above, ("pending allowed", Quantity::Unknown))
        .with("pending", Quantity::Bytes(progress.pending_bytes()))
}

/// The whole downtime against what is allowed.
fn whole_downtime(
    forecast: &Forecast<'_>,
    progress: &Progress,
    (downtime, relation): (Duration, Relation),
    limit: Duration,
) -> Reason {
    Reason::new(
        ("whole downtime", Quantity::Duration(downtime)),
        relation,
        ("downtime allowed", Quantity::Duration(limit)),
    )
    .with("pending", Quantity::Bytes(progress.pending_bytes()))
    .with("bandwidth", Quantity::Bandwidth(forecast.bandwidth))
}

impl Policy for Whimbrel {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        self.wanted.texts()
    }

    fn cadence(&self) -> Cadence {
        let tick = if self.leave > Pages(0) { SHORT } else { TICK };
        Cadence { tick: Some(tick), bandwidth: BandwidthWindow::Round, gate: Gate::Wait }
    }

    fn needs(&self) -> Capabilities {
        Capabilities {
            throttle: self.wanted.intent.slowdown.as_f64() > 0.0,
            post_copy: self.wanted.intent.post_copy,
            ..Capabilities::default()
        }
    }

    fn refuses(&self, progress: &Progress) -> Option<Reason> {
        self.wanted.refusal(progress)
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        match moment {
            Moment::RoundStart => {
                let verdict = self.round_start(progress);
                self.why = Some(verdict.reason.clone());
                verdict
            }
            // What was dirtied meanwhile is not known before the harvest that follows.
            Moment::RoundEnd => {
                self.memory.round_ended(progress);
                let reason = self.why.clone().unwrap_or_else(|| first_round(progress));
                self.go_on(progress, reason)
            }
            Moment::Tick if progress.pending <= self.leave => self.harvest(progress),
            Moment::Tick if progress.now < self.look => {
                let reason = self.why.clone().unwrap_or_else(|| first_round(progress));
                Verdict::new(Decision::Continue, reason).holding(self.until())
            }
            Moment::Tick => self.look(progress),
        }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
