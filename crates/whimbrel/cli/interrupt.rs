//! Ctrl-C and a polite request to end: the first asks, the second ends the program at once, with the exit code that then is true.
//!
//! signal-hook sets a flag from the handler, so this crate needs no `unsafe`, and no thread waits; it is
//! what cargo-nextest and many others rely on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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
    /// From now on signals are noticed here. A second one ends the program with the code that shells have for it.
    pub(super) fn listen() -> io::Result<Self> {
        Self::listening(|signal| 128 + signal)
    }

    /// The same for a move. A second signal ends the program with `in_doubt`: a guest may be elsewhere then, or be handed over, and
    /// 130 would say that it is not.
    #[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
    // Real moves alone listen so.
    pub(super) fn listen_in_a_move(in_doubt: u8) -> io::Result<Self> {
        Self::listening(|_| i32::from(in_doubt))
    }

    fn listening(second: impl Fn(i32) -> i32) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let terminated = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it, the second finds it set.
            flag::register_conditional_shutdown(signal, second(signal), Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        flag::register(SIGTERM, Arc::clone(&terminated))?;
        Ok(Self { stop, terminated })
    }

    /// From now on the end of standard input is as Ctrl-C: whoever holds its other end is gone.
    #[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
    // Real moves alone are ended so.
    pub(super) fn at_eof(&self) {
        let stop = Arc::clone(&self.stop);
        // Ends with the process: nobody can wait for what may never be written.
        thread::spawn(move || {
            // What cannot be read has no more to say, either.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// The exit code that says which signal it was; none if none came.
    pub(super) fn exit_code(&self) -> Option<u8> {
        let signal = if self.terminated.load(Ordering::Relaxed) { SIGTERM } else { SIGINT };
        let stopped = self.stop.load(Ordering::Relaxed);
        stopped.then(|| u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }
}
