//! Processor time that sending takes at the source: finding pages, reading, encoding and handing them over.
//!
//! Each page stream's thread counts all of its own, the driver's what it deals pages out in. vCPUs, the dirty log, the
//! digest, the control connection and the observer are not in it: that is what the simulator's `source_cpu_s` means, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::processor_time;

/// Shared by all threads that send.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent(Arc<AtomicU64>);

/// While it lives the time of its thread is counted.
#[must_use = "what is dropped at once has counted nothing"]
pub(super) struct Counting {
    spent: Spent,
    since: Option<Duration>,
}

impl Spent {
    /// Begins to count what the calling thread uses; ended on the same thread.
    pub(super) fn count(&self) -> Counting {
        Counting { spent: self.clone(), since: processor_time() }
    }

    /// Of all threads that have ended to count; none where the system is not asked.
    pub(super) fn total(&self) -> Option<Duration> {
        processor_time().map(|_| Duration::from_nanos(self.0.load(Ordering::Relaxed)))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some((since, now)) = self.since.zip(processor_time()) {
            // Nobody reads it before the thread was waited for.
            self.spent.0.fetch_add(now.saturating_sub(since).as_nanos() as u64, Ordering::Relaxed);
        }
    }
}
