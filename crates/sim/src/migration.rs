//! One migration in virtual time: the core's two machines, a guest, two hosts and a link.
//!
//! Carries out what the machines ask for, at the cost that the configuration names, and reports back
//! when it is done. It decides nothing: what is sent and when the guest is paused is the machines' and
//! the policy's affair, so that a run here takes the same steps as a live one.

mod post_copy;

use std::time::Duration;

use rand_core::Rng as _;
use whimbrel_core::controller::{Controller, Harvested, Unsupported};
use whimbrel_core::journal::Journal;
use whimbrel_core::layout::{PageRun, RamLayout};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId, Section};
use whimbrel_core::machine::{
    CancelReason, Destination, DestinationAction, DestinationEvent, DestinationPhase, MachineError, Source,
    SourceAction, SourceEvent, SourcePhase, Transmit,
};
use whimbrel_core::policy::{ChangeError, Policy};
use whimbrel_core::progress::Capabilities;
use whimbrel_core::report::{Outcome, Report};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Pages, Timestamp};

use self::post_copy::PostCopy;
use crate::codec::Encoding;
use crate::config::{ConfigError, Fidelity, GuestConfig, HostConfig, LinkConfig, PostCopyOrder};
use crate::fluid::{self, NearThreshold};
use crate::guest::{Detail, Generator, Guest, Lost, stream};
use crate::link::{Link, timestamp};
use crate::queue::Queue;
use crate::sender::{Parts, Sender};
use crate::witness::Witness;

/// What this ground can do.
pub const CAPABILITIES: Capabilities =
    Capabilities { throttle: true, dirty_limit: true, post_copy: true, harvest_on_demand: true, pause: true };

/// A migration to simulate.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The guest.
    pub guest: GuestConfig,
    /// Where its zero pages are, if that is known better than the guest's configuration says.
    pub zero_runs: Option<Vec<PageRun>>,
    /// The hosts.
    pub host: HostConfig,
    /// The link.
    pub link: LinkConfig,
    /// The policy, as it is before the migration.
    pub policy: Box<dyn Policy>,
    /// Changes of the policy's parameters while it runs.
    pub changes: Vec<PolicyChange>,
    /// How finely the guest is simulated.
    pub fidelity: Fidelity,
    /// Seed of every random choice.
    pub seed: u64,
    /// Virtual time after which the migration is cancelled.
    pub time_limit: Duration,
    /// Whether events and decisions are recorded.
    pub journal: bool,
    /// Whether the policy is asked at every tick, also where its answer can't have changed.
    pub every_tick: bool,
    /// Whether the destination's copy is compared with the guest, page by page. Slow; for tests.
    pub witness: bool,
}

impl Setup {
    /// A setup with default hosts and link.
    pub fn new(guest: GuestConfig, policy: Box<dyn Policy>) -> Self {
        Self {
            guest,
            zero_runs: None,
            host: HostConfig::default(),
            link: LinkConfig::default(),
            policy,
            changes: Vec::new(),
            fidelity: Fidelity::Exact,
            seed: 0,
            time_limit: Duration::from_hours(1),
            journal: true,
            every_tick: false,
            witness: false,
        }
    }
}

/// Somebody changes a parameter of the policy while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// From the start of the migration. Later than the handover, it has no effect.
    pub at: Duration,
    /// Which parameter.
    pub parameter: String,
    /// To what.
    pub value: String,
}

/// What a simulated migration came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// The source's report.
    pub report: Report,
    /// What the guest lost.
    pub disruption: Lost,
    /// Pages found dirty whose content had not changed.
    pub unchanged_pages: Pages,
    /// What encoding pages came to, and the CPU time of sending.
    pub encoding: Encoding,
    /// When the source had handed over its last byte; QEMU calls itself done then.
    pub handed_over: Option<Timestamp>,
    /// From the pause to the first instruction at the destination, by the simulator's own clock.
    pub silence: Option<Duration>,
    /// What the source alone makes of the ledger's `commit`, from half of the way there and back.
    pub commit_as_told: Option<Duration>,
    /// From the pause until the network knows the guest's new place and the guest does something there.
    pub unreachable: Option<Duration>,
    /// In a fluid simulation: the decision that hung on chance the most, if any did.
    pub near_threshold: Option<NearThreshold>,
    /// Events and decisions, if they were recorded.
    pub journal: Journal,
    /// Whether anything of the migration was left at the source: tracking or a throttle.
    pub clean: bool,
    /// Where the guest runs at the end.
    pub guest_at: GuestAt,
    /// With a witness: whether the destination's copy was the guest's memory at the pause.
    pub copy_exact: Option<bool>,
}

