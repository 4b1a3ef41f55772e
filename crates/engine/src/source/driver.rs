//! The loop: wait, tell the machine, do what it asks for.

mod connections;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{never, select};
use whimbrel_core::controller::{Controller, Harvested, Prior};
use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::GuestRam;
use whimbrel_core::machine::handoff::{Right, StableRecord};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId};
use whimbrel_core::machine::{
    CancelReason, Failure, MachineError, Source, SourceAction, SourceEvent, SourcePhase, Step,
};
use whimbrel_core::policy::{Policy, RateLimit};
use whimbrel_core::progress::Capabilities;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::Timestamp;
use whimbrel_wire::{Limits, control};

use super::charge::Charge;
use super::connecting::{self, sharding};
use super::pages::{PageStreams, Said};
use super::reconnect::Reconnecting;
use super::showing::LINES;
use super::spent::Spent;
use super::tracking::Tracking;
use super::transmit::Dealing;
use super::{Outgoing, SourceError, SourceResult, SourceSettings};
use crate::capabilities;
use crate::clock::{Clock as _, SystemClock};
use crate::hello::Introduction;
use crate::insisting::{self, Kept};
use crate::limiter::Limiter;
use crate::link::{Heard, Link, in_words};
use crate::observer::{Event, Observer};
use crate::orders::{Order, Orders};
use crate::stable::{NEAR, StableStore};
use crate::transport::Connect;
use crate::verify::Verifier;

pub(super) struct Driver<'a> {
    pub(super) machine: Source,
    pub(super) clock: SystemClock,
    pub(super) dealing: Dealing,
    pub(super) pages: Option<PageStreams>,
    ram: Arc<dyn GuestRam>,
    charge: Charge<'a>,
    connect: Arc<dyn Connect>,
    store: &'a mut dyn StableStore,
    settings: SourceSettings,
    introduction: Introduction,
    pub(super) limiter: Arc<Limiter>,
    /// The policy's limit.
    wanted: RateLimit,
    orders: &'a Orders,
    pub(super) observer: &'a mut dyn Observer,
    link: Option<Link>,
    reconnecting: Option<Reconnecting>,
    /// A connection that was lost is still to be made again.
    to_reconnect: bool,
    found: PageSet,
    tracking: Tracking,
    pub(super) spent: Spent,
    /// A digest was agreed on.
    digest: bool,
    verifier: Option<Verifier>,
    wakes: BTreeSet<Timestamp>,
    spoke: Timestamp,
    pub(super) shown: SourcePhase,
    /// When lines of the journal were shown.
    pub(super) journal_shown: Timestamp,
    pub(super) rounds: u32,
    /// When the machine was done, or began to doubt.
    alone_since: Option<Timestamp>,
    /// The last round that the destination has acknowledged.
    acknowledged: Option<u32>,
    /// A page stream was lost: all is, at this time.
    doomed: Option<(Timestamp, String)>,
    timed_out: bool,
    leaving: bool,
}

impl<'a> Driver<'a> {
    /// Makes room for the record, and connects. Nothing is done to the guest.
    pub(super) fn begin(
        outgoing: Outgoing<'a>,
        settings: SourceSettings,
        orders: &'a Orders,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, SourceError> {
        let Outgoing { name, vcpus, ram, log, guest, policy, connect, store } = outgoing;
        let layout = ram.layout().clone();
        let configuration =
            Configuration { id: settings.id, name: name.clone(), layout: layout.clone(), vcpus };
        let machine = machine(configuration, policy, capabilities::of(&mut *guest), &settings)?;
        let introduction = connecting::introduction(&settings, layout.bytes());
        // Before anybody is called: a destination takes one migration, and would have taken this one.
        store.prepare(settings.id, &name)?;
        let joined = connecting::all(&*connect, &settings, &introduction)
            .inspect_err(|_| give_room_back(store, settings.id))?;
        // How long a connection may take has a limit of its own.
        let clock = SystemClock::start();
        let limiter = Arc::new(Limiter::new(Arc::new(clock), settings.limit));
        let mut driver = Self {
            machine,
            clock,
            dealing: Dealing::new(sharding(settings.streams), settings.streams),
            pages: None,
            found: PageSet::new(layout.numbers()),
            tracking: Tracking::default(),
            spent: Spent::default(),
            digest: joined.agreed.digest,
            verifier: None,
            ram,
            charge: Charge::new(guest, log),
            connect,
            store,
            settings,
            introduction,
            limiter,
            wanted: RateLimit::Unlimited,
            orders,
            observer,
            link: None,
            reconnecting: None,
            to_reconnect: false,
            wakes: BTreeSet::new(),
            spoke: Timestamp::ZERO,
            shown: SourcePhase::Idle,
            journal_shown: Timestamp::ZERO,
            rounds: 0,
            alone_since: None,
            acknowledged: None,
            doomed: None,
            timed_out: false,
            leaving: false,
        };
        let taken = driver.take_up(joined);
        taken.inspect_err(|_| give_room_back(driver.store, driver.settings.id))?;
        Ok(driver)
    }

