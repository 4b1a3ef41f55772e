//! The arguments of `whimbrel send`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_engine::transport::Address;
use whimbrel_guest::memory::Backing;

use super::super::values::{rate, size, time, time_or_none, whole};
use super::super::{GuestLog, TextFormat};
use super::{GuestOf, PeerArgs, address, migration};

/// Run a lab guest and move it, alive, to a `whimbrel receive`: real bytes over real sockets.
///
/// Shows the rounds while they go on, and ends with the tables that `whimbrel simulate` prints. If the guest stays here it is
/// paused at the end and its whole memory compared with what its registers say.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel send --guest web --to unix:w.sock --token 6f1c…
  whimbrel send --guest guest.toml --to tcp:127.0.0.1:4444 --token-file token --policy qemu-default:downtime-limit=50ms
  whimbrel send --guest guest.toml --to tls:b.example.org:4444 --token-file token --tls-cert a.pem --tls-key a.key \\
      --tls-ca ca.pem --streams 2 --encoding adaptive --journal move.journal

Ctrl-C cancels as long as the guest has not been handed over: it then runs on here. If the destination is lost after that, only it
knows who has the guest: then the guest stays paused, the destination is asked again and again, and Ctrl-C or
`whimbrel resolve` ends that. A second Ctrl-C ends the program at once, whatever it is about, and with 3. SIGTERM is as Ctrl-C.

Exit codes, which say where the guest is: 0 at the destination; 1 it stayed here; 2 nothing was begun: the command line or a file that
it names is wrong; 3 nobody here knows, or a second Ctrl-C ended it at once, see `whimbrel resolve`; 4 at the destination, and only
the report or the journal could not be written; 130 it stayed here, cancelled by Ctrl-C (143: by SIGTERM).")]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(crate) guest: GuestOf,
    /// Where it goes, as `whimbrel receive` prints it: `tcp:HOST:PORT`, `tls:HOST:PORT` or `unix:/PATH`.
    #[arg(long, value_name = "WHERE", value_parser = address)]
    pub(crate) to: Address,
    /// Another policy than the scenario's: a preset, a preset with parameters (NAME:PARAMETER=VALUE,…), or a file with a
    /// table [policy].
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub(crate) policy: Option<String>,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
    /// Connections that carry pages.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u16>(1..=64))]
    pub(crate) streams: u16,
    /// How pages are sent that are not zero.
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(crate) encoding: Encoding,
    /// Memory for pages as they were sent last: of one that is there, only what has changed is sent.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) delta_cache: Option<ByteCount>,
    /// Checksums cover the pages, too, not only what says where they belong.
    #[arg(long)]
    pub(crate) payload_checksums: bool,
    /// Compares a digest of all memory before the destination says that it is ready.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Sends no faster than this, whatever the policy wants.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) limit: Option<Bandwidth>,
    /// After so long the guest stays here; without it, the scenario's run.time-limit.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) time_limit: Option<Duration>,
    /// How long the guest runs before it is moved.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time_or_none)]
    pub(crate) warm_up: Duration,
    /// Who records its writes.
    #[arg(long, value_enum, default_value_t, value_name = "LOG")]
    pub(crate) log: GuestLog,
    /// What its memory is made of: private, private-huge, shared or memfd.
    #[arg(long, default_value = "private", value_name = "KIND")]
    pub(crate) memory: Backing,
    /// Also writes what happened and what was decided, for `whimbrel replay`.
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Names this migration, 1 to 16 hexadecimal digits; without it, a random one.
    #[arg(long, value_name = "ID", value_parser = migration)]
    pub(crate) id: Option<MigrationId>,
    /// Text to read, or JSON, on standard output.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

/// How pages are sent that are not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// As they are
    #[default]
    Raw,
    /// Compressed where that was seen to pay
    Adaptive,
    /// LZ4, where that makes them shorter
    Lz4,
    /// Zstandard, where that makes them shorter
    Zstd,
}
