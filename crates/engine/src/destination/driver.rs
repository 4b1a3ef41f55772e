//! The loop: wait, tell the machine, do what it asks for; and what is left of it when the guest is here.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use whimbrel_core::machine::handoff::{HandoffMessage, StableRecord};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId, Section};
use whimbrel_core::machine::{
    CancelReason, Destination, DestinationAction, DestinationEvent, DestinationOutcome, DestinationPhase,
    Failure, Step,
};
use whimbrel_core::units::Timestamp;

use super::admission::{Admission, Arrived};
use super::answering::Answering;
use super::conversation::{Afterlife, Conversation, Happened};
use super::housed::Housed;
use super::preparing::Preparing;
use super::receivers::{Receivers, Said, Taken};
use super::{
    DestinationError, DestinationLedger, DestinationResult, DestinationSettings, Host, Incoming, Replica,
};
use crate::clock::{Clock as _, SystemClock};
use crate::insisting::{self, Kept};
use crate::link::{Heard, Link, in_words};
use crate::observer::{Event, Observer};
use crate::orders::{Order, Orders};
use crate::stable::{NEAR, StableStore};
use crate::transport::Stream;
use crate::verify::Verifier;

pub(super) struct Driver<'a> {
    pub(super) core: Conversation,
    host: &'a mut dyn Host,
    store: &'a mut dyn StableStore,
    pub(super) settings: DestinationSettings,
    orders: &'a Orders,
    observer: &'a mut dyn Observer,
    id: Option<MigrationId>,
    configuration: Option<Arc<Configuration>>,
    housed: Housed,
    preparing: Option<Preparing>,
    verifier: Option<Verifier>,
    /// Since when a round that is here is being hashed.
    hashing: Option<Timestamp>,
    shown: DestinationPhase,
    /// The replica is not wanted any more.
    dropping: bool,
    resume_failed: Option<String>,
    pub(super) why: Option<String>,
    ledger: DestinationLedger,
    taken: Taken,
    /// When the machine came into its phase, or the source that is waited for.
    pub(super) since: Timestamp,
    /// When the source was let in.
    pub(super) admitted: Option<Timestamp>,
    leaving: bool,
}

impl<'a> Driver<'a> {
    pub(super) fn begin(
        incoming: Incoming<'a>,
        settings: DestinationSettings,
        orders: &'a Orders,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, DestinationError> {
        let Incoming { listen, host, store } = incoming;
        let admission = Admission::open(listen, settings.token.clone(), Some(settings.memory))
            .map_err(DestinationError::Thread)?;
        let core = Conversation {
            machine: Destination::new(),
            clock: SystemClock::start(),
            admission,
            answering: Answering::default(),
            agreed: None,
            link: None,
            receivers: None,
            early: Vec::new(),
            gates: Vec::new(),
            held: VecDeque::new(),
            spoke: Timestamp::ZERO,
            patience: settings.patience,
        };
        Ok(Self {
            core,
            host,
            store,
            settings,
            orders,
            observer,
            id: None,
            configuration: None,
            housed: Housed::default(),
            preparing: None,
            verifier: None,
            hashing: None,
            shown: DestinationPhase::Listening,
            dropping: false,
            resume_failed: None,
            why: None,
            ledger: DestinationLedger::default(),
            taken: Taken::default(),
            since: Timestamp::ZERO,
            admitted: None,
            leaving: false,
        })
    }

    pub(super) fn run(mut self) -> Result<DestinationResult, DestinationError> {
        self.await_somebody()?;
        while self.core.machine.outcome().is_none() && !self.leaving {
            self.step();
            while let Some(action) = self.core.machine.poll() {
                self.carry_out(action);
            }
            self.free_what_was_dropped();
        }
        Ok(self.end())
    }

