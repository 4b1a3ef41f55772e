//! What the machines ask of the two hosts and the link outside of rounds, at the cost that the configuration names.

use std::time::Duration;

use whimbrel_core::machine::handoff::HandoffMessage;
use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{
    DestinationAction, PlainDestinationAction, PlainSourceAction, SourceAction, SourceEvent,
};
use whimbrel_core::units::Timestamp;

use super::splits::Split;
use super::steps::{Ends, Here, There};
use super::world::{Event, World, nanos};
use crate::link::{Nanos, timestamp};

impl World {
    /// What is asked for, unless it is one of what is asked for in every round and nothing waited before it.
    #[inline(never)]
    pub(super) fn act_at_source(&mut self, action: SourceAction) -> Option<Box<Split>> {
        if let Some(plain) = action.plain() {
            self.act_plainly(plain);
            return None;
        }
        match action {
            SourceAction::Send(message) => self.send_forward(message),
            SourceAction::Transmit(transmit) => self.transmit(transmit),
            SourceAction::Harvest => return self.harvest(),
            SourceAction::Throttle(throttle) => {
                self.guest.set_throttle(self.now, throttle);
                self.throttled = !throttle.is_off();
                self.slowed |= self.throttled;
            }
            SourceAction::Wake(at) if at < Timestamp::MAX => {
                self.queue.push(at, Event::Source(SourceEvent::Wake));
            }
            _ => {}
        }
        None
    }

    /// What it is asked for a few times in a migration.
    #[inline(never)]
    fn act_plainly(&mut self, action: PlainSourceAction) {
        self.act_plainly_here(action);
    }

    #[inline(always)]
    pub(super) fn act_plainly_here(&mut self, action: PlainSourceAction) {
        let host = &self.terms.host;
        let now = self.now;
        match action {
            PlainSourceAction::EndRound(round) => self.end_round(round),
            PlainSourceAction::Handoff(message) => {
                let accepted = self.send_word();
                self.arrives_there(accepted, There::Handoff(message));
            }
            PlainSourceAction::StartTracking => {
                let ready = now.saturating_add(self.tracking_takes);
                self.guest.start_tracking(ready, host.tracking_fault);
                self.guest.count_writes(ready, self.field.counts_mut());
                self.harvested_at = ready;
                self.sending.begin(nanos(ready));
                self.tracking = true;
                self.here(ready, Here::TrackingStarted);
            }
            PlainSourceAction::StopTracking => {
                self.guest.stop_tracking(now);
                self.tracking = false;
                self.here(now, Here::TrackingStopped);
            }
            PlainSourceAction::Limit(limit) => {
                self.sending.limit(limit);
                self.limits += 1;
            }
            PlainSourceAction::Pause => {
                self.guest.pause(now);
                self.paused_at = Some(now);
                self.runs_here = false;
                let gate = if self.source.is_handing_over() { host.switchover_gate } else { Duration::ZERO };
                self.here(now.saturating_add(host.pause).saturating_add(gate), Here::Paused);
            }
            PlainSourceAction::SaveState => self.here(now.saturating_add(host.save_state), Here::Saved),
            PlainSourceAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.guest.resume(resumed);
                self.runs_here = true;
                self.here(resumed, Here::Resumed);
            }
            PlainSourceAction::Persist(_) => self.here(now.saturating_add(host.persist), Here::Persisted),
            _ => {}
        }
    }

    /// What is asked for and owns something.
    #[inline(never)]
    pub(super) fn act_at_destination(&mut self) {
        let Some(action) = self.destination.poll() else { return };
        match action {
            DestinationAction::Send(message) => {
                let bytes = (message.payload() + self.terms.message_overhead).as_f64();
                let arrival = self.arrival_here(bytes);
                if self.connected {
                    self.queue.push(arrival, Event::ArrivesHere(message));
                }
            }
            DestinationAction::Build(_) => self.there(self.now, There::Built),
            DestinationAction::Restore(sections) => {
                self.sections = sections;
                self.there(self.now.saturating_add(self.terms.host.restore_state), There::Restored);
            }
            action => {
                if let Some(plain) = action.plain() {
                    self.act_plainly_there(plain);
                }
            }
        }
    }

    #[inline(always)]
    pub(super) fn act_plainly_there(&mut self, action: PlainDestinationAction) {
        let host = &self.terms.host;
        let now = self.now;
        match action {
            PlainDestinationAction::Accept => self.answer(Here::Accept),
            PlainDestinationAction::Acknowledge(round) => self.answer(Here::Acknowledge(round)),
            PlainDestinationAction::Handoff { message, took } => {
                // Other messages report nothing.
                if matches!(message, HandoffMessage::Ready | HandoffMessage::Running) {
                    self.step.took = took;
                }
                self.answer(Here::Handoff(message));
            }
            PlainDestinationAction::Persist(_) => {
                self.there(now.saturating_add(host.persist), There::Persisted);
            }
            PlainDestinationAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.runs_there = Some(resumed);
                // From here on it runs there, neither slowed nor tracked.
                self.guest.resume_free(resumed);
                self.there(resumed, There::Resumed);
            }
            _ => {}
        }
    }

    /// The destination sends a message that carries only numbers.
    fn answer(&mut self, message: Here) {
        if self.connected {
            let arrival = self.arrival_here(self.terms.word);
            self.here(arrival, message);
        }
    }

    /// When the source has what the destination sends now.
    fn arrival_here(&self, bytes: f64) -> Timestamp {
        timestamp(self.link.back(nanos(self.now), bytes)).saturating_add(self.one_way())
    }

    /// The source sends a message that carries only numbers; gives when it is in the queue.
    #[inline]
    pub(super) fn send_word(&mut self) -> Nanos {
        self.sending.message(nanos(self.now), self.terms.word, &mut self.link)
    }

    fn send_forward(&mut self, message: Message) {
        let mut bytes = (message.payload() + self.terms.message_overhead).as_f64();
        if matches!(message, Message::State(_)) {
            bytes += self.terms.state.as_f64();
        }
        if matches!(message, Message::PostCopy { .. }) {
            bytes += self.leave_behind().as_f64();
        }
        let accepted = self.sending.message(nanos(self.now), bytes, &mut self.link);
        match message {
            Message::Configure(configuration) => {
                self.configuration = Some(configuration);
                self.arrives_there(accepted, There::Configure);
            }
            Message::State(sections) => {
                self.handed_over = Some(timestamp(accepted));
                self.sections = sections;
                self.arrives_there(accepted, There::State);
            }
            message if self.connected => {
                let arrival = self.arrival(accepted);
                self.queue.push(arrival, Event::ArrivesThere(message));
            }
            _ => {}
        }
    }

    /// When the other side has what went into the queue at `accepted`.
    fn arrival(&self, accepted: Nanos) -> Timestamp {
        timestamp(self.link.drained(accepted)).saturating_add(self.one_way())
    }

    /// The message went into the queue at `accepted`.
    pub(super) fn arrives_there(&mut self, accepted: Nanos, message: There) {
        if self.connected {
            let arrival = self.arrival(accepted);
            self.step_to(Ends::There(message), arrival);
        }
    }

    fn one_way(&self) -> Duration {
        self.terms.one_way
    }

    fn here(&mut self, at: Timestamp, what: Here) {
        self.step_to(Ends::Here(what), at);
    }

    fn there(&mut self, at: Timestamp, what: There) {
        self.step_to(Ends::There(what), at);
    }
}
