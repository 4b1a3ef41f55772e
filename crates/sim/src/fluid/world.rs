//! One migration in the mean: the core's two machines, and a guest, hosts and a link that are numbers.
//!
//! As [`crate::migration`] does for the exact simulation, it carries out what the machines ask for and
//! reports back when it is done; it decides nothing. What differs is what is known of memory (a
//! [`Field`] in place of page sets) and that many slices of sending are made as one.

mod post_copy;

use std::time::Duration;

use whimbrel_core::controller::{Controller, Harvested};
use whimbrel_core::dirty::{Expected, Stock as _};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId, Section};
use whimbrel_core::machine::{
    CancelReason, Destination, DestinationAction, DestinationEvent, DestinationPhase, MachineError, Source,
    SourceAction, SourceEvent, SourcePhase, Transmit,
};
use whimbrel_core::policy::{BandwidthWindow, Decision, Until};
use whimbrel_core::report::Outcome;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Timestamp, VcpuSeconds};

use self::post_copy::PostCopy;
use super::dice::Dice;
use super::field::Field;
use super::near::Watch;
use super::queue::Queue;
use super::sending::{Crossing, Goal, Sending, Sent, Ticks};
use super::totals::Totals;
use crate::codec::Encoding;
use crate::config::HostConfig;
use crate::guest::{Guest, Lost};
use crate::link::{Link, Nanos, timestamp};
use crate::migration::{CAPABILITIES, GuestAt, PolicyChange, Run, Setup, SimError};
use crate::sender::{Costs, Sender};

/// The longest slice that splits are looked for with, nanoseconds: QEMU's.
const SLICE: Nanos = 51e6;
/// A way that fewer than this share of the phases take is none.
const LEAST: f64 = 0.02;
/// A run is split no more often than this on the way to any end.
const MOST_SPLITS: u32 = 4;

/// Where what follows hangs on where a tick falls, which is chance.
#[derive(Debug)]
pub(super) struct Split {
    /// The world before that tick.
    from: Box<World>,
    /// How many of the cases go which way.
    ways: [(f64, Ticks); 2],
}

#[derive(Clone, Debug)]
enum Event {
    Source(SourceEvent),
    Destination(DestinationEvent),
    ArrivesHere(Message),
    ArrivesThere(Message),
    /// A parameter of the policy is changed: its place in the setup.
    Change(usize),
    Lost,
    TimeLimit,
}

impl Event {
    /// Whether the destination hears of it.
    fn concerns_the_destination(&self) -> bool {
        matches!(self, Self::Destination(_) | Self::ArrivesThere(_) | Self::Lost)
    }
}

impl Split {
    /// The worlds that follow, with their shares of a case that has the share `share`.
    pub(super) fn ways(self, share: f64) -> [(f64, Box<World>); 2] {
        let [(one, this), (other, that)] = self.ways;
        let (mut first, mut second) = (self.from.clone(), self.from);
        first.take_way(this);
        second.take_way(that);
        [(share * one, first), (share * other, second)]
    }
}

/// What a world asks of its setup again and again.
#[derive(Clone, Debug)]
struct Terms {
    host: HostConfig,
    changes: Vec<PolicyChange>,
    one_way: Duration,
    message_overhead: ByteCount,
    state: ByteCount,
    post_copy: Option<Box<post_copy::Terms>>,
}

impl Terms {
    fn of(setup: &Setup) -> Self {
        Self {
            host: setup.host.clone(),
            changes: setup.changes.clone(),
            one_way: setup.link.round_trip / 2,
            message_overhead: setup.link.message_overhead,
            state: setup.guest.state,
            post_copy: post_copy::Terms::of(setup),
        }
    }

    /// Makes them those of another setup, in the memory that they have.
    fn become_of(&mut self, setup: &Setup) {
        self.host.clone_from(&setup.host);
        self.changes.clone_from(&setup.changes);
        self.one_way = setup.link.round_trip / 2;
        self.message_overhead = setup.link.message_overhead;
        self.state = setup.guest.state;
        self.post_copy = post_copy::Terms::of(setup);
    }
}

