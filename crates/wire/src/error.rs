//! What can be wrong with bytes from a peer.
//!
//! One error for hellos, frames and control messages. None of them can be answered or mended: whoever meets one ends the
//! connection, and tells people.

use whimbrel_core::layout::LayoutError;

use crate::hello::Versions;
use crate::limits::Limit;

/// Why bytes are not what the protocol says, or a message cannot become bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The peer speaks something else.
    #[error("the peer begins with {found:02x?}, a whimbrel with {expected:02x?}")]
    Magic {
        /// What came.
        found: [u8; 8],
        /// What begins every connection.
        expected: [u8; 8],
    },
    /// Bytes changed on their way.
    #[error("the checksum of {what} is {found:#010x}, its bytes give {expected:#010x}")]
    Checksum {
        /// Of what.
        what: &'static str,
        /// As it was sent.
        found: u32,
        /// As the bytes say.
        expected: u32,
    },
    /// A code that has no meaning.
    #[error("{what} is {found}, accepted is {accepted}")]
    Code {
        /// What it stands for.
        what: &'static str,
        /// The code.
        found: u64,
        /// Those that have a meaning here.
        accepted: &'static str,
    },
    /// Bits that have no meaning here.
    #[error("{what} are {found:#x}, accepted are those of {accepted:#x}")]
    Bits {
        /// Of what.
        what: &'static str,
        /// All bits that are set.
        found: u64,
        /// Those that may be.
        accepted: u64,
    },
    /// A length that can be only one number, and is not.
    #[error("{what} has {found} bytes, accepted are {accepted}")]
    Length {
        /// What.
        what: &'static str,
        /// Its length as found.
        found: u64,
        /// The length that it can have.
        accepted: u64,
    },
    /// More than is taken from a peer.
    #[error("{limit} would be {found}, accepted are at most {most}")]
    TooMuch {
        /// Which limit.
        limit: Limit,
        /// What the peer says or sent.
        found: u64,
        /// The limit in force.
        most: u64,
    },
    /// The bytes end within something.
    #[error("{what} ends too early")]
    Truncated {
        /// Within what.
        what: &'static str,
    },
    /// Bytes that belong to nothing.
    #[error("{count} bytes too many behind {what}")]
    Trailing {
        /// Behind what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A text that is none.
    #[error("{what} is not UTF-8 text")]
    NotText {
        /// Which.
        what: &'static str,
    },
    /// A number that is too large for what it stands for.
    #[error("{what} is {found}, accepted are at most {most}")]
    Number {
        /// What it stands for.
        what: &'static str,
        /// The number.
        found: u64,
        /// The largest there is.
        most: u64,
    },
    /// Versions that cannot be.
    #[error(
        "versions from {oldest} to {newest} are none: the oldest is 1 or later, and not after the newest"
    )]
    Versions {
        /// The oldest, as sent.
        oldest: u16,
        /// The newest, as sent.
        newest: u16,
    },
    /// The destination chose a version that it was not offered.
    #[error("the destination chose version {found} of the protocol, offered was {offered}")]
    Version {
        /// Its choice.
        found: u16,
        /// What it could choose from.
        offered: Versions,
    },
    /// Part of a control message is not what its format says.
    #[error("{what} {fault}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A message that the version agreed on does not have.
    #[error("{message} is not in version {version} of the protocol")]
    Unspeakable {
        /// Its name.
        message: &'static str,
        /// The version.
        version: u16,
    },
    /// The memory of the guest is not laid out as memory can be.
    #[error("the guest's memory makes no layout")]
    Layout(#[from] LayoutError),
}
