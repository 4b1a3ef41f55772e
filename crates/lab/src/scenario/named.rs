//! Policies as they are named wherever one can be: `xen-5`, `xen-5:max-iterations=9,name=patient`, `patient.toml`.
//!
//! `--policy`, `--against`, `--set policy.preset=…` and the values of a swept `policy.preset` all read them here. A
//! preset alone keeps what the scenario says of parameters that it has too; a file replaces the scenario's policy.

use std::path::Path;

use whimbrel_core::policy::presets::{self, PresetError};

use super::document::{Document, Node, Value};
use super::error::{Place, ScenarioError, excerpt};
use super::kind::Kind;
use super::policy::{NAME, PolicySpec};
use super::{Scenario, overrides};

/// Why a text names no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// There is no such preset, or it does not take a parameter.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// A part behind the preset is no `NAME=VALUE`.
    #[error("`{part}` in `{policy}` is not accepted; write a parameter as NAME=VALUE")]
    Parameter {
        /// The whole text.
        policy: String,
        /// The part.
        part: String,
    },
    /// The name that is given to it cannot be one.
    #[error("`name` in `{policy}`: {message}")]
    Name {
        /// The whole text.
        policy: String,
        /// What stands there and what is accepted.
        message: String,
    },
    /// A policy of a file cannot be a value of a sweep.
    #[error("{policy} changes its parameters while it runs (`policy.changes`), which no swept value can")]
    Changes {
        /// The file.
        policy: String,
    },
    /// The file is wrong.
    #[error(transparent)]
    File(Box<ScenarioError>),
}

impl PolicyError {
    /// The same, with where the policy was named.
    pub(super) fn at(self, at: Place) -> ScenarioError {
        match self {
            Self::Preset(fault) => ScenarioError::Preset { at, fault: Box::new(fault) },
            other => ScenarioError::Policy { at, source: Box::new(other) },
        }
    }
}

/// Reads a policy as it is named: a preset, one with parameters (`NAME:PARAMETER=VALUE,…`, of which `name` is what it
/// is called), or a file with a table `[policy]`. A file's policy that has no name is called as the file is.
///
/// # Errors
///
/// If there is no such preset, it does not take a parameter, or the file cannot be read.
pub fn named(text: &str) -> Result<PolicySpec, PolicyError> {
    if is_policy_file(text, Path::new("")) {
        return of_file(Path::new(text));
    }
    let (preset, parameters) = text.split_once(':').unwrap_or((text, ""));
    let mut spec = PolicySpec { preset: preset.to_owned(), ..PolicySpec::default() };
    for part in parameters.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| PolicyError::Parameter { policy: excerpt(text, 100), part: excerpt(part, 48) })?;
        let (name, value) = (name.trim(), value.trim());
        if name == NAME {
            spec.name = Some(check_name(value).map_err(|message| {
                let policy = excerpt(text, 100);
                PolicyError::Name { policy, message }
            })?);
        } else {
            spec.parameters.insert(name.to_owned(), value.to_owned());
        }
    }
    spec.build()?;
    Ok(spec)
}

/// Whether a policy's name can be this one.
///
/// # Errors
///
/// What is accepted.
pub fn check_name(name: &str) -> Result<String, String> {
    Kind::Label.read(&Value::Text(name.to_owned())).map(|_| name.to_owned())
}

/// Whether it is the path of a file, from `folder` on, and not a preset with or without parameters.
pub(super) fn is_policy_file(text: &str, folder: &Path) -> bool {
    let preset = text.split_once(':').map_or(text, |(preset, _)| preset);
    let path = folder.join(text);
    presets::find(preset).is_none()
        && (path.exists()
            || text.contains('/')
            || path.extension().is_some_and(|extension| extension == "toml"))
}

fn of_file(path: &Path) -> Result<PolicySpec, PolicyError> {
    let wrong = |error| PolicyError::File(Box::new(error));
    let mut spec = Scenario::load(path).map_err(wrong)?.own_policy().map_err(wrong)?.clone();
    if spec.name.is_none() {
        let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        spec.name = check_name(&excerpt(&stem, 50)).ok();
    }
    Ok(spec)
}

impl PolicySpec {
    /// The same policy as a text that names it, without the file that it was read from.
    fn text(&self) -> String {
        let parameters = self.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        let name = self.name.iter().map(|name| format!("{NAME}={}", name.replace(',', ";")));
        let all: Vec<_> = name.chain(parameters).collect();
        if all.is_empty() { self.preset.clone() } else { format!("{}:{}", self.preset, all.join(",")) }
    }
}

impl Document {
    /// Takes the policy that `text` names, in place of the scenario's.
    pub(super) fn name_policy(&mut self, text: &str, at: &Place) -> Result<(), PolicyError> {
        let spec = named(text)?;
        if is_policy_file(text, Path::new("")) {
            self.replace_policy(&spec, text);
            return Ok(());
        }
        self.sweep.retain(|axis| axis.key != "policy.preset");
        self.put_policy(&spec, at).map_err(|error| PolicyError::File(Box::new(error)))
    }

    /// Puts the preset in place of the scenario's, and its parameters over those of the scenario. What the scenario's
    /// own was called goes.
    pub(super) fn put_policy(&mut self, spec: &PolicySpec, at: &Place) -> Result<(), ScenarioError> {
        let mut put = |key: &str, text: &String| {
            let node = Node { value: Value::Text(text.clone()), at: at.clone() };
            overrides::set(&mut self.root, &["policy", key], node, at)
        };
        put("preset", &spec.preset)?;
        for (name, value) in &spec.parameters {
            put(name, value)?;
        }
        if let Some(name) = &spec.name {
            return put(NAME, name);
        }
        if let Some(policy) = self.root.table_mut("policy", at) {
            policy.remove(NAME);
        }
        Ok(())
    }

    /// Writes the policies of files that are swept into the scenario: it then means the same wherever it is printed to.
    pub(super) fn take_in_policies(&mut self) -> Result<(), ScenarioError> {
        let Some(axis) = self.sweep.iter_mut().find(|axis| axis.key == "policy.preset") else {
            return Ok(());
        };
        let Value::List(nodes) = &mut axis.node.value else { return Ok(()) };
        for (index, node) in nodes.iter_mut().enumerate() {
            let Value::Text(text) = &mut node.value else { continue };
            if !is_policy_file(text, Path::new("")) {
                continue;
            }
            let changing = || PolicyError::Changes { policy: text.clone() };
            let spec =
                named(text).and_then(|spec| if spec.changes.is_empty() { Ok(spec) } else { Err(changing()) });
            let at = || Place::Sweep(Box::new(axis.at.clone()), index + 1);
            let spec = spec.map_err(|error| error.at(at()))?;
            *text = spec.text();
        }
        Ok(())
    }
}
