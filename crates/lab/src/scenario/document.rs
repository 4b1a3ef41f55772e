//! A scenario as it was written: a tree of values, each with the place where it stands.
//!
//! Made from TOML, changed by overrides and by the cells of a sweep, then checked and turned into
//! configurations by `resolve`. It knows TOML and places, and nothing of what the keys mean.

use std::fmt;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{Place, ScenarioError, excerpt};
use super::files::Files;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i128),
    Float(f64),
    Flag(bool),
    /// A date or a time of day, which no key takes.
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// As an error names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("`{}`", excerpt(text, 48)),
            Self::Integer(number) => format!("`{number}`"),
            Self::Float(number) => format!("`{}`", float(*number)),
            Self::Flag(flag) => format!("`{flag}`"),
            Self::Date(date) => format!("the date or time `{date}`"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }

    /// A number, whole or not.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// A value that is neither a list nor a table, as plain text.
    pub(super) fn as_plain(&self) -> Option<String> {
        Some(match self {
            Self::Text(text) | Self::Date(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => float(*number),
            Self::Flag(flag) => flag.to_string(),
            Self::List(_) | Self::Table(_) => return None,
        })
    }
}

/// A number as people write it: not with three hundred digits.
fn float(number: f64) -> String {
    let long = number.is_finite() && number != 0.0 && !(1e-6..1e16).contains(&number.abs());
    if long { format!("{number:e}") } else { number.to_string() }
}

/// As TOML, in one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", toml::Value::String(text.clone())),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{}", toml::Value::Float(*number)),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Date(date) => f.write_str(date),
            Self::List(nodes) => {
                f.write_str("[")?;
                for (index, node) in nodes.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", node.value)?;
                }
                f.write_str("]")
            }
            Self::Table(table) => {
                f.write_str("{")?;
                for (index, entry) in table.entries.iter().enumerate() {
                    let comma = if index == 0 { " " } else { ", " };
                    write!(f, "{comma}{} = {}", quoted(&entry.key), entry.node.value)?;
                }
                f.write_str(" }")
            }
        }
    }
}

/// A key as TOML, quoted where it must be.
pub(super) fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        // One line, whatever is in it: TOML's escapes are those of JSON, but for the delete character.
        serde_json::to_string(key).unwrap_or_default().replace('\u{7f}', "\\u007f")
    }
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: Place,
}

/// An entry of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) at: Place,
    pub(super) node: Node,
}

