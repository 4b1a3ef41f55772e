//! What is spoken with the source, and on what; and what is left of that when the guest is here.
//!
//! The driver has a [`Conversation`] and tells the machine what it brings; when it is done an [`Afterlife`] goes on answering. Messages
//! and pages come by different connections: a message that says that pages were sent before it waits here until they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{never, select};
use whimbrel_core::machine::handoff::HandoffMessage;
use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{Destination, DestinationAction, DestinationEvent};
use whimbrel_core::units::Timestamp;
use whimbrel_wire::Limits;

use super::admission::{Admission, Arrived};
use super::answering::Answering;
use super::receivers::{Receivers, Said};
use crate::clock::{Clock as _, Deadline, SystemClock};
use crate::hello::Agreed;
use crate::link::{Heard, Link, without_state};
use crate::orders::{Order, Orders};
use crate::transport::Stream;

/// Messages that may wait for their pages: a round's end or two, and the state behind the last.
const HELD: usize = 64;

/// What is spoken with the source, and on what.
pub(super) struct Conversation {
    pub(super) machine: Destination,
    pub(super) clock: SystemClock,
    pub(super) admission: Admission,
    /// Those who ask about other migrations.
    pub(super) answering: Answering,
    pub(super) agreed: Option<Agreed>,
    pub(super) link: Option<Link>,
    pub(super) receivers: Option<Receivers>,
    /// Page connections that came before the replica was there.
    pub(super) early: Vec<(u16, Arc<dyn Stream>)>,
    /// The last round that each page stream has ended.
    pub(super) gates: Vec<Option<u32>>,
    /// Messages that wait for pages which were sent before them.
    pub(super) held: VecDeque<Message>,
    pub(super) spoke: Timestamp,
    pub(super) patience: Duration,
}

/// One thing that happened.
pub(super) enum Happened {
    Arrived(Arrived),
    Said(Said),
    Heard(Heard),
    Ordered(Order),
    Nothing,
}

impl Conversation {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn limits(&self) -> Limits {
        self.agreed.as_ref().map_or_else(Limits::default, |agreed| agreed.limits)
    }

    /// Waits for one thing to happen, for so long at most.
    pub(super) fn wait(&self, orders: Option<&Orders>, timeout: Duration) -> Happened {
        let never_ordered = never();
        let taken = orders.map_or(&never_ordered, |orders| &orders.taken);
        let heard = self.link.as_ref().map_or_else(never, Link::heard);
        let said = self.receivers.as_ref().map_or_else(never, Receivers::said);
        select! {
            recv(said) -> said => said.map_or(Happened::Nothing, Happened::Said),
            recv(heard) -> heard => heard.map_or(Happened::Nothing, Happened::Heard),
            recv(self.admission.arrived()) -> arrived => arrived.map_or(Happened::Nothing, Happened::Arrived),
            recv(taken) -> order => order.map_or(Happened::Nothing, Happened::Ordered),
            default(timeout) => Happened::Nothing,
        }
    }

    /// Whether every page stream has ended this round.
    pub(super) fn is_through(&self, round: u32) -> bool {
        self.gates.iter().all(|gate| gate.is_some_and(|ended| ended >= round))
    }

    /// The next message whose pages are all here.
    pub(super) fn next_message(&mut self) -> Option<Message> {
        if matches!(self.held.front(), Some(Message::RoundEnd { .. })) && !self.has_a_round() {
            return None;
        }
        self.held.pop_front()
    }

    /// Whether the next message says that a round has ended, all of whose pages are here.
    pub(super) fn has_a_round(&self) -> bool {
        matches!(self.held.front(), Some(Message::RoundEnd { round }) if self.is_through(*round))
    }

    /// Keeps a message until the pages are here that were sent before it; false if so much is not kept.
    pub(super) fn hold(&mut self, message: Message) -> bool {
        // Whoever cancels does not want the pages that are still to come.
        if matches!(message, Message::Handoff { message: HandoffMessage::Cancel, .. }) {
            self.held.clear();
        }
        let state = |message: &Message| matches!(message, Message::State(_));
        if self.held.len() >= HELD || state(&message) && self.held.iter().any(state) {
            return false;
        }
        self.held.push_back(message);
        true
    }

    /// Nothing more comes on these connections.
    pub(super) fn hang_up(&mut self) {
        self.link = None;
        self.receivers = None;
        self.early.clear();
        self.held.clear();
    }

    pub(super) fn say(&mut self, message: &Message) -> Result<(), String> {
        self.spoke = self.now();
        match &self.link {
            Some(link) => link.say(message).map_err(|error| error.in_words()),
            // Nobody is there to hear it; who asks again is told again.
            None => Ok(()),
        }
    }
}

/// What is left of a destination when its guest runs or is gone: it still answers a source that did not hear of it.
///
/// Without it such a source can't know and keeps its guest paused, until it asks a destination that reads the record from
/// stable storage.
pub struct Afterlife(pub(super) Conversation);

impl Afterlife {
    /// Answers for so long, or until the source has closed its connection; gives whether it has. That it has says that it
    /// needs no more answers, most often: the death of its process looks the same, and so does a source that has heard nothing for its
    /// patience and comes again at once. So the record on stable storage is not to be erased for it, and whoever can calls this again
    /// and again, on a thread of its own for as long as the guest runs here: as long as nobody does, sources that come are welcomed and
    /// wait.
    ///
    /// Where nothing is decided, because [`Leave`](Order::Leave) was ordered, it returns false at once.
    ///
    /// A source asks for as long as [`SourceSettings::asking`](crate::source::SourceSettings::asking) says. Dropping this ends
    /// all connections; a later [`receive`](super::receive) with the same address, token and store answers too.
    pub fn answer(&mut self, how_long: Duration) -> bool {
        let core = &mut self.0;
        // Nobody has decided anything.
        if core.machine.outcome().is_none() {
            return false;
        }
        let deadline = Deadline::within(Some(how_long));
        let mut closed = false;
        loop {
            while let Some(action) = core.machine.poll() {
                if let DestinationAction::Send(message) = action
                    && core.say(&message).is_err()
                {
                    core.hang_up();
                }
            }
            let left = deadline.left().unwrap_or(Duration::MAX);
            if left.is_zero() || closed {
                return closed;
            }
            let event = match core.wait(None, left) {
                Happened::Heard(Heard::Message(message)) => DestinationEvent::Received(message),
                Happened::Heard(Heard::Lost(error)) => {
                    closed = error.is_end();
                    core.hang_up();
                    DestinationEvent::Disconnected
                }
                Happened::Arrived(Arrived::Again { stream }) => {
                    core.hang_up();
                    let now = core.now();
                    // Where it was lost before, that is known.
                    let _ = core.machine.handle(now, DestinationEvent::Disconnected);
                    match Link::new(stream, core.patience, core.limits(), without_state(core.limits())) {
                        Ok(link) => core.link = Some(link),
                        Err(_) => continue,
                    }
                    DestinationEvent::Connected
                }
                Happened::Arrived(_) | Happened::Said(_) | Happened::Ordered(_) | Happened::Nothing => {
                    continue;
                }
            };
            let now = core.now();
            // What does not fit is nothing to answer.
            let _ = core.machine.handle(now, event);
        }
    }
}
