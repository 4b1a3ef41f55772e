//! Transfer rates. Used by links, rate limits and every estimate of how long sending takes.

use super::bytes::{ByteCount, Information};
use super::duration::whole_nanos;
use super::error::{Quantity, UnitError};
use super::number::{Unit, Written, shortest};
use super::text::{Described, text_serde};
use super::time::Timestamp;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A transfer rate in bytes per second; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(NonZeroU64);

impl Bandwidth {
    /// The slowest rate, one byte per second.
    pub const SLOWEST: Self = Self(NonZeroU64::MIN);
    /// The fastest rate that can be written.
    pub const FASTEST: Self = Self(NonZeroU64::MAX);

    /// A rate in bytes per second.
    #[inline]
    pub const fn from_bytes_per_second(rate: NonZeroU64) -> Self {
        Self(rate)
    }

    /// A rate in bytes per second; `None` for zero.
    #[inline]
    pub const fn new(bytes_per_second: u64) -> Option<Self> {
        match NonZeroU64::new(bytes_per_second) {
            Some(rate) => Some(Self(rate)),
            None => None,
        }
    }

    /// `bytes` in `time`, in whole bytes per second, rounded down; saturates.
    ///
    /// `None` if no time passed, or less than one byte per second was seen: no rate is known then.
    pub fn measured(bytes: ByteCount, time: Duration) -> Option<Self> {
        match whole_nanos(time) {
            Some(nanos) => Self::measured_in(bytes, nanos),
            // Beyond 584 years.
            None => Self::measured_slowly(bytes, time.as_nanos()),
        }
    }

    /// `bytes` from `since` to `until`, as [`Bandwidth::measured`].
    #[inline]
    pub(crate) fn measured_between(bytes: ByteCount, since: Timestamp, until: Timestamp) -> Option<Self> {
        Self::measured_in(bytes, until.as_nanos().saturating_sub(since.as_nanos()))
    }

    #[inline]
    fn measured_in(bytes: ByteCount, nanos: u64) -> Option<Self> {
        // Below 18 GB, as nearly always, 64 bits do; 128-bit division is a slow library call.
        match bytes.0.checked_mul(NANOS_PER_SECOND) {
            Some(product) => Self::new(product.checked_div(nanos)?),
            None => Self::measured_slowly(bytes, nanos.into()),
        }
    }

    #[cold]
    fn measured_slowly(bytes: ByteCount, nanos: u128) -> Option<Self> {
        let rate = (u128::from(bytes.0) * u128::from(NANOS_PER_SECOND)).checked_div(nanos)?;
        Self::new(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// The rate in bytes per second.
    #[inline]
    pub const fn bytes_per_second(self) -> u64 {
        self.0.get()
    }

    /// The rate in bytes per second as a float, for estimates and plots.
    #[inline]
    pub const fn as_f64(self) -> f64 {
        self.0.get() as f64
    }

    /// Time to send `bytes` at this rate, rounded up to a nanosecond.
    ///
    /// Rounding up keeps every downtime estimate pessimistic. Saturates after 584 years.
    #[inline]
    pub fn time_to_send(self, bytes: ByteCount) -> Duration {
        // Below 18 GB, as nearly always, 64 bits do; 128-bit division is a slow library call.
        if let Some(product) = bytes.0.checked_mul(NANOS_PER_SECOND) {
            return Duration::from_nanos(product.div_ceil(self.0.get()));
        }
        let product = u128::from(bytes.0) * u128::from(NANOS_PER_SECOND);
        let nanos = product.div_ceil(u128::from(self.0.get()));
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// Bytes sent in `time` at this rate, rounded down; saturates.
    #[inline]
    pub fn bytes_in(self, time: Duration) -> ByteCount {
        let rate = self.0.get();
        let whole = time.as_secs().saturating_mul(rate);
        let nanos = u64::from(time.subsec_nanos());
        let rest = match rate.checked_mul(nanos) {
            Some(product) => product / NANOS_PER_SECOND,
            // Less than `rate`, so it fits.
            None => (u128::from(rate) * u128::from(nanos) / u128::from(NANOS_PER_SECOND)) as u64,
        };
        ByteCount(whole.saturating_add(rest))
    }

    /// The sum of two rates; saturates.
    #[inline]
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0.get()))
    }

