//! A new control connection, after one was lost.
//!
//! Made on a thread of its own, because the driver has other things to see to; tried again and again, with pauses that grow to a
//! second, until there is one or nobody wants it any more.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never};
use whimbrel_wire::Limits;
use whimbrel_wire::hello::Role;

use crate::hello::Introduction;
use crate::transport::{Connect, Stream};

/// How long one attempt may take, so that ending is not held up for longer.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A connection, and what the destination takes on it.
pub(super) type Made = (Box<dyn Stream>, Limits);

/// Somebody who tries. Dropped, they stop.
pub(super) struct Reconnecting {
    made: Option<Receiver<Made>>,
    /// Dropped to say that nobody wants a connection any more.
    wanted: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reconnecting {
    pub(super) fn start(connect: Arc<dyn Connect>, introduction: Introduction) -> io::Result<Self> {
        let (tell, made) = bounded(1);
        let (wanted, unwanted) = bounded(0);
        let thread = thread::Builder::new().name("reconnect".to_owned()).spawn(move || {
            let mut pause = PAUSES.0;
            loop {
                if let Ok((stream, agreed)) = introduction.connect(&*connect, Role::Again, ATTEMPT) {
                    // Nobody wants it: it is dropped, and with it closed.
                    let _ = tell.send((stream, agreed.limits));
                    return;
                }
                match unwanted.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(PAUSES.1),
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { made: Some(made), wanted: Some(wanted), thread: Some(thread) })
    }

    /// Where the connection arrives.
    pub(super) fn made(&self) -> Receiver<Made> {
        self.made.clone().unwrap_or_else(never)
    }
}

impl Drop for Reconnecting {
    fn drop(&mut self) {
        self.wanted = None;
        self.made = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
