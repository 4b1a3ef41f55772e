//! A migration in progress: the queue of events, and whom each is told.

use rand_core::Rng as _;
use whimbrel_core::journal::Journal;
use whimbrel_core::layout::RamLayout;
use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{
    CancelReason, Destination, DestinationEvent, DestinationPhase, MachineError, Source, SourceEvent,
    SourcePhase,
};
use whimbrel_core::policy::Policy;
use whimbrel_core::progress::Progress;
use whimbrel_core::report::Report;
use whimbrel_core::units::{ByteCount, Pages, Timestamp};

use super::post_copy::PostCopy;
use super::spread::{Count, factor};
use super::{PolicyChange, Run, Setup, SimError, source};
use crate::config::PostCopyOrder;
use crate::guest::{Detail, Generator, Guest, stream};
use crate::link::Link;
use crate::queue::Queue;
use crate::sender::Sender;
use crate::witness::Witness;

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
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

/// An end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// A migration in progress, page by page: it can be taken forward to any virtual time, looked at, cloned, and
/// continued from there under another policy.
///
/// What one call of [`simulate`](super::simulate) does is done here in as many steps as one likes, to the same
/// end: the pieces in which time passes change nothing. A clone draws the same random numbers as its original
/// from then on, so two that go different ways differ by what was decided, not by luck.
///
/// ```
/// # use whimbrel_core::policy::presets;
/// # use whimbrel_core::units::Timestamp;
/// # use whimbrel_sim::config::{GuestConfig, WriterConfig};
/// # use whimbrel_sim::{Setup, Simulation};
/// # let named = |name| presets::build(name, &Default::default()).unwrap();
/// let writer = WriterConfig { rate: 60_000.0, ..WriterConfig::default() };
/// let guest = GuestConfig { writers: vec![writer], ..GuestConfig::default() };
/// let setup = Setup::new(guest, named("qemu-default"));
///
/// let mut simulation = Simulation::new(&setup)?;
/// simulation.run_until(Timestamp::from_nanos(20_000_000_000))?;
/// let mut other = simulation.clone();
/// other.replace_policy(named("xen-5"))?;
/// let (as_it_was, as_it_could_have_been) = (simulation.finish()?, other.finish()?);
/// assert!(as_it_could_have_been.report.total < as_it_was.report.total);
/// # Ok::<(), whimbrel_sim::SimError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Simulation<'a> {
    pub(super) setup: &'a Setup,
    pub(super) queue: Queue<Event>,
    pub(super) source: Source,
    pub(super) destination: Destination,
    pub(super) guest: Guest,
    pub(super) link: Link,
    /// What the source is told of the bytes that were sent.
    pub(super) count: Count,
    /// What of them the link has carried.
    pub(super) carried: Carried,
    /// What a switchover costs in this run, in times of what the configuration says; none: as it says.
    pub(super) switchover: Option<f64>,
    pub(super) sender: Sender,
    pub(super) witness: Option<Witness>,
    pub(super) memory_gib: f64,
    /// The connection stands. Once lost, it is lost for good.
    pub(super) connected: bool,
    pub(super) tracking: bool,
    pub(super) throttled: bool,
    pub(super) paused_at: Option<Timestamp>,
    pub(super) handed_over: Option<Timestamp>,
    pub(super) runs_here: bool,
    pub(super) runs_there: Option<Timestamp>,
    pub(super) copy_exact: Option<bool>,
    pub(super) post_copy: PostCopy,
    /// The time limit has come when there was no way back.
    pub(super) time_is_up: bool,
    pub(super) unchanged: Pages,
    /// Another policy than the setup's is in charge.
    pub(super) replaced: bool,
    pub(super) now: Timestamp,
}

