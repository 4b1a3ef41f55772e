//! Running, paused, throttled: what all threads of a guest obey.
//!
//! A thread asks at every turn with one load of a flag; only while that is set does it take the lock. It sleeps
//! nowhere else than here, so that a pause never waits for a sleeper.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whimbrel_core::throttle::Throttle;

use super::Shared;
use super::config::ConfigError;
use crate::cycle::Cycle;

/// What is wanted of the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Running,
    Paused,
    Ended,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    /// Threads that there are.
    threads: usize,
    /// Threads that stand still.
    still: usize,
    rhythm: Option<Rhythm>,
    /// When the last thread stood still, or all might go on.
    turned: Instant,
}

/// A throttle: run and sleep in turn, from `since` on.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    since: Instant,
    cycle: Cycle,
}

impl Rhythm {
    /// How long a vCPU has to sleep now, if it has to.
    fn asleep(&self, now: Instant) -> Option<Duration> {
        let Cycle { run, sleep } = self.cycle;
        let period = run + sleep;
        let since = now.saturating_duration_since(self.since);
        let into = Duration::from_nanos((since.as_nanos() % period.as_nanos()) as u64);
        (into >= run).then(|| period.saturating_sub(into))
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Control {
    state: Mutex<State>,
    /// For threads: something is wanted of them.
    told: Condvar,
    /// For whoever pauses: they stand still.
    stands: Condvar,
    /// Threads have to look at the state at each turn: paused, ended or throttled.
    look: AtomicBool,
}

/// Whether a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may go on.
    Go,
    /// It may go on, after it stood still: whatever it knows of the time is old.
    Woken,
    /// It ends.
    End,
}

/// Whether a throttle slows a thread: what runs on vCPUs, and not a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slowed {
    Yes,
    No,
}

