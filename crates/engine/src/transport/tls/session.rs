//! One TLS connection, read by one thread while another writes.
//!
//! The library's session is one value for both directions, so it is behind a lock that nobody holds while waiting for the
//! socket: otherwise a writer whose peer does not read would keep its own side from reading, and two such sides would wait for
//! each other for ever. Locks are taken in this order: `agreeing`, `input`, `output`, `session`.
//!
//! ```text
//! read:   socket ──wait──▶ input (encrypted) ──session──▶ the caller's buffer
//! write:  the caller's bytes ──session──▶ output (encrypted) ──wait──▶ socket
//! ```
//!
//! What was encrypted has to be sent in this order or the connection is lost, so what the socket did not take within the patience
//! stays in `output` and goes first in the next call.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustls::Connection;

use super::{Fingerprint, TlsError};
use crate::clock::Deadline;
use crate::transport::Stream;
use crate::transport::socket::{Socket, is_timeout};

/// Bytes that are encrypted and sent in one go: four records. More would only leave the processor's cache.
const PORTION: usize = 64 << 10;

/// Encrypted bytes that are received in one go.
const RECEIVED: usize = 128 << 10;

/// Parts that are looked at in one go.
const MOST_PARTS: usize = 64;

/// What was received and not processed yet.
#[derive(Debug)]
struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// What was encrypted and not sent yet.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
pub(super) struct TlsStream {
    socket: Socket,
    peer: SocketAddr,
    own: Fingerprint,
    seen: Arc<OnceLock<Fingerprint>>,
    session: Mutex<Connection>,
    input: Mutex<Input>,
    output: Mutex<Output>,
    /// Held by the thread that agrees with the peer on who both are.
    agreeing: Mutex<()>,
    agreed: AtomicBool,
    /// Whether `output` was left with something.
    owed: AtomicBool,
    ended: AtomicBool,
    failed: Mutex<Option<TlsError>>,
    patience: Mutex<(Option<Duration>, Option<Duration>)>,
}

/// A thread that panicked in the library leaves a session that fails by itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves what the session has encrypted to `output`.
fn collect(session: &mut Connection, output: &mut Output) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut output.bytes)?;
    }
    Ok(())
}

impl TlsStream {
    pub(super) fn new(
        socket: Socket,
        mut session: Connection,
        peer: SocketAddr,
        seen: Arc<OnceLock<Fingerprint>>,
        own: Fingerprint,
    ) -> Self {
        // Portions are what bounds it.
        session.set_buffer_limit(None);
        Self {
            socket,
            peer,
            own,
            seen,
            session: Mutex::new(session),
            input: Mutex::new(Input { bytes: vec![0; RECEIVED].into_boxed_slice(), start: 0, end: 0 }),
            output: Mutex::default(),
            agreeing: Mutex::default(),
            agreed: AtomicBool::new(false),
            owed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            failed: Mutex::default(),
            patience: Mutex::default(),
        }
    }

    /// Agrees with the peer on who both are, once. Waits as long as a read may.
    pub(super) fn agree(&self) -> io::Result<()> {
        if self.agreed.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = lock(&self.agreeing);
        let mut input = lock(&self.input);
        let deadline = Deadline::within(lock(&self.patience).0);
        loop {
            self.usable()?;
            {
                let mut output = lock(&self.output);
                collect(&mut lock(&self.session), &mut output)?;
                self.flush(&mut output, deadline).map_err(|error| self.verdict(error, Some(&mut input)))?;
            }
            if !lock(&self.session).is_handshaking() {
                // Pairs with the load above: who sees it finds a session that is ready.
                self.agreed.store(true, Ordering::Release);
                return Ok(());
            }
            if deadline.over() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if !self.process(&mut lock(&self.session), &mut input)? {
                self.receive(&mut input)?;
            }
        }
    }

