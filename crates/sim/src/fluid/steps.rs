//! What happens next, where it is known what that is: a step of a round or of the handover.
//!
//! Hardly ever are two things under way at once. So the one that is is kept beside the queue, told to its machine as it
//! stands, by code that is made for it alone; in the queue it would be moved about four times and asked for its kind as
//! often. When something else comes before it, it waits in the queue with all others.

use std::time::Duration;

use whimbrel_core::controller::{Harvested, Transmitted};
use whimbrel_core::machine::handoff::HandoffMessage;
use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{DestinationEvent, MachineError, SourceEvent};
use whimbrel_core::units::Timestamp;

use super::splits::Split;
use super::world::{Event, World};

/// The step that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    with: Ends,
    at: Timestamp,
    /// Its place among the events of that time.
    number: u64,
    pub(super) sent: Transmitted,
    pub(super) harvested: Harvested,
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
    TrackingStarted,
    TrackingStopped,
    Paused,
    Saved,
    Resumed,
    Persisted,
    /// Messages.
    Accept,
    Acknowledge(u32),
    Handoff(HandoffMessage, Duration),
}

/// What the destination is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Built,
    Restored,
    Persisted,
    Resumed,
    /// Messages.
    RoundEnd(u32),
    State,
    Handoff(HandoffMessage, Duration),
}

impl Step {
    /// Whether it is one of a round.
    #[inline]
    pub(super) fn is_of_a_round(&self) -> bool {
        matches!(self.with, Ends::Sending | Ends::Harvest)
    }

    #[inline]
    fn ends(&mut self, with: Ends, at: Timestamp, number: u64) {
        (self.with, self.at, self.number) = (with, at, number);
    }

    /// Whether it ends before `first`.
    #[inline]
    pub(super) fn is_before(&self, first: Timestamp) -> bool {
        !matches!(self.with, Ends::Nothing) && self.at < first
    }
}

impl World {
    /// The step ends, and the next one begins.
    #[inline(always)]
    pub(super) fn end_step(&mut self) -> Result<Option<Box<Split>>, MachineError> {
        self.now = self.step.at;
        // Looked at where it is: to move it out would take longer than to tell of it.
        if matches!(self.step.with, Ends::Sending) {
            self.step.with = Ends::Nothing;
            self.source.transmitted(self.now, &self.step.sent)?;
            self.look_after_sending();
        } else if matches!(self.step.with, Ends::Harvest) {
            self.step.with = Ends::Nothing;
            self.source.harvested(self.now, &self.step.harvested)?;
            self.look_after_harvest();
        } else {
            return self.end_other_step();
        }
        Ok(self.do_what_is_wanted())
    }

    /// The same of a step that is not one of a round.
    #[inline(never)]
    fn end_other_step(&mut self) -> Result<Option<Box<Split>>, MachineError> {
        match std::mem::take(&mut self.step.with) {
            Ends::Here(what) => self.tell_the_source(what)?,
            Ends::There(what) => {
                self.tell_the_destination(what)?;
                self.do_what_the_destination_wants();
                return Ok(None);
            }
            Ends::Nothing | Ends::Sending | Ends::Harvest => return Ok(None),
        }
        Ok(self.do_what_is_wanted_then())
    }

    /// A step of a round begins, which ends at `at`. Its numbers are in place.
    #[inline]
    pub(super) fn begin_step(&mut self, with: Ends, at: Timestamp) {
        if !matches!(self.step.with, Ends::Nothing) {
            self.queue_step();
        }
        let number = self.queue.number();
        self.step.ends(with, at, number);
    }

    /// The step ends at `at`, if no other is under way; else it waits in the queue.
    pub(super) fn step_to(&mut self, with: Ends, at: Timestamp) {
        let number = self.queue.number();
        if self.step.with == Ends::Nothing {
            self.step.ends(with, at, number);
        } else if let Some(event) = self.event_of(with) {
            self.queue.push_numbered(at, number, event);
        }
    }

