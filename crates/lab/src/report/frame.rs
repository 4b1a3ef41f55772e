//! What only a sweep's page says around its figures: the head, how to run it again, what the words mean.

use super::findings::Findings;
use super::grid::Grid;
use super::{ReportInput, SCHEMA};
use crate::chart::escape;
use crate::page::{Markup, Page, Section, code, folded, grouped, legend as page_legend, note};

/// The page with its title, the findings in sentences and what was the same in all runs; without sections.
pub(super) fn page(input: &ReportInput, grid: &Grid<'_>, found: &Findings) -> Page {
    let (count, expected) = (grid.count(), grid.expected());
    let runs: u64 = grid.all().map(|cell| u64::from(cell.runs)).sum();
    let runs = grouped(runs);
    let size = if count == expected {
        format!("{} cells, {runs} runs", grouped(count as u64))
    } else {
        format!("{} of {} cells, {runs} runs", grouped(count as u64), grouped(expected as u64))
    };
    let unfinished = "This sweep is not complete: cells that were not run are hatched, and the sentences speak of the others.";
    let facts = [("Size".to_owned(), size)].into_iter().chain(input.facts.iter().cloned());
    let kind = if input.is_real() { "bench report" } else { "sweep report" };
    Page::new(kind, &input.title, &input.version, ("whimbrel-report-schema", SCHEMA))
        .lead(found.sentences(grid))
        .warning((count < expected).then(|| unfinished.to_owned()))
        .facts(facts.collect())
}

/// The signs of all groups, and of the dashed line if it has a name.
pub(super) fn legend(grid: &Grid<'_>, dashed: Option<&str>) -> Markup {
    let groups = grid.groups().into_iter().filter(|group| !group.name.is_empty());
    let groups: Vec<_> = groups.collect();
    let signs = groups.iter().map(|group| (Some(group.index), group.name.as_str()));
    page_legend(signs.chain(dashed.map(|name| (None, name))))
}

/// The command and the scenario.
pub(super) fn run_again(input: &ReportInput) -> Section {
    let mut body = code(&input.command);
    if !input.scenario_toml.is_empty() {
        body.push(&folded("The scenario", "TOML", false, &code(&input.scenario_toml)));
    }
    let intro = if input.is_real() {
        "The same scenario and seed give the same guest, and every run is another: numbers differ by what the machine does besides."
    } else {
        "The same scenario and seed give the same numbers on any machine and any number of threads."
    };
    Section::new("again", "Run it again", intro, body)
}

const WORDS: [(&str, &str); 14] = [
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
    (
        "downtime ledger",
        "The downtime by its parts: pausing, the last look at the dirty log, the last pages, saving, transferring and restoring the state of devices, the two messages of the commit, resuming.",
    ),
    (
        "representative run",
        "The run of a cell whose total time is the median of those that completed, or of all if none did.",
    ),
    ("Pareto front", "Those that no other beats in one measure without losing in the other."),
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
pub(super) fn words(grid: &Grid<'_>) -> Section {
    let list: String = WORDS
        .iter()
        .map(|(word, meaning)| format!("<div><dt>{word}</dt><dd>{}</dd></div>", escape(meaning)))
        .collect();
    let mut body = Markup::raw(list).within("dl", " class=\"words\"");
    body.push(&note(&grid.fixed_note().unwrap_or_default()));
    Section::new("words", "What the words mean", "", body)
}
