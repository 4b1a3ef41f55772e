//! What others see of a source: phases, progress and rounds, as its driver comes to them.

use whimbrel_core::units::Timestamp;

use super::driver::Driver;
use crate::clock::Clock as _;
use crate::observer::Event;

impl Driver<'_> {
    pub(super) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn show(&mut self, event: &Event<'_>) {
        let now = self.clock.now();
        self.observer.on_event(now, event);
    }

    pub(super) fn show_phase(&mut self) {
        let phase = self.machine.phase();
        if phase != self.shown {
            self.shown = phase;
            self.show(&Event::Source(phase));
        }
    }

    pub(super) fn show_progress(&mut self) {
        let now = self.clock.now();
        self.observer.on_event(now, &Event::Progress(self.machine.controller().progress()));
        if self.machine.round_count() != self.rounds {
            self.rounds = self.machine.round_count();
            // Not from a report of all rounds: the guest may stand still.
            if let Some(round) = self.machine.round_before() {
                self.observer.on_event(now, &Event::Round(round));
            }
            if let Some(outlook) = self.machine.controller().outlook() {
                self.observer.on_event(now, &Event::Outlook(&outlook));
            }
        }
    }
}
