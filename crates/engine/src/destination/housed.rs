//! The replica in the driver's hands.
//!
//! Before it runs it is worth nothing, and goes with the driver. A guest that runs must not end because an embedder's code, an
//! observer say, panics on the driver's thread: then it is left as it is, running, and nobody has a handle to it any more but whoever
//! kept one in its host.

use std::thread;

use super::Replica;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Housed {
    pub(super) replica: Option<Replica>,
    /// It was told to run.
    pub(super) runs: bool,
}

impl Drop for Housed {
    fn drop(&mut self) {
        if thread::panicking() && self.runs {
            std::mem::forget(self.replica.take());
        }
    }
}
