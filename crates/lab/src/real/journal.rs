//! The journal of a real migration as a file, with all that it takes to replay it.
//!
//! Written by `whimbrel send`, read by `whimbrel replay`. Replaying feeds what happened to a source that has done nothing yet: the same
//! machine as the simulator's. It must decide the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::controller::{Controller, Unsupported};
use whimbrel_core::journal::{Diverged, Entry, Journal};
use whimbrel_core::machine::message::Configuration;
use whimbrel_core::machine::{MachineError, Source};
use whimbrel_core::policy::Verdict;
use whimbrel_core::policy::presets::{self, PresetError};
use whimbrel_core::progress::Capabilities;
use whimbrel_core::units::{Timestamp, duration};

use crate::result::decision_name;
use crate::scenario::PolicySpec;

/// What a journal says of itself in its first bytes.
pub const NAME: &str = "whimbrel-journal";

/// The version of the file.
pub const SCHEMA: u32 = 1;

/// The policy, as it was at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// The preset's name.
    pub preset: String,
    /// Its parameters as text; those not given have the preset's defaults.
    pub parameters: BTreeMap<String, String>,
}

impl From<&PolicySpec> for Policy {
    fn from(spec: &PolicySpec) -> Self {
        Self { preset: spec.preset.clone(), parameters: spec.parameters.clone() }
    }
}

/// A journal, and what its source was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RealJournal {
    /// [`NAME`].
    pub kind: String,
    /// [`SCHEMA`].
    pub schema: u32,
    /// The guest.
    pub configuration: Configuration,
    /// The policy.
    pub policy: Policy,
    /// How long the source waited for an answer.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// What guest and ground offered the policy.
    pub capabilities: Capabilities,
    /// What happened, and what was decided.
    pub journal: Journal,
}

/// Why a journal was not replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Not a journal, or damaged.
    #[error("it is not a journal that `whimbrel send` wrote")]
    Json(#[from] serde_json::Error),
    /// Something else, or of another time.
    #[error("it is `{kind}` of version {schema}; read are `{NAME}` of version {SCHEMA}")]
    Other {
        /// As found.
        kind: String,
        /// As found.
        schema: u32,
    },
    /// A policy that is not known here.
    #[error("its policy cannot be made")]
    Policy(#[from] PresetError),
    /// A policy that needs what was not offered.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// Where a replay left the journal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Difference {
    /// Though the policy decides the same, the machine does not take an event that it took then.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Another decision, or another reason.
    #[error("decision {index}, at {at}: {recorded} was recorded, {replayed} is what the replay says", recorded = told(.recorded), replayed = told(.replayed))]
    Decision {
        /// Which, from 0.
        index: usize,
        /// When it was made.
        at: Timestamp,
        /// What the journal holds.
        recorded: Box<Verdict>,
        /// What was decided now.
        replayed: Box<Verdict>,
    },
    /// Anything else: the line of the journal, from 0.
    #[error("line {0} of the journal differs")]
    Line(usize),
}

fn told(verdict: &Verdict) -> String {
    format!("`{}` because {}", decision_name(verdict.decision), verdict.reason)
}

/// What a replay came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// Events that the machine took then.
    pub events: usize,
    /// Decisions that were made then.
    pub decisions: usize,
    /// Where it first went another way; none if it went the same way to its end.
    pub difference: Option<Difference>,
}

impl RealJournal {
    /// As JSON, on one line.
    ///
    /// # Errors
    ///
    /// None for a journal of a run.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Reads what [`RealJournal::to_json`] wrote.
    ///
    /// # Errors
    ///
    /// A [`ReplayError`] that says what it is instead.
    pub fn from_json(text: &str) -> Result<Self, ReplayError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Head {
            kind: String,
            schema: u32,
        }
        let Head { kind, schema } = serde_json::from_str(text)?;
        if kind != NAME || schema != SCHEMA {
            return Err(ReplayError::Other { kind, schema });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// A source that has done nothing yet, and is otherwise as the one that wrote this.
    fn fresh(&self) -> Result<Source, ReplayError> {
        let policy = presets::build(&self.policy.preset, &self.policy.parameters)?;
        let layout = &self.configuration.layout;
        let controller = Controller::new(policy, layout.page_size(), layout.pages(), self.capabilities)?;
        Ok(Source::new(self.configuration.clone(), controller).with_patience(self.patience))
    }

    /// The first decision that a fresh policy would not make on what the recorded one saw.
    fn decided_otherwise(&self) -> Result<Option<Difference>, ReplayError> {
        let mut policy = presets::build(&self.policy.preset, &self.policy.parameters)?;
        let diverged = self.journal.replay_decisions(&mut *policy).err();
        Ok(diverged.map(|Diverged { index, at, recorded, replayed }| Difference::Decision {
            index,
            at,
            recorded,
            replayed,
        }))
    }

    /// Feeds the events to a fresh source, and compares what it decides with what was decided.
    ///
    /// # Errors
    ///
    /// A [`ReplayError`] if there is no such source.
    pub fn replay(&self) -> Result<Replayed, ReplayError> {
        let events =
            self.journal.entries().iter().filter(|entry| matches!(entry, Entry::Event { .. })).count();
        let decisions = self.journal.decisions().count();
        let difference = match self.fresh()?.replay(&self.journal) {
            // Most often because something else was decided before.
            Err(error) => Some(self.decided_otherwise()?.unwrap_or(error.into())),
            Ok(journal) => difference(&self.journal, &journal),
        };
        Ok(Replayed { events, decisions, difference })
    }
}

fn difference(recorded: &Journal, replayed: &Journal) -> Option<Difference> {
    if recorded.entries() == replayed.entries() {
        return None;
    }
    let mut pairs = recorded.decisions().zip(replayed.decisions());
    if let Some(index) = pairs.position(|((_, _, then), (_, _, now))| then != now) {
        let (then, now) = (recorded.decisions().nth(index)?, replayed.decisions().nth(index)?);
        let (at, recorded, replayed) = (then.1.now, Box::new(then.2.clone()), Box::new(now.2.clone()));
        return Some(Difference::Decision { index, at, recorded, replayed });
    }
    let same = recorded.entries().iter().zip(replayed.entries()).take_while(|(one, other)| one == other);
    Some(Difference::Line(same.count()))
}

#[cfg(test)]
mod tests;
