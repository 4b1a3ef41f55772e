//! The live engine's commands: `receive` and `send` move a lab guest between two processes, `adjust` changes it under
//! way, `resolve` ends what they cannot end themselves, `replay` looks at what one left, `keygen` makes what they know each other by.
//!
//! Nothing here decides who may run a guest: the engine does, and people, through [`control`].

pub(super) mod adjust;
mod asking;
mod control;
pub(super) mod cost;
#[cfg(feature = "tls")]
pub(super) mod keygen;
pub(super) mod offered;
mod receive;
pub(super) mod replay;
pub(super) mod resolve;
pub(super) mod scribe;
mod send;
pub(super) mod slowed;
mod view;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use whimbrel_core::machine::message::MigrationId;
use whimbrel_engine::stable::{DirectoryStore, Role, StoreError};
use whimbrel_engine::transport::open::Options;
use whimbrel_engine::transport::tcp::TcpOptions;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_lab::real::guest::lab_guest;
use whimbrel_lab::real::here::HereError;
use whimbrel_lab::scenario::Setup;
use whimbrel_wire::hello::Token;

pub(super) use self::receive::Receiving;
pub(super) use self::send::Sending;
use super::args::{GuestOf, ScenarioArgs, WayArgs};
use super::failure::Failure;
use super::simulate::{Instead, scenario};
use super::tell;

/// The guest of a scenario.
struct Chosen {
    setup: Setup,
    /// The scenario with every default.
    scenario: String,
    lab: LabConfig,
    /// What it is called, and by what both sides know that they mean the same.
    name: String,
}

/// Between a guest's name and its fingerprint.
const MARK: char = '@';

impl Chosen {
    /// Reads the scenario that was asked for.
    fn read(args: &GuestOf, policy: Option<&str>) -> Result<Self, Failure> {
        let named = ScenarioArgs {
            scenario: args.scenario.clone(),
            overrides: args.overrides.clone(),
            fidelity: None,
        };
        let scenario = scenario(&named, "default", &Instead::of(policy, None))?;
        let setup = scenario.setup().clone();
        let lab = lab_guest(&setup.guest, setup.run.seed).map_err(Failure::bad_input)?;
        let file = args.scenario.as_deref().and_then(Path::file_stem);
        let stem = file.map_or_else(|| "default".into(), |stem| stem.to_string_lossy().into_owned());
        let name = format!("{stem}{MARK}{:016x}", lab.fingerprint());
        Ok(Self { setup, scenario: scenario.to_toml(), lab, name })
    }
}

/// How the same guest is chosen in another terminal.
fn same_guest(args: &GuestOf) -> String {
    let file = args.scenario.iter().map(|file| format!(" --guest {}", quoted(&file.to_string_lossy())));
    let overrides = args.overrides.iter().map(|change| format!(" --set {}", quoted(change)));
    file.chain(overrides).collect()
}

