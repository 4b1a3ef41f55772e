//! `whimbrel explain`: why a run went as it did, and what other policies would have made of it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use whimbrel_core::units::duration;
use whimbrel_lab::chart::Canvas;
use whimbrel_lab::compare::Contender;
use whimbrel_lab::explain::costs::costs_in;
use whimbrel_lab::explain::run::{CameTo, Noted};
use whimbrel_lab::explain::{ExplainError, Explanation, contenders, explain, preset};
use whimbrel_lab::output::{FinishedFile, WholeFile};
use whimbrel_lab::scenario::{Fidelity, PolicySpec, Scenario, Setup};
use whimbrel_lab::{sweep, table};

use super::args::{ExplainArgs, TextFormat};
use super::failure::Failure;
use super::simulate::Instead;
use super::{print, tell, width};

/// A run that is ready to be explained.
pub(super) struct Explaining {
    setup: Setup,
    inner: whimbrel_sim::Setup,
    at: Vec<Duration>,
    others: Vec<Contender>,
    came_to: Option<CameTo>,
    format: TextFormat,
    plot: Option<WholeFile>,
}

/// The JSON of an explanation.
#[derive(Serialize)]
struct Told<'a> {
    /// The run, to be made anew.
    parameters: &'a PolicySpec,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

impl Explaining {
    /// Reads the run and the policies, and opens the plot's file.
    pub(super) fn ready(args: &ExplainArgs) -> Result<Self, Failure> {
        let at = args.at.iter().map(|text| moment(text)).collect::<Result<Vec<_>, _>>()?;
        let Noted { mut scenario, came_to, sweep, .. } = noted(args)?;
        let costs = sweep.as_deref().map_or_else(|| Ok(Vec::new()), costs_of)?;
        Instead::of(args.policy.as_deref(), args.seed)
            .change(&mut scenario, &[costs, args.overrides.clone()].concat())
            .map_err(Failure::bad_input)?;
        let setup = setup(args, &scenario)?;
        if setup.run.fidelity != Fidelity::Exact {
            tell("note: an explanation is made page by page, whatever fidelity the scenario names");
        }
        let others = match args.against.as_slice() {
            [] => contenders(&setup.policy),
            named => named.iter().map(|name| other(name, &setup.policy)).collect::<Result<_, _>>()?,
        };
        let inner = sweep::simulation(&setup, setup.run.seed).map_err(Failure::bad_input)?;
        let plot = super::drawing(args.plot.as_deref()).map_err(Failure::failed)?;
        // What was changed is another run, and what was made in the mean is none that happened.
        let changed = !args.overrides.is_empty()
            || args.policy.is_some()
            || args.seed.is_some()
            || setup.run.fidelity != Fidelity::Exact;
        let came_to = came_to.filter(|_| !changed);
        Ok(Self { setup, inner, at, others, came_to, format: args.format, plot })
    }

    /// Explains it.
    pub(super) fn run(self) -> Result<(), Failure> {
        let explanation = explain(&self.inner, &self.at, &self.others).map_err(|error| match error {
            ExplainError::AfterTheEnd { .. } => Failure::bad_input(error),
            error => Failure::failed(error),
        })?;
        if let Some(differs) = self.came_to.and_then(|noted| noted.differs(&explanation.run)) {
            tell(&format!(
                "note: this is not what was noted of the run ({differs}): another version of whimbrel made it, or it was changed"
            ));
        }
        if let Some(mut file) = self.plot {
            let drawing = explanation.drawing(title(&self.setup)).render(Canvas::Standalone);
            let written = file.write(&drawing).and_then(|()| file.finish()).and_then(FinishedFile::publish);
            written.map_err(Failure::failed)?;
        }
        print(&match self.format {
            TextFormat::Table => table::explanation(&self.setup, &explanation, width()),
            TextFormat::Json => {
                let told = Told { parameters: &self.setup.policy, explanation: &explanation };
                serde_json::to_string_pretty(&told).map_err(Failure::failed)? + "\n"
            }
        })
    }
}

