//! The arguments of `whimbrel compare`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::TextFormat;
use super::values::{any, drawing, whole};

/// Compare policies: all of them on the same workloads and seeds, and what may be concluded from it.
///
/// Prints medians with bootstrap intervals, failures, who is significantly better than whom, and which policies are worth
/// choosing. With --out it also writes compare.html (one file, opens without a network), summary.json and runs.jsonl
/// (one row a run), each whole or not at all. The same command gives the same numbers on any number of threads. Ctrl-C
/// keeps the repetitions that are whole.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel compare
  whimbrel compare database bursty --policy qemu-default --policy xen-5 --repeat 50 --out comparison
  whimbrel compare held-out --policy mine.toml --policy qemu-default:downtime-limit=100ms
  whimbrel compare scenario.toml --set link.bandwidth=10Gbit/s --format json

A scenario's own [policy] and [sweep] are left aside. What is significant is so at 5 % for all tests together.")]
pub(in crate::cli) struct CompareArgs {
    /// Scenario files, built-in workloads, or sets of them: comparison, held-out, design; without any, the set
    /// comparison.
    #[arg(value_name = "SCENARIO")]
    pub(in crate::cli) scenarios: Vec<PathBuf>,
    /// A policy that takes part: a preset, a preset with parameters (NAME:PARAMETER=VALUE,…), or a file with a table
    /// [policy], whose `name` it has here; without any, all presets.
    #[arg(long = "policy", value_name = "NAME|FILE.toml")]
    pub(in crate::cli) policies: Vec<String>,
    /// Runs of each policy on each workload.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = whole::<u32>(1..=1_000_000))]
    pub(in crate::cli) repeat: u32,
    /// From which the seeds of the runs are counted.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = any::<u64>())]
    pub(in crate::cli) seed: u64,
    /// Whether the policies run on the same seeds.
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    pub(in crate::cli) seeds: SeedsOf,
    /// Changes a key of every scenario, such as link.bandwidth=10Gbit/s; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(in crate::cli) overrides: Vec<String>,
    /// How finely guests are simulated: short for --set run.fidelity=….
    #[arg(long, value_name = "exact|fluid")]
    pub(in crate::cli) fidelity: Option<String>,
    /// Directory of the results; made if it does not exist. Results of an earlier comparison are replaced.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Overwrites files of these names even if no comparison wrote them.
    #[arg(long, requires = "out")]
    pub(in crate::cli) force: bool,
    /// Also draws median total time against median downtime, a mark for each policy, to this file.
    #[arg(long, value_name = "FILE.svg", value_parser = drawing)]
    pub(in crate::cli) plot: Option<PathBuf>,
    /// Number of threads; without it, one a core.
    #[arg(long, value_name = "N", value_parser = whole::<u16>(1..=1024))]
    pub(in crate::cli) jobs: Option<u16>,
    /// Text to read, or JSON: the summary.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(in crate::cli) format: TextFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SeedsOf {
    /// All on the same; tested in pairs
    #[default]
    Paired,
    /// Each on its own
    Independent,
}
