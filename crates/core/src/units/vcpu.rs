//! The currency of guest disruption. Used by the reports to add up throttling, pauses and stalls.

use super::error::{Quantity, UnitError};
use super::number::{Written, float_text, three_figures};
use super::share::CpuShare;
use super::text::{Described, not_negative, number_serde};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;
use std::time::Duration;

/// Seconds of one virtual CPU: finite and never negative.
///
/// Two vCPUs paused for a second have lost two. `+` and `sum` saturate. Stored as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VcpuSeconds(f64);

impl VcpuSeconds {
    /// Nothing lost.
    pub const ZERO: Self = Self(0.0);

    /// An amount in seconds of one vCPU.
    ///
    /// # Errors
    ///
    /// [`UnitError`] if the number is negative, infinite or not a number.
    #[inline]
    pub fn new(seconds: f64) -> Result<Self, UnitError> {
        not_negative(Quantity::VcpuSeconds, seconds).map(Self)
    }

    /// What `vcpus` lose while `share` of their time is taken away for `time`.
    ///
    /// A pause takes [`CpuShare::ALL`].
    pub fn lost(vcpus: u32, share: CpuShare, time: Duration) -> Self {
        Self(f64::from(vcpus) * share.as_f64() * time.as_secs_f64())
    }

    /// The amount in seconds of one vCPU.
    #[inline]
    pub const fn as_f64(self) -> f64 {
        self.0
    }

    /// The amount for people: `7.63 vcpu-s`.
    pub fn human(self) -> String {
        format!("{} vcpu-s", three_figures(self.0))
    }
}

impl Add for VcpuSeconds {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self((self.0 + other.0).min(f64::MAX))
    }
}

impl AddAssign for VcpuSeconds {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for VcpuSeconds {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl Described for VcpuSeconds {
    const QUANTITY: Quantity = Quantity::VcpuSeconds;
}

number_serde!(VcpuSeconds);

impl fmt::Display for VcpuSeconds {
    /// `1.5 vcpu-s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} vcpu-s", float_text(self.0)))
    }
}

impl FromStr for VcpuSeconds {
    type Err = UnitError;

    /// Reads `1.5` or `1.5 vcpu-s`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let written = Written::read(Quantity::VcpuSeconds, text)?;
        match written.unit.to_ascii_lowercase().as_str() {
            "" | "vcpu-s" | "vcpu-seconds" => {
                let value = written.float(0);
                if value.is_finite() { Ok(Self(value)) } else { Err(written.too_large()) }
            }
            _ => Err(written.unknown_unit()),
        }
    }
}
