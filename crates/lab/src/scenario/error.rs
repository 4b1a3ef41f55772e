//! Why a scenario was refused. Every error says where (file and line, or the override), which key, what
//! stood there and what is accepted.

use std::fmt;
use std::io;
use std::sync::Arc;

use whimbrel_core::policy::ChangeError;
use whimbrel_core::policy::presets::PresetError;
use whimbrel_sim::config::ConfigError;

use super::named::PolicyError;
use crate::measured::MeasuredError;
use crate::trace::TraceFileError;

/// Where a value of a scenario was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Nowhere in particular in this file: it holds a default.
    File(Arc<str>),
    /// A line of a file, counted from 1.
    Line(Arc<str>, usize),
    /// An override, as given.
    Override(Arc<str>),
    /// The text that named the policy.
    Policy(Arc<str>),
    /// The given value (counted from 1) of a swept key, whose axis was written there.
    Sweep(Box<Place>, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Line(file, line) => write!(f, "{file}:{line}"),
            Self::Override(text) => write!(f, "--set {}", excerpt(text, 100)),
            Self::Policy(text) => write!(f, "policy {}", excerpt(text, 100)),
            Self::Sweep(axis, index) => write!(f, "{axis}: sweep value {index}"),
        }
    }
}

/// Why a scenario was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("cannot read {file}")]
    Read {
        /// The file's path.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is neither such a file nor a built-in workload of this name, but one of a name like it.
    #[error("there is no file `{name}`, and no built-in workload of this name; did you mean `{nearest}`?")]
    NoWorkload {
        /// What was written.
        name: String,
        /// What was most likely meant.
        nearest: &'static str,
    },
    /// There is neither such a file nor a built-in workload of this name, nor of one like it.
    #[error("there is no file `{name}`; accepted is a scenario file, or one of the built-in: {known}")]
    NoSuchWord {
        /// What was written.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The file is a directory.
    #[error("cannot read {file}: it is a directory, accepted is a TOML file")]
    Directory {
        /// Its path.
        file: String,
    },
    /// There is nothing in the file.
    #[error("cannot read scenario {file}: it is empty; accepted is a TOML file with at least one key")]
    Empty {
        /// Its path.
        file: String,
    },
    /// The file is larger than any scenario.
    #[error("cannot read {file}: it is larger than {MAX_FILE} bytes")]
    TooLarge {
        /// The file's path.
        file: String,
    },
    /// The file is not UTF-8.
    #[error("{at}: not UTF-8 text; a scenario is a TOML file")]
    NotText {
        /// The first line that is not.
        at: Place,
    },
    /// There is no built-in scenario of this name.
    #[error("no built-in scenario `{name}`: there are {known}")]
    NoBuiltin {
        /// The name.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// Not TOML; a key given twice is among these.
    #[error("{at}: {message}")]
    Syntax {
        /// Where.
        at: Place,
        /// What is wrong.
        message: String,
    },
    /// An override that is not `KEY=VALUE`.
    #[error("{at}: {message}; accepted is KEY=VALUE, such as link.bandwidth=1Gbit/s")]
    Override {
        /// The override.
        at: Place,
        /// What is wrong.
        message: String,
    },
    /// A key that scenarios do not have.
    #[error("{at}: unknown key `{key}`; {hint}")]
    UnknownKey {
        /// Where.
        at: Place,
        /// The dotted key.
        key: String,
        /// Which one was most likely meant, or which there are, as a phrase.
        hint: String,
    },
    /// A key that must be given and is not.
    #[error("{at}: `{key}` is missing")]
    Missing {
        /// Where it should stand.
        at: Place,
        /// The dotted key.
        key: String,
    },
    /// A value of the wrong type, or one that cannot be read.
    #[error("{at}: `{key}`: {message}")]
    Value {
        /// Where.
        at: Place,
        /// The dotted key.
        key: String,
        /// What stands there and what is accepted.
        message: String,
    },
    /// Values that can be read, but describe nothing that can exist.
    #[error("{at}: {fault}")]
    Config {
        /// Where the value was written.
        at: Place,
        /// Which one it is, and what is accepted.
        fault: ConfigError,
    },
    /// A preset that does not exist, or a value that a preset does not take.
    #[error("{at}: {fault}")]
    Preset {
        /// Where.
        at: Place,
        /// What is wrong, and what is accepted.
        fault: Box<PresetError>,
    },
    /// A text that names no policy.
    #[error("{at}")]
    Policy {
        /// Where.
        at: Place,
        /// Why it names none.
        source: Box<PolicyError>,
    },
    /// The same where the text alone is the place.
    #[error(transparent)]
    NoPolicy(#[from] Box<PolicyError>),
    /// A change of a parameter that the policy does not take while it runs.
    #[error("{at}: `{key}`: {fault}")]
    Change {
        /// Where.
        at: Place,
        /// The dotted key.
        key: String,
        /// What is wrong, and what is accepted.
        fault: Box<ChangeError>,
    },
    /// A parameter that no preset that runs has.
    #[error("{at}: preset `{preset}` has no parameter `{name}`; {hint}")]
    UnknownParameter {
        /// Where.
        at: Place,
        /// The preset, or presets if it is swept.
        preset: String,
        /// The parameter.
        name: String,
        /// The nearest known one, and all that there are.
        hint: String,
    },
    /// A trace that cannot be read.
    #[error("{at}: `{key}`")]
    Trace {
        /// Where.
        at: Place,
        /// The dotted key.
        key: String,
        /// What is wrong with the file.
        source: Box<TraceFileError>,
    },
    /// A measured program that cannot be read.
    #[error("{at}: `{key}`")]
    Measured {
        /// Where.
        at: Place,
        /// The dotted key.
        key: String,
        /// What is wrong with the file.
        source: Box<MeasuredError>,
    },
    /// A sweep that makes too many runs.
    #[error("{at}: the sweep makes {runs} runs (cells times run.repeat): accepted are at most {most}")]
    TooManyRuns {
        /// The scenario.
        at: Place,
        /// How many; `u64::MAX` may stand for more.
        runs: u64,
        /// The bound.
        most: u64,
    },
    /// A cell of the sweep describes nothing that can exist, though each value alone may.
    #[error("cell {index} of the sweep ({values})")]
    Cell {
        /// Which cell, counted from 0.
        index: u64,
        /// Its values, as `key=value`.
        values: String,
        /// What is wrong with it.
        source: Box<ScenarioError>,
    },
}

/// The largest file that is read: far more than any scenario needs.
pub(crate) const MAX_FILE: u64 = 4 << 20;

/// `text` in one line of at most `most` characters, so that a hostile file cannot fill a terminal.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let mut line: String = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        line.push('…');
    }
    line
}