/// Where the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestAt {
    /// At the source.
    Source,
    /// At the destination.
    Destination,
    /// Nowhere: paused, in doubt.
    Nowhere,
    /// At both: never, unless whimbrel is broken.
    Both,
}

/// Why a migration could not be simulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The configuration is not possible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy needs what the simulator does not offer.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The policy does not take a change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A machine did not take an event: a bug of whimbrel.
    #[error("internal error")]
    Machine(#[source] MachineError),
}

impl From<MachineError> for SimError {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Change(error) => Self::Change(error),
            error => Self::Machine(error),
        }
    }
}

/// Simulates a migration from its start to its end.
///
/// # Errors
///
/// [`SimError`] if it can't be simulated. A migration that fails is a [`Run`].
pub fn simulate(setup: &Setup) -> Result<Run, SimError> {
    if setup.fidelity == Fidelity::Fluid {
        return fluid::simulate(setup);
    }
    let mut migration = Migration::new(setup)?;
    migration.run()?;
    Ok(migration.into_run())
}

/// Feeds the events of a run's journal to a fresh source and gives the journal that it writes: the same,
/// byte for byte, if the setup is the one that the run was made with.
///
/// # Errors
///
/// [`SimError`] if the setup is not possible or the source does not take an event.
pub fn replay(setup: &Setup, journal: &Journal) -> Result<Journal, SimError> {
    let layout = Guest::new(&setup.guest, setup.seed)?.layout().clone();
    Ok(source(setup, layout)?.replay(journal)?)
}

/// The source before the migration.
fn source(setup: &Setup, layout: RamLayout) -> Result<Source, SimError> {
    let mut controller =
        Controller::new(setup.policy.clone(), layout.page_size(), layout.pages(), CAPABILITIES)?;
    if !setup.journal {
        controller = controller.without_journal();
    }
    if setup.every_tick {
        controller = controller.asking_every_tick();
    }
    let configuration =
        Configuration { id: MigrationId(setup.seed), name: "guest".into(), layout, vcpus: setup.guest.vcpus };
    // An outage is waited for however long it lasts: what is lost for good is `lost-at`, and what takes
    // too long is cut off by the time limit.
    Ok(Source::new(configuration, controller).with_patience(Duration::MAX))
}

#[derive(Clone, Debug)]
enum Event {
    Source(SourceEvent),
    Destination(DestinationEvent),
    /// A message arrives, if the connection still stands.
    Arrives {
        at: Side,
        message: Message,
    },
    /// The guest at the destination does or meets something, as far as was known when this was noted.
    Guest,
    /// A parameter of the policy is changed.
    Change(PolicyChange),
    /// The connection is lost for good.
    Lost,
    TimeLimit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// A migration in progress.
#[derive(Clone, Debug)]
struct Migration<'a> {
    setup: &'a Setup,
    queue: Queue<Event>,
    source: Source,
    destination: Destination,
    guest: Guest,
    link: Link,
    sender: Sender,
    witness: Option<Witness>,
    memory_gib: f64,
    /// The connection stands. Once lost, it is lost for good.
    connected: bool,
    tracking: bool,
    throttled: bool,
    paused_at: Option<Timestamp>,
    handed_over: Option<Timestamp>,
    runs_here: bool,
    runs_there: Option<Timestamp>,
    copy_exact: Option<bool>,
    post_copy: PostCopy,
    /// The time limit has come when there was no way back.
    time_is_up: bool,
    unchanged: Pages,
    now: Timestamp,
}