/// A migration in progress.
#[derive(Clone, Debug)]
pub(super) struct World {
    terms: Terms,
    queue: Queue<Event>,
    source: Source<Expected>,
    destination: Destination,
    guest: Guest,
    link: Link,
    sending: Sending,
    field: Field,
    /// How long starting to track takes, and a harvest.
    tracking_takes: Duration,
    harvest_takes: Duration,
    connected: bool,
    tracking: bool,
    throttled: bool,
    /// It was throttled at any time.
    slowed: bool,
    /// How often the rate was limited or a limit lifted.
    limits: u32,
    paused_at: Option<Timestamp>,
    handed_over: Option<Timestamp>,
    runs_here: bool,
    runs_there: Option<Timestamp>,
    unchanged: f64,
    /// Pages sent, and zero pages among them.
    pages: [f64; 2],
    /// The variance of what the last harvest found pending.
    variance: f64,
    /// What the harvest before found pending.
    pending_before: f64,
    /// The variance of what is pending at the tick that comes, if that tick is taken by itself.
    luck_of_the_tick: Option<f64>,
    /// That tick is such a one.
    unsettled: bool,
    /// The same of what is left when the round ends.
    luck_of_the_round: f64,
    /// The last bandwidth that was another than the one before, and when it was seen.
    asked_with: (Option<Bandwidth>, Nanos),
    ticks: Ticks,
    /// The tick at which the policy's answer may have changed, if the last slice ended with one.
    crossing: Option<Crossing>,
    /// How it stood before that, if the decision may hang on where the ticks lie.
    checkpoint: Option<Box<World>>,
    /// Sending that was asked for and is still to be done, in a checkpoint.
    again: Option<Transmit>,
    /// How often it was split already.
    splits: u32,
    /// The last harvest.
    harvested_at: Timestamp,
    /// And the one before it.
    harvested_before: Option<Timestamp>,
    watch: Watch,
    now: Timestamp,
    /// The guest's state, while nobody else has it.
    sections: Vec<Section>,
    /// Of a guest that is handed over before all of its pages.
    post_copy: Option<Box<PostCopy>>,
}

impl World {
    /// At the start. `told` if rounds and reasons are wanted, not only totals.
    pub(super) fn new(setup: &Setup, told: bool) -> Result<Self, SimError> {
        let guest = Guest::expected(&setup.guest)?;
        let layout = guest.layout().clone();
        let mut controller =
            Controller::new(setup.policy.clone(), layout.page_size(), layout.pages(), CAPABILITIES)?;
        if !(told && setup.journal) {
            controller = controller.without_journal();
        }
        let costs = Costs::new(&setup.host, &setup.link, layout.page_size().bytes().0);
        let configuration = Configuration {
            id: MigrationId(setup.seed),
            name: "guest".into(),
            layout,
            vcpus: setup.guest.vcpus,
        };
        let source = Source::expecting(configuration, controller).with_patience(Duration::MAX);
        // What follows from the setup is put in as for every other migration.
        let mut world = Self {
            terms: Terms::of(setup),
            queue: Queue::default(),
            source: if told { source } else { source.counting_rounds() },
            destination: Destination::new(),
            guest,
            link: Link::new(&setup.link, 1.0, 0.5),
            sending: Sending::new(&setup.host, costs),
            field: Field::default(),
            tracking_takes: Duration::ZERO,
            harvest_takes: Duration::ZERO,
            connected: true,
            tracking: false,
            throttled: false,
            slowed: false,
            limits: 0,
            paused_at: None,
            handed_over: None,
            runs_here: true,
            runs_there: None,
            unchanged: 0.0,
            pages: [0.0; 2],
            variance: 0.0,
            pending_before: 0.0,
            luck_of_the_tick: None,
            unsettled: false,
            luck_of_the_round: 0.0,
            asked_with: (None, f64::NEG_INFINITY),
            ticks: Ticks::Anywhere,
            crossing: None,
            checkpoint: None,
            again: None,
            splits: 0,
            harvested_at: Timestamp::ZERO,
            harvested_before: None,
            watch: Watch::default(),
            now: Timestamp::ZERO,
            sections: Vec::new(),
            post_copy: None,
        };
        world.begin(setup)?;
        Ok(world)
    }

    /// From here on there is luck in the place of means.
    pub(super) fn throw(&mut self, dice: Dice) {
        self.sending.dice = Some(dice);
    }

    /// Whether the outcome may be no smooth function of what is chance, though no number of pages decided it: then
    /// it is not that of the means. Who slows the guest, or sets one limit of the rate after the other, compares
    /// what it does not tell.
    pub(super) fn is_rough(&self) -> bool {
        let compares = self.slowed || self.limits > 2;
        !self.watch.sees_a_threshold() && (compares || self.watch.near().is_some())
    }

