//! Pages and pages per second. Used by the dirty sets, the statistics and the guest models.

use super::bytes::ByteCount;
use super::error::{Quantity, UnitError};
use super::number::{Written, float_text};
use super::text::{Described, counted, not_negative, number_serde};
use crate::layout::PageSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of guest pages. Not a byte count and not a page number.
///
/// `+` and `sum` saturate at [`Pages::MAX`]. Stored as an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pages(pub u64);

impl Pages {
    /// No pages.
    pub const ZERO: Self = Self(0);
    /// The greatest count.
    pub const MAX: Self = Self(u64::MAX);

    /// The memory that these pages hold; saturates.
    #[inline]
    pub const fn bytes(self, size: PageSize) -> ByteCount {
        ByteCount(self.0.saturating_mul(size.bytes().0))
    }

    /// The memory that these pages hold; `None` if it does not fit.
    #[inline]
    pub const fn checked_bytes(self, size: PageSize) -> Option<ByteCount> {
        match self.0.checked_mul(size.bytes().0) {
            Some(bytes) => Some(ByteCount(bytes)),
            None => None,
        }
    }

    /// The count as a float, for ratios and plots; exact below 2⁵³.
    #[inline]
    pub const fn as_f64(self) -> f64 {
        self.0 as f64
    }
}

counted!(Pages);

impl fmt::Display for Pages {
    /// `1024 pages`, `1 page`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.0 == 1 { "page" } else { "pages" };
        f.pad(&format!("{} {name}", self.0))
    }
}

impl FromStr for Pages {
    type Err = UnitError;

    /// Reads `1024` or `1024 pages`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let written = Written::read(Quantity::Pages, text)?;
        match written.unit.to_ascii_lowercase().as_str() {
            "" | "page" | "pages" => written.count().map(Self),
            _ => Err(written.unknown_unit()),
        }
    }
}

/// Pages per second: finite and never negative.
///
/// A float, because rates are measured over short windows and averaged. Stored as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PageRate(f64);

impl PageRate {
    /// Nothing is written.
    pub const ZERO: Self = Self(0.0);

    /// A rate in pages per second.
    ///
    /// # Errors
    ///
    /// [`UnitError`] if the number is negative, infinite or not a number.
    pub fn new(pages_per_second: f64) -> Result<Self, UnitError> {
        not_negative(Quantity::PageRate, pages_per_second).map(Self)
    }

    /// `pages` in `time`; `None` if no time passed.
    #[inline]
    pub fn measured(pages: Pages, time: Duration) -> Option<Self> {
        // At least a nanosecond and at most 2^64 pages: always finite.
        (!time.is_zero()).then(|| Self(pages.as_f64() / time.as_secs_f64()))
    }

    /// The rate in pages per second.
    #[inline]
    pub const fn per_second(self) -> f64 {
        self.0
    }

    /// The rate in bytes per second, to compare with a [`Bandwidth`](super::Bandwidth).
    #[inline]
    pub fn bytes_per_second(self, size: PageSize) -> f64 {
        (self.0 * size.bytes().as_f64()).min(f64::MAX)
    }

    /// Pages expected in `time`, rounded down; saturates.
    #[inline]
    pub fn pages_in(self, time: Duration) -> Pages {
        // A float that does not fit becomes u64::MAX.
        Pages((self.0 * time.as_secs_f64()) as u64)
    }

    /// The rate for people, in whole pages: `20000 pages/s`.
    pub fn human(self) -> String {
        format!("{:.0} pages/s", self.0)
    }
}

impl Described for PageRate {
    const QUANTITY: Quantity = Quantity::PageRate;
}

number_serde!(PageRate);

impl fmt::Display for PageRate {
    /// `20000 pages/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} pages/s", float_text(self.0)))
    }
}

impl FromStr for PageRate {
    type Err = UnitError;

    /// Reads `20000` or `20000 pages/s`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let written = Written::read(Quantity::PageRate, text)?;
        match written.unit.to_ascii_lowercase().as_str() {
            "" | "pages/s" | "page/s" => {
                let value = written.float(0);
                if value.is_finite() { Ok(Self(value)) } else { Err(written.too_large()) }
            }
            _ => Err(written.unknown_unit()),
        }
    }
}
