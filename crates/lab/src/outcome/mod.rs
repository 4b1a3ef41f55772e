//! The few figures by which runs are judged, and the objectives that are made of them.
//!
//! Comparison, tuning and forecasts read a run through these, so that "better" means the same in all of them.
//! Nothing here knows policies or scenarios.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use whimbrel_core::policy::presets::nearest_name;
use whimbrel_core::report::Outcome;
use whimbrel_sim::Run;

/// What a migration came to, in the figures by which it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The guest runs at the destination.
    pub completed: bool,
    /// It completed, not because the policy ran into a bound of its own and not by post-copy.
    pub converged: bool,
    /// Total migration time, seconds; until it ended, however it ended.
    pub total_s: f64,
    /// Downtime, seconds; zero if the guest was not handed over.
    pub downtime_s: f64,
    /// Bytes handed to the transport.
    pub sent_bytes: u64,
    /// What the guest lost to throttle, pauses, missing pages and tracking faults, vCPU-seconds.
    pub disruption_vcpu_s: f64,
    /// Passes over memory, the bulk round and the paused one counted.
    pub rounds: u32,
}

impl Figures {
    /// The figures of a run.
    pub fn of(run: &Run) -> Self {
        let report = &run.report;
        Self {
            completed: report.outcome == Outcome::Completed,
            converged: report.converged,
            total_s: report.total.as_secs_f64(),
            downtime_s: report.downtime.total().as_secs_f64(),
            sent_bytes: report.sent.0,
            disruption_vcpu_s: run.disruption.total().as_f64(),
            rounds: u32::try_from(report.rounds.len()).unwrap_or(u32::MAX),
        }
    }
}

/// What is wanted as small as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Total migration time, seconds; infinite if the guest did not arrive.
    TotalTime,
    /// Downtime, seconds; infinite if the guest did not arrive.
    Downtime,
    /// Bytes sent, also by migrations that failed.
    Bytes,
    /// What the guest lost, vCPU-seconds, also in migrations that failed.
    Disruption,
    /// 1 if the guest did not arrive, otherwise 0.
    Failures,
}

impl Objective {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Self; 5] =
        [Self::TotalTime, Self::Downtime, Self::Bytes, Self::Disruption, Self::Failures];

    /// Its name on the command line and in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TotalTime => "total-time",
            Self::Downtime => "downtime",
            Self::Bytes => "bytes",
            Self::Disruption => "disruption",
            Self::Failures => "failures",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::TotalTime | Self::Downtime => "s",
            Self::Bytes => "bytes",
            Self::Disruption => "vCPU-s",
            Self::Failures => "share of runs",
        }
    }

    /// Its value for a run: less is better. Never NaN.
    ///
    /// A guest that did not arrive has no migration time and no downtime. It is worse than any that did, whose
    /// figures it must not better by giving up early: both are infinite.
    pub fn value(self, figures: &Figures) -> f64 {
        let arrived = |value: f64| if figures.completed { value } else { f64::INFINITY };
        match self {
            Self::TotalTime => arrived(figures.total_s),
            Self::Downtime => arrived(figures.downtime_s),
            Self::Bytes => figures.sent_bytes as f64,
            Self::Disruption => figures.disruption_vcpu_s,
            Self::Failures => f64::from(u8::from(!figures.completed)),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown objective `{name}`{}; accepted are total-time, downtime, bytes, disruption and failures",
    nearest.map(|nearest| format!(", did you mean `{nearest}`?")).unwrap_or_default()
)]
pub struct UnknownObjective {
    /// What was written.
    pub name: String,
    /// What was most likely meant.
    pub nearest: Option<&'static str>,
}

impl FromStr for Objective {
    type Err = UnknownObjective;

    fn from_str(name: &str) -> Result<Self, UnknownObjective> {
        Self::ALL.into_iter().find(|objective| objective.name() == name).ok_or_else(|| UnknownObjective {
            name: name.to_owned(),
            nearest: nearest_name(name, Self::ALL.iter().map(|objective| objective.name())),
        })
    }
}
