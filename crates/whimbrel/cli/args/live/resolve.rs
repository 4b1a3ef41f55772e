//! The arguments of `whimbrel resolve` and `whimbrel replay`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args as ClapArgs, ValueEnum};
use whimbrel_core::machine::message::MigrationId;
use whimbrel_engine::transport::Address;

use super::super::TextFormat;
use super::super::values::time;
use super::{WayArgs, address, migration};

/// Say which migrations are known here, and end doubts about who may run a guest.
///
/// Without an order, lists the records on stable storage, and the commands that run and can be reached. With --control and an order, tells
/// it a running `whimbrel send` or `whimbrel receive`, and prints how that stands afterwards.
#[derive(Debug, ClapArgs)]
#[command(
    mut_args(of_a_question),
    after_help = "\
Examples:
  whimbrel resolve
  whimbrel resolve --control ~/.local/state/whimbrel/receive-4711.control
  whimbrel resolve --control ~/.local/state/whimbrel/receive-4711.control --peer-never-ran
  whimbrel resolve --id 6f1c0d2a99e31b07 --side source --forget
  whimbrel resolve --id 6f1c0d2a99e31b07 --ask tcp:127.0.0.1:41393 --token 6f1c…

--peer-never-ran and --peer-may-have-run are promises, and yours: the other side does not run this guest and never will, also not
after a reboot or when its network returns: it is powered off for good, or cut off from the guest's disks and network. A host that
merely does not answer is not that. They are taken only while there is no connection to the peer.
  --peer-never-ran      it has not run the guest since it was paused for the handover: the memory held here is the latest, and
                        the guest runs on from it. Evidence at a destination: the source's process is gone and its record
                        says `go`. One without a record is none: that source had its guest back when the connection
                        was lost, and may have run it since. At a source: the destination's record does not say `running`.
  --peer-may-have-run   it may have: the memory held here is thrown away, and the guest is to be started from its disks, here.
  --discard             a destination gives up a replica that nobody comes back for. Always safe. A source that asks later is told
                        so by a `whimbrel receive` with the same --listen, --token and --store.
  --cancel              the guest stays at the source, if it has not been handed over.

--ask is for a source that was killed, before its guest is started again. Where the record says `go`, the destination knows: a
complete replica there is told to run, one that runs is left to it, and without one the guest is this host's. Without `go` the guest is
this host's in any case, and the destination drops its replica: where that is wanted instead, say --peer-never-ran there.

Exit codes: 0 it is known where the guest belongs, or what was asked for was done; 1 it is not; 2 wrong arguments; 130 Ctrl-C (143: SIGTERM)."
)]
pub(crate) struct ResolveArgs {
    /// Unix socket of a running `send` or `receive`.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["store", "id", "side", "forget", "ask"])]
    pub(crate) control: Option<PathBuf>,
    /// The other side is out of the game, and has not run the guest since it was paused for the handover.
    #[arg(long, requires = "control", group = "order")]
    pub(crate) peer_never_ran: bool,
    /// The other side is out of the game, but may have run the guest meanwhile.
    #[arg(long, requires = "control", group = "order")]
    pub(crate) peer_may_have_run: bool,
    /// Gives up a replica.
    #[arg(long, requires = "control", group = "order")]
    pub(crate) discard: bool,
    /// Has the guest stay at the source.
    #[arg(long, requires = "control", group = "order")]
    pub(crate) cancel: bool,
    /// Directory of the records; without it, `whimbrel` below `$XDG_STATE_HOME`, or else below `~/.local/state`.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// One migration, by its hexadecimal digits.
    #[arg(long, value_name = "ID", value_parser = migration)]
    pub(crate) id: Option<MigrationId>,
    /// Whose record is meant, where the directory has one of both.
    #[arg(long, value_enum, value_name = "SIDE")]
    pub(crate) side: Option<Side>,
    /// Removes the record of a migration that is over, after saying what that means.
    #[arg(long, requires = "id", conflicts_with = "ask")]
    pub(crate) forget: bool,
    /// Also removes one that says `go`: nobody here knows who has that guest.
    #[arg(long, requires = "forget")]
    pub(crate) force: bool,
    /// Asks the destination at this address (as `send --to` has it) about a migration whose `send` was killed.
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "id")]
    pub(crate) ask: Option<Address>,
    /// How long it is asked; without it, until it answers.
    #[arg(long, value_name = "TIME", value_parser = time, requires = "ask")]
    pub(crate) within: Option<Duration>,
    #[command(flatten)]
    pub(crate) way: WayArgs,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

/// What a connection needs is for a question alone.
fn of_a_question(arg: Arg) -> Arg {
    const WAY: [&str; 8] =
        ["token", "token_file", "insecure", "certificate", "key", "pinned", "authority", "patience"];
    if WAY.contains(&arg.get_id().as_str()) { arg.requires("ask") } else { arg }
}

/// The side of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// From where the guest goes
    Source,
    /// Where it goes
    Destination,
}

/// Replay the journal of a real migration in the simulator's machine: does it decide the same?
///
/// A journal of `whimbrel send --journal` holds all that happened to the source, and what its policy was and decided. Here the same
/// happens to a source that has done nothing yet.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel send --guest web --to unix:w.sock --token 6f1c… --journal move.journal
  whimbrel replay move.journal

Exit codes: 0 it decides the same; 1 it does not; 2 the file is missing or no journal.")]
pub(crate) struct ReplayArgs {
    /// The journal.
    #[arg(value_name = "JOURNAL")]
    pub(crate) journal: PathBuf,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}
