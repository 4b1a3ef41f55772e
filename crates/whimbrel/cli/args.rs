//! The arguments as they are typed. Nothing is read or opened here.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod bench;
mod compare;
mod explain;
mod forecast;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod guest;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod live;
mod pages;
mod trace;
mod tune;
mod values;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) use self::bench::{BenchArgs, Over};
pub(super) use self::compare::{CompareArgs, SeedsOf};
pub(super) use self::explain::ExplainArgs;
pub(super) use self::forecast::ForecastArgs;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) use self::guest::*;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) use self::live::*;
pub(super) use self::pages::{CompletionsArgs, ManArgs};
pub(super) use self::trace::*;
pub(super) use self::tune::TuneArgs;
pub(super) use self::values::command;
use self::values::{any, drawing, whole};

/// Live migration of virtual machines, simulated and real: try a convergence policy on millions of migrations
/// before it touches a guest.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  whimbrel simulate                          one migration, round by round
  whimbrel explain                           why it went so, and what other policies would have made of it
  whimbrel sweep                             the main job: a grid of migrations, and a report of it
  whimbrel compare --policy xen-5 --policy mine.toml   policies on twelve workloads, and who wins
  whimbrel forecast scenario.toml            before it starts: time, downtime, bytes, and what would do
  whimbrel guest run --for 3s                a real guest and its dirty log, beside its simulation
  whimbrel receive --listen unix:w.sock      a real guest is moved: this terminal takes it,
  whimbrel send --to unix:w.sock --token …   and another runs and sends it
  whimbrel bench matrix.toml                 policies on real guests, each move beside its forecast
  whimbrel policies qemu-default             what a preset does, and where that is known from

