//! Who is let in: connections are taken and their first words heard, each on a thread of its own for so long, so that nobody who
//! says nothing keeps others out. Where too many say nothing, whoever has done so for longest makes room for whoever comes.
//!
//! A door is open for one migration: the first control connection with the right token. From then on only its own
//! connections are let in. What a stranger says is bounded, and nothing is kept of it.

use std::collections::VecDeque;
use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::units::ByteCount;
use whimbrel_wire::Limits;
use whimbrel_wire::hello::{Answer, Hello, Reject, Role, Terms, Token, Versions};

use crate::hello::{self, Agreed};
use crate::link::in_words;
use crate::transport::{Listen, Stream, TransportError};

/// How long somebody may take for their first words.
const FIRST_WORDS: Duration = Duration::from_secs(5);

/// How many may be heard at once: those of one migration, and some more.
const HEARD: usize = 80;

/// What the system says when it lacks something: `ENOMEM`, `ENFILE`, `EMFILE`, `ENOBUFS`.
const LACKING: [i32; 4] = [libc::ENOMEM, libc::ENFILE, libc::EMFILE, libc::ENOBUFS];

/// How often it is looked whether the door is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Somebody was let in.
pub(super) enum Arrived {
    /// A migration begins.
    Control { id: MigrationId, agreed: Box<Agreed>, stream: Arc<dyn Stream> },
    /// Its control connection was made again.
    Again { stream: Arc<dyn Stream> },
    /// Somebody asks about a migration that is not here.
    Orphan { id: MigrationId, stream: Arc<dyn Stream> },
    /// One of its page connections.
    Pages { number: u16, stream: Arc<dyn Stream> },
    /// Somebody was not let in.
    TurnedAway { peer: String, why: String },
    /// No more connections can be taken.
    Closed { why: TransportError },
}

/// The migration that was let in.
struct Guest {
    id: MigrationId,
    streams: u16,
    /// Page connections that have come: a bit each.
    seen: u64,
}

struct Door {
    terms: Terms,
    /// Nobody is let in but those who ask.
    closed: bool,
    guest: Mutex<Option<Guest>>,
    tell: Sender<Arrived>,
}

/// Takes connections until it is dropped.
pub(super) struct Admission {
    arrived: Option<Receiver<Arrived>>,
    /// Kept, so that a door that has closed is silent.
    _tell: Sender<Arrived>,
    unwanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Admission {
    /// Lets in whoever knows this token, with a guest of at most so much memory; with none, only those who ask.
    pub(super) fn open(listen: Arc<dyn Listen>, token: Token, memory: Option<ByteCount>) -> io::Result<Self> {
        let (tell, arrived) = bounded(HEARD);
        let limits = Limits { memory: memory.unwrap_or(ByteCount(0)), ..Limits::default() };
        let terms = Terms { token, versions: Versions::SPOKEN, capabilities: hello::offered(), limits };
        let silent = tell.clone();
        let (closed, guest) = (memory.is_none(), Mutex::new(None));
        let door = Arc::new(Door { terms, closed, guest, tell });
        let unwanted = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&unwanted);
        let thread =
            thread::Builder::new().name("accept".to_owned()).spawn(move || accept(&*listen, &door, &told))?;
        Ok(Self { arrived: Some(arrived), _tell: silent, unwanted, thread: Some(thread) })
    }

    /// Where those arrive who were let in.
    pub(super) fn arrived(&self) -> Receiver<Arrived> {
        self.arrived.clone().unwrap_or_else(crossbeam_channel::never)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
        self.arrived = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listen: &dyn Listen, door: &Arc<Door>, unwanted: &AtomicBool) {
    let mut hearing = Hearing::default();
    while !unwanted.load(Ordering::Relaxed) {
        match listen.accept(LOOK) {
            Ok(None) => {}
            Ok(Some(stream)) => hearing.begin(door, Arc::from(stream)),
            // The system lacks something for now, as descriptors: whoever is connected goes on, whoever comes may come again.
            Err(why) if why.cause.raw_os_error().is_some_and(|code| LACKING.contains(&code)) => {
                thread::sleep(LOOK);
            }
            Err(why) => {
                let _ = door.tell.send(Arrived::Closed { why });
                break;
            }
        }
        hearing.0.retain(|one| !one.thread.is_finished());
    }
}

/// Somebody whose first words are heard.
struct Newcomer {
    /// Theirs alone, so that it ends with them.
    stream: Weak<dyn Stream>,
    /// They have shown the token.
    known: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Those whose first words are heard, in the order in which they came. Dropped, those who have shown the token are waited for, for a
/// bounded time.
#[derive(Default)]
struct Hearing(VecDeque<Newcomer>);

impl Hearing {
    fn begin(&mut self, door: &Arc<Door>, stream: Arc<dyn Stream>) {
        // Whoever is one too many may come again.
        if self.0.len() >= HEARD && !self.make_room() {
            return;
        }
        let (known, at) = (Arc::new(AtomicBool::new(false)), Arc::clone(door));
        let (weak, theirs) = (Arc::downgrade(&stream), Arc::clone(&known));
        let thread = thread::Builder::new().name("hello".to_owned()).spawn(move || at.hear(stream, &theirs));
        // Without a thread the connection is dropped.
        self.0.extend(thread.map(|thread| Newcomer { stream: weak, known, thread }));
    }