    /// Waits for the first control connection.
    fn await_somebody(&mut self) -> Result<(), DestinationError> {
        while self.core.link.is_none() {
            let left = match self.settings.waiting {
                None => Duration::from_hours(1),
                Some(waiting) => {
                    let left = waiting.saturating_sub(self.core.now().since(Timestamp::ZERO));
                    if left.is_zero() {
                        return Err(DestinationError::Nobody(waiting));
                    }
                    left
                }
            };
            match self.core.wait(Some(self.orders), left) {
                Happened::Arrived(Arrived::Closed { why }) => return Err(why.into()),
                // The door is closed behind the first: nobody else can come in.
                Happened::Arrived(arrived) => self.admit(arrived).map_err(DestinationError::Thread)?,
                Happened::Ordered(Order::Cancel(_) | Order::Leave | Order::Discard) => {
                    return Err(DestinationError::Cancelled);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn end(mut self) -> DestinationResult {
        self.preparing = None;
        self.core.receivers = None;
        let machine = &self.core.machine;
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        DestinationResult {
            outcome: machine.outcome(),
            right: machine.handoff().right(),
            configuration: self.configuration,
            replica: self.housed.replica.take(),
            resume_failed: self.resume_failed,
            why: self.why,
            ledger: self.ledger,
            taken,
            afterlife: Afterlife(self.core),
        }
    }

    // ---- waiting ------------------------------------------------------------------------------------------------------

    fn step(&mut self) {
        let hashing = self.hashing.is_some();
        let timeout = if hashing { Duration::ZERO } else { self.at_once() };
        match self.core.wait(Some(self.orders), timeout) {
            Happened::Arrived(arrived) => {
                if let Err(error) = self.admit(arrived) {
                    self.show(&Event::Lost { what: &format!("control: {error}") });
                }
            }
            Happened::Said(said) => self.hear_stream(said),
            Happened::Heard(Heard::Message(message)) => {
                if self.core.hold(message) {
                    self.hear();
                } else {
                    self.break_off("more is said than waits for its pages");
                }
            }
            Happened::Heard(Heard::Lost(error)) => self.lose(&format!("control: {}", error.in_words())),
            Happened::Ordered(order) => self.obey(&order),
            Happened::Nothing if hashing => self.hear(),
            Happened::Nothing => {}
        }
        self.watch();
        self.ping();
    }

    /// The next message. A round is here when it is hashed, too, if a digest is kept: what comes after it is then all that is left to hash
    /// when the guest stands still. It is not waited for if the source has gone on meanwhile, nor for so long that the source might
    /// give up.
    fn next_message(&mut self) -> Option<Message> {
        if self.core.held.len() == 1 && self.core.has_a_round() {
            let now = self.core.now();
            let begun = *self.hashing.get_or_insert(now);
            let in_time = now.since(begun) < self.core.patience / 4;
            if in_time && self.verifier.as_ref().is_some_and(Verifier::hash_some) {
                return None;
            }
        }
        self.hashing = None;
        self.core.next_message()
    }

    fn ping(&mut self) {
        let now = self.core.now();
        if now.since(self.core.spoke) >= self.core.patience / 4 {
            self.core.spoke = now;
            if let Some(Err(error)) = self.core.link.as_ref().map(Link::ping) {
                self.lose(&format!("control: {}", error.in_words()));
            }
        }
    }

    /// Fails where the system gives no thread to listen to a control connection.
    fn admit(&mut self, arrived: Arrived) -> io::Result<()> {
        match arrived {
            Arrived::Control { id, agreed, stream } => {
                self.id = Some(id);
                self.since = self.core.now();
                self.admitted = Some(self.since);
                self.core.gates = vec![None; usize::from(agreed.streams)];
                self.core.agreed = Some(*agreed);
                self.talk_over(stream)?;
            }
            Arrived::Again { stream } => {
                self.lose("a new connection takes the place of the old one");
                self.talk_over(stream)?;
                self.tell_if_it_fits(DestinationEvent::Connected);
            }
            Arrived::Pages { number, stream } => {
                self.core.early.push((number, stream));
                self.receive_pages();
            }
            Arrived::Orphan { id, stream } => self.answer_for_the_dead(id, stream),
            Arrived::TurnedAway { peer, why } => {
                self.show(&Event::TurnedAway { peer: &peer, why: &why });
            }
            Arrived::Closed { why } => self.show(&Event::Lost { what: &in_words(&why) }),
        }
        Ok(())
    }

    /// Somebody asks about a migration of which there is at most a record.
    fn answer_for_the_dead(&mut self, id: MigrationId, stream: Arc<dyn Stream>) {
        match self.store.load(id) {
            Ok(record) => {
                // Where there is no room for it, whoever asks asks again.
                if self.core.answering.begin(stream, record) {
                    self.show(&Event::Answered { id, record });
                }
            }
            // Whoever cannot know does not answer.
            Err(error) => self.show(&Event::StorageFails { what: &in_words(&error) }),
        }
    }

    fn talk_over(&mut self, stream: Arc<dyn Stream>) -> io::Result<()> {
        let limits = self.core.limits();
        self.core.link = Some(Link::new(stream, self.core.patience, limits, limits)?);
        self.core.spoke = self.core.now();
        self.show(&Event::Connected);
        Ok(())
    }

    /// Begins to receive where both the replica and a connection are there.
    fn receive_pages(&mut self) {
        let Some(receivers) = &mut self.core.receivers else { return };
        let patience = self.core.patience;
        let started = self
            .core
            .early
            .drain(..)
            .try_for_each(|(number, stream)| receivers.add(number, stream, patience));
        if let Err(error) = started {
            self.lose(&format!("page streams: {error}"));
        }
    }

    fn hear_stream(&mut self, said: Said) {
        match said {
            Said::Gate { stream, round } => {
                if let Some(gate) = self.core.gates.get_mut(usize::from(stream)) {
                    *gate = Some(round);
                }
                self.hear();
            }
            Said::Near => self.record_is_near(),
            // Nothing more is missing, so nothing more need come.
            Said::Lost { ended: true, .. } if self.core.machine.phase() > DestinationPhase::Loading => {}
            Said::Lost { stream, ended: false, why }
                if self.core.machine.phase() == DestinationPhase::Loading =>
            {
                self.break_off(&format!("page stream {stream}: {why}"));
            }
            Said::Lost { stream, why, .. } => self.lose(&format!("page stream {stream}: {why}")),
        }
    }

    /// Passes on what can be passed on.
    fn hear(&mut self) {
        while let Some(message) = self.next_message() {
            if let Message::Configure(configuration) = &message {
                if self.id != Some(configuration.id) {
                    return self.break_off("a guest of another migration");
                }
                self.configuration.get_or_insert_with(|| Arc::clone(configuration));
            }
            if matches!(message, Message::Handoff { message: HandoffMessage::Cancel, .. }) {
                self.why.get_or_insert_with(|| "the source keeps the guest".to_owned());
            }
            let ended = matches!(message, Message::RoundEnd { .. });
            let now = self.core.now();
            if let Err(error) = self.core.machine.handle(now, DestinationEvent::Received(message)) {
                return self.break_off(&error.to_string());
            }
            if ended {
                // It may have been the last, and the guest comes next.
                self.record_is_near();
            }
            self.show_phase();
        }
    }

    /// The peer broke the protocol, or what it sent cannot be taken.
    pub(super) fn break_off(&mut self, detail: &str) {
        if self.core.machine.handoff().may_withdraw() {
            self.why.get_or_insert_with(|| detail.to_owned());
            let failure = Failure { step: Step::Protocol, detail: detail.to_owned() };
            if self.tell_if_it_fits(DestinationEvent::Failed(failure)) {
                return;
            }
        }
        // Behind *ready*, and before there is a guest to withdraw from.
        self.lose(detail);
    }

    fn obey(&mut self, order: &Order) {
        let event = match order {
            // Before the replica is ready there is nothing to leave.
            Order::Leave if !self.core.machine.handoff().may_withdraw() => {
                self.leaving = true;
                return self.show(&Event::Taken { order });
            }
            Order::Cancel(CancelReason::Requested | CancelReason::TimeLimit) | Order::Leave => {
                DestinationEvent::Withdraw
            }
            // Taken only without a connection: with one, asking is better.
            Order::Fence(fence) => DestinationEvent::Fenced(*fence),
            Order::Discard => DestinationEvent::Discard,
            Order::Change { .. } | Order::Limit(_) => {
                let why = "a destination decides nothing of how pages are sent";
                return self.show(&Event::Ignored { order, why });
            }
        };
        let withdrawn = event == DestinationEvent::Withdraw;
        if let Err(error) = self.core.machine.handle(self.core.now(), event) {
            return self.show(&Event::Ignored { order, why: &error.to_string() });
        }
        if withdrawn {
            self.why.get_or_insert_with(|| "it was not wanted here".to_owned());
        }
        self.show_phase();
        self.show(&Event::Taken { order });
    }

    // ---- the machine --------------------------------------------------------------------------------------------------

    fn tell(&mut self, event: DestinationEvent) {
        self.tell_at(self.core.now(), event);
    }

    fn tell_at(&mut self, now: Timestamp, event: DestinationEvent) {
        let name = event.name();
        if let Err(error) = self.core.machine.handle(now, event) {
            // Cannot be: the machine asked for it.
            debug_assert!(false, "{name}: {error}");
            self.show(&Event::Lost { what: &error.to_string() });
        }
        self.show_phase();
    }

    /// Tells the machine what may have come too late; gives whether it was taken.
    pub(super) fn tell_if_it_fits(&mut self, event: DestinationEvent) -> bool {
        let taken = self.core.machine.handle(self.core.now(), event).is_ok();
        if taken {
            self.show_phase();
        }
        taken
    }

    fn carry_out(&mut self, action: DestinationAction) {
        match action {
            DestinationAction::Send(message) => {
                if let Err(error) = self.core.say(&message) {
                    self.lose(&format!("control: {error}"));
                }
            }
            DestinationAction::Build(configuration) => self.build(&configuration),
            DestinationAction::Restore(state) => self.restore(state),
            DestinationAction::Persist(record) => self.persist(record),
            DestinationAction::Resume => self.resume(),
            DestinationAction::DropReplica => self.dropping = true,
            DestinationAction::Done(_) => {}
            // Whoever adds an action sees to it here.
            other => debug_assert!(false, "{other:?} is not carried out"),
        }
    }

    /// After all was said: to free much memory takes a while, and somebody waits for the answer.
    fn free_what_was_dropped(&mut self) {
        if std::mem::take(&mut self.dropping) {
            self.preparing = None;
            self.core.receivers = None;
            self.verifier = None;
            self.housed.replica = None;
        }
    }

    fn build(&mut self, configuration: &Configuration) {
        let began = self.core.now();
        let (most, largest) = (self.settings.memory, self.settings.largest_page);
        let page_size = configuration.layout.page_size();
        // Whoever has no room for a record takes no guest.
        let prepared = self.store.prepare(configuration.id, &configuration.name);
        let built = if let Err(error) = prepared {
            Err(in_words(&error))
        } else if configuration.layout.bytes() > most {
            let wanted = configuration.layout.bytes();
            Err(format!("a guest of {wanted}; this host takes guests of up to {most}"))
        } else if page_size > largest {
            Err(format!("a guest with pages of {page_size}; this host takes pages of up to {largest}"))
        } else {
            self.host.build(configuration).map_err(|error| in_words(&*error))
        };
        let built = built.and_then(|replica| {
            // A host that builds something else would have its memory written wrongly.
            let same = *replica.ram.layout() == configuration.layout;
            same.then_some(replica).ok_or_else(|| "the host built a guest with another layout".to_owned())
        });
        match built {
            Ok(replica) => {
                self.ledger.build = self.core.now().since(began);
                if let Err(error) = self.expect_pages(&replica) {
                    let reason = format!("no thread for the migration: {error}");
                    self.why = Some(reason.clone());
                    return self.tell(DestinationEvent::Refused { reason });
                }
                // Without it everything goes on, slower.
                self.preparing = Preparing::start(Arc::clone(&replica.ram)).ok();
                self.housed.replica = Some(replica);
                self.receive_pages();
                self.tell(DestinationEvent::Built);
            }
            Err(reason) => {
                self.why = Some(reason.clone());
                self.tell(DestinationEvent::Refused { reason });
            }
        }
    }

    /// What is to be there before the first page comes.
    fn expect_pages(&mut self, replica: &Replica) -> io::Result<()> {
        let Some(agreed) = &self.core.agreed else { return Ok(()) };
        self.verifier = agreed.digest.then(|| Verifier::start(Arc::clone(&replica.ram))).transpose()?;
        let written = self.verifier.as_ref().map(Verifier::written);
        let ram = Arc::clone(&replica.ram);
        let receivers = Receivers::new(ram, agreed.clone(), replica.fresh, written);
        self.taken = receivers.taken();
        self.core.receivers = Some(receivers);
        Ok(())
    }

    fn restore(&mut self, mut state: Vec<Section>) {
        self.preparing = None;
        let began = self.core.now();
        let checked = self.verifier.take().map_or(Ok(()), |mut verifier| verifier.check(&mut state));
        let restored =
            checked.map_err(|error| in_words(&error)).and_then(|()| match &mut self.housed.replica {
                Some(replica) => replica.guest.restore(state).map_err(|error| in_words(&error)),
                None => Err("there is no replica".to_owned()),
            });
        self.ledger.restore = self.core.now().since(began);
        match restored {
            Ok(()) => self.tell(DestinationEvent::Restored),
            Err(detail) => {
                self.why = Some(detail.clone());
                self.tell(DestinationEvent::Failed(Failure { step: Step::Restore, detail }));
            }
        }
    }

    fn record_is_near(&mut self) {
        if let Some(id) = self.id {
            self.store.warm(id, NEAR);
        }
    }

    fn persist(&mut self, record: StableRecord) {
        let Some(id) = self.id else { return };
        let began = self.core.now();
        let (clock, observer) = (self.core.clock, &mut *self.observer);
        let show = |event: &Event<'_>| observer.on_event(clock.now(), event);
        let kept = insisting::persist(self.store, (id, record), self.orders, show);
        self.ledger.persist = self.core.now().since(began);
        match kept {
            Kept::Written => self.tell(DestinationEvent::Persisted),
            Kept::NotWritten => {
                // The source asks again at once.
                thread::sleep(insisting::PAUSE);
                self.tell(DestinationEvent::NotPersisted);
            }
            Kept::Left => self.leaving = true,
        }
    }

    /// Lets the guest run. *Running* is written: it belongs here, whether it can be made to run or not.
    fn resume(&mut self) {
        let began = self.core.now();
        self.housed.runs = true;
        if let Some(replica) = &mut self.housed.replica {
            self.resume_failed = insisting::resume(&mut *replica.guest).err().map(|error| in_words(&error));
        }
        // It may have run for a while before this thread goes on.
        let now = self.core.now();
        let ago = self.housed.replica.as_ref().and_then(|replica| replica.guest.turned_ago());
        let running = now.saturating_sub(ago.unwrap_or_default()).max(began);
        self.ledger.resume = running.since(began);
        self.tell_at(running, DestinationEvent::Resumed);
    }

    // ---- connections, and what others see -----------------------------------------------------------------------------

    /// The connection is of no more use: all of it, for a round without some of its pages is none.
    fn lose(&mut self, what: &str) {
        if self.core.link.is_none() {
            return;
        }
        self.core.hang_up();
        self.why.get_or_insert_with(|| format!("the connection was lost: {what}"));
        self.show(&Event::Lost { what });
        self.tell_if_it_fits(DestinationEvent::Disconnected);
    }

    fn show(&mut self, event: &Event<'_>) {
        let now = self.core.now();
        self.observer.on_event(now, event);
    }

    fn show_phase(&mut self) {
        let phase = self.core.machine.phase();
        if phase != self.shown {
            self.shown = phase;
            self.since = self.core.now();
            if self.core.machine.outcome() == Some(DestinationOutcome::GuestLost) {
                self.show(&Event::GuestLost);
            }
            self.show(&Event::Destination(phase));
        }
    }
}
