//! The arguments of `whimbrel explain`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::TextFormat;
use super::values::{any, drawing};

/// Explain a run: why each decision fell, by how much, and what other policies would have made of it.
///
/// The run is made anew from what was noted of it, its policy is asked again at each moment with less and with
/// more pending, and from the moments that teach most, or those given by --at, it is continued under every other
/// policy, with the same random numbers.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel explain
  whimbrel explain database
  whimbrel explain scenario.toml --seed 7 --at 41s
  whimbrel explain --policy nova --at 20s --at 40s --against xen-5 --against policy.toml
  whimbrel simulate --format json > run.json; whimbrel explain run.json --plot why.svg
  whimbrel sweep --out results; whimbrel explain results --cell 12 --repetition 3

Without --at the moments are: where the run stopped getting smaller, where it came nearest to the handover and
went on, and where its end was decided. A policy that takes over has watched the run so far; those of a file are
its table [policy]. Parameters of the run's policy, such as its downtime limit, hold for every preset that has
them.")]
pub(crate) struct ExplainArgs {
    /// Scenario file (TOML) or the name of a built-in workload, what `simulate --format json` printed, or a directory that `sweep` filled; without
    /// one a built-in scenario.
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<PathBuf>,
    /// Changes a key of the scenario, such as link.bandwidth=10Gbit/s; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Another policy than the run's own: a preset, a preset with parameters (NAME:PARAMETER=VALUE,…), or a file with a
    /// table [policy].
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub(crate) policy: Option<String>,
    /// Seed of every random choice, in place of the run's.
    #[arg(long, value_name = "N", value_parser = any::<u64>(), conflicts_with = "cell")]
    pub(crate) seed: Option<u64>,
    /// Cell of a sweep, counted from 0 as in its tables.
    #[arg(long, value_name = "N", value_parser = any::<u64>())]
    pub(crate) cell: Option<u64>,
    /// Repetition within the cell, counted from 0.
    #[arg(long, value_name = "N", value_parser = any::<u32>(), requires = "cell")]
    pub(crate) repetition: Option<u32>,
    /// A moment to look at, such as 41s, since the start of the migration; may be given many times.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) at: Vec<String>,
    /// Tries only this policy in place of the run's: a preset, a preset with parameters (NAME:PARAMETER=VALUE,…), or
    /// a file with a table [policy]; may be given many times.
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub(crate) against: Vec<String>,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
    /// Also draws what was pending over time, the decisions, and where the alternatives lead.
    #[arg(long, value_name = "FILE.svg", value_parser = drawing)]
    pub(crate) plot: Option<PathBuf>,
}
