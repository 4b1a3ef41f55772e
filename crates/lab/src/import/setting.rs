//! Settings as they were written, whatever the syntax: a tree of values with lines, and one value of it
//! with its place, from which a source reads what it needs. Every refusal is made here.

use super::error::ImportError;
use crate::scenario::error::excerpt;

/// A value with the line on which it begins, counted from 1, if that is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: Option<usize>,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing: as if it were not written.
    Null,
    /// A word or a number, as written.
    Plain(String),
    /// What was written as text.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Value {
    /// The value at `key`; none if it is null, too.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Self::Map(entries) = self else {
            return None;
        };
        let (_, node) = entries.iter().find(|(name, _)| name == key)?;
        (node.value != Self::Null).then_some(node)
    }

    /// The value at a path of keys.
    pub(super) fn find(&self, path: &[&str]) -> Option<&Node> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.get(first)?, |node, key| node.value.get(key))
    }

    /// A word, a number or a text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Plain(text) => format!("`{}`", excerpt(text, 48)),
            Self::Text(text) => format!("the text `{}`", excerpt(text, 48)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a table of keys".to_owned(),
        }
    }
}

/// One value with its place.
#[derive(Clone, Debug)]
pub(super) struct Setting<'a> {
    pub(super) file: &'a str,
    /// The dotted key.
    pub(super) key: String,
    pub(super) node: &'a Node,
}

/// A place as messages name it.
pub(super) fn place(file: &str, line: Option<usize>) -> String {
    let file = excerpt(file, 200);
    line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"))
}

impl<'a> Setting<'a> {
    /// Where it stands.
    pub(super) fn at(&self) -> String {
        place(self.file, self.node.line)
    }

    /// Its key as messages quote it.
    pub(super) fn name(&self) -> String {
        if self.key.is_empty() { "settings".to_owned() } else { excerpt(&self.key, 100) }
    }

    /// Whether it is just this text.
    pub(super) fn is(&self, text: &str) -> bool {
        self.node.value.text() == Some(text)
    }

    /// A note about it.
    pub(super) fn note(&self, why: &str) -> String {
        format!("`{}` ({}): {why}", self.name(), self.at())
    }

    /// The error that it is not `accepted`.
    pub(super) fn refuse(&self, accepted: impl Into<String>) -> ImportError {
        ImportError::Value {
            at: self.at(),
            key: self.name(),
            value: self.node.value.describe(),
            accepted: accepted.into(),
        }
    }

    /// A table's entries that are not null.
    pub(super) fn entries(&self) -> Result<Vec<Setting<'a>>, ImportError> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.refuse("a table of keys"));
        };
        let present = entries.iter().filter(|(_, node)| node.value != Value::Null);
        let setting = |(key, node): &'a (String, Node)| {
            let key = if self.key.is_empty() { key.clone() } else { format!("{}.{key}", self.key) };
            Setting { file: self.file, key, node }
        };
        Ok(present.map(setting).collect())
    }

    /// The last part of the dotted key.
    pub(super) fn own_name(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or_default()
    }

    /// A whole number of `what`, from `least` to `most`.
    pub(super) fn whole(&self, what: &str, least: u64, most: u64) -> Result<u64, ImportError> {
        let read = match &self.node.value {
            Value::Plain(text) => text.trim().parse::<u64>().ok(),
            _ => None,
        };
        read.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            let bound = match most {
                u64::MAX => format!("{least} or more"),
                most => format!("from {least} to {most}"),
            };
            self.refuse(format!("a whole number of {what}, {bound}"))
        })
    }

    /// A flag written as one of these words; capitals do not count.
    pub(super) fn flag(&self, yes: &[&str], no: &[&str]) -> Result<bool, ImportError> {
        let word = match &self.node.value {
            Value::Plain(text) => text.trim().to_ascii_lowercase(),
            _ => String::new(),
        };
        match (yes.contains(&word.as_str()), no.contains(&word.as_str())) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => Err(self.refuse(format!("`{}` or `{}`", yes[0], no[0]))),
        }
    }
}
