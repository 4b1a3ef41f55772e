//! Overrides: `--set KEY=VALUE`. They change the scenario as written, so that a value is checked and
//! named in errors no matter where it came from.

use std::path::Path;

use super::document::{Document, Node, Table, Value, axes, parse_value, quoted};
use super::error::{Place, ScenarioError, excerpt};
use super::keys::{Slot, hint, slot};
use super::resolve::check;

impl Document {
    /// Applies one override. What it leaves incomplete is found when the scenario is resolved, so that
    /// a table can be made with several overrides.
    pub(super) fn apply(&mut self, text: &str) -> Result<(), ScenarioError> {
        let at = Place::Override(text.into());
        let refuse = |message: String| ScenarioError::Override { at: at.clone(), message };
        let (path, value) = split(text).map_err(refuse)?;
        let value = read(value, &at).map_err(refuse)?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if let (&["policy", "preset"], Value::Text(text)) = (&path[..], &value) {
            return self.name_policy(text, &at).map_err(|error| error.at(at.clone()));
        }
        let node = Node { value, at: at.clone() };
        if path.first() == Some(&"sweep") {
            return self.sweep_override(&path[1..], node);
        }
        if slot(&path).is_none() {
            let key: Vec<_> = path.iter().map(|segment| quoted(segment)).collect();
            let key = excerpt(&key.join("."), 100);
            return Err(ScenarioError::UnknownKey { at, key, hint: hint(&path) });
        }
        set(&mut self.root, &path, node, &at)?;
        check(&self.root, false)?;
        self.anchor(Path::new(""));
        // Who sets a swept key wants that value.
        let key = path.join(".");
        self.sweep.retain(|axis| axis.key != key);
        Ok(())
    }

    fn sweep_override(&mut self, path: &[&str], node: Node) -> Result<(), ScenarioError> {
        if path.is_empty() {
            self.sweep = axes("sweep", node)?;
            self.anchor(Path::new(""));
            return Ok(());
        }
        let mut table = Table::default();
        table.insert(&path.join("."), node.clone());
        for entry in axes("sweep", Node { value: Value::Table(table), at: node.at })? {
            match self.sweep.iter_mut().find(|axis| axis.key == entry.key) {
                Some(axis) => *axis = entry,
                None => self.sweep.push(entry),
            }
        }
        self.anchor(Path::new(""));
        Ok(())
    }
}

/// Splits `KEY=VALUE` and the dotted key.
fn split(text: &str) -> Result<(Vec<String>, &str), String> {
    let mut path = Vec::new();
    let mut rest = text;
    loop {
        let (segment, behind) = segment(rest.trim_start())?;
        path.push(segment);
        let behind = behind.trim_start();
        if let Some(value) = behind.strip_prefix('=') {
            return Ok((path, value.trim()));
        }
        rest = behind.strip_prefix('.').ok_or_else(|| {
            if behind.is_empty() {
                "there is no `=`".to_owned()
            } else {
                format!("`{}` is not part of a dotted key", excerpt(behind, 24))
            }
        })?;
    }
}

/// One segment of a dotted key, bare or quoted, and what is behind it.
fn segment(text: &str) -> Result<(String, &str), String> {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            let (segment, behind) =
                inner.split_once(quote).ok_or_else(|| "the quotation in the key does not end".to_owned())?;
            return Ok((segment.to_owned(), behind));
        }
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let end = text.find(|c| !bare(c)).unwrap_or(text.len());
    if end == 0 {
        return Err(match text.chars().next() {
            None => "there is no key".to_owned(),
            Some('=') => "there is no key before `=`".to_owned(),
            Some(other) => format!("`{}` cannot stand in a key", other.escape_default()),
        });
    }
    Ok((text[..end].to_owned(), &text[end..]))
}

/// The value: TOML where it is, text where it is not.
fn read(text: &str, at: &Place) -> Result<Value, String> {
    if text.is_empty() {
        return Err("there is no value behind `=`".to_owned());
    }
    match parse_value(text, at) {
        // Nothing takes a date, but something may take text that looks like one.
        Ok(Value::Date(_)) => Ok(Value::Text(text.to_owned())),
        Ok(value) => Ok(value),
        Err(message) if text.starts_with(['[', '{', '"', '\'']) => {
            Err(format!("the value is not TOML ({}); text in it needs quotes", message.trim()))
        }
        Err(_) => Ok(Value::Text(text.to_owned())),
    }
}

/// Puts `node` at `path`, whose slot exists; tables on the way are made, and so is the next element of a list.
pub(super) fn set(table: &mut Table, path: &[&str], node: Node, at: &Place) -> Result<(), ScenarioError> {
    let whole = path.join(".");
    let refuse = |message: String| ScenarioError::Value { at: at.clone(), key: whole.clone(), message };
    let mut table = table;
    let mut depth = 0;
    while depth + 1 < path.len() {
        let key = path[depth];
        if matches!(slot(&path[..=depth]), Some(Slot::List)) {
            let list = list_mut(table, key, at).ok_or_else(|| refuse(format!("`{key}` is not a list")))?;
            let (count, position) = (list.len(), path[depth + 1].parse::<usize>().unwrap_or(usize::MAX));
            if position > count {
                return Err(refuse(format!(
                    "there is no position {position}: `{}` has {count} entries, so accepted is up to {count} (which adds one)",
                    path[..=depth].join(".")
                )));
            }
            if position == count {
                list.push(Node { value: Value::Table(Table::default()), at: at.clone() });
            }
            if depth + 2 == path.len() {
                list[position] = node;
                return Ok(());
            }
            let Value::Table(inner) = &mut list[position].value else {
                return Err(refuse(format!("`{}` is not a table", path[..depth + 2].join("."))));
            };
            table = inner;
            depth += 2;
        } else {
            table = table.table_mut(key, at).ok_or_else(|| refuse(format!("`{key}` is not a table")))?;
            depth += 1;
        }
    }
    if let Some(last) = path.last() {
        table.insert(last, node);
    }
    Ok(())
}

fn list_mut<'a>(table: &'a mut Table, key: &str, at: &Place) -> Option<&'a mut Vec<Node>> {
    if table.get(key).is_none() {
        table.insert(key, Node { value: Value::List(Vec::new()), at: at.clone() });
    }
    let entry = table.entries.iter_mut().find(|entry| entry.key == key)?;
    match &mut entry.node.value {
        Value::List(nodes) => Some(nodes),
        _ => None,
    }
}

impl Document {
    /// Puts the value of an axis at its key, which exists.
    pub(super) fn put(&mut self, key: &str, value: Value, at: &Place) -> Result<(), ScenarioError> {
        let path: Vec<_> = key.split('.').collect();
        set(&mut self.root, &path, Node { value, at: at.clone() }, at)
    }
}