/// What a connection by the same way takes at its other end: of its keys only the fingerprint of this side's is known here.
fn same_way(args: &WayArgs) -> Result<String, Failure> {
    let insecure = if args.insecure { " --insecure" } else { "" };
    #[cfg(feature = "tls")]
    if let (Some(certificate), Some(key)) = (&args.tls.certificate, &args.tls.key) {
        use whimbrel_engine::transport::tls::Identity;
        let identity = Identity::from_files(certificate, key).map_err(Failure::bad_input)?;
        let fingerprint = identity.fingerprint();
        return Ok(format!("{insecure} --tls-cert … --tls-key … --tls-peer {fingerprint}"));
    }
    Ok(insecure.to_owned())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@[]%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Where records are, unless somebody says otherwise.
fn directory(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(directory) = given {
        return Ok(directory.to_owned());
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("whimbrel")).ok_or_else(|| {
        Failure::BadInput(anyhow!(
            "neither XDG_STATE_HOME nor HOME is set: say with --store where records are kept"
        ))
    })
}

fn open_store(directory: &Path, role: Role) -> Result<DirectoryStore, Failure> {
    DirectoryStore::open(directory, role).map_err(|error: StoreError| {
        Failure::Failed(anyhow::Error::new(error).context("records of migrations cannot be kept"))
    })
}

/// Random bytes that nobody can guess.
pub(super) fn random<const COUNT: usize>() -> Result<[u8; COUNT], Failure> {
    let mut bytes = [0; COUNT];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context("no randomness from /dev/urandom").map_err(Failure::Failed)?;
    Ok(bytes)
}

/// A name that no other migration has.
pub(super) fn new_id() -> Result<MigrationId, Failure> {
    random().map(|bytes| MigrationId(u64::from_le_bytes(bytes)))
}

/// As a migration is shown, in files and everywhere.
fn shown(id: MigrationId) -> String {
    format!("{:016x}", id.0)
}

/// The token as it was typed or stands in its file.
fn given_token(args: &WayArgs) -> Result<Option<String>, Failure> {
    let Some(file) = &args.token_file else { return Ok(args.token.clone()) };
    let wrong =
        |error: anyhow::Error| Failure::BadInput(error.context(format!("--token-file {}", file.display())));
    // One that is no such file need not be read to its end.
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(4096).read_to_string(&mut text));
    read.map_err(|error| wrong(error.into()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(wrong(anyhow!("its first line is empty, and should be the token")));
    }
    Ok(Some(line.to_owned()))
}

fn token_of(text: &str) -> Result<Token, Failure> {
    Token::new(text.as_bytes()).map_err(Failure::bad_input)
}

/// What connections need.
fn options(args: &WayArgs) -> Result<Options, Failure> {
    let tcp = TcpOptions { insecure: args.insecure, lost_after: args.patience, ..TcpOptions::default() };
    Ok(Options {
        tcp,
        #[cfg(feature = "tls")]
        tls: tls(args)?,
    })
}

#[cfg(feature = "tls")]
fn tls(args: &WayArgs) -> Result<Option<whimbrel_engine::transport::tls::Tls>, Failure> {
    use whimbrel_engine::transport::tls::{Fingerprint, Identity, Tls, Trust};
    let args = &args.tls;
    let (Some(certificate), Some(key)) = (&args.certificate, &args.key) else { return Ok(None) };
    let identity = Identity::from_files(certificate, key).map_err(Failure::bad_input)?;
    let trust = match &args.authority {
        Some(file) => Trust::authority_from_file(file).map_err(Failure::bad_input)?,
        None if args.pinned.is_empty() => {
            return Err(Failure::BadInput(anyhow!(
                "whose certificate is accepted? say it with --tls-peer or --tls-ca"
            )));
        }
        None => {
            let pinned = args.pinned.iter().map(|text| text.parse());
            Trust::pinned(pinned.collect::<Result<Vec<Fingerprint>, _>>().map_err(Failure::bad_input)?)
        }
    };
    Ok(Some(Tls::new(identity, trust)))
}

/// How a command ends that has moved a guest, or has not: its exit code says where that is, whatever became of telling it.
fn and_told<const COUNT: usize>(
    outcome: Result<(), Failure>,
    told: [Result<(), Failure>; COUNT],
) -> Result<(), Failure> {
    let mut ends = outcome;
    for untold in told.into_iter().filter_map(Result::err) {
        match (&ends, untold) {
            (Ok(()), Failure::Failed(error)) => {
                ends = Err(Failure::Untold(error.context("all is done, and could not be told")));
            }
            (Ok(()), Failure::ClosedPipe) => {}
            (Ok(()), other) => ends = Err(other),
            (Err(_), untold) => untold.message().iter().for_each(|message| tell(message)),
        }
    }
    ends
}

/// A guest that cannot be made: whose fault that is.
fn not_here(error: HereError) -> Failure {
    if error.is_the_guests() { Failure::bad_input(error) } else { Failure::failed(error) }
}

/// A connection that cannot be: what was asked for, or what the system says.
fn no_connection(error: whimbrel_engine::transport::TransportError) -> Failure {
    match error.cause.kind() {
        // Plain TCP that would leave the machine, and an address without what it needs.
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => Failure::bad_input(error),
        _ => Failure::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        for (word, as_typed) in [
            ("guest.memory=1GiB", "guest.memory=1GiB"),
            ("my guest.toml", "'my guest.toml'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(word), as_typed);
        }
    }

    #[test]
    fn a_migration_is_read_as_it_is_shown() {
        let id = MigrationId(0x0f1c_0d2a_99e3_1b07);
        assert_eq!(shown(id), "0f1c0d2a99e31b07");
        assert_ne!(new_id().expect("randomness"), new_id().expect("randomness"));
    }
}