    /// What is left of this rate when `other` is taken; `None` if nothing is.
    #[inline]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.get().checked_sub(other.0.get()) {
            Some(rest) => Self::new(rest),
            None => None,
        }
    }

    /// The rate for people, in bits as links are sold: `937.5 Mbit/s`.
    pub fn human(self) -> String {
        const NAMES: [&str; 6] = ["kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s"];
        let mut value = self.as_f64() * 8.0;
        if value < 1000.0 {
            return format!("{value:.0} bit/s");
        }
        let mut name = "bit/s";
        for next in NAMES {
            // 999.95 would be printed as 1000.0.
            if value < 999.95 {
                break;
            }
            value /= 1000.0;
            name = next;
        }
        format!("{value:.1} {name}")
    }
}

impl Described for Bandwidth {
    const QUANTITY: Quantity = Quantity::Bandwidth;
}

text_serde!(Bandwidth, u64, |rate: Bandwidth| rate.bytes_per_second(), |raw| Bandwidth::new(raw)
    .ok_or_else(|| UnitError::Zero { quantity: Quantity::Bandwidth, text: "0".into() }));

/// Exact printing, in bits: of decimal bits, binary bytes and decimal bytes the shortest text.
const UNITS: [Unit; 18] = [
    (1_000_000_000_000_000_000, "Ebit/s"),
    (1_000_000_000_000_000, "Pbit/s"),
    (1_000_000_000_000, "Tbit/s"),
    (1_000_000_000, "Gbit/s"),
    (1_000_000, "Mbit/s"),
    (1_000, "kbit/s"),
    (8 << 60, "EiB/s"),
    (8 << 50, "PiB/s"),
    (8 << 40, "TiB/s"),
    (8 << 30, "GiB/s"),
    (8 << 20, "MiB/s"),
    (8 << 10, "KiB/s"),
    (8_000_000_000_000_000_000, "EB/s"),
    (8_000_000_000_000_000, "PB/s"),
    (8_000_000_000_000, "TB/s"),
    (8_000_000_000, "GB/s"),
    (8_000_000, "MB/s"),
    (8_000, "kB/s"),
];

impl fmt::Display for Bandwidth {
    /// The shortest exact form: `1Gbit/s`, `64MiB/s`, `1MB/s`, `1001B/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shortest(u128::from(self.0.get()) * 8, &UNITS, (8, "B/s")))
    }
}

impl FromStr for Bandwidth {
    type Err = UnitError;

    /// Reads bits or bytes per second. `/s` may be left out behind bits only, as `1Gbit` is a link
    /// but `4GiB` more likely a size in the wrong place.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let written = Written::read(Quantity::Bandwidth, text)?;
        let (unit, per_second) = match written.unit.strip_suffix("/s") {
            Some(unit) => (unit.trim_end(), true),
            None => (written.unit, false),
        };
        let value = match Information::read(unit) {
            Information::Bits(unit) => written.scaled(unit, 8)?,
            Information::Bytes(unit) if per_second => written.scaled(unit, 1)?,
            Information::None if !per_second => return Err(written.missing_unit()),
            Information::Ambiguous => return Err(written.bits_or_bytes()),
            _ if bits_per_second_or_bytes(unit) => return Err(written.bits_or_bytes()),
            _ => return Err(written.unknown_unit()),
        };
        let value = u64::try_from(value).map_err(|_| written.too_large())?;
        Self::new(value).ok_or_else(|| written.zero())
    }
}

/// `Gbps` and its kin, which some write for bits and some for bytes.
fn bits_per_second_or_bytes(unit: &str) -> bool {
    let lower = unit.to_ascii_lowercase();
    lower.strip_suffix("ps").is_some_and(|stem| Information::read(stem) == Information::Ambiguous)
}