    /// Makes it the world at the start of another migration, in the memory that it has. Whether rounds and reasons are
    /// wanted remains.
    pub(super) fn begin(&mut self, setup: &Setup) -> Result<(), SimError> {
        let memory = setup.guest.memory;
        let memory_gib = memory.as_f64() / (1u64 << 30) as f64;
        self.terms.become_of(setup);
        self.tracking_takes = setup.host.start_tracking_cost.mul_f64(memory_gib);
        self.harvest_takes = setup.host.harvest_cost.mul_f64(memory_gib);
        self.forget();
        self.guest.expect_anew(&setup.guest)?;
        self.guest.set_dirty_ring(setup.host.dirty_ring);
        self.field.begin(&self.guest, &setup.guest, setup.zero_runs.as_deref())?;
        let costs = Costs::new(&setup.host, &setup.link, setup.guest.page_size.bytes().0);
        self.sending = Sending::new(&setup.host, costs);
        // Halfway in the first of the sawtooth's phases, which is chance.
        self.link.begin(&setup.link, Sender::speed(&setup.host, &setup.link), 0.5);
        let configure = |configuration: &mut Configuration| -> Result<(), SimError> {
            (configuration.id, configuration.vcpus) = (MigrationId(setup.seed), setup.guest.vcpus);
            configuration.layout.clone_from(self.guest.layout());
            Ok(())
        };
        self.source.begin_anew(configure, &*setup.policy, setup.every_tick)?;
        self.plan(setup);
        Ok(())
    }

    /// What happened; every field is named, so that none is forgotten here.
    fn forget(&mut self) {
        let Self {
            terms: _,
            sections,
            post_copy,
            tracking_takes: _,
            harvest_takes: _,
            guest: _,
            field: _,
            sending: _,
            link: _,
            source: _,
            queue,
            destination,
            connected,
            tracking,
            throttled,
            slowed,
            limits,
            paused_at,
            handed_over,
            runs_here,
            runs_there,
            unchanged,
            pages,
            variance,
            pending_before,
            luck_of_the_tick,
            unsettled,
            luck_of_the_round,
            asked_with,
            ticks,
            crossing,
            checkpoint,
            again,
            splits,
            harvested_at,
            harvested_before,
            watch,
            now,
        } = self;
        queue.clear();
        destination.begin_anew();
        // Of a migration that ended early the other side may have it.
        if sections.is_empty() {
            sections.push(Section { kind: "simulated".into(), version: 1, bytes: Vec::new() });
        }
        *post_copy = None;
        *connected = true;
        *tracking = false;
        *throttled = false;
        *slowed = false;
        *limits = 0;
        *paused_at = None;
        *handed_over = None;
        *runs_here = true;
        *runs_there = None;
        *unchanged = 0.0;
        *pages = [0.0; 2];
        *variance = 0.0;
        *pending_before = 0.0;
        *luck_of_the_tick = None;
        *unsettled = false;
        *luck_of_the_round = 0.0;
        *asked_with = (None, f64::NEG_INFINITY);
        *ticks = Ticks::Anywhere;
        *crossing = None;
        *checkpoint = None;
        *again = None;
        *splits = 0;
        *harvested_at = Timestamp::ZERO;
        *harvested_before = None;
        *watch = Watch::default();
        *now = Timestamp::ZERO;
    }

    /// What happens whatever the machines do.
    fn plan(&mut self, setup: &Setup) {
        let at = |after: Duration| Timestamp::ZERO.saturating_add(after);
        self.queue.push(Timestamp::ZERO, Event::Source(SourceEvent::Start));
        self.queue.push(at(setup.time_limit), Event::TimeLimit);
        if let Some(lost_at) = setup.link.lost_at {
            self.queue.push(at(lost_at), Event::Lost);
        }
        for (index, change) in setup.changes.iter().enumerate() {
            self.queue.push(at(change.at), Event::Change(index));
        }
    }

    /// Runs to the end, or to where it splits.
    pub(super) fn run(&mut self) -> Result<Option<Box<Split>>, SimError> {
        while let Some((at, event)) = self.queue.pop() {
            if self.is_over() {
                break;
            }
            self.now = at;
            let there = event.concerns_the_destination();
            self.happens(event)?;
            while let Some(action) = self.source.poll() {
                if let Some(split) = self.act_at_source(action) {
                    return Ok(Some(split));
                }
            }
            if there {
                while let Some(action) = self.destination.poll() {
                    self.act_at_destination(action);
                }
            }
        }
        Ok(None)
    }

