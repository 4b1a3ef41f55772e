//! Ways to slow a guest so that pre-copy can catch up.
//!
//! A policy asks for a [`Throttle`] in its verdict; the ground applies it, and lifts it however the
//! migration ends. What each kind does to a program is the guest's affair (the simulator models it, a
//! live guest shows it). Nothing here reads a clock or measures anything.
//!
//! A dirty limit is more than a setting: [`DirtyLimit`] is the control loop that any ground with a dirty
//! ring runs to hold it.

mod dirty_limit;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{Bandwidth, CpuShare, duration};

pub use self::dirty_limit::DirtyLimit;

/// How long a vCPU runs between two sleeps under QEMU's throttle (`CPU_THROTTLE_TIMESLICE_NS` in
/// `migration/cpu-throttle.c`).
pub const QEMU_RUN: Duration = Duration::from_millis(10);

/// How a guest is slowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Throttle {
    /// Not at all.
    #[default]
    Off,
    /// Every vCPU runs for `run`, then sleeps for `run·share/(1 − share)`, whatever it does (QEMU's
    /// auto-converge).
    DutyCycle {
        /// Share of CPU taken away.
        share: CpuShare,
        /// Length of the running part of a period.
        #[serde(with = "duration")]
        run: Duration,
    },
    /// Every vCPU is made to sleep for `sleep` at a time, so often that `share` of its time is gone: short
    /// sleeps with shorter runs between them (the idea of vSphere's SDPS).
    MicroSleeps {
        /// Share of CPU taken away.
        share: CpuShare,
        /// Length of one sleep.
        #[serde(with = "duration")]
        sleep: Duration,
    },
    /// Every vCPU may dirty no more than `quota`; it pays with sleep whenever its ring of dirty pages is
    /// full, so one that only reads is not slowed (QEMU's dirty limit over KVM's dirty ring).
    DirtyLimit {
        /// The most that a vCPU may dirty, each page at its full size.
        quota: Bandwidth,
        /// How often the sleep of a vCPU is corrected.
        #[serde(with = "duration")]
        period: Duration,
    },
}

impl Throttle {
    /// QEMU's throttle: `share` is taken away in periods of which the vCPU runs 10 ms. No share is off.
    pub fn duty_cycle(share: CpuShare) -> Self {
        if share == CpuShare::NONE { Self::Off } else { Self::DutyCycle { share, run: QEMU_RUN } }
    }

    /// Whether the guest is not slowed.
    pub fn is_off(self) -> bool {
        self == Self::Off
    }

    /// The share of CPU that it takes away, where that is a number: zero for a dirty limit, which takes
    /// more from a vCPU the more it writes.
    pub fn share(self) -> CpuShare {
        match self {
            Self::Off | Self::DirtyLimit { .. } => CpuShare::NONE,
            Self::DutyCycle { share, .. } | Self::MicroSleeps { share, .. } => share,
        }
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::DutyCycle { share, .. } => write!(f, "{:.0} %", share.as_f64() * 100.0),
            Self::MicroSleeps { share, sleep } => {
                write!(f, "{:.0} % in sleeps of {}", share.as_f64() * 100.0, duration::human(*sleep))
            }
            Self::DirtyLimit { quota, .. } => write!(f, "{} a vCPU", quota.human()),
        }
    }
}
