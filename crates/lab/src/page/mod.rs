//! Pages: one HTML file with charts and tables, that opens without a network.
//!
//! For every command that makes a page (`sweep`, `compare`, …): the frame, the colours in light and dark, the
//! print style, sections, figures, tables that sort and filter, and the script that does it. What a page says is
//! its command's matter ([`crate::report`] for the sweep). A page must be complete and readable without its
//! script, ask for nothing from elsewhere (its content security policy forbids it), and be the same bytes for
//! the same input; building one never fails.
//!
//! Markup is put together in code and not by a template engine: nearly all of a page is tables and figures that
//! follow from the data, the fixed frame is one function. What a template engine would add is escaping by default,
//! and [`Markup`] gives that by its type.

// Markup is joined from pieces; one allocation more for each does not matter here.
#![allow(clippy::format_push_string, clippy::format_collect)]

mod markup;
mod table;
#[cfg(test)]
mod tests;

pub use self::markup::Markup;
pub use self::table::{Column, Entry, Kind, Table};
use crate::chart::{escape, page_css, swatch};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// The digest of [`SCRIPT`], the only one that the page's policy lets run. `ci/report` finds it out in a browser,
/// and names the right one.
const SCRIPT_DIGEST: &str = "sha256-VIySOUX4fzPHk1WkzIhQmXqIagn83cP6YuSH3YyI+FQ=";

/// One page in the making.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    kind: String,
    title: String,
    version: String,
    schema: (String, u32),
    lead: Vec<String>,
    warning: Option<String>,
    facts: Vec<(String, String)>,
    sections: Vec<Section>,
}

/// One part of a page, with a heading.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    id: &'static str,
    title: String,
    intro: String,
    body: Markup,
}

impl Section {
    /// A section; `id` is what links to it name.
    pub fn new(id: &'static str, title: impl Into<String>, intro: impl Into<String>, body: Markup) -> Self {
        Self { id, title: title.into(), intro: intro.into(), body }
    }

    /// Adds its markup.
    fn put(&self, out: &mut String) {
        let intro = match self.intro.as_str() {
            "" => Markup::default(),
            intro => Markup::text(intro).within("p", " class=\"intro\""),
        };
        out.push_str(&format!("<section id=\"{}\"><h2>{}</h2>{intro}", self.id, escape(&self.title)));
        out.push_str(self.body.as_str());
        out.push_str("\n</section>\n");
    }
}

impl Page {
    /// A page of a kind (`sweep report`), made by this version of whimbrel. `schema` names the version of its
    /// structure, in a `<meta>` of the name.
    pub fn new(kind: &str, title: &str, version: &str, schema: (&str, u32)) -> Self {
        Self {
            kind: kind.to_owned(),
            title: title.to_owned(),
            version: version.to_owned(),
            schema: (schema.0.to_owned(), schema.1),
            ..Self::default()
        }
    }

    /// What was found, in sentences, the most important first.
    #[must_use]
    pub fn lead(mut self, sentences: Vec<String>) -> Self {
        self.lead = sentences;
        self
    }

    /// What the reader must know before the rest.
    #[must_use]
    pub fn warning(mut self, text: Option<String>) -> Self {
        self.warning = text;
        self
    }

    /// What was the same throughout: name and value.
    #[must_use]
    pub fn facts(mut self, facts: Vec<(String, String)>) -> Self {
        self.facts = facts;
        self
    }

    /// Adds sections, in their order.
    #[must_use]
    pub fn sections(mut self, sections: impl IntoIterator<Item = Section>) -> Self {
        self.sections.extend(sections.into_iter().filter(|section| !section.body.is_empty()));
        self
    }

