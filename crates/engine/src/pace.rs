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
        let (since, len) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let allowed = patience.saturating_mul(1 + len / STRETCH);
        (since.elapsed() > allowed).then_some(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of it is the time that it had.
    #[test]
    fn the_longer_a_body_is_the_longer_it_may_take() {
        let (pace, patience) = (Pace::default(), Duration::from_millis(1));
        assert_eq!(pace.overdue(Duration::ZERO), None);
        let begun = Instant::now();
        pace.begin(3 << 20);
        while begun.elapsed() <= 4 * patience {
            let (found, now) = (pace.overdue(patience), begun.elapsed());
            assert!(found.is_none() || now > 4 * patience, "{found:?} after {now:?}");
        }
        while pace.overdue(patience).is_none() {}
        assert_eq!(
            (pace.overdue(patience), pace.overdue(Duration::from_hours(1))),
            (Some(4 * patience), None)
        );
        pace.end();
        assert_eq!(pace.overdue(Duration::ZERO), None);
    }
}
