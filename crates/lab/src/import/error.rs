//! Why settings were not imported. Every error says where, which key, what stood there and what is accepted.

use std::io;

use whimbrel_core::policy::presets::PresetError;

/// Why settings were not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read.
    #[error("cannot read {file}")]
    Read {
        /// Its path.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is a directory.
    #[error("cannot read {file}: it is a directory, accepted is a file")]
    Directory {
        /// Its path.
        file: String,
    },
    /// The file is larger than any settings.
    #[error("cannot read {file}: it is larger than {} bytes", crate::scenario::error::MAX_FILE)]
    TooLarge {
        /// Its path.
        file: String,
    },
    /// The file is not UTF-8.
    #[error("{file}: not UTF-8 text")]
    NotText {
        /// Its path.
        file: String,
    },
    /// It looks like nothing that can be imported.
    #[error(
        "{file}: not recognised; accepted are a KubeVirt or MigrationPolicy resource (YAML), nova.conf with a \
         section [libvirt], and QEMU's reply to query-migrate-parameters (JSON); `--from` says which it is"
    )]
    Unknown {
        /// The file.
        file: String,
    },
    /// Files of different products.
    #[error("{} is of {} and {} of {}: import those of one product together", .first.0, .first.1, .second.0, .second.1)]
    Mixed {
        /// A file, and whose it is.
        first: (String, &'static str),
        /// Another one.
        second: (String, &'static str),
    },
    /// Not the syntax that it should be.
    #[error("{at}: {message}")]
    Syntax {
        /// The file, and the line if it is known.
        at: String,
        /// What is wrong.
        message: String,
    },
    /// The syntax is right, but there is nothing to import.
    #[error("{file}: {message}")]
    Nothing {
        /// The file.
        file: String,
        /// What is missing.
        message: String,
    },
    /// A value that the product would not take.
    #[error("{at}: `{key}`: {value} is not accepted; write {accepted}")]
    Value {
        /// The file, and the line if it is known.
        at: String,
        /// The key.
        key: String,
        /// What stands there, as a phrase.
        value: String,
        /// What is accepted.
        accepted: String,
    },
    /// Values that do not go together.
    #[error(transparent)]
    Preset(#[from] PresetError),
}