Exit codes:
  0    done; a migration that does not converge is a result too
  1    it could not be done: a file that cannot be written, the disk, an internal error
  2    the command line is wrong, or a scenario or another file that it names is wrong or missing
  3    only `send` and `receive`: nobody here knows who has the guest, or a second Ctrl-C ended it at once
  4    only those: all is done, and could not be told
  130  ended by Ctrl-C; finished rows of a sweep were kept, to be resumed (143: by SIGTERM)";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Simulate(SimulateArgs),
    Explain(ExplainArgs),
    Sweep(SweepArgs),
    Compare(CompareArgs),
    Forecast(ForecastArgs),
    Tune(TuneArgs),
    Policies(PoliciesArgs),
    Validate(ValidateArgs),
    Trace(TraceArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Guest(GuestArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Bench(BenchArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Receive(ReceiveArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Send(SendArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Adjust(AdjustArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Resolve(ResolveArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Replay(ReplayArgs),
    #[cfg(all(target_os = "linux", target_pointer_width = "64", feature = "tls"))]
    Keygen(KeygenArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// What both ways to run a scenario have in common.
#[derive(Debug, ClapArgs)]
pub(super) struct ScenarioArgs {
    /// Scenario file (TOML), or the name of a built-in workload such as database; without one a built-in scenario
    /// is run.
    pub(super) scenario: Option<PathBuf>,
    /// Changes a key of the scenario, such as link.bandwidth=10Gbit/s or policy.preset=xen-5; may be
    /// given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) overrides: Vec<String>,
    /// Page by page, or in expected numbers of pages at a million migrations in seconds: short for
    /// --set run.fidelity=LEVEL.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(super) fidelity: Option<FidelityArg>,
}

/// How finely guests are simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FidelityArg {
    /// Every page
    Exact,
    /// Expected numbers of pages: the mean of exact runs
    Fluid,
}

impl FidelityArg {
    /// The override that it is short for.
    pub(super) const fn as_override(self) -> &'static str {
        match self {
            Self::Exact => "run.fidelity=exact",
            Self::Fluid => "run.fidelity=fluid",
        }
    }
}

/// Simulate one migration: rounds with each decision and its reason, the downtime, the totals.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel simulate
  whimbrel simulate --set policy.preset=xen-5 --set guest.writers.0.rate=50000
  whimbrel simulate --policy nova:downtime-delay=30s
  whimbrel simulate database --policy mine.toml
  whimbrel simulate scenario.toml --policy-from migration-policy.yaml
  whimbrel simulate scenario.toml --seed 7 --format json
  whimbrel simulate --plot migration.svg

A scenario with a [sweep] is run without it. --policy-from reads what `whimbrel policies --import` reads; what
it does not take over is said on standard error.")]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    pub(super) scenario: ScenarioArgs,
    /// Another policy than the scenario's: a preset, a preset with parameters (NAME:PARAMETER=VALUE,…), or a file with
    /// a table [policy], which replaces the scenario's with its parameters.
    #[arg(long, value_name = "NAME|FILE.toml", conflicts_with = "policy_from")]
    pub(super) policy: Option<String>,
    /// The policy that real settings make, in place of the scenario's and its parameters; given twice, the
    /// files are read together.
    #[arg(long, value_name = "FILE")]
    pub(super) policy_from: Vec<PathBuf>,
    /// Whose settings they are; without it, whatever they look like.
    #[arg(long, value_enum, value_name = "KIND", requires = "policy_from")]
    pub(super) from: Option<SettingsOf>,
    /// Seed of every random choice, in place of the scenario's; the same seed gives the same bytes out.
    #[arg(long, value_name = "N", value_parser = any::<u64>())]
    pub(super) seed: Option<u64>,
    /// A table to read, one JSON object, or the rounds as CSV.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: SimulateFormat,
    /// Also draws the migration over time.
    #[arg(long, value_name = "FILE.svg", value_parser = drawing)]
    pub(super) plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum SimulateFormat {
    /// Text with columns
    #[default]
    Table,
    /// One JSON object
    Json,
    /// One line a round
    Csv,
}

/// Run every cell of a scenario's grid on all cores; write tables and a report.
///
/// Writes into the output directory, each file whole or not at all: report.html (one file, opens without
/// a network), cells (one row a cell: medians and percentiles), migrations (one row a migration) and
/// scenario.toml (every default written out, to run it again). The rows are the same on any number of
/// threads. What cuts a sweep leaves its finished rows in the folder `unfinished`, and --resume goes on there.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel sweep
  whimbrel sweep scenario.toml --out results --jobs 4
  whimbrel sweep --fidelity fluid
  whimbrel sweep scenario.toml --out results --resume
  whimbrel sweep --set run.repeat=20 --set policy.downtime-limit=100ms --format csv")]
pub(super) struct SweepArgs {
    #[command(flatten)]
    pub(super) scenario: ScenarioArgs,
    /// Directory of the results; made if it does not exist. Results of an earlier sweep are replaced.
    #[arg(long, default_value = "whimbrel-sweep", value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Number of threads; without it, one a core.
    #[arg(long, value_name = "N", value_parser = whole::<u16>(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// JSON Lines or CSV.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: SweepFormat,
    /// Also writes a table with one row a round; it can be large.
    #[arg(long)]
    pub(super) rounds: bool,
    /// Percentiles by cell and by policy in place of a row a migration, for very many migrations.
    #[arg(long, conflicts_with = "rounds")]
    pub(super) summary: bool,
    /// Goes on with the sweep that was cut in the directory: by Ctrl-C, a crash, or the power.
    #[arg(long, conflicts_with = "force")]
    pub(super) resume: bool,
    /// Overwrites files of these names even if no sweep wrote them, and gives up a sweep that was cut.
    #[arg(long)]
    pub(super) force: bool,
    /// Also draws the downtime over two axes with numbers, a map for each policy, to this file.
    #[arg(long, value_name = "FILE.svg", value_parser = drawing)]
    pub(super) plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum SweepFormat {
    /// One JSON object a line
    #[default]
    Jsonl,
    /// Comma-separated values
    Csv,
    /// Parquet, compressed with zstd
    #[cfg(feature = "parquet")]
    Parquet,
}

/// List the policy presets, or tell all about one: parameters, defaults, sources, what is approximate.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel policies
  whimbrel policies xen-5
  whimbrel policies --format json
  whimbrel policies --import /etc/nova/nova.conf
  kubectl get kubevirt -A -o yaml > kubevirt.yaml; whimbrel policies --import kubevirt.yaml policy.yaml
  whimbrel policies --import parameters.json capabilities.json > scenario.toml

--import prints the preset and its parameters as the table [policy] of a scenario, with notes on what was not
taken over. Read are KubeVirt and MigrationPolicy resources (YAML or JSON), nova.conf (its section [libvirt]),
and QEMU's replies to query-migrate-parameters and query-migrate-capabilities (JSON).")]
pub(super) struct PoliciesArgs {
    /// One preset, such as qemu-default.
    pub(super) name: Option<String>,
    /// Says which preset real settings are, and with which parameters.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["name", "format"])]
    pub(super) import: Vec<PathBuf>,
    /// Whose settings they are; without it, whatever they look like.
    #[arg(long, value_enum, value_name = "KIND", requires = "import")]
    pub(super) from: Option<SettingsOf>,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: TextFormat,
}

/// Whose settings are imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SettingsOf {
    #[value(help = "KubeVirt, MigrationPolicy or HyperConverged resources (YAML or JSON)")]
    Kubevirt,
    #[value(help = "nova.conf")]
    Nova,
    #[value(help = "Replies to query-migrate-parameters and query-migrate-capabilities (JSON)")]
    Qemu,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum TextFormat {
    /// Text to read
    #[default]
    Table,
    /// JSON
    Json,
}

/// Predict measured migrations from their configuration alone; print measured beside predicted.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel validate reference/qemu/precopy.jsonl
  whimbrel validate reference/qemu/*.jsonl --format json")]
pub(super) struct ValidateArgs {
    /// Measured migrations (JSON Lines), as `reference/` describes them.
    #[arg(required = true, value_name = "FILE.jsonl")]
    pub(super) files: Vec<PathBuf>,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: TextFormat,
    /// Simulated runs of each configuration that runs a real program: its outcome is a distribution.
    #[arg(long, default_value_t = whimbrel_lab::validate::programs::SAMPLES, value_name = "N", value_parser = whole::<u32>(1..=1_000_000))]
    pub(super) repeat: u32,
    /// Profile of the host that they were measured on: a built-in one, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) host: Option<String>,
}
