//! What `docs/phases.md` draws is what the machines do.
//!
//! The drawings stand between markers; `UPDATE_DOCS=1 cargo test -p whimbrel-core --test docs` writes them
//! anew. (`docs/handoff.md` is made the same way, beside the code that fills its tables.)
#![allow(clippy::disallowed_methods)] // Tests may read files.

use whimbrel_core::machine::phase::{destination_diagram, source_diagram};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/phases.md");

/// `page` with what stands between the markers of `name` replaced.
fn with(page: &str, name: &str, diagram: &str) -> String {
    let begin =
        format!("<!-- begin: {name}, made by `UPDATE_DOCS=1 cargo test -p whimbrel-core --test docs` -->\n");
    let end = format!("<!-- end: {name} -->");
    let (above, rest) = page.split_once(&begin).expect("the page has the begin marker");
    let (_, below) = rest.split_once(&end).expect("the page has the end marker");
    format!("{above}{begin}\n```mermaid\n{diagram}```\n\n{end}{below}")
}

#[test]
fn the_page_draws_the_phases_as_they_are() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let made = with(&page, "source", &source_diagram());
    let made = with(&made, "destination", &destination_diagram());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, made).unwrap();
        return;
    }
    for (found, made) in page.lines().zip(made.lines()) {
        assert_eq!(
            found, made,
            "docs/phases.md is stale: UPDATE_DOCS=1 cargo test -p whimbrel-core --test docs"
        );
    }
    assert_eq!(page.len(), made.len(), "docs/phases.md is stale at its end");
}
