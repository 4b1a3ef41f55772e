//! The sweep's cells by their place, and which axes the figures show.

use std::collections::BTreeMap;

use super::{Axis, Cell, ReportInput};
use crate::chart::{GridAxis, GridValues, Palette, Unit, usable};

/// From this share of converging runs on, a cell counts as converging.
pub(super) const HALF: f64 = 0.5;

/// A measure of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Converged,
    Total,
    Downtime,
    Sent,
    Disruption,
}

impl Metric {
    pub(super) fn of(self, cell: &Cell) -> Option<f64> {
        let value = match self {
            Self::Converged => Some(cell.converged),
            Self::Total => cell.total_ms,
            Self::Downtime => cell.downtime_ms,
            Self::Sent => cell.sent_bytes,
            Self::Disruption => cell.disruption_vcpu_s,
        };
        value.and_then(usable)
    }

    pub(super) const fn unit(self) -> Unit {
        match self {
            Self::Converged => Unit::Share,
            Self::Total | Self::Downtime => Unit::Milliseconds,
            Self::Sent => Unit::Bytes,
            Self::Disruption => Unit::VcpuSeconds,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Converged => "Convergence",
            Self::Total => "Total migration time",
            Self::Downtime => "Downtime",
            Self::Sent => "Bytes sent",
            Self::Disruption => "Guest disruption",
        }
    }

    pub(super) const fn axis(self) -> &'static str {
        match self {
            Self::Converged => "runs that converge",
            Self::Total => "total time",
            Self::Downtime => "downtime",
            Self::Sent => "bytes sent",
            Self::Disruption => "lost guest time",
        }
    }

    /// Under the heading of its figures.
    pub(super) const fn about(self) -> &'static str {
        match self {
            Self::Converged => {
                "The share of runs that handed the guest over because the policy's own rule was met."
            }
            Self::Total => {
                "From the start to the end of the migration: the median of the runs that completed, forced ones among \
                 them. Hatched where none did."
            }
            Self::Downtime => {
                "From the last instruction at the source to the first at the destination: the median of the runs that \
                 completed, forced ones among them. Hatched where none did."
            }
            Self::Sent => "Everything handed to the transport: the median of all runs.",
            Self::Disruption => {
                "What the guest lost to throttle, pause and tracking faults, in vCPU-seconds: the median of all runs."
            }
        }
    }

    pub(super) const fn palette(self) -> Palette {
        match self {
            Self::Converged => Palette::OrangeBlue,
            Self::Total | Self::Sent => Palette::Viridis,
            Self::Downtime | Self::Disruption => Palette::Magma,
        }
    }
}

/// One line of a chart, one map of a row: a policy, as a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) index: usize,
    /// Empty if there is only one.
    pub(super) name: String,
}

/// The cells of a sweep by place.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    pub(super) input: &'a ReportInput,
    /// The axis from left to right: bandwidth if there is one, else the first with numbers.
    pub(super) x: Option<usize>,
    /// The axis from bottom to top: the dirty rate if there is one, else the second with numbers.
    pub(super) y: Option<usize>,
    /// The axis whose values stand side by side: the policies if there are any, else the first with names.
    pub(super) series: Option<usize>,
    /// The axes that the figures hold at one value, and at which.
    pub(super) fixed: Vec<(usize, usize)>,
    cells: BTreeMap<&'a [usize], &'a Cell>,
    /// The same by their number in the grid, the last axis fastest; empty if the grid is far larger than what was run.
    dense: Vec<Option<&'a Cell>>,
    /// The values of each axis as they are printed.
    texts: Vec<Vec<String>>,
}

/// So many times more places than cells are worth finding cells at once.
const SPARSE: usize = 16;

pub(super) fn axis_len(axis: &Axis) -> usize {
    match &axis.values {
        GridValues::Numbers { values, .. } => values.len(),
        GridValues::Names(names) => names.len(),
    }
}

