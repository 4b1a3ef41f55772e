//! The arguments of `whimbrel receive`.

use std::time::Duration;

use clap::Args as ClapArgs;
use whimbrel_core::units::ByteCount;
use whimbrel_engine::transport::Address;
use whimbrel_guest::memory::Backing;

use super::super::TextFormat;
use super::super::values::{size, time};
use super::{GuestOf, PeerArgs, address};

/// Wait for a lab guest that `whimbrel send` moves here, take it, run it, and look whether it is what it must be.
///
/// Prints the command for the other terminal, waits for one guest, and runs it when it is handed over, for --for or until Ctrl-C. Then
/// it is paused, its whole memory is compared with what its registers say, and one report is printed.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel receive --guest web --listen unix:w.sock
  whimbrel receive --guest guest.toml --listen tcp:127.0.0.1:0 --for 10s
  whimbrel receive --guest guest.toml --listen tls:0.0.0.0:4444 --tls-cert b.pem --tls-key b.key --tls-peer sha256:…

If the source is lost when the replica is complete, nobody here knows whether the guest still runs there. Then the replica is
kept, paused, until the source comes back or `whimbrel resolve` ends the doubt. A second Ctrl-C ends the program at once, whatever it
is about, and with 3. SIGTERM is as Ctrl-C.

Exit codes: 0 the guest came and its memory is exact; 1 it did not, or is not; 2 the command line or a file that it names is
wrong; 3 a complete replica was given up, and nobody here knows whether the source has the guest, or a second Ctrl-C ended it at
once; 4 the guest came, and only the report could not be written; 130 ended by Ctrl-C before the guest was here (143: by SIGTERM).")]
pub(crate) struct ReceiveArgs {
    #[command(flatten)]
    pub(crate) guest: GuestOf,
    /// Where to listen: `tcp:HOST:PORT`, `tls:HOST:PORT` or `unix:/PATH`. With port 0 any is taken, and printed.
    #[arg(long, value_name = "WHERE", value_parser = address)]
    pub(crate) listen: Address,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
    /// What its memory is made of: private, private-huge, shared or memfd.
    #[arg(long, default_value = "private", value_name = "KIND")]
    pub(crate) memory: Backing,
    /// No guest with more memory is taken; without it, what this machine has available.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) most_memory: Option<ByteCount>,
    /// Ends, as by Ctrl-C, when standard input ends: for a program that starts it with a pipe, and may be killed. A Ctrl-C after that is a
    /// second one.
    #[arg(long)]
    pub(crate) until_eof: bool,
    /// How long it runs here; without it, until Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) length: Option<Duration>,
    /// How long to wait for somebody to come; without it, for ever.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) wait: Option<Duration>,
    /// How long whoever came may take until the replica is complete; without it, as long as the source does not stall.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) time_limit: Option<Duration>,
    /// Text to read, or JSON, on standard output.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}
