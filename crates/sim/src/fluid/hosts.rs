//! What the machines ask of the two hosts and the link outside of rounds, at the cost that the configuration names.

use std::time::Duration;

use whimbrel_core::machine::message::{Message, Section};
use whimbrel_core::machine::{
    DestinationAction, PlainDestinationAction, PlainSourceAction, SourceAction, SourceEvent,
};
use whimbrel_core::units::{ByteCount, Timestamp};

use super::splits::Split;
use super::steps::Ends;
use super::world::{Event, World, nanos};
use crate::link::{Nanos, timestamp};

impl World {
    /// What is asked for, unless it is one of what is asked for in every round and nothing waited before it.
    #[inline(never)]
    pub(super) fn act_at_source(&mut self, action: SourceAction) -> Option<Box<Split>> {
        match action {
            SourceAction::Send(message) => self.send_forward(message),
            SourceAction::Transmit(transmit) => self.transmit(transmit),
            SourceAction::Harvest => return self.harvest(),
            SourceAction::Throttle(throttle) => {
                self.guest.set_throttle(self.now, throttle);
                self.throttled = !throttle.is_off();
                self.slowed |= self.throttled;
            }
            SourceAction::Limit(limit) => {
                self.sending.limit(limit);
                self.limits += 1;
            }
            SourceAction::Wake(at) if at < Timestamp::MAX => {
                self.queue.push(at, Event::Source(SourceEvent::Wake));
            }
            _ => {}
        }
        None
    }

    /// What it is asked for a few times in a migration.
    #[inline(always)]
    pub(super) fn act_plainly_here(&mut self, action: PlainSourceAction) {
        let host = &self.terms.host;
        let now = self.now;
        match action {
            PlainSourceAction::Configure => {
                let bytes = self.source.configuration().payload() + self.terms.message_overhead;
                let accepted = self.send(bytes.as_f64());
                self.arrives_there(accepted, Ends::Configure);
            }
            PlainSourceAction::State => {
                self.sections = self.source.take_state();
                let sections: ByteCount = self.sections.iter().map(Section::payload).sum();
                let bytes = (sections + self.terms.message_overhead).as_f64() + self.terms.state.as_f64();
                let accepted = self.send(bytes);
                self.handed_over = Some(timestamp(accepted));
                self.arrives_there(accepted, Ends::State);
            }
            PlainSourceAction::EndRound(round) => self.end_round(round),
            PlainSourceAction::Go => {
                let accepted = self.send_word();
                self.arrives_there(accepted, Ends::Go);
            }
            PlainSourceAction::StartTracking => {
                let ready = now.saturating_add(self.tracking_takes);
                self.guest.start_tracking(ready, host.tracking_fault);
                self.guest.count_writes(ready, self.field.counts_mut());
                self.harvested_at = ready;
                self.sending.begin(nanos(ready));
                self.tracking = true;
                self.step_to(Ends::TrackingStarted, ready);
            }
            PlainSourceAction::StopTracking => {
                self.guest.stop_tracking(now);
                self.tracking = false;
                self.step_to(Ends::TrackingStopped, now);
            }
            PlainSourceAction::Pause => {
                self.guest.pause(now);
                self.paused_at = Some(now);
                self.runs_here = false;
                let gate = if self.source.is_handing_over() { host.switchover_gate } else { Duration::ZERO };
                self.step_to(Ends::Paused, now.saturating_add(host.pause).saturating_add(gate));
            }
            PlainSourceAction::SaveState => self.step_to(Ends::Saved, now.saturating_add(host.save_state)),
            PlainSourceAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.guest.resume(resumed);
                self.runs_here = true;
                self.step_to(Ends::Resumed, resumed);
            }
            PlainSourceAction::PersistGo => self.step_to(Ends::Persisted, now.saturating_add(host.persist)),
            _ => {}
        }
    }

    /// What is hardly ever asked for.
    #[inline(never)]
    pub(super) fn act_at_destination(&mut self) {
        let Some(DestinationAction::Send(message)) = self.destination.poll() else { return };
        let bytes = (message.payload() + self.terms.message_overhead).as_f64();
        let arrival = self.arrival_here(bytes);
        if self.connected {
            self.queue.push(arrival, Event::ArrivesHere(message));
        }
    }

    #[inline(always)]
    pub(super) fn act_plainly_there(&mut self, action: PlainDestinationAction) {
        let host = &self.terms.host;
        let now = self.now;
        match action {
            PlainDestinationAction::Build => {
                self.destination.take_configuration();
                self.step_to(Ends::Built, now);
            }
            PlainDestinationAction::Restore => {
                self.sections = self.destination.take_state();
                self.step_to(Ends::Restored, now.saturating_add(host.restore_state));
            }
            PlainDestinationAction::Accept => self.answer(Ends::Accept),
            PlainDestinationAction::Acknowledge(round) => self.answer(Ends::Acknowledge(round)),
            PlainDestinationAction::Ready => self.answer(Ends::Ready),
            PlainDestinationAction::Running => self.answer(Ends::Running),
            PlainDestinationAction::PersistRunning => {
                self.step_to(Ends::PersistedThere, now.saturating_add(host.persist));
            }
            PlainDestinationAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.runs_there = Some(resumed);
                // From here on it runs there, neither slowed nor tracked.
                self.guest.resume_free(resumed);
                self.step_to(Ends::ResumedThere, resumed);
            }
            _ => {}
        }
    }

    /// The destination sends a message that carries only numbers.
    fn answer(&mut self, message: Ends) {
        if self.connected {
            let arrival = self.arrival_here(self.terms.word);
            self.step_to(message, arrival);
        }
    }

    /// When the source has what the destination sends now.
    fn arrival_here(&self, bytes: f64) -> Timestamp {
        timestamp(self.link.back(nanos(self.now), bytes)).saturating_add(self.one_way())
    }

    /// The source sends a message that carries only numbers; gives when it is in the queue.
    #[inline]
    pub(super) fn send_word(&mut self) -> Nanos {
        self.send(self.terms.word)
    }

    #[inline]
    fn send(&mut self, bytes: f64) -> Nanos {
        self.sending.message(nanos(self.now), bytes, &mut self.link)
    }

    fn send_forward(&mut self, message: Message) {
        let mut bytes = (message.payload() + self.terms.message_overhead).as_f64();
        if matches!(message, Message::PostCopy { .. }) {
            bytes += self.leave_behind().as_f64();
        }
        let accepted = self.send(bytes);
        if self.connected {
            let arrival = self.arrival(accepted);
            self.queue.push(arrival, Event::ArrivesThere(message));
        }
    }

    /// When the other side has what went into the queue at `accepted`.
    fn arrival(&self, accepted: Nanos) -> Timestamp {
        timestamp(self.link.drained(accepted)).saturating_add(self.one_way())
    }

    /// The message went into the queue at `accepted`.
    pub(super) fn arrives_there(&mut self, accepted: Nanos, message: Ends) {
        if self.connected {
            let arrival = self.arrival(accepted);
            self.step_to(message, arrival);
        }
    }

    fn one_way(&self) -> Duration {
        self.terms.one_way
    }
}
