//! The arguments of `whimbrel forecast`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use whimbrel_lab::forecast::Spread;

use super::TextFormat;
use super::values::{any, time, whole};

/// Forecast a migration before it starts: time, downtime and bytes under every policy, and what would have to change.
///
/// Simulates the scenario many times with inputs drawn from what is said of their uncertainty. The verdict says which
/// policies keep the downtime in 19 of 20 runs; if none does, the bandwidth or the throttle that would do, found by
/// running the simulator.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel forecast scenario.toml
  whimbrel forecast database --downtime 100ms --deadline 5min
  whimbrel forecast web --policy qemu-default --policy mine.toml --dirty-rate 0.5..2 --bandwidth 20%

A scenario's own [policy] and [sweep] are left aside.")]
pub(in crate::cli) struct ForecastArgs {
    /// Scenario file (TOML), or the name of a built-in workload; without one a built-in scenario is forecast.
    #[arg(value_name = "SCENARIO")]
    pub(in crate::cli) scenario: Option<PathBuf>,
    /// A policy: a preset, a preset with parameters (NAME:PARAMETER=VALUE,…), or a file with a table [policy]; without
    /// any, all presets.
    #[arg(long = "policy", value_name = "NAME|FILE.toml")]
    pub(in crate::cli) policies: Vec<String>,
    /// The downtime that is not to be exceeded.
    #[arg(long, default_value = "300ms", value_name = "TIME", value_parser = time)]
    pub(in crate::cli) downtime: Duration,
    /// The total time that is not to be exceeded; without it, the scenario's time limit.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) deadline: Option<Duration>,
    /// How uncertain dirty rates are: a relative standard deviation, or a range of factors such as 0.5..2.
    #[arg(long, default_value = "20%", value_name = "SPREAD")]
    pub(in crate::cli) dirty_rate: Spread,
    /// How uncertain the bandwidth is.
    #[arg(long, default_value = "5%", value_name = "SPREAD")]
    pub(in crate::cli) bandwidth: Spread,
    /// How uncertain working sets are.
    #[arg(long, default_value = "10%", value_name = "SPREAD")]
    pub(in crate::cli) working_set: Spread,
    /// Runs of each policy.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = whole::<u32>(20..=1_000_000))]
    pub(in crate::cli) samples: u32,
    /// From which inputs and seeds are drawn.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = any::<u64>())]
    pub(in crate::cli) seed: u64,
    /// Changes a key of the scenario, such as link.bandwidth=10Gbit/s; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(in crate::cli) overrides: Vec<String>,
    /// How finely the guest is simulated: short for --set run.fidelity=….
    #[arg(long, value_name = "exact|fluid")]
    pub(in crate::cli) fidelity: Option<String>,
    /// Number of threads; without it, one a core.
    #[arg(long, value_name = "N", value_parser = whole::<u16>(1..=1024))]
    pub(in crate::cli) jobs: Option<u16>,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(in crate::cli) format: TextFormat,
}
