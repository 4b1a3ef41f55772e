//! The list `policy.changes`: parameters of the policy that somebody changes while the migration runs.
//!
//! Read with the policy itself, for every cell of a sweep. A change goes to the presets that take it while
//! they run; one that no preset in sight takes is a mistake. What is left is tried on the policy, in the order
//! of time, so that a change that it does not take is refused before anything runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use whimbrel_core::policy::Policy;
use whimbrel_core::policy::presets;
use whimbrel_core::units::duration;

use super::document::{Document, Node, Table, Value};
use super::error::ScenarioError;
use super::policy::{check_parameter, in_file, knows, written_preset};

/// The key of the list in the table `policy`.
pub(super) const CHANGES: &str = "changes";

/// A change of a parameter of the policy while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyChange {
    /// When, from the start of the migration. Later than the handover, it has no effect.
    #[serde(with = "duration")]
    pub at: Duration,
    /// The parameter.
    pub parameter: String,
    /// What it is set to, as text.
    pub value: String,
}

/// As a phrase for people: `at 20.0 s max-bandwidth unlimited`.
impl fmt::Display for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} {} {}", duration::human(self.at), self.parameter, self.value)
    }
}

/// A change, and where it stands in the list.
pub(super) struct Written {
    index: usize,
    pub(super) change: PolicyChange,
}

/// The changes of `document` that the preset `preset` takes, in the order of time. `effective` are all
/// presets that run; what one of them takes, or the file's own that was replaced since, is no mistake.
pub(super) fn read(
    document: &Document,
    preset: &str,
    effective: &[String],
) -> Result<Vec<Written>, ScenarioError> {
    let mut changes = Vec::new();
    for (index, node) in nodes(document).iter().enumerate() {
        let Some((parameter, change)) = change(node) else {
            // Incomplete ones were refused before.
            continue;
        };
        let replaced = in_file(&parameter.at).then(|| written_preset(document));
        let mut in_sight = effective.iter().map(String::as_str).chain(replaced);
        if takes(preset, &change) {
            changes.push(Written { index, change });
        } else if !in_sight.clone().any(|preset| takes(preset, &change)) {
            check_parameter(document, &change.parameter, &parameter.at, effective)?;
            let knowing = in_sight.find(|preset| knows(preset, &change.parameter)).unwrap_or(preset);
            if let Ok(policy) = presets::build(knowing, &BTreeMap::new()) {
                attempt(document, policy, &[Written { index, change }])?;
            }
        }
    }
    changes.sort_by_key(|written| written.change.at);
    Ok(changes)
}

/// Whether the preset takes the change while it runs.
fn takes(preset: &str, change: &PolicyChange) -> bool {
    knows(preset, &change.parameter)
        && presets::build(preset, &BTreeMap::new())
            .is_ok_and(|mut policy| policy.set_parameter(&change.parameter, &change.value).is_ok())
}

fn nodes(document: &Document) -> &[Node] {
    match document.root.find(&["policy", CHANGES]).map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes,
        _ => &[],
    }
}

/// A change as it was written, and its parameter with its place.
fn change(node: &Node) -> Option<(&Node, PolicyChange)> {
    let Value::Table(table) = &node.value else {
        return None;
    };
    let text = |key: &str| table.get(key)?.value.as_plain();
    let at = duration::parse(&text("at")?).ok()?;
    let change = PolicyChange { at, parameter: text("parameter")?, value: text("value")? };
    Some((table.get("parameter")?, change))
}

/// Makes the changes at `policy`.
pub(super) fn attempt(
    document: &Document,
    mut policy: Box<dyn Policy>,
    changes: &[Written],
) -> Result<(), ScenarioError> {
    for Written { index, change } in changes {
        policy.set_parameter(&change.parameter, &change.value).map_err(|fault| {
            // Whether it is the value that is wrong, or that it is changed at all.
            let info = presets::find(policy.name()).and_then(|preset| preset.parameter(&change.parameter));
            let wrong = info.is_some_and(|info| info.kind.parse(&change.value).is_err());
            let key = format!("policy.{CHANGES}.{index}.{}", if wrong { "value" } else { "parameter" });
            ScenarioError::Change { at: document.place(&key), key, fault: Box::new(fault) }
        })?;
    }
    Ok(())
}

/// Leaves out the changes that no preset that runs takes any more, because the file's preset was replaced.
pub(super) fn drop_left_over(policy: &mut Table, effective: &[String]) {
    let Some(Node { value: Value::List(nodes), at: place }) = policy.get(CHANGES).cloned() else {
        return;
    };
    let kept: Vec<_> = nodes
        .iter()
        .filter(|node| {
            change(node).is_none_or(|(_, change)| effective.iter().any(|preset| takes(preset, &change)))
        })
        .cloned()
        .collect();
    if kept.is_empty() {
        policy.remove(CHANGES);
    } else if kept.len() < nodes.len() {
        policy.insert(CHANGES, Node { value: Value::List(kept), at: place });
    }
}
