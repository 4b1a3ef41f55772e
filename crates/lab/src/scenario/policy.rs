//! The policy of a scenario: a preset and its parameters, checked against the core's registry.
//!
//! Which parameters are passed to which preset when presets are overridden or swept is decided here.

use std::collections::BTreeMap;

use super::document::{Document, Table, Value};
use super::error::{Place, ScenarioError};
use super::keys::nearest_of;

/// A preset and the parameters given for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PolicySpec {
    /// The preset's name.
    pub preset: String,
    /// Its parameters as text; those not given have the preset's defaults.
    pub parameters: BTreeMap<String, String>,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self { preset: DEFAULT.to_owned(), parameters: BTreeMap::new() }
    }
}

const DEFAULT: &str = "qemu-default";

mod registry {
    //! Stand-in until the core's registry exists.
    use std::collections::BTreeMap;
    pub(super) const PRESETS: &[(&str, &[&str])] = &[
        ("fixed-rounds", &["rounds"]),
        ("qemu-default", &["downtime-limit"]),
        ("xen-5", &["rounds", "threshold"]),
        ("cloud-hypervisor", &["downtime-limit", "timeout"]),
        ("hyperv-5", &["threshold"]),
        ("hyperv-10", &["threshold"]),
    ];
    pub(super) fn check(_: &str, _: &BTreeMap<String, String>) -> Result<(), String> {
        Ok(())
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    registry::PRESETS.iter().map(|(name, _)| *name)
}

fn parameters(preset: &str) -> impl Iterator<Item = &'static str> {
    registry::PRESETS.iter().filter(move |(name, _)| *name == preset).flat_map(|(_, names)| names.iter().copied())
}

fn knows(preset: &str, parameter: &str) -> bool {
    parameters(preset).any(|name| name == parameter)
}

fn list(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whether there is such a preset.
pub(super) fn check_preset(name: &str, at: &Place) -> Result<(), ScenarioError> {
    if names().any(|known| known == name) {
        return Ok(());
    }
    Err(ScenarioError::UnknownPreset {
        at: at.clone(),
        name: super::error::excerpt(name, 48),
        nearest: nearest_of(name, names()),
        known: list(names()),
    })
}

impl PolicySpec {
    /// The policy of `document`, whose own preset runs now. `effective` are all presets that run: those
    /// swept, or the document's own.
    ///
    /// A parameter is passed to the presets that know it. One that no effective preset knows is an
    /// error, unless it stands in the file beside a preset that knows it and that was replaced since.
    pub(super) fn resolve(document: &Document, effective: &[String]) -> Result<Self, ScenarioError> {
        let empty = Table::default();
        let table = match document.root.get("policy").map(|node| &node.value) {
            Some(Value::Table(table)) => table,
            _ => &empty,
        };
        let preset = preset(document);
        check_preset(&preset, &document.place("policy.preset"))?;
        let mut spec = Self { preset, parameters: BTreeMap::new() };
        for entry in table.entries.iter().filter(|entry| entry.key != "preset") {
            check_parameter(document, &entry.key, &entry.at, effective)?;
            let value = entry.node.value.as_plain().ok_or_else(|| ScenarioError::Value {
                at: entry.node.at.clone(),
                key: format!("policy.{}", entry.key),
                message: format!("{} is not accepted, but a text or a number", entry.node.value.describe()),
            })?;
            if knows(&spec.preset, &entry.key) {
                spec.parameters.insert(entry.key.clone(), value);
            }
        }
        registry::check(&spec.preset, &spec.parameters).map_err(|message| ScenarioError::Policy {
            at: spec.blame(document, &message),
            preset: spec.preset.clone(),
            message,
        })?;
        Ok(spec)
    }

    /// The place of the parameter that the message names, or of the preset.
    fn blame(&self, document: &Document, message: &str) -> Place {
        let named = self.parameters.keys().find(|name| message.contains(name.as_str()));
        let key = named.map_or_else(|| "policy.preset".to_owned(), |name| format!("policy.{name}"));
        document.place(&key)
    }
}

/// The document's own preset.
pub(super) fn preset(document: &Document) -> String {
    let written = document.root.find(&["policy", "preset"]).and_then(|node| node.value.as_plain());
    written.unwrap_or_else(|| DEFAULT.to_owned())
}

/// Whether one of the presets that run knows the parameter; see [`PolicySpec::resolve`].
pub(super) fn check_parameter(
    document: &Document,
    name: &str,
    at: &Place,
    effective: &[String],
) -> Result<(), ScenarioError> {
    let in_file = matches!(at, Place::File(_) | Place::Line(..));
    let replaced = || knows(document.preset.as_deref().unwrap_or(DEFAULT), name);
    if effective.iter().any(|preset| knows(preset, name)) || (in_file && replaced()) {
        return Ok(());
    }
    let known = || effective.iter().flat_map(|preset| parameters(preset));
    let mut names: Vec<_> = known().collect();
    names.sort_unstable();
    names.dedup();
    Err(ScenarioError::UnknownParameter {
        at: at.clone(),
        preset: effective.join("`, `"),
        name: super::error::excerpt(name, 48),
        nearest: nearest_of(name, names.iter().copied()),
        known: list(names.into_iter()),
    })
}

/// The parameters in the file that no preset knows any more, because the preset was replaced.
pub(super) fn is_left_over(name: &str, effective: &[String]) -> bool {
    !effective.iter().any(|preset| knows(preset, name))
}
