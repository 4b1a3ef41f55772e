//! `whimbrel forecast`: what a migration will come to, before it starts.

use std::num::NonZeroUsize;

use whimbrel_lab::compare::{CompareError, Contender};
use whimbrel_lab::forecast::{Options, Uncertainty, run};
use whimbrel_lab::scenario::{Scenario, ScenarioError};
use whimbrel_lab::workloads;

use super::args::{ForecastArgs, TextFormat};
use super::compare::contenders;
use super::failure::Failure;
use super::print;

/// A forecast that is ready to be made.
pub(super) struct Forecasting {
    scenario: Scenario,
    contenders: Vec<Contender>,
    options: Options,
    format: TextFormat,
}

impl Forecasting {
    /// Reads the scenario and the policies.
    pub(super) fn ready(args: &ForecastArgs) -> Result<Self, Failure> {
        let read = || -> Result<Scenario, ScenarioError> {
            let mut scenario = match &args.scenario {
                Some(file) => workloads::open(file)?,
                None => Scenario::builtin("default")?,
            };
            let fidelity = args.fidelity.iter().map(|fidelity| format!("run.fidelity={fidelity}"));
            let overrides: Vec<String> = args.overrides.iter().cloned().chain(fidelity).collect();
            if !overrides.is_empty() {
                scenario.apply_overrides(&overrides)?;
            }
            Ok(scenario)
        };
        let uncertainty = Uncertainty {
            dirty_rate: args.dirty_rate,
            bandwidth: args.bandwidth,
            working_set: args.working_set,
        };
        let options = Options {
            samples: args.samples,
            seed: args.seed,
            uncertainty,
            downtime: args.downtime,
            deadline: args.deadline,
            jobs: args.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into())),
        };
        Ok(Self {
            scenario: read().map_err(Failure::bad_input)?,
            contenders: contenders(&args.policies)?,
            options,
            format: args.format,
        })
    }

    /// Makes the runs and prints what they say.
    pub(super) fn run(self) -> Result<(), Failure> {
        let forecast =
            run(self.scenario.setup(), &self.contenders, &self.options).map_err(|error| match error {
                CompareError::SameName { .. } | CompareError::Run { .. } => Failure::bad_input(error),
                error => Failure::failed(error),
            })?;
        print(&match self.format {
            TextFormat::Table => forecast.to_string(),
            TextFormat::Json => forecast.json(),
        })
    }
}
