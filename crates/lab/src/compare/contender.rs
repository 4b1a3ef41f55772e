//! Who takes part: a policy and the name that it is compared under.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use whimbrel_core::policy::Policy;
use whimbrel_core::policy::presets::{self, PRESETS, PresetError};
use whimbrel_sim::PolicyChange;

use super::CompareError;
use crate::scenario::{PolicySpec, Scenario};
use crate::sweep::change;

/// A policy that takes part, under a name of its own.
#[derive(Clone, Debug)]
pub struct Contender {
    /// The name, unlike all others' in a comparison.
    pub name: String,
    /// The policy, at its beginning.
    pub policy: Box<dyn Policy>,
    /// What somebody changes while it runs.
    pub changes: Vec<PolicyChange>,
}

impl Contender {
    /// A policy of whatever kind.
    pub fn new(name: impl Into<String>, policy: Box<dyn Policy>) -> Self {
        Self { name: name.into(), policy, changes: Vec::new() }
    }

    /// Every preset with its defaults.
    ///
    /// # Errors
    ///
    /// None but by a fault of ours.
    pub fn presets() -> Result<Vec<Self>, PresetError> {
        let contender = |name: &str| Ok(Self::new(name, presets::build(name, &Default::default())?));
        PRESETS.iter().map(|preset| contender(preset.name)).collect()
    }

    /// A policy as it is named on the command line: a preset, a preset with parameters
    /// (`xen-5:max-iterations=10,min-dirty=100`), or a file with a table `[policy]`.
    ///
    /// # Errors
    ///
    /// If there is no such preset, it does not take a parameter, or the file can't be read.
    pub fn parse(text: &str) -> Result<Self, CompareError> {
        let (preset, parameters) = text.split_once(':').unwrap_or((text, ""));
        if presets::find(preset).is_none() {
            let path = Path::new(text);
            if path.exists() || path.extension().is_some_and(|extension| extension == "toml") {
                return Self::load(path);
            }
        }
        let mut given = std::collections::BTreeMap::new();
        for part in parameters.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| CompareError::Parameter { policy: text.to_owned(), part: part.to_owned() })?;
            given.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self::new(text, presets::build(preset, &given)?))
    }

    /// The policy of a file: its table `[policy]`, under the name that the key `name` gives it, there or at the top
    /// of the file; without one, under the file's name.
    ///
    /// # Errors
    ///
    /// As [`Scenario::load`], and if there is no such table.
    pub fn load(path: &Path) -> Result<Self, CompareError> {
        let shown = path.display().to_string();
        let text = read(path).map_err(|source| CompareError::Policy { file: shown.clone(), source })?;
        let (name, rest) = take_name(&text);
        let scenario = Scenario::parse(&rest, &shown)?;
        let stem = || path.file_stem().map_or(shown.clone(), |stem| stem.to_string_lossy().into_owned());
        Self::of(name.unwrap_or_else(stem), scenario.own_policy()?).map_err(CompareError::Preset)
    }

    fn of(name: String, spec: &PolicySpec) -> Result<Self, PresetError> {
        Ok(Self { name, policy: spec.build()?, changes: spec.changes.iter().map(change).collect() })
    }
}

/// The most that is read of a policy's file.
const MOST: u64 = 1 << 20;

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// Takes the key `name` out of the file and of its table `[policy]`; blanks are left in its place, so that whatever
/// else is wrong is told with the right line.
fn take_name(text: &str) -> (Option<String>, String) {
    let Ok(table) = DeTable::parse(text) else {
        // What is wrong will be told by whoever reads the rest.
        return (None, text.to_owned());
    };
    let root = table.get_ref();
    let policy = match root.get("policy").map(toml::Spanned::get_ref) {
        Some(DeValue::Table(policy)) => Some(policy),
        _ => None,
    };
    let (mut name, mut rest) = (None, text.to_owned());
    for table in [Some(root), policy].into_iter().flatten() {
        let entry = table.iter().find(|(key, _)| key.get_ref() == "name");
        if let Some((key, value)) = entry
            && let DeValue::String(text) = value.get_ref()
        {
            name = Some(text.clone().into_owned());
            let span = key.span().start..value.span().end;
            let blank = |byte: u8| if byte == b'\n' { '\n' } else { ' ' };
            let blanks: String = rest.as_bytes()[span.clone()].iter().map(|byte| blank(*byte)).collect();
            rest.replace_range(span, &blanks);
        }
    }
    (name, rest)
}
