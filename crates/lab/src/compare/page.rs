//! A comparison as a page: what is worth choosing, how runs are spread, who beats whom, every number.

use super::claims::{LEVEL, Scope};
use super::summary::{Estimate, Row, Summary};
use super::table::{percent, shown};
use super::{Comparison, SCHEMA, Seeds};
use crate::chart::Estimate as Charted;
use crate::chart::{Candidate, Canvas, LineAxis, ParetoChart, ScaleKind, Size, Strip, StripChart, Unit};
use crate::outcome::Objective;
use crate::page::{Column, Entry, Kind, Markup, Page, Section, Table, code, figure, folded, folded_charts};
use crate::page::{grouped, note, panels};
use crate::stats::{Interval, nearest_rank};

/// The page. The same comparison gives the same bytes.
pub(super) fn render(comparison: &Comparison, summary: &Summary, command: &str) -> String {
    let runs = summary.overall.iter().map(|row| row.runs).sum::<u64>();
    let seeds = match comparison.seeds {
        Seeds::Paired => "the same for all policies",
        Seeds::Independent => "each policy has its own",
    };
    let facts = vec![
        ("Policies".to_owned(), summary.policies.len().to_string()),
        ("Workloads".to_owned(), summary.workloads.len().to_string()),
        (
            "Runs".to_owned(),
            format!("{}, {} of each policy on each workload", grouped(runs), comparison.repeat),
        ),
        ("Seeds".to_owned(), format!("from {}; {seeds}", comparison.seed)),
        ("Tests".to_owned(), format!("{}, corrected together by Holm's method", grouped(summary.tests))),
    ];
    let stopped = (comparison.repeat < comparison.planned).then(|| {
        format!(
            "This comparison was stopped: {} of {} runs of each were made.",
            comparison.repeat, comparison.planned
        )
    });
    Page::new(
        "comparison",
        "Policies compared",
        env!("CARGO_PKG_VERSION"),
        ("whimbrel-compare-schema", SCHEMA),
    )
    .lead(lead(summary))
    .warning(stopped)
    .facts(facts)
    .sections([
        front(summary),
        overall(summary),
        spread(comparison, summary),
        claims(summary),
        workloads(summary),
        Section::new(
            "again",
            "Run it again",
            "The same command gives the same numbers, on any machine.",
            code(command),
        ),
    ])
    .render()
}

/// What was found, in sentences.
fn lead(summary: &Summary) -> Vec<String> {
    let on: Vec<&str> = summary
        .overall
        .iter()
        .filter(|row| row.on_front == Some(true))
        .map(|row| row.policy.as_str())
        .collect();
    let mut sentences = vec![format!(
        "Worth choosing: {}. Every other policy is bettered by one of these in median downtime, median total time, median \
         disruption or failures, and bettered in nothing by it.",
        on.join(", ")
    )];
    let least = summary.overall.iter().map(|row| row.failed).fold(f64::INFINITY, f64::min);
    let safest: Vec<&str> =
        summary.overall.iter().filter(|row| row.failed <= least).map(|row| row.policy.as_str()).collect();
    sentences.push(format!("Fewest failures: {} ({} of the runs).", safest.join(", "), percent(least)));
    if summary.claims.is_empty() {
        sentences.push("No policy is significantly better than another in anything.".to_owned());
    }
    sentences
}

/// A chart's estimate, in milliseconds where it is seconds.
fn charted(estimate: &Estimate, factor: f64) -> Option<Charted> {
    let interval = estimate.median_interval.map(|interval| (interval.low * factor, interval.high * factor));
    Some(Charted { value: estimate.median? * factor, interval })
}

fn axis(label: &str, unit: Unit, values: &[f64]) -> LineAxis {
    LineAxis { label: label.to_owned(), unit, kind: ScaleKind::fitting(values), cover: Vec::new() }
}

/// What is drawn against what.
const PAIRS: [(&str, Objective, Objective); 2] = [
    ("Total time and downtime", Objective::TotalTime, Objective::Downtime),
    ("Total time and what the guest lost", Objective::TotalTime, Objective::Disruption),
];

/// An objective's unit in charts, and the factor to it.
fn unit(objective: Objective) -> (Unit, f64) {
    match objective {
        Objective::TotalTime | Objective::Downtime => (Unit::Milliseconds, 1e3),
        Objective::Bytes => (Unit::Bytes, 1.0),
        Objective::Disruption => (Unit::VcpuSeconds, 1.0),
        Objective::Failures => (Unit::Share, 1.0),
    }
}

