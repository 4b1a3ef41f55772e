//! The arguments of `whimbrel bench`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use whimbrel_guest::memory::Backing;

use super::values::whole;
use super::{GuestLog, SweepFormat};

/// Move real guests between two processes on this machine, every cell of a grid, and set each beside its forecast.
///
/// The grid is a scenario with a [sweep], as `whimbrel sweep` takes it: policies (policy.preset), streams (host.streams), encodings
/// (host.compression.method: none, lz4, zstd, adaptive; host.xbzrle.cache), dirty rates (guest.writers.N.rate), limits
/// (link.bandwidth). What moving costs here is measured first, on idle guests, and the simulator forecasts every run with that.
/// Writes the files of a sweep into the output directory, with the same names, and two more: fidelity (one row a run:
/// measured, forecast, what the guest saw) and host.toml (what moving costs here).
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel bench
  whimbrel bench matrix.toml --runs 5 --out results
  whimbrel bench matrix.toml --runs 5 --out results --resume
  whimbrel bench matrix.toml --out results --journals; whimbrel replay results/journals/3-0.journal
  whimbrel bench scenarios/fidelity/*.toml --out fidelity
  whimbrel bench matrix.toml --over tcp --set guest.memory=1GiB --format csv

The machine should have nothing else to do: two cores are busy with each move, and the guest's threads besides. Ctrl-C, a kill and
a full disk keep the finished moves: the same command with --resume goes on behind them.

Exit codes: 0 every move was made, and every guest was exact; 1 one was not, or a file cannot be written; 2 the command line or the
matrix is wrong; 130 stopped by Ctrl-C (143: by SIGTERM).")]
pub(crate) struct BenchArgs {
    /// Scenario files (TOML) with a [sweep], each of which is run by itself; without one a built-in matrix that takes less than a
    /// minute.
    #[arg(value_name = "MATRIX.toml")]
    pub(crate) matrices: Vec<PathBuf>,
    /// Changes a key of the matrix, such as guest.memory=1GiB; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Runs of each cell; without it, the matrix's run.repeat.
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=100_000))]
    pub(crate) runs: Option<u32>,
    /// What lies between the two processes.
    #[arg(id = "transport", long = "over", value_enum, default_value_t, value_name = "KIND")]
    pub(crate) over: Over,
    /// Who records the guest's writes.
    #[arg(long, value_enum, default_value_t, value_name = "LOG")]
    pub(crate) log: GuestLog,
    /// What its memory is made of: private, private-huge, shared or memfd.
    #[arg(long, default_value = "private", value_name = "KIND")]
    pub(crate) memory: Backing,
    /// Directory of the results; made if it does not exist. Results of an earlier bench are replaced. Of several matrices each has
    /// a directory in it, called as its file is.
    #[arg(long, default_value = "whimbrel-bench", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// JSON Lines or CSV.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: SweepFormat,
    /// Also writes a table with one row a round.
    #[arg(long)]
    pub(crate) rounds: bool,
    /// Also keeps the journal of each move, for `whimbrel replay`, and what was forecast of it, in the folder journals: CELL-REPETITION.journal
    /// and CELL-REPETITION.forecast.json, by the numbers in the tables.
    #[arg(long)]
    pub(crate) journals: bool,
    /// Goes on with the bench that was cut in the output directory; all else must be as it was. What moving costs here is not measured
    /// again. Of several matrices those that are complete are passed over.
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,
    /// Overwrites files of these names even if neither a sweep nor a bench wrote them, and gives up what was cut there.
    #[arg(long)]
    pub(crate) force: bool,
}

/// What lies between two processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Over {
    /// A Unix socket
    #[default]
    Unix,
    /// TCP over the loopback interface
    Tcp,
}
