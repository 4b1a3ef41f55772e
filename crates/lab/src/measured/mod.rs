//! Guests by measurement: a program's working-set curve in, the model of its writes out.
//!
//! Scenarios with `pattern = "measured"` and the validation against real programs call [`load`], or [`fit()`]
//! with what they observed themselves; [`check()`] measures a model as its program was measured. What is fitted
//! knows the curve alone: no migration, no host, no policy, and no name of a program.
//!
//! [`curve`] reads the files that `reference/qemu/programs/` describes. The method and its sources stand in
//! `docs/measured.md`.

pub mod check;
pub mod curve;
mod dictionary;
mod fit;
mod nnls;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use self::check::{Checked, check};
pub use self::curve::{ProgramCurve, ReadyMemory};
pub use self::fit::{Change, Observation, Stage, WindowFact, fit};
use crate::trace::TraceFileError;
use crate::trace::stats::{Statistics, TooLarge};
use whimbrel_core::units::Share;
use whimbrel_sim::config::MeasuredWrites;
use whimbrel_sim::trace::NamedTrace;

/// A measurement could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasuredError {
    /// The file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any measurement.
    #[error("{}: more than {most} bytes, which no file of curves has", path.display())]
    Large {
        /// Which.
        path: PathBuf,
        /// The most that is read.
        most: u64,
    },
    /// A line of it.
    #[error("{}:{line}: not a measured program: {what}", path.display())]
    Line {
        /// Of which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// No such program.
    #[error("{}: no program `{program}` in it; it has {known}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        program: String,
        /// What there is.
        known: String,
    },
    /// The trace whose statistics were asked for.
    #[error(transparent)]
    Trace(#[from] TraceFileError),
    /// A trace that is too large for statistics.
    #[error(transparent)]
    Statistics(#[from] TooLarge),
    /// The name says no program.
    #[error("`{name}` names no program; write `FILE#PROGRAM`")]
    Name {
        /// What was given.
        name: String,
    },
}

/// The model of the program that `name` (`FILE#PROGRAM`, the file relative to `folder`) was measured to be.
///
/// # Errors
///
/// [`MeasuredError`] if there is none.
pub fn load(name: &str, folder: &Path) -> Result<Arc<MeasuredWrites>, MeasuredError> {
    let (file, program) =
        name.rsplit_once('#').ok_or_else(|| MeasuredError::Name { name: name.to_owned() })?;
    let path = folder.join(file);
    let curve = curve::read(&path)?.into_iter().find(|curve| curve.program == program);
    match curve {
        Some(curve) => Ok(fitted(&curve)),
        None => Err(MeasuredError::Unknown {
            known: curve::names(&curve::read(&path)?),
            path,
            program: program.to_owned(),
        }),
    }
}

/// The model of the guest that a trace was recorded of, which used this part of a vCPU.
///
/// # Errors
///
/// If the trace is not there or has too many pages.
pub fn of_trace(trace: &NamedTrace, busy: Share) -> Result<Arc<MeasuredWrites>, MeasuredError> {
    let stages = match trace.trace() {
        Some(trace) => vec![Stage::of(&Statistics::of(trace)?)],
        None => Vec::new(),
    };
    Ok(remembered(&Observation { stages, busy, changes: Vec::new() }))
}

/// The model of a program. Fits are remembered: a sweep asks for the same one in every cell.
pub fn fitted(curve: &ProgramCurve) -> Arc<MeasuredWrites> {
    remembered(&curve.observation())
}

fn remembered(observation: &Observation) -> Arc<MeasuredWrites> {
    /// Fits by what was fitted, so that remembering changes no result.
    static KNOWN: Mutex<BTreeMap<String, Arc<MeasuredWrites>>> = Mutex::new(BTreeMap::new());
    let key = format!("{observation:?}");
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(model) = known().get(&key) {
        return Arc::clone(model);
    }
    let model = Arc::new(fit(observation));
    let mut known = known();
    if known.len() >= MOST_REMEMBERED {
        known.clear();
    }
    known.insert(key, Arc::clone(&model));
    model
}

/// Fits that are remembered.
const MOST_REMEMBERED: usize = 64;