/// A mark a policy: its medians over all runs, with their intervals.
fn pareto(summary: &Summary, title: &str, x: Objective, y: Objective) -> ParetoChart {
    let ((x_unit, x_factor), (y_unit, y_factor)) = (unit(x), unit(y));
    let point = |(style, row): (usize, &Row)| {
        Some(Candidate {
            name: row.policy.clone(),
            x: charted(row.estimate(x)?, x_factor)?,
            y: charted(row.estimate(y)?, y_factor)?,
            style,
            front: row.on_front == Some(true),
            ..Candidate::default()
        })
    };
    let candidates: Vec<Candidate> = summary.overall.iter().enumerate().filter_map(point).collect();
    let values = |of: &dyn Fn(&Candidate) -> f64| candidates.iter().map(of).collect::<Vec<_>>();
    ParetoChart {
        title: String::new(),
        description: format!("{title}: medians over all runs with 95 % intervals, a mark a policy"),
        x: axis(&name_of(x), x_unit, &values(&|one| one.x.value)),
        y: axis(&name_of(y), y_unit, &values(&|one| one.y.value)),
        candidates,
        legend: Vec::new(),
        size: Size::new(560.0, 420.0),
    }
}

/// Total time against downtime as an SVG file of its own.
pub fn picture(summary: &Summary) -> String {
    let (title, x, y) = PAIRS[0];
    let workloads = summary.workloads.len();
    let over = if workloads == 1 { "a workload".to_owned() } else { format!("{workloads} workloads") };
    let chart = ParetoChart {
        title: format!("{title} over {over}: medians of all runs, with 95 % intervals"),
        size: Size::new(830.0, 520.0),
        ..pareto(summary, title, x, y)
    };
    chart.render(Canvas::Standalone)
}

fn front(summary: &Summary) -> Section {
    let charts =
        PAIRS.map(|(title, x, y)| figure("", title, &pareto(summary, title, x, y).render(Canvas::Page)));
    let intro = "Medians over all runs with 95 % bootstrap intervals, failures counting as infinite. Full marks are on the \
                 front of downtime, total time, disruption and failures together, so that a full mark may lie behind another \
                 in one drawing. A policy of which half of the guests never arrived has no median and is not drawn.";
    Section::new("front", "What is worth choosing", intro, panels("large", charts))
}

fn name_of(objective: Objective) -> String {
    match objective {
        Objective::TotalTime => "total time",
        Objective::Downtime => "downtime",
        Objective::Bytes => "bytes sent",
        Objective::Disruption => "disruption",
        Objective::Failures => "failed",
    }
    .to_owned()
}

/// The first columns of a table of rows, and their entries in one.
fn whose(row: Option<&Row>, kind: Kind, by_workload: bool) -> (Vec<Column>, Vec<Entry>) {
    let mut columns = vec![Column::new("policy", kind)];
    let mut entries: Vec<Entry> = row.map(|row| Entry::text(&row.policy)).into_iter().collect();
    if by_workload {
        columns.push(Column::new("workload", Kind::Choice));
        entries.extend(row.map(|row| Entry::text(row.workload.as_deref().unwrap_or_default())));
    }
    (columns, entries)
}

/// A table with a row a policy, or a row a policy and workload: what fits beside each other, medians with their
/// intervals below.
fn medians<'a>(caption: &str, rows: impl Iterator<Item = &'a Row>, by_workload: bool) -> Markup {
    // A list of what stands in one row each would choose nothing that can't be seen.
    let kind = if by_workload { Kind::Choice } else { Kind::Text };
    let (mut columns, _) = whose(None, kind, by_workload);
    let shares = if by_workload { &["failed", "converged"][..] } else { &["front", "failed", "converged"] };
    columns.extend(shares.iter().map(|name| Column::new(*name, Kind::Number)));
    columns.extend(MEASURED.map(|objective| Column::new(name_of(objective), Kind::Number)));
    let mut table = Table::new(caption, columns).sortable();
    for row in rows {
        let (_, mut entries) = whose(Some(row), kind, by_workload);
        if !by_workload {
            entries.push(Entry::value(Unit::Share, row.front_share));
        }
        entries.extend([row.failed, row.converged].map(|share| Entry::value(Unit::Share, Some(share))));
        for objective in MEASURED {
            let Some(estimate) = row.estimate(objective) else { continue };
            let (low, high) = interval(estimate);
            entries.push(one(objective, estimate.median).with_below(&range_text(objective, low, high)));
        }
        table.row(entries);
    }
    table.render()
}

