//! The policy of a scenario: a preset and its parameters, checked against the core's registry.
//!
//! Which parameters are passed to which preset when presets are overridden or swept is decided here.

use std::collections::BTreeMap;

use whimbrel_core::policy::Policy;
use whimbrel_core::policy::presets::{self, ParameterKind, PresetError};
use whimbrel_core::units::duration;

use super::changes::{self, CHANGES, PolicyChange};
use super::document::{Document, Node, Table, Value};
use super::error::{Place, ScenarioError, excerpt};
use super::kind::Kind;

/// A preset and the parameters given for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PolicySpec {
    /// What it is called; none: as its preset is.
    pub name: Option<String>,
    /// The preset's name.
    pub preset: String,
    /// Its parameters as text; those not given have the preset's defaults.
    pub parameters: BTreeMap<String, String>,
    /// What is changed while the migration runs, in the order of time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PolicyChange>,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self { name: None, preset: DEFAULT.to_owned(), parameters: BTreeMap::new(), changes: Vec::new() }
    }
}

const DEFAULT: &str = "qemu-default";

/// The key of what the policy is called.
pub(super) const NAME: &str = "name";

/// Whether the preset has the parameter.
pub(super) fn knows(preset: &str, parameter: &str) -> bool {
    presets::find(preset).is_some_and(|preset| preset.parameter(parameter).is_some())
}

/// Whether there is such a preset.
pub(super) fn check_preset(name: &str, at: &Place) -> Result<(), ScenarioError> {
    if presets::find(name).is_some() {
        return Ok(());
    }
    let fault = PresetError::UnknownPreset { preset: name.to_owned(), nearest: presets::nearest(name) };
    let fault = Box::new(fault);
    Err(ScenarioError::Preset { at: at.clone(), fault })
}

/// What a parameter takes, as far as its values are numbers; by the first of `effective` that knows it.
pub(super) fn parameter_kind(name: &str, effective: &[String]) -> Option<Kind> {
    let found = effective.iter().find_map(|preset| presets::find(preset)?.parameter(name))?;
    Some(match found.kind {
        ParameterKind::Duration { .. } => Kind::Duration,
        ParameterKind::Pages => Kind::Count(0, u64::MAX),
        ParameterKind::Count => Kind::Count(0, u32::MAX.into()),
        ParameterKind::Bytes => Kind::Bytes,
        ParameterKind::OptionalBandwidth { .. } => Kind::Bandwidth,
        _ => return None,
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
        let name = table.get(NAME).and_then(|node| node.value.as_plain()).filter(|name| name != "none");
        let mut spec = Self { name, preset, ..Self::default() };
        for entry in table.entries.iter().filter(|entry| is_parameter(&entry.key)) {
            check_parameter(document, &entry.key, &entry.at, effective)?;
            let value = entry.node.value.as_plain().ok_or_else(|| ScenarioError::Value {
                at: entry.node.at.clone(),
                key: format!("policy.{}", entry.key),
                message: format!("{} is not accepted; write a text or a number", entry.node.value.describe()),
            })?;
            if knows(&spec.preset, &entry.key) {
                spec.parameters.insert(entry.key.clone(), value);
            }
        }
        let policy = spec.build().map_err(|fault| {
            let key = match &fault {
                PresetError::InvalidValue { parameter, .. } => parameter,
                _ => "preset",
            };
            ScenarioError::Preset { at: document.place(&format!("policy.{key}")), fault: Box::new(fault) }
        })?;
        let changes = changes::read(document, &spec.preset, effective)?;
        changes::attempt(document, policy, &changes)?;
        spec.changes = changes.into_iter().map(|written| written.change).collect();
        Ok(spec)
    }

    /// What it is called in tables: its name, or that of its preset.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.preset)
    }

    /// The policy itself, at its beginning.
    ///
    /// # Errors
    ///
    /// None for one of a scenario, which was checked; of one made by hand, what the preset refuses.
    pub fn build(&self) -> Result<Box<dyn Policy>, PresetError> {
        presets::build(&self.preset, &self.parameters)
    }
}