    /// Neither side will do anything more.
    fn is_over(&self) -> bool {
        if self.post_copy.is_some() && self.is_out_of_time() {
            return true;
        }
        let doubt_stays = !self.connected;
        let source = match self.source.phase() {
            SourcePhase::Done => true,
            SourcePhase::InDoubt | SourcePhase::PostCopy => doubt_stays,
            _ => false,
        };
        source
            && match self.destination.phase() {
                DestinationPhase::Listening | DestinationPhase::Running | DestinationPhase::Gone => true,
                DestinationPhase::Prepared | DestinationPhase::Filling => doubt_stays,
                _ => false,
            }
    }

    /// Tells the machines.
    fn happens(&mut self, event: Event) -> Result<(), MachineError> {
        let now = self.now;
        match event {
            Event::Source(event) => {
                let harvested = matches!(event, SourceEvent::Harvested(_));
                let variance = match event {
                    SourceEvent::Harvested(_) => Some(self.variance),
                    SourceEvent::Transmitted(_) => self.luck_of_the_tick.take(),
                    _ => None,
                };
                self.source.handle(now, event)?;
                if let Some(variance) = variance {
                    if self.look_at_the_verdict(variance) && harvested {
                        self.watch.see_a_threshold();
                    }
                    self.look_where_it_stopped();
                }
            }
            Event::Destination(event) => self.destination.handle(now, event)?,
            Event::ArrivesHere(_) | Event::ArrivesThere(_) if !self.connected => {}
            Event::ArrivesHere(message) => self.source.handle(now, SourceEvent::Received(message))?,
            Event::ArrivesThere(message) => {
                self.destination.handle(now, DestinationEvent::Received(message))?;
            }
            Event::Change(index) => self.change(index)?,
            Event::Lost => {
                self.connected = false;
                self.source.handle(now, SourceEvent::Disconnected)?;
                self.destination.handle(now, DestinationEvent::Disconnected)?;
            }
            // Once *go* is being written there is no way back.
            Event::TimeLimit if !self.source.handoff().may_cancel() => {
                if let Some(post_copy) = &mut self.post_copy {
                    post_copy.time_is_up = true;
                }
            }
            Event::TimeLimit => {
                self.source.handle(now, SourceEvent::Cancel(CancelReason::TimeLimit))?;
            }
        }
        Ok(())
    }

    /// Whether the decision on what is pending, a number with this variance, hung on chance.
    fn look_at_the_verdict(&mut self, variance: f64) -> bool {
        let controller = self.source.controller();
        let progress = controller.progress();
        match (controller.holds_until(), controller.verdict()) {
            // It was not asked, or goes on until so many are pending.
            (Some(Until { pending, .. }), _) if pending > Pages(0) && pending < Pages(u64::MAX) => {
                let distance = progress.pending.as_f64() - pending.as_f64();
                self.watch.hangs_on(progress, distance.abs(), variance)
            }
            (_, Some(verdict)) => self.watch.look(progress, verdict, variance),
            (_, None) => false,
        }
    }

    /// Whether the policy stopped at a tick whose place among all that may be was not averaged over.
    fn look_where_it_stopped(&mut self) {
        let unsettled = std::mem::take(&mut self.unsettled);
        let controller = self.source.controller();
        if unsettled && controller.verdict().is_some_and(|verdict| verdict.decision != Decision::Continue) {
            self.watch.hangs_on(controller.progress(), 0.0, self.variance);
        }
    }

    /// A change of the policy, if it is still asked.
    #[cold]
    fn change(&mut self, index: usize) -> Result<(), MachineError> {
        let Some(PolicyChange { parameter, value, .. }) = self.terms.changes.get(index).cloned() else {
            return Ok(());
        };
        let event = SourceEvent::Change { parameter, value };
        let asked = event.kind().is_some_and(|kind| !self.source.phase().after(kind).is_empty());
        if asked { self.source.handle(self.now, event) } else { Ok(()) }
    }