impl<'a> Migration<'a> {
    fn new(setup: &'a Setup) -> Result<Self, SimError> {
        setup.guest.validate()?;
        setup.host.validate()?;
        setup.host.validate_for(setup.guest.page_size)?;
        setup.link.validate()?;
        let mut trial = setup.policy.clone();
        let mut changes: Vec<&PolicyChange> = setup.changes.iter().collect();
        changes.sort_by_key(|change| change.at);
        for change in &changes {
            trial.set_parameter(&change.parameter, &change.value)?;
        }
        let detail = match (setup.witness, setup.host.skip_redirtied) {
            (true, _) => Detail::Versions,
            (false, true) => Detail::Words,
            (false, false) => Detail::Rounds,
        };
        let guest = match &setup.zero_runs {
            Some(runs) => Guest::with_zero_runs(&setup.guest, setup.seed, runs)?,
            None => Guest::new(&setup.guest, setup.seed)?,
        };
        let guest = guest.with_detail(detail).with_dirty_ring(setup.host.dirty_ring);
        let layout: RamLayout = guest.layout().clone();
        let page_size = layout.page_size();
        let numbers = layout.numbers();
        let memory_gib = layout.bytes().as_f64() / (1u64 << 30) as f64;
        let source = source(setup, layout)?;
        let chance = |component| unit(&mut stream(setup.seed, component));
        let mut queue = Queue::new();
        queue.push(Timestamp::ZERO, Event::Source(SourceEvent::Start));
        queue.push(Timestamp::ZERO.saturating_add(setup.time_limit), Event::TimeLimit);
        if let Some(lost_at) = setup.link.lost_at {
            queue.push(Timestamp::ZERO.saturating_add(lost_at), Event::Lost);
        }
        for change in changes {
            queue.push(Timestamp::ZERO.saturating_add(change.at), Event::Change(change.clone()));
        }
        Ok(Self {
            setup,
            queue,
            source,
            destination: Destination::new(),
            guest,
            link: Link::new(&setup.link, Sender::speed(&setup.host, &setup.link), chance("link")),
            sender: Sender::new(&setup.host, &setup.link, (page_size.bytes().0, numbers), chance("sender")),
            witness: setup.witness.then(|| Witness::new(numbers)),
            memory_gib,
            connected: true,
            tracking: false,
            throttled: false,
            paused_at: None,
            handed_over: None,
            runs_here: true,
            runs_there: None,
            copy_exact: None,
            post_copy: PostCopy::new(setup.host.post_copy_order == PostCopyOrder::HotFirst, numbers),
            time_is_up: false,
            unchanged: Pages(0),
            now: Timestamp::ZERO,
        })
    }

    fn run(&mut self) -> Result<(), SimError> {
        while let Some((at, event)) = self.queue.pop() {
            if self.is_over() {
                break;
            }
            self.now = at;
            self.happens(event)?;
            while let Some(action) = self.source.poll() {
                self.act_at_source(action);
            }
            while let Some(action) = self.destination.poll() {
                self.act_at_destination(action);
            }
        }
        Ok(())
    }

    /// The time limit is over while the destination lacks pages.
    fn is_out_of_time(&self) -> bool {
        self.time_is_up && self.source.phase() == SourcePhase::PostCopy
    }

    /// Neither side will do anything more.
    fn is_over(&self) -> bool {
        if self.is_out_of_time() {
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
            Event::Source(event) => self.source.handle(now, event)?,
            Event::Destination(event) => self.destination.handle(now, event)?,
            Event::Arrives { .. } if !self.connected => {}
            Event::Arrives { at: Side::Source, message } => {
                self.source.handle(now, SourceEvent::Received(message))?;
            }
            Event::Arrives { at: Side::Destination, message } => {
                self.destination.handle(now, DestinationEvent::Received(message))?;
            }
            Event::Guest => self.guest_goes_on(),
            Event::Change(change) => self.change(change)?,
            Event::Lost => {
                self.connected = false;
                self.source.handle(now, SourceEvent::Disconnected)?;
                self.destination.handle(now, DestinationEvent::Disconnected)?;
            }
            // Once *go* is being written there is no way back. The end is near, but for post-copy.
            Event::TimeLimit if !self.source.handoff().may_cancel() => self.time_is_up = true,
            Event::TimeLimit => {
                self.source.handle(now, SourceEvent::Cancel(CancelReason::TimeLimit))?;
            }
        }
        Ok(())
    }

    /// A change of the policy, if it is still asked.
    fn change(&mut self, change: PolicyChange) -> Result<(), MachineError> {
        let PolicyChange { parameter, value, .. } = change;
        let event = SourceEvent::Change { parameter, value };
        let asked = event.kind().is_some_and(|kind| !self.source.phase().after(kind).is_empty());
        if asked { self.source.handle(self.now, event) } else { Ok(()) }
    }

