//! Who is let in: connections are taken and their first words heard, each on a thread of its own for so long, so that nobody who
//! says nothing keeps others out.
//!
//! A door is open for one migration: the first control connection with the right token. From then on only its own
//! connections are let in. What a stranger says is bounded, and nothing is kept of it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use whimbrel_core::machine::message::MigrationId;
use whimbrel_wire::hello::{Hello, Role, Token};

use crate::hello::{Agreed, Answer, answer, hear};
use crate::transport::{Listen, Stream};

/// How long somebody may take for their first words.
const FIRST_WORDS: Duration = Duration::from_secs(5);

/// How many may be heard at once: those of one migration, and some more.
const HEARD: usize = 80;

/// How often it is looked whether the door is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// Somebody was let in.
pub(super) enum Arrived {
    /// A migration begins.
    Control { id: MigrationId, agreed: Agreed, stream: Box<dyn Stream> },
    /// Its control connection was made again.
    Again { stream: Box<dyn Stream> },
    /// One of its page connections.
    Pages { number: u16, stream: Box<dyn Stream> },
    /// No more connections can be taken.
    Closed { why: crate::transport::TransportError },
}

/// The migration that was let in.
#[derive(Debug)]
struct Guest {
    id: MigrationId,
    streams: u16,
    /// Page connections that have come: a bit each.
    seen: u64,
}

struct Door {
    token: Token,
    guest: Mutex<Option<Guest>>,
    /// Who is being heard.
    heard: AtomicUsize,
    tell: Sender<Arrived>,
}

/// Takes connections until it is dropped.
pub(super) struct Admission {
    arrived: Receiver<Arrived>,
    unwanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}
