//! How a command can end other than well, and the exit code of each.

use std::error::Error;
use std::io;

/// It could not be done: a file, the disk, a fault of whimbrel's own.
pub(super) const FAILED: u8 = 1;
/// The command line or the scenario is wrong.
pub(super) const BAD_INPUT: u8 = 2;

/// Nobody here can know who has the guest.
pub(super) const IN_DOUBT: u8 = 3;
/// It was done, and could not be told.
const UNTOLD: u8 = 4;

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// What was asked for is wrong.
    BadInput(anyhow::Error),
    /// It could not be done.
    Failed(anyhow::Error),
    /// A signal ended it; what was finished is kept.
    Interrupted {
        /// 128 and the signal's number, as shells count.
        code: u8,
        /// What is kept.
        message: String,
    },
    /// A guest was handed over, and nobody here can know who has it.
    #[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
    // Real moves alone end so.
    InDoubt(anyhow::Error),
    /// What was asked for is done, and only a report or a journal of it could not be written.
    #[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
    // Real moves alone end so.
    Untold(anyhow::Error),
    /// Whoever read the output has closed it.
    ClosedPipe,
}

impl Failure {
    pub(super) fn bad_input(error: impl Error + Send + Sync + 'static) -> Self {
        Self::BadInput(error.into())
    }

    pub(super) fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(error.into())
    }

    /// Standard output could not be written.
    pub(super) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(anyhow::Error::new(error).context("cannot write to standard output")),
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Failed(_) => FAILED,
            Self::BadInput(_) => BAD_INPUT,
            Self::Interrupted { code, .. } => *code,
            Self::InDoubt(_) => IN_DOUBT,
            Self::Untold(_) => UNTOLD,
        }
    }

    /// What to tell; nothing if nobody needs to know.
    pub(super) fn message(&self) -> Option<String> {
        match self {
            Self::ClosedPipe => None,
            Self::Interrupted { message, .. } => Some(format!("interrupted: {message}")),
            // With `#` the causes follow, each behind a colon.
            Self::BadInput(error) | Self::Failed(error) | Self::InDoubt(error) | Self::Untold(error) => {
                Some(format!("error: {error:#}"))
            }
        }
    }
}
