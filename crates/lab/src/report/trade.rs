//! What can be had for what: Pareto plots of the compared ones.

use rayon::prelude::*;

use super::findings::{Finding, Findings};
use super::grid::{Grid, Metric};
use crate::chart::{Candidate, Canvas, Estimate, LineAxis, ParetoChart, ScaleKind, Size, usable};
use crate::page::{Section, figure, legend, panels};
use crate::stats::{Bootstrap, median, pareto_front};

/// So many values are drawn in all for an interval, in 200 to 1,000 resamples.
const MOST_DRAWN: usize = 5_000_000;

/// The measures in the order of [`Finding::common`].
const METRICS: [Metric; 3] = [Metric::Total, Metric::Downtime, Metric::Disruption];
/// What is drawn against what.
const PAIRS: [(usize, usize); 2] = [(0, 1), (0, 2)];

/// One of the compared ones: its medians over the common cells.
struct Judged<'a> {
    finding: &'a Finding,
    estimates: [Estimate; 3],
}

impl<'a> Judged<'a> {
    /// None where a measure has no value.
    fn of(finding: &'a Finding) -> Option<Self> {
        let mut estimates = [Estimate { value: 0.0, interval: None }; 3];
        for (at, estimate) in estimates.iter_mut().enumerate() {
            let values: Vec<f64> = finding.common.iter().map(|cell| cell[at]).collect();
            let resamples = (MOST_DRAWN / values.len().max(1)).clamp(200, 1000) as u32;
            let interval = Bootstrap { resamples, ..Bootstrap::default() }.interval(&[&values], median);
            estimate.value = median(&mut values.clone()).and_then(usable)?;
            estimate.interval = interval.map(|interval| (interval.low, interval.high));
        }
        Some(Self { finding, estimates })
    }
}

/// The plots' section; nothing unless two or more can be judged by the same cells.
pub(super) fn section(grid: &Grid<'_>, found: &Findings) -> Option<Section> {
    // Drawing takes longer than the rest of a page.
    if found.groups.len() < 2 {
        return None;
    }
    let judged: Vec<Judged<'_>> = found.groups.par_iter().filter_map(Judged::of).collect();
    if judged.len() < 2 {
        return None;
    }
    let charts = PAIRS.map(|(x, y)| {
        let name = format!("{} and {}", METRICS[x].axis(), METRICS[y].axis());
        figure("", &name, &chart(&judged, x, y).render(Canvas::Page))
    });
    let cells = if found.common == 1 { "cell".to_owned() } else { format!("{} cells", found.common) };
    let intro = format!(
        "Medians over the {cells} in which every {} converges that converges anywhere; less is better on both axes. Each \
         cross is the 95 % interval of the median, by drawing the cells again: how much it hangs on which guests the \
         grid holds. Filled marks are on the Pareto front, the dotted line.",
        grid.group_word(),
    );
    let mut body =
        legend(judged.iter().map(|one| (Some(one.finding.group.index), one.finding.group.name.as_str())));
    body.push(&panels("large", charts));
    Some(Section::new("trade", "What is paid for what", intro, body))
}

fn chart(judged: &[Judged<'_>], x: usize, y: usize) -> ParetoChart {
    let points: Vec<[f64; 2]> =
        judged.iter().map(|one| [one.estimates[x].value, one.estimates[y].value]).collect();
    let candidates = judged.iter().zip(pareto_front(&points)).map(|(one, front)| Candidate {
        name: one.finding.group.name.clone(),
        x: one.estimates[x],
        y: one.estimates[y],
        style: one.finding.group.index,
        front,
        ..Candidate::default()
    });
    ParetoChart {
        title: String::new(),
        description: format!("{} against {}, medians", METRICS[y].name(), METRICS[x].name()),
        x: axis(judged, x),
        y: axis(judged, y),
        candidates: candidates.collect(),
        legend: Vec::new(),
        size: Size::new(560.0, 400.0),
    }
}

fn axis(judged: &[Judged<'_>], at: usize) -> LineAxis {
    let ends = judged.iter().flat_map(|one| {
        let Estimate { value, interval } = one.estimates[at];
        let (low, high) = interval.unwrap_or((value, value));
        [low, high]
    });
    let positive = ends.filter(|value| *value > 0.0);
    let (low, high) = positive
        .fold((f64::INFINITY, 0.0), |(low, high), value| (f64::min(low, value), f64::max(high, value)));
    let kind = if high > 8.0 * low { ScaleKind::Log } else { ScaleKind::Linear };
    LineAxis { label: METRICS[at].axis().to_owned(), unit: METRICS[at].unit(), kind, cover: Vec::new() }
}
