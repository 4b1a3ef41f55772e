//! The arguments of the live engine's commands, and what they have in common.

mod adjust;
#[cfg(feature = "tls")]
mod keygen;
mod receive;
mod resolve;
mod send;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_engine::transport::Address;

pub(crate) use self::adjust::AdjustArgs;
#[cfg(feature = "tls")]
pub(crate) use self::keygen::KeygenArgs;
pub(crate) use self::receive::ReceiveArgs;
pub(crate) use self::resolve::{ReplayArgs, ResolveArgs, Side};
pub(crate) use self::send::{Encoding, SendArgs};
use super::values::time;

/// The guest, which both sides are told alike.
#[derive(Debug, ClapArgs)]
pub(crate) struct GuestOf {
    /// Scenario file (TOML), of which the guest is taken, or the name of a built-in workload such as web; without one a
    /// built-in scenario. Both sides must be told the same.
    #[arg(long = "guest", value_name = "GUEST.toml")]
    pub(crate) scenario: Option<PathBuf>,
    /// Changes a key of the scenario, such as guest.memory=1GiB; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

/// What lies between the two sides.
#[derive(Debug, ClapArgs)]
pub(crate) struct WayArgs {
    /// What a source must know to be let in. Other users of this machine see what is typed here; --token-file hides it.
    #[arg(long, value_name = "TOKEN", value_parser = token, conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file that holds the token, alone on its first line.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Allows plain TCP beyond this machine, which can be read and changed on the way.
    #[arg(long)]
    pub(crate) insecure: bool,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// How long a peer may say nothing, or take nothing, before it counts as lost.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(crate) patience: Duration,
}

/// What lies between the two sides, and what both keep.
#[derive(Debug, ClapArgs)]
pub(crate) struct PeerArgs {
    #[command(flatten)]
    pub(crate) way: WayArgs,
    /// Directory of the records that must survive a crash, on a disk; made if it does not exist. Without it,
    /// `whimbrel` below `$XDG_STATE_HOME`, or else below `~/.local/state`.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Unix socket at which `whimbrel adjust` and `whimbrel resolve` reach this command; without it, one in the directory of the records.
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
}

/// Who this side is under TLS, and whom it trusts.
#[cfg(feature = "tls")]
#[derive(Debug, ClapArgs)]
pub(crate) struct TlsArgs {
    /// The certificate that this side shows under TLS; `whimbrel keygen` makes one.
    #[arg(long = "tls-cert", value_name = "FILE.pem", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key.
    #[arg(long = "tls-key", value_name = "FILE.key", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// Fingerprint of a certificate that is accepted of the peer; may be given many times.
    #[arg(
        long = "tls-peer",
        value_name = "FINGERPRINT",
        conflicts_with = "authority",
        requires = "certificate"
    )]
    pub(crate) pinned: Vec<String>,
    /// Certificate of a CA: what it has signed is accepted of the peer.
    #[arg(long = "tls-ca", value_name = "FILE.pem", requires = "certificate")]
    pub(crate) authority: Option<PathBuf>,
}

/// Reads an address.
pub(super) fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: whimbrel_engine::transport::address::AddressError| error.to_string())
}

/// Reads the name of a migration, as it is shown everywhere.
pub(super) fn migration(text: &str) -> Result<MigrationId, String> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let hexadecimal = (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = hexadecimal.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    number.map(MigrationId).ok_or_else(|| "accepted are 1 to 16 hexadecimal digits".to_owned())
}

fn token(text: &str) -> Result<String, String> {
    match whimbrel_wire::hello::Token::new(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("accepted are 1 to {} bytes", whimbrel_wire::hello::MOST_TOKEN)),
    }
}