/// Whether the key of the table `policy` is a parameter of the preset.
pub(super) fn is_parameter(key: &str) -> bool {
    !["preset", NAME, CHANGES].contains(&key)
}

/// Leaves out what no preset that runs knows any more, because the file's preset was replaced.
pub(super) fn drop_left_over(policy: &mut Table, effective: &[String]) {
    policy.entries.retain(|entry| !is_parameter(&entry.key) || !is_left_over(&entry.key, effective));
    changes::drop_left_over(policy, effective);
}

impl Document {
    /// Puts `spec` in place of the policy, as if `file` had been written so, and ends the sweeps of its keys.
    pub(super) fn replace_policy(&mut self, spec: &PolicySpec, file: &str) {
        let at = Place::File(file.into());
        let node = |text: &String| Node { value: Value::Text(text.clone()), at: at.clone() };
        let mut table = Table::default();
        table.insert("preset", node(&spec.preset));
        if let Some(name) = &spec.name {
            table.insert(NAME, node(name));
        }
        for (name, value) in &spec.parameters {
            table.insert(name, node(value));
        }
        if !spec.changes.is_empty() {
            let changes = spec.changes.iter().map(|change| {
                let mut table = Table::default();
                table.insert("at", node(&duration::format(change.at)));
                table.insert("parameter", node(&change.parameter));
                table.insert("value", node(&change.value));
                Node { value: Value::Table(table), at: at.clone() }
            });
            table.insert(CHANGES, Node { value: Value::List(changes.collect()), at: at.clone() });
        }
        self.root.insert("policy", Node { value: Value::Table(table), at: at.clone() });
        self.preset = Some(spec.preset.clone());
        self.sweep.retain(|axis| !axis.key.starts_with("policy."));
    }
}

/// The document's own preset.
pub(super) fn preset(document: &Document) -> String {
    let written = document.root.find(&["policy", "preset"]).and_then(|node| node.value.as_plain());
    written.unwrap_or_else(|| DEFAULT.to_owned())
}

/// The preset as the file has it, before overrides.
pub(super) fn written_preset(document: &Document) -> &str {
    document.preset.as_deref().unwrap_or(DEFAULT)
}

/// Whether something was written in the scenario's file, beside its own preset.
pub(super) fn in_file(at: &Place) -> bool {
    matches!(at, Place::File(_) | Place::Line(..))
}

/// Whether one of the presets that run knows the parameter; see [`PolicySpec::resolve`].
pub(super) fn check_parameter(
    document: &Document,
    name: &str,
    at: &Place,
    effective: &[String],
) -> Result<(), ScenarioError> {
    let replaced = || knows(written_preset(document), name);
    if effective.iter().any(|preset| knows(preset, name)) || (in_file(at) && replaced()) {
        return Ok(());
    }
    let known = effective.iter().filter_map(|preset| presets::find(preset));
    let mut names: Vec<_> = known.flat_map(|preset| preset.parameters).map(|known| known.name).collect();
    names.sort_unstable();
    names.dedup();
    let known = if names.is_empty() { "none".to_owned() } else { format!("`{}`", names.join("`, `")) };
    let nearest = presets::nearest_name(name, names.iter().copied())
        // Who writes the beginning of a name means it.
        .or_else(|| names.iter().copied().find(|known| !name.is_empty() && known.starts_with(name)));
    let hint = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`? It has {known}"),
        None => format!("it has {known}"),
    };
    let preset = effective.join("`, `");
    Err(ScenarioError::UnknownParameter { at: at.clone(), preset, name: excerpt(name, 48), hint })
}

/// Whether no preset that runs knows the parameter any more, because the file's preset was replaced.
fn is_left_over(name: &str, effective: &[String]) -> bool {
    !effective.iter().any(|preset| knows(preset, name))
}
