//! Slows vCPUs by a duty cycle: they run for a time, then all are sent to sleep for a time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::CpuShare;

use super::vcpu::Vcpu;

/// Lengths of the two parts of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    run: Duration,
    sleep: Duration,
}

impl Cycle {
    /// The cycle of `throttle`; none if it is not one, or takes all or nothing away.
    pub(super) fn of(throttle: Throttle) -> Option<Self> {
        let times = |share: CpuShare, part: Duration, ratio: fn(f64) -> f64| {
            let share = share.as_f64();
            (share > 0.0 && share < 1.0).then(|| part.mul_f64(ratio(share)))
        };
        let (run, sleep) = match throttle {
            Throttle::DutyCycle { share, run } => (run, times(share, run, |share| share / (1.0 - share))?),
            Throttle::MicroSleeps { share, sleep } => {
                (times(share, sleep, |share| (1.0 - share) / share)?, sleep)
            }
            _ => return None,
        };
        (!run.is_zero() && !sleep.is_zero()).then_some(Self { run, sleep })
    }
}

/// Sends vCPUs to sleep until it is dropped.
#[derive(Debug)]
pub(super) struct Throttler {
    ended: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    vcpus: Vec<Arc<Vcpu>>,
}

impl Throttler {
    pub(super) fn start(cycle: Cycle, vcpus: &[Arc<Vcpu>]) -> std::io::Result<Self> {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let (signal, its_own) = (Arc::clone(&ended), vcpus.to_vec());
        let thread = std::thread::Builder::new()
            .name("throttle".into())
            .spawn(move || tick(cycle, &its_own, &signal))?;
        Ok(Self { ended, thread: Some(thread), vcpus: vcpus.to_vec() })
    }
}

impl Drop for Throttler {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic, and there is nobody to tell.
            let _ = thread.join();
        }
        self.vcpus.iter().for_each(|vcpu| vcpu.wake());
    }
}

/// From period to period, until it has ended.
fn tick(cycle: Cycle, vcpus: &[Arc<Vcpu>], ended: &(Mutex<bool>, Condvar)) {
    let mut begin = Instant::now();
    while !wait(begin + cycle.run, ended) {
        for vcpu in vcpus {
            vcpu.ask_to_nap(cycle.sleep);
        }
        // What the host was late is not taken from the guest's time to run.
        begin = Instant::now() + cycle.sleep;
    }
}

/// Waits until `deadline`, or until it has ended: then true.
fn wait(deadline: Instant, ended: &(Mutex<bool>, Condvar)) -> bool {
    let mut guard = ended.0.lock().unwrap_or_else(PoisonError::into_inner);
    while !*guard && Instant::now() < deadline {
        let time = deadline.saturating_duration_since(Instant::now());
        guard = ended.1.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0;
    }
    *guard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_by_sleeping_for_its_part_of_the_period() {
        let ms = Duration::from_millis;
        let cycle = |throttle| Cycle::of(throttle).map(|cycle| (cycle.run, cycle.sleep));
        let duty = |share, run| cycle(Throttle::DutyCycle { share: CpuShare::clamped(share), run });
        assert_eq!(duty(0.75, ms(10)), Some((ms(10), ms(30))));
        let sleeps = Throttle::MicroSleeps { share: CpuShare::clamped(0.75), sleep: ms(3) };
        assert_eq!(cycle(sleeps), Some((ms(1), ms(3))));
        // All of it, nothing, and none at a time are no cycles.
        assert_eq!(duty(1.0, ms(10)), None);
        assert_eq!(duty(0.0, ms(10)), None);
        assert_eq!(duty(0.5, ms(0)), None);
        assert_eq!(cycle(Throttle::Off), None);
    }
}
