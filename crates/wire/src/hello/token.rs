//! What tells the destination that a peer is the one it waits for.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

use crate::error::WireError;
use crate::limits::Limit;

/// The most bytes in a token.
pub const MOST_TOKEN: usize = 64;

/// A secret that source and destination were both given, of 1 to [`MOST_TOKEN`] bytes.
///
/// Comparing takes the same time whatever the two have in common, so that nobody can guess it byte by byte. On a
/// connection that is not encrypted it can be read by whoever reads along.
#[derive(Clone)]
pub struct Token {
    /// The token, then zeroes: all tokens are compared over the same length.
    bytes: [u8; MOST_TOKEN],
    length: u8,
}

impl Token {
    /// A token of these bytes.
    ///
    /// # Errors
    ///
    /// [`WireError`] if there is none, or more than [`MOST_TOKEN`].
    pub fn new(token: &[u8]) -> Result<Self, WireError> {
        if token.is_empty() {
            return Err(WireError::Truncated { what: "an empty token" });
        }
        let mut bytes = [0; MOST_TOKEN];
        let found = token.len() as u64;
        let too_much = WireError::TooMuch { limit: Limit::Token, found, most: MOST_TOKEN as u64 };
        bytes.get_mut(..token.len()).ok_or(too_much)?.copy_from_slice(token);
        Ok(Self { bytes, length: token.len() as u8 })
    }

    /// The token's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Whether they are the same, found in a time that does not depend on it.
    pub fn matches(&self, other: &Self) -> bool {
        let same: Choice = self.bytes.ct_eq(&other.bytes) & self.length.ct_eq(&other.length);
        same.into()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    /// Not the token itself: what is printed is kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