    /// Everything, until nothing is left to do here.
    pub(super) fn run(mut self) -> SourceResult {
        // Policies see it in what is sent: whoever reads the journal must know it from the beginning.
        if self.settings.limit != RateLimit::Unlimited {
            self.tell(SourceEvent::Limit(self.settings.limit));
        }
        self.tell(SourceEvent::Start);
        loop {
            while let Some(action) = self.machine.poll() {
                self.carry_out(action);
            }
            if self.is_over() {
                break;
            }
            self.wait(None);
        }
        self.end()
    }

    fn end(mut self) -> SourceResult {
        self.reconnecting = None;
        self.hang_up();
        let undecided = self.machine.handoff().right() == Right::Undecided;
        if undecided {
            // Nobody is listened to any more, so nobody here will know.
            self.tell_if_it_fits(SourceEvent::Disconnected);
        }
        // The machine has undone nothing yet.
        if self.leaving || undecided {
            self.charge.leave();
        }
        self.show_rest_of_journal();
        let now = self.clock.now();
        let handoff = *self.machine.handoff();
        SourceResult {
            report: self.machine.report(now),
            right: handoff.right(),
            settled: handoff.is_settled(),
            encoded: self.dealing.total(),
            cpu: self.spent.total(),
            tracking: self.tracking,
            capabilities: self.machine.controller().progress().capabilities,
        }
    }

    /// Whether there is nothing more to do or to wait for.
    fn is_over(&mut self) -> bool {
        if self.leaving {
            return true;
        }
        let (phase, now) = (self.machine.phase(), self.clock.now());
        let wait = match phase {
            SourcePhase::Done if self.machine.handoff().is_settled() => return true,
            SourcePhase::Done => Some(self.settings.farewell),
            SourcePhase::InDoubt | SourcePhase::AwaitingRunning if self.alone_since.is_some() => {
                self.settings.asking
            }
            SourcePhase::InDoubt => self.settings.asking,
            _ => {
                self.alone_since = None;
                return false;
            }
        };
        let since = *self.alone_since.get_or_insert(now);
        wait.is_some_and(|wait| now.since(since) >= wait)
    }

    // ---- waiting ------------------------------------------------------------------------------------------------------

    /// Waits for one thing to happen, until then at most, and tells the machine.
    pub(super) fn wait(&mut self, until: Option<Timestamp>) {
        if self.to_reconnect && self.reconnecting.is_none() {
            self.reconnect();
        }
        let now = self.clock.now();
        let due = [self.next_due(), until].into_iter().flatten().min();
        // Nothing is waited for longer: the peer wants to hear that somebody is here.
        let quiet = self.ping_after().saturating_sub(now.since(self.spoke));
        let timeout = due.map_or(quiet, |due| due.since(now).min(quiet));
        let heard = self.link.as_ref().map_or_else(never, Link::heard);
        let said = self.pages.as_ref().filter(|_| self.needs_streams()).map_or_else(never, PageStreams::said);
        let made = self.reconnecting.as_ref().map_or_else(never, Reconnecting::made);
        select! {
            recv(said) -> said => match said {
                Ok(said) => self.take(said),
                Err(_) => self.doom("page streams: their threads have ended"),
            },
            recv(heard) -> heard => match heard {
                Ok(Heard::Message(message)) => self.hear(message),
                Ok(Heard::Lost(error)) => self.lose(&format!("control: {}", error.in_words())),
                Err(_) => self.lose("control"),
            },
            recv(made) -> made => match made {
                Ok(made) => self.connected_again(made),
                // Its thread has ended without a word: there will be another.
                Err(_) => self.reconnecting = None,
            },
            recv(self.orders.taken) -> order => if let Ok(order) = order { self.obey(&order) },
            default(timeout) => {}
        }
        self.look_at_the_clock();
    }

    fn ping_after(&self) -> Duration {
        self.settings.patience / 4
    }