    fn act_at_source(&mut self, action: SourceAction) {
        let host = &self.setup.host;
        let now = self.now;
        match action {
            SourceAction::Send(message) => self.send_forward(message),
            SourceAction::StartTracking => {
                let ready = now.saturating_add(host.start_tracking_cost.mul_f64(self.memory_gib));
                self.guest.start_tracking(ready, host.tracking_fault);
                self.tracking = true;
                self.sender.begin(nanos(ready));
                self.later(ready, SourceEvent::TrackingStarted);
            }
            SourceAction::StopTracking => {
                self.guest.stop_tracking(now);
                self.tracking = false;
                self.later(now, SourceEvent::TrackingStopped);
            }
            SourceAction::Transmit(transmit) if self.source.phase() == SourcePhase::PostCopy => {
                self.transmit_behind(transmit);
            }
            SourceAction::Transmit(transmit) => self.transmit(transmit),
            SourceAction::Urgent(page) => self.send_urgent(page),
            SourceAction::Harvest => self.harvest(),
            SourceAction::Throttle(throttle) => {
                self.guest.set_throttle(now, throttle);
                self.throttled = !throttle.is_off();
            }
            SourceAction::Limit(limit) => self.sender.limit(limit),
            SourceAction::Pause => {
                self.guest.pause(now);
                self.paused_at = Some(now);
                self.runs_here = false;
                let gate = if self.source.is_handing_over() { host.switchover_gate } else { Duration::ZERO };
                self.later(now.saturating_add(host.pause).saturating_add(gate), SourceEvent::Paused);
            }
            SourceAction::SaveState => {
                if !self.post_copy.is_used() {
                    self.copy_exact = self.copied();
                }
                // The state's bytes are charged when it is sent; nobody looks into them here.
                let section = Section { kind: "simulated".into(), version: 1, bytes: Vec::new() };
                self.later(now.saturating_add(host.save_state), SourceEvent::Saved(vec![section]));
            }
            SourceAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.guest.resume(resumed);
                self.runs_here = true;
                self.later(resumed, SourceEvent::Resumed);
            }
            SourceAction::Persist(_) => self.later(now.saturating_add(host.persist), SourceEvent::Persisted),
            SourceAction::Wake(at) => self.later(at, SourceEvent::Wake),
            _ => {}
        }
    }

    fn act_at_destination(&mut self, action: DestinationAction) {
        let host = &self.setup.host;
        let now = self.now;
        match action {
            DestinationAction::Send(message) => {
                let bytes = (message.payload() + self.setup.link.message_overhead).as_f64();
                let arrival = timestamp(self.link.back(nanos(now), bytes)).saturating_add(self.one_way());
                self.arrival(arrival, Side::Source, message);
            }
            DestinationAction::Build(_) => self.queue.push(now, Event::Destination(DestinationEvent::Built)),
            DestinationAction::Restore(_) => {
                let restored = now.saturating_add(host.restore_state);
                self.queue.push(restored, Event::Destination(DestinationEvent::Restored));
            }
            DestinationAction::Persist(_) => {
                let persisted = now.saturating_add(host.persist);
                self.queue.push(persisted, Event::Destination(DestinationEvent::Persisted));
            }
            DestinationAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.runs_there = Some(resumed);
                // From here on it runs there, neither slowed nor tracked.
                self.guest.stop_tracking(resumed);
                self.guest.set_throttle(resumed, Throttle::Off);
                self.guest.resume(resumed);
                self.queue.push(resumed, Event::Destination(DestinationEvent::Resumed));
                self.resume_without_pages(resumed);
            }
            _ => {}
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let parts = Parts {
            backlog: self.source.backlog_mut(),
            guest: &mut self.guest,
            link: &mut self.link,
            witness: self.witness.as_mut(),
            behind: None,
        };
        let (end, sent) = self.sender.send(nanos(self.now), transmit, parts);
        self.later(timestamp(end), SourceEvent::Transmitted(sent));
    }

    fn harvest(&mut self) {
        let host = &self.setup.host;
        let begun = if host.harvest_waits { self.guest.awake_at(self.now) } else { self.now };
        // A guest that was paused early meets the gate when it is handed over.
        let held = self.source.controller().progress().paused && self.source.is_handing_over();
        let begun = if held { begun.saturating_add(host.switchover_gate) } else { begun };
        let done = begun.saturating_add(host.harvest_cost.mul_f64(self.memory_gib));
        let backlog = self.source.backlog_mut();
        let left_over = backlog.pending();
        self.sender.begin_round(backlog.pending_pages());
        self.post_copy.harvest_begins();
        // Words come in order but for a few at edges; eight at a time are marked at a third of the cost.
        let (mut line, mut pages) = (0, [0; 8]);
        let found = self.guest.harvest(done, |word, mask| {
            if word / 8 != line {
                backlog.mark_dirty_line(line, &pages);
                (line, pages) = (word / 8, [0; 8]);
            }
            pages[word % 8] |= mask;
            self.post_copy.found_dirty(word, mask);
        });
        backlog.mark_dirty_line(line, &pages);
        backlog.finish_harvest();
        self.unchanged = self.unchanged.saturating_add(found.unchanged);
        let harvested = Harvested { dirtied: found.dirty, left_over, pending: backlog.pending() };
        self.later(done, SourceEvent::Harvested(harvested));
    }

    fn send_forward(&mut self, message: Message) {
        let mut bytes = (message.payload() + self.setup.link.message_overhead).as_f64();
        let state = matches!(message, Message::State(_));
        if state {
            bytes += self.setup.guest.state.as_f64();
        }
        if matches!(message, Message::PostCopy { .. }) {
            bytes += self.leave_behind().as_f64();
        }
        let accepted = self.link.push(nanos(self.now), bytes);
        if state {
            self.handed_over = Some(timestamp(accepted));
        }
        // What went over a connection of its own before it is waited for.
        let drained = self.link.drained(accepted).max(self.post_copy.last_arrival());
        let arrival = timestamp(drained).saturating_add(self.one_way());
        self.arrival(arrival, Side::Destination, message);
    }

    fn arrival(&mut self, when: Timestamp, at: Side, message: Message) {
        if self.connected {
            self.queue.push(when, Event::Arrives { at, message });
        }
    }

    fn one_way(&self) -> Duration {
        self.setup.link.round_trip / 2
    }

    fn later(&mut self, at: Timestamp, event: SourceEvent) {
        self.queue.push(at, Event::Source(event));
    }

    /// In post-copy the world knows better than the source how it ended.
    fn name_the_end(&self, report: &mut Report) {
        // A source in doubt does not even know that the guest runs there.
        let lacks_pages = self.source.phase() == SourcePhase::PostCopy
            && self.destination.phase() == DestinationPhase::Filling;
        let (outcome, why) = if self.is_out_of_time() {
            (
                Outcome::TimedOut,
                "the time limit was reached in post-copy: the guest runs at the destination and lacks pages",
            )
        } else if lacks_pages && !self.connected {
            (
                Outcome::GuestLost,
                "the connection was lost in post-copy: the guest lacks pages that only the source has",
            )
        } else {
            return;
        };
        report.outcome = outcome;
        why.clone_into(&mut report.why);
    }

    /// With a witness: whether what was sent is the guest's memory.
    fn copied(&self) -> Option<bool> {
        self.witness.as_ref().map(|witness| witness.differs(&self.guest).is_none())
    }

    fn into_run(mut self) -> Run {
        self.guest.advance(self.now);
        let disruption = Lost { post_copy: self.post_copy.stalled(self.now), ..self.guest.lost() };
        let silence = self.runs_there.zip(self.paused_at).map(|(there, here)| there.since(here));
        let mut report = self.source.report(self.now);
        let commit_as_told = silence.map(|_| report.downtime.commit);
        if let (Outcome::Completed, Some(silence)) = (report.outcome, silence) {
            // The source takes the way of *go* for half of the way there and back. Here both clocks are
            // known, and an outage on one way is not.
            let others = report.downtime.total().saturating_sub(report.downtime.commit);
            report.downtime.commit = silence.saturating_sub(others);
            self.count_first_pages(&mut report.downtime);
        }
        self.name_the_end(&mut report);
        let announced = silence.map(|silence| silence + self.setup.host.announce);
        if self.post_copy.is_used() && report.outcome == Outcome::Completed {
            self.copy_exact = self.copied();
        }
        let seen = report.downtime.total();
        let [full, zero] = report.rounds.iter().fold([Pages(0); 2], |[full, zero], round| {
            let whole = round.sent_pages.saturating_sub(round.zero_pages);
            [full.saturating_add(whole), zero.saturating_add(round.zero_pages)]
        });
        let guest_at = match (self.runs_here, self.runs_there.is_some()) {
            (true, false) => GuestAt::Source,
            (false, true) => GuestAt::Destination,
            (false, false) => GuestAt::Nowhere,
            (true, true) => GuestAt::Both,
        };
        Run {
            report,
            disruption,
            unchanged_pages: self.unchanged,
            encoding: self.sender.encoding(full, zero),
            handed_over: self.handed_over,
            silence,
            commit_as_told,
            unreachable: announced.map(|announced| announced.max(seen)),
            near_threshold: None,
            clean: !self.tracking && !self.throttled,
            guest_at,
            copy_exact: self.copy_exact,
            journal: self.source.into_journal(),
        }
    }
}

/// A number from 0 to 1.
fn unit(generator: &mut Generator) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn nanos(at: Timestamp) -> f64 {
    at.as_nanos() as f64
}