    /// The whole document.
    pub fn render(&self) -> String {
        let (version, title) = (escape(&self.version), escape(&self.title));
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src '{SCRIPT_DIGEST}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta name=\"{}\" content=\"{}\">\n\
             <meta name=\"generator\" content=\"whimbrel {version}\">\n\
             <title>{title}</title>\n<style>{}{STYLE}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#main\">Skip to the findings</a>\n\
             {}<main id=\"main\">\n",
            escape(&self.schema.0),
            self.schema.1,
            page_css(),
            self.header(),
        );
        // A page can be long: it is put together once.
        out.reserve(self.sections.iter().map(|section| section.body.as_str().len() + 4096).sum());
        for section in &self.sections {
            section.put(&mut out);
        }
        out.push_str(&format!(
            "</main>\n\
             <footer>Made by whimbrel {version}. One file, no network; its script only sorts and filters tables and \
             chooses the colours.</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        ));
        out
    }

    fn header(&self) -> String {
        let mut sentences = self.lead.iter().map(|sentence| Markup::text(sentence));
        let first = sentences.next().unwrap_or_default().within("p", " class=\"first\"");
        let rest: Markup = sentences.map(|sentence| sentence.within("p", "")).collect();
        let warning = self
            .warning
            .as_deref()
            .map_or_else(Markup::default, |text| Markup::text(text).within("p", " class=\"warn\""));
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value)));
        let contents = self
            .sections
            .iter()
            .map(|section| format!("<li><a href=\"#{}\">{}</a></li>", section.id, escape(&section.title)));
        format!(
            "<header><p class=\"kicker\">whimbrel · {}</p><h1>{}</h1>\
             <div class=\"lead\">{first}{rest}</div>{warning}<dl class=\"facts\">{}</dl>\
             <nav aria-label=\"Sections\"><ul>{}</ul></nav></header>\n",
            escape(&self.kind),
            escape(&self.title),
            facts.collect::<String>(),
            contents.collect::<String>(),
        )
    }
}

/// A drawing with its name above; `class` is `wide` or empty.
pub fn figure(class: &str, name: &str, drawing: &str) -> Markup {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let mut all = match name {
        "" => Markup::default(),
        name => Markup::text(name).within("figcaption", ""),
    };
    all.push(&Markup::raw(drawing));
    all.within("figure", &class)
}

/// Figures side by side, four or so in a row; two if `class` is `large`, three if it is `middle`.
pub fn panels(class: &str, figures: impl IntoIterator<Item = Markup>) -> Markup {
    let all: Markup = figures.into_iter().collect();
    let gap = if class.is_empty() { "" } else { " " };
    all.within("div", &format!(" class=\"panels{gap}{class}\""))
}

/// The signs of series with their names; `None` is the dashed line.
pub fn legend<'a>(entries: impl IntoIterator<Item = (Option<usize>, &'a str)>) -> Markup {
    let entries: Markup = entries
        .into_iter()
        .map(|(style, name)| Markup::raw(format!("<li>{}{}</li>", swatch(style), escape(name))))
        .collect();
    if entries.is_empty() { entries } else { entries.within("ul", " class=\"legend\"") }
}

/// What is folded away until it is asked for: a name, a remark behind it, the content. On paper it is left out, or
/// the tables of all cells would fill hundreds of pages, unless the reader unfolds it first.
pub fn folded(name: &str, remark: &str, open: bool, content: &Markup) -> Markup {
    details(name, remark, if open { " open" } else { "" }, content)
}

/// What is folded away on a screen, and printed in full: charts.
pub fn folded_charts(name: &str, remark: &str, content: &Markup) -> Markup {
    details(name, remark, " class=\"printed\"", content)
}

fn details(name: &str, remark: &str, attributes: &str, content: &Markup) -> Markup {
    Markup::raw(format!(
        "<details{attributes}><summary>{} <small>{}</small></summary>{content}</details>",
        escape(name),
        escape(remark),
    ))
}

/// A heading within a section.
pub fn heading(text: &str) -> Markup {
    Markup::text(text).within("h3", "")
}

/// A remark below a figure or a table; nothing if there is none.
pub fn note(text: &str) -> Markup {
    if text.is_empty() { Markup::default() } else { Markup::text(text).within("p", " class=\"note\"") }
}

/// Lines as one types or reads them.
pub fn code(text: &str) -> Markup {
    Markup::text(text).within("code", "").within("pre", " tabindex=\"0\"")
}

/// A count with its thousands set apart.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
