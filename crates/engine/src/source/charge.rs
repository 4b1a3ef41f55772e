//! The guest in the driver's charge, and what sees its writes.
//!
//! A driver calls an embedder's code all the time: policy, observer, memory, the guest itself. Where any of it panics, the
//! driver is unwound and nobody carries out what the machine would ask for. The guest must not stay paused, slowed or tracked
//! for that, as long as it belongs here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use whimbrel_core::embed::{DirtyLog, Guest};
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::throttle::Throttle;

/// See the [module](self).
pub(super) struct Charge<'a> {
    pub(super) guest: &'a mut dyn Guest,
    pub(super) log: &'a mut dyn DirtyLog,
    ours: bool,
}

impl<'a> Charge<'a> {
    /// A guest that runs here.
    pub(super) fn new(guest: &'a mut dyn Guest, log: &'a mut dyn DirtyLog) -> Self {
        Self { guest, log, ours: true }
    }

    /// Who may run it now. To be told before anything is done about it.
    pub(super) fn belongs(&mut self, right: Right) {
        self.ours = right == Right::Mine;
    }

    /// Whoever leaves it, as it is, paused, does not go on to track or to slow it.
    pub(super) fn leave(&mut self) {
        // Nobody is left to hear that it failed.
        let _ = self.guest.throttle(Throttle::Off);
        let _ = self.log.stop();
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if !thread::panicking() || !self.ours {
            return;
        }
        // One of these may be what has panicked, and must not keep the others from being done.
        let _ = catch_unwind(AssertUnwindSafe(|| self.guest.throttle(Throttle::Off)));
        let _ = catch_unwind(AssertUnwindSafe(|| self.log.stop()));
        let _ = catch_unwind(AssertUnwindSafe(|| self.guest.resume()));
    }
}
