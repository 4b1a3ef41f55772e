//! What the unit types have in common: serde as people write it, and saturating arithmetic.

use super::error::{Quantity, UnitError, excerpt};
use serde::de::{self, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// A type that can say what it is when a file holds something else.
pub(super) trait Described {
    const QUANTITY: Quantity;
}

fn expecting<T: Described>(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "a {} like {}", T::QUANTITY, T::QUANTITY.accepted())
}

/// Checks that `value` is finite and not negative; minus zero becomes zero.
pub(super) fn not_negative(quantity: Quantity, value: f64) -> Result<f64, UnitError> {
    let text = || excerpt(&value.to_string());
    if !value.is_finite() {
        Err(UnitError::NotFinite { quantity, text: text() })
    } else if value < 0.0 {
        Err(UnitError::Negative { quantity, text: text() })
    } else {
        Ok(value + 0.0)
    }
}

/// Reads text only: a bare number would have to be guessed at.
pub(super) struct TextVisitor<T>(PhantomData<T>);

impl<T> TextVisitor<T> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Described + FromStr<Err = UnitError>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expecting::<T>(f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Reads a bare number, or text.
pub(super) struct NumberVisitor<T>(PhantomData<T>);

impl<T> NumberVisitor<T> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Visitor<'_> for NumberVisitor<T>
where
    T: Described + FromStr<Err = UnitError> + TryFrom<f64, Error = UnitError>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expecting::<T>(f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        T::try_from(value).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.visit_f64(value as f64)
    }
}

/// Serde as text; as `$raw` where the format is not for people.
macro_rules! text_serde {
    ($name:ident, $raw:ty, $to_raw:expr, $from_raw:expr) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    let to_raw: fn($name) -> $raw = $to_raw;
                    to_raw(*self).serialize(serializer)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str($crate::units::text::TextVisitor::<$name>::new())
                } else {
                    let from_raw: fn($raw) -> Result<$name, UnitError> = $from_raw;
                    from_raw(<$raw>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
                }
            }
        }
    };
}

/// For types around a checked `f64` with `new`: serde as a number, text read as well, and order.
macro_rules! number_serde {
    ($name:ident) => {
        // Never NaN and never minus zero, so that equality is what it seems.
        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.total_cmp(&other.0)
            }
        }

        impl TryFrom<f64> for $name {
            type Error = UnitError;

            fn try_from(value: f64) -> Result<Self, UnitError> {
                Self::new(value)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_f64(self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    deserializer.deserialize_any($crate::units::text::NumberVisitor::<$name>::new())
                } else {
                    Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
                }
            }
        }
    };
}

/// Arithmetic of a count around a public `u64`. Nothing here can panic.
macro_rules! counted {
    ($name:ident) => {
        impl $name {
            /// The sum; `None` if it does not fit.
            #[inline]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The difference; `None` below zero.
            #[inline]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }

            /// The sum, at most the greatest count.
            #[inline]
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, at least zero.
            #[inline]
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// Whether there are none.
            #[inline]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        /// Saturates at the greatest count.
        impl std::ops::Add for $name {
            type Output = Self;

            #[inline]
            fn add(self, other: Self) -> Self {
                self.saturating_add(other)
            }
        }

        impl std::ops::AddAssign for $name {
            #[inline]
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
                counts.fold(Self::ZERO, Self::saturating_add)
            }
        }
    };
}

pub(super) use {counted, number_serde, text_serde};
