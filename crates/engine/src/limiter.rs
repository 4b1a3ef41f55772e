//! The limit of the sending rate, shared by all page streams of a migration.
//!
//! Streams call [`Limiter::acquire`] before they send; the source's driver calls [`Limiter::set`] when the policy changes the
//! limit, which it may do at any time, and [`Limiter::close`] at the end. What is limited is what streams say they send:
//! kernel buffers and headers of the network below are not seen here. It must never hold a stream back for a limit that is
//! not in force any more.
//!
//! # How it counts
//!
//! A token bucket, kept as two positions on the line of all bytes that were ever asked for: how far was asked
//! (*issued*), and how far is paid for, which grows with time at the limit's rate. A request is the next part of the line, and may
//! go when the line is paid for up to its end. So streams are served in the order in which they asked; nobody hands a turn
//! over, and one that wakes late is late alone. What is paid for and not asked for is kept up to [`BURST`]: it makes up for
//! threads that woke late and for harvests between rounds, and no more.
//!
//! No byte is let through before it is paid for: from the beginning, or from a change of the limit, never more than the rate
//! times the time that has passed, and the burst that was kept. Whoever wants a smooth stream at a low rate asks for little
//! at a time: 512 KiB at 100 Mbit/s are 42 ms of silence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::{Bandwidth, ByteCount, Timestamp};

use crate::clock::{Bell, Clock};

/// How long a stream may have been silent and still make up for it. QEMU counts in windows of 100 ms and lets all of a window
/// through at its beginning; a guest that is paused meets the end of what this lets through at once, so it is short.
pub const BURST: Duration = Duration::from_millis(10);

/// The limiter was closed: nothing is to be sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is sent any more: the rate limiter was closed")]
pub struct Closed;

/// The limit that streams share.
pub struct Limiter {
    clock: Arc<dyn Clock>,
    bucket: Mutex<Bucket>,
    bell: Bell,
}

/// The state, at times that it is told.
#[derive(Debug)]
struct Bucket {
    limit: Option<Bandwidth>,
    closed: bool,
    /// Bytes that were ever asked for.
    issued: u64,
    /// How far was paid for at `since`, while there is a limit.
    paid: u64,
    since: Timestamp,
}

/// The end of a request's part of the line.
#[derive(Clone, Copy, Debug)]
struct Ticket(u64);

impl Bucket {
    fn new(limit: RateLimit, now: Timestamp) -> Self {
        let mut bucket = Self { limit: None, closed: false, issued: 0, paid: 0, since: now };
        bucket.set(limit, now);
        bucket
    }

    /// A place behind all who asked before.
    fn enter(&mut self, bytes: ByteCount, now: Timestamp) -> Ticket {
        self.forget_old_silence(now);
        self.issued = self.issued.saturating_add(bytes.0);
        Ticket(self.issued)
    }

    /// Keeps no more than a burst of what was paid for and not asked for.
    fn forget_old_silence(&mut self, now: Timestamp) {
        let Some(rate) = self.limit else { return };
        let most = self.issued.saturating_add(rate.bytes_in(BURST).0);
        if self.paid_at(rate, now) > most {
            (self.paid, self.since) = (most, now);
        }
    }

    /// How far is paid for.
    fn paid_at(&self, rate: Bandwidth, now: Timestamp) -> u64 {
        self.paid.saturating_add(rate.bytes_in(now.since(self.since)).0)
    }

    /// When the request may go, as things are.
    fn due(&self, ticket: Ticket) -> Result<Timestamp, Closed> {
        if self.closed {
            return Err(Closed);
        }
        let Some(rate) = self.limit else { return Ok(Timestamp::ZERO) };
        Ok(self.since + rate.time_to_send(ByteCount(ticket.0.saturating_sub(self.paid))))
    }

    /// Time that has passed counts at the old rate, time to come at the new one.
    fn set(&mut self, limit: RateLimit, now: Timestamp) {
        self.paid = match self.limit {
            Some(rate) => self.paid_at(rate, now),
            // Nobody waits, and nothing was saved.
            None => self.issued,
        };
        self.since = now;
        self.limit = match limit {
            RateLimit::Unlimited => None,
            RateLimit::AtMost(rate) => Some(rate),
        };
        self.forget_old_silence(now);
    }
}

impl Limiter {
    /// With this limit, and nothing saved.
    pub fn new(clock: Arc<dyn Clock>, limit: RateLimit) -> Self {
        let bucket = Bucket::new(limit, clock.now());
        Self { clock, bucket: Mutex::new(bucket), bell: Bell::default() }
    }

    /// Waits until so many bytes may be sent, behind all who asked before.
    ///
    /// # Errors
    ///
    /// [`Closed`], at once also if it is closed while this waits.
    pub fn acquire(&self, bytes: ByteCount) -> Result<(), Closed> {
        let ticket = self.bucket().enter(bytes, self.clock.now());
        loop {
            let heard = self.bell.heard();
            let due = self.bucket().due(ticket)?;
            if due <= self.clock.now() {
                return Ok(());
            }
            self.clock.wait(&self.bell, heard, due);
        }
    }

    /// Another limit from now on. Who waits is let through as the new one says: at once, if there is none.
    pub fn set(&self, limit: RateLimit) {
        self.bucket().set(limit, self.clock.now());
        self.bell.ring();
    }

    /// The limit in force.
    pub fn limit(&self) -> RateLimit {
        self.bucket().limit.map_or(RateLimit::Unlimited, RateLimit::AtMost)
    }

    /// Sends everybody away, now and for ever. Idempotent.
    pub fn close(&self) {
        self.bucket().closed = true;
        self.bell.ring();
    }

    /// Nobody panics with it in hand.
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