    /// The earliest time at which something is to be done.
    fn next_due(&self) -> Option<Timestamp> {
        let limit = self.settings.time_limit.filter(|_| !self.timed_out);
        let limit = limit.map(|limit| Timestamp::ZERO.saturating_add(limit));
        let alone = match (self.alone_since, self.machine.phase()) {
            (Some(since), SourcePhase::Done) => Some(since.saturating_add(self.settings.farewell)),
            (Some(since), _) => self.settings.asking.map(|wait| since.saturating_add(wait)),
            (None, _) => None,
        };
        let doomed = self.doomed.as_ref().map(|(at, _)| *at);
        [self.wakes.first().copied(), limit, alone, doomed, self.journal_due()].into_iter().flatten().min()
    }

    fn look_at_the_clock(&mut self) {
        let now = self.clock.now();
        let mut woken = false;
        while self.wakes.first().is_some_and(|at| *at <= now) {
            self.wakes.pop_first();
            woken = true;
        }
        if woken {
            let _ = self.tell_if_it_fits(SourceEvent::Wake);
        }
        if let Some(limit) = self.settings.time_limit
            && !self.timed_out
            && now.since(Timestamp::ZERO) >= limit
        {
            self.timed_out = true;
            self.tell_if_it_fits(SourceEvent::Cancel(CancelReason::TimeLimit));
        }
        if let Some((_, what)) = self.doomed.take_if(|(at, _)| *at <= now) {
            self.lose(&what);
        }
        self.show_journal();
        if now.since(self.spoke) >= self.ping_after() {
            self.spoke = now;
            if let Some(Err(error)) = self.link.as_ref().map(Link::ping) {
                self.lose(&format!("control: {}", error.in_words()));
            }
        }
    }

    fn take(&mut self, said: Said) {
        match said {
            Said::Sent { stream, tally } => {
                if let Some(pages) = &mut self.pages {
                    pages.heard(stream);
                }
                self.dealing.count(tally);
            }
            Said::Lost { stream, why } => self.doom(&format!("page stream {stream}: {why}")),
        }
    }

    /// Whether a page stream that is lost does any harm: not where the migration is over.
    fn needs_streams(&self) -> bool {
        let over = matches!(
            self.machine.phase(),
            SourcePhase::Returning | SourcePhase::Releasing | SourcePhase::Done
        );
        self.doomed.is_none() && !over
    }

    /// What the destination says. What does not fit is a breach of the protocol.
    fn hear(&mut self, message: Message) {
        // Each round is acknowledged once: a peer that goes on acknowledging would fill the journal.
        if let Message::Acknowledge { round } = &message {
            if self.acknowledged.is_some_and(|before| *round <= before) {
                return self.breach(format!("round {round} was acknowledged before"));
            }
            self.acknowledged = Some(*round);
        }
        let Err(error) = self.pass_on(SourceEvent::Received(message)) else {
            return self.show_phase();
        };
        self.breach(error.to_string());
    }

    /// The peer broke the protocol.
    fn breach(&mut self, detail: String) {
        let failure = Failure { step: Step::Protocol, detail };
        if self.machine.handoff().may_cancel() {
            self.tell_if_it_fits(SourceEvent::Failed(failure));
        } else {
            self.lose(&format!("control: {failure}"));
        }
    }

    fn obey(&mut self, order: &Order) {
        let taken = match order {
            Order::Cancel(reason) => self.pass_on(SourceEvent::Cancel(*reason)),
            Order::Change { parameter, value } => {
                let (parameter, value) = (parameter.clone(), value.clone());
                self.pass_on(SourceEvent::Change { parameter, value })
            }
            // Taken only without a connection: with one, asking is better.
            Order::Fence(fence) => self.pass_on(SourceEvent::Fenced(*fence)),
            Order::Limit(limit) => self.pass_on(SourceEvent::Limit(*limit)),
            // Before the doubt there is nothing to leave but a guest that is to go on: that is cancelled.
            Order::Leave if self.machine.handoff().may_cancel() => {
                self.pass_on(SourceEvent::Cancel(CancelReason::Requested))
            }
            Order::Leave => {
                self.leaving = true;
                Ok(())
            }
            Order::Discard => {
                let why = "a source has no replica to give up";
                return self.show(&Event::Ignored { order, why });
            }
        };
        match (taken, order) {
            (Err(error), _) => return self.show(&Event::Ignored { order, why: &error.to_string() }),
            (Ok(()), Order::Limit(limit)) => {
                self.settings.limit = *limit;
                self.limit();
            }
            (Ok(()), _) => self.show_phase(),
        }
        self.show(&Event::Taken { order });
    }

    // ---- the machine --------------------------------------------------------------------------------------------------

