//! What the sweep found, in sentences and one table.

use super::Cell;
use super::frontier::{Lost, Point, direction, frontier};
use super::grid::{Grid, Group, Metric, converges, median, value_text};
use crate::chart::Unit;
use crate::page::{Column, Entry, Kind, Markup, Section, Table};

/// What was found for one group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) group: Group,
    /// Cells that were run.
    pub(super) cells: usize,
    /// Of these, cells where at least half of the runs converged.
    pub(super) converging: usize,
    /// Medians over the cells in which every group converges that converges anywhere.
    pub(super) total_ms: Option<f64>,
    pub(super) downtime_ms: Option<f64>,
    pub(super) downtime_p90_ms: Option<f64>,
    pub(super) disruption_vcpu_s: Option<f64>,
    /// The common cells themselves, as far as they have all three measures: total time, downtime, disruption.
    pub(super) common: Vec<[f64; 3]>,
}

impl Finding {
    pub(super) fn share(&self) -> f64 {
        self.converging as f64 / self.cells.max(1) as f64
    }
}

/// What was found, over the whole sweep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Findings {
    /// In the order of the axis; groups without a single run left out.
    pub(super) groups: Vec<Finding>,
    /// How many cells a group has in which every group converges that converges anywhere.
    pub(super) common: usize,
}

/// A cell's place without its group.
fn place(grid: &Grid<'_>, cell: &Cell) -> Vec<usize> {
    let coords = cell.coords.iter().enumerate();
    coords.filter(|(at, _)| Some(*at) != grid.series).map(|(_, place)| *place).collect()
}

/// Total time, downtime and disruption of a cell, if it has all three.
fn measures(cell: &Cell) -> Option<[f64; 3]> {
    Some([Metric::Total.of(cell)?, Metric::Downtime.of(cell)?, Metric::Disruption.of(cell)?])
}

impl Findings {
    pub(super) fn of(grid: &Grid<'_>) -> Self {
        let mut cells: Vec<(Group, Vec<&Cell>)> =
            grid.groups().into_iter().map(|group| (group, Vec::new())).collect();
        for cell in grid.all() {
            cells[grid.group_of(cell)].1.push(cell);
        }
        cells.retain(|(_, cells)| !cells.is_empty());
        let holds = cells.iter().map(|(_, cells)| {
            let places = cells.iter().filter(|cell| converges(cell)).map(|cell| place(grid, cell));
            places.collect::<std::collections::BTreeSet<_>>()
        });
        // Policies that converge in more cells do so in harder ones; only common cells compare. One that
        // never does (it counts rounds, or hands over at once) would leave none.
        let common = holds
            .filter(|places| !places.is_empty())
            .reduce(|all, next| all.intersection(&next).cloned().collect())
            .unwrap_or_default();
        let groups = cells.into_iter().map(|(group, cells)| {
            let shared: Vec<&&Cell> =
                cells.iter().filter(|cell| common.contains(&place(grid, cell))).collect();
            let middle = |of: fn(&Cell) -> Option<f64>| median(shared.iter().filter_map(|cell| of(cell)));
            Finding {
                group,
                cells: cells.len(),
                converging: cells.iter().filter(|cell| converges(cell)).count(),
                total_ms: middle(|cell| Metric::Total.of(cell)),
                downtime_ms: middle(|cell| Metric::Downtime.of(cell)),
                downtime_p90_ms: middle(|cell| cell.downtime_p90_ms),
                disruption_vcpu_s: middle(|cell| Metric::Disruption.of(cell)),
                common: shared.iter().filter_map(|cell| measures(cell)).collect(),
            }
        });
        Self { groups: groups.collect(), common: common.len() }
    }

