//! Whether what has begun to come still comes.
//!
//! A stream's own patience is for one read: a peer that gives a byte now and then would be waited for as long as it likes. So the
//! thread that reads notes when the body of a frame began, and the driver, which waits for many, asks whether that is too long ago.
//! Used for control and page connections; never looks at a stream.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For each so many bytes that it has begun, a peer has its patience once.
const STRETCH: u32 = 1 << 20;

/// Of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<(Instant, u32)>>);

impl Pace {
    /// The body of a frame, of so many bytes, is read from now on.
    pub(crate) fn begin(&self, len: u32) {
        self.note(Some((Instant::now(), len)));
    }

    /// It has come.
    pub(crate) fn end(&self) {
        self.note(None);
    }

    fn note(&self, coming: Option<(Instant, u32)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = coming;
    }

    /// Whether a body is awaited for longer than a peer may take that is waited for so long.
    pub(crate) fn is_too_slow(&self, patience: Duration) -> bool {
        self.is_too_slow_at(Instant::now(), patience)
    }

    fn is_too_slow_at(&self, now: Instant, patience: Duration) -> bool {
        let coming = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = |len| patience.saturating_mul(1 + len / STRETCH);
        coming.is_some_and(|(since, len)| now.saturating_duration_since(since) > allowed(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_take_the_patience_once_and_again_for_each_mebibyte() {
        let (pace, began, patience) = (Pace::default(), Instant::now(), Duration::from_secs(10));
        let is_too_slow = |seconds| pace.is_too_slow_at(began + Duration::from_secs(seconds), patience);
        assert!(!is_too_slow(1_000_000), "nothing is awaited");
        for (len, most) in [(0, 10), (STRETCH - 1, 10), (STRETCH, 20), (3 * STRETCH + 1, 40)] {
            pace.note(Some((began, len)));
            assert_eq!([is_too_slow(most), is_too_slow(most + 1)], [false, true], "{len} bytes");
        }
        // What is awaited begins with the patience, not before.
        pace.begin(0);
        assert!(!pace.is_too_slow(Duration::MAX));
        pace.end();
        assert!(!is_too_slow(1_000_000), "it has come");
    }
}
