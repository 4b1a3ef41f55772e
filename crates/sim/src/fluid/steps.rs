//! What happens next, where it is known what that is: a step of a round or of the handover.
//!
//! Hardly ever are two things under way at once. So the one that is is kept beside the queue, told to its machine as it
//! stands, by code that is made for it alone; in the queue it would be moved about four times and asked for its kind as
//! often. When something else comes before it, it waits in the queue with all others.

use std::mem::ManuallyDrop;

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
}

/// What ends when, in its place among the events of that time.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    with: Ends,
    at: Timestamp,
    number: u64,
}

/// What a step ends with. As of the machines' plain actions, none carries more than a number: what was written a moment ago
/// is then read as it was written, and not waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ends {
    #[default]
    Nothing,
    /// Those of a round.
    Sending,
    Harvest,
    /// What else the source is told.
    Start,
    TrackingStarted,
    TrackingStopped,
    Paused,
    Saved,
    Resumed,
    Persisted,
    /// Messages to the source. How long what the last two report took the destination knows.
    Accept,
    Acknowledge(u32),
    Ready,
    Running,
    /// What the destination is told.
    Built,
    Restored,
    PersistedThere,
    ResumedThere,
    /// Messages to the destination. The configuration is the source's, the state is in its place.
    Configure,
    RoundEnd(u32),
    State,
    Go,
}

impl Moment {
    /// By its parts, which are not put together elsewhere first.
    #[inline(always)]
    fn begin(&mut self, with: Ends, at: Timestamp, number: u64) {
        self.with = with;
        self.at = at;
        self.number = number;
    }
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
        let with = std::mem::take(&mut self.first.with);
        if !matches!(self.later.with, Ends::Nothing) {
            self.first = std::mem::take(&mut self.later);
        }
        with
    }

    /// One more begins beside the one that is under way; given back if there is no place for it.
    fn begin_beside(&mut self, moment: Moment) -> Option<Moment> {
        if !matches!(self.later.with, Ends::Nothing) {
            return Some(moment);
        }
        self.later =
            if moment.at < self.first.at { std::mem::replace(&mut self.first, moment) } else { moment };
        None
    }

    /// Whether it ends before `first`.
    #[inline]
    pub(super) fn is_before(&self, first: Timestamp) -> bool {
        !matches!(self.first.with, Ends::Nothing) && self.first.at < first
    }
}

impl World {
    /// The step ends, and the next one begins.
    #[inline(always)]
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
            let with = self.step.take();
            if self.tell(with)? {
                self.do_what_the_destination_wants();
            } else if let Some(split) = self.do_what_the_source_wants() {
                return Ok(Some(split));
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
        self.step.first.begin(with, at, self.queue.number());
    }

    /// A step that is not one of a round begins, which ends at `at`.
    #[inline]
    pub(super) fn step_to(&mut self, with: Ends, at: Timestamp) {
        let number = self.queue.number();
        if matches!(self.step.first.with, Ends::Nothing) {
            self.step.first.begin(with, at, number);
        } else {
            self.step_beside(Moment { with, at, number });
        }
    }

    #[inline(never)]
    fn step_beside(&mut self, moment: Moment) {
        if let Some(moment) = self.step.begin_beside(moment) {
            self.queue_moment(moment);
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
            _ => Event::Step(with),
        };
        self.queue.push_numbered(at, number, event);
    }

