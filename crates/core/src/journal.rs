//! What happened and what was decided, so that a run can be explained and replayed.
//!
//! The source's machine writes every event it took, the controller every decision with the whole
//! record it was made on. Feeding the events to a fresh machine gives the same journal, byte for byte
//! ([`Source::replay`](crate::machine::Source::replay)); asking a fresh policy with the recorded
//! progress gives the same verdicts ([`Journal::replay_decisions`]). A journal reads no clock: all
//! times in it are the events' own.
//!
//! It grows with every tick. Whoever runs a machine for long, as the live engine does, takes its lines away now and then
//! ([`Source::drain_journal`](crate::machine::Source::drain_journal)), and they are replayed line by line
//! ([`Source::replay_line`](crate::machine::Source::replay_line)). Of the guest's state only kinds and versions are kept: the machine looks at nothing else, it may be
//! large, and it is recorded while the guest stands still.

use serde::{Deserialize, Serialize};

use crate::machine::SourceEvent;
use crate::machine::message::Section;
use crate::policy::{Policy, Verdict};
use crate::progress::{Moment, Progress};
use crate::units::Timestamp;

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)] // Decisions are most of the lines; a box each would cost more.
pub enum Entry {
    /// The machine took an event.
    Event {
        /// When.
        at: Timestamp,
        /// Which.
        event: SourceEvent,
    },
    /// The policy was asked.
    Decision {
        /// At which moment.
        moment: Moment,
        /// What it was shown.
        progress: Progress,
        /// What it answered.
        verdict: Verdict,
    },
    /// Another policy took over. A journal with this line can't be replayed.
    Replaced {
        /// When.
        at: Timestamp,
        /// Its name.
        policy: String,
        /// Its parameters, if it tells them.
        parameters: Vec<(String, String)>,
    },
}

/// Events and decisions in the order in which they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Journal {
    /// Version of this format; [`Journal::SCHEMA`].
    schema: u32,
    #[serde(skip, default = "yes")]
    recording: bool,
    /// Its first lines were taken away.
    #[serde(skip)]
    parted: bool,
    entries: Vec<Entry>,
}

fn yes() -> bool {
    true
}

impl Journal {
    /// The version of the format that this code writes.
    pub const SCHEMA: u32 = 1;

    /// An empty journal that records.
    pub const fn recording() -> Self {
        Self { schema: Self::SCHEMA, recording: true, parted: false, entries: Vec::new() }
    }

    /// A journal that stays empty.
    pub const fn off() -> Self {
        Self { schema: Self::SCHEMA, recording: false, parted: false, entries: Vec::new() }
    }

    /// Forgets its lines; records on if it did.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.parted = false;
    }

    /// Gives its lines away, and records on in the memory that it has.
    pub(crate) fn drain(&mut self) -> std::vec::Drain<'_, Entry> {
        self.parted = true;
        self.entries.drain(..)
    }

    /// Room for so many lines, so that recording them takes no more.
    pub(crate) fn reserve(&mut self, lines: usize) {
        self.entries.reserve(lines);
    }

    /// Whether it holds everything since the migration began.
    pub(crate) fn is_whole(&self) -> bool {
        self.recording && !self.parted
    }

    /// Its lines.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The decisions alone.
    pub fn decisions(&self) -> impl Iterator<Item = (Moment, &Progress, &Verdict)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Decision { moment, progress, verdict } => Some((*moment, progress, verdict)),
            Entry::Event { .. } | Entry::Replaced { .. } => None,
        })
    }

    /// Whether it records.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    pub(crate) fn replaced(&mut self, at: Timestamp, policy: String, parameters: Vec<(String, String)>) {
        if self.recording {
            self.entries.push(Entry::Replaced { at, policy, parameters });
        }
    }

    #[inline]
    pub(crate) fn event(&mut self, at: Timestamp, event: &SourceEvent) {
        if self.recording {
            self.entries.push(Entry::Event { at, event: kept(event) });
        }
    }

    pub(crate) fn decided(&mut self, moment: Moment, progress: &Progress, verdict: &Verdict) {
        if self.recording {
            self.entries.push(Entry::Decision {
                moment,
                progress: progress.clone(),
                verdict: verdict.clone(),
            });
        }
    }

    /// Shows a fresh policy what the recorded one was shown, and compares the verdicts.
    ///
    /// # Errors
    ///
    /// [`Diverged`] at the first verdict that differs.
    pub fn replay_decisions(&self, policy: &mut dyn Policy) -> Result<(), Diverged> {
        let mut index = 0;
        for entry in &self.entries {
            let (moment, progress, verdict) = match entry {
                Entry::Decision { moment, progress, verdict } => (*moment, progress, verdict),
                Entry::Event { event: SourceEvent::Change { parameter, value }, .. } => {
                    // One that it did not take was not recorded.
                    let _ = policy.set_parameter(parameter, value);
                    continue;
                }
                Entry::Event { .. } | Entry::Replaced { .. } => continue,
            };
            let now = policy.decide(moment, progress);
            if now != *verdict {
                return Err(Diverged {
                    index,
                    at: progress.now,
                    recorded: Box::new(verdict.clone()),
                    replayed: Box::new(now),
                });
            }
            index += 1;
        }
        Ok(())
    }
}

/// What of an event is kept.
fn kept(event: &SourceEvent) -> SourceEvent {
    match event {
        SourceEvent::Saved(sections) => {
            let kept = |section: &Section| Section {
                kind: section.kind.clone(),
                version: section.version,
                bytes: Vec::new(),
            };
            SourceEvent::Saved(sections.iter().map(kept).collect())
        }
        other => other.clone(),
    }
}

/// A replayed policy decided otherwise.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "decision {index}, at {at}, was {:?} because {}; replayed it is {:?} because {}",
    recorded.decision, recorded.reason, replayed.decision, replayed.reason
)]
pub struct Diverged {
    /// Which decision of the journal, from 0.
    pub index: usize,
    /// When it was made.
    pub at: Timestamp,
    /// What the journal holds.
    pub recorded: Box<Verdict>,
    /// What the policy says now.
    pub replayed: Box<Verdict>,
}
