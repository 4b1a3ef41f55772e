//! Points in time of one migration. Given to the machines, policies and simulators as an argument;
//! nothing in this crate reads a clock.

use super::duration;
use super::error::{Quantity, UnitError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

/// Nanoseconds since the migration's origin, on one side's clock.
///
/// Virtual in a simulation and monotonic in a live migration. Lasts 584 years. Stored as an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// The end of time; used for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// A point `nanos` nanoseconds after the origin.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the origin, for reports and plots.
    #[inline]
    pub const fn as_secs_f64(self) -> f64 {
        self.as_duration().as_secs_f64()
    }

    /// The time since the origin.
    #[inline]
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The point `delay` later; `None` beyond [`Timestamp::MAX`].
    #[inline]
    pub fn checked_add(self, delay: Duration) -> Option<Self> {
        self.0.checked_add(duration::whole_nanos(delay)?).map(Self)
    }

    /// The point `delay` later, at most [`Timestamp::MAX`].
    #[inline]
    #[must_use]
    pub fn saturating_add(self, delay: Duration) -> Self {
        self.checked_add(delay).unwrap_or(Self::MAX)
    }

    /// The point `delay` earlier; `None` before the origin.
    #[inline]
    pub fn checked_sub(self, delay: Duration) -> Option<Self> {
        self.0.checked_sub(duration::whole_nanos(delay)?).map(Self)
    }

    /// The point `delay` earlier, at least the origin.
    #[inline]
    #[must_use]
    pub fn saturating_sub(self, delay: Duration) -> Self {
        self.checked_sub(delay).unwrap_or(Self::ZERO)
    }

    /// The time from `earlier` to this point; zero if `earlier` is later.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time from `earlier` to this point; `None` if `earlier` is later.
    #[inline]
    pub const fn checked_since(self, earlier: Self) -> Option<Duration> {
        match self.0.checked_sub(earlier.0) {
            Some(nanos) => Some(Duration::from_nanos(nanos)),
            None => None,
        }
    }

    /// The time since the origin for people: `7.63 s`.
    pub fn human(self) -> String {
        duration::human(self.as_duration())
    }
}

/// Saturates at [`Timestamp::MAX`].
impl Add<Duration> for Timestamp {
    type Output = Self;

    #[inline]
    fn add(self, delay: Duration) -> Self {
        self.saturating_add(delay)
    }
}

impl fmt::Display for Timestamp {
    /// The exact time since the origin: `1.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&duration::format(self.as_duration()))
    }
}

impl FromStr for Timestamp {
    type Err = UnitError;

    /// Reads the time since the origin as a duration.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (written, nanos) = duration::nanos(Quantity::Timestamp, text)?;
        u64::try_from(nanos).map(Self).map_err(|_| written.too_large())
    }
}
