//! What the machines ask of the two hosts and the link outside of rounds, at the cost that the configuration names.

use std::time::Duration;

use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{DestinationAction, SourceAction, SourceEvent};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::Timestamp;

use super::splits::Split;
use super::steps::{Ends, Here, There};
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
            action => self.act_rarely(&action),
        }
        None
    }

    /// What it is asked for a few times in a migration.
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
                self.later(ready, Here::TrackingStarted);
            }
            SourceAction::StopTracking => {
                self.guest.stop_tracking(now);
                self.tracking = false;
                self.later(now, Here::TrackingStopped);
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
                self.later(now.saturating_add(host.pause).saturating_add(gate), Here::Paused);
            }
            SourceAction::SaveState => {
                let saved = now.saturating_add(host.save_state);
                self.later(saved, Here::Saved);
            }
            SourceAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.guest.resume(resumed);
                self.runs_here = true;
                self.later(resumed, Here::Resumed);
            }
            SourceAction::Persist(_) => self.later(now.saturating_add(host.persist), Here::Persisted),
            SourceAction::Wake(at) if at < Timestamp::MAX => {
                self.queue.push(at, Event::Source(SourceEvent::Wake));
            }
            _ => {}
        }
    }

    pub(super) fn act_at_destination(&mut self, action: DestinationAction) {
        let host = &self.terms.host;
        let now = self.now;
        match action {
            DestinationAction::Send(message) => {
                let bytes = (message.payload() + self.terms.message_overhead).as_f64();
                let arrival = timestamp(self.link.back(nanos(now), bytes)).saturating_add(self.one_way());
                if self.connected {
                    self.arrives_here(arrival, message);
                }
            }
            DestinationAction::Build(_) => self.there(now, There::Built),
            DestinationAction::Restore(sections) => {
                self.sections = sections;
                self.there(now.saturating_add(host.restore_state), There::Restored);
            }
            DestinationAction::Persist(_) => {
                self.there(now.saturating_add(host.persist), There::Persisted);
            }
            DestinationAction::Resume => {
                let resumed = now.saturating_add(host.resume);
                self.runs_there = Some(resumed);
                // From here on it runs there, neither slowed nor tracked.
                self.guest.stop_tracking(resumed);
                self.guest.set_throttle(resumed, Throttle::Off);
                self.guest.resume(resumed);
                self.there(resumed, There::Resumed);
            }
            _ => {}
        }
    }

    fn send_forward(&mut self, message: Message) {
        if let Message::RoundEnd { round } = message {
            return self.end_round(round);
        }
        let mut bytes = (message.payload() + self.terms.message_overhead).as_f64();
        let state = matches!(message, Message::State(_));
        if state {
            bytes += self.terms.state.as_f64();
        }
        if matches!(message, Message::PostCopy { .. }) {
            bytes += self.leave_behind().as_f64();
        }
        let accepted = self.sending.message(nanos(self.now), bytes, &mut self.link);
        match message {
            Message::State(sections) => {
                self.handed_over = Some(timestamp(accepted));
                self.sections = sections;
                self.arrives_there(accepted, There::State);
            }
            Message::Handoff { message, took } => self.arrives_there(accepted, There::Handoff(message, took)),
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

    fn arrives_here(&mut self, at: Timestamp, message: Message) {
        let here = match message {
            Message::Accept => Here::Accept,
            Message::Acknowledge { round } => Here::Acknowledge(round),
            Message::Handoff { message, took } => Here::Handoff(message, took),
            message => return self.queue.push(at, Event::ArrivesHere(message)),
        };
        self.step_to(Ends::Here(here), at);
    }

    fn one_way(&self) -> Duration {
        self.terms.one_way
    }

    fn later(&mut self, at: Timestamp, what: Here) {
        self.step_to(Ends::Here(what), at);
    }

    fn there(&mut self, at: Timestamp, what: There) {
        self.step_to(Ends::There(what), at);
    }
}
