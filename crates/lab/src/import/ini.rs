//! Configuration files of `OpenStack` as settings with lines, by the rules of oslo.config:
//!
//! * `#` and `;` begin a comment at the beginning of a line, and nowhere else;
//! * a key ends at the first `=` or `:`; a value may be in quotes;
//! * a line that begins with a space continues the value above; an empty line or a comment ends it;
//! * of a key that is there twice the last counts.
//!
//! A parser of our own, because these are not the rules of any INI crate.

use std::collections::BTreeMap;

use super::error::ImportError;
use super::setting::{Node, Value, place};
use crate::scenario::error::excerpt;

/// The settings of each section.
pub(super) type Sections = BTreeMap<String, BTreeMap<String, Node>>;

/// The sections of `text`; `file` is its name in messages.
pub(super) fn parse(text: &str, file: &str) -> Result<Sections, ImportError> {
    let mut reader = Reader::default();
    for (index, line) in text.lines().enumerate() {
        reader
            .line(index + 1, line.trim_end())
            .map_err(|message| ImportError::Syntax { at: place(file, Some(index + 1)), message })?;
    }
    Ok(reader.sections)
}

#[derive(Default)]
struct Reader {
    sections: Sections,
    section: Option<String>,
    /// The key whose value the next line may continue.
    open: Option<String>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        if line.starts_with([' ', '\t']) {
            return self.continued(line.trim_start());
        }
        self.open = None;
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').filter(|name| !name.is_empty());
            let name =
                name.ok_or_else(|| format!("`{}` is no section; write `[name]`", excerpt(line, 48)))?;
            self.sections.entry(name.to_owned()).or_default();
            self.section = Some(name.to_owned());
        } else if !line.is_empty() && !line.starts_with(['#', ';']) {
            self.assignment(number, line)?;
        }
        Ok(())
    }

    fn continued(&mut self, line: &str) -> Result<(), String> {
        let open = self.open.clone();
        let node = open.and_then(|key| self.settings()?.get_mut(&key));
        let Some(Node { value: Value::Plain(value), .. }) = node else {
            return Err(
                "a line that begins with a space continues a value, and there is none above".to_owned()
            );
        };
        value.push('\n');
        value.push_str(line);
        Ok(())
    }

    fn assignment(&mut self, number: usize, line: &str) -> Result<(), String> {
        let (key, value) = line
            .split_once(['=', ':'])
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("`{}` is not accepted; write `key = value`", excerpt(line, 48)))?;
        let node = Node { line: Some(number), value: Value::Plain(unquoted(value).to_owned()) };
        let settings = self.settings().ok_or_else(|| {
            format!("`{}` stands before any section; write `[libvirt]` above", excerpt(key, 48))
        })?;
        settings.insert(key.to_owned(), node);
        self.open = Some(key.to_owned());
        Ok(())
    }

    /// The settings of the section that is being read.
    fn settings(&mut self) -> Option<&mut BTreeMap<String, Node>> {
        self.sections.get_mut(self.section.as_ref()?)
    }
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}
