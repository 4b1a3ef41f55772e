//! What a live migration can do with a guest: all that the engine does itself, and what the guest says that it can be slowed by.

use std::time::Duration;

use whimbrel_core::embed::Guest;
use whimbrel_core::progress::Capabilities;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, CpuShare};

/// As little as can be asked for, for as long as it takes to ask.
const LITTLE: CpuShare = CpuShare::percent(1);

/// What there is for this guest, which runs. It is asked by slowing it by a hundredth for a moment.
pub(crate) fn of(guest: &mut dyn Guest) -> Capabilities {
    let mut can = |throttle| {
        let can = guest.throttle(throttle).unwrap_or(false);
        // One that cannot be let go of again must not be slowed at all.
        guest.throttle(Throttle::Off).unwrap_or(false) && can
    };
    let sleep = Duration::from_micros(100);
    Capabilities {
        throttle: can(Throttle::duty_cycle(LITTLE)) && can(Throttle::MicroSleeps { share: LITTLE, sleep }),
        dirty_limit: can(Throttle::DirtyLimit { quota: Bandwidth::FASTEST, period: Duration::from_secs(1) }),
        // Pages cannot be fetched behind the handover yet.
        post_copy: false,
        harvest_on_demand: true,
        pause: true,
    }
}
