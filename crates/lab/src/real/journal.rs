//! The journal of a real migration as a file, with all that it takes to replay it.
//!
//! Written by `whimbrel send` line by line while the guest is moved, read by `whimbrel replay` in the same way: neither ever holds more of it
//! than a few lines, however long it took. The first line says what the source was made of, each other one is an event or a decision.
//! Replaying feeds what happened to a source that has done nothing yet: the same machine as the simulator's. It must decide the same.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::controller::{Controller, Unsupported};
use whimbrel_core::journal::Entry;
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
pub const SCHEMA: u32 = 2;

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

/// What the source of a journal was made of: its first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Head {
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
}

/// Why a journal was not replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// Not a journal.
    #[error("it is not a journal that `whimbrel send` wrote")]
    Head(#[source] serde_json::Error),
    /// Damaged.
    #[error("line {line} is no line of a journal")]
    Line {
        /// Which, from 1; the first one is the head.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
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
    /// Though all was decided as it was, the machine does not take an event that it took then.
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
    /// Anything else: the line of the file, from 1.
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

impl Head {
    /// As the first line of the file.
    ///
    /// # Errors
    ///
    /// None for that of a run.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Reads the first line of a journal, and leaves `from` behind it.
    ///
    /// # Errors
    ///
    /// A [`ReplayError`] that says what it is instead.
    pub fn read(from: &mut impl BufRead) -> Result<Self, ReplayError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Every {
            kind: String,
            schema: u32,
        }
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Every { kind, schema } = serde_json::from_str(&line).map_err(ReplayError::Head)?;
        if kind != NAME || schema != SCHEMA {
            return Err(ReplayError::Other { kind, schema });
        }
        serde_json::from_str(&line).map_err(ReplayError::Head)
    }

    /// A source that has done nothing yet, and is otherwise as the one that wrote this.
    fn fresh(&self) -> Result<Source, ReplayError> {
        let policy = presets::build(&self.policy.preset, &self.policy.parameters)?;
        let layout = &self.configuration.layout;
        let controller = Controller::new(policy, layout.page_size(), layout.pages(), self.capabilities)?;
        Ok(Source::new(self.configuration.clone(), controller).with_patience(self.patience))
    }

    /// Feeds the events behind this head to a fresh source, and compares what it decides with what was decided. Everything is read, so
    /// that a damaged file is found out, but nothing is compared behind the first difference.
    ///
    /// # Errors
    ///
    /// A [`ReplayError`] if there is no such source, or the file ends in the middle of a line.
    pub fn replay(&self, from: impl BufRead) -> Result<Replayed, ReplayError> {
        let mut replay = Replay { source: self.fresh()?, written: VecDeque::new(), decisions: 0 };
        let mut replayed = Replayed { events: 0, decisions: 0, difference: None };
        let mut number = 1;
        for line in from.lines() {
            number += 1;
            let entry =
                serde_json::from_str(&line?).map_err(|source| ReplayError::Line { line: number, source })?;
            match entry {
                Entry::Event { .. } => replayed.events += 1,
                Entry::Decision { .. } => replayed.decisions += 1,
                Entry::Replaced { .. } => {}
            }
            if replayed.difference.is_none() {
                replayed.difference = replay.compare(&entry, number).err();
            }
        }
        if replayed.difference.is_none() && !replay.written.is_empty() {
            replayed.difference = Some(Difference::Line(number + 1));
        }
        Ok(replayed)
    }
}

/// A line of a journal, for the file.
///
/// # Errors
///
/// None for one of a run.
pub fn to_line(entry: &Entry) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string(entry)? + "\n")
}

/// A replay that went the same way so far.
struct Replay {
    source: Source,
    /// What it wrote and what was not compared yet: decisions behind the last event.
    written: VecDeque<Entry>,
    /// Compared so far.
    decisions: usize,
}

impl Replay {
    /// The next line as it was recorded; `number` is its place in the file.
    fn compare(&mut self, recorded: &Entry, number: usize) -> Result<(), Difference> {
        // Behind an event everything is written that was decided because of it.
        if self.written.is_empty() {
            self.source.replay_line(recorded)?;
            self.written.extend(self.source.drain_journal());
        }
        let replayed = self.written.pop_front();
        match (recorded, replayed) {
            (recorded, Some(replayed)) if *recorded == replayed => {
                self.decisions += usize::from(matches!(recorded, Entry::Decision { .. }));
                Ok(())
            }
            (Entry::Decision { progress, verdict: then, .. }, Some(Entry::Decision { verdict: now, .. }))
                if *then != now =>
            {
                Err(Difference::Decision {
                    index: self.decisions,
                    at: progress.now,
                    recorded: Box::new(then.clone()),
                    replayed: Box::new(now),
                })
            }
            _ => Err(Difference::Line(number)),
        }
    }
}

#[cfg(test)]
mod tests;