impl<'a> Simulation<'a> {
    /// A migration that has not begun.
    ///
    /// # Errors
    ///
    /// [`SimError`] if it can't be simulated. The setup's fidelity is not looked at: this is the exact one.
    pub fn new(setup: &'a Setup) -> Result<Self, SimError> {
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
        let begun = if setup.aligned { 0.0 } else { chance("sender") };
        let faster = factor(setup.link.bandwidth_spread, setup.seed, "link.bandwidth");
        let link = faster.map_or_else(|| setup.link.clone(), |faster| setup.link.times(faster));
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
            link: Link::new(&link, Sender::speed(&setup.host, &setup.link), chance("link")),
            count: Count::new(setup.host.count_jitter, setup.seed),
            carried: Carried::default(),
            switchover: factor(setup.host.switchover_spread, setup.seed, "host.switchover"),
            sender: Sender::new(&setup.host, &setup.link, (page_size.bytes().0, numbers), begun)
                .with_threads(setup.punctual, setup.drained),
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
            replaced: false,
            now: Timestamp::ZERO,
        })
    }

    /// The time of the last event that happened.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When the next event happens; none if the migration is over.
    pub fn next_at(&self) -> Option<Timestamp> {
        if self.is_over() { None } else { self.queue.peek() }
    }

    /// Lets the next event happen. False if none is left: the migration is over.
    ///
    /// # Errors
    ///
    /// [`SimError`] if a machine does not take the event, which is a fault of whimbrel.
    pub fn step(&mut self) -> Result<bool, SimError> {
        if self.is_over() {
            return Ok(false);
        }
        let Some((at, event)) = self.queue.pop() else {
            return Ok(false);
        };
        self.now = at;
        self.happens(event)?;
        while let Some(action) = self.source.poll() {
            self.act_at_source(action);
        }
        while let Some(action) = self.destination.poll() {
            self.act_at_destination(action);
        }
        Ok(true)
    }

    /// Lets everything happen that does up to `at`, itself included. False if the migration is over by then.
    ///
    /// What was begun before and ends after `at`, such as the sending of a slice, is under way then.
    ///
    /// # Errors
    ///
    /// As [`Simulation::step`].
    pub fn run_until(&mut self, at: Timestamp) -> Result<bool, SimError> {
        while self.next_at().is_some_and(|next| next <= at) {
            self.step()?;
        }
        Ok(!self.is_over())
    }

    /// Lets everything happen that is still to come, and tells what the migration came to.
    ///
    /// # Errors
    ///
    /// As [`Simulation::step`].
    pub fn finish(mut self) -> Result<Run, SimError> {
        while self.step()? {}
        Ok(self.into_run())
    }

    /// Lets another policy take over from here on, after it has watched the recorded moments of the run so far:
    /// its memory is then what it would be had it been there from the start. What it ordered while it watched (a
    /// throttle, a rate limit) is ordered with its first verdict; what the policy before ordered, and it did not,
    /// ends with that. A slice of sending that is under way is finished first, so where the policy before had no
    /// ticks, the new one is first asked at the round's end. See
    /// [`Controller::replace_policy`](whimbrel_core::controller::Controller::replace_policy).
    ///
    /// Changes of parameters that the setup has planned are made where the new policy takes them.
    ///
    /// # Errors
    ///
    /// [`SimError::Replace`] if the policy needs what the simulator does not offer, if the setup records no
    /// [journal](Setup::journal), or if how the migration ends is decided already. Nothing is changed then.
    pub fn replace_policy(&mut self, policy: Box<dyn Policy>) -> Result<(), SimError> {
        self.source.replace_policy(policy, self.now)?;
        self.replaced = true;
        Ok(())
    }

    /// Whether the policy will be asked again; if not, another can't take over.
    pub fn has_a_say(&self) -> bool {
        self.source.has_a_say()
    }

    /// The policy in charge, with its memory.
    pub fn policy(&self) -> &dyn Policy {
        self.source.controller().policy()
    }

    /// Where the source is.
    pub fn phase(&self) -> SourcePhase {
        self.source.phase()
    }

    /// What a policy would be shown now.
    pub fn progress(&self) -> &Progress {
        self.source.controller().progress()
    }

    /// Events and decisions so far, if they are recorded.
    pub fn journal(&self) -> &Journal {
        self.source.controller().journal()
    }

    /// What it came to so far, as the source sees it. [`Simulation::finish`] knows more.
    pub fn report(&self) -> Report {
        self.source.report(self.now)
    }

    /// The time limit is over while the destination lacks pages.
    pub(super) fn is_out_of_time(&self) -> bool {
        self.time_is_up && self.source.phase() == SourcePhase::PostCopy
    }

    /// Neither side will do anything more.
    pub fn is_over(&self) -> bool {
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
        if !asked {
            return Ok(());
        }
        match self.source.handle(self.now, event) {
            // It was planned for the policy before.
            Err(MachineError::Change(_)) if self.replaced => Ok(()),
            result => result,
        }
    }
}

/// Bytes that were handed over, of which some are told when the link has carried them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    handed_over: u64,
    told: u64,
}

impl Carried {
    /// So many more were handed over, and so many of all are still on their way: those carried since the last time.
    pub(super) fn so_far(&mut self, handed_over: ByteCount, in_flight: ByteCount) -> ByteCount {
        self.handed_over += handed_over.0;
        let carried = self.handed_over.saturating_sub(in_flight.0).max(self.told);
        let more = carried - self.told;
        self.told = carried;
        ByteCount(more)
    }
}

/// A number from 0 to 1.
fn unit(generator: &mut Generator) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// For the link's arithmetic.
pub(super) fn nanos(at: Timestamp) -> f64 {
    at.as_nanos() as f64
}