    /// The findings in sentences, the most important first.
    pub(super) fn sentences(&self, grid: &Grid<'_>) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.groups.is_empty() {
            return vec!["No cell of this sweep was run.".to_owned()];
        }
        sentences.push(self.convergence());
        sentences.extend(frontier_sentence(grid));
        sentences.extend(self.downtime());
        sentences
    }

    fn convergence(&self) -> String {
        let by_share = |best: bool| {
            let order = |a: &&Finding, b: &&Finding| a.share().total_cmp(&b.share());
            if best { self.groups.iter().rev().max_by(order) } else { self.groups.iter().min_by(order) }
        };
        let share = |finding: &Finding| whole_percent(finding.share());
        match (by_share(true), by_share(false)) {
            (Some(best), _) if self.groups.len() == 1 => {
                format!("{} in {} of {}.", subject(&best.group), share(best), counted(best.cells))
            }
            (Some(best), Some(least)) if best.converging == least.converging && best.cells == least.cells => {
                format!("All {} converge in {} of {}.", self.groups.len(), share(best), counted(best.cells))
            }
            (Some(best), Some(least)) => {
                let like = |one: &Finding| {
                    let alike = self.groups.iter().filter(|other| share(other) == share(one));
                    alike.map(|finding| finding.group.name.as_str()).collect::<Vec<_>>().join(", ")
                };
                format!(
                    "Migrations converge most often with {} ({} of {}) and least often with {} ({}).",
                    like(best),
                    share(best),
                    counted(best.cells),
                    like(least),
                    share(least),
                )
            }
            _ => String::new(),
        }
    }

    fn downtime(&self) -> Option<String> {
        if self.groups.len() < 2 {
            let only = self.groups.first()?;
            let downtime = Unit::Milliseconds.format(only.downtime_ms?);
            let total = Unit::Milliseconds.format(only.total_ms?);
            return Some(format!(
                "Where it converges, the median migration takes {total} with {downtime} of downtime."
            ));
        }
        let with = || {
            self.groups
                .iter()
                .filter_map(|finding| finding.downtime_ms.map(|value| (value, &finding.group.name)))
        };
        let least = with().min_by(|a, b| a.0.total_cmp(&b.0))?;
        let most = with().max_by(|a, b| a.0.total_cmp(&b.0))?;
        let text = |value| Unit::Milliseconds.format(value);
        let like = |value| {
            let alike = with().filter(|other| text(other.0) == text(value));
            alike.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let where_all = format!("Where all that converge anywhere do ({} each)", counted(self.common));
        if text(least.0) == text(most.0) {
            return Some(format!("{where_all}, the median downtime is {} for each.", text(least.0)));
        }
        Some(format!(
            "{where_all}, the median downtime is least with {} ({}) and greatest with {} ({}).",
            like(least.0),
            text(least.0),
            like(most.0),
            text(most.0),
        ))
    }
}

fn counted(cells: usize) -> String {
    if cells == 1 { "1 cell".to_owned() } else { format!("{cells} cells") }
}

fn subject(group: &Group) -> String {
    if group.name.is_empty() {
        "The migration converges".to_owned()
    } else {
        format!("{} converges", group.name)
    }
}

/// In whole per cent; not 0 or 100 unless it is exactly that.
fn whole_percent(share: f64) -> String {
    let percent = (share * 100.0).round();
    if share > 0.0 && percent < 1.0 {
        "less than 1 %".to_owned()
    } else if share < 1.0 && percent > 99.0 {
        "more than 99 %".to_owned()
    } else {
        format!("{percent} %")
    }
}

