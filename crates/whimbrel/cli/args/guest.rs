//! The arguments of `whimbrel guest`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::values::{any, time};
use super::{OutArgs, TextFormat};

/// Run real guests: threads that write real memory, watched by a real dirty log.
#[derive(Debug, ClapArgs)]
pub(crate) struct GuestArgs {
    #[command(subcommand)]
    pub(crate) command: GuestCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GuestCommand {
    Run(GuestRunArgs),
}

/// Run a scenario's guest for real, harvest its dirty log, and set what it dirties beside its simulation.
///
/// The guest is a lab guest: a thread for each writer of the scenario, with the memory, the working sets and the rates that
/// stand there. No hypervisor and no privilege is needed. Afterwards its whole memory is compared with what its
/// registers say.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel guest run --set guest.memory=512MiB --for 3s
  whimbrel guest run guest.toml --interval 50ms --record guest.csv
  whimbrel guest run web --log software --memory memfd --format json")]
pub(crate) struct GuestRunArgs {
    /// Scenario file (TOML), of which the guest is taken, or the name of a built-in workload such as web; without one a
    /// built-in scenario.
    #[arg(value_name = "GUEST.toml")]
    pub(crate) scenario: Option<PathBuf>,
    /// Changes a key of the scenario, such as guest.memory=1GiB; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// How long it runs.
    #[arg(long = "for", default_value = "10s", value_name = "TIME", value_parser = time)]
    pub(crate) length: Duration,
    /// Time between two harvests.
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = time)]
    pub(crate) interval: Duration,
    /// Who records its writes.
    #[arg(long, value_enum, default_value_t, value_name = "LOG")]
    pub(crate) log: GuestLog,
    /// What its memory is made of: private, private-huge, shared or memfd.
    #[arg(long, default_value = "private", value_name = "KIND")]
    pub(crate) memory: whimbrel_guest::memory::Backing,
    /// Seed of what memory holds and of every choice of a page, in place of the scenario's.
    #[arg(long, value_name = "N", value_parser = any::<u64>())]
    pub(crate) seed: Option<u64>,
    /// Also writes what it dirtied as a trace, CSV or JSON Lines.
    #[arg(long, value_name = "TRACE")]
    pub(crate) record: Option<PathBuf>,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

impl GuestRunArgs {
    /// Where the trace goes.
    pub(crate) fn out(&self) -> Option<OutArgs> {
        self.record.as_ref().map(|file| OutArgs { out: Some(file.clone()), format: None })
    }
}

/// Who records a guest's writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GuestLog {
    /// The best that this machine has
    #[default]
    Best,
    /// The kernel, by write protection
    Userfaultfd,
    /// The guest's own threads
    Software,
}

impl From<GuestLog> for whimbrel_lab::real::here::LogChoice {
    fn from(log: GuestLog) -> Self {
        match log {
            GuestLog::Best => Self::Best,
            GuestLog::Userfaultfd => Self::Userfaultfd,
            GuestLog::Software => Self::Software,
        }
    }
}
