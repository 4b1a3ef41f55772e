//! Versions of the protocol.
//!
//! A release speaks the current version and the one before, so that hosts can be brought up to date one after the other,
//! in either order, with guests moving between them. The latest that both speak is taken.

use std::fmt;

use crate::error::WireError;

/// Versions that one side speaks: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The oldest; not 0.
    pub oldest: u16,
    /// The newest; not before the oldest.
    pub newest: u16,
}

impl Versions {
    /// Those that this release speaks. Version 1 is the first, and has none before it.
    pub const SPOKEN: Self = Self { oldest: 1, newest: 1 };

    /// From `oldest` to `newest`.
    ///
    /// # Errors
    ///
    /// [`WireError::Versions`] if these are none.
    pub const fn new(oldest: u16, newest: u16) -> Result<Self, WireError> {
        if oldest == 0 || newest < oldest {
            return Err(WireError::Versions { oldest, newest });
        }
        Ok(Self { oldest, newest })
    }

    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    /// `1`, or `1 to 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.newest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}