    /// Passes an event to the machine; whose the guest is then is known before anything is done about it.
    fn pass_on(&mut self, event: SourceEvent) -> Result<(), MachineError> {
        let taken = self.machine.handle(self.clock.now(), event);
        self.charge.belongs(self.machine.handoff().right());
        taken
    }

    /// Tells the machine what it asked for.
    pub(super) fn tell(&mut self, event: SourceEvent) {
        let name = event.name();
        if let Err(error) = self.pass_on(event) {
            // Cannot be: the machine asked for it.
            debug_assert!(false, "{name}: {error}");
            self.show(&Event::Lost { what: &error.to_string() });
        }
        self.show_phase();
    }

    /// Tells the machine what may have come too late; gives whether it was taken.
    fn tell_if_it_fits(&mut self, event: SourceEvent) -> bool {
        let taken = self.pass_on(event).is_ok();
        if taken {
            self.show_phase();
        }
        taken
    }

    fn carry_out(&mut self, action: SourceAction) {
        match action {
            SourceAction::Send(message) => self.say(&message),
            SourceAction::StartTracking => {
                let began = self.clock.now();
                let done = self.charge.log.start();
                self.tracking.start = self.clock.now().since(began);
                // From here on every write is in a harvest, which makes what was hashed stale.
                if done.is_ok() && self.digest {
                    match Verifier::start(Arc::clone(&self.ram)) {
                        Ok(verifier) => self.verifier = Some(verifier),
                        Err(error) => return self.fail(Step::StartTracking, &error),
                    }
                }
                self.answer(Step::StartTracking, done, SourceEvent::TrackingStarted);
            }
            SourceAction::StopTracking => {
                self.verifier = None;
                let began = self.clock.now();
                let done = self.charge.log.stop();
                self.tracking.stop = self.clock.now().since(began);
                self.answer(Step::StopTracking, done, SourceEvent::TrackingStopped);
            }
            SourceAction::Transmit(transmit) => self.transmit(transmit),
            SourceAction::Harvest => self.harvest(),
            SourceAction::Throttle(throttle) => self.throttle(throttle),
            SourceAction::Limit(limit) => {
                self.wanted = limit;
                self.limit();
            }
            SourceAction::Pause => self.pause(),
            SourceAction::SaveState => self.save(),
            SourceAction::Resume => {
                let done = insisting::resume(self.charge.guest);
                self.answer(Step::Resume, done, SourceEvent::Resumed);
            }
            SourceAction::Persist(record) => self.persist(record),
            SourceAction::Erase => {
                if let Err(error) = self.store.erase(self.settings.id) {
                    self.show(&Event::StorageFails { what: &in_words(&error) });
                }
            }
            SourceAction::Reconnect => self.reconnect(),
            SourceAction::Wake(at) => {
                self.wakes.insert(at);
            }
            // The caller has the guest, and sees whose it is. No page is ever asked for: post-copy is not offered.
            SourceAction::Release | SourceAction::Done | SourceAction::Urgent(_) => {}
            // Whoever adds an action sees to it here.
            other => debug_assert!(false, "{other:?} is not carried out"),
        }
    }

    fn answer<E: std::error::Error>(&mut self, step: Step, done: Result<(), E>, event: SourceEvent) {
        match done {
            Ok(()) => self.tell(event),
            Err(error) => self.fail(step, &error),
        }
    }

    pub(super) fn fail(&mut self, step: Step, error: &dyn std::error::Error) {
        self.tell(SourceEvent::Failed(Failure { step, detail: in_words(error) }));
    }

    /// Hashes some of what is not hashed yet, if a digest is kept; says whether there is more.
    pub(super) fn hash_some(&self) -> bool {
        self.verifier.as_ref().is_some_and(Verifier::hash_some)
    }

    /// A policy may pause the guest before all of its memory was hashed once: better waited for now than when it stands still. What was
    /// written since is left to the blackout, or the guest would write on meanwhile. Nobody is heard, so not for longer than a peer
    /// hears nothing anyway.
    fn hash_before_the_pause(&self) {
        let until = self.clock.now().saturating_add(self.ping_after());
        let is_to_go_on = |verifier: &Verifier| !verifier.is_whole() && verifier.hash_some();
        while self.verifier.as_ref().is_some_and(is_to_go_on) && self.clock.now() < until {}
    }

    fn pause(&mut self) {
        self.hash_before_the_pause();
        self.record_is_near();
        // This thread comes from a harvest: guest threads that waited for its processor meanwhile go on before they are stopped.
        thread::yield_now();
        let told = self.clock.now();
        let done = self.charge.guest.pause();
        // Whatever comes between the two looks at the clock makes the downtime shorter, never longer than it was.
        let ago = self.charge.guest.turned_ago();
        let stopped = ago.map(|ago| self.clock.now().saturating_sub(ago));
        self.machine.guest_stopped(stopped.map_or(told, |stopped| stopped.max(told)));
        self.answer(Step::Pause, done, SourceEvent::Paused);
    }

