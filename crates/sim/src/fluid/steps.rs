//! What happens next, where it is known what that is: a step of a round or of the handover.
//!
//! Hardly ever are two things under way at once. So the one that is is kept beside the queue, told to its machine as it
//! stands, by code that is made for it alone; in the queue it would be moved about four times and asked for its kind as
//! often. When something else comes before it, it waits in the queue with all others.

use std::mem::ManuallyDrop;
use std::time::Duration;

use whimbrel_core::controller::{Harvested, Transmitted};
use whimbrel_core::machine::handoff::HandoffMessage;
use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{DestinationEvent, MachineError, SourceEvent};
use whimbrel_core::units::Timestamp;

use super::splits::Split;
use super::world::{Event, World};

/// The steps that are under way, and the numbers of one that is of a round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    first: Moment,
    /// One that comes after it.
    later: Moment,
    pub(super) sent: Transmitted,
    pub(super) harvested: Harvested,
    /// How long what the destination reports took: it makes no two reports at a time.
    pub(super) took: Duration,
}

/// What ends when, in its place among the events of that time.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    with: Ends,
    at: Timestamp,
    number: u64,
}

/// What a step ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ends {
    #[default]
    Nothing,
    Sending,
    Harvest,
    Here(Here),
    There(There),
}

/// What the source is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    Start,
    TrackingStarted,
    TrackingStopped,
    Paused,
    Saved,
    Resumed,
    Persisted,
    /// Messages.
    Accept,
    Acknowledge(u32),
    /// With the time that it took what it reports, if it does, in its place.
    Handoff(HandoffMessage),
}

/// What the destination is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Built,
    Restored,
    Persisted,
    Resumed,
    /// Messages. The configuration is the source's, the state is in its place.
    Configure,
    RoundEnd(u32),
    State,
    Handoff(HandoffMessage),
}

impl Step {
    /// Whether it is one of a round.
    #[inline]
    pub(super) fn is_of_a_round(&self) -> bool {
        matches!(self.first.with, Ends::Sending | Ends::Harvest)
    }

    /// What the step that is over ended with. The later one takes its place.
    #[inline]
    fn take(&mut self) -> Ends {
        let with = self.first.with;
        self.first = self.later;
        self.later.with = Ends::Nothing;
        with
    }

    /// Whether it ends before `first`.
    #[inline]
    pub(super) fn is_before(&self, first: Timestamp) -> bool {
        !matches!(self.first.with, Ends::Nothing) && self.first.at < first
    }
}

impl World {
    /// The step ends, and the next one begins.
    #[inline]
    pub(super) fn end_step(&mut self) -> Result<Option<Box<Split>>, MachineError> {
        self.now = self.step.first.at;
        // Looked at where it is: to move it out would take longer than to tell of it.
        if matches!(self.step.first.with, Ends::Sending) {
            self.step.take();
            self.source.transmitted(self.now, &self.step.sent)?;
            self.look_after_sending();
        } else if matches!(self.step.first.with, Ends::Harvest) {
            self.step.take();
            self.source.harvested(self.now, &self.step.harvested)?;
            self.look_after_harvest();
        } else {
            return self.end_other_steps();
        }
        Ok(self.do_what_is_wanted())
    }

    /// The same of a step that is not one of a round, and of those that follow until a round's or something from the queue
    /// comes first.
    #[inline(never)]
    fn end_other_steps(&mut self) -> Result<Option<Box<Split>>, MachineError> {
        loop {
            match self.step.take() {
                Ends::Here(what) => {
                    self.tell_the_source(what)?;
                    while let Some(action) = self.source.poll_plain() {
                        self.act_plainly_here(action);
                    }
                    // Hardly ever is anything else wanted, and most often it begins a round.
                    if !self.source.is_silent()
                        && let Some(split) = self.do_what_is_wanted_then()
                    {
                        return Ok(Some(split));
                    }
                }
                Ends::There(what) => {
                    self.tell_the_destination(what)?;
                    self.do_what_the_destination_wants();
                }
                Ends::Nothing | Ends::Sending | Ends::Harvest => {}
            }
            let next = &self.step;
            if next.is_of_a_round() || !next.is_before(self.queue.earliest()) || self.is_over() {
                return Ok(None);
            }
            self.now = self.step.first.at;
        }
    }

    /// The same of one that waited in the queue, and ends now.
    pub(super) fn end_queued(&mut self, with: Ends) -> Result<Option<Box<Split>>, MachineError> {
        self.step.first.with = with;
        self.end_other_steps()
    }

    /// A step of a round begins, which ends at `at`. Its numbers are in place.
    #[inline]
    pub(super) fn begin_step(&mut self, with: Ends, at: Timestamp) {
        if !matches!(self.step.first.with, Ends::Nothing) {
            self.queue_step();
        }
        self.step.first = Moment { with, at, number: self.queue.number() };
    }

    /// A step that is not one of a round begins, which ends at `at`.
    #[inline]
    pub(super) fn step_to(&mut self, with: Ends, at: Timestamp) {
        let moment = Moment { with, at, number: self.queue.number() };
        if matches!(self.step.first.with, Ends::Nothing) {
            self.step.first = moment;
        } else {
            self.step_beside(moment);
        }
    }

