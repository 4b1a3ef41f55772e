//! What others see of a source: phases, progress, rounds and the journal, as its driver comes to them.

use std::ops::Range;
use std::time::Duration;

use whimbrel_core::machine::SourcePhase;
use whimbrel_core::units::Timestamp;

use super::driver::Driver;
use crate::clock::Clock as _;
use crate::observer::Event;

/// Lines of the journal for which there is room: those of a blackout need no more memory, and there are never more than these beside
/// what one pass over memory adds.
pub(super) const LINES: usize = 512;

/// So many are shown together, and fewer where the last were shown so long ago: whoever is killed has told what happened until then.
const TOGETHER: usize = 16;
const AT_LATEST: Duration = Duration::from_millis(100);

/// While the guest stands still for its handover nobody writes a journal, unless there is no more room.
const BLACKOUT: Range<SourcePhase> = SourcePhase::Pausing..SourcePhase::PostCopy;

/// Behind the handover nobody waits for the driver: of a guest in doubt it is the destination that is waited for.
const BEHIND: [SourcePhase; 2] = [SourcePhase::InDoubt, SourcePhase::Done];

impl Driver<'_> {
    /// Shows lines of the journal if there are some, and time for it.
    pub(super) fn show_journal(&mut self) {
        let lines = self.machine.controller().journal().entries().len();
        let late = self.journal_due().is_some_and(|at| at <= self.clock.now());
        if late || lines >= if self.holds_journal() { LINES } else { TOGETHER } {
            self.show_rest_of_journal();
        }
    }

    /// When lines that there are must be shown; none if there are none, or they have to wait.
    pub(super) fn journal_due(&self) -> Option<Timestamp> {
        let none = self.machine.controller().journal().entries().is_empty();
        (!none && !self.holds_journal()).then(|| self.journal_shown.saturating_add(AT_LATEST))
    }

    /// Whether the guest stands still and waits for this driver, as it does for a policy that has paused it, too.
    fn holds_journal(&self) -> bool {
        let phase = self.machine.phase();
        let paused = BLACKOUT.contains(&phase) || self.machine.controller().progress().paused;
        paused && !BEHIND.contains(&phase)
    }

    pub(super) fn show_rest_of_journal(&mut self) {
        let now = self.clock.now();
        self.journal_shown = now;
        let capabilities = self.machine.controller().progress().capabilities;
        // The observer may panic; what is shown is then gone.
        let lines = self.machine.drain_journal();
        if !lines.as_slice().is_empty() {
            self.observer.on_event(now, &Event::Journal { capabilities, lines: lines.as_slice() });
        }
    }

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
            if phase == SourcePhase::Returning && self.machine.has_lost_the_guest() {
                self.show(&Event::GuestLost);
            }
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
