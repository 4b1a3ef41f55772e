//! Why a destination does not take a connection.

use whimbrel_core::units::ByteCount;

use super::{MOST_REST, Versions, split};
use crate::error::WireError;

/// Bytes of a reject behind its prefix, without the text.
const LEN: usize = 24;

/// Bytes of text that fit behind it.
const MOST_TEXT: usize = MOST_REST as usize - LEN;

/// Why a destination does not take a connection. It closes it afterwards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// This is not the token it expects. Found before anything else, and nothing else is told.
    #[error("the destination does not expect this token")]
    Token,
    /// No version in common.
    #[error("the destination speaks version {0} of the protocol")]
    Versions(Versions),
    /// It takes or took another migration with this token.
    #[error("the destination takes one migration a token, and has one")]
    Busy,
    /// A page connection of a migration that is not here.
    #[error("the destination does not know this migration")]
    Migration,
    /// No page connections, too many of them, or one that is there already.
    #[error("the destination takes 1 to {most} page connections, each once")]
    Streams {
        /// The most.
        most: u16,
    },
    /// The guest is larger than what can be given.
    #[error("the destination takes guests of at most {most}")]
    Memory {
        /// The most memory that a guest may have.
        most: ByteCount,
    },
    /// Something else, for a person.
    #[error("the destination refuses: {text}")]
    Other {
        /// [`Reject::OTHER`], or the code of a later version.
        code: u16,
        /// What it says, shortened to what fits.
        text: String,
    },
}

impl Reject {
    /// The code of [`Reject::Other`] that this version sends.
    pub const OTHER: u16 = 7;

    /// Code, two numbers and text.
    fn parts(&self) -> (u16, u64, u64, &str) {
        match self {
            Self::Token => (1, 0, 0, ""),
            Self::Versions(Versions { oldest, newest }) => (2, (*oldest).into(), (*newest).into(), ""),
            Self::Busy => (3, 0, 0, ""),
            Self::Migration => (4, 0, 0, ""),
            Self::Streams { most } => (5, (*most).into(), 0, ""),
            Self::Memory { most } => (6, most.0, 0, ""),
            Self::Other { code, text } => (*code, 0, 0, text),
        }
    }

    /// What goes behind a prefix.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (code, first, second, text) = self.parts();
        let text = text.get(..text.floor_char_boundary(MOST_TEXT)).unwrap_or_default();
        let mut rest = Vec::with_capacity(LEN + text.len());
        rest.extend_from_slice(&code.to_le_bytes());
        rest.extend_from_slice(&(text.len() as u16).to_le_bytes());
        rest.extend_from_slice(&[0; 4]);
        rest.extend_from_slice(&first.to_le_bytes());
        rest.extend_from_slice(&second.to_le_bytes());
        rest.extend_from_slice(text.as_bytes());
        rest
    }

    /// Reads what is behind a prefix. A destination of a later version may have other reasons and append to them, so what has
    /// no meaning here is passed over.
    pub(super) fn decode(rest: &[u8]) -> Result<Self, WireError> {
        let (fixed, behind) = split::<LEN>(rest, "a reject")?;
        let [c0, c1, l0, l1, _, _, _, _, numbers @ ..] = *fixed;
        let [a @ .., _, _, _, _, _, _, _, _] = numbers;
        let [_, _, _, _, _, _, _, _, b @ ..] = numbers;
        let (first, second) = (u64::from_le_bytes(a), u64::from_le_bytes(b));
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let what = "the text of a reject";
        let text = behind.get(..length).ok_or(WireError::Truncated { what })?;
        let text = str::from_utf8(text).map_err(|_| WireError::NotText { what })?;
        let short = |what, number| {
            let most = u16::MAX.into();
            u16::try_from(number).map_err(|_| WireError::Number { what, found: number, most })
        };
        Ok(match u16::from_le_bytes([c0, c1]) {
            1 => Self::Token,
            2 => {
                let what = "a version in a reject";
                Self::Versions(Versions::new(short(what, first)?, short(what, second)?)?)
            }
            3 => Self::Busy,
            4 => Self::Migration,
            5 => Self::Streams { most: short("the page connections in a reject", first)? },
            6 => Self::Memory { most: ByteCount(first) },
            code => Self::Other { code, text: text.to_owned() },
        })
    }
}