    #[inline]
    fn act_at_source(&mut self, action: SourceAction) -> Option<Box<Split>> {
        match action {
            SourceAction::Send(message) => self.send_forward(message),
            SourceAction::Transmit(transmit) if self.post_copy.is_some() => self.transmit_behind(transmit),
            SourceAction::Transmit(transmit) => self.transmit(transmit),
            SourceAction::Harvest => return self.harvest(),
            action => self.act_rarely(&action),
        }
        None
    }

    /// What is not done in every round.
    #[inline(never)]
    fn act_rarely(&mut self, action: &SourceAction) {
        let host = &self.terms.host;
        let now = self.now;
        match *action {
            SourceAction::StartTracking => {
                let ready = now.saturating_add(self.tracking_takes);
                self.guest.start_tracking(ready, host.tracking_fault);
                self.guest.count_writes(ready, self.field.counts_mut());
                self.harvested_at = ready;
                self.sending.begin(nanos(ready));
                self.tracking = true;
                self.later(ready, SourceEvent::TrackingStarted);
            }
            SourceAction::StopTracking => {
                self.guest.stop_tracking(now);
                self.tracking = false;
                self.later(now, SourceEvent::TrackingStopped);
            }
            SourceAction::Throttle(throttle) => {
                self.guest.set_throttle(now, throttle);
                self.throttled = !throttle.is_off();
                self.slowed |= self.throttled;
            }
            SourceAction::Limit(limit) => {
                self.sending.limit(limit);
                self.limits += 1;
            }
            SourceAction::Pause => {
                self.guest.pause(now);
                self.paused_at = Some(now);
                self.runs_here = false;
                let gate = if self.source.is_handing_over() { host.switchover_gate } else { Duration::ZERO };
                self.later(now.saturating_add(host.pause).saturating_add(gate), SourceEvent::Paused);
            }
            SourceAction::SaveState => {
                let saved = now.saturating_add(host.save_state);
                let sections = std::mem::take(&mut self.sections);
                self.later(saved, SourceEvent::Saved(sections));
            }
            SourceAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.guest.resume(resumed);
                self.runs_here = true;
                self.later(resumed, SourceEvent::Resumed);
            }
            SourceAction::Persist(_) => self.later(now.saturating_add(host.persist), SourceEvent::Persisted),
            SourceAction::Wake(at) if at < Timestamp::MAX => self.later(at, SourceEvent::Wake),
            _ => {}
        }
    }

    #[inline(never)]
    fn act_at_destination(&mut self, action: DestinationAction) {
        let host = &self.terms.host;
        let now = self.now;
        match action {
            DestinationAction::Send(message) => {
                let bytes = (message.payload() + self.terms.message_overhead).as_f64();
                let arrival = timestamp(self.link.back(nanos(now), bytes)).saturating_add(self.one_way());
                if self.connected {
                    self.queue.push(arrival, Event::ArrivesHere(message));
                }
            }
            DestinationAction::Build(_) => self.there(now, DestinationEvent::Built),
            DestinationAction::Restore(sections) => {
                self.sections = sections;
                self.there(now.saturating_add(host.restore_state), DestinationEvent::Restored);
            }
            DestinationAction::Persist(_) => {
                self.there(now.saturating_add(host.persist), DestinationEvent::Persisted);
            }
            DestinationAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.runs_there = Some(resumed);
                // From here on it runs there, neither slowed nor tracked.
                self.guest.stop_tracking(resumed);
                self.guest.set_throttle(resumed, Throttle::Off);
                self.guest.resume(resumed);
                self.there(resumed, DestinationEvent::Resumed);
            }
            _ => {}
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let now = nanos(self.now);
        let goal = self.goal(now, transmit);
        let pending = self.source.backlog().expected().pages();
        self.checkpoint = None;
        if let Goal::Until { until, .. } = goal
            && self.may_split(now, pending, until.pending.0 as f64)
        {
            self.checkpoint = Some(self.before(transmit));
        }
        let sent = self.sending.send(now, pending, goal, &mut self.field, &mut self.link);
        self.ticks = Ticks::Anywhere;
        self.crossing = sent.crossing;
        // Before the bandwidth is settled ticks are taken one by one, where exact ones lie anywhere between.
        // So it is where time and not what is pending ended the slice.
        let single = match goal {
            Goal::Slice(_) => true,
            Goal::Until { until, .. } => until == Until::NEXT,
            Goal::Everything => false,
        };
        // Whether there is a tick at all before the round's end is chance then.
        // Ticks lie anywhere only if a slice has many sleeps in which it may end.
        let few = sent.crossing.is_some() && self.link.rest().is_some_and(|(rest, _)| rest > SLICE / 5.0);
        if (sent.uneven || few || single && sent.all) && !transmit.last {
            self.watch.hangs_on(self.source.controller().progress(), 0.0, self.variance);
        }
        let single = single && !sent.all;
        self.unsettled = single;
        let ticks = ((sent.at - now) / (1.2 * SLICE)).max(1.0);
        let luck = (sent.pages / ticks).powi(2) / 12.0;
        self.luck_of_the_tick = single.then_some(luck);
        self.luck_of_the_round = if sent.all || sent.crossing.is_some() { 0.0 } else { luck };
        if let Some(distance) = sent.of_a_window {
            self.watch.hangs_on(self.source.controller().progress(), distance, self.variance);
        }
        let pages = if sent.all { f64::INFINITY } else { sent.pages };
        let backlog = self.source.backlog_mut();
        backlog.take(Expected::new(pages));
        let told = sent.told(backlog.pending());
        self.count(&sent);
        self.later(timestamp(sent.at), SourceEvent::Transmitted(told));
    }

    fn count(&mut self, sent: &Sent) {
        self.pages[0] += sent.pages;
        self.pages[1] += sent.zero;
    }

    /// How far to send in one go.
    fn goal(&mut self, now: Nanos, transmit: Transmit) -> Goal {
        let slice = match transmit.slice {
            Some(slice) => slice.as_nanos() as f64,
            // A window that is full ends a slice too, and the policy is asked.
            None if self.sending.is_limited(&self.link) && !transmit.last => 0.0,
            None => return Goal::Everything,
        };
        let controller = self.source.controller();
        // A policy that was asked with another bandwidth may have said too early or too late a time.
        let bandwidth = controller.progress().bandwidth;
        if !alike(bandwidth, self.asked_with.0) {
            self.asked_with = (bandwidth, now);
            self.source.ask_at_the_next_tick();
        }
        // What was measured once may be measured otherwise in the next window.
        if let BandwidthWindow::Time(window) = self.source.controller().cadence().bandwidth
            && now - self.asked_with.1 < window.as_nanos() as f64
        {
            return Goal::Slice(slice);
        }
        match self.source.controller().holds_until() {
            Some(until) => {
                let before = self.interrupted_at().min(self.link.changes_at(now));
                Goal::Until { slice, until, before, ticks: self.ticks }
            }
            None => Goal::Slice(slice),
        }
    }

    /// When something happens next that is not the machines' doing.
    fn interrupted_at(&self) -> Nanos {
        let from_outside = |event: &Event| matches!(event, Event::Change(_) | Event::Lost | Event::TimeLimit);
        self.queue.first(from_outside).map_or(f64::INFINITY, nanos)
    }

    fn pages_in_a_slice(&self) -> f64 {
        SLICE * self.link.rate() / self.sending.costs().page_bytes
    }

    /// This world with the action still to be carried out.
    fn before(&self, transmit: Transmit) -> Box<Self> {
        let mut before = Box::new(self.clone());
        before.again = Some(transmit);
        before
    }

    /// Whether what a harvest finds after the next tick that matters may be enough and may not, by where
    /// that tick falls: only if few pages are dirtied until then.
    fn may_split(&mut self, now: Nanos, pending: f64, threshold: f64) -> bool {
        if pending <= threshold || self.splits >= MOST_SPLITS || self.sending.dice.is_some() {
            return false;
        }
        let page = self.sending.costs().page_bytes;
        let left = (pending - threshold) * page / self.link.rate();
        let since = now - nanos(self.harvested_at) + left + 2.0 * SLICE;
        let length = self.harvested_before.map(|before| nanos(self.harvested_at) - nanos(before));
        let dirty = self.field.would_be_dirty(since, length, &self.guest);
        // Many of those may be among what is left.
        dirty < 4.0 * self.pages_in_a_slice()
    }

    /// Whether the harvest that was just made finds enough sent or not by where the last tick fell.
    fn split(&mut self, dirty: f64, length: f64) -> Option<Box<Split>> {
        let Crossing { threshold, pending: [low, high], per_tick, tick } = self.crossing.take()?;
        let checkpoint = self.checkpoint.take()?;
        // A tick later fewer pages are left and more are dirty.
        let more = self.field.dirty_in_the_last(tick / length) / per_tick;
        if more >= 0.95 {
            return None;
        }
        let middle = f64::midpoint(low, high);
        self.ticks = Ticks::Known((high - low) / 2.0 * (1.0 - more));
        let enough = (threshold + 0.5 - dirty - middle * more) / (1.0 - more);
        let share = (enough - low) / (high - low);
        if share > LEAST && share < 1.0 - LEAST {
            let below = (share, Ticks::Finds([low, enough]));
            let above = (1.0 - share, Ticks::Finds([enough, high]));
            return Some(Box::new(Split { from: checkpoint, ways: [below, above] }));
        }
        None
    }

    /// Takes one of the ways from where it splits.
    fn take_way(&mut self, way: Ticks) {
        self.ticks = way;
        self.splits += 1;
        if let Some(transmit) = self.again.take() {
            self.transmit(transmit);
        }
    }

    fn harvest(&mut self) -> Option<Box<Split>> {
        let host = &self.terms.host;
        let begun = if host.harvest_waits { self.guest.awake_at(self.now) } else { self.now };
        // A guest that was paused early meets the gate when it is handed over.
        let held = self.source.controller().progress().paused && self.source.is_handing_over();
        let begun = if held { begun.saturating_add(host.switchover_gate) } else { begun };
        let done = begun.saturating_add(self.harvest_takes);
        self.sending.begin_round();
        self.guest.fetch(done, self.field.counts_mut());
        let mut found = self.field.harvest();
        if let Some(dice) = &mut self.sending.dice {
            let more = self.field.add(dice.normal() * found.variance.sqrt());
            found.pending += more;
            found.dirty = (found.dirty + more).max(0.0);
        }
        self.unchanged += self.guest.found(found.dirty);
        // What was pending by chance took as much longer to send, and in that time as much more was dirtied.
        let inherited = if self.variance > 0.0 && self.pending_before > 0.0 {
            let slope = found.growth / self.pending_before;
            slope * slope * self.variance
        } else {
            0.0
        };
        let spread =
            if self.variance > 0.0 { self.variance.sqrt() / self.pending_before.max(1.0) } else { 0.0 };
        self.pending_before = found.pending;
        let mut luck = std::mem::take(&mut self.luck_of_the_round);
        // What was left was few enough, wherever the tick was; it is not after so much more in so few cases only.
        if found.dirty + 4.0 * found.variance.sqrt() < LEAST * (12.0 * luck).sqrt() {
            luck = 0.0;
        }
        self.variance = found.variance + inherited + luck;
        let backlog = self.source.backlog_mut();
        let left_over = backlog.pending();
        let left = backlog.expected().pages();
        backlog.harvest_to(Expected::new(found.pending));
        let dirtied = Expected::new(found.dirty).count();
        let harvested = Harvested { dirtied, left_over, pending: backlog.pending() };
        self.later(done, SourceEvent::Harvested(harvested));
        let length = done.since(self.harvested_at).as_nanos() as f64;
        // A round is as much longer or shorter as its last sleep, and as what was pending by chance.
        let luck = 2.0 * self.link.rest().map_or(0.0, |(rest, _)| rest) / length + 2.0 * spread;
        if luck > 0.02 && self.field.just_gone_round(luck) {
            self.watch.hangs_on(self.source.controller().progress(), 0.0, self.variance);
        }
        self.harvested_before = Some(self.harvested_at);
        self.harvested_at = done;
        self.ticks = Ticks::Anywhere;
        self.split(found.pending - left, length)
    }

    fn send_forward(&mut self, message: Message) {
        let mut bytes = (message.payload() + self.terms.message_overhead).as_f64();
        let state = matches!(message, Message::State(_));
        if state {
            bytes += self.terms.state.as_f64();
        }
        if matches!(message, Message::PostCopy { .. }) {
            bytes += self.leave_behind().as_f64();
        }
        let now = nanos(self.now);
        let accepted = self.sending.message(now, bytes, &mut self.link);
        if state {
            self.handed_over = Some(timestamp(accepted));
        }
        // An acknowledgement that nobody waits for changes nothing that is known here: the last one counts.
        let waited_for = !matches!(message, Message::RoundEnd { .. })
            || matches!(
                self.source.phase(),
                SourcePhase::Gating | SourcePhase::Saving | SourcePhase::PostCopy
            );
        if self.connected && waited_for {
            let arrival = timestamp(self.link.drained(accepted)).saturating_add(self.one_way());
            self.queue.push(arrival, Event::ArrivesThere(message));
        }
    }

    fn one_way(&self) -> Duration {
        self.terms.one_way
    }

    fn later(&mut self, at: Timestamp, event: SourceEvent) {
        self.queue.push(at, Event::Source(event));
    }

    fn there(&mut self, at: Timestamp, event: DestinationEvent) {
        self.queue.push(at, Event::Destination(event));
    }

    /// What it came to.
    pub(super) fn totals(&mut self) -> Totals {
        self.guest.advance(self.now);
        let silence = self.runs_there.zip(self.paused_at).map(|(there, here)| there.since(here));
        let mut report = self.source.totals(self.now);
        if let (Outcome::Completed, Some(silence)) = (report.outcome, silence) {
            // As in an exact run: both clocks are known here.
            let others = report.downtime.total().saturating_sub(report.downtime.commit);
            report.downtime.commit = silence.saturating_sub(others);
            report.downtime.first_pages =
                self.post_copy.as_ref().map_or(Duration::ZERO, |post_copy| post_copy.first_pages());
        }
        if let Some((outcome, _)) = self.end_in_post_copy() {
            report.outcome = outcome;
        }
        let stalled = self.post_copy.as_ref().map_or(VcpuSeconds::ZERO, |post_copy| post_copy.stalled());
        let seen = report.downtime.total();
        let costs = self.sending.costs();
        let [pages, zero] = self.pages;
        Totals {
            outcome: report.outcome,
            converged: report.converged,
            total: report.total,
            downtime: report.downtime,
            paused_in_vain: report.paused_in_vain,
            sent: report.sent,
            sent_pages: report.sent_pages,
            rounds: self.source.round_count(),
            disruption: Lost { post_copy: stalled, ..self.guest.lost() },
            unchanged_pages: Pages((self.unchanged + 0.5) as u64),
            source_cpu_s: ((pages - zero) * costs.page + zero * costs.zero) * 1e-9,
            silence,
            unreachable: silence.map(|silence| (silence + self.terms.host.announce).max(seen)),
            post_copy: report.post_copy.map(|post_copy| (post_copy.length, post_copy.missing)),
            near_threshold: self.watch.near(),
        }
    }

    /// The run with these totals.
    pub(super) fn into_run(self, totals: &Totals) -> Run {
        let mut report = self.source.report(self.now);
        let commit_as_told = totals.silence.map(|_| report.downtime.commit);
        report.total = totals.total;
        report.downtime = totals.downtime;
        report.paused_in_vain = totals.paused_in_vain;
        report.sent = totals.sent;
        report.sent_pages = totals.sent_pages;
        if let (Some(post_copy), Some((length, missing))) = (&mut report.post_copy, totals.post_copy) {
            (post_copy.length, post_copy.missing) = (length, missing);
            post_copy.requests = self.post_copy.as_ref().map_or(0, |post_copy| post_copy.requests());
        }
        if let Some((outcome, why)) = self.end_in_post_copy() {
            report.outcome = outcome;
            why.clone_into(&mut report.why);
        }
        Run {
            report,
            disruption: totals.disruption,
            unchanged_pages: totals.unchanged_pages,
            encoding: Encoding { source_cpu_s: totals.source_cpu_s, ..Encoding::default() },
            handed_over: self.handed_over,
            silence: totals.silence,
            commit_as_told,
            unreachable: totals.unreachable,
            near_threshold: totals.near_threshold,
            clean: !self.tracking && !self.throttled,
            guest_at: self.guest_at(),
            copy_exact: None,
            journal: self.source.into_journal(),
        }
    }

    /// Where the guest runs.
    fn guest_at(&self) -> GuestAt {
        match (self.runs_here, self.runs_there.is_some()) {
            (true, false) => GuestAt::Source,
            (false, true) => GuestAt::Destination,
            (false, false) => GuestAt::Nowhere,
            (true, true) => GuestAt::Both,
        }
    }
}

/// Whether two bandwidths differ by less than half a percent.
fn alike(one: Option<Bandwidth>, other: Option<Bandwidth>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one.as_f64() - other.as_f64()).abs() <= 0.005 * other.as_f64(),
        (one, other) => one == other,
    }
}

fn nanos(at: Timestamp) -> f64 {
    at.as_nanos() as f64
}
