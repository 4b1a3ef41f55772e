//! Processor time of a thread, for whoever has to know what its own work took. Nothing here knows what the work is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time that the calling thread has used since it began. The time in which it was ready and another thread had its
/// processor is not in it, nor is the time in which it waited.
pub fn time_of_this_thread() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative.
    Duration::new(used.tv_sec.cast_unsigned(), u32::try_from(used.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_uses_none_and_one_that_works_does() {
        let time = |act: fn()| {
            let before = time_of_this_thread();
            act();
            time_of_this_thread().saturating_sub(before)
        };
        assert!(time(|| std::thread::sleep(Duration::from_millis(200))) < Duration::from_millis(100));
        let work = || {
            let until = time_of_this_thread() + Duration::from_millis(5);
            while time_of_this_thread() < until {}
        };
        assert!(time(work) >= Duration::from_millis(5));
    }
}
