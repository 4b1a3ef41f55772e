//! A look at the running guest before its migration, as QEMU's `calc-dirty-rate` takes one.

use std::time::Duration;

use whimbrel_core::forecast::DirtyCurve;
use whimbrel_core::units::{Timestamp, VcpuSeconds};

use super::{Setup, SimError};
use crate::guest::Guest;

/// The windows of a look, as shares of it: each four times the one before, so that both rounds of a few
/// milliseconds and of seconds are near one.
const WINDOWS: [f64; 4] = [1.0 / 85.0, 4.0 / 85.0, 16.0 / 85.0, 64.0 / 85.0];

/// What a look at a guest showed, and what it cost the guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Distinct pages by the length of the window.
    pub curve: DirtyCurve,
    /// What the guest's vCPUs lost to tracking.
    pub lost: VcpuSeconds,
}

/// Looks at the guest of `setup` for so long: its dirty log is harvested at the end of each of four windows,
/// 1/85, 4/85, 16/85 and 64/85 of the time.
///
/// It is looked at as it is when the migration starts, but draws random numbers of its own: nothing of what
/// chance will bring is given away. The migration itself stays as it is without a look.
///
/// # Errors
///
/// [`SimError::Config`] if the guest is not possible.
pub fn observe(setup: &Setup, time: Duration) -> Result<Look, SimError> {
    let mut guest = Guest::new(&setup.guest, !setup.seed)?;
    guest.start_tracking(Timestamp::ZERO, setup.host.tracking_fault);
    let mut curve = DirtyCurve::default();
    let mut now = Timestamp::ZERO;
    for share in WINDOWS {
        let window = time.mul_f64(share);
        now = now.saturating_add(window);
        curve.observe(window, guest.harvest(now, |_, _| {}).dirty);
    }
    Ok(Look { curve, lost: guest.lost().tracking_faults })
}
