//! Measured migrations, as `reference/` holds them: one JSON object a line.
//!
//! Only what a prediction may know is read into [`Configuration`]; what happened goes into [`Outcome`] and
//! is never seen by the predictor.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::input;

/// One measured migration.
#[derive(Clone, Debug, Deserialize)]
pub struct Measured {
    /// What was asked for.
    pub cfg: Configuration,
    /// What happened.
    pub result: Outcome,
}

/// What was asked for; the fields are explained in `reference/qemu/README.md`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)] // Documented there, under the same names.
pub struct Configuration {
    pub name: String,
    pub m: u64,
    pub mem: u64,
    pub wws: u64,
    pub rate: f64,
    pub pattern: String,
    #[serde(default = "hot_pages")]
    pub hot_pages: f64,
    #[serde(default = "hot_writes")]
    pub hot_writes: f64,
    #[serde(default = "theta")]
    pub theta: f64,
    pub link: f64,
    pub bw: f64,
    pub dl: f64,
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    #[serde(default)]
    pub caps: Vec<String>,
    #[serde(default)]
    pub params: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub postcopy_after_ms: Option<f64>,
    #[serde(default)]
    pub dst_prealloc: bool,
    #[serde(default = "wbytes")]
    pub wbytes: u64,
    #[serde(default)]
    pub prog: Option<String>,
    #[serde(default)]
    pub curve: Option<String>,
}

impl Configuration {
    /// Its name without the number of the repetition.
    pub fn common_name(&self) -> &str {
        match self.name.rsplit_once("-rep") {
            Some((name, number)) if number.parse::<u32>().is_ok() => name,
            _ => &self.name,
        }
    }

    /// Whether both are repetitions of the same.
    pub fn same(&self, other: &Self) -> bool {
        let plain = |run: &Self| Self { name: run.common_name().to_owned(), ..run.clone() };
        plain(self) == plain(other)
    }
}

fn hot_pages() -> f64 {
    0.1
}

fn hot_writes() -> f64 {
    0.9
}

fn theta() -> f64 {
    0.99
}

fn wbytes() -> u64 {
    1
}

fn timeout_s() -> f64 {
    25.0
}

/// What happened.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Outcome {
    pub converged: bool,
    #[serde(default)]
    pub total_ms: Option<f64>,
    #[serde(default)]
    pub downtime_ms: Option<f64>,
    #[serde(default)]
    pub stop_resume_ms: Option<f64>,
    #[serde(default)]
    pub beat_gap_ms: Option<f64>,
    #[serde(default)]
    pub transferred: Option<f64>,
    #[serde(default)]
    pub syncs: Option<u64>,
}

/// The figures of one migration, measured or predicted. Those of one that did not converge are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// It completed in its time.
    pub converged: bool,
    /// Total migration time as the source reports it.
    pub total_ms: Option<f64>,
    /// Bytes sent.
    pub sent_bytes: Option<f64>,
    /// Downtime as the source reports it; none in post-copy, where that is not the guest's.
    pub downtime_ms: Option<f64>,
    /// What the guest's absence really was: from stop to resume, in post-copy from its last heartbeat at the
    /// source to its first at the destination.
    pub silence_ms: Option<f64>,
    /// Passes over memory.
    pub rounds: Option<u64>,
}

impl Outcome {
    /// The figures that are compared, of a run that used post-copy or did not.
    pub fn figures(&self, post_copy: bool) -> Figures {
        if !self.converged {
            return Figures::default();
        }
        Figures {
            converged: true,
            total_ms: self.total_ms,
            sent_bytes: self.transferred,
            downtime_ms: self.downtime_ms.filter(|_| !post_copy),
            silence_ms: if post_copy { self.beat_gap_ms } else { self.stop_resume_ms },
            // The log is looked at once at the start, once a pass and, but for post-copy, once paused.
            rounds: self.syncs.map(|syncs| syncs.saturating_sub(u64::from(!post_copy))),
        }
    }
}

/// A reference file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line of it.
    #[error("{}:{line}: not a measured migration", path.display())]
    Line {
        /// Of which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file holds no migration.
    #[error("{}: no measured migrations in it", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// Reads a reference file. Lines of runs that gave no result (`error` in place of `result`) are counted.
///
/// # Errors
///
/// [`ReferenceError`] at the first line that is not a measured migration.
pub fn read(path: &Path) -> Result<(Vec<Measured>, Vec<String>), ReferenceError> {
    let fail = |source| ReferenceError::Read { path: path.to_owned(), source };
    let text = input::read_text(path, u64::MAX).map_err(input::said).map_err(fail)?;
    let (mut runs, mut without) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |source| ReferenceError::Line { path: path.to_owned(), line: index + 1, source };
        let value: serde_json::Value = serde_json::from_str(line).map_err(bad)?;
        if value.get("result").is_none() && value.get("error").is_some() {
            let name = value.pointer("/cfg/name").and_then(serde_json::Value::as_str);
            without.push(name.unwrap_or("a run without a name").to_owned());
            continue;
        }
        runs.push(serde_json::from_value(value).map_err(bad)?);
    }
    if runs.is_empty() && without.is_empty() {
        return Err(ReferenceError::Empty { path: path.to_owned() });
    }
    Ok((runs, without))
}
