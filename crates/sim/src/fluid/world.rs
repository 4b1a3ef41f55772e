//! One migration in the mean: the core's two machines, and a guest, hosts and a link that are numbers.
//!
//! As [`crate::migration`] does for the exact simulation, it carries out what the machines ask for and
//! reports back when it is done; it decides nothing. What differs is what is known of memory (a
//! [`Field`] in place of page sets) and that many slices of sending are made as one.

mod post_copy;

use std::time::Duration;

use whimbrel_core::controller::Controller;
use whimbrel_core::dirty::Expected;
use whimbrel_core::machine::message::{Configuration, Message, MigrationId, Section};
use whimbrel_core::machine::{
    CancelReason, Destination, DestinationEvent, DestinationPhase, MachineError, Source, SourceEvent,
    SourcePhase, Transmit,
};
use whimbrel_core::report::Outcome;
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Timestamp, VcpuSeconds};

use self::post_copy::PostCopy;
use super::aim::{Crossing, Ticks};
use super::dice::Dice;
use super::field::Field;
use super::near::Watch;
use super::queue::Queue;
use super::sending::Sending;
use super::splits::Split;
use super::steps::{Ends, Step};
use super::totals::Totals;
use crate::codec::Encoding;
use crate::config::{ConfigError, HostConfig};
use crate::guest::{Guest, Lost};
use crate::link::{Link, Nanos, float};
use crate::migration::{CAPABILITIES, GuestAt, PolicyChange, Run, Setup, SimError};
use crate::sender::{Costs, Sender};

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// What was under way when something else came before it.
    Step(Ends),
    Source(SourceEvent),
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
        matches!(self, Self::ArrivesThere(_) | Self::Lost)
    }
}

/// What a world asks of its setup again and again.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) host: HostConfig,
    pub(super) changes: Vec<PolicyChange>,
    pub(super) one_way: Duration,
    pub(super) message_overhead: ByteCount,
    pub(super) state: ByteCount,
    post_copy: Option<Box<post_copy::Terms>>,
    /// Bytes of a message that carries only numbers.
    pub(super) word: f64,
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
            word: word(setup),
        }
    }

    /// Makes them those of another setup, in the memory that they have.
    fn become_of(&mut self, setup: &Setup, same_hosts: bool) {
        if !same_hosts {
            self.host.clone_from(&setup.host);
        }
        self.changes.clone_from(&setup.changes);
        self.one_way = setup.link.round_trip / 2;
        self.message_overhead = setup.link.message_overhead;
        self.state = setup.guest.state;
        self.post_copy = post_copy::Terms::of(setup);
        self.word = word(setup);
    }
}

