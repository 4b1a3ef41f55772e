//! The arguments of `whimbrel adjust`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use whimbrel_core::policy::RateLimit;

use super::super::TextFormat;
use super::super::values::rate_or_unlimited;

/// Change a migration that is under way: how fast it may send, or parameters of its policy.
///
/// Tells it a running `whimbrel send`, and prints how that stands afterwards. What is changed is in the journal, and the policy
/// decides with it from then on. Until the last page was sent, a limit can be changed, also while the guest is paused for it; a
/// parameter, until the guest is paused.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel adjust --limit 200MB/s
  whimbrel adjust --limit unlimited
  whimbrel adjust --control ~/.local/state/whimbrel/send-4711.control --set downtime-limit=500ms

`whimbrel policies NAME` says which parameters a policy has. Which of them it takes while a migration runs, it says when it is told one
that it does not take.

Exit codes: 0 all was taken; 1 something was not, or no `send` answers; 2 the command line is wrong, or it is not clear which
`send` is meant.")]
pub(crate) struct AdjustArgs {
    /// Unix socket of the running `send`; without it, of the one that has its socket in the directory of the records.
    #[arg(long, value_name = "PATH", conflicts_with = "store")]
    pub(crate) control: Option<PathBuf>,
    /// Directory of the records; without it, `whimbrel` below `$XDG_STATE_HOME`, or else below `~/.local/state`.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Sends no faster than this, or as fast as the policy wants: `unlimited`. It takes the place of what `send --limit` said.
    #[arg(long, value_name = "RATE|unlimited", value_parser = rate_or_unlimited, required_unless_present = "parameters")]
    pub(crate) limit: Option<RateLimit>,
    /// Sets a parameter of the policy, such as downtime-limit=500ms; may be given many times.
    #[arg(long = "set", value_name = "PARAMETER=VALUE", value_parser = parameter)]
    pub(crate) parameters: Vec<(String, String)>,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    // It goes to the running command on a line of its own.
    let told = text.split_once('=').filter(|(name, _)| !name.is_empty());
    match told {
        Some((name, value)) if !text.contains(char::is_control) => Ok((name.to_owned(), value.to_owned())),
        _ => Err("accepted is PARAMETER=VALUE, as downtime-limit=500ms".to_owned()),
    }
}