    /// Hangs up on whoever has said nothing for longest; false if all have shown the token.
    fn make_room(&mut self) -> bool {
        let stranger = self.0.iter().position(|one| !one.known.load(Ordering::Relaxed));
        let Some(Newcomer { stream, thread, .. }) = stranger.and_then(|index| self.0.remove(index)) else {
            return false;
        };
        if let Some(stream) = stream.upgrade() {
            stream.shutdown();
        }
        // Whoever is hung up on is not heard any longer, so this waits for no peer.
        let _ = thread.join();
        true
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        // Strangers are not waited for.
        while self.make_room() {}
        for Newcomer { thread, .. } in self.0.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Door {
    /// Hears the first words and answers. Whoever is not let in learns why, if they know the token.
    fn hear(&self, stream: Arc<dyn Stream>, known: &AtomicBool) {
        let peer = stream.peer();
        if let Err(error) = self.let_in(stream, known) {
            // As it looks from here.
            let why = error.source().map_or_else(|| error.to_string(), in_words);
            // Strangers who come faster than anybody listens are not told of, and keep nobody out.
            let _ = self.tell.try_send(Arrived::TurnedAway { peer, why });
        }
    }

    fn let_in(&self, stream: Arc<dyn Stream>, known: &AtomicBool) -> Result<(), hello::HelloError> {
        let hello = hello::hear(&*stream, FIRST_WORDS)?;
        known.store(self.terms.token.matches(&hello.token), Ordering::Relaxed);
        // One at a time, and answered before the next is looked at: whoever is welcomed finds the others known.
        let mut guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = self.judge(&hello, guest.as_ref());
        hello::answer(&*stream, &answer)?;
        let welcome = answer?;
        let id = hello.migration;
        let arrived = match hello.role {
            Role::Control { streams } => {
                *guest = Some(Guest { id, streams, seen: 0 });
                let agreed = Agreed::by(&hello, &welcome, self.terms.limits);
                Arrived::Control { id, agreed: Box::new(agreed), stream }
            }
            Role::Pages { stream: number } => {
                if let Some(guest) = &mut *guest {
                    guest.seen |= 1 << number;
                }
                Arrived::Pages { number, stream }
            }
            Role::Again if guest.as_ref().is_some_and(|guest| guest.id == id) => Arrived::Again { stream },
            Role::Again | Role::Unknown { .. } => Arrived::Orphan { id, stream },
        };
        drop(guest);
        // Whoever does not want it any more closes it.
        let _ = self.tell.send(arrived);
        Ok(())
    }

    fn judge(&self, hello: &Hello, guest: Option<&Guest>) -> Answer {
        if self.closed && matches!(hello.role, Role::Control { .. }) && self.terms.token.matches(&hello.token)
        {
            let text = "no guest is taken here: only questions about earlier ones are answered".to_owned();
            return Err(Reject::Other { code: Reject::OTHER, text });
        }
        let welcome = self.terms.judge(hello)?;
        match (hello.role, guest) {
            (Role::Control { .. }, Some(_)) => Err(Reject::Busy),
            (Role::Pages { stream }, Some(guest)) if guest.id == hello.migration => {
                let there = stream >= guest.streams || guest.seen >> stream & 1 == 1;
                if there { Err(Reject::Streams { most: guest.streams }) } else { Ok(welcome) }
            }
            (Role::Pages { .. }, _) => Err(Reject::Migration),
            _ => Ok(welcome),
        }
    }
}
