//! The digest of guest memory, kept up to date beside a migration, and how it travels.
//!
//! Both drivers have a [`Verifier`] where both sides agreed on it. A thread hashes in the background what was written; when memory
//! stands still only what changed last is left. Where that thread is late the drivers wait for it, or hash in its place
//! ([`Verifier::hash_some`]): a round is over when it is hashed, too, so that what a busy machine adds is added to the rounds, where the
//! policy sees it, and not to the downtime. The source puts the root behind the guest's state, in a section of its own that no guest
//! sees; the destination compares it before it says that it is ready. Nothing is decided here.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use whimbrel_core::dirty::{PageSet, RangeError};
use whimbrel_core::embed::{GuestRam, RamError};
use whimbrel_core::layout::PageRun;
use whimbrel_core::machine::message::Section;
use whimbrel_core::units::ByteCount;

use crate::digest::Digest;

/// The section that the root travels in.
const KIND: &str = "whimbrel-memory-digest";
const VERSION: u32 = 1;

/// Hashed at a time, and how long the thread rests when it has nothing to do.
const STEP: ByteCount = ByteCount(4 << 20);
const REST: Duration = Duration::from_millis(5);

/// How long a driver leaves the table to that thread before it looks again.
const BREATH: Duration = Duration::from_micros(500);

/// What is wrong with memory, or with what was said of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("the replica's memory cannot be hashed")]
    Ram(#[from] RamError),
    #[error("the source sent no digest of the guest's memory, which was agreed on")]
    Missing,
    #[error("the replica's memory is not the guest's: its digest is {here}, the source's {there}")]
    Different { here: String, there: String },
}

/// Keeps the digest of one side.
pub(crate) struct Verifier {
    digest: Arc<Digest>,
    ram: Arc<dyn GuestRam>,
    /// Dropped to end the thread.
    wanted: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Verifier {
    /// Begins to hash. All writes from now on are to be told.
    pub(crate) fn start(ram: Arc<dyn GuestRam>) -> io::Result<Self> {
        let digest = Arc::new(Digest::new(ram.layout()));
        let (wanted, unwanted) = bounded::<()>(0);
        let (at, of) = (Arc::clone(&digest), Arc::clone(&ram));
        let thread = thread::Builder::new().name("digest".to_owned()).spawn(move || {
            loop {
                // What cannot be read is found when the root is wanted.
                let done = at.refresh(&*of, STEP).is_ok_and(|hashed| hashed.done);
                let rest = if done { REST } else { Duration::ZERO };
                if unwanted.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { digest, ram, wanted: Some(wanted), thread: Some(thread) })
    }

    /// The pages of a harvest were written.
    pub(crate) fn harvested(&self, pages: &PageSet) -> Result<(), RangeError> {
        self.digest.stale(pages)
    }

    /// To be told what is written.
    pub(crate) fn written(&self) -> Written {
        Written(Arc::clone(&self.digest))
    }

    /// Hashes some of what was written and is not hashed yet, or lets the thread go on that does; says whether there is more. Takes a
    /// few milliseconds at most.
    pub(crate) fn hash_some(&self) -> bool {
        match self.digest.try_refresh(&*self.ram, STEP) {
            Ok(Some(hashed)) => !hashed.done,
            Ok(None) => {
                thread::sleep(BREATH);
                // One of these may be the last, in the middle of which that thread is.
                true
            }
            // What cannot be read is found when the root is wanted.
            Err(_) => false,
        }
    }

    /// Whether all of memory was hashed once.
    pub(crate) fn is_whole(&self) -> bool {
        self.digest.is_whole()
    }

    /// The root, when memory stands still.
    fn root(&mut self) -> Result<Vec<u8>, RamError> {
        // In the middle of a step it would be waited for anyway.
        self.stop();
        Ok(self.digest.root(&*self.ram)?.hash.to_vec())
    }

    /// Puts the root behind the guest's state.
    pub(crate) fn seal(&mut self, state: &mut Vec<Section>) -> Result<(), VerifyError> {
        let bytes = self.root()?;
        state.push(Section { kind: KIND.to_owned(), version: VERSION, bytes });
        Ok(())
    }

    /// Takes the root off the guest's state, and holds memory here against it.
    pub(crate) fn check(&mut self, state: &mut Vec<Section>) -> Result<(), VerifyError> {
        let place = state.iter().position(|section| section.kind == KIND && section.version == VERSION);
        let there = state.remove(place.ok_or(VerifyError::Missing)?).bytes;
        let here = self.root()?;
        if here == there {
            return Ok(());
        }
        // Enough to see that they differ.
        let words = |bytes: &[u8]| bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        let words = |bytes: &[u8]| format!("{:016x}", words(bytes));
        Err(VerifyError::Different { here: words(&here), there: words(&there) })
    }

    fn stop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where it is told what was written into a replica.
#[derive(Clone)]
pub(crate) struct Written(Arc<Digest>);

impl Written {
    /// These were, before this is called.
    pub(crate) fn run(&self, run: PageRun) {
        // `wire` has held it against the layout.
        let known = self.0.stale_run(run);
        debug_assert!(known.is_ok(), "{known:?}");
    }
}
