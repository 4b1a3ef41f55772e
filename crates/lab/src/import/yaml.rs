//! YAML as a tree of settings with lines.
//!
//! The parser gives events; they are put together here rather than by a crate that makes Rust values of
//! them, because every value needs its line. Anchors are refused where they are used (`*name`): nobody writes
//! them into such a file, and a text that uses each twice grows beyond all bounds.

use std::collections::BTreeSet;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::error::ImportError;
use super::setting::{Node, Value, place};
use crate::scenario::error::excerpt;

/// The deepest nesting: far deeper than any resource.
const DEEPEST: usize = 64;

/// What is being read.
enum Open {
    List(Vec<Node>),
    /// Entries, and a key that waits for its value.
    Map {
        entries: Vec<(String, Node)>,
        seen: BTreeSet<String>,
        key: Option<String>,
    },
}

/// The documents in `text`; `file` is its name in messages.
pub(super) fn parse(text: &str, file: &str) -> Result<Vec<Node>, ImportError> {
    let refuse = |line, message: &str| ImportError::Syntax {
        at: place(file, Some(line)),
        message: message.to_owned(),
    };
    let fault = |error: &ScanError| ImportError::Syntax {
        at: place(file, Some(error.marker().line())),
        message: format!("not YAML: {}", excerpt(error.info(), 120)),
    };
    let (mut documents, mut open) = (Vec::new(), Vec::<(usize, Open)>::new());
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| fault(&error))?;
        let line = span.start.line();
        let node = match event {
            Event::Scalar(text, style, ..) => Node { line: Some(line), value: scalar(&text, style) },
            Event::Alias(_) => {
                return Err(refuse(line, "an alias (`*name`) is not accepted; write out what it stands for"));
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err(refuse(line, "this is nested too deep"));
            }
            Event::SequenceStart(..) => {
                open.push((line, Open::List(Vec::new())));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((line, Open::Map { entries: Vec::new(), seen: BTreeSet::new(), key: None }));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some((line, ended)) => Node { line: Some(line), value: ended.value() },
                None => continue,
            },
            _ => continue,
        };
        put(&mut open, &mut documents, node).map_err(|message| refuse(line, message))?;
    }
    Ok(documents)
}

impl Open {
    fn value(self) -> Value {
        match self {
            Self::List(nodes) => Value::List(nodes),
            Self::Map { entries, .. } => Value::Map(entries),
        }
    }
}

/// Puts a value where it belongs: into what is open, or as a document of its own.
fn put(open: &mut [(usize, Open)], documents: &mut Vec<Node>, node: Node) -> Result<(), &'static str> {
    match open.last_mut() {
        None => documents.push(node),
        Some((_, Open::List(nodes))) => nodes.push(node),
        Some((_, Open::Map { entries, seen, key })) => {
            if let Some(name) = key.take() {
                entries.push((name, node));
                return Ok(());
            }
            let name = match node.value {
                Value::Plain(text) | Value::Text(text) => text,
                Value::Null => String::new(),
                _ => return Err("a key that is a list or a table is not accepted"),
            };
            if !seen.insert(name.clone()) {
                return Err("the key on this line is there twice");
            }
            *key = Some(name);
        }
    }
    Ok(())
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        (ScalarStyle::Plain, _) => Value::Plain(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}
