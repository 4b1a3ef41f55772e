//! Text that is markup already, and text that is not: two types, so that the one is never taken for the other.

use std::fmt;

use crate::chart::{Unit, escape};

/// A piece of HTML. What people wrote comes in by [`Markup::text`] only, which escapes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// Plain text.
    pub fn text(text: &str) -> Self {
        Self(escape(text))
    }

    /// A drawing of [`crate::chart`], or tags that stand in the code. Never a name, a path or a message.
    pub fn raw(markup: impl Into<String>) -> Self {
        Self(markup.into())
    }

    /// A value in its unit; a dash where there is none.
    pub fn value(unit: Unit, value: Option<f64>) -> Self {
        Self::text(&unit.format(value.unwrap_or(f64::NAN)))
    }

    /// Around it `<NAME ATTRIBUTES>` and its end; `attributes` begin with a space or are empty.
    #[must_use]
    pub fn within(mut self, name: &str, attributes: &str) -> Self {
        // In its place: a drawing can be long.
        self.0.reserve(2 * name.len() + attributes.len() + 5);
        self.0.insert_str(0, &format!("<{name}{attributes}>"));
        for part in ["</", name, ">"] {
            self.0.push_str(part);
        }
        self
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Adds to its end.
    pub fn push(&mut self, more: &Self) {
        self.0.push_str(&more.0);
    }

    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<T: IntoIterator<Item = Markup>>(pieces: T) -> Self {
        Self(pieces.into_iter().map(|piece| piece.0).collect())
    }
}