/// A migration in progress.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) terms: Terms,
    pub(super) queue: Queue<Event>,
    pub(super) source: Source<Expected>,
    pub(super) destination: Destination,
    pub(super) guest: Guest,
    pub(super) link: Link,
    pub(super) sending: Sending,
    pub(super) field: Field,
    /// How long starting to track takes.
    pub(super) tracking_takes: Duration,
    /// And a harvest, in whole nanoseconds.
    pub(super) harvest_takes: u64,
    pub(super) connected: bool,
    pub(super) tracking: bool,
    pub(super) throttled: bool,
    /// It was throttled at any time.
    pub(super) slowed: bool,
    /// How often the rate was limited or a limit lifted.
    pub(super) limits: u32,
    pub(super) paused_at: Option<Timestamp>,
    pub(super) handed_over: Option<Timestamp>,
    pub(super) runs_here: bool,
    pub(super) runs_there: Option<Timestamp>,
    pub(super) unchanged: f64,
    /// Pages sent, and zero pages among them.
    pub(super) pages: [f64; 2],
    /// The variance of what the last harvest found pending.
    pub(super) variance: f64,
    /// What the harvest before found pending.
    pub(super) pending_before: f64,
    /// The variance of what is pending at the tick that comes, if that tick is taken by itself.
    pub(super) luck_of_the_tick: Option<f64>,
    /// That tick is such a one.
    pub(super) unsettled: bool,
    /// The same of what is left when the round ends.
    pub(super) luck_of_the_round: f64,
    /// The last bandwidth that was another than the one before, and when it was seen.
    pub(super) asked_with: (Option<Bandwidth>, Nanos),
    pub(super) ticks: Ticks,
    /// The tick at which the policy's answer may have changed, if the last slice ended with one.
    pub(super) crossing: Option<Crossing>,
    /// How it stood before that, if the decision may hang on where the ticks lie.
    pub(super) checkpoint: Option<Box<World>>,
    /// Sending that was asked for and is still to be done, in a checkpoint.
    pub(super) again: Option<Transmit>,
    /// How often it was split already.
    pub(super) splits: u32,
    /// The last harvest.
    pub(super) harvested_at: Timestamp,
    /// And the one before it.
    pub(super) harvested_before: Option<Timestamp>,
    pub(super) watch: Watch,
    /// The step of a round that is under way.
    pub(super) step: Step,
    pub(super) now: Timestamp,
    /// The guest's state, while nobody else has it.
    pub(super) sections: Vec<Section>,
    /// Of a guest that is handed over before all of its pages.
    pub(super) post_copy: Option<Box<PostCopy>>,
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
            harvest_takes: 0,
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
            step: Step::default(),
            now: Timestamp::ZERO,
            sections: Vec::new(),
            post_copy: None,
        };
        world.begin(setup, true)?;
        Ok(world)
    }

    /// Makes it the world at the start of another migration, in the memory that it has. Whether rounds and reasons are
    /// wanted remains.
    pub(super) fn begin(&mut self, setup: &Setup, same_hosts: bool) -> Result<(), SimError> {
        let memory = setup.guest.memory;
        let memory_gib = memory.as_f64() / (1u64 << 30) as f64;
        self.terms.become_of(setup, same_hosts);
        self.tracking_takes = setup.host.start_tracking_cost.mul_f64(memory_gib);
        let harvest_takes = setup.host.harvest_cost.mul_f64(memory_gib);
        self.harvest_takes = u64::try_from(harvest_takes.as_nanos()).unwrap_or(u64::MAX);
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
            let laid_out = configuration.layout.lay_out_contiguous(memory, setup.guest.page_size);
            Ok(laid_out.map_err(|error| ConfigError::new("guest.memory", memory, error.to_string()))?)
        };
        self.source.begin_anew(configure, &*setup.policy, setup.every_tick)?;
        self.plan(setup);
        Ok(())
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

    /// Whether it is on these hosts, which were checked then.
    pub(super) fn is_on(&self, host: &HostConfig) -> bool {
        self.terms.host == *host
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
            step,
            now,
        } = self;
        queue.clear();
        destination.begin_anew();
        // Of a migration that ended early the other side may have it.
        if sections.is_empty() {
            sections.push(Section { kind: "simulated".into(), version: 1, bytes: Vec::new() });
        }
        *connected = true;
        *tracking = false;
        *throttled = false;
        *slowed = false;
        *limits = 0;
        *post_copy = None;
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
        *step = Step::default();
        *now = Timestamp::ZERO;
    }

    /// What happens whatever the machines do.
    fn plan(&mut self, setup: &Setup) {
        let at = |after: Duration| Timestamp::ZERO.saturating_add(after);
        self.step_to(Ends::Start, Timestamp::ZERO);
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
        loop {
            while self.step.is_before(self.queue.earliest()) {
                if !self.step.is_of_a_round() && self.is_over() {
                    return Ok(None);
                }
                if let Some(split) = self.end_step()? {
                    return Ok(Some(split));
                }
            }
            if self.is_over() {
                return Ok(None);
            }
            self.queue_step();
            let Some((at, event)) = self.queue.pop() else { return Ok(None) };
            self.now = at;
            if let Event::Step(with) = event {
                if let Some(split) = self.end_queued(with)? {
                    return Ok(Some(split));
                }
                continue;
            }
            let there = event.concerns_the_destination();
            self.happens(event)?;
            if let Some(split) = self.do_what_is_wanted_then() {
                return Ok(Some(split));
            }
            if there {
                self.do_what_the_destination_wants_then();
            }
        }
    }

    /// Neither side will do anything more.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        let doubt_stays = !self.connected;
        let source = match self.source.phase() {
            SourcePhase::Done => true,
            SourcePhase::PostCopy if self.is_out_of_time() => return true,
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
                let (sent, harvested) = (
                    matches!(event, SourceEvent::Transmitted(_)),
                    matches!(event, SourceEvent::Harvested(_)),
                );
                self.source.handle(now, event)?;
                if sent {
                    self.look_after_sending();
                } else if harvested {
                    self.look_after_harvest();
                }
            }
            Event::Step(_) => {}
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

    /// Why it ended so, in words.
    pub(super) fn why(&self) -> String {
        self.end_in_post_copy().map_or_else(|| self.source.why(), |(_, why)| why.to_owned())
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

/// Bytes of a message that carries only numbers.
fn word(setup: &Setup) -> f64 {
    (Message::RoundEnd { round: 0 }.payload() + setup.link.message_overhead).as_f64()
}

#[inline(always)]
pub(super) fn nanos(at: Timestamp) -> f64 {
    float(at.as_nanos())
}
