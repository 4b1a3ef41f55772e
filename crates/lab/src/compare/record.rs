//! A comparison as it is stored. Field names are stable.

use serde::Serialize;

use super::summary::Summary;
use super::{Comparison, SCHEMA, Seeds};
use crate::outcome::Figures;

/// A run as it is stored, one a line.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RunRow<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The workload's name.
    pub workload: &'a str,
    /// The policy's name.
    pub policy: &'a str,
    /// Counted from 0.
    pub repetition: u64,
    /// The seed that repeats it.
    pub seed: u64,
    /// What came of it.
    #[serde(flatten)]
    pub figures: Figures,
}

impl RunRow<'_> {
    /// A line of JSON, its end included.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// By this a directory is known to hold a comparison's results.
pub(super) const MARK: &str = "whimbrel compare";

#[derive(Serialize)]
struct Stored<'a> {
    made_by: &'static str,
    schema: u32,
    version: &'static str,
    seeds: Seeds,
    seed: u64,
    repeat: u32,
    planned: u32,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// The summary as JSON, readable, its last line end included.
pub(super) fn json(comparison: &Comparison, summary: &Summary) -> String {
    let stored = Stored {
        made_by: MARK,
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        seeds: comparison.seeds,
        seed: comparison.seed,
        repeat: comparison.repeat,
        planned: comparison.planned,
        summary,
    };
    let mut text = serde_json::to_string_pretty(&stored).unwrap_or_default();
    text.push('\n');
    text
}
