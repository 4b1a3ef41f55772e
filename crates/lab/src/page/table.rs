//! Tables: complete and readable as they are; in a browser that runs the page's script they sort and filter.

use super::Markup;
use crate::chart::{Unit, escape, usable};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words, set left.
    Text,
    /// Words that recur, such as policies: the filter offers them as a list.
    Choice,
    /// Numbers, set right.
    Number,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    name: String,
    kind: Kind,
}

impl Column {
    /// A column of this name; one without a name only decorates and does not sort.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    shown: Markup,
    /// By what it is sorted where that is not what is shown; infinite for what is worse than any number.
    key: Option<f64>,
}

impl Entry {
    /// Plain text.
    pub fn text(text: &str) -> Self {
        Self { shown: Markup::text(text), key: None }
    }

    /// What was put together already, sorted by its text.
    pub fn markup(shown: Markup) -> Self {
        Self { shown, key: None }
    }

    /// A value in its unit, sorted as a number; a dash where there is none because nothing arrived, which is worse
    /// than any number: it comes first where the largest do.
    pub fn value(unit: Unit, value: Option<f64>) -> Self {
        let value = value.and_then(usable);
        Self { shown: Markup::value(unit, value), key: Some(value.unwrap_or(f64::INFINITY)) }
    }

    /// Text for what never came to be, sorted as worse than any number.
    pub fn never(text: &str) -> Self {
        Self { shown: Markup::text(text), key: Some(f64::INFINITY) }
    }

    /// The same entry with smaller text on a line of its own below.
    #[must_use]
    pub fn with_below(mut self, text: &str) -> Self {
        self.shown.push(&Markup::text(text).within("small", " class=\"below\""));
        self
    }

    /// The same entry, sorted by a number.
    #[must_use]
    pub fn sorted_by(mut self, key: f64) -> Self {
        self.key = usable(key);
        self
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    caption: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Entry>>,
    sorts: bool,
}

impl Table {
    /// A table; the first entry of a row names it.
    pub fn new(caption: impl Into<String>, columns: Vec<Column>) -> Self {
        Self { caption: caption.into(), columns, rows: Vec::new(), sorts: false }
    }

    /// Adds a row, one entry a column.
    pub fn row(&mut self, entries: Vec<Entry>) {
        debug_assert_eq!(entries.len(), self.columns.len(), "{}", self.caption);
        self.rows.push(entries);
    }

    /// Lets the reader sort and filter it.
    #[must_use]
    pub fn sortable(mut self) -> Self {
        self.sorts = true;
        self
    }

    /// Its markup.
    pub fn render(&self) -> Markup {
        let mut out = String::from(if self.sorts { "<div class=\"sorts\">" } else { "" });
        let caption = escape(&self.caption);
        // A region that scrolls must be reached by the keyboard, and then have a name.
        out.push_str(&format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table><caption>{caption}</caption><thead><tr>"
        ));
        for column in &self.columns {
            let class = if column.kind == Kind::Number { " class=\"n\"" } else { "" };
            let kind = match column.kind {
                _ if !self.sorts => "",
                Kind::Text => " data-kind=\"text\"",
                Kind::Choice => " data-kind=\"choice\"",
                Kind::Number => " data-kind=\"number\"",
            };
            match column.name.as_str() {
                "" => out.push_str("<td></td>"),
                name => out.push_str(&format!("<th scope=\"col\"{class}{kind}>{}</th>", escape(name))),
            }
        }
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for (at, (entry, column)) in row.iter().zip(&self.columns).enumerate() {
                let class = if column.kind == Kind::Number { " class=\"n\"" } else { "" };
                let key = entry.key.filter(|_| self.sorts);
                let key = key.map_or_else(String::new, |key| match key {
                    f64::INFINITY => " data-v=\"Infinity\"".to_owned(),
                    key => format!(" data-v=\"{key}\""),
                });
                let shown = &entry.shown;
                match at {
                    0 => out.push_str(&format!("<th scope=\"row\"{class}{key}>{shown}</th>")),
                    _ => out.push_str(&format!("<td{class}{key}>{shown}</td>")),
                }
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>");
        out.push_str(if self.sorts { "</div>" } else { "" });
        Markup::raw(out)
    }
}
