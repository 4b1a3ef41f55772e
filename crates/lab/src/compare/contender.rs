//! Who takes part: a policy and the name that it is compared under.

use std::collections::BTreeMap;

use whimbrel_core::policy::Policy;
use whimbrel_core::policy::presets::{self, PRESETS, PresetError};
use whimbrel_sim::PolicyChange;

use super::CompareError;
use crate::scenario::{PolicySpec, Setup, named};
use crate::sweep::{change, simulation};

/// A policy that takes part, under a name of its own.
#[derive(Clone, Debug)]
pub struct Contender {
    /// The name, unlike all others' in a comparison.
    pub name: String,
    /// The policy, at its beginning.
    pub policy: Box<dyn Policy>,
    /// What somebody changes while it runs.
    pub changes: Vec<PolicyChange>,
}

impl Contender {
    /// A policy of whatever kind.
    pub fn new(name: impl Into<String>, policy: Box<dyn Policy>) -> Self {
        Self { name: name.into(), policy, changes: Vec::new() }
    }

    /// Every preset with its defaults.
    ///
    /// # Errors
    ///
    /// None but by a fault of ours.
    pub fn presets() -> Result<Vec<Self>, PresetError> {
        let contender = |name: &str| Ok(Self::new(name, presets::build(name, &BTreeMap::new())?));
        PRESETS.iter().map(|preset| contender(preset.name)).collect()
    }

    /// A policy as it is named on the command line ([`named`]): a preset, a preset with parameters
    /// (`xen-5:max-iterations=10,min-dirty=100`), or a file with a table `[policy]`. It is compared under its name;
    /// without one, a file's under that of the file, any other under `text`.
    ///
    /// # Errors
    ///
    /// If there is no such preset, it does not take a parameter, or the file can't be read.
    pub fn parse(text: &str) -> Result<Self, CompareError> {
        let spec = named(text).map_err(Box::new)?;
        let name = spec.name.clone().unwrap_or_else(|| text.to_owned());
        Ok(Self::of(name, &spec)?)
    }

    /// Whether it can be simulated on this scenario at the fidelity that it names. Found at once, without a run.
    ///
    /// # Errors
    ///
    /// [`CompareError::Run`] with what is not covered.
    pub fn covered(&self, workload: &str, setup: &Setup) -> Result<(), CompareError> {
        let mut simulation = simulation(setup, setup.run.seed)?;
        simulation.policy = self.policy.clone();
        simulation.changes.clone_from(&self.changes);
        whimbrel_sim::covered(&simulation).map_err(|source| CompareError::Run {
            policy: self.name.clone(),
            workload: workload.to_owned(),
            seed: setup.run.seed,
            source: Box::new(source),
        })
    }

    fn of(name: String, spec: &PolicySpec) -> Result<Self, PresetError> {
        Ok(Self { name, policy: spec.build()?, changes: spec.changes.iter().map(change).collect() })
    }
}
