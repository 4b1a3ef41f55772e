//! How fast pages go, smoothed over the last seconds of sending.

use std::time::Duration;

use crate::units::{Bandwidth, ByteCount};

/// Time after which what was sent counts for less by a factor e.
const MEMORY: f64 = 2.0;

/// The rate of sending over the last two seconds or so of sending. Time in which nothing was to be sent is
/// not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SendRate {
    bytes: f64,
    seconds: f64,
}

impl SendRate {
    /// So much was sent in so long.
    pub fn observe(&mut self, bytes: ByteCount, time: Duration) {
        let seconds = time.as_secs_f64();
        let kept = (-seconds / MEMORY).exp();
        self.bytes = self.bytes * kept + bytes.as_f64();
        self.seconds = self.seconds * kept + seconds;
    }

    /// The rate; none before anything was seen. A link that is dead has the slowest there is.
    pub fn bandwidth(&self) -> Option<Bandwidth> {
        if self.seconds <= 0.0 {
            return None;
        }
        Some(Bandwidth::new((self.bytes / self.seconds) as u64).unwrap_or(Bandwidth::SLOWEST))
    }
}
