//! What `docs/phases.md` draws is what the machines do, and the README lists every preset there is.
//!
//! Drawings and list stand between markers; `UPDATE_DOCS=1 cargo test -p whimbrel-core --test docs` writes
//! them anew. (`docs/handoff.md` is made the same way, beside the code that fills its tables.)
#![allow(clippy::disallowed_methods)] // Tests may read files.

use std::fmt::Write as _;

use whimbrel_core::machine::phase::{destination_diagram, source_diagram};
use whimbrel_core::policy::presets::PRESETS;

const PHASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/phases.md");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");

/// `page` with what stands between the markers of `name` replaced.
fn with(page: &str, name: &str, made: &str) -> String {
    let begin =
        format!("<!-- begin: {name}, made by `UPDATE_DOCS=1 cargo test -p whimbrel-core --test docs` -->\n");
    let end = format!("<!-- end: {name} -->");
    let (above, rest) = page.split_once(&begin).expect("the page has the begin marker");
    let (_, below) = rest.split_once(&end).expect("the page has the end marker");
    format!("{above}{begin}\n{made}\n{end}{below}")
}

fn drawn(diagram: &str) -> String {
    format!("```mermaid\n{diagram}```\n")
}

/// Holds the page at `path` against `made`, or writes it.
fn hold(path: &str, found: &str, made: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, made).unwrap();
        return;
    }
    let stale = format!("{path} is stale: UPDATE_DOCS=1 cargo test -p whimbrel-core --test docs");
    for (found, made) in found.lines().zip(made.lines()) {
        assert_eq!(found, made, "{stale}");
    }
    assert_eq!(found.len(), made.len(), "{stale}, at its end");
}

#[test]
fn the_page_draws_the_phases_as_they_are() {
    let page = std::fs::read_to_string(PHASES).unwrap();
    let made = with(&page, "source", &drawn(&source_diagram()));
    let made = with(&made, "destination", &drawn(&destination_diagram()));
    hold(PHASES, &page, &made);
}

#[test]
fn the_readme_lists_every_preset_with_its_bounds() {
    let mut table = "| preset | decides by | bounded in time | in bytes | in downtime | slows the guest |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for preset in PRESETS {
        let approximate = if preset.approximate.is_some() { " (approximate)" } else { "" };
        let _ = write!(table, "| `{}`{approximate} |", preset.name);
        let words = preset.bounds().map(|b| [b.decides_by, b.time, b.bytes, b.downtime, b.slows]);
        for word in words.unwrap_or(["not said"; 5]) {
            let _ = write!(table, " {word} |");
        }
        table.push('\n');
    }
    let page = std::fs::read_to_string(README).unwrap();
    hold(README, &page, &with(&page, "presets", &table));
}
