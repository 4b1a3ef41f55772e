//! Slows vCPUs by a duty cycle: they run for a time, then all are sent to sleep for a time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::vcpu::Vcpu;
use crate::cycle::Cycle;

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
