//! A heartbeat: it notices from inside when the guest stands still.
//!
//! It beats five times a millisecond and looks at the host's monotonic clock each time, which goes on while the guest is paused
//! and is the same in all processes of a host. So the first beat at the destination sees how long the guest was
//! away: the downtime that the guest itself sees. It is a program of the guest, so the sleeps of a throttle are gaps as well: whoever
//! looks for a pause among them knows when that was.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::control::{Slowed, Turn};
use super::{Shared, host_clock};

/// Between two beats.
pub(super) const PERIOD: Duration = Duration::from_micros(200);

/// The longest gaps that are remembered.
const REMEMBERED: usize = 16;

/// Time without a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When it ended, by the host's monotonic clock.
    pub ended: Duration,
    /// How long it was.
    pub length: Duration,
}

/// What a heartbeat has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Beats.
    pub beats: u64,
    /// The last beat, by the host's monotonic clock; none before the first.
    pub last: Option<Duration>,
    /// Gaps of more than a millisecond.
    pub late: u64,
    /// The longest gaps, the longest first.
    pub longest: Vec<Gap>,
    /// The gap behind which the guest went on here with the state of another: how long a migration kept it away. None
    /// where it began, and before the first beat here.
    pub arrival: Option<Gap>,
}

impl Heartbeat {
    fn beat(&mut self, now: Duration, arriving: bool) {
        if let Some(last) = self.last {
            let gap = Gap { ended: now, length: now.saturating_sub(last) };
            self.late += u64::from(gap.length > Duration::from_millis(1));
            self.remember(gap);
            if arriving {
                self.arrival = Some(gap);
            }
        }
        self.beats += 1;
        self.last = Some(now);
    }

    fn remember(&mut self, gap: Gap) {
        let place = self.longest.partition_point(|other| other.length >= gap.length);
        if place < REMEMBERED {
            self.longest.truncate(REMEMBERED - 1);
            self.longest.insert(place, gap);
        }
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Beating>);

#[derive(Debug, Default)]
struct Beating {
    seen: Heartbeat,
    /// It goes on from elsewhere with the next beat.
    arriving: bool,
}

impl Pulse {
    fn lock(&self) -> MutexGuard<'_, Beating> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen(&self) -> Heartbeat {
        self.lock().seen.clone()
    }

    pub(super) fn restore(&self, heartbeat: Heartbeat) {
        *self.lock() = Beating { seen: heartbeat, arriving: true };
    }

    /// What the thread does.
    pub(super) fn run(&self, shared: &Shared) {
        let mut turn = shared.control.turn();
        let mut due = host_clock();
        while turn != Turn::End {
            let now = host_clock();
            let mut beating = self.lock();
            let arriving = std::mem::take(&mut beating.arriving);
            beating.seen.beat(now, arriving);
            drop(beating);
            // By the clock, so that it does not beat slower by what waking takes; beats that were missed are missed.
            due = (due + PERIOD).max(now);
            turn = shared.control.rest(due.saturating_sub(now), Slowed::Yes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_remembered_longest_first_and_no_more_than_there_is_room_for() {
        let mut heartbeat = Heartbeat::default();
        let mut now = Duration::from_secs(1);
        heartbeat.beat(now, false);
        for gap in (1..=40).rev().chain([900]).chain(1..=3) {
            now += Duration::from_micros(100 * gap);
            heartbeat.beat(now, gap == 900);
        }
        assert_eq!(heartbeat.beats, 45);
        assert_eq!(heartbeat.longest.len(), REMEMBERED);
        assert_eq!(heartbeat.longest[0].length, Duration::from_millis(90));
        assert_eq!(heartbeat.longest[1].length, Duration::from_millis(4));
        assert!(heartbeat.longest.is_sorted_by(|one, other| one.length >= other.length));
        assert_eq!(heartbeat.late, 31);
        assert_eq!(heartbeat.last, Some(now));
        assert_eq!(heartbeat.arrival.map(|gap| gap.length), Some(Duration::from_millis(90)));
    }
}
