//! The frame of the page and its few kinds of blocks.

use super::findings::Findings;
use super::grid::Grid;
use super::{ReportInput, SCHEMA};
use crate::chart::{escape, page_css, swatch};

const STYLE: &str = include_str!("style.css");

/// The whole document.
pub(super) fn frame(input: &ReportInput, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"whimbrel-report-schema\" content=\"{SCHEMA}\">\n\
         <meta name=\"generator\" content=\"whimbrel {}\">\n\
         <title>{}</title>\n<style>{}{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <footer>Made by whimbrel {}. One file, no scripts, no network.</footer>\n</body>\n</html>\n",
        escape(&input.version),
        escape(&input.title),
        page_css(),
        escape(&input.version),
    )
}

/// Title, findings in sentences, what was the same in all runs.
pub(super) fn header(input: &ReportInput, grid: &Grid<'_>, found: &Findings) -> String {
    let mut sentences = found.sentences(grid).into_iter().map(|sentence| escape(&sentence));
    let first = sentences.next().unwrap_or_default();
    let rest: String = sentences.map(|sentence| format!("<p>{sentence}</p>")).collect();
    let (count, expected) = (grid.count(), grid.expected());
    let runs: u64 = grid.all().map(|cell| u64::from(cell.runs)).sum();
    let runs = grouped(runs);
    let size = if count == expected {
        format!("{} cells, {runs} runs", grouped(count as u64))
    } else {
        format!("{} of {} cells, {runs} runs", grouped(count as u64), grouped(expected as u64))
    };
    let unfinished = if count < expected {
        "<p class=\"warn\">This sweep is not complete: cells that were not run are hatched, and the sentences speak of \
         the others.</p>"
    } else {
        ""
    };
    let facts: String = [("Size".to_owned(), size)]
        .iter()
        .chain(&input.facts)
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value)))
        .collect();
    format!(
        "<header><p class=\"kicker\">whimbrel · sweep report</p><h1>{}</h1>\
         <div class=\"lead\"><p class=\"first\">{first}</p>{rest}</div>{unfinished}<dl class=\"facts\">{facts}</dl></header>\n",
        escape(&input.title),
    )
}

/// A count with its thousands set apart.
fn grouped(count: u64) -> String {
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

/// A section with a heading and an introduction; `intro` is plain text, `body` is markup.
pub(super) fn section(id: &str, title: &str, intro: &str, body: &str) -> String {
    let id = if id.is_empty() { String::new() } else { format!(" id=\"{id}\"") };
    let intro =
        if intro.is_empty() { String::new() } else { format!("<p class=\"intro\">{}</p>", escape(intro)) };
    format!("<section{id}><h2>{}</h2>{intro}{body}</section>\n", escape(title))
}

/// A drawing with its name above.
pub(super) fn figure(class: &str, name: &str, drawing: &str) -> String {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let name =
        if name.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>", escape(name)) };
    format!("<figure{class}>{name}{drawing}</figure>")
}

/// The signs of all groups, and of the dashed line if it has a name.
pub(super) fn legend(grid: &Grid<'_>, dashed: Option<&str>) -> String {
    let groups = grid.groups().into_iter().filter(|group| !group.name.is_empty());
    let mut entries: Vec<String> = groups
        .map(|group| format!("<li>{}{}</li>", swatch(Some(group.index)), escape(&group.name)))
        .collect();
    entries.extend(dashed.map(|name| format!("<li>{}{}</li>", swatch(None), escape(name))));
    if entries.is_empty() { String::new() } else { format!("<ul class=\"legend\">{}</ul>", entries.concat()) }
}

/// A table. `head` is plain text, `rows` are markup; the first `names` columns are not numbers.
pub(super) fn table(caption: &str, head: &[String], rows: &[Vec<String>], names: usize) -> String {
    let class = |at: usize| if at < names { "" } else { " class=\"n\"" };
    let head: String = head
        .iter()
        .enumerate()
        .map(|(at, text)| match text.as_str() {
            "" => "<td></td>".to_owned(),
            text => format!("<th scope=\"col\"{}>{}</th>", class(at), escape(text)),
        })
        .collect();
    let mut body = String::new();
    for row in rows {
        body.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            match at {
                0 => body.push_str(&format!("<th scope=\"row\">{cell}</th>")),
                _ => body.push_str(&format!("<td{}>{cell}</td>", class(at))),
            }
        }
        body.push_str("</tr>\n");
    }
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table><caption>{}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>",
        escape(caption)
    )
}

/// The command and the scenario.
pub(super) fn run_again(input: &ReportInput) -> String {
    let scenario = if input.scenario_toml.is_empty() {
        String::new()
    } else {
        format!(
            "<details><summary>The scenario <small>TOML</small></summary><pre><code>{}</code></pre></details>",
            escape(&input.scenario_toml)
        )
    };
    let intro = "The same scenario and seed give the same numbers on any machine and any number of threads.";
    let body = format!("<pre class=\"command\"><code>{}</code></pre>{scenario}", escape(&input.command));
    section("again", "Run it again", intro, &body)
}

const WORDS: [(&str, &str); 11] = [
    (
        "convergence",
        "The policy's own rule for the last copy was met. A migration that completes because a bound was reached (rounds, bytes, time) is completed, but has not converged.",
    ),
    (
        "policy",
        "The rule that decides, after each look at what is left, whether to go on, slow the guest, stop it now, or give up.",
    ),
    (
        "dirty rate",
        "Pages that the guest writes in a second. Writing a page twice between two harvests dirties it once, so fewer pages may have to be sent again.",
    ),
    ("bandwidth", "What the link carries, in bits a second."),
    (
        "round",
        "One pass over memory, between two harvests of the dirty log. The first, the bulk round, sends all of memory; the last is sent while the guest is paused.",
    ),
    ("total time", "From the start of the migration until the guest runs at the destination."),
    ("downtime", "From the guest's last instruction at the source to its first at the destination."),
    ("bytes sent", "Everything handed to the transport, headers included."),
    (
        "lost guest time",
        "Guest disruption in vCPU-seconds: what throttle, pause and tracking faults took from the guest's vCPUs.",
    ),
    (
        "median, 90th percentile",
        "Half of the runs lie at or below the median, nine in ten at or below the 90th percentile.",
    ),
    (
        "cell",
        "One point of the grid: one value of each axis, run as often as the scenario says, each time with another seed.",
    ),
];

/// What the words mean.
pub(super) fn words(grid: &Grid<'_>) -> String {
    let note =
        grid.fixed_note().map_or_else(String::new, |note| format!("<p class=\"note\">{}</p>", escape(&note)));
    let list: String = WORDS
        .iter()
        .map(|(word, meaning)| format!("<div><dt>{word}</dt><dd>{}</dd></div>", escape(meaning)))
        .collect();
    section("words", "What the words mean", "", &format!("<dl class=\"words\">{list}</dl>{note}"))
}