/// Where convergence is lost at the middle of the x axis.
fn frontier_sentence(grid: &Grid<'_>) -> Option<String> {
    let (x, y) = (grid.axis(grid.x)?, grid.axis(grid.y)?);
    let order = grid.ascending(grid.x);
    let middle = *order.get(order.len().checked_sub(1)? / 2)?;
    let way = direction(grid);
    let (mut lost, mut never, mut always) = (Vec::new(), Vec::new(), Vec::new());
    let groups = grid.groups();
    for group in &groups {
        let points = frontier(grid, group.index, way);
        match points.iter().find(|point| point.x == middle) {
            Some(Point { open: true, .. }) => never.push(group.name.as_str()),
            Some(Point { last: Some(at), .. }) => lost.push((*at, group.name.as_str())),
            Some(_) => always.push(group.name.as_str()),
            None => {}
        }
    }
    lost.sort_by(|a, b| grid.numbers(grid.y)[a.0].total_cmp(&grid.numbers(grid.y)[b.0]));
    let (least, most) = (lost.first()?, lost.last()?);
    let beyond = if way == Lost::Upwards { "above" } else { "below" };
    let told = |(place, name): &(usize, &str)| {
        let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
        format!("{}{name}", value_text(y, *place))
    };
    let mut text = format!("At {}, convergence is lost {beyond} ", value_text(x, middle));
    if least.0 != most.0 {
        text.push_str(&format!("{} to {}", told(least), told(most)));
    } else if lost.len() == groups.len() && lost.len() > 1 {
        text.push_str(&format!("{} whatever the {}", value_text(y, least.0), grid.group_word()));
    } else {
        let names: Vec<&str> = lost.iter().map(|(_, name)| *name).collect();
        text.push_str(&told(&(least.0, &names.join(", "))));
    }
    if let Some(rate) = grid.line_rate(grid.numbers(grid.x)[middle]) {
        text.push_str(&format!("; the link carries {}", Unit::PageRate.format(rate)));
    }
    text.push('.');
    if !never.is_empty() {
        text.push_str(&format!(" Not lost anywhere there: {}.", never.join(", ")));
    }
    if !always.is_empty() {
        text.push_str(&format!(" Never reached there: {}.", always.join(", ")));
    }
    Some(text)
}

/// A row of the table of findings.
fn row(finding: &Finding) -> Vec<Entry> {
    let share = finding.share();
    let name = match finding.group.name.as_str() {
        "" => "all runs",
        name => name,
    };
    let of = Markup::text(&format!("{} of {}", finding.converging, finding.cells)).within("small", "");
    let converges: Markup = [Markup::text(&format!("{} ", whole_percent(share))), of].into_iter().collect();
    let meter = format!(
        "<span class=\"meter s{}\"><i style=\"width:{:.1}%\"></i></span>",
        finding.group.index % 8,
        share * 100.0
    );
    let time = |value| Entry::value(Unit::Milliseconds, value);
    vec![
        Entry::text(name),
        Entry::markup(converges).sorted_by(share),
        Entry::markup(Markup::raw(meter)),
        time(finding.total_ms),
        time(finding.downtime_ms),
        time(finding.downtime_p90_ms),
        Entry::value(Unit::VcpuSeconds, finding.disruption_vcpu_s),
    ]
}

/// The table of findings.
pub(super) fn section(grid: &Grid<'_>, found: &Findings) -> Option<Section> {
    if found.groups.is_empty() {
        return None;
    }
    let columns = [
        (grid.group_word(), Kind::Text),
        ("converges in", Kind::Number),
        ("", Kind::Number),
        ("median total time", Kind::Number),
        ("median downtime", Kind::Number),
        ("90th percentile of downtime", Kind::Number),
        ("median lost guest time", Kind::Number),
    ];
    let columns = columns.map(|(name, kind)| Column::new(name, kind)).to_vec();
    let mut table = Table::new("Findings", columns);
    for finding in &found.groups {
        table.row(row(finding));
    }
    // A few rows are seen at a glance; a filter above them would be in the way.
    let table = if found.groups.len() > 4 { table.sortable() } else { table };
    let mut intro =
        "A cell is one point of the grid; it converges if at least half of its runs do.".to_owned();
    if found.groups.len() > 1 {
        intro.push_str(&format!(
            " The medians are over the {} in which every {} converges that converges anywhere, so that all are judged on the same guests.",
            counted(found.common),
            grid.group_word()
        ));
    } else {
        intro.push_str(" The medians are over the cells that converge.");
    }
    if let Some(note) = grid.fixed_note() {
        intro.push(' ');
        intro.push_str(&note);
    }
    Some(Section::new("findings", "At a glance", intro, table.render()))
}