/// Every number of the same rows, a measure a row.
fn details<'a>(caption: &str, rows: impl Iterator<Item = &'a Row>, by_workload: bool) -> Markup {
    let (mut columns, _) = whose(None, Kind::Choice, by_workload);
    columns.push(Column::new("measure", Kind::Choice));
    let names = ["median", "95 % interval", "5 % to 95 % of the runs", "mean"];
    columns.extend(names.map(|name| Column::new(name, Kind::Number)));
    let mut table = Table::new(caption, columns).sortable();
    for row in rows {
        for objective in MEASURED {
            let Some(estimate) = row.estimate(objective) else { continue };
            let (_, mut entries) = whose(Some(row), Kind::Choice, by_workload);
            let (low, high) = interval(estimate);
            entries.extend([
                Entry::text(&name_of(objective)),
                one(objective, estimate.median),
                range(objective, low, high),
                range(objective, estimate.p5, estimate.p95),
                one(objective, estimate.mean),
            ]);
            table.row(entries);
        }
    }
    table.render()
}

const MEASURED: [Objective; 4] =
    [Objective::TotalTime, Objective::Downtime, Objective::Disruption, Objective::Bytes];

/// The ends of a median's interval, as far as they are numbers.
fn interval(estimate: &Estimate) -> (Option<f64>, Option<f64>) {
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    estimate.median_interval.map_or((None, None), |Interval { low, high }| (finite(low), finite(high)))
}

/// A value; where there is none the guest never arrived.
fn one(objective: Objective, value: Option<f64>) -> Entry {
    value
        .map_or_else(|| Entry::never("never"), |value| Entry::text(&shown(objective, value)).sorted_by(value))
}

/// From where to where, sorted by the distance.
fn range(objective: Objective, from: Option<f64>, to: Option<f64>) -> Entry {
    let text = range_text(objective, from, to);
    match (from, to) {
        (Some(from), Some(to)) => Entry::text(&text).sorted_by(to - from),
        _ => Entry::never(&text),
    }
}

fn range_text(objective: Objective, from: Option<f64>, to: Option<f64>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("{} to {}", shown(objective, from), shown(objective, to)),
        (Some(from), None) => format!("{} to never", shown(objective, from)),
        _ => "–".to_owned(),
    }
}

fn overall(summary: &Summary) -> Section {
    let intro = "Over all workloads: medians, below them their 95 % intervals. \"Front\" is the share of bootstrap resamples \
                 in which the policy is worth choosing. Medians and percentiles count failures as infinite (\"never\"), \
                 means leave them out (total time, downtime) or count what they cost (disruption, bytes).";
    let mut body = medians("All workloads together", summary.overall.iter(), false);
    let all = details("Every number of all workloads together", summary.overall.iter(), false);
    body.push(&folded("Every number", "percentiles and means too", false, &all));
    Section::new("overall", "All workloads together", intro, body)
}

/// How many policies have strips by workload; more are only shown over all.
const STRIPS: usize = 30;

