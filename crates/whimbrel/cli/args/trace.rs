//! The arguments of `whimbrel trace`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use whimbrel_core::layout::PageSize;
use whimbrel_core::units::ByteCount;

use super::values::{any, time};
use super::{ScenarioArgs, TextFormat};

/// Record, import, measure and draw traces: which pages a guest dirtied when.
///
/// A trace is a table, CSV or JSON Lines, a row a run of pages dirtied in an interval of time. As a guest it is
/// played back by `pattern = "trace"` in a scenario.
#[derive(Debug, ClapArgs)]
pub(crate) struct TraceArgs {
    #[command(subcommand)]
    pub(crate) command: TraceCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    Record(RecordArgs),
    Stats(StatsArgs),
    Import(ImportArgs),
}

/// Record a scenario's guest, left alone but for tracking, by harvesting its dirty log again and again.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel trace record scenario.toml --out guest.csv
  whimbrel trace record scenario.toml --interval 10ms --length 2min --out guest.jsonl
  whimbrel trace record --set guest.writers.0.pattern=zipf | head")]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Time between two harvests.
    #[arg(long, default_value = "50ms", value_name = "TIME", value_parser = time)]
    pub(crate) interval: Duration,
    /// How long the guest is watched.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time)]
    pub(crate) length: Duration,
    /// Seed of every random choice, in place of the scenario's.
    #[arg(long, value_name = "N", value_parser = any::<u64>())]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

/// Where a trace goes.
#[derive(Debug, ClapArgs)]
pub(crate) struct OutArgs {
    /// The trace's file; without it, standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// JSON Lines or CSV; without it, what the file's name ends in, else CSV.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<TraceFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceFormat {
    /// Comma-separated values
    Csv,
    /// One JSON object a line
    Jsonl,
}

/// Measure traces: working-set curve, dirty rate, re-dirty distance, how often pages are dirtied.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel trace stats guest.csv
  whimbrel trace stats guest.csv --plot guest.svg
  whimbrel trace stats guest.csv reference/qemu/programs/curves.jsonl --plot plots/

Files of measured working-set curves, as reference/qemu/programs has them, are read too: two series a program,
of fine and of coarse ticks.")]
pub(crate) struct StatsArgs {
    /// Traces, or measured curves.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
    /// Also draws them: all charts in one file, or a file each in a directory, which is made.
    #[arg(long, value_name = "FILE.svg|DIR")]
    pub(crate) plot: Option<PathBuf>,
}

/// Make a trace of a table of other origin, whose columns are named here.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel trace import dirty.csv --interval 50ms --out guest.csv
  whimbrel trace import log.csv --time-column ts --time-unit us --address-column gpa --bytes-column len \\
      --interval 100ms --memory 8GiB --out guest.csv

The first line of the table has the names of its columns; lines before it that begin with # are passed over.
Without --interval and --length-column, each time is the beginning of an interval that lasts until the next.")]
pub(crate) struct ImportArgs {
    /// The table (CSV).
    #[arg(value_name = "FILE.csv")]
    pub(crate) file: PathBuf,
    /// Column of times.
    #[arg(long, default_value = "time", value_name = "NAME")]
    pub(crate) time_column: String,
    /// What times and lengths count.
    #[arg(long, value_enum, default_value_t, value_name = "UNIT")]
    pub(crate) time_unit: ImportUnit,
    /// Column of the intervals' lengths.
    #[arg(long, value_name = "NAME", conflicts_with = "interval")]
    pub(crate) length_column: Option<String>,
    /// Rows are writes: gather them in intervals so long.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) interval: Option<Duration>,
    /// Column of page numbers.
    #[arg(long, default_value = "page", value_name = "NAME", conflicts_with = "address_column")]
    pub(crate) page_column: String,
    /// Column of addresses in bytes, in place of page numbers; decimal, or hexadecimal behind 0x.
    #[arg(long, value_name = "NAME")]
    pub(crate) address_column: Option<String>,
    /// Address of the guest's first byte, decimal or hexadecimal.
    #[arg(long, default_value = "0", value_name = "ADDRESS", requires = "address_column", value_parser = address)]
    pub(crate) base: u64,
    /// Column of numbers of pages; without it and --bytes-column a row is one page.
    #[arg(long, value_name = "NAME", conflicts_with = "bytes_column")]
    pub(crate) count_column: Option<String>,
    /// Column of numbers of bytes.
    #[arg(long, value_name = "NAME")]
    pub(crate) bytes_column: Option<String>,
    /// Size of a page: 4KiB, 2MiB or 1GiB.
    #[arg(long, default_value = "4KiB", value_name = "SIZE")]
    pub(crate) page_size: PageSize,
    /// Memory of the guest; without it, the least power of two in which all pages lie.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteCount>,
    /// What stands between two columns.
    #[arg(long, default_value = ",", value_name = "CHARACTER")]
    pub(crate) separator: char,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportUnit {
    /// Seconds
    #[default]
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// Nanoseconds
    Ns,
}

fn address(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "accepted is a whole number, decimal or hexadecimal behind `0x`".to_owned())
}