pub(super) fn unit_of(axis: &Axis) -> Option<Unit> {
    match &axis.values {
        GridValues::Numbers { unit, .. } => Some(*unit),
        GridValues::Names(_) => None,
    }
}

/// The value of an axis as it is printed.
pub(super) fn value_text(axis: &Axis, at: usize) -> String {
    match &axis.values {
        GridValues::Numbers { unit, values } => {
            values.get(at).map_or_else(String::new, |value| unit.format(*value))
        }
        GridValues::Names(names) => names.get(at).cloned().unwrap_or_default(),
    }
}

/// The number of a place in the grid.
fn number_of(axes: &[Axis], coordinate: impl Fn(usize) -> usize) -> usize {
    (0..axes.len()).fold(0, |number, at| number * axis_len(&axes[at]) + coordinate(at))
}

impl<'a> Grid<'a> {
    pub(super) fn new(input: &'a ReportInput) -> Self {
        let axes = &input.axes;
        let policy = input.policy_axis.filter(|at| *at < axes.len());
        let series =
            policy.or_else(|| axes.iter().position(|axis| unit_of(axis).is_none() && axis_len(axis) > 1));
        let numeric: Vec<usize> = (0..axes.len())
            .filter(|at| Some(*at) != series && unit_of(&axes[*at]).is_some() && axis_len(&axes[*at]) > 1)
            .collect();
        let with = |unit| numeric.iter().copied().find(|at| unit_of(&axes[*at]) == Some(unit));
        let (x, y) = match (with(Unit::Bandwidth), with(Unit::PageRate)) {
            (Some(bandwidth), Some(rate)) => (Some(bandwidth), Some(rate)),
            _ => (numeric.first().copied(), numeric.get(1).copied()),
        };
        let fixed = (0..axes.len())
            .filter(|at| ![x, y, series].contains(&Some(*at)))
            .map(|at| {
                (at, if unit_of(&axes[at]).is_some() { axis_len(&axes[at]).saturating_sub(1) / 2 } else { 0 })
            })
            .collect();
        let valid = |cell: &&Cell| {
            cell.runs > 0
                && cell.coords.len() == axes.len()
                && cell.coords.iter().zip(axes).all(|(at, axis)| *at < axis_len(axis))
        };
        let cells: BTreeMap<&[usize], &Cell> =
            input.cells.iter().filter(valid).map(|cell| (cell.coords.as_slice(), cell)).collect();
        let places = axes.iter().map(axis_len).fold(1, usize::saturating_mul);
        let mut dense = Vec::new();
        if places <= SPARSE * cells.len() {
            dense.resize(places, None);
            for (coords, cell) in &cells {
                dense[number_of(axes, |at| coords[at])] = Some(*cell);
            }
        }
        let texts = |axis: &Axis| (0..axis_len(axis)).map(|at| value_text(axis, at)).collect();
        let texts = axes.iter().map(texts).collect();
        Self { input, x, y, series, fixed, cells, dense, texts }
    }

    /// The value of an axis as it is printed.
    pub(super) fn text(&self, axis: usize, at: usize) -> &str {
        self.texts.get(axis).and_then(|texts| texts.get(at)).map_or("", String::as_str)
    }

    /// What stands side by side.
    pub(super) fn groups(&self) -> Vec<Group> {
        match self.series.map(|at| &self.input.axes[at]) {
            Some(axis) => {
                (0..axis_len(axis)).map(|index| Group { index, name: value_text(axis, index) }).collect()
            }
            None => vec![Group { index: 0, name: String::new() }],
        }
    }

    /// What a group is: `policy`, or the label of the axis.
    pub(super) fn group_word(&self) -> &str {
        match self.series {
            Some(at) if self.input.policy_axis != Some(at) => &self.input.axes[at].label,
            _ => "policy",
        }
    }

