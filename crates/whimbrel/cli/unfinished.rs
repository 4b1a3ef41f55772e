//! Results that may be cut and gone on with: how a sweep and a bench begin them, and what is said where one ends early.
//!
//! What is kept, and where, is `whimbrel_lab::sweep`'s; here is only what the two commands say of it in the same words.

use std::path::Path;

use whimbrel_lab::scenario::{Grid, Scenario};
use whimbrel_lab::sweep::{Begin, Finished, ResultDir, ResumeError, SweepError, Tables};

use super::failure::{self, Failure};
use super::interrupt::Interrupt;

/// How results are begun by a command with these flags.
pub(super) fn begin(resume: bool, force: bool) -> Begin {
    match (resume, force) {
        (true, _) => Begin::Resume,
        (false, true) => Begin::Anyway,
        (false, false) => Begin::New,
    }
}

/// Opens the directory of the results.
pub(super) fn open(
    out: &Path,
    scenario: &Scenario,
    grid: &Grid,
    tables: Tables,
    begin: Begin,
) -> Result<ResultDir, Failure> {
    ResultDir::open(out, scenario, grid, tables, begin).map_err(|error| match error {
        // Something else was asked for than what is there.
        SweepError::Resume(ResumeError::Nothing { .. } | ResumeError::Other { .. }) => {
            Failure::bad_input(error)
        }
        error => Failure::failed(error),
    })
}

/// A signal ended it. `what` was made: migrations, moves.
pub(super) fn stopped(
    interrupt: &Interrupt,
    what: &str,
    results: &ResultDir,
    Finished { runs, planned, .. }: &Finished,
) -> Failure {
    let code = interrupt.exit_code().unwrap_or(failure::FAILED);
    let message = if *runs == 0 {
        format!("none of {planned} {what} was finished; nothing was written")
    } else {
        let kept = results.unfinished();
        format!(
            "{runs} of {planned} {what} were finished and are kept in {}; the same command with --resume goes on",
            kept.display()
        )
    };
    Failure::Interrupted { code, message }
}

/// The sweep or the bench could not go on; what was made before is kept in this folder.
pub(super) fn cut(which: &str, kept: &Path, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(error) if kept.exists() => Failure::Failed(error.context(format!(
            "the {which} was cut; {} keeps what was finished, and the same command with --resume goes on",
            kept.display()
        ))),
        failure => failure,
    }
}
