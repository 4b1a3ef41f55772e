//! The command line, in two stages: the arguments as they were typed ([`args`]), then a command with
//! everything read, checked and opened, which is run.
//!
//! Every command returns its failure; here, and only here, failures become messages and exit codes. A
//! reader that closes the pipe has seen enough: that is no failure.

mod args;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod bench;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod beside;
mod compare;
mod completions;
mod explain;
mod failure;
mod forecast;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod guest;
mod interrupt;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod live;
mod pages;
mod policies;
mod progress;
mod simulate;
mod sweep;
mod trace;
mod tune;
mod unfinished;
mod validate;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::FromArgMatches as _;
use whimbrel_lab::output::{Kind, OutputError, WholeFile};

use self::args::{Args, Command};
use self::failure::Failure;

/// Reads the arguments, runs the command, tells how it ended.
pub(crate) fn main() -> ExitCode {
    let parsed = args::command().try_get_matches().and_then(|matches| Args::from_arg_matches(&matches));
    let result = match parsed {
        Ok(args) => run(args.command),
        Err(error) => match told_by_clap(&error) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                tell(&message);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Simulate(args) => simulate::Simulation::ready(&args).and_then(simulate::Simulation::run),
        Command::Explain(args) => explain::Explaining::ready(&args).and_then(explain::Explaining::run),
        Command::Sweep(args) => sweep::Sweep::ready(&args).and_then(sweep::Sweep::run),
        Command::Compare(args) => compare::Comparing::ready(args).and_then(compare::Comparing::run),
        Command::Forecast(args) => forecast::Forecasting::ready(&args).and_then(forecast::Forecasting::run),
        Command::Tune(args) => tune::Tune::ready(&args).and_then(tune::Tune::run),
        Command::Policies(args) => policies::run(&args),
        Command::Trace(args) => trace::run(&args),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Command::Guest(args) => guest::run(&args),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Command::Bench(args) => bench::run(&args),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Command::Receive(args) => live::Receiving::ready(&args).and_then(live::Receiving::run),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Command::Send(args) => live::Sending::ready(&args).and_then(live::Sending::run),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Command::Adjust(args) => live::adjust::run(&args),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Command::Resolve(args) => live::resolve::run(&args),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Command::Replay(args) => live::replay::run(&args),
        #[cfg(all(target_os = "linux", target_pointer_width = "64", feature = "tls"))]
        Command::Keygen(args) => live::keygen::run(&args),
        Command::Validate(args) => validate::Validating::ready(args).and_then(validate::Validating::run),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => pages::man(&args),
    }
}

/// Help and version go to standard output and are what was asked for; anything else is a bad command line.
fn told_by_clap(error: &clap::Error) -> Result<ExitCode, Failure> {
    let printed = error.print();
    if error.use_stderr() {
        // Nobody is left to tell.
        return Ok(ExitCode::from(failure::BAD_INPUT));
    }
    printed.and_then(|()| io::stdout().flush()).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}

/// The file of `--plot`, which a drawing is put into.
fn drawing(path: Option<&Path>) -> Result<Option<WholeFile>, OutputError> {
    path.map(|path| WholeFile::create_as(path, Kind::DRAWING)).transpose()
}

/// A line to standard error. If nobody can read that, there is nobody to tell.
fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(line));
}

/// The same text without characters that a terminal obeys: what peers and files say is shown.
fn visible(text: &str) -> String {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars().map(|c| if obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The width for sentences: that of the terminal, within reason; a fixed one for files and pipes, so that
/// the same command gives the same bytes everywhere.
fn width() -> usize {
    let terminal = console::Term::stdout();
    match terminal.size_checked() {
        Some((_, columns)) if terminal.is_term() => usize::from(columns).clamp(60, 120),
        _ => 100,
    }
}