/// A table, in the order in which it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }

    /// Puts `node` at `key`, in place of what was there.
    pub(super) fn insert(&mut self, key: &str, node: Node) {
        let at = node.at.clone();
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => {
                entry.at = at;
                entry.node = node;
            }
            None => self.entries.push(Entry { key: key.to_owned(), at, node }),
        }
    }

    /// The table at `key`, made if there is none. None if something else is there.
    pub(super) fn table_mut(&mut self, key: &str, at: &Place) -> Option<&mut Self> {
        if self.get(key).is_none() {
            self.insert(key, Node { value: Value::Table(Self::default()), at: at.clone() });
        }
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        match &mut entry.node.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The node at a dotted path; numbers are positions in lists.
    pub(super) fn find(&self, path: &[&str]) -> Option<&Node> {
        let (first, rest) = path.split_first()?;
        let mut node = self.get(first)?;
        for segment in rest {
            node = match &node.value {
                Value::Table(table) => table.get(segment)?,
                Value::List(nodes) => nodes.get(segment.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// Where the value at `path` was written, or else the nearest thing around it.
    pub(super) fn place(&self, path: &[&str]) -> Option<&Place> {
        (1..=path.len()).rev().find_map(|length| self.find(&path[..length])).map(|node| &node.at)
    }
}

/// A whole scenario.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The file's name in messages.
    pub(super) file: Arc<str>,
    /// All tables but `sweep`.
    pub(super) root: Table,
    /// The swept keys, dotted, in the order in which they were written.
    pub(super) sweep: Vec<Entry>,
    /// The policy's preset as the file has it, before overrides.
    pub(super) preset: Option<String>,
    /// The files that it names.
    pub(super) files: Files,
}

impl Document {
    /// Reads a file's text.
    pub(super) fn parse(text: &str, file: &str) -> Result<Self, ScenarioError> {
        let file: Arc<str> = file.into();
        let mut root = parse(text, &file)?;
        let mut sweep = Vec::new();
        if let Some(node) = root.get("sweep").cloned() {
            sweep = axes("sweep", node)?;
            root.remove("sweep");
        }
        let preset = root.find(&["policy", "preset"]).and_then(|node| node.value.as_plain());
        Ok(Self { file, root, sweep, preset, files: Files::default() })
    }

    /// Where the value at the dotted `key` was written, or else the nearest thing around it.
    pub(super) fn place(&self, key: &str) -> Place {
        let path: Vec<_> = key.split('.').collect();
        self.root.place(&path).cloned().unwrap_or_else(|| Place::File(Arc::clone(&self.file)))
    }
}

/// What a range of a sweep is made of; a table without any of these is a table of keys.
pub(super) const RANGE: [&str; 4] = ["from", "to", "steps", "scale"];

/// The entries of the table of a sweep, whether their keys were quoted or nested.
pub(super) fn axes(key: &str, node: Node) -> Result<Vec<Entry>, ScenarioError> {
    let Value::Table(table) = node.value else {
        let message = format!("{} is not accepted; write a table of swept keys", node.value.describe());
        return Err(ScenarioError::Value { at: node.at, key: key.to_owned(), message });
    };
    let mut found: Vec<Entry> = Vec::new();
    flatten("", table, &mut found);
    for (index, entry) in found.iter().enumerate() {
        if found[..index].iter().any(|earlier| earlier.key == entry.key) {
            let message = format!("duplicate key: `{}` is swept twice", excerpt(&entry.key, 100));
            return Err(ScenarioError::Syntax { at: entry.at.clone(), message });
        }
    }
    Ok(found)
}

fn flatten(prefix: &str, table: Table, found: &mut Vec<Entry>) {
    for entry in table.entries {
        let key = if prefix.is_empty() { entry.key } else { format!("{prefix}.{}", entry.key) };
        match entry.node.value {
            Value::Table(inner)
                if !inner.entries.is_empty() && !RANGE.iter().any(|name| inner.get(name).is_some()) =>
            {
                flatten(&key, inner, found);
            }
            value => found.push(Entry { key, at: entry.at, node: Node { value, at: entry.node.at } }),
        }
    }
}

/// Reads TOML. `file` is its name in messages.
fn parse(text: &str, file: &Arc<str>) -> Result<Table, ScenarioError> {
    let reader = Reader { file, lines: Lines::new(text.as_bytes()) };
    match DeTable::parse(text) {
        Ok(table) => reader.table(table.get_ref()),
        Err(error) => {
            let span = error.span();
            let at = match &span {
                Some(span) => reader.place(span.start),
                None => Place::File(Arc::clone(file)),
            };
            let near = span.and_then(|span| text.get(span)).map_or("", str::trim);
            let near = near.lines().next().unwrap_or_default();
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let message =
                if near.is_empty() { message } else { format!("{message}: `{}`", excerpt(near, 48)) };
            Err(ScenarioError::Syntax { at, message })
        }
    }
}

/// Reads one TOML value, for an override.
pub(super) fn parse_value(text: &str, at: &Place) -> Result<Value, String> {
    let value = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
    convert(value.get_ref(), &mut |_| at.clone())
}

struct Reader<'a> {
    file: &'a Arc<str>,
    lines: Lines,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::Line(Arc::clone(self.file), self.lines.of(offset))
    }

    fn table(&self, table: &DeTable<'_>) -> Result<Table, ScenarioError> {
        let at = Place::File(Arc::clone(self.file));
        convert_table(table, &mut |offset| self.place(offset))
            .map_err(|message| ScenarioError::Syntax { at, message })
    }
}

/// The parser bounds how deep values are nested, and with it this recursion.
fn convert(value: &DeValue<'_>, place: &mut impl FnMut(usize) -> Place) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(
            i128::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| format!("`{}` is out of range", excerpt(number.as_str(), 48)))?,
        ),
        DeValue::Float(number) => Value::Float(
            number
                .as_str()
                .parse()
                .map_err(|_| format!("`{}` is not a number", excerpt(number.as_str(), 48)))?,
        ),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(values) => Value::List(
            values
                .iter()
                .map(|value| {
                    let at = place(value.span().start);
                    Ok(Node { value: convert(value.get_ref(), place)?, at })
                })
                .collect::<Result<_, String>>()?,
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, place)?),
    })
}

fn convert_table(table: &DeTable<'_>, place: &mut impl FnMut(usize) -> Place) -> Result<Table, String> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let node = Node { at: place(value.span().start), value: convert(value.get_ref(), place)? };
        let at = place(key.span().start);
        entries.push((key.span().start, Entry { key: key.get_ref().to_string(), at, node }));
    }
    // The parser sorts keys; the order in the file is that of the axes of a sweep.
    entries.sort_by_key(|(start, _)| *start);
    Ok(Table { entries: entries.into_iter().map(|(_, entry)| entry).collect() })
}

/// Turns offsets into line numbers.
pub(super) struct Lines {
    /// Offset at which each line but the first begins.
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn new(text: &[u8]) -> Self {
        let starts = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Self { starts: starts.map(|(offset, _)| offset + 1).collect() }
    }

    /// The line of an offset, counted from 1.
    pub(super) fn of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset) + 1
    }
}