    /// The step waits with all other events, because one of them comes first.
    #[inline(never)]
    pub(super) fn queue_step(&mut self) {
        let with = std::mem::take(&mut self.step.with);
        if let Some(event) = self.event_of(with) {
            self.queue.push_numbered(self.step.at, self.step.number, event);
        }
    }

    fn event_of(&mut self, with: Ends) -> Option<Event> {
        Some(match with {
            Ends::Nothing => return None,
            Ends::Sending => Event::Source(SourceEvent::Transmitted(self.step.sent)),
            Ends::Harvest => Event::Source(SourceEvent::Harvested(self.step.harvested)),
            Ends::Here(what) => match what {
                Here::TrackingStarted => Event::Source(SourceEvent::TrackingStarted),
                Here::TrackingStopped => Event::Source(SourceEvent::TrackingStopped),
                Here::Paused => Event::Source(SourceEvent::Paused),
                Here::Saved => Event::Source(SourceEvent::Saved(std::mem::take(&mut self.sections))),
                Here::Resumed => Event::Source(SourceEvent::Resumed),
                Here::Persisted => Event::Source(SourceEvent::Persisted),
                Here::Accept => Event::ArrivesHere(Message::Accept),
                Here::Acknowledge(round) => Event::ArrivesHere(Message::Acknowledge { round }),
                Here::Handoff(message, took) => Event::ArrivesHere(Message::Handoff { message, took }),
            },
            Ends::There(what) => match what {
                There::Built => Event::Destination(DestinationEvent::Built),
                There::Restored => Event::Destination(DestinationEvent::Restored),
                There::Persisted => Event::Destination(DestinationEvent::Persisted),
                There::Resumed => Event::Destination(DestinationEvent::Resumed),
                There::RoundEnd(round) => Event::ArrivesThere(Message::RoundEnd { round }),
                There::State => Event::ArrivesThere(Message::State(std::mem::take(&mut self.sections))),
                There::Handoff(message, took) => Event::ArrivesThere(Message::Handoff { message, took }),
            },
        })
    }

    fn tell_the_source(&mut self, what: Here) -> Result<(), MachineError> {
        let (now, source) = (self.now, &mut self.source);
        match what {
            Here::TrackingStarted => source.take_known(now, SourceEvent::TrackingStarted),
            Here::TrackingStopped => source.take_known(now, SourceEvent::TrackingStopped),
            Here::Paused => source.take_known(now, SourceEvent::Paused),
            Here::Saved => source.take_known(now, SourceEvent::Saved(std::mem::take(&mut self.sections))),
            Here::Resumed => source.take_known(now, SourceEvent::Resumed),
            Here::Persisted => source.take_known(now, SourceEvent::Persisted),
            _ if !self.connected => Ok(()),
            Here::Accept => source.take_known(now, SourceEvent::Received(Message::Accept)),
            Here::Acknowledge(round) => {
                source.take_known(now, SourceEvent::Received(Message::Acknowledge { round }))
            }
            Here::Handoff(message, took) => {
                source.take_known(now, SourceEvent::Received(Message::Handoff { message, took }))
            }
        }
    }

    fn tell_the_destination(&mut self, what: There) -> Result<(), MachineError> {
        let (now, destination) = (self.now, &mut self.destination);
        match what {
            There::Built => destination.take_known(now, DestinationEvent::Built),
            There::Restored => destination.take_known(now, DestinationEvent::Restored),
            There::Persisted => destination.take_known(now, DestinationEvent::Persisted),
            There::Resumed => destination.take_known(now, DestinationEvent::Resumed),
            _ if !self.connected => Ok(()),
            There::RoundEnd(round) => {
                destination.take_known(now, DestinationEvent::Received(Message::RoundEnd { round }))
            }
            There::State => {
                let state = Message::State(std::mem::take(&mut self.sections));
                destination.take_known(now, DestinationEvent::Received(state))
            }
            There::Handoff(message, took) => {
                destination.take_known(now, DestinationEvent::Received(Message::Handoff { message, took }))
            }
        }
    }

    pub(super) fn do_what_the_destination_wants(&mut self) {
        while let Some(action) = self.destination.poll() {
            self.act_at_destination(action);
        }
    }
}
