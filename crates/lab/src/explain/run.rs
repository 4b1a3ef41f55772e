//! What a run is made of, wherever it was noted: a scenario file, the JSON that `simulate` printed, a sweep's
//! directory.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::input;
use crate::result::{MigrationRecord, SCHEMA};
use crate::scenario::{Scenario, ScenarioError};
use crate::sweep::is_unfinished;
use crate::workloads;

/// The largest record of a run that is read.
const MOST: u64 = 256 << 20;

/// Why a place holds no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The place.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is JSON, but not what `simulate` prints.
    #[error(
        "{}: not a run; accepted are a scenario (TOML), what `whimbrel simulate --format json` printed, and a \
         directory that `whimbrel sweep` filled",
        path.display()
    )]
    NotARun {
        /// The place.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("{}: a record of schema {found}, accepted is {SCHEMA}", path.display())]
    Schema {
        /// The place.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// It is a directory of something else.
    #[error(
        "{}: a directory without scenario.toml; accepted is one that `whimbrel sweep` filled",
        path.display()
    )]
    NotASweep {
        /// The place.
        path: PathBuf,
    },
    /// It is a directory of a sweep that is not finished.
    #[error(
        "{}: the sweep in it is not finished; `whimbrel sweep` with --resume goes on with it",
        path.display()
    )]
    Unfinished {
        /// The place.
        path: PathBuf,
    },
    /// The scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// A run that was noted somewhere.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Noted {
    /// Its scenario.
    pub scenario: Scenario,
    /// What it came to, if that was noted too.
    pub came_to: Option<CameTo>,
    /// The directory, if it is a sweep's.
    pub sweep: Option<PathBuf>,
}

/// What a run came to, as it was noted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct CameTo {
    /// How it ended.
    pub outcome: String,
    /// Total time, milliseconds.
    pub total_ms: f64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

impl CameTo {
    /// Where a run that was made anew is not the one that was noted: the first difference, as noted and as made.
    pub fn differs(&self, run: &MigrationRecord) -> Option<String> {
        let said =
            |what: &str, noted: String, made: String| Some(format!("{what} {noted} there, {made} here"));
        if self.outcome != run.outcome {
            return said("outcome", self.outcome.clone(), run.outcome.to_owned());
        }
        if self.total_ms.to_bits() != run.total_ms.to_bits() {
            return said("total_ms", self.total_ms.to_string(), run.total_ms.to_string());
        }
        if self.sent_bytes != run.sent_bytes {
            return said("sent_bytes", self.sent_bytes.to_string(), run.sent_bytes.to_string());
        }
        None
    }
}

/// What `simulate --format json` prints, as far as it is needed to make the run anew.
#[derive(Deserialize)]
struct Printed {
    /// Of the record.
    schema: u32,
    /// With its seed.
    scenario: String,
    #[serde(flatten)]
    came_to: CameTo,
}

/// A row of a sweep's table.
#[derive(Deserialize)]
struct Row {
    cell: u64,
    repetition: u32,
    #[serde(flatten)]
    came_to: CameTo,
}

impl From<Scenario> for Noted {
    fn from(scenario: Scenario) -> Self {
        Self { scenario, came_to: None, sweep: None }
    }
}

impl Noted {
    /// Reads a run from a file or a directory, or that of a built-in workload.
    ///
    /// # Errors
    ///
    /// [`RunError`] if there is none, or it can't be read.
    pub fn load(path: &Path) -> Result<Self, RunError> {
        if path.is_dir() {
            let file = path.join("scenario.toml");
            if !file.is_file() && is_unfinished(path) {
                return Err(RunError::Unfinished { path: path.to_owned() });
            }
            if !file.is_file() {
                return Err(RunError::NotASweep { path: path.to_owned() });
            }
            let sweep = Some(path.to_owned());
            return Ok(Self { scenario: Scenario::load(&file)?, came_to: None, sweep });
        }
        // Read once: a pipe gives what it has only once.
        let text = match input::read(path, MOST) {
            Ok(text) if is_json(&text) => text,
            Ok(text) => return Ok(Scenario::of_file(&text, path)?.into()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(workloads::open(path)?.into());
            }
            Err(source) => return Err(RunError::Read { path: path.to_owned(), source }),
        };
        let printed: Printed = serde_json::from_slice(&text)
            .map_err(|source| RunError::NotARun { path: path.to_owned(), source })?;
        if printed.schema != SCHEMA {
            return Err(RunError::Schema { path: path.to_owned(), found: printed.schema });
        }
        let scenario = Scenario::parse(&printed.scenario, &path.display().to_string())?;
        Ok(Self { scenario, came_to: Some(printed.came_to), sweep: None })
    }

    /// What a run of the sweep came to, if its table is there and in JSON Lines.
    pub fn row(&self, cell: u64, repetition: u32) -> Option<CameTo> {
        let table = File::open(self.sweep.as_ref()?.join("migrations.jsonl")).ok()?;
        let rows = BufReader::new(table).lines().map_while(Result::ok);
        rows.filter_map(|line| serde_json::from_str::<Row>(&line).ok())
            .find(|row| (row.cell, row.repetition) == (cell, repetition))
            .map(|row| row.came_to)
    }
}

/// Whether it begins as an object of JSON does; no scenario does.
fn is_json(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}
