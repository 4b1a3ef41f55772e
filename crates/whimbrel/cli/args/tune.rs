//! Arguments of `whimbrel tune`.

use std::path::PathBuf;

use super::values::{any, whole};
use clap::Args as ClapArgs;
use whimbrel_lab::outcome::Objective;
use whimbrel_lab::tune::Choice;

/// Search a policy's parameters for values that make several things small at once; end in a Pareto front.
///
/// Every candidate migrates every workload with the same seeds; NSGA-II proposes the candidates. What is left is judged
/// with other seeds and on workloads held out. Writes into the output directory, each file whole or not at all:
/// tune.json (the front, and all that it follows from), tune.svg, policy.toml (the point that was chosen) and
/// state.json (after every generation; --resume goes on from it). The result is the same on any number of threads and
/// after any interruption.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel tune kubevirt-stall
  whimbrel tune qemu-default --over database --over web --minimise downtime,total-time
  whimbrel tune kubevirt-stall --range max-downtime=300ms..900ms --fix poll-interval --choose better
  whimbrel tune kubevirt-stall --generations 100 --resume
  whimbrel compare --policy kubevirt-stall --policy whimbrel-tune/policy.toml

Searched are times, sizes, counts, shares and factors, each around its default (`whimbrel policies NAME` lists them).
Permissions and other words are searched where --range names their values: --range allow-post-copy=off,on.")]
pub(in crate::cli) struct TuneArgs {
    /// The preset, such as kubevirt-stall; to start from other values than its defaults, those too
    /// (kubevirt-stall:max-downtime=2s) or a file with a table [policy], as an earlier search writes.
    pub(in crate::cli) policy: String,
    /// What it is searched on: a scenario file, a built-in workload or a set of them; may be given many times.
    #[arg(long, value_name = "SCENARIO", default_value = "design")]
    pub(in crate::cli) over: Vec<PathBuf>,
    /// What the result is judged on besides; the same names.
    #[arg(long, value_name = "SCENARIO", default_value = "held-out")]
    pub(in crate::cli) hold_out: Vec<PathBuf>,
    /// Judges the result on nothing that was held out.
    #[arg(long, conflicts_with = "hold_out")]
    pub(in crate::cli) no_hold_out: bool,
    /// What is to be small: downtime, total-time, bytes, disruption, failures.
    #[arg(
        long,
        visible_alias = "minimize",
        value_name = "OBJECTIVE,…",
        value_delimiter = ',',
        default_value = "downtime,total-time,failures"
    )]
    pub(in crate::cli) minimise: Vec<Objective>,
    /// Searches a parameter through another range: NAME=FROM..TO, or NAME=WORD,WORD; may be given many times.
    #[arg(long, value_name = "NAME=RANGE")]
    pub(in crate::cli) range: Vec<String>,
    /// Leaves a parameter at a value, or with NAME alone at its default; may be given many times.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(in crate::cli) fix: Vec<String>,
    /// Candidates of a generation.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = whole::<u32>(4..=10_000))]
    pub(in crate::cli) population: u32,
    /// Generations; a search that is resumed may go on to more.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = whole::<u32>(1..=1_000_000))]
    pub(in crate::cli) generations: u32,
    /// Runs of each workload for a candidate.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<u32>(1..=100_000))]
    pub(in crate::cli) repeat: u32,
    /// Runs of each workload when the result is judged.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = whole::<u32>(1..=100_000))]
    pub(in crate::cli) check: u32,
    /// Seed of the search and of its runs.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = any::<u64>())]
    pub(in crate::cli) seed: u64,
    /// How finely the search simulates, in place of what the scenarios say; what it finds is judged as they say.
    #[arg(long, value_enum, value_name = "FIDELITY")]
    pub(in crate::cli) fidelity: Option<super::FidelityArg>,
    /// Number of threads; without it, one a core.
    #[arg(long, value_name = "N", value_parser = whole::<u16>(1..=1024))]
    pub(in crate::cli) jobs: Option<u16>,
    /// Which point becomes policy.toml: knee, better (the best of those no worse than the start in anything), a point's
    /// number, or min:OBJECTIVE.
    #[arg(long, value_name = "POINT", default_value = "knee")]
    pub(in crate::cli) choose: Choice,
    /// Name of the policy that is written; without it, the preset's and `-tuned`.
    #[arg(long, value_name = "NAME", value_parser = whimbrel_lab::scenario::check_name)]
    pub(in crate::cli) name: Option<String>,
    /// Directory of the results; made if it does not exist.
    #[arg(long, default_value = "whimbrel-tune", value_name = "DIR")]
    pub(in crate::cli) out: PathBuf,
    /// Goes on from the state in the output directory.
    #[arg(long, conflicts_with = "force")]
    pub(in crate::cli) resume: bool,
    /// Begins anew, over the state and the results that are there.
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Text to read, or JSON, on standard output.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(in crate::cli) format: super::TextFormat,
}
