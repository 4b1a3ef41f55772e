//! The time of a migration, and waiting in it.
//!
//! Drivers and the [limiter](crate::limiter) take a [`Clock`] instead of asking the system, so that tests decide what time it
//! is. Whoever waits does so at a [`Bell`], and whoever has news rings it. Nothing here knows what is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use whimbrel_core::units::Timestamp;

/// One wait of the system's at most, so that no time is too long for it.
const LONGEST: Duration = Duration::from_hours(1);

/// Monotonic time since a migration began, on this side.
pub trait Clock: Send + Sync {
    /// What time it is.
    fn now(&self) -> Timestamp;

    /// Waits until it is `until`, or until `bell` has been rung more often than the `heard` times that are known of; which of
    /// them it was is for the caller to see.
    fn wait(&self, bell: &Bell, heard: Rings, until: Timestamp);

    /// Waits for so long.
    fn sleep(&self, time: Duration) {
        let (bell, until) = (Bell::default(), self.now().saturating_add(time));
        self.wait(&bell, bell.heard(), until);
    }
}

/// How often a [`Bell`] was rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings(u64);

/// Wakes who waits. All clones are one bell.
///
/// Take [`Bell::heard`] first, then look at what is waited for, and then wait: what changes in between has rung.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Tower>);

#[derive(Debug, Default)]
struct Tower {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    /// Wakes all who wait. Call it after the change that they wait for.
    pub fn ring(&self) {
        *self.rung() += 1;
        self.0.changed.notify_all();
    }

    /// How often it was rung so far.
    pub fn heard(&self) -> Rings {
        Rings(*self.rung())
    }

    /// Whoever holds it is the only one to ring or to begin to wait. A count cannot be half changed.
    fn rung(&self) -> MutexGuard<'_, u64> {
        self.0.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as [`Clock::wait`], `left` telling how long at most, and none when the time has come.
    fn wait(&self, heard: Rings, mut left: impl FnMut() -> Option<Duration>) {
        let mut rung = self.rung();
        while *rung == heard.0 {
            let Some(left) = left() else { return };
            let woken = self.0.changed.wait_timeout(rung, left.min(LONGEST));
            rung = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The time at which a wait is over; none if never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now on. A time that no clock reaches is for ever.
    pub(crate) fn within(patience: Option<Duration>) -> Self {
        Self(patience.and_then(|patience| Instant::now().checked_add(patience)))
    }

    /// What is left of it, none if there is no end to it; zero when it is over.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

/// The system's clock, from when this was made on. Waits end up to some hundred microseconds late.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// What the calling thread has worked so far: for differences between two looks of one thread, at what its own work takes. On
    /// Linux that is processor time: a thread that is kept from its processor in the middle of its work has worked no more for that.
    /// Elsewhere it is time that passes.
    pub fn worked(&self) -> Timestamp {
        processor_time().map_or_else(|| self.now(), |used| Timestamp::ZERO + used)
    }
}

/// How the system is asked for it; none where it is not.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const PROCESSOR: Option<fn() -> Duration> = Some(whimbrel_guest::processor::time_of_this_thread);
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
const PROCESSOR: Option<fn() -> Duration> = None;

/// Processor time of the calling thread, where that is known.
pub(crate) fn processor_time() -> Option<Duration> {
    PROCESSOR.map(|time| time())
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.origin.elapsed()
    }

    fn wait(&self, bell: &Bell, heard: Rings, until: Timestamp) {
        bell.wait(heard, || until.checked_since(self.now()).filter(|left| !left.is_zero()));
    }
}

/// A clock that stands still until it is told to go on: for tests. All clones are one clock.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    /// In nanoseconds.
    now: AtomicU64,
    /// Until when somebody waits, and at which bell.
    waiting: Mutex<Vec<(Timestamp, Bell)>>,
    /// Somebody has begun to wait.
    begun: Condvar,
}

