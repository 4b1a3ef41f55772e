//! Where in a resource the settings of migrations are.

use std::collections::BTreeSet;

use super::super::error::ImportError;
use super::super::setting::{Node, Setting, Value, place};
use super::MARKS;
use crate::scenario::error::excerpt;

/// The most documents that have a note of their own.
const MOST_NOTES: usize = 20;

/// What was found in all files.
#[derive(Default)]
pub(super) struct Resources<'a> {
    /// The cluster's settings.
    pub(super) cluster: Option<Setting<'a>>,
    /// A policy's settings.
    pub(super) policy: Option<Setting<'a>>,
    /// The feature gates that are on; none if nothing was said about them.
    pub(super) gates: Option<BTreeSet<&'a str>>,
    /// Whether anything of `KubeVirt` was there, if only without such settings.
    pub(super) any: bool,
    pub(super) notes: Vec<String>,
}

impl<'a> Resources<'a> {
    /// Looks for settings in a document.
    pub(super) fn look_at(&mut self, file: &'a str, node: &'a Node) -> Result<(), ImportError> {
        let kind = node.value.get("kind").and_then(|kind| kind.value.text());
        match kind {
            Some("KubeVirt") => {
                self.any = true;
                self.gates_of(node);
                let settings = node.value.find(&["spec", "configuration", "migrations"]);
                self.put_cluster(file, settings)
            }
            Some("HyperConverged") => {
                self.any = true;
                self.put_cluster(file, node.value.find(&["spec", "liveMigrationConfig"]))
            }
            Some("MigrationPolicy") => {
                self.any = true;
                put(&mut self.policy, file, node.value.get("spec"), "MigrationPolicy")
            }
            Some(_) if matches!(node.value.get("items"), Some(Node { value: Value::List(_), .. })) => {
                let Some(Node { value: Value::List(items), .. }) = node.value.get("items") else {
                    return Ok(());
                };
                items.iter().try_for_each(|item| self.item(file, item))
            }
            Some(other) => {
                self.left_out(file, node, &format!("a resource of kind `{}`", excerpt(other, 60)));
                Ok(())
            }
            None => self.bare(file, node),
        }
    }

    /// A resource in a list; lists in lists are none.
    fn item(&mut self, file: &'a str, node: &'a Node) -> Result<(), ImportError> {
        if node.value.get("items").is_some() || node.value.get("kind").is_none() {
            self.left_out(file, node, "an item of a list that is no resource");
            return Ok(());
        }
        self.look_at(file, node)
    }

    /// Settings without a resource around them, or with less of it.
    fn bare(&mut self, file: &'a str, node: &'a Node) -> Result<(), ImportError> {
        const PATHS: [&[&str]; 5] = [
            &["spec", "configuration", "migrations"],
            &["configuration", "migrations"],
            &["migrations"],
            &["liveMigrationConfig"],
            &["spec"],
        ];
        let known = |node: &Node| match &node.value {
            Value::Map(entries) => entries.iter().any(|(key, _)| {
                MARKS.contains(&key.as_str()) || key == "maxDowntimeMs" || key == "experimental"
            }),
            _ => false,
        };
        let inner = PATHS.into_iter().filter_map(|path| node.value.find(path));
        if let Some(settings) = [node].into_iter().chain(inner).find(|node| known(node)) {
            self.any = true;
            return self.put_cluster(file, Some(settings));
        }
        if node.value != Value::Null {
            self.left_out(file, node, "a document without settings of migrations");
        }
        Ok(())
    }

    fn put_cluster(&mut self, file: &'a str, settings: Option<&'a Node>) -> Result<(), ImportError> {
        put(&mut self.cluster, file, settings, "cluster")
    }

    fn gates_of(&mut self, node: &'a Node) {
        let developer = |key| node.value.find(&["spec", "configuration", "developerConfiguration", key]);
        let names = |key| -> BTreeSet<&'a str> {
            match developer(key).map(|node| &node.value) {
                Some(Value::List(gates)) => gates.iter().filter_map(|gate| gate.value.text()).collect(),
                _ => BTreeSet::new(),
            }
        };
        let (on, off) = (names("featureGates"), names("disabledFeatureGates"));
        self.gates = Some(on.difference(&off).copied().collect());
    }

    fn left_out(&mut self, file: &str, node: &Node, what: &str) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(format!("{}: {what} is left out.", place(file, node.line)));
        }
    }
}

/// Puts the settings of a resource; a second one is refused, because nobody knows which counts.
fn put<'a>(
    slot: &mut Option<Setting<'a>>,
    file: &'a str,
    settings: Option<&'a Node>,
    what: &str,
) -> Result<(), ImportError> {
    let Some(node) = settings else {
        return Ok(());
    };
    if let Some(first) = slot {
        let message = format!("settings of a {what} are also at {}; accepted are those of one", first.at());
        return Err(ImportError::Syntax { at: place(file, node.line), message });
    }
    *slot = Some(Setting { file, key: String::new(), node });
    Ok(())
}