    /// The error that made the connection unusable, or that this side has ended it.
    fn usable(&self) -> io::Result<()> {
        if let Some(error) = lock(&self.failed).clone() {
            return Err(error.into());
        }
        if self.ended.load(Ordering::Acquire) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// From here on every call gives this error, or the one that was first.
    fn fail(&self, error: TlsError) -> io::Error {
        lock(&self.failed).get_or_insert(error).clone().into()
    }

    /// Waits for encrypted bytes. There must be room, so all that came before has to be processed.
    fn receive(&self, input: &mut Input) -> io::Result<()> {
        let count = self.socket.read(&mut input.bytes)?;
        (input.start, input.end) = (0, count);
        if count > 0 {
            return Ok(());
        }
        if self.ended.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let agreed = self.agreed.load(Ordering::Acquire);
        Err(self.fail(if agreed { TlsError::Truncated } else { TlsError::Left }))
    }

    /// Lets the session process some of what was received; false if there is nothing.
    fn process(&self, session: &mut Connection, input: &mut Input) -> io::Result<bool> {
        let mut received = &input.bytes[input.start..input.end];
        if received.is_empty() {
            return Ok(false);
        }
        let taken = session.read_tls(&mut received)?;
        input.start += taken;
        let agreed = !session.is_handshaking();
        match session.process_new_packets() {
            // None is taken behind the peer's farewell.
            Ok(_) => Ok(taken > 0),
            Err(error) => {
                let error = self.fail(TlsError::new(error, self.own, self.seen.get().copied(), agreed));
                self.tell(session);
                Err(error)
            }
        }
    }

    /// Tells the peer what the session has to say about a failure, as far as that is possible without waiting.
    fn tell(&self, session: &mut Connection) {
        // Taken out of order, but not waited for.
        if let Ok(mut output) = self.output.try_lock() {
            let _ = collect(session, &mut output);
            let _ = self.flush_now(&mut output);
        }
    }

    /// Sends all of `output`. What is left when time is over is owed.
    fn flush(&self, output: &mut Output, deadline: Deadline) -> io::Result<()> {
        while output.sent < output.bytes.len() {
            let result = self.socket.write(&[IoSlice::new(&output.bytes[output.sent..])]);
            self.account(output, result)?;
            if deadline.over() && output.sent < output.bytes.len() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Sends what can be sent without waiting.
    fn flush_now(&self, output: &mut Output) -> io::Result<()> {
        while output.sent < output.bytes.len() {
            let result = self.socket.write_now(&output.bytes[output.sent..]);
            self.account(output, result)?;
        }
        Ok(())
    }

    fn account(&self, output: &mut Output, result: io::Result<usize>) -> io::Result<()> {
        output.sent += *result.as_ref().unwrap_or(&0);
        if output.sent == output.bytes.len() {
            output.bytes.clear();
            output.sent = 0;
        }
        self.owed.store(!output.bytes.is_empty(), Ordering::Release);
        result.map(|_| ())
    }

    /// Sends what is owed, unless somebody is writing anyway. Whoever waits for an answer would otherwise wait for one to a
    /// question that never went.
    fn settle(&self) {
        if !self.owed.load(Ordering::Acquire) {
            return;
        }
        if let Ok(mut output) = self.output.try_lock() {
            // A connection that is gone shows in the read that follows.
            let _ = self.flush_now(&mut output);
        }
    }

    /// Decrypted bytes, as many as there are and `into` has room for. `Some(0)` is the peer's farewell, `None` if more has to be
    /// received first.
    fn take(&self, input: &mut Input, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut session = lock(&self.session);
        let mut filled = 0;
        while filled < into.len() {
            match session.reader().read(&mut into[filled..]) {
                Ok(0) => return Ok(Some(filled)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.process(&mut session, input) {
                        Ok(true) => {}
                        // What was decrypted before is good; the error comes in the next call.
                        Ok(false) | Err(_) if filled > 0 => break,
                        Ok(false) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(filled))
    }

    /// Encrypts a portion of `parts` and gives how much that is.
    fn encrypt(&self, parts: &[IoSlice<'_>], output: &mut Output) -> io::Result<usize> {
        let mut room = PORTION;
        let mut portion = Vec::with_capacity(parts.len().min(MOST_PARTS));
        for part in parts.iter().filter(|part| !part.is_empty()).take(MOST_PARTS) {
            let part = &part[..part.len().min(room)];
            room -= part.len();
            portion.push(IoSlice::new(part));
            if room == 0 {
                break;
            }
        }
        let mut session = lock(&self.session);
        let taken = session.writer().write_vectored(&portion)?;
        collect(&mut session, output)?;
        Ok(taken)
    }

    /// Why a write failed: the peer may have said so before it went.
    fn verdict(&self, error: io::Error, input: Option<&mut Input>) -> io::Error {
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        if !gone.contains(&error.kind()) {
            return error;
        }
        if let Some(input) = input {
            return self.last_words(error, input);
        }
        // Somebody who reads finds it anyway.
        match self.input.try_lock() {
            Ok(mut input) => self.last_words(error, &mut input),
            Err(_) => error,
        }
    }

    /// The socket fails to send, so receiving does not wait.
    fn last_words(&self, error: io::Error, input: &mut Input) -> io::Error {
        let mut session = lock(&self.session);
        loop {
            match self.process(&mut session, input) {
                Err(_) => break,
                Ok(true) => {}
                Ok(false) if input.start < input.end => break,
                Ok(false) => match self.socket.read(&mut input.bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => (input.start, input.end) = (0, count),
                },
            }
        }
        lock(&self.failed).clone().map_or(error, io::Error::from)
    }
}

impl Stream for TlsStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.ended.load(Ordering::Acquire) {
            return Ok(0);
        }
        self.agree()?;
        let deadline = Deadline::within(lock(&self.patience).0);
        let mut input = lock(&self.input);
        loop {
            if let Some(error) = lock(&self.failed).clone() {
                return Err(error.into());
            }
            match self.take(&mut input, into)? {
                Some(0) => {
                    self.shutdown();
                    return Ok(0);
                }
                Some(count) => return Ok(count),
                None => {}
            }
            self.settle();
            if deadline.over() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.receive(&mut input) {
                Err(_) if self.ended.load(Ordering::Acquire) => return Ok(0),
                result => result?,
            }
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.agree()?;
        let deadline = Deadline::within(lock(&self.patience).1);
        let mut output = lock(&self.output);
        self.usable()?;
        self.flush(&mut output, deadline).map_err(|error| self.verdict(error, None))?;
        let taken = self.encrypt(parts, &mut output)?;
        match self.flush(&mut output, deadline) {
            Err(error) if !is_timeout(&error) => Err(self.verdict(error, None)),
            _ => Ok(taken),
        }
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        *lock(&self.patience) = (read, write);
        self.socket.set_patience(read, write)
    }

    fn shutdown(&self) {
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        // A writer that waits has the lock, and the peer then learns that something is missing.
        if let Ok(mut output) = self.output.try_lock() {
            let mut session = lock(&self.session);
            session.send_close_notify();
            let _ = collect(&mut session, &mut output);
            let _ = self.flush_now(&mut output);
        }
        self.socket.shutdown();
    }

    fn peer(&self) -> String {
        match self.seen.get() {
            Some(shown) => format!("tls:{} ({shown})", self.peer),
            None => format!("tls:{}", self.peer),
        }
    }
}

/// What happens to a connection in tests.
#[cfg(test)]
impl TlsStream {
    /// Ends it as somebody between would: without a farewell.
    pub(super) fn cut(&self) {
        self.socket.shutdown();
    }

    /// Puts bytes of somebody else's into it.
    pub(super) fn inject(&self, bytes: &[u8]) {
        self.socket.write(&[IoSlice::new(bytes)]).unwrap();
    }

    pub(super) fn renew_keys(&self) {
        lock(&self.session).refresh_traffic_keys().unwrap();
    }
}
