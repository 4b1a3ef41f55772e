//! Connections within a process, for tests, examples and two machines in one program.
//!
//! They behave as sockets do: what is under way is bounded, reads and writes wait, ends are noticed. And they break on demand:
//! a [`Link`] is cut at once, cut behind a number of bytes, or stalled.
//!
//! ```
//! use std::io::IoSlice;
//! use std::time::Duration;
//!
//! use whimbrel_engine::transport::memory::MemoryHub;
//! use whimbrel_engine::transport::{Connect, Listen};
//!
//! let hub = MemoryHub::new();
//! let listener = hub.listen()?;
//! let near = hub.connector().connect(Duration::from_secs(1))?;
//! let far = listener.accept(Duration::from_secs(1))?.expect("it was just made");
//! near.write(&[IoSlice::new(b"page")])?;
//! let mut bytes = [0; 16];
//! assert_eq!(far.read(&mut bytes)?, 4);
//! hub.links()[0].cut();
//! assert!(far.read(&mut bytes).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Connect, Listen, Stream, TransportError};
use crate::clock::Deadline;

/// Bytes under way in one direction.
const ROOM: usize = 256 << 10;

/// Connections that wait to be taken.
const BACKLOG: usize = 128;

/// What it guards is never left half changed, so a thread that panicked with it in hand does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until something changed or the time is over; false if it is over.
fn wait<'a, T>(changed: &Condvar, held: MutexGuard<'a, T>, deadline: Deadline) -> (MutexGuard<'a, T>, bool) {
    match deadline.left() {
        None => (changed.wait(held).unwrap_or_else(PoisonError::into_inner), true),
        Some(left) if left.is_zero() => (held, false),
        Some(left) => {
            let (held, _) = changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner);
            (held, true)
        }
    }
}

/// What is under way in one direction.
#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<Flow>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// Who writes has ended it.
    ended: bool,
    /// Who reads has gone.
    unread: bool,
    cut: bool,
    stalled: bool,
}

