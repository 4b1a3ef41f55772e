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

    /// How long a peer that is waited for so long may take for a body, if one is awaited for longer.
    pub(crate) fn overdue(&self, patience: Duration) -> Option<Duration> {
        self.overdue_at(Instant::now(), patience)
    }

    fn overdue_at(&self, now: Instant, patience: Duration) -> Option<Duration> {
        let (since, len) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let allowed = patience.saturating_mul(1 + len / STRETCH);
        (now.saturating_duration_since(since) > allowed).then_some(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_take_the_patience_once_and_again_for_each_mebibyte() {
        let seconds = Duration::from_secs;
        let (pace, began, patience) = (Pace::default(), Instant::now(), seconds(10));
        let overdue = |after| pace.overdue_at(began + seconds(after), patience);
        assert_eq!(overdue(1_000_000), None, "nothing is awaited");
        for (len, most) in [(0, 10), (STRETCH - 1, 10), (STRETCH, 20), (3 * STRETCH + 1, 40)] {
            pace.note(Some((began, len)));
            // What is told of it is the time that it had.
            assert_eq!([overdue(most), overdue(most + 1)], [None, Some(seconds(most))], "{len} bytes");
        }
        // What is awaited begins with the patience, not before.
        pace.begin(0);
        assert_eq!(pace.overdue(Duration::MAX), None);
        pace.end();
        assert_eq!(overdue(1_000_000), None, "it has come");
    }
}
