//! Reading and printing [`Duration`], and the serde form of it.
//!
//! Used by scenario files and options, and with `#[serde(with = "units::duration")]` by every record
//! that holds a duration. It must stay exact to the nanosecond.

use super::error::{Quantity, UnitError};
use super::number::{Written, three_figures};
use super::text::{Described, TextVisitor};
use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

const NANO: u64 = 1;
const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The nanoseconds of a duration; none beyond 584 years. Without 128-bit numbers, because it is done everywhere.
#[inline]
pub(crate) fn whole_nanos(duration: Duration) -> Option<u64> {
    duration.as_secs().checked_mul(SECOND)?.checked_add(u64::from(duration.subsec_nanos()))
}

/// Reads `300ms`, `0.2ms`, `1.5s`, `10min`, `1h`, `50us`, `50µs`, rounded to the nearest nanosecond.
///
/// # Errors
///
/// [`UnitError`] if the text has no number or no known unit, is negative, or does not fit.
pub fn parse(text: &str) -> Result<Duration, UnitError> {
    let (written, nanos) = nanos(Quantity::Duration, text)?;
    let seconds = u64::try_from(nanos / u128::from(SECOND)).map_err(|_| written.too_large())?;
    Ok(Duration::new(seconds, (nanos % u128::from(SECOND)) as u32))
}

/// Reads a duration in nanoseconds, for [`parse`] and for timestamps.
pub(super) fn nanos(quantity: Quantity, text: &str) -> Result<(Written<'_>, u128), UnitError> {
    let written = Written::read(quantity, text)?;
    let unit = match written.unit.to_ascii_lowercase().as_str() {
        "" => return Err(written.missing_unit()),
        "ns" | "nanosecond" | "nanoseconds" => NANO,
        // Two characters look the same: the micro sign and the Greek letter.
        "us" | "µs" | "μs" | "microsecond" | "microseconds" => MICRO,
        "ms" | "millisecond" | "milliseconds" => MILLI,
        "s" | "sec" | "second" | "seconds" => SECOND,
        "min" | "minute" | "minutes" => MINUTE,
        "h" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        _ => return Err(written.unknown_unit()),
    };
    let nanos = written.scaled(unit, 1)?;
    Ok((written, nanos))
}

/// The exact text of `value`, which [`parse`] reads back: `300ms`, `1.5s`, `10min`, `1h`.
///
/// Hours and minutes are used when they come out whole; below a minute, decimals of the largest
/// unit that fits.
pub fn format(value: Duration) -> String {
    let (seconds, nanos) = (value.as_secs(), value.subsec_nanos());
    if value.is_zero() {
        return "0s".to_owned();
    }
    if nanos == 0 && seconds.is_multiple_of(3600) {
        return format!("{}h", seconds / 3600);
    }
    if nanos == 0 && seconds.is_multiple_of(60) {
        return format!("{}min", seconds / 60);
    }
    let (whole, rest, places, unit) = if seconds > 0 {
        (seconds, nanos, 9, "s")
    } else if nanos >= 1_000_000 {
        (u64::from(nanos / 1_000_000), nanos % 1_000_000, 6, "ms")
    } else if nanos >= 1_000 {
        (u64::from(nanos / 1_000), nanos % 1_000, 3, "us")
    } else {
        (u64::from(nanos), 0, 0, "ns")
    };
    if rest == 0 {
        return format!("{whole}{unit}");
    }
    let decimals = format!("{rest:0places$}");
    format!("{whole}.{}{unit}", decimals.trim_end_matches('0'))
}

/// The duration for people, rounded to about three figures: `302 ms`, `7.63 s`, `2 min 5 s`.
pub fn human(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    // Each limit is where three figures would be rounded up to the next unit.
    if value.is_zero() {
        "0 s".to_owned()
    } else if seconds < 999.5e-9 {
        format!("{} ns", value.as_nanos())
    } else if seconds < 999.5e-6 {
        format!("{} µs", three_figures(seconds * 1e6))
    } else if seconds < 0.9995 {
        format!("{} ms", three_figures(seconds * 1e3))
    } else if seconds < 99.95 {
        format!("{} s", three_figures(seconds))
    } else {
        let whole = value.as_secs().saturating_add(u64::from(value.subsec_nanos() >= 500_000_000));
        let (minutes, seconds) = (whole / 60, whole % 60);
        if minutes < 60 {
            format!("{minutes} min {seconds} s")
        } else {
            let minutes = minutes + u64::from(seconds >= 30);
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
    }
}

/// Writes a duration as text; in binary formats as seconds and nanoseconds.
///
/// # Errors
///
/// Whatever the serializer reports.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&format(*value))
    } else {
        serde::Serialize::serialize(value, serializer)
    }
}

/// Reads a duration as [`serialize`] writes it.
///
/// # Errors
///
/// The deserializer's error, with the [`UnitError`] as its text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(TextVisitor::<DurationText>::new()).map(|text| text.0)
    } else {
        Duration::deserialize(deserializer)
    }
}

/// The same for `Option<Duration>`: `#[serde(with = "units::duration::option")]`.
pub mod option {
    use super::DurationText;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    /// Writes the duration as text, or nothing (`null`).
    ///
    /// # Errors
    ///
    /// Whatever the serializer reports.
    // By reference, because this is how serde calls it.
    #[allow(clippy::ref_option)]
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(DurationText).serialize(serializer)
    }

    /// Reads what [`serialize`] wrote.
    ///
    /// # Errors
    ///
    /// The deserializer's error, with the `UnitError` as its text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<DurationText>::deserialize(deserializer)?.map(|text| text.0))
    }
}

/// A duration on its way through serde.
struct DurationText(Duration);

impl Described for DurationText {
    const QUANTITY: Quantity = Quantity::Duration;
}

impl serde::Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

impl std::str::FromStr for DurationText {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text).map(Self)
    }
}
