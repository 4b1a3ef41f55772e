//! When the guest dirties memory too fast: what starts auto-converge and the dirty limit.
//!
//! ```text
//! at each harvest, if more than 1000 ms after the period began:
//!     dirty = pages found dirty in the period that were not pending already
//!     dirty > bytes sent in the period x threshold: high += 1
//!     high == 2: high = 0; slow the guest
//!     a new period begins
//! ```
//!
//! * A period ends only at a harvest: a first pass of a minute is one period.
//! * Harvests less than a second apart add to the same period.
//! * A good period does not forget a high one before it.
//! * Pages that were pending already are not counted again.
//!
//! The harvest that QEMU makes before it sends anything finds nothing new, because its bitmap is full; it
//! opens the first period. Called at [`Moment::RoundStart`](crate::progress::Moment::RoundStart) only.

use std::time::Duration;

use crate::policy::{Quantity, Reason, Relation};
use crate::progress::Progress;
use crate::units::{ByteCount, Share, Timestamp};

/// A period lasts longer than this.
const PERIOD: Duration = Duration::from_secs(1);
/// High periods, good ones between them or not, that it takes.
const ENOUGH: u32 = 2;

/// The period in progress, and how many before it were high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Periods {
    open: Option<Open>,
    high: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    since: Timestamp,
    /// [`Progress::sent`] when it began.
    sent: ByteCount,
    dirty: ByteCount,
}

/// What a high period came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct High {
    /// Found dirty in the period, not counting what was pending already.
    pub(super) dirty: ByteCount,
    /// The share of what was sent that it is above.
    pub(super) threshold: ByteCount,
    sent: ByteCount,
    share: Share,
}

impl Periods {
    /// A harvest; the period that it ended, if that is a high one and enough of them have been.
    pub(super) fn harvested(&mut self, progress: &Progress, share: Share) -> Option<High> {
        let fresh = Open { since: progress.now, sent: progress.sent, dirty: ByteCount::ZERO };
        let mut period = match self.open {
            Some(open) if progress.round > 0 => open,
            _ => {
                *self = Self { open: Some(fresh), high: 0 };
                return None;
            }
        };
        let new = progress.pending.saturating_sub(progress.left_over).bytes(progress.page_size);
        period.dirty = period.dirty.saturating_add(new);
        if progress.now.since(period.since) <= PERIOD {
            self.open = Some(period);
            return None;
        }
        self.open = Some(fresh);
        let sent = ByteCount(progress.sent.0.saturating_sub(period.sent.0));
        let threshold = part(sent, share);
        if period.dirty <= threshold {
            return None;
        }
        self.high += 1;
        if self.high < ENOUGH {
            return None;
        }
        self.high = 0;
        Some(High { dirty: period.dirty, threshold, sent, share })
    }
}

/// A share of `bytes` in whole percent, rounded down as QEMU's integers are.
fn part(bytes: ByteCount, share: Share) -> ByteCount {
    let part = u128::from(bytes.0) * u128::from(percent(share)) / 100;
    ByteCount(u64::try_from(part).unwrap_or(u64::MAX))
}

/// The nearest whole percent: QEMU takes no other shares.
pub(super) fn percent(share: Share) -> u64 {
    (share.as_f64() * 100.0).round() as u64
}

impl High {
    /// Why the guest is slowed.
    pub(super) fn reason(&self) -> Reason {
        let dirty = ("dirtied-in-period", Quantity::Bytes(self.dirty));
        Reason::new(dirty, Relation::Above, ("bearable", Quantity::Bytes(self.threshold)))
            .with("sent-in-period", Quantity::Bytes(self.sent))
            .with("throttle-trigger-threshold", Quantity::Share(self.share))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Harvests;
    use super::*;

    const HALF: Share = Share::clamped(0.5);

    /// Which of these harvests, given as `(millis, new pages, bytes sent)`, end a second high period.
    fn slowed(harvests: &[(u64, u64, u64)]) -> Vec<bool> {
        let (mut periods, mut at) = (Periods::default(), Harvests::new());
        assert_eq!(periods.harvested(&at.0, HALF), None);
        harvests
            .iter()
            .map(|&(millis, dirty, sent)| periods.harvested(at.next(millis, dirty, sent), HALF).is_some())
            .collect()
    }

    const HIGH: (u64, u64, u64) = (1_001, 2, 4_096);
    const GOOD: (u64, u64, u64) = (1_001, 1, 8_192);

    #[test]
    fn it_takes_two_high_periods_and_two_more() {
        assert_eq!(slowed(&[HIGH; 5]), [false, true, false, true, false]);
    }

    #[test]
    fn good_periods_do_not_forget_a_high_one() {
        assert_eq!(slowed(&[HIGH, GOOD, GOOD, GOOD, HIGH]), [false, false, false, false, true]);
    }

    #[test]
    fn just_the_threshold_is_bearable() {
        // Half of 8192 bytes is one page; half of a byte less is less than a page, rounded down.
        assert_eq!(slowed(&[(1_001, 1, 8_192); 2]), [false, false]);
        assert_eq!(slowed(&[(1_001, 1, 8_191); 2]), [false, true]);
    }

    #[test]
    fn a_period_lasts_longer_than_a_second() {
        assert_eq!(slowed(&[(1_000, 2, 4_096), HIGH, HIGH]), [false, false, true]);
    }

    #[test]
    fn harvests_within_a_second_add_to_one_period() {
        // Each of a third of a second, and only together too much: 3 pages against half of 5.
        let third = |dirty, sent| (400, dirty, sent);
        let bad = [third(0, 20_480), third(0, 0), third(3, 0)];
        let two = [bad, bad].concat();
        assert_eq!(slowed(&two), [false, false, false, false, false, true]);
        let good = [third(3, 0), third(0, 0), third(0, 24_576)];
        assert_eq!(slowed(&[good, good].concat()), [false; 6]);
    }

    #[test]
    fn what_was_pending_already_is_not_counted_again() {
        // `Harvests` finds as many pages that were pending: with those it would be twice the threshold.
        assert_eq!(slowed(&[GOOD; 4]), [false; 4]);
    }

    #[test]
    fn the_full_set_of_round_0_is_not_found_dirty() {
        let mut periods = Periods::default();
        let mut at = Harvests::new();
        for _ in 0..4 {
            at.tick(60_000);
            assert_eq!(periods.harvested(&at.0, HALF), None);
        }
        assert!(slowed(&[HIGH, HIGH])[1]);
    }

    #[test]
    fn shares_are_whole_percents_and_the_threshold_is_rounded_down() {
        assert_eq!(part(ByteCount(199), HALF), ByteCount(99));
        assert_eq!(part(ByteCount(1_000), Share::clamped(0.504)), ByteCount(500));
        assert_eq!(part(ByteCount(u64::MAX), Share::ONE), ByteCount(u64::MAX));
    }

    #[test]
    fn the_reason_says_what_was_compared() {
        let mut periods = Periods::default();
        let mut at = Harvests::new();
        periods.harvested(&at.0, HALF);
        periods.harvested(at.high(), HALF);
        let high = periods.harvested(at.high(), HALF).expect("the second");
        assert_eq!(
            high.reason().to_string(),
            "dirtied-in-period 7.8 MiB > bearable 2.0 MiB (by 300 %; sent-in-period 3.9 MiB, \
             throttle-trigger-threshold 50.0 %)"
        );
    }
}
