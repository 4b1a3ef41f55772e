//! Promises of every page: it asks for nothing, it escapes, and without its script it is whole.

use super::*;
use crate::chart::Unit;

const NASTY: &str = "</style><script>alert('x')</script> & \"quoted\"";

fn nasty_page() -> String {
    let columns = vec![Column::new(NASTY, Kind::Choice), Column::new("time", Kind::Number)];
    let mut table = Table::new(NASTY, columns);
    table.row(vec![Entry::text(NASTY), Entry::value(Unit::Milliseconds, Some(2.5))]);
    table.row(vec![Entry::text("b"), Entry::value(Unit::Milliseconds, Some(f64::NAN))]);
    let body = [
        heading(NASTY),
        figure("wide", NASTY, "<svg></svg>"),
        legend([(Some(1), NASTY)]),
        folded(NASTY, NASTY, true, &code(NASTY)),
        note(NASTY),
        table.sortable().render(),
    ];
    Page::new(NASTY, NASTY, NASTY, ("schema", 1))
        .lead(vec![NASTY.to_owned(), NASTY.to_owned()])
        .warning(Some(NASTY.to_owned()))
        .facts(vec![(NASTY.to_owned(), NASTY.to_owned())])
        .sections([Section::new("a", NASTY, NASTY, body.into_iter().collect())])
        .render()
}

#[test]
fn whatever_a_text_says_it_is_shown_and_not_obeyed() {
    let page = nasty_page();
    assert_eq!(page.matches("<script").count(), 1, "the page's own");
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains("& \""));
    assert!(page.matches("&lt;script&gt;").count() >= 15);
}

#[test]
fn the_policy_of_a_page_lets_nothing_be_fetched() {
    let page = nasty_page();
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"));
    // What could leave the page does not stand in its script either.
    for way in ["fetch", "XMLHttp", "import", "src", "innerHTML", "eval", "http", "//www"] {
        assert!(!SCRIPT.contains(way), "{way}");
    }
    // It would end before its end.
    assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
}

#[test]
fn a_table_is_whole_without_the_script() {
    let columns = vec![
        Column::new("policy", Kind::Choice),
        Column::new("", Kind::Number),
        Column::new("downtime", Kind::Number),
    ];
    let mut table = Table::new("Runs", columns);
    table.row(vec![
        Entry::text("xen-5"),
        Entry::markup(Markup::raw("<i></i>")),
        Entry::value(Unit::Milliseconds, Some(120.0)),
    ]);
    table.row(vec![Entry::text("quick"), Entry::text(""), Entry::value(Unit::Milliseconds, None)]);
    let plain = table.render().to_string();
    assert_eq!(
        plain,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Runs\"><table><caption>Runs</caption>\
         <thead><tr><th scope=\"col\">policy</th><td></td><th scope=\"col\" class=\"n\">downtime</th></tr></thead>\
         <tbody><tr><th scope=\"row\">xen-5</th><td class=\"n\"><i></i></td><td class=\"n\">120 ms</td></tr>\n\
         <tr><th scope=\"row\">quick</th><td class=\"n\"></td><td class=\"n\">–</td></tr>\n</tbody></table></div>"
    );
    let sortable = table.sortable().render().to_string();
    assert!(!sortable.contains("<button") && !sortable.contains("<input") && !sortable.contains("hidden"));
    assert!(
        sortable.contains("data-kind=\"choice\">policy")
            && sortable.contains("<td class=\"n\" data-v=\"120\">120 ms")
    );
    assert!(sortable.contains("<td class=\"n\" data-v=\"Infinity\">–"), "what never arrived is the worst");
}

#[test]
fn on_paper_charts_are_unfolded_and_long_tables_left_out() {
    let (charts, table) = (folded_charts("a", "b", &note("c")), folded("a", "b", false, &note("c")));
    assert!(charts.to_string().starts_with("<details class=\"printed\"><summary>"), "{charts}");
    assert!(table.to_string().starts_with("<details><summary>"), "{table}");
    let print = STYLE.split("@media print").nth(1).expect("rules for print");
    assert!(
        print.contains("details:not([open],.printed){display:none}")
            && print.contains(".printed::details-content")
    );
}

#[test]
fn sections_without_content_are_left_out_with_their_links() {
    let page = Page::new("k", "t", "v", ("schema", 1)).sections([
        Section::new("full", "Full", "", note("text")),
        Section::new("empty", "Empty", "intro", Markup::default()),
    ]);
    let page = page.render();
    assert!(page.contains("href=\"#full\"") && page.contains("<section id=\"full\"><h2>Full</h2>"));
    assert!(!page.contains("Empty"));
}

#[test]
fn counts_are_set_apart_by_thousands() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
}
