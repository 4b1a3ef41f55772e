//! `whimbrel simulate`: one migration, told round by round.

use std::time::Duration;

use serde::Serialize;
use whimbrel_core::policy::presets;
use whimbrel_lab::chart::{Canvas, Timeline, TimelineRound};
use whimbrel_lab::import::Imported;
use whimbrel_lab::output::{FinishedFile, WholeFile};
use whimbrel_lab::result::MigrationRecord;
use whimbrel_lab::scenario::{PolicySpec, Scenario, ScenarioError, Setup};
use whimbrel_lab::{sweep, table, workloads};
use whimbrel_sim::SimError;

use super::args::{ScenarioArgs, SimulateArgs, SimulateFormat};
use super::failure::Failure;
use super::policies::imported;
use super::{print, tell, width};

/// What is run in place of the scenario's own.
#[derive(Default)]
pub(super) struct Instead {
    /// The policy that real settings make.
    imported: Option<Imported>,
    /// The policy by its name or file.
    policy: Option<String>,
    seed: Option<String>,
}

impl Instead {
    /// A policy, as it is named, and a seed.
    pub(super) fn of(policy: Option<&str>, seed: Option<u64>) -> Self {
        let seed = seed.map(|seed| format!("run.seed={seed}"));
        Self { imported: None, policy: policy.map(str::to_owned), seed }
    }

    /// Changes a scenario so, and by the overrides that were typed.
    pub(super) fn change(&self, scenario: &mut Scenario, overrides: &[String]) -> Result<(), ScenarioError> {
        if let Some(imported) = &self.imported {
            scenario.replace_policy(&imported.policy(), &imported.names())?;
        }
        let overrides: Vec<&String> = overrides.iter().chain(&self.seed).collect();
        match (&self.policy, overrides.is_empty()) {
            (None, true) => Ok(()),
            (policy, _) => scenario.change(policy.as_deref(), &overrides),
        }
    }
}

/// Reads the scenario that was asked for, or the built-in one of this name.
pub(super) fn scenario(args: &ScenarioArgs, builtin: &str, instead: &Instead) -> Result<Scenario, Failure> {
    let read = || -> Result<Scenario, ScenarioError> {
        let mut scenario = match &args.scenario {
            Some(file) => workloads::open(file)?,
            None => Scenario::builtin(builtin)?,
        };
        let fidelity = args.fidelity.map(|fidelity| fidelity.as_override().to_owned());
        let overrides: Vec<String> = fidelity.into_iter().chain(args.overrides.iter().cloned()).collect();
        instead.change(&mut scenario, &overrides)?;
        Ok(scenario)
    };
    read().map_err(Failure::bad_input)
}

/// A migration that is ready to be run.
pub(super) struct Simulation {
    scenario: String,
    setup: Setup,
    inner: whimbrel_sim::Setup,
    format: SimulateFormat,
    plot: Option<WholeFile>,
}

/// The JSON of a migration, simulated or real: the record, and by which policy it was.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    policy: &'a PolicySpec,
    /// What the preset leaves out of the product whose name it bears.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_approximate: Option<&'static str>,
    /// The scenario with every default, to make or explain the run again.
    scenario: &'a str,
    #[serde(flatten)]
    record: &'a MigrationRecord,
}

impl<'a> Told<'a> {
    pub(super) fn of(policy: &'a PolicySpec, scenario: &'a str, record: &'a MigrationRecord) -> Self {
        let policy_approximate = presets::find(&policy.preset).and_then(|preset| preset.approximate);
        Self { policy, policy_approximate, scenario, record }
    }
}

impl Simulation {
    /// Reads the scenario and opens the plot's file.
    pub(super) fn ready(args: &SimulateArgs) -> Result<Self, Failure> {
        let instead = instead(args)?;
        let scenario = scenario(&args.scenario, "default", &instead)?;
        for note in instead.imported.iter().flat_map(|policy| &policy.notes) {
            tell(&format!("note: {note}"));
        }
        if !scenario.axes().is_empty() {
            tell("note: the scenario's [sweep] is left out; `whimbrel sweep` runs it");
        }
        let setup = scenario.setup().clone();
        let mut inner = sweep::simulation(&setup, setup.run.seed).map_err(Failure::bad_input)?;
        inner.outlook = true;
        inner.look = Some(Duration::from_secs(2));
        let plot = super::drawing(args.plot.as_deref()).map_err(Failure::failed)?;
        Ok(Self { scenario: scenario.to_toml(), setup, inner, format: args.format, plot })
    }

    /// Runs and tells it.
    pub(super) fn run(self) -> Result<(), Failure> {
        let run = whimbrel_sim::simulate(&self.inner).map_err(not_simulated)?;
        let record = MigrationRecord::of(&run, self.inner.seed);
        if let Some(mut file) = self.plot {
            let drawing = timeline(&self.setup, &record).render(Canvas::Standalone);
            let written = file.write(&drawing).and_then(|()| file.finish()).and_then(FinishedFile::publish);
            written.map_err(Failure::failed)?;
        }
        print(&match self.format {
            SimulateFormat::Table => table::migration(&self.setup, &record, width()),
            SimulateFormat::Csv => table::csv::rounds(&record),
            SimulateFormat::Json => {
                let told = Told::of(&self.setup.policy, &self.scenario, &record);
                serde_json::to_string_pretty(&told).map_err(Failure::failed)? + "\n"
            }
        })
    }
}

/// A setup that cannot be, such as a policy that the fidelity does not cover, is the scenario's fault.
fn not_simulated(error: SimError) -> Failure {
    match error {
        SimError::Config(_) | SimError::Unsupported(_) | SimError::Change(_) => Failure::bad_input(error),
        error => Failure::failed(error),
    }
}

/// The policy and the seed of the command line.
fn instead(args: &SimulateArgs) -> Result<Instead, Failure> {
    let imported = match args.policy_from.as_slice() {
        [] => None,
        files => Some(imported(files, args.from)?),
    };
    Ok(Instead { imported, ..Instead::of(args.policy.as_deref(), args.seed) })
}

/// What the chart draws of a migration.
fn timeline(setup: &Setup, record: &MigrationRecord) -> Timeline {
    let parts = &record.downtime;
    let paused = record.round.iter().find(|round| round.paused || round.post_copy);
    let converged = if record.converged { "converged" } else { "not converged" };
    Timeline {
        title: format!(
            "{} over {}, policy {}",
            setup.guest.memory.human(),
            setup.link.bandwidth.human(),
            setup.policy.label()
        ),
        subtitle: format!(
            "{}, {converged}: total {}, downtime {}; {}",
            record.outcome,
            table::milliseconds(Some(record.total_ms)),
            table::milliseconds(Some(record.downtime_ms)),
            record.why
        ),
        rounds: record
            .round
            .iter()
            .map(|round| TimelineRound {
                round: round.round,
                paused: round.paused,
                started_ms: round.started_ms,
                length_ms: round.length_ms,
                dirtied_pages: round.dirtied_pages as f64,
                pending_pages: round.pending_pages as f64,
                sent_pages: round.sent_pages as f64,
                throttle: round.throttle,
                decision: round.decision.map(str::to_owned),
                reason: round.reason.clone(),
            })
            .collect(),
        total_ms: record.total_ms,
        // The last copy begins once the guest is paused and the dirty log is fetched.
        paused_at_ms: paused.map(|round| (round.started_ms - parts.pause_ms - parts.harvest_ms).max(0.0)),
        downtime_ms: record.downtime_ms,
        ledger: parts.parts().map(|(name, part)| (name.to_owned(), part)).to_vec(),
    }
}
