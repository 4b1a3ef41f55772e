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
const PERIOD: Duration = Duration::from_millis(1_000);
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
