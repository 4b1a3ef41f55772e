//! Sweeps: the axes of a scenario and the grid of cells that they span.
//!
//! A cell is made when it is asked for, so a grid costs no memory; every cell was checked before the
//! first is run.

use std::sync::Arc;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use whimbrel_core::policy::presets::nearest_name;

use super::document::{Document, Entry, RANGE, Table, Value};
use super::error::{Place, ScenarioError, excerpt};
use super::keys::{Slot, hint, is_position, slot};
use super::kind::{AxisUnit, Kind};
use super::named::named;
use super::policy::{PolicySpec, check_parameter, parameter_kind, preset};
use super::resolve::resolve;
use super::{Scenario, Setup};

/// The most runs that a sweep may make: years of them.
pub const MAX_RUNS: u64 = 1_000_000_000_000;
/// So many cells are all checked before the first is run; it takes longer than simulating them in fluid fidelity.
const CHECKED: u64 = 1 << 14;

/// A swept key and its values.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Axis {
    /// The dotted key.
    pub key: Arc<str>,
    /// Its values, in the order given.
    pub values: Vec<AxisValue>,
    /// The unit of [`AxisValue::number`].
    pub unit: AxisUnit,
    /// Whether it is better drawn on a logarithmic scale: what a range says, and of a list whether its
    /// numbers span more than a decade.
    pub logarithmic: bool,
    at: Place,
}

/// One value of a swept key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AxisValue {
    /// As written in a scenario; an override with it gives the same run.
    pub text: String,
    /// The number, if it is one, in the axis' unit.
    pub number: Option<f64>,
    value: Value,
    /// The policy that it names.
    policy: Option<Arc<PolicySpec>>,
}

impl AxisValue {
    /// As it is called in tables: a policy may have a name.
    pub fn label(&self) -> &str {
        self.policy.as_ref().and_then(|policy| policy.name.as_deref()).unwrap_or(&self.text)
    }

    /// The preset that runs, of a policy that has parameters too.
    pub fn preset(&self) -> &str {
        self.policy.as_ref().map_or(&self.text, |policy| &policy.preset)
    }
}

/// All cells of a sweep.
#[derive(Clone, Debug)]
pub struct Grid {
    document: Document,
    presets: Vec<String>,
    axes: Vec<Axis>,
    cells: u64,
    repeat: u32,
}

/// One cell of a sweep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cell {
    /// Its number, counted from 0; the last axis runs fastest.
    pub index: u64,
    /// What is run, `run.repeat` times.
    pub setup: Setup,
    /// Where it lies on each axis, in their order.
    pub coordinates: Vec<Coordinate>,
}

/// Where a cell lies on one axis.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Coordinate {
    /// The axis' key.
    #[serde(serialize_with = "as_text")]
    pub key: Arc<str>,
    /// The value as written in a scenario.
    pub text: String,
    /// The number, if it is one, in the axis' unit.
    pub number: Option<f64>,
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Cell {
    /// The overrides that make the scenario this cell, each `KEY=VALUE`.
    pub fn overrides(&self) -> Vec<String> {
        self.coordinates.iter().map(|c| format!("{}={}", c.key, c.text)).collect()
    }
}

impl Grid {
    /// Checks every cell; of very many, those that have each value of each axis with the first and with the last
    /// values of all others. What cannot be among the rest is found when it is run.
    ///
    /// # Errors
    ///
    /// The first cell that cannot be, or that there are too many.
    pub(super) fn new(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let cells = scenario.axes.iter().fold(1_u64, |n, axis| n.saturating_mul(axis.values.len() as u64));
        let repeat = scenario.setup.run.repeat;
        let runs = cells.saturating_mul(repeat.into());
        if runs > MAX_RUNS {
            let at = Place::File(Arc::clone(&scenario.document.file));
            return Err(ScenarioError::TooManyRuns { at, runs, most: MAX_RUNS });
        }
        let grid = Self {
            document: scenario.document.clone(),
            presets: scenario.presets.clone(),
            axes: scenario.axes.clone(),
            cells,
            repeat,
        };
        let check = |index| grid.cell(index).err();
        let fault = if cells <= CHECKED {
            (0..cells).into_par_iter().map(check).find_first(Option::is_some)
        } else {
            grid.edges().into_par_iter().map(check).find_first(Option::is_some)
        };
        match fault.flatten() {
            Some(fault) => Err(fault),
            None => Ok(grid),
        }
    }

