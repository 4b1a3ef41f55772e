//! The report of a sweep: one HTML file that says what was found, shows it, and how to run it again.
//!
//! Called with the rows of a finished (or interrupted) sweep; gives the page as a string. It reads no file, no
//! clock and no result type, and it must never fail, nor need a network or its script to be read.
//!
//! The frame, the tables and the script are [`crate::page`]'s; what stands in them is decided here.

// Markup is joined from pieces; one allocation more for each does not matter here.
#![allow(clippy::format_push_string, clippy::format_collect)]

mod figures;
mod findings;
mod forecasts;
mod frame;
mod frontier;
mod grid;
mod rounds;
mod spread;
mod tables;
mod trade;

#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::chart::HeatMaps;
pub use crate::chart::{GridValues, Unit};
use crate::page::Section;

/// The version of the page's structure, in `<meta name="whimbrel-report-schema">`.
pub const SCHEMA: u32 = 2;

/// All that a report is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportInput {
    /// The heading.
    pub title: String,
    /// The command that runs the sweep again, as one types it.
    pub command: String,
    /// The whole scenario, TOML.
    pub scenario_toml: String,
    /// The version of whimbrel.
    pub version: String,
    /// What was the same in all runs, `(name, value)`: the guest, the link, the seed, ….
    /// Nothing of the machine that ran it or of when it did, so that the same sweep gives the same file.
    pub facts: Vec<(String, String)>,
    /// What was varied.
    pub axes: Vec<Axis>,
    /// The results, in any order; missing ones are shown as not run.
    pub cells: Vec<Cell>,
    /// Which of the axes holds the policies; `None` if there was only one.
    pub policy_axis: Option<usize>,
    /// Some runs round by round; those of one place stand side by side.
    pub representatives: Vec<Representative>,
    /// How the runs of each value of the compared axis are spread.
    pub spreads: Vec<Spread>,
    /// How far forecasts of the runs were off, all runs first: of real ones only.
    pub forecasts: Vec<Forecasts>,
    /// The guest's page size in bytes, for the line where the dirty rate equals the bandwidth.
    pub page_bytes: Option<u64>,
}

/// One thing that was varied.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The key in the scenario.
    pub key: String,
    /// In words: `dirty rate`.
    pub label: String,
    /// Its values, in the order that [`Cell::coords`] counts them.
    pub values: GridValues,
}

impl ReportInput {
    /// Whether guests were really moved.
    fn is_real(&self) -> bool {
        !self.forecasts.is_empty()
    }
}

/// The runs at one point of the grid, summed up. A value that is absent or not finite is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// For each axis, which of its values.
    pub coords: Vec<usize>,
    /// How many runs; a cell without runs counts as not run.
    pub runs: u32,
    /// Share of the runs that converged, 0 to 1.
    pub converged: f64,
    /// How the runs ended, `(outcome, how many)`.
    pub outcomes: Vec<(String, u32)>,
    /// Median total migration time over the runs that completed, milliseconds.
    pub total_ms: Option<f64>,
    /// Median downtime over the runs that completed, milliseconds.
    pub downtime_ms: Option<f64>,
    /// 90th percentile of the downtime over the runs that completed, milliseconds.
    pub downtime_p90_ms: Option<f64>,
    /// Median of the bytes sent, over all runs.
    pub sent_bytes: Option<f64>,
    /// Median of the passes over memory, over all runs.
    pub rounds: Option<f64>,
    /// Median of what the guest lost, over all runs, vCPU-seconds.
    pub disruption_vcpu_s: Option<f64>,
}

/// How far forecasts of some real runs were off: medians of absolute errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecasts {
    /// Which runs; empty for all.
    pub of: String,
    /// How many.
    pub runs: usize,
    /// Of the total time, as a share of what was measured.
    pub total: Option<f64>,
    /// Of the bytes sent, as a share.
    pub sent: Option<f64>,
    /// Of the downtime, milliseconds.
    pub downtime_ms: Option<f64>,
    /// Of the downtime, as a share.
    pub downtime: Option<f64>,
    /// Runs whose downtime was forecast well enough,
    pub within: usize,
    /// of those that ended as forecast.
    pub judged: usize,
    /// Of the processor time at the source, as a share of what was measured.
    pub source_cpu: Option<f64>,
}

/// One run, told round by round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Representative {
    /// Its cell: for each axis, which of its values.
    pub coords: Vec<usize>,
    /// Its seed.
    pub seed: u64,
    /// How it ended.
    pub outcome: String,
    /// Whether the policy's own rule was met.
    pub converged: bool,
    /// Total time, milliseconds.
    pub total_ms: f64,
    /// Downtime, milliseconds.
    pub downtime_ms: f64,
    /// The downtime's parts in the order of time: name and milliseconds.
    pub ledger: Vec<(String, f64)>,
    /// How many rounds there were.
    pub rounds: usize,
    /// The rounds, possibly some left out.
    pub kept: Vec<Round>,
}

/// One round of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Round {
    /// 0 is the bulk round.
    pub round: u32,
    /// The guest was paused, or ran at the destination already.
    pub handed_over: bool,
    /// Since the start of the migration, milliseconds.
    pub started_ms: f64,
    /// Pages pending when it began.
    pub pending_pages: f64,
    /// Pages that the harvest at its beginning found dirty.
    pub dirtied_pages: f64,
    /// Share of CPU taken away at its end, 0 to 1.
    pub throttle: f64,
}

/// How many runs are spread. Percentiles 0 to 100 of the runs that completed; fewer than 101 are taken for none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Which value of the compared axis.
    pub group: usize,
    /// Runs.
    pub runs: u64,
    /// Runs that completed.
    pub completed: u64,
    /// Of the total time, milliseconds.
    pub total_ms: Vec<f64>,
    /// Of the downtime, milliseconds.
    pub downtime_ms: Vec<f64>,
    /// Of what the guest lost, vCPU-seconds.
    pub disruption_vcpu_s: Vec<f64>,
}

/// The page. The same input gives the same bytes.
pub fn render(input: &ReportInput) -> String {
    let grid = &grid::Grid::new(input);
    // The largest parts first: they are made on all cores.
    let parts: [&(dyn Fn() -> Vec<Section> + Sync); 4] = [
        &|| figures::maps(grid),
        &|| vec![tables::section(grid)],
        &|| frontier::section(grid).into_iter().collect(),
        &|| {
            [figures::curves(grid), figures::lines(grid), figures::bars(grid)].into_iter().flatten().collect()
        },
    ];
    let (found, parts) = rayon::join(
        || findings::Findings::of(grid),
        || parts.par_iter().map(|part| part()).collect::<Vec<_>>(),
    );
    let mut parts = parts.into_iter();
    let mut next = || parts.next().unwrap_or_default();
    let (maps, tables, frontier, curves) = (next(), next(), next(), next());
    frame::page(input, grid, &found)
        .sections(findings::section(grid, &found))
        .sections(forecasts::section(input))
        .sections(trade::section(grid, &found))
        .sections(frontier)
        .sections(maps)
        .sections(curves)
        .sections(spread::section(grid))
        .sections(rounds::section(grid))
        .sections(rounds::ledger(grid))
        .sections(tables)
        .sections([frame::run_again(input), frame::words(grid)])
        .render()
}

/// The downtime of the compared ones as maps in one file, convergence outlined; none unless two axes have numbers.
pub fn heat_maps(input: &ReportInput) -> Option<HeatMaps> {
    figures::downtime_maps(&grid::Grid::new(input))
}
