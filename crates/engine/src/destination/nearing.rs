//! When the bulk round is about to end: the guest may come right behind it, and its record should not find a disk asleep.
//!
//! Nobody tells a destination which round is the last, and the end of one comes too late to wake a disk. But of the first it knows
//! how much there is, and from the first pages on how fast it comes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use whimbrel_core::units::Pages;

use crate::stable::AHEAD;

/// What came in less time says nothing of how fast pages come: each stream may have had a frame ready.
const WATCHED: Duration = Duration::from_millis(5);

/// Counts pages until the bulk round is nearly over. All page streams share one.
pub(super) struct Nearing {
    all: u64,
    came: AtomicU64,
    /// When the first pages came, and how many: how long they took nobody knows.
    began: OnceLock<(Instant, u64)>,
    told: AtomicBool,
}

impl Nearing {
    pub(super) fn new(all: Pages) -> Self {
        Self { all: all.0, came: AtomicU64::new(0), began: OnceLock::new(), told: AtomicBool::new(false) }
    }

    /// So many have come; says once that the rest will be here soon.
    pub(super) fn count(&self, pages: Pages) -> bool {
        !self.told.load(Ordering::Relaxed) && self.count_at(pages, Instant::now())
    }

    fn count_at(&self, pages: Pages, now: Instant) -> bool {
        let came = self.came.fetch_add(pages.0, Ordering::Relaxed).saturating_add(pages.0);
        let (began, first) = *self.began.get_or_init(|| (now, came));
        let (left, watched) = (self.all.saturating_sub(came), came.saturating_sub(first));
        is_near(left, watched, now.saturating_duration_since(began))
            && !self.told.swap(true, Ordering::Relaxed)
    }
}

/// Whether what is left comes within [`AHEAD`], if it comes as fast as what came in this time.
fn is_near(left: u64, came: u64, took: Duration) -> bool {
    let soon = || u128::from(left).saturating_mul(took.as_nanos()) <= AHEAD.as_nanos() * u128::from(came);
    left == 0 || took >= WATCHED && soon()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_near_when_it_comes_within_the_time_ahead() {
        // 1,000 pages/s.
        let second = Duration::from_secs(1);
        let left = AHEAD.as_millis() as u64;
        assert!(is_near(left, 1000, second));
        assert!(!is_near(left + 1, 1000, second));
        // Nothing came yet, or all of it, or in no time.
        assert!(!is_near(1, 0, Duration::ZERO) && !is_near(1, 0, second));
        assert!(is_near(0, 0, Duration::ZERO));
        assert!(!is_near(1, 1000, WATCHED * 99 / 100) && is_near(1, 1000, WATCHED));
        assert!(!is_near(u64::MAX, 1, Duration::MAX) && is_near(u64::MAX, u64::MAX, second / 20));
    }

    /// A source may take a while until it sends the first page, and then they come as fast as they come.
    #[test]
    fn what_was_waited_before_the_first_page_is_no_time_in_which_pages_came() {
        let (nearing, first) = (Nearing::new(Pages(1000)), Instant::now() + Duration::from_secs(10));
        let count = |pages, millis| nearing.count_at(Pages(pages), first + Duration::from_millis(millis));
        // Two streams, of which each has some at once.
        assert!(!count(50, 0) && !count(50, 0));
        // 4.5 pages/ms: 111 ms are left.
        assert!(!count(400, 100));
        // And now 91.
        assert!(count(100, 125), "{:?}", nearing.began);
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