impl Control {
    pub(super) fn paused() -> Self {
        let state =
            State { wanted: Wanted::Paused, threads: 0, still: 0, rhythm: None, turned: Instant::now() };
        Self {
            state: Mutex::new(state),
            told: Condvar::new(),
            stands: Condvar::new(),
            look: AtomicBool::new(true),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it holds is true also if a thread died over it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether threads must look at each turn from now on.
    fn flag(&self, state: &State) {
        let look = state.wanted != Wanted::Running || state.rhythm.is_some();
        self.look.store(look, Ordering::Release);
    }

    /// Tells all threads, and whether they must look at each turn from now on.
    fn tell(&self, state: &State) {
        self.flag(state);
        self.told.notify_all();
    }

    /// Stops all threads; returns when they stand still.
    pub(super) fn pause(&self) {
        let mut state = self.lock();
        if state.wanted == Wanted::Running {
            state.wanted = Wanted::Paused;
            self.tell(&state);
        }
        while state.still < state.threads {
            state = self.stands.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn resume(&self) {
        let mut state = self.lock();
        if state.wanted == Wanted::Paused {
            state.wanted = Wanted::Running;
            state.turned = Instant::now();
            self.flag(&state);
            // Whoever wakes finds the lock free.
            drop(state);
            self.told.notify_all();
        }
    }

    /// How long ago all threads stood still, or might go on, whichever was later.
    pub(super) fn turned_ago(&self) -> Duration {
        self.lock().turned.elapsed()
    }

    pub(super) fn is_paused(&self) -> bool {
        let state = self.lock();
        state.wanted == Wanted::Paused && state.still == state.threads
    }

    /// Slows all threads that can be; false if none can be slowed so.
    pub(super) fn throttle(&self, throttle: Throttle) -> bool {
        let Ok(cycle) = Cycle::of(throttle) else { return false };
        let mut state = self.lock();
        state.rhythm = cycle.map(|cycle| Rhythm { since: Instant::now(), cycle });
        self.tell(&state);
        true
    }

    fn end(&self) {
        let mut state = self.lock();
        state.wanted = Wanted::Ended;
        self.tell(&state);
    }

    /// Asked by a thread before each piece of work: waits while it is to stand still.
    #[inline]
    pub(super) fn turn(&self) -> Turn {
        if self.look.load(Ordering::Acquire) { self.look(None, Slowed::Yes) } else { Turn::Go }
    }

    /// A thread has nothing to do for so long. Returns early if something is wanted of it.
    pub(super) fn rest(&self, time: Duration, slowed: Slowed) -> Turn {
        self.look(Instant::now().checked_add(time), slowed)
    }

    /// Waits while the thread is to stand still, and until `rest` is over.
    fn look(&self, rest: Option<Instant>, slowed: Slowed) -> Turn {
        let mut state = self.lock();
        let mut woken = false;
        loop {
            state = match state.wanted {
                Wanted::Ended => return Turn::End,
                Wanted::Paused => {
                    woken = true;
                    self.stand_still(state)
                }
                Wanted::Running => {
                    let now = Instant::now();
                    let rhythm = state.rhythm.filter(|_| slowed == Slowed::Yes);
                    let asleep = rhythm.and_then(|rhythm| rhythm.asleep(now));
                    let resting =
                        rest.map(|rest| rest.saturating_duration_since(now)).filter(|rest| !rest.is_zero());
                    let Some(time) = asleep.max(resting) else {
                        return if woken { Turn::Woken } else { Turn::Go };
                    };
                    self.told.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
                }
            }
        }
    }

    /// Says that this thread stands still, until that is no longer wanted.
    fn stand_still<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.still += 1;
        if state.still == state.threads {
            state.turned = Instant::now();
            self.stands.notify_all();
        }
        while state.wanted == Wanted::Paused {
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.still -= 1;
        state
    }
}

/// The threads of a guest; ended and waited for when dropped.
#[derive(Debug)]
pub(super) struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, handles: Vec::new() }
    }

    /// Starts one more. It begins by asking for its turn.
    pub(super) fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), ConfigError> {
        let shared = Arc::clone(&self.shared);
        self.shared.control.lock().threads += 1;
        let run = move || {
            // Sleeps end when they should, not 50 us later. Where that is refused, they end later.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            // Whoever pauses must not wait for a thread that is gone.
            let leaving = Leaving(&shared.control);
            work(&shared);
            drop(leaving);
        };
        match std::thread::Builder::new().name(name.clone()).spawn(run) {
            Ok(handle) => self.handles.push(handle),
            Err(cause) => {
                self.shared.control.lock().threads -= 1;
                return Err(ConfigError::Thread { name, cause });
            }
        }
        Ok(())
    }
}

struct Leaving<'a>(&'a Control);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.stands.notify_all();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.control.end();
        for handle in self.handles.drain(..) {
            // It has said what it died of.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_core::units::CpuShare;

    fn asleep_ms(throttle: Throttle, millis: u64) -> Vec<Option<u64>> {
        let rhythm = Rhythm { since: Instant::now(), cycle: Cycle::of(throttle).unwrap().unwrap() };
        let at = |millis| rhythm.since + Duration::from_millis(millis);
        (0..millis).map(|millis| rhythm.asleep(at(millis)).map(|left| left.as_millis() as u64)).collect()
    }

    #[test]
    fn a_duty_cycle_runs_ten_milliseconds_and_sleeps_its_share() {
        let found = asleep_ms(Throttle::duty_cycle(CpuShare::percent(75)), 80);
        let expected: Vec<_> = (0..80).map(|at| (at % 40 >= 10).then_some(40 - at % 40)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn micro_sleeps_have_their_length_and_their_share() {
        let sleep = Duration::from_millis(2);
        let found = asleep_ms(Throttle::MicroSleeps { share: CpuShare::percent(20), sleep }, 20);
        let expected: Vec<_> = (0..20).map(|at| (at % 10 >= 8).then_some(10 - at % 10)).collect();
        assert_eq!(found, expected);
    }
}