/// What the chart is called.
fn title(setup: &Setup) -> String {
    let (memory, link) = (setup.guest.memory.human(), setup.link.bandwidth.human());
    format!("Why it went so: {memory} over {link}, policy {}, seed {}", setup.policy.label(), setup.run.seed)
}

/// What was noted of the run.
fn noted(args: &ExplainArgs) -> Result<Noted, Failure> {
    let mut noted = match &args.run {
        Some(path) => Noted::load(path).map_err(Failure::bad_input)?,
        None => Noted::from(Scenario::builtin("default").map_err(Failure::bad_input)?),
    };
    let real = noted.sweep.as_ref().is_some_and(|folder| folder.join(HOST).is_file());
    let what = if real { "a bench" } else { "a sweep" };
    if let Some(folder) = noted.sweep.as_ref().filter(|folder| sweep::is_unfinished(folder)) {
        let folder = folder.display();
        tell(&format!(
            "note: {folder} also holds results that are not finished; this is of those before them"
        ));
    }
    if noted.sweep.is_some() && args.cell.is_none() {
        return Err(wrong(format!("{what} has many runs: --cell says which, as its tables number them")));
    }
    // Of real moves the rows say what was measured, and no simulation gives that again.
    if let Some(cell) = args.cell.filter(|_| !real) {
        noted.came_to = noted.row(cell, args.repetition.unwrap_or(0));
    }
    Ok(noted)
}

/// What a bench has measured of its machine.
const HOST: &str = "host.toml";

/// What moving cost where a bench was made whose results these are, as changes of a scenario; none of a sweep.
fn costs_of(results: &Path) -> Result<Vec<String>, Failure> {
    let file = results.join(HOST);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let context = format!("cannot read {}", file.display());
            return Err(Failure::BadInput(anyhow::Error::new(error).context(context)));
        }
    };
    let mut costs = costs_in(&text).map_err(|error| {
        Failure::BadInput(anyhow::Error::new(error).context(format!("cannot read {}", file.display())))
    })?;
    let of_one = costs.len() == 1;
    let results = results.display();
    tell(&format!(
        "note: {results} holds real moves: what is explained is a simulation of the cell with the costs in {}, much like its forecast; \
         of a move itself there is a journal, if the bench kept it",
        if of_one {
            "host.toml"
        } else {
            "its scenario, because host.toml holds those of several kinds of move"
        }
    ));
    Ok(costs.pop().filter(|_| of_one).unwrap_or_default())
}

/// The run's setup, with its own seed: the scenario's, or that of a cell.
fn setup(args: &ExplainArgs, scenario: &Scenario) -> Result<Setup, Failure> {
    let Some(cell) = args.cell else {
        if !scenario.axes().is_empty() {
            tell("note: the scenario's [sweep] is left out; --cell says which of its cells to explain");
        }
        return Ok(scenario.setup().clone());
    };
    let grid = scenario.grid().map_err(Failure::bad_input)?;
    let repetition = args.repetition.unwrap_or(0);
    if cell >= grid.cells() {
        return Err(wrong(format!("--cell {cell}: there are {} cells, counted from 0", grid.cells())));
    }
    if repetition >= grid.repeat() {
        let repeat = grid.repeat();
        return Err(wrong(format!("--repetition {repetition}: each cell has {repeat}, counted from 0")));
    }
    let mut setup = grid.cell(cell).map_err(Failure::bad_input)?.setup;
    setup.run.seed = setup.run.seed_of(repetition);
    Ok(setup)
}

/// A policy to try: a preset, one with parameters, or that of a file.
fn other(name: &str, own: &PolicySpec) -> Result<Contender, Failure> {
    preset(name, &own.parameters).map_or_else(|| Contender::parse(name).map_err(Failure::bad_input), Ok)
}

/// A moment of the run, as it was typed.
fn moment(text: &str) -> Result<Duration, Failure> {
    duration::parse(text).map_err(|error| wrong(format!("--at {text}: {error}")))
}

fn wrong(message: String) -> Failure {
    Failure::BadInput(anyhow::Error::msg(message))
}