    /// The same beside the one that is under way.
    #[inline(never)]
    fn step_beside(&mut self, moment: Moment) {
        let Step { first, later, .. } = &mut self.step;
        if !matches!(later.with, Ends::Nothing) {
            self.queue_moment(moment);
        } else if moment.at < first.at {
            *later = std::mem::replace(first, moment);
        } else {
            *later = moment;
        }
    }

    /// What is under way waits with all other events, because one of them comes first.
    #[inline(never)]
    pub(super) fn queue_step(&mut self) {
        for moment in [self.step.first, self.step.later] {
            self.queue_moment(moment);
        }
        (self.step.first.with, self.step.later.with) = (Ends::Nothing, Ends::Nothing);
    }

    fn queue_moment(&mut self, Moment { with, at, number }: Moment) {
        let event = match with {
            Ends::Nothing => return,
            Ends::Sending => Event::Source(SourceEvent::Transmitted(self.step.sent)),
            Ends::Harvest => Event::Source(SourceEvent::Harvested(self.step.harvested)),
            Ends::Here(_) | Ends::There(_) => Event::Step(with),
        };
        self.queue.push_numbered(at, number, event);
    }

    /// Tells the source. Each event is put together where it is told: the machine's code for it alone stands there.
    #[inline(always)]
    fn tell_the_source(&mut self, what: Here) -> Result<(), MachineError> {
        match what {
            Here::Start => self.tell(SourceEvent::Start)?,
            Here::TrackingStarted => self.tell(SourceEvent::TrackingStarted)?,
            Here::TrackingStopped => self.tell(SourceEvent::TrackingStopped)?,
            Here::Paused => self.tell(SourceEvent::Paused)?,
            Here::Saved => {
                let sections = std::mem::take(&mut self.sections);
                self.source.take_known(self.now, &mut SourceEvent::Saved(sections))?;
            }
            Here::Resumed => self.tell(SourceEvent::Resumed)?,
            Here::Persisted => self.tell(SourceEvent::Persisted)?,
            _ if !self.connected => {}
            Here::Accept => self.tell(SourceEvent::Received(Message::Accept))?,
            Here::Acknowledge(round) => self.tell(SourceEvent::Received(Message::Acknowledge { round }))?,
            Here::Handoff(HandoffMessage::Ready) => {
                self.tell(reported(HandoffMessage::Ready, self.step.took))?
            }
            Here::Handoff(HandoffMessage::Running) => {
                self.tell(reported(HandoffMessage::Running, self.step.took))?;
            }
            Here::Handoff(message) => self.source.handle(self.now, reported(message, Duration::ZERO))?,
        }
        Ok(())
    }

    /// Tells the source of something that owns nothing, so that there is nothing to be dropped.
    #[inline(always)]
    fn tell(&mut self, event: SourceEvent) -> Result<(), MachineError> {
        self.source.take_known(self.now, &mut ManuallyDrop::new(event))
    }

    /// Tells the destination.
    #[inline(always)]
    fn tell_the_destination(&mut self, what: There) -> Result<(), MachineError> {
        use DestinationEvent as E;
        match what {
            There::Built => self.tell_there(E::Built)?,
            There::Restored => self.tell_there(E::Restored)?,
            There::Persisted => self.tell_there(E::Persisted)?,
            There::Resumed => self.tell_there(E::Resumed)?,
            _ if !self.connected => {}
            There::Configure => {
                let configure = Message::Configure(self.source.configuration().clone());
                self.destination.take_known(self.now, &mut E::Received(configure))?;
            }
            There::RoundEnd(round) => self.tell_there(E::Received(Message::RoundEnd { round }))?,
            There::State => {
                let state = Message::State(std::mem::take(&mut self.sections));
                self.destination.take_known(self.now, &mut E::Received(state))?;
            }
            There::Handoff(HandoffMessage::Go) => {
                self.tell_there(E::Received(Message::handoff(HandoffMessage::Go)))?;
            }
            There::Handoff(message) => {
                self.destination.handle(self.now, E::Received(Message::handoff(message)))?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn tell_there(&mut self, event: DestinationEvent) -> Result<(), MachineError> {
        self.destination.take_known(self.now, &mut ManuallyDrop::new(event))
    }

    #[inline(always)]
    fn do_what_the_destination_wants(&mut self) {
        loop {
            while let Some(action) = self.destination.poll_plain() {
                self.act_plainly_there(action);
            }
            if self.destination.is_silent() {
                return;
            }
            self.act_at_destination();
        }
    }

    /// Does what the destination wants after something else than a step's end.
    #[inline(never)]
    pub(super) fn do_what_the_destination_wants_then(&mut self) {
        self.do_what_the_destination_wants();
    }
}

/// A message of the handoff, and how long what it reports took.
#[inline(always)]
fn reported(message: HandoffMessage, took: Duration) -> SourceEvent {
    SourceEvent::Received(Message::Handoff { message, took })
}
