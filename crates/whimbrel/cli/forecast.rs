//! `whimbrel forecast`: what a migration will come to, before it starts.

use std::num::NonZeroUsize;

use whimbrel_lab::compare::{CompareError, Contender};
use whimbrel_lab::forecast::{Options, Uncertainty, run};
use whimbrel_lab::scenario::{Scenario, ScenarioError};
use whimbrel_lab::workloads;

use super::args::{ForecastArgs, TextFormat};
use super::compare::contenders;
use super::failure::{self, Failure};
use super::interrupt::Interrupt;
use super::print;
use super::progress::Bar;

/// A forecast that is ready to be made.
pub(super) struct Forecasting {
    /// What messages call the scenario.
    name: String,
    scenario: Scenario,
    contenders: Vec<Contender>,
    options: Options<'static>,
    interrupt: Interrupt,
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
        let scenario = read().map_err(Failure::bad_input)?;
        let name = match &args.scenario {
            Some(file) => file.display().to_string(),
            None => "the built-in scenario".to_owned(),
        };
        let contenders = contenders(&args.policies, &[(&name, scenario.setup())])?;
        // What is not covered is refused before the first of many runs.
        for contender in &contenders {
            contender.covered(&name, scenario.setup()).map_err(Failure::bad_input)?;
        }
        Ok(Self {
            name,
            scenario,
            contenders,
            options: Options {
                samples: args.samples,
                seed: args.seed,
                uncertainty,
                downtime: args.downtime,
                deadline: args.deadline,
                jobs: args.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into())),
                ..Options::default()
            },
            interrupt: Interrupt::listen().map_err(Failure::failed)?,
            format: args.format,
        })
    }

    /// Makes the runs and prints what they say.
    pub(super) fn run(self) -> Result<(), Failure> {
        let bar = Bar::new();
        let begins = |what: &str, runs: u64| bar.begin(what, runs);
        let after_run = || bar.advance();
        let options = Options {
            stop: Some(&self.interrupt.stop),
            begins: Some(&begins),
            after_run: Some(&after_run),
            ..self.options
        };
        let forecast = run(self.scenario.setup(), &self.contenders, &options);
        bar.clear();
        let forecast = forecast.map_err(|error| match error {
            CompareError::Stopped => Failure::Interrupted {
                code: self.interrupt.exit_code().unwrap_or(failure::FAILED),
                message: "there is no forecast yet; nothing was written".to_owned(),
            },
            CompareError::Run { policy, seed, source, .. } => {
                Failure::bad_input(CompareError::Run { policy, workload: self.name.clone(), seed, source })
            }
            error => Failure::failed(error),
        })?;
        print(&match self.format {
            TextFormat::Table => forecast.to_string(),
            TextFormat::Json => forecast.json(),
        })
    }
}