impl Pipe {
    fn change(&self, change: impl FnOnce(&mut Flow)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    fn read(&self, into: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        let mut flow = lock(&self.state);
        loop {
            if flow.cut {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if flow.unread || into.is_empty() {
                return Ok(0);
            }
            if !flow.stalled && !flow.bytes.is_empty() {
                break;
            }
            if !flow.stalled && flow.ended {
                return Ok(0);
            }
            let (held, more) = wait(&self.changed, flow, deadline);
            flow = held;
            if !more {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        // The queue is in two parts at most.
        let first = flow.bytes.read(into)?;
        let second = flow.bytes.read(&mut into[first..])?;
        drop(flow);
        self.changed.notify_all();
        Ok(first + second)
    }

    fn write(&self, parts: &[IoSlice<'_>], deadline: Deadline, budget: &Budget) -> io::Result<usize> {
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        let mut flow = lock(&self.state);
        loop {
            if flow.cut {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if flow.ended || flow.unread {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if offered == 0 {
                return Ok(0);
            }
            if flow.bytes.len() < ROOM {
                break;
            }
            let (held, more) = wait(&self.changed, flow, deadline);
            flow = held;
            if !more {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        let taken = budget.spend(offered.min(ROOM - flow.bytes.len()));
        let mut left = taken;
        for part in parts {
            let part = &part[..part.len().min(left)];
            flow.bytes.extend(part);
            left -= part.len();
        }
        drop(flow);
        self.changed.notify_all();
        Ok(taken)
    }
}

/// How many bytes a link still takes before it is cut; none if it is not to be cut.
#[derive(Debug, Default)]
struct Budget(Mutex<Option<u64>>);

impl Budget {
    /// As many of `wanted` as are left.
    fn spend(&self, wanted: usize) -> usize {
        let mut left = lock(&self.0);
        let Some(left) = left.as_mut() else { return wanted };
        let taken = (*left).min(wanted as u64);
        *left -= taken;
        taken as usize
    }

    fn is_spent(&self) -> bool {
        *lock(&self.0) == Some(0)
    }
}

/// The two directions of one connection, for whoever wants to break it.
#[derive(Clone, Debug)]
pub struct Link {
    pipes: [Arc<Pipe>; 2],
    budget: Arc<Budget>,
}

impl Link {
    fn new() -> Self {
        Self { pipes: Default::default(), budget: Arc::default() }
    }

    /// Loses the connection: whatever is under way is gone, and both ends get `ConnectionReset` from here on.
    pub fn cut(&self) {
        for pipe in &self.pipes {
            pipe.change(|flow| {
                flow.cut = true;
                flow.bytes.clear();
            });
        }
    }

    /// Cuts it as soon as so many more bytes were taken, from both ends together. The call that takes the last of them still
    /// succeeds, but nothing that is under way then arrives.
    pub fn cut_after(&self, bytes: u64) {
        *lock(&self.budget.0) = Some(bytes);
        if bytes == 0 {
            self.cut();
        }
    }

    /// Nothing arrives any more, and writes wait once no more can be under way; or all goes on as before.
    pub fn stall(&self, stalled: bool) {
        for pipe in &self.pipes {
            pipe.change(|flow| flow.stalled = stalled);
        }
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        lock(&self.pipes[0].state).cut
    }
}

/// Two ends of one connection, and what breaks it.
pub fn pair() -> (MemoryStream, MemoryStream, Link) {
    let link = Link::new();
    let end = |reads: usize, peer| MemoryStream {
        link: link.clone(),
        reads,
        peer,
        patience: Mutex::new((None, None)),
    };
    (end(0, "memory, who listens"), end(1, "memory, who connects"), link.clone())
}

/// One end of a connection within a process. Dropping it is the same as ending it.
#[derive(Debug)]
pub struct MemoryStream {
    link: Link,
    /// Which of the pipes it reads; it writes the other.
    reads: usize,
    peer: &'static str,
    patience: Mutex<(Option<Duration>, Option<Duration>)>,
}

impl Stream for MemoryStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let deadline = Deadline::within(lock(&self.patience).0);
        self.link.pipes[self.reads].read(into, deadline)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let deadline = Deadline::within(lock(&self.patience).1);
        let taken = self.link.pipes[1 - self.reads].write(parts, deadline, &self.link.budget)?;
        if self.link.budget.is_spent() {
            self.link.cut();
        }
        Ok(taken)
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        *lock(&self.patience) = (read, write);
        Ok(())
    }

    fn shutdown(&self) {
        self.link.pipes[self.reads].change(|flow| flow.unread = true);
        self.link.pipes[1 - self.reads].change(|flow| flow.ended = true);
    }

    fn peer(&self) -> String {
        self.peer.to_owned()
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// A place at which one listener can be connected to. Clones are the same place.
#[derive(Clone, Default)]
pub struct MemoryHub(Arc<Hub>);

#[derive(Default)]
struct Hub {
    state: Mutex<Place>,
    changed: Condvar,
}

#[derive(Default)]
struct Place {
    listened_at: bool,
    unreachable: bool,
    waiting: VecDeque<MemoryStream>,
    links: Vec<Link>,
}

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = lock(&self.0.state);
        write!(f, "MemoryHub of {} links", place.links.len())
    }
}

impl MemoryHub {
    /// A place at which nobody listens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens here.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if somebody does already.
    pub fn listen(&self) -> Result<MemoryListener, TransportError> {
        let mut place = lock(&self.0.state);
        if place.listened_at {
            let cause = io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already");
            return Err(TransportError::new("cannot listen in memory", cause));
        }
        place.listened_at = true;
        Ok(MemoryListener(self.clone()))
    }

    /// Makes connections to whoever listens here.
    pub fn connector(&self) -> MemoryConnector {
        MemoryConnector(self.clone())
    }

    /// All connections that were made, in this order, those that ended included.
    pub fn links(&self) -> Vec<Link> {
        lock(&self.0.state).links.clone()
    }

    /// Whether new connections come through; if not, whoever wants one waits in vain.
    pub fn set_reachable(&self, reachable: bool) {
        lock(&self.0.state).unreachable = !reachable;
        self.0.changed.notify_all();
    }
}

/// Connections to whoever listens at a [`MemoryHub`].
#[derive(Clone, Debug)]
pub struct MemoryConnector(MemoryHub);

impl Connect for MemoryConnector {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        let failed = |kind: io::ErrorKind| TransportError::new("cannot connect in memory", kind.into());
        let deadline = Deadline::within(Some(within));
        let Hub { state, changed } = &*self.0.0;
        let mut place = lock(state);
        loop {
            if !place.unreachable && !place.listened_at {
                return Err(failed(io::ErrorKind::ConnectionRefused));
            }
            if !place.unreachable && place.waiting.len() < BACKLOG {
                break;
            }
            let (held, more) = wait(changed, place, deadline);
            place = held;
            if !more {
                return Err(failed(io::ErrorKind::TimedOut));
            }
        }
        let (near, far, link) = pair();
        place.links.push(link);
        place.waiting.push_back(far);
        drop(place);
        changed.notify_all();
        Ok(Box::new(near))
    }
}

/// Takes connections at a [`MemoryHub`]. Another can listen there when it is dropped.
#[derive(Debug)]
pub struct MemoryListener(MemoryHub);

impl Listen for MemoryListener {
    fn accept(&self, within: Duration) -> Result<Option<Box<dyn Stream>>, TransportError> {
        let deadline = Deadline::within(Some(within));
        let Hub { state, changed } = &*self.0.0;
        let mut place = lock(state);
        loop {
            if let Some(taken) = place.waiting.pop_front() {
                drop(place);
                changed.notify_all();
                return Ok(Some(Box::new(taken)));
            }
            let (held, more) = wait(changed, place, deadline);
            place = held;
            if !more {
                return Ok(None);
            }
        }
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let mut place = lock(&self.0.0.state);
        place.listened_at = false;
        // Those that nobody took end here.
        let left = std::mem::take(&mut place.waiting);
        drop(place);
        drop(left);
        self.0.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
