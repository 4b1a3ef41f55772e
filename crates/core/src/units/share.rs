//! Parts of a whole. Used by guest models (zero pages, hot pages) and by throttles.

use super::error::{Quantity, UnitError, excerpt};
use super::number::Written;
use super::pages::Pages;
use super::text::{Described, not_negative, number_serde};
use std::fmt;
use std::str::FromStr;

/// Checks that `value` is from 0 to 1.
fn checked(value: f64) -> Result<f64, UnitError> {
    let value = not_negative(Quantity::Share, value)?;
    if value > 1.0 {
        let text = excerpt(&value.to_string());
        return Err(UnitError::MoreThanOne { quantity: Quantity::Share, text });
    }
    Ok(value)
}

/// Reads `0.3` or `30%`.
fn read(text: &str) -> Result<f64, UnitError> {
    let written = Written::read(Quantity::Share, text)?;
    let value = match written.unit {
        "" => written.float(0),
        "%" => written.float(-2),
        _ => return Err(written.unknown_unit()),
    };
    if value > 1.0 {
        let text = excerpt(written.text);
        return Err(UnitError::MoreThanOne { quantity: Quantity::Share, text });
    }
    Ok(value)
}

/// The shortest digits of `value` with the decimal point moved by two places, and `%`.
///
/// Moving digits instead of multiplying keeps the text exact: 0.07 is `7%`, not `7.000000000000001%`.
fn percent(value: f64) -> String {
    if value == 0.0 {
        return "0%".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent = exponent.parse::<i32>().unwrap_or(0) + 2;
    // Below a ten-millionth of a percent an exponent is easier to read than zeros.
    if exponent < -7 {
        return format!("{mantissa}e{exponent}%");
    }
    let digits = mantissa.replace('.', "");
    if let Ok(behind) = usize::try_from(exponent) {
        let whole = behind + 1;
        return if digits.len() > whole {
            format!("{}.{}%", &digits[..whole], &digits[whole..])
        } else {
            format!("{digits:0<whole$}%")
        };
    }
    let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
    format!("0.{zeros}{digits}%")
}

macro_rules! share {
    ($(#[$doc:meta])* $name:ident, $none:ident, $all:ident) => {
        $(#[$doc])*
        ///
        /// From 0 to 1, both included. Read as `0.3` or `30%`, printed as `30%`, stored as a number.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name(f64);

        impl $name {
            /// Nothing.
            pub const $none: Self = Self(0.0);
            /// The whole.
            pub const $all: Self = Self(1.0);

            /// A share from 0 to 1.
            ///
            /// # Errors
            ///
            /// [`UnitError`] if the number is negative, more than 1, infinite or not a number.
            pub fn new(share: f64) -> Result<Self, UnitError> {
                checked(share).map(Self)
            }

            /// The nearest share: below 0 becomes 0, above 1 becomes 1, not a number becomes 0.
            #[inline]
            pub const fn clamped(share: f64) -> Self {
                if share >= 1.0 {
                    Self(1.0)
                } else if share > 0.0 {
                    Self(share)
                } else {
                    Self(0.0)
                }
            }

            /// A share in percent; above 100 becomes 100.
            #[inline]
            pub const fn percent(percent: u8) -> Self {
                Self::clamped(percent as f64 / 100.0)
            }

            /// The share as a number from 0 to 1.
            #[inline]
            pub const fn as_f64(self) -> f64 {
                self.0
            }

            /// What is left of the whole.
            #[inline]
            #[must_use]
            pub const fn rest(self) -> Self {
                Self(1.0 - self.0)
            }

            /// The sum, at most the whole.
            #[inline]
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self::clamped(self.0 + other.0)
            }

            /// The difference, at least nothing.
            #[inline]
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self::clamped(self.0 - other.0)
            }

            /// The share for people, in percent with one decimal: `33.3%`.
            pub fn human(self) -> String {
                format!("{:.1}%", self.0 * 100.0)
            }
        }

        impl Described for $name {
            const QUANTITY: Quantity = Quantity::Share;
        }

        number_serde!($name);

        impl fmt::Display for $name {
            /// The exact share in percent: `30%`.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&percent(self.0))
            }
        }

        impl FromStr for $name {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                read(text).map(Self)
            }
        }
    };
}

share! {
    /// A part of a whole: of memory, of writes, of pages.
    Share, ZERO, ONE
}

share! {
    /// The part of CPU time that is taken away from the guest, as a throttle does.
    CpuShare, NONE, ALL
}

impl Share {
    /// `part` of `whole`, at most 1; `None` if the whole is nothing.
    pub fn measured(part: Pages, whole: Pages) -> Option<Self> {
        (!whole.is_zero()).then(|| Self::clamped(part.as_f64() / whole.as_f64()))
    }

    /// This share of `pages`, rounded to the nearest page.
    #[inline]
    pub fn of(self, pages: Pages) -> Pages {
        // A float that does not fit becomes u64::MAX; rounding to a float may exceed the whole.
        Pages((pages.as_f64() * self.0).round() as u64).min(pages)
    }
}