    pub(super) fn axis(&self, at: Option<usize>) -> Option<&'a Axis> {
        self.input.axes.get(at?)
    }

    /// The axis for a chart; a single place without a name if there is none.
    pub(super) fn chart_axis(&self, at: Option<usize>) -> GridAxis {
        self.axis(at).map_or_else(
            || GridAxis { label: String::new(), values: GridValues::Names(vec![String::new()]) },
            |axis| GridAxis { label: axis.label.clone(), values: axis.values.clone() },
        )
    }

    pub(super) fn numbers(&self, at: Option<usize>) -> &'a [f64] {
        match self.axis(at).map(|axis| &axis.values) {
            Some(GridValues::Numbers { values, .. }) => values,
            _ => &[],
        }
    }

    /// The places of an axis in the order of their values, those that are no numbers left out.
    pub(super) fn ascending(&self, at: Option<usize>) -> Vec<usize> {
        let values = self.numbers(at);
        let mut order: Vec<usize> = (0..values.len()).filter(|at| usable(values[*at]).is_some()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        order
    }

    /// The cell of a group in the plane that the figures show.
    pub(super) fn cell(&self, group: usize, x: usize, y: usize) -> Option<&'a Cell> {
        let coordinate = |axis: usize| {
            let held = || self.fixed.iter().find(|(at, _)| *at == axis).map_or(0, |(_, value)| *value);
            let shown = [(self.series, group), (self.x, x), (self.y, y)];
            shown.iter().find(|(at, _)| *at == Some(axis)).map_or_else(held, |(_, value)| *value)
        };
        let axes = &self.input.axes;
        if self.dense.is_empty() {
            let coords: Vec<usize> = (0..axes.len()).map(coordinate).collect();
            return self.cells.get(coords.as_slice()).copied();
        }
        // Outside of an axis there is nothing.
        let inside = (0..axes.len()).all(|at| coordinate(at) < axis_len(&axes[at]));
        if inside { self.dense[number_of(axes, coordinate)] } else { None }
    }

    /// Every cell that was run, in the order of the axes.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Cell> + '_ {
        self.cells.values().copied()
    }

    pub(super) fn count(&self) -> usize {
        self.cells.len()
    }

    /// How many cells the axes span; saturating.
    pub(super) fn expected(&self) -> usize {
        self.input.axes.iter().map(axis_len).fold(1, usize::saturating_mul)
    }

    /// Which group a cell belongs to.
    pub(super) fn group_of(&self, cell: &Cell) -> usize {
        self.series.map_or(0, |at| cell.coords[at])
    }

    /// Where a dirty rate equals the bandwidth, as `(bandwidth, dirty rate)`; empty if the axes are others.
    pub(super) fn line_rate(&self, bandwidth: f64) -> Option<f64> {
        let page = self.input.page_bytes.filter(|bytes| *bytes > 0)? as f64;
        let units = (self.axis(self.x).and_then(unit_of), self.axis(self.y).and_then(unit_of));
        (units == (Some(Unit::Bandwidth), Some(Unit::PageRate))).then_some(bandwidth / page)
    }

    /// The axes that the figures do not show, and at which values they hold them; empty if they show all.
    pub(super) fn held(&self) -> String {
        let held = self.fixed.iter().map(|(at, value)| (&self.input.axes[*at], *value));
        let held = held.filter(|(axis, _)| axis_len(axis) > 1);
        let held = held.map(|(axis, value)| format!("{} at {}", axis.label, value_text(axis, value)));
        held.collect::<Vec<_>>().join(", ")
    }

    /// The same as a sentence.
    pub(super) fn fixed_note(&self) -> Option<String> {
        let held = self.held();
        (!held.is_empty() && (self.x.is_some() || self.y.is_some()))
            .then(|| format!("The figures hold {held}; the numbers of the whole sweep are in the tables."))
    }
}

/// Whether at least half of a cell's runs converged.
pub(super) fn converges(cell: &Cell) -> bool {
    Metric::Converged.of(cell).is_some_and(|share| share >= HALF)
}

/// The median; the mean of the middle two if there are two.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter_map(usable).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