impl ManualClock {
    /// Lets time pass, and wakes those for whom it is time.
    pub fn advance(&self, time: Duration) {
        self.set(self.now() + time);
    }

    /// Makes it `to`, which is not earlier than now, and wakes those for whom it is time.
    pub fn set(&self, to: Timestamp) {
        let mut waiting = self.waiting();
        // Those who begin to wait after this see it; the release pairs with the acquire in `now`.
        self.0.now.fetch_max(to.as_nanos(), Ordering::Release);
        let now = self.now();
        waiting.retain(|(until, bell)| {
            if *until <= now {
                // Held: whoever has looked at the clock is waiting by now.
                let _held = bell.rung();
                bell.0.changed.notify_all();
            }
            *until > now
        });
    }

    /// Waits, in real time, until `count` threads wait at this clock; gives when the first of them is to be woken. Threads that
    /// a bell has woken count until they run.
    pub fn when_waiting(&self, count: usize) -> Timestamp {
        let mut waiting = self.waiting();
        while waiting.len() < count {
            waiting = self.0.begun.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.iter().map(|(until, _)| *until).min().unwrap_or(Timestamp::MAX)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Timestamp, Bell)>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.now.load(Ordering::Acquire))
    }

    fn wait(&self, bell: &Bell, heard: Rings, until: Timestamp) {
        {
            let mut waiting = self.waiting();
            if until <= self.now() {
                return;
            }
            waiting.push((until, bell.clone()));
            self.0.begun.notify_all();
        }
        bell.wait(heard, || (until > self.now()).then_some(LONGEST));
        // Gone already, if it was time.
        let mut waiting = self.waiting();
        let here = |(at, other): &(Timestamp, Bell)| *at == until && Arc::ptr_eq(&other.0, &bell.0);
        if let Some(index) = waiting.iter().position(here) {
            waiting.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still_and_wakes_whose_time_has_come() {
        let clock = ManualClock::default();
        let wake = |until| {
            let clock = clock.clone();
            std::thread::spawn(move || {
                clock.sleep(until);
                clock.now()
            })
        };
        let [first, second] = [1, 2].map(|seconds| wake(Duration::from_secs(seconds)));
        assert_eq!(clock.when_waiting(2), Timestamp::ZERO + Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp::ZERO);
        clock.advance(Duration::from_millis(1999));
        let woken = first.join().expect("it only sleeps");
        assert_eq!(woken, Timestamp::ZERO + Duration::from_millis(1999));
        assert!(!second.is_finished());
        clock.set(Timestamp::ZERO + Duration::from_secs(2));
        second.join().expect("it only sleeps");
        // Time does not go back.
        clock.set(Timestamp::ZERO);
        assert_eq!(clock.now(), Timestamp::ZERO + Duration::from_secs(2));
        clock.sleep(Duration::ZERO);
    }

    #[test]
    fn a_bell_wakes_at_once_and_is_never_missed() {
        for clock in [&SystemClock::start() as &dyn Clock, &ManualClock::default()] {
            let bell = Bell::default();
            // Rung between the look and the wait.
            let heard = bell.heard();
            bell.ring();
            clock.wait(&bell, heard, Timestamp::MAX);
            // Rung while somebody waits.
            let (sender, done) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                let heard = bell.heard();
                let bell = &bell;
                scope.spawn(move || {
                    clock.wait(bell, heard, Timestamp::MAX);
                    sender.send(())
                });
                assert!(done.recv_timeout(Duration::from_millis(20)).is_err(), "nobody rang");
                bell.ring();
                done.recv().expect("the bell was rung");
            });
        }
    }

    #[test]
    fn the_system_clock_sleeps_no_less_than_it_was_told() {
        let clock = SystemClock::start();
        let before = clock.now();
        clock.sleep(Duration::from_millis(3));
        assert!(clock.now().since(before) >= Duration::from_millis(3));
    }
}
