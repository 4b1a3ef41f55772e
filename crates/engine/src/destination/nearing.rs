//! When the bulk round is about to end: the guest may come right behind it, and its record should not find a disk asleep.
//!
//! Nobody tells a destination which round is the last, and the end of one comes too late to wake a disk. But of the first it knows
//! how much there is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use whimbrel_core::units::Pages;

use crate::stable::AHEAD;

/// Counts pages until the bulk round is nearly over. All page streams share one.
pub(super) struct Nearing {
    began: Instant,
    all: u64,
    came: AtomicU64,
    told: AtomicBool,
}

impl Nearing {
    pub(super) fn new(all: Pages) -> Self {
        Self { began: Instant::now(), all: all.0, came: AtomicU64::new(0), told: AtomicBool::new(false) }
    }

    /// So many have come; says once that the rest will be here soon.
    pub(super) fn count(&self, pages: Pages) -> bool {
        if self.told.load(Ordering::Relaxed) {
            return false;
        }
        let came = self.came.fetch_add(pages.0, Ordering::Relaxed).saturating_add(pages.0);
        is_near(came, self.all, self.began.elapsed()) && !self.told.swap(true, Ordering::Relaxed)
    }
}

/// Whether what is left comes within [`AHEAD`], if it comes as fast as what came in this time.
fn is_near(came: u64, all: u64, took: Duration) -> bool {
    let left = all.saturating_sub(came);
    u128::from(left).saturating_mul(took.as_nanos()) <= AHEAD.as_nanos() * u128::from(came)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_near_when_it_comes_within_the_time_ahead() {
        // 1,000 pages/s.
        let second = Duration::from_secs(1);
        let left = AHEAD.as_millis() as u64;
        assert!(is_near(1000, 1000 + left, second));
        assert!(!is_near(1000, 1000 + left + 1, second));
        // Nothing came yet, or more than there is.
        assert!(!is_near(0, 1, Duration::from_nanos(1)));
        assert!(is_near(2, 1, second));
        assert!(is_near(u64::MAX, u64::MAX, Duration::MAX) && !is_near(1, u64::MAX, Duration::MAX));
    }

    #[test]
    fn it_is_said_once() {
        let nearing = Nearing::new(Pages(100));
        // Whatever the time: all of it is here.
        assert!(nearing.count(Pages(100)));
        assert!(!nearing.count(Pages(1)));
        let nothing = Nearing::new(Pages(u64::MAX));
        assert!(!nothing.count(Pages(1)));
    }
}