fn spread(comparison: &Comparison, summary: &Summary) -> Section {
    let all: Vec<usize> = (0..summary.workloads.len()).collect();
    let chart = |title: &str, unit: Unit, objective: Objective, factor: f64, workloads: &[usize]| {
        let row = |(style, policy): (usize, &String)| {
            let values = super::summary::values(comparison, workloads, style, objective);
            let mut values: Vec<f64> =
                values.into_iter().flatten().filter(|value| value.is_finite()).collect();
            values.sort_unstable_by(f64::total_cmp);
            let at = |share| nearest_rank(&values, share).map(|value| value * factor);
            let quantiles = [0.05, 0.25, 0.5, 0.75, 0.95].map(at);
            let quantiles = quantiles.into_iter().collect::<Option<Vec<_>>>();
            let count = comparison.repeat as usize * workloads.len();
            Strip {
                label: policy.clone(),
                quantiles: quantiles.and_then(|quantiles| quantiles.try_into().ok()),
                style,
                remark: format!("{} of {count}", values.len()),
            }
        };
        let rows = summary.policies.iter().enumerate().map(row).collect();
        let chart = StripChart {
            title: String::new(),
            description: format!("{title}: 5th, 25th, 50th, 75th and 95th percentile of each policy"),
            unit,
            rows,
            width: 560.0,
        };
        figure("", title, &chart.render(Canvas::Page))
    };
    let charts = |workloads: &[usize]| {
        panels(
            "large",
            [
                chart("Downtime", Unit::Milliseconds, Objective::Downtime, 1e3, workloads),
                chart("Total time", Unit::Milliseconds, Objective::TotalTime, 1e3, workloads),
                chart("Disruption", Unit::VcpuSeconds, Objective::Disruption, 1.0, workloads),
            ],
        )
    };
    let mut body = charts(&all);
    if summary.policies.len() <= STRIPS && all.len() > 1 {
        for (at, (name, about)) in summary.workloads.iter().enumerate() {
            body.push(&folded_charts(name, about, &charts(&[at])));
        }
    }
    let intro = "Percentiles of the runs that completed (total time, downtime) or of all runs (disruption); how many \
                 these are stands beside each.";
    Section::new("spread", "How the runs are spread", intro, body)
}

/// How a claim says by how much: a factor has a column of its own, and a difference of shares, too.
const DIFFERENCES: [&str; 4] = ["ratio", "95 % interval", "fewer failures", "p, corrected"];

fn claims(summary: &Summary) -> Section {
    let mut table = Table::new(
        "Significant differences",
        ["objective", "where", "better", "worse"]
            .map(|name| Column::new(name, Kind::Choice))
            .into_iter()
            .chain(DIFFERENCES.map(|name| Column::new(name, Kind::Number)))
            .collect(),
    )
    .sortable();
    // Every pair on every workload would be a page of its own.
    let most = 2_000;
    let chosen = summary.claims.iter().filter(|claim| claim.scope == Scope::Overall);
    let others = summary.claims.iter().filter(|claim| claim.scope != Scope::Overall);
    for claim in chosen.chain(others).take(most) {
        // What does not apply to a row has no place in the order.
        let none = || Entry::text("–");
        let ratio =
            claim.ratio.map_or_else(none, |ratio| Entry::text(&format!("{ratio:.3}")).sorted_by(ratio));
        let less = claim.failures_less.map_or_else(none, |less| Entry::text(&percent(less)).sorted_by(less));
        let interval = claim.ratio_interval.map_or_else(none, |interval| {
            Entry::text(&format!("{:.3} to {:.3}", interval.low, interval.high))
                .sorted_by(interval.high - interval.low)
        });
        table.row(vec![
            Entry::text(claim.objective.name()),
            Entry::text(match &claim.scope {
                Scope::Overall => "all workloads",
                Scope::Workload(name) => name,
            }),
            Entry::text(&claim.better),
            Entry::text(&claim.worse),
            ratio,
            interval,
            less,
            Entry::text(&format!("{:.2e}", claim.p)).sorted_by(claim.p),
        ]);
    }
    let left_out = summary.claims.len().saturating_sub(most);
    let more = if left_out > 0 { format!(" {left_out} more are in summary.json.") } else { String::new() };
    let intro = format!(
        "Differences that are significant at {} after correction for all {} tests. Compared is run by run on the same \
         workload; medians over all workloads mix unlike runs and need not agree. The ratio says how much more the worse \
         policy takes; for failures, the difference of the shares.{more}",
        percent(LEVEL),
        grouped(summary.tests),
    );
    let body = if summary.claims.is_empty() { note("There are none.") } else { table.render() };
    Section::new("claims", "Who beats whom", intro, body)
}

fn workloads(summary: &Summary) -> Section {
    let mut words = Table::new(
        "The workloads",
        vec![Column::new("workload", Kind::Text), Column::new("what it is", Kind::Text)],
    );
    for (name, about) in &summary.workloads {
        words.row(vec![Entry::text(name), Entry::text(about)]);
    }
    let mut body = words.render();
    body.push(&medians("Each workload", summary.by_workload.iter(), true));
    let all = details("Every number of each workload", summary.by_workload.iter(), true);
    body.push(&folded("Every number of each workload", "percentiles and means too", false, &all));
    Section::new("workloads", "Each workload", "", body)
}
