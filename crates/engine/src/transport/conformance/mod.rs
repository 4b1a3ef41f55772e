//! What every kind of connection promises, as one suite.
//!
//! A [`Ground`] makes connections of one kind. [`check`] puts them through all promises of [`Stream`], [`Connect`] and [`Listen`]
//! and gives the first that is broken. It runs on every kind here; whoever writes one of their own implements a ground and
//! runs it too. A check that hangs is a promise broken, not a suite that never ends.

mod promises;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::{Connect, Listen, TransportError};

#[cfg(doc)]
use super::Stream;

/// Who listens, and a way to there.
pub type Opened = (Box<dyn Listen>, Box<dyn Connect>);

/// Makes connections of one kind.
pub trait Ground: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Listens at a place where nobody else does, and gives a way to it.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if that cannot be done.
    fn open(&self) -> Result<Opened, TransportError>;

    /// A way to a place where nobody listens.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if there is none.
    fn nobody(&self) -> Result<Box<dyn Connect>, TransportError>;
}

/// What connections promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Promise {
    /// Bytes arrive whole and in order, in however large or small parts they are written and read.
    InOrder,
    /// Both directions carry bytes at once, even if both sides write more than is under way before they read.
    BothWays,
    /// What was taken before a shutdown arrives, and then the end, as often as is asked.
    EndsBehindTheLast,
    /// A shutdown wakes who reads, at either end.
    ShutdownWakesReaders,
    /// A shutdown wakes who writes at this end, and at the other if somebody reads there.
    ShutdownWakesWriters,
    /// Behind a shutdown nothing is taken, and another does nothing.
    ShutdownIsFinal,
    /// A read gives up when its patience is over, not before, and the stream can still be read.
    ReadsArePatient,
    /// A write gives up when its patience is over, and what it took arrives, once.
    WritesArePatient,
    /// A peer that vanishes is noticed by who reads and by who writes.
    LossIsNoticed,
    /// The descriptor carries the stream's bytes, if there is one.
    DescriptorIsTheStream,
    /// Many connections at once do not mix.
    ManyAtOnce,
    /// Nobody waits longer for a connection than they said.
    AcceptsInTime,
    /// Where nobody listens there is an error, in time.
    NobodyIsAnError,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InOrder => "bytes arrive whole and in order",
            Self::BothWays => "both directions carry bytes at once",
            Self::EndsBehindTheLast => "what was taken before a shutdown arrives, and then the end",
            Self::ShutdownWakesReaders => "a shutdown wakes who reads",
            Self::ShutdownWakesWriters => "a shutdown wakes who writes",
            Self::ShutdownIsFinal => "behind a shutdown nothing is taken",
            Self::ReadsArePatient => "a read gives up when its patience is over, and can be tried again",
            Self::WritesArePatient => {
                "a write gives up when its patience is over, and what it took arrives once"
            }
            Self::LossIsNoticed => "a peer that vanishes is noticed",
            Self::DescriptorIsTheStream => "the descriptor carries the stream's bytes",
            Self::ManyAtOnce => "many connections at once do not mix",
            Self::AcceptsInTime => "nobody waits longer for a connection than they said",
            Self::NobodyIsAnError => "where nobody listens there is an error in time",
        })
    }
}

/// A promise that was broken.
#[derive(Debug, thiserror::Error)]
#[error("{ground} connections break their promise that {promise}: {how}")]
pub struct Broken {
    /// The ground's name.
    pub ground: String,
    /// Which promise.
    pub promise: Promise,
    /// How.
    pub how: String,
}

/// Puts `ground` through all promises, each within `limit`: some take a second, on a busy machine more. Gives what could not be
/// checked, because connections of this kind have no such thing.
///
/// # Errors
///
/// The first promise that is [`Broken`]. If it is broken by waiting, threads are left that wait.
pub fn check(ground: &Arc<dyn Ground>, limit: Duration) -> Result<Vec<Promise>, Broken> {
    let mut missing = Vec::new();
    for (promise, check) in promises::ALL {
        let (tell, told) = mpsc::channel();
        let of = Arc::clone(ground);
        // A check that panics drops its end of the channel.
        thread::spawn(move || tell.send(check(&*of)));
        let found = match told.recv_timeout(limit) {
            Ok(found) => found,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("somebody still waits after {limit:?}")),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err("it panicked".to_owned()),
        };
        match found {
            Ok(promises::Found::Kept) => {}
            Ok(promises::Found::NoSuchThing) => missing.push(promise),
            Err(how) => return Err(Broken { ground: ground.name().to_owned(), promise, how }),
        }
    }
    Ok(missing)
}