    /// The cells that have each value of each axis with the first and with the last values of all others.
    fn edges(&self) -> Vec<u64> {
        let (mut edges, mut step) = (Vec::new(), 1);
        for axis in self.axes.iter().rev() {
            let count = axis.values.len() as u64;
            let last = self.cells - 1 - (count - 1) * step;
            edges.extend((0..count).flat_map(|value| [value * step, last + value * step]));
            step *= count;
        }
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    /// What tells the traces that are played back from others of the same names, in the order of the names.
    ///
    /// # Errors
    ///
    /// None for a grid that was made.
    pub(crate) fn traces(&self) -> Result<Vec<String>, ScenarioError> {
        self.cell(0)?;
        Ok(self.document.files.fingerprints())
    }

    /// How many cells there are; one if nothing is swept.
    pub fn cells(&self) -> u64 {
        self.cells
    }

    /// Runs of each cell.
    pub fn repeat(&self) -> u32 {
        self.repeat
    }

    /// Runs in all.
    pub fn runs(&self) -> u64 {
        self.cells * u64::from(self.repeat)
    }

    /// The axes, in the order in which they were written.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The cell of this number, which is taken modulo the number of cells.
    ///
    /// # Errors
    ///
    /// None for a grid that was made, because making it checked every cell.
    pub fn cell(&self, index: u64) -> Result<Cell, ScenarioError> {
        let mut document = self.document.clone();
        let mut coordinates = Vec::with_capacity(self.axes.len());
        let mut rest = index;
        let mut parameters = Vec::new();
        for axis in self.axes.iter().rev() {
            let count = axis.values.len() as u64;
            let position = (rest % count) as usize;
            rest /= count;
            let AxisValue { text, number, value, policy } = axis.values[position].clone();
            let at = Place::Sweep(Box::new(axis.at.clone()), position + 1);
            match policy {
                Some(policy) => document.put_policy(&policy, &at)?,
                // Swept parameters go over those of a swept policy.
                None if axis.key.starts_with("policy.") => parameters.push((&axis.key, value, at)),
                None => document.put(&axis.key, value, &at)?,
            }
            coordinates.push(Coordinate { key: Arc::clone(&axis.key), text, number });
        }
        coordinates.reverse();
        for (key, value, at) in parameters {
            document.put(key, value, &at)?;
        }
        let setup = resolve(&document, &self.presets).map_err(|source| ScenarioError::Cell {
            index,
            values: coordinates
                .iter()
                .map(|c| format!("{}={}", c.key, c.text))
                .collect::<Vec<_>>()
                .join(", "),
            source: Box::new(source),
        })?;
        Ok(Cell { index, setup, coordinates })
    }
}

/// Reads the axes of a document, each value checked on its own, and the presets that run.
pub(super) fn axes(document: &Document) -> Result<(Vec<Axis>, Vec<String>), ScenarioError> {
    let mut presets = vec![preset(document)];
    if let Some(entry) = document.sweep.iter().find(|entry| entry.key == "policy.preset") {
        let axis = axis(document, entry, &[])?;
        presets = axis.values.iter().map(|value| value.preset().to_owned()).collect();
    }
    let mut axes = Vec::with_capacity(document.sweep.len());
    for entry in &document.sweep {
        let path: Vec<_> = entry.key.split('.').collect();
        if let (Some(Slot::Parameter), [_, name]) = (slot(&path), &path[..]) {
            let swept = Place::Sweep(Box::new(entry.at.clone()), 1);
            check_parameter(document, name, &swept, &presets)?;
        }
        axes.push(axis(document, entry, &presets)?);
    }
    Ok((axes, presets))
}

/// The kind of a swept key, which must exist; none if its values are words.
fn swept_kind(
    document: &Document,
    entry: &Entry,
    presets: &[String],
    refuse: &impl Fn(String) -> ScenarioError,
) -> Result<Option<Kind>, ScenarioError> {
    let path: Vec<_> = entry.key.split('.').collect();
    let kind = match slot(&path) {
        Some(Slot::Leaf(key)) if key.name == "run.repeat" => {
            let message = "the number of runs is the same in every cell: set run.repeat";
            return Err(refuse(message.to_owned()));
        }
        Some(Slot::Leaf(key)) => Some(key.kind),
        Some(Slot::Parameter) => path.last().and_then(|name| parameter_kind(name, presets)),
        Some(_) => {
            let message = "it is a table or a list; swept keys hold one value each";
            return Err(refuse(message.to_owned()));
        }
        None => {
            return Err(ScenarioError::UnknownKey {
                at: entry.at.clone(),
                key: excerpt(&format!("sweep.\"{}\"", entry.key), 100),
                hint: format!("a swept key is one of a scenario: {}", hint(&path)),
            });
        }
    };
    let position = path.iter().rposition(|segment| is_position(segment));
    let missing = position.map(|position| &path[..=position]);
    match missing.filter(|path| document.root.find(path).is_none()) {
        Some(path) => Err(refuse(format!("the scenario has no `{}`", path.join(".")))),
        None => Ok(kind),
    }
}

fn axis(document: &Document, entry: &Entry, presets: &[String]) -> Result<Axis, ScenarioError> {
    let refuse = |message: String| ScenarioError::Value {
        at: entry.node.at.clone(),
        key: excerpt(&format!("sweep.\"{}\"", entry.key), 120),
        message,
    };
    let kind = swept_kind(document, entry, presets, &refuse)?;
    let (values, kind, scale) = match &entry.node.value {
        Value::List(nodes) => {
            let values: Vec<_> = nodes.iter().map(|node| node.value.clone()).collect();
            (values, kind, None)
        }
        Value::Table(table) => {
            let (values, kind, scale) = Range::read(table, entry, kind)?.values(&refuse)?;
            (values, Some(kind), Some(scale))
        }
        other => {
            return Err(refuse(format!("{} is not accepted; write {ACCEPTED}", other.describe())));
        }
    };
    if values.is_empty() {
        return Err(refuse(format!("the list is empty: accepted is {ACCEPTED}")));
    }
    finish(entry, values, kind, scale)
}

const ACCEPTED: &str = "a list of values or a range { from = …, to = …, steps = …, scale = \"log\" }";

/// Checks each value.
fn finish(
    entry: &Entry,
    values: Vec<Value>,
    kind: Option<Kind>,
    scale: Option<Scale>,
) -> Result<Axis, ScenarioError> {
    let path: Vec<_> = entry.key.split('.').collect();
    // What a policy's parameter takes is for the preset to say, in each cell.
    let (known, optional) = match slot(&path) {
        Some(Slot::Leaf(key)) => (true, key.optional),
        _ => (false, false),
    };
    let mut checked = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let refuse = |message: String| ScenarioError::Value {
            at: Place::Sweep(Box::new(entry.at.clone()), index + 1),
            key: entry.key.clone(),
            message,
        };
        let none = optional && value == Value::Text("none".to_owned());
        if let Some(kind) = kind.filter(|_| known && !none) {
            kind.read(&value).map_err(refuse)?;
        }
        let Some(text) = value.as_plain() else {
            return Err(refuse(format!("{} is not accepted; write a text or a number", value.describe())));
        };
        let number = kind.and_then(|kind| kind.number(&value));
        let policy = match kind {
            Some(Kind::Preset) => {
                let place = Place::Sweep(Box::new(entry.at.clone()), index + 1);
                Some(Arc::new(named(&text).map_err(|error| error.at(place))?))
            }
            _ => None,
        };
        checked.push(AxisValue { text, number, value, policy });
    }
    let numbers: Option<Vec<f64>> = checked.iter().map(|value| value.number).collect();
    let least = numbers.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().flatten().copied().fold(0.0, f64::max);
    Ok(Axis {
        key: entry.key.as_str().into(),
        unit: numbers.and(kind).map_or(AxisUnit::None, Kind::unit),
        logarithmic: scale.map_or(least > 0.0 && most > 10.0 * least, |scale| scale == Scale::Log),
        values: checked,
        at: entry.at.clone(),
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Log,
}

/// A range as written.
struct Range {
    from: Value,
    to: Value,
    steps: u64,
    scale: Scale,
    kind: Kind,
}

impl Range {
    fn read(table: &Table, entry: &Entry, kind: Option<Kind>) -> Result<Self, ScenarioError> {
        let name = |key: &str| excerpt(&format!("sweep.\"{}\".{key}", entry.key), 120);
        if let Some(other) = table.entries.iter().find(|e| !RANGE.contains(&e.key.as_str())) {
            return Err(ScenarioError::UnknownKey {
                at: other.at.clone(),
                key: name(&other.key),
                hint: match nearest_name(&other.key, RANGE) {
                    Some(near) => format!("did you mean `{}`?", name(near)),
                    None => format!("a range has `{}`", RANGE.join("`, `")),
                },
            });
        }
        let get = |key: &str| {
            table.get(key).ok_or_else(|| ScenarioError::Missing { at: entry.at.clone(), key: name(key) })
        };
        let refuse = |key: &str, message: String| ScenarioError::Value {
            at: table.get(key).map_or_else(|| entry.at.clone(), |node| node.at.clone()),
            key: name(key),
            message,
        };
        let (from, to) = (get("from")?.value.clone(), get("to")?.value.clone());
        let steps = Kind::Count(2, 100_000).read(&get("steps")?.value).map_err(|m| refuse("steps", m))?;
        let scale = match table.get("scale").map(|node| &node.value) {
            None => Scale::Linear,
            Some(Value::Text(text)) if text == "linear" => Scale::Linear,
            Some(Value::Text(text)) if text == "log" => Scale::Log,
            Some(other) => {
                let message = format!("{} is not accepted; write `log`, `linear`", other.describe());
                return Err(refuse("scale", message));
            }
        };
        let listed = || "its values are not numbers: list them".to_owned();
        let kind = kind.ok_or_else(|| refuse("from", listed()))?;
        for (key, value) in [("from", &from), ("to", &to)] {
            kind.read(value).map_err(|message| refuse(key, message))?;
            if kind.number(value).is_none() || kind == Kind::PageSize {
                return Err(refuse(key, listed()));
            }
        }
        Ok(Self { from, to, steps: steps.as_u64().unwrap_or(2), scale, kind })
    }

    /// The values; both ends as written.
    fn values(
        self,
        refuse: &impl Fn(String) -> ScenarioError,
    ) -> Result<(Vec<Value>, Kind, Scale), ScenarioError> {
        let Self { from, to, steps, scale, kind } = self;
        let number = |value: &Value| kind.number(value).unwrap_or(0.0);
        let (first, last) = (number(&from), number(&to));
        if scale == Scale::Log && (first <= 0.0 || last <= 0.0) {
            return Err(refuse("a logarithmic range has no zero: accepted are ends above 0".to_owned()));
        }
        let mut values = Vec::with_capacity(steps as usize);
        values.push(from);
        for step in 1..steps - 1 {
            let share = step as f64 / (steps - 1) as f64;
            let number = match scale {
                Scale::Linear => first + (last - first) * share,
                Scale::Log => first * (last / first).powf(share),
            };
            let value = kind
                .of_number(number)
                .ok_or_else(|| refuse("its values are not numbers: list them".to_owned()))?;
            values.push(value);
        }
        values.push(to);
        if values.windows(2).any(|pair| number(&pair[0]).total_cmp(&number(&pair[1])).is_eq()) {
            return Err(refuse(format!("{steps} steps are too many: a value comes twice")));
        }
        Ok((values, kind, scale))
    }
}
