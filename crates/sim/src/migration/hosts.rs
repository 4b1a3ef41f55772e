//! What the machines ask of the two hosts and the link, carried out at the cost that the configuration names.

use std::time::Duration;

use whimbrel_core::controller::Harvested;
use whimbrel_core::machine::message::{Message, Section};
use whimbrel_core::machine::{
    DestinationAction, DestinationEvent, SourceAction, SourceEvent, SourcePhase, Transmit,
};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{ByteCount, Pages, Timestamp};

use super::simulation::{Event, Side, Simulation, nanos};
use crate::link::timestamp;
use crate::sender::Parts;

impl Simulation<'_> {
    pub(super) fn act_at_source(&mut self, action: SourceAction) {
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
                self.later(
                    now.saturating_add(self.takes(host.pause)).saturating_add(gate),
                    SourceEvent::Paused,
                );
            }
            SourceAction::SaveState => {
                if !self.post_copy.is_used() {
                    self.copy_exact = self.copied();
                }
                // The state's bytes are charged when it is sent; nobody looks into them here.
                let section = Section { kind: "simulated".into(), version: 1, bytes: Vec::new() };
                self.later(
                    now.saturating_add(self.takes(host.save_state)),
                    SourceEvent::Saved(vec![section]),
                );
            }
            SourceAction::Resume => {
                let resumed = now.saturating_add(self.takes(host.resume));
                self.guest.resume(resumed);
                self.runs_here = true;
                self.later(resumed, SourceEvent::Resumed);
            }
            SourceAction::Persist(_) => self.later(now.saturating_add(host.persist), SourceEvent::Persisted),
            SourceAction::Wake(at) => self.later(at, SourceEvent::Wake),
            _ => {}
        }
    }

    pub(super) fn act_at_destination(&mut self, action: DestinationAction) {
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
                let restored = now.saturating_add(self.takes(host.restore_state));
                self.queue.push(restored, Event::Destination(DestinationEvent::Restored));
            }
            DestinationAction::Persist(_) => {
                let persisted = now.saturating_add(host.persist);
                self.queue.push(persisted, Event::Destination(DestinationEvent::Persisted));
            }
            DestinationAction::Resume => {
                let resumed = now.saturating_add(self.takes(host.resume));
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

    /// How long a part of the switchover that should take `cost` takes in this run.
    fn takes(&self, cost: Duration) -> Duration {
        self.switchover.map_or(cost, |factor| cost.mul_f64(factor))
    }

    fn transmit(&mut self, transmit: Transmit) {
        let parts = Parts {
            backlog: self.source.backlog_mut(),
            guest: &mut self.guest,
            link: &mut self.link,
            witness: self.witness.as_mut(),
            behind: None,
        };
        let (mut end, mut sent) = self.sender.send(nanos(self.now), transmit, parts);
        if self.setup.drained {
            end = if sent.pending == Pages(0) { self.link.drained(end) } else { end };
            sent.bytes = self.carried.so_far(sent.bytes, self.link.in_flight(end));
            sent.in_flight = Some(ByteCount(0));
        }
        sent.bytes = if transmit.last {
            self.count.settle(sent.bytes)
        } else {
            self.count.read(sent.bytes, self.link.rate())
        };
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
        let pending = backlog.pending();
        let in_flight = if self.setup.drained { ByteCount(0) } else { self.link.in_flight(nanos(done)) };
        let in_flight = Some(in_flight);
        let harvested = Harvested { dirtied: found.dirty, left_over, pending, in_flight };
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

    pub(super) fn one_way(&self) -> Duration {
        self.setup.link.round_trip / 2
    }

    pub(super) fn later(&mut self, at: Timestamp, event: SourceEvent) {
        self.queue.push(at, Event::Source(event));
    }
}
