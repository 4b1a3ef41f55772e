//! Why a file is no trace.

use std::io;

use whimbrel_sim::trace::TraceError;

/// Why a trace was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceFileError {
    /// The file could not be read.
    #[error("cannot read {file}")]
    Read {
        /// Its name.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A directory.
    #[error("cannot read {file}: it is a directory, accepted is a file")]
    Directory {
        /// Its name.
        file: String,
    },
    /// A pipe or a device where only a file will do.
    #[error("cannot read {file}: it is no regular file")]
    NotAFile {
        /// Its name.
        file: String,
    },
    /// A line that cannot be read.
    #[error("{file}:{line}: {message}")]
    Line {
        /// The file.
        file: String,
        /// Which line, counted from 1.
        line: u64,
        /// What stands there and what is accepted.
        message: String,
    },
    /// A line that can be read, but does not fit into a trace.
    #[error("{file}:{line}: {fault}")]
    Trace {
        /// The file.
        file: String,
        /// Which line, counted from 1.
        line: u64,
        /// What is wrong with it.
        fault: TraceError,
    },
    /// The file as a whole is not what it should be.
    #[error("{file}: {message}")]
    File {
        /// The file.
        file: String,
        /// What is wrong, and what is accepted.
        message: String,
    },
}
