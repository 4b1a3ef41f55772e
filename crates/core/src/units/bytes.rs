//! Sizes. Used wherever memory, messages or traffic are counted; how bits and bytes are told apart
//! is decided here and nowhere else.

use super::error::{Quantity, UnitError};
use super::number::{Unit, Written, shortest};
use super::pages::Pages;
use super::text::{Described, counted, text_serde};
use crate::layout::PageSize;
use std::fmt;
use std::str::FromStr;

/// A number of bytes.
///
/// Read and printed with its unit (`4GiB`); a bare number is refused, because it would be guessed at.
/// `+` and `sum` saturate at [`ByteCount::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// No bytes.
    pub const ZERO: Self = Self(0);
    /// The greatest count, one byte less than 16 EiB.
    pub const MAX: Self = Self(u64::MAX);

    /// `count` KiB; saturates.
    #[inline]
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// `count` MiB; saturates.
    #[inline]
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// `count` GiB; saturates.
    #[inline]
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// How many pages of `size` hold these bytes, rounded up.
    #[inline]
    pub const fn pages(self, size: PageSize) -> Pages {
        Pages(self.0.div_ceil(size.bytes().0))
    }

    /// The count as a float, for ratios and plots; exact below 2⁵³.
    #[inline]
    pub const fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// The size for people, rounded to one decimal: `465.7 MiB`.
    pub fn human(self) -> String {
        const NAMES: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.as_f64();
        if value < 1024.0 {
            return format!("{} B", self.0);
        }
        let mut name = "B";
        for next in NAMES {
            // 1023.95 would be printed as 1024.0.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            name = next;
        }
        format!("{value:.1} {name}")
    }
}

counted!(ByteCount);

impl Described for ByteCount {
    const QUANTITY: Quantity = Quantity::Bytes;
}

text_serde!(ByteCount, u64, |count: ByteCount| count.0, |raw| Ok(ByteCount(raw)));

/// Exact printing: of binary and decimal units the shortest text, binary first.
const UNITS: [Unit; 12] = [
    (1 << 60, "EiB"),
    (1 << 50, "PiB"),
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
    (1_000_000_000_000_000_000, "EB"),
    (1_000_000_000_000_000, "PB"),
    (1_000_000_000_000, "TB"),
    (1_000_000_000, "GB"),
    (1_000_000, "MB"),
    (1_000, "kB"),
];

impl fmt::Display for ByteCount {
    /// The shortest exact form: `4GiB`, `1.5GB`, `4097B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shortest(self.0.into(), &UNITS, (1, "B")))
    }
}

impl FromStr for ByteCount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let written = Written::read(Quantity::Bytes, text)?;
        match Information::read(written.unit) {
            Information::Bytes(unit) => {
                let value = written.scaled(unit, 1)?;
                u64::try_from(value).map(Self).map_err(|_| written.too_large())
            }
            Information::None => Err(written.missing_unit()),
            Information::Ambiguous => Err(written.bits_or_bytes()),
            Information::Bits(_) | Information::Unknown => Err(written.unknown_unit()),
        }
    }
}

/// What a unit of information means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Information {
    /// No unit at all.
    None,
    /// This many bytes.
    Bytes(u64),
    /// This many bits.
    Bits(u64),
    /// Bits to some people and bytes to others.
    Ambiguous,
    /// No unit that we know.
    Unknown,
}

impl Information {
    /// Reads `B`, `kB`, `MiB`, `Gbit`, …
    pub(super) fn read(unit: &str) -> Self {
        let lower = unit.to_ascii_lowercase();
        let stem = |suffix: &str| lower.strip_suffix(suffix).and_then(prefix);
        if unit.is_empty() {
            Self::None
        } else if let Some(factor) = stem("bits").or_else(|| stem("bit")) {
            Self::Bits(factor)
        } else if let Some(factor) = stem("bytes").or_else(|| stem("byte")) {
            Self::Bytes(factor)
        } else if let Some(factor) = stem("b") {
            if unit.ends_with('B') { Self::Bytes(factor) } else { Self::Ambiguous }
        } else {
            Self::Unknown
        }
    }
}

/// The factor of a prefix in lower case.
fn prefix(stem: &str) -> Option<u64> {
    let (letter, base) = match stem.strip_suffix('i') {
        Some(letter) => (letter, 1024_u64),
        None => (stem, 1000),
    };
    let power = match letter {
        // A lone `i` is no prefix.
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    Some(base.pow(power))
}
