//! Answers about migrations that this process knows nothing of but what stable storage says.
//!
//! A destination that was started anew, after a crash, is asked by a source that is in doubt. It answers as the handoff says
//! for one that has restarted: the guest is here, or never was and never will be. It has no replica to offer.
//!
//! [`receive`](super::receive) does it beside its own migration, [`answer`] does nothing else. Each who asks is heard on a thread of
//! their own; nobody is answered whose record cannot be read.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::select;
use whimbrel_core::machine::handoff::{DestinationEvent, DestinationHandoff, Effect, StableRecord};
use whimbrel_core::machine::message::Message;
use whimbrel_wire::Limits;
use whimbrel_wire::hello::Token;

use super::DestinationError;
use super::admission::{Admission, Arrived};
use crate::clock::{Clock as _, Deadline, SystemClock};
use crate::link::{Heard, Link, in_words, without_state};
use crate::observer::{Event, Observer};
use crate::orders::{Order, Orders};
use crate::stable::StableStore;
use crate::transport::{Listen, Stream};

/// How long somebody may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is said to somebody.
const QUESTIONS: usize = 16;

/// How many are answered at once. Whoever is one too many asks again.
const ANSWERED: usize = 16;

/// A destination that was started anew, of which its records are left.
pub struct Records<'a> {
    /// Where those who ask come to: the address that the source was told.
    pub listen: Arc<dyn Listen>,
    /// What they must know: the token that the source was told.
    pub token: Token,
    /// Where the old process kept its records.
    pub store: &'a mut dyn StableStore,
}

/// Answers sources that ask what became of their guests, from the records that a crash has left, and takes no guest.
///
/// Who asks about a migration with the record *running* is told that the guest is here, and who asks about one without a
/// record that it never ran here and never will: so the store must be the one that the old process had. What is answered is
/// [shown](Event::Answered).
///
/// Ends when `within` is over, or somebody orders [`Order::Leave`] or [`Order::Cancel`]; with none it answers until then. A source that
/// was answered has hung up by itself when it needs no more: [`Event::Answered`] does not say that it has heard the answer.
///
/// # Errors
///
/// [`DestinationError::Listen`] if no more connections can be taken, [`DestinationError::Thread`] if the system gives no thread.
pub fn answer(
    records: Records<'_>,
    within: Option<Duration>,
    orders: &Orders,
    observer: &mut dyn Observer,
) -> Result<(), DestinationError> {
    let Records { listen, token, store } = records;
    let clock = SystemClock::start();
    let admission = Admission::open(listen, token, None).map_err(DestinationError::Thread)?;
    let mut answering = Answering::default();
    let deadline = Deadline::within(within);
    loop {
        let left = deadline.left().unwrap_or(PATIENCE);
        if left.is_zero() {
            return Ok(());
        }
        select! {
            recv(admission.arrived()) -> arrived => match arrived {
                Ok(Arrived::Orphan { id, stream }) => match store.load(id) {
                    Ok(record) => if answering.begin(stream, record) {
                        observer.on_event(clock.now(), &Event::Answered { id, record });
                    },
                    // Whoever cannot know does not answer.
                    Err(error) => {
                        observer.on_event(clock.now(), &Event::StorageFails { what: &in_words(&error) });
                    }
                },
                Ok(Arrived::Closed { why }) => return Err(why.into()),
                Ok(Arrived::TurnedAway { peer, why }) => {
                    observer.on_event(clock.now(), &Event::TurnedAway { peer: &peer, why: &why });
                }
                // Nobody else is let in.
                Ok(_) | Err(_) => {}
            },
            recv(orders.taken) -> order => match order {
                Ok(Order::Leave | Order::Cancel(_)) => return Ok(()),
                Ok(order) => {
                    let why = "only questions about earlier guests are answered here";
                    observer.on_event(clock.now(), &Event::Ignored { order: &order, why });
                }
                Err(_) => {}
            },
            default(left) => {}
        }
    }
}

/// Those who are being answered. Dropped, they are hung up on.
#[derive(Default)]
pub(super) struct Answering(Vec<(Arc<dyn Stream>, JoinHandle<()>)>);

impl Answering {
    /// Answers somebody by this record, until they are content; false if there is no room or no thread for it.
    pub(super) fn begin(&mut self, stream: Arc<dyn Stream>, record: Option<StableRecord>) -> bool {
        for (_, thread) in self.0.extract_if(.., |(_, thread)| thread.is_finished()) {
            let _ = thread.join();
        }
        if self.0.len() >= ANSWERED {
            return false;
        }
        let theirs = Arc::clone(&stream);
        let thread = thread::Builder::new().name("answer".to_owned()).spawn(move || by(theirs, record));
        thread.map(|thread| self.0.push((stream, thread))).is_ok()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        for (stream, thread) in self.0.drain(..) {
            stream.shutdown();
            // It has said what there was to say.
            let _ = thread.join();
        }
    }
}

/// Answers until the source is content, by this record.
fn by(stream: Arc<dyn Stream>, record: Option<StableRecord>) {
    // A record of a source's says nothing of what was here.
    let Ok(mut handoff) = DestinationHandoff::restarted(record) else { return };
    let limits = without_state(Limits::default());
    let Ok(link) = Link::new(stream, PATIENCE, limits, limits) else { return };
    if handoff.handle(DestinationEvent::Connected).is_err() {
        return;
    }
    for _ in 0..QUESTIONS {
        let Ok(Heard::Message(Message::Handoff { message, .. })) = link.heard().recv_timeout(PATIENCE) else {
            return;
        };
        let Ok(effects) = handoff.handle(DestinationEvent::Received(message)) else { return };
        for effect in effects {
            // Nothing else can be asked for: there is no replica.
            if let Effect::Send(message) = effect
                && link.say(&Message::handoff(message)).is_err()
            {
                return;
            }
        }
    }
}
