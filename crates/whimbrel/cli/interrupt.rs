//! Ctrl-C and a polite request to end: the first asks, the second ends the program at once.
//!
//! signal-hook sets a flag from the handler, so this crate needs no `unsafe`, and no thread waits; it is
//! what cargo-nextest and many others rely on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Signals that have come.
#[derive(Debug)]
pub(super) struct Interrupt {
    /// Whichever came.
    pub(super) stop: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on signals are noticed here.
    pub(super) fn listen() -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let terminated = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it, the second finds it set.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        flag::register(SIGTERM, Arc::clone(&terminated))?;
        Ok(Self { stop, terminated })
    }

    /// The exit code that says which signal it was; none if none came.
    pub(super) fn exit_code(&self) -> Option<u8> {
        let signal = if self.terminated.load(Ordering::Relaxed) { SIGTERM } else { SIGINT };
        let stopped = self.stop.load(Ordering::Relaxed);
        stopped.then(|| u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }
}
