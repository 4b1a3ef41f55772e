//! Files that a scenario names: their paths are made absolute where they are written, and each is read once,
//! however many cells a sweep has.
//!
//! A path in a scenario's file begins at the file's folder, one in an override at the current one. Absolute, it
//! means the same wherever the scenario is printed to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use whimbrel_sim::trace::{NamedTrace, Trace};

use super::document::{Document, Node, Table, Value};
use super::keys::{Slot, slot};
use super::kind::Kind;
use super::named::is_policy_file;
use crate::trace::{TraceFileError, load};

/// Traces that were read, by path; shared by all copies of a scenario.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(Arc<Mutex<BTreeMap<String, NamedTrace>>>);

impl Files {
    /// The trace of a file.
    pub(super) fn trace(&self, path: &str) -> Result<NamedTrace, TraceFileError> {
        // Held while a file is read: who else wants it would only read it again.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trace) = known.get(path) {
            return Ok(trace.clone());
        }
        let trace = NamedTrace::new(path, load(Path::new(path))?);
        known.insert(path.to_owned(), trace.clone());
        Ok(trace)
    }

    /// Name and fingerprint of each that was read.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(name, trace): (&String, &NamedTrace)| {
            format!("{name} {:016x}", trace.trace().map_or(0, Trace::fingerprint))
        };
        known.iter().map(of).collect()
    }
}

impl Document {
    /// Makes all paths absolute that begin at `folder`.
    pub(super) fn anchor(&mut self, folder: &Path) {
        anchor(&mut self.root, &mut Vec::new(), folder);
        for axis in &mut self.sweep {
            let path: Vec<&str> = axis.key.split('.').collect();
            if let (["policy", "preset"], Value::List(nodes)) = (&path[..], &mut axis.node.value) {
                let files = nodes.iter_mut().filter(|node| names_a_file(node, folder));
                files.for_each(|node| absolute(node, folder));
            } else if let (true, Value::List(nodes)) = (is_file(&path), &mut axis.node.value) {
                for node in nodes {
                    absolute(node, folder);
                }
            }
        }
    }
}

/// Whether a value names the policy of a file.
fn names_a_file(node: &Node, folder: &Path) -> bool {
    matches!(&node.value, Value::Text(text) if is_policy_file(text, folder))
}

fn is_file(path: &[&str]) -> bool {
    matches!(slot(path), Some(Slot::Leaf(key)) if key.kind == Kind::File)
}

fn anchor(table: &mut Table, path: &mut Vec<String>, folder: &Path) {
    for entry in &mut table.entries {
        path.push(entry.key.clone());
        anchor_node(&mut entry.node, path, folder);
        path.pop();
    }
}

fn anchor_node(node: &mut Node, path: &mut Vec<String>, folder: &Path) {
    match &mut node.value {
        Value::Table(table) => anchor(table, path, folder),
        Value::List(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                path.push(index.to_string());
                anchor_node(node, path, folder);
                path.pop();
            }
        }
        Value::Text(_) if is_file(&path.iter().map(String::as_str).collect::<Vec<_>>()) => {
            absolute(node, folder);
        }
        _ => {}
    }
}

/// `none` is no file, and what cannot be made absolute is left for the system to refuse.
fn absolute(node: &mut Node, folder: &Path) {
    if let Value::Text(text) = &mut node.value
        && text != "none"
        && let Ok(path) = std::path::absolute(folder.join(&*text))
        && let Some(path) = path.to_str()
    {
        path.clone_into(text);
    }
}