    /// Tells the machine that waits for it; says whether that is the destination. Each event is put together where it is
    /// told: the machine's code for it alone stands there.
    #[inline(always)]
    fn tell(&mut self, with: Ends) -> Result<bool, MachineError> {
        use DestinationEvent as There;
        use SourceEvent as Here;
        match with {
            Ends::Nothing | Ends::Sending | Ends::Harvest => {}
            Ends::Start => self.tell_here(Here::Start)?,
            Ends::TrackingStarted => self.tell_here(Here::TrackingStarted)?,
            Ends::TrackingStopped => self.tell_here(Here::TrackingStopped)?,
            Ends::Paused => self.tell_here(Here::Paused)?,
            Ends::Saved => {
                let mut saved = ManuallyDrop::new(Here::Saved(std::mem::take(&mut self.sections)));
                self.source.take_known(self.now, &mut saved)?;
                // If it is in vain the machine does not keep it.
                if let Here::Saved(left) = &mut *saved {
                    std::mem::swap(left, &mut self.sections);
                }
            }
            Ends::Resumed => self.tell_here(Here::Resumed)?,
            Ends::Persisted => self.tell_here(Here::Persisted)?,
            Ends::Built => return self.tell_there(There::Built),
            Ends::Restored => return self.tell_there(There::Restored),
            Ends::PersistedThere => return self.tell_there(There::Persisted),
            Ends::ResumedThere => return self.tell_there(There::Resumed),
            // Messages.
            _ if !self.connected => {}
            Ends::Accept => self.tell_here(Here::Received(Message::Accept))?,
            Ends::Acknowledge(round) => self.tell_here(Here::Received(Message::Acknowledge { round }))?,
            Ends::Ready => self.tell_here(self.reported(HandoffMessage::Ready))?,
            Ends::Running => self.tell_here(self.reported(HandoffMessage::Running))?,
            Ends::Configure => {
                let configure = Message::Configure(self.source.configuration().clone());
                self.destination.take_known(self.now, &mut There::Received(configure))?;
                return Ok(true);
            }
            Ends::RoundEnd(round) => return self.tell_there(There::Received(Message::RoundEnd { round })),
            Ends::State => {
                let state = Message::State(std::mem::take(&mut self.sections));
                let mut received = ManuallyDrop::new(There::Received(state));
                self.destination.take_known(self.now, &mut received)?;
                if let There::Received(Message::State(left)) = &mut *received {
                    std::mem::swap(left, &mut self.sections);
                }
                return Ok(true);
            }
            Ends::Go => {
                return self.tell_there(There::Received(Message::handoff(HandoffMessage::Go)));
            }
        }
        Ok(false)
    }

    /// Tells the source of something that owns nothing, so that there is nothing to be dropped.
    #[inline(always)]
    fn tell_here(&mut self, event: SourceEvent) -> Result<(), MachineError> {
        self.source.take_known(self.now, &mut ManuallyDrop::new(event))
    }

    /// The same of the destination.
    #[inline(always)]
    fn tell_there(&mut self, event: DestinationEvent) -> Result<bool, MachineError> {
        self.destination.take_known(self.now, &mut ManuallyDrop::new(event))?;
        Ok(true)
    }

    /// What the destination says, and how long what it reports took.
    #[inline(always)]
    fn reported(&self, message: HandoffMessage) -> SourceEvent {
        SourceEvent::Received(Message::Handoff { message, took: self.destination.took() })
    }

    #[inline(always)]
    fn do_what_the_source_wants(&mut self) -> Option<Box<Split>> {
        while let Some(action) = self.source.poll_plain() {
            self.act_plainly_here(action);
        }
        // Hardly ever is anything else wanted, and most often it begins a round.
        if self.source.is_silent() { None } else { self.do_what_is_wanted_then() }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at: u64, number: u64) -> Moment {
        Moment { with: Ends::RoundEnd(number as u32), at: Timestamp::from_nanos(at), number }
    }

    #[test]
    fn of_two_steps_the_earlier_ends_first_and_of_two_at_a_time_the_one_that_began_first() {
        for (times, order) in [([5, 9], [0, 1]), ([9, 5], [1, 0]), ([7, 7], [0, 1])] {
            let mut step = Step { first: moment(times[0], 0), ..Step::default() };
            assert!(step.begin_beside(moment(times[1], 1)).is_none());
            let third = step.begin_beside(moment(1, 2)).map(|moment| moment.number);
            assert_eq!(third, Some(2), "there are two places");
            assert_eq!([step.take(), step.take()], order.map(Ends::RoundEnd), "{times:?}");
            assert_eq!((step.take(), step.later.with), (Ends::Nothing, Ends::Nothing));
        }
    }
}
