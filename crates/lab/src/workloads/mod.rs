//! The built-in sets of workloads: what policies are compared, tested and designed on.
//!
//! A workload is a scenario file of `scenarios/`, built into the program and known by its name: `whimbrel simulate
//! database` runs one, `whimbrel compare` all of the comparison set. The three sets share no guest, so that a policy
//! that was tuned on [`design`] and judged on [`held_out`] was judged on what it had not seen; a test holds
//! them apart. Nothing is run here. Where each number is from stands in the file it is in.

#[cfg(test)]
mod tests;

use std::path::Path;

use whimbrel_core::policy::presets::nearest_name;

use crate::input;
use crate::scenario::{Scenario, ScenarioError};

/// A workload: a scenario with a name.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name: the file's without the ending.
    pub name: String,
    /// What it is, in a sentence: the first of the file's opening comment.
    pub about: String,
    /// The scenario.
    pub scenario: Scenario,
}

/// A set of built-in workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// What policies are compared on.
    Comparison,
    /// What nothing may be designed or tuned on.
    HeldOut,
    /// What policies may be designed and tuned on.
    Design,
}

impl Set {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Comparison, Self::HeldOut, Self::Design];

    /// Its name: that of its folder.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Comparison => "comparison",
            Self::HeldOut => "held-out",
            Self::Design => "design",
        }
    }

    /// The set of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    const fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Comparison => COMPARISON,
            Self::HeldOut => HELD_OUT,
            Self::Design => DESIGN,
        }
    }

    /// Its workloads, in their order.
    ///
    /// # Errors
    ///
    /// None but by a fault of ours: tests read all of them.
    pub fn workloads(self) -> Result<Vec<Workload>, ScenarioError> {
        self.files().iter().map(|(name, text)| built_in(self, name, text)).collect()
    }
}

/// The workloads of `scenarios/comparison/`.
///
/// # Errors
///
/// As [`Set::workloads`].
pub fn comparison() -> Result<Vec<Workload>, ScenarioError> {
    Set::Comparison.workloads()
}

/// The workloads of `scenarios/held-out/`: nothing may be designed or tuned on them.
///
/// # Errors
///
/// As [`Set::workloads`].
pub fn held_out() -> Result<Vec<Workload>, ScenarioError> {
    Set::HeldOut.workloads()
}

/// The workloads of `scenarios/design/`.
///
/// # Errors
///
/// As [`Set::workloads`].
pub fn design() -> Result<Vec<Workload>, ScenarioError> {
    Set::Design.workloads()
}

/// Every built-in workload's set and name.
pub fn names() -> impl Iterator<Item = (Set, &'static str)> {
    Set::ALL.into_iter().flat_map(|set| set.files().iter().map(move |(name, _)| (set, *name)))
}

/// Reads a scenario as it is named on the command line: a file, or a built-in workload or scenario if there is no
/// such file.
///
/// # Errors
///
/// As [`Scenario::load`].
pub fn open(path: &Path) -> Result<Scenario, ScenarioError> {
    match path.to_str().filter(|_| !path.exists()).and_then(find) {
        Some(workload) => Ok(workload?.scenario),
        None => load(path),
    }
}

/// Reads workloads as they are named on the command line: a file, a built-in workload, or a set of them.
///
/// # Errors
///
/// As [`Scenario::load`].
pub fn open_all(path: &Path) -> Result<Vec<Workload>, ScenarioError> {
    let text = path.to_str().filter(|_| !path.exists());
    if let Some(set) = text.and_then(Set::named) {
        return set.workloads();
    }
    if let Some(workload) = text.and_then(find) {
        return Ok(vec![workload?]);
    }
    let scenario = load(path)?;
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    // What can't be read twice (a pipe) says nothing of itself.
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    let about = if path.is_file() { about(&read()) } else { String::new() };
    Ok(vec![Workload { name, about, scenario }])
}

/// Loads a file; if there is none, says which name was most likely meant, or what names there are.
fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    let known = || names().map(|(_, name)| name).chain(Set::ALL.map(Set::name));
    let named = |name: &&str| *name != input::STANDARD && !path.exists();
    let Some(name) = path.to_str().filter(named) else { return Scenario::load(path) };
    match nearest_name(name, known()) {
        Some(nearest) => Err(ScenarioError::NoWorkload { name: name.to_owned(), nearest }),
        // A word, and not the path of a file.
        None if Path::new(name).components().count() == 1 && path.extension().is_none() => {
            Err(ScenarioError::NoSuchWord {
                name: name.to_owned(),
                known: known().collect::<Vec<_>>().join(", "),
            })
        }
        None => Scenario::load(path),
    }
}

fn find(name: &str) -> Option<Result<Workload, ScenarioError>> {
    let found = |set: Set| {
        set.files().iter().find(|(known, _)| *known == name).map(|(name, text)| built_in(set, name, text))
    };
    Set::ALL.into_iter().find_map(found)
}

fn built_in(set: Set, name: &str, text: &str) -> Result<Workload, ScenarioError> {
    let scenario = Scenario::parse(text, &format!("scenarios/{}/{name}.toml", set.name()))?;
    Ok(Workload { name: name.to_owned(), about: about(text), scenario })
}

/// The first sentence of the comment that `text` begins with.
fn about(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let comment = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    match comment.find(". ") {
        Some(end) => comment[..=end].to_owned(),
        None => comment,
    }
}

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../scenarios/", $folder, "/", $name, ".toml")))),+]
    };
}

const COMPARISON: &[(&str, &str)] = files!("comparison":
    "idle", "web", "database", "in-memory-store", "video-stream", "kernel-build", "scientific",
    "memory-bomb", "bursty", "bandwidth-drop", "outage", "large-guest",
);

const HELD_OUT: &[(&str, &str)] = files!("held-out":
    "desktop", "message-queue", "java-service", "game-server", "wide-area", "analytics",
    "cache-warming", "flapping-link", "search-index",
);

const DESIGN: &[(&str, &str)] = files!("design":
    "light", "moderate", "near-the-edge", "over-the-edge", "small-hot-set", "slow-tide", "fast-pulse",
    "sweeping", "skewed", "growing", "fading-link", "short-outages", "steady-heavy", "two-tenants",
);
