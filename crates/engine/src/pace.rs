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
        let coming = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = |len| patience.saturating_mul(1 + len / STRETCH);
        coming.is_some_and(|(since, len)| since.elapsed() > allowed(len))
    }
}