    fn save(&mut self) {
        let mut state = match self.charge.guest.save() {
            Ok(state) => state,
            Err(error) => return self.fail(Step::SaveState, &error),
        };
        match self.verifier.as_mut().map_or(Ok(()), |verifier| verifier.seal(&mut state)) {
            Ok(()) => self.tell(SourceEvent::Saved(state)),
            Err(error) => self.fail(Step::SaveState, &error),
        }
    }

    fn harvest(&mut self) {
        let began = self.clock.now();
        if let Err(error) = self.charge.log.harvest(&mut self.found) {
            return self.fail(Step::Harvest, &error);
        }
        let took = self.clock.now().since(began);
        if let Some(Err(error)) = self.verifier.as_ref().map(|verifier| verifier.harvested(&self.found)) {
            return self.fail(Step::Harvest, &error);
        }
        let in_flight = self.in_flight();
        let backlog = self.machine.backlog_mut();
        let left_over = backlog.pending();
        match backlog.harvested(&mut self.found) {
            Ok(harvested) => {
                let pending = self.machine.backlog().pending();
                let dirtied = harvested.dirty;
                self.tracking.harvested(took, dirtied);
                self.tell(SourceEvent::Harvested(Harvested { dirtied, left_over, pending, in_flight }));
                self.show_progress();
            }
            Err(error) => self.fail(Step::Harvest, &error),
        }
    }

    fn throttle(&mut self, throttle: Throttle) {
        match self.charge.guest.throttle(throttle) {
            Ok(true) => self.show(&Event::Throttle(throttle)),
            Ok(false) => {
                let detail = format!("this guest cannot be slowed like this: {throttle:?}");
                self.tell(SourceEvent::Failed(Failure { step: Step::Throttle, detail }));
            }
            Err(error) => self.fail(Step::Throttle, &error),
        }
    }

    /// The lower of what the policy wants and what whoever ordered the migration allows.
    fn limit(&mut self) {
        let limit = match (self.wanted, self.settings.limit) {
            (RateLimit::AtMost(wanted), RateLimit::AtMost(allowed)) => RateLimit::AtMost(wanted.min(allowed)),
            (RateLimit::Unlimited, limit) | (limit, RateLimit::Unlimited) => limit,
        };
        self.limiter.set(limit);
        self.show(&Event::Limit(limit));
    }

    /// Nothing but a harvest and an answer, if that, may come between this and *go*.
    pub(super) fn record_is_near(&mut self) {
        self.store.warm(self.settings.id, NEAR);
    }

    fn persist(&mut self, record: StableRecord) {
        let (clock, observer) = (self.clock, &mut *self.observer);
        let show = |event: &Event<'_>| observer.on_event(clock.now(), event);
        match insisting::persist(self.store, (self.settings.id, record), self.orders, show) {
            Kept::Written => self.tell(SourceEvent::Persisted),
            Kept::NotWritten => self.tell(SourceEvent::NotPersisted),
            Kept::Left => self.leaving = true,
        }
    }
}

/// The machine of a migration that has not begun, if it can be as it is wanted.
fn machine(
    configuration: Configuration,
    policy: Box<dyn Policy>,
    offered: Capabilities,
    settings: &SourceSettings,
) -> Result<Source, SourceError> {
    if !(1..=64).contains(&settings.streams) {
        return Err(SourceError::Streams(settings.streams));
    }
    let configure = Message::Configure(Arc::new(configuration.clone()));
    control::encode(&configure, &Limits::default()).map_err(SourceError::Guest)?;
    let layout = &configuration.layout;
    let controller = Controller::new(policy, layout.page_size(), layout.pages(), offered)?;
    let prior = Prior { limit: settings.time_limit, ..Prior::default() };
    let controller = if settings.outlook { controller.with_outlook(&prior) } else { controller };
    Ok(Source::new(configuration, controller).with_patience(settings.patience).with_room_for(LINES))
}

/// Nothing was begun, and nobody will write the record for which there is room.
fn give_room_back(store: &mut dyn StableStore, id: MigrationId) {
    // Whoever takes a name twice may have a record under it, which is not to be lost.
    if matches!(store.load(id), Ok(None)) {
        // Room that stays does no harm.
        let _ = store.erase(id);
    }
}
