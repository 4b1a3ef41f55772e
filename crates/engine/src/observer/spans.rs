//! A migration as spans and events of `tracing`.
//!
//! One span for the migration, in it one for each phase, in these an event for each round, throttle, limit and loss. A subscriber sees
//! how long each phase took by when its span closed. Progress is at the level of traces: there is much of it.

use tracing::{Span, debug, info, info_span, trace, warn};
use whimbrel_core::units::Timestamp;

use super::{Event, Observer};

/// Tells a subscriber of `tracing` what happens.
///
/// One span for the migration, in it one for each phase, in these an event for each round, throttle, limit and loss; progress at the
/// level of traces.
#[derive(Debug)]
pub struct Spans {
    migration: Span,
    phase: Span,
}

impl Spans {
    /// For a migration of this name, within the span that is current.
    pub fn new(name: &str) -> Self {
        Self { migration: info_span!("migration", name), phase: Span::none() }
    }

    fn enter(&mut self, phase: &str) {
        self.phase = info_span!(parent: &self.migration, "phase", phase);
    }
}

impl Observer for Spans {
    fn on_event(&mut self, at: Timestamp, event: &Event<'_>) {
        let at = at.as_secs_f64();
        match event {
            Event::Source(phase) => self.enter(&format!("{phase:?}")),
            Event::Destination(phase) => self.enter(&format!("{phase:?}")),
            Event::Progress(progress) => {
                let (round, pending) = (progress.round, progress.pending.0);
                trace!(parent: &self.phase, at, round, pending, sent = progress.sent.0, "progress");
            }
            Event::Round(round) => {
                let (number, pages, bytes) = (round.round, round.sent_pages.0, round.sent.0);
                let took = round.length.as_secs_f64();
                info!(parent: &self.phase, at, round = number, pages, bytes, took, paused = round.paused, "round");
            }
            Event::Outlook(outlook) => debug!(parent: &self.phase, at, ?outlook, "outlook"),
            Event::Throttle(throttle) => debug!(parent: &self.phase, at, %throttle, "throttle"),
            Event::Limit(limit) => debug!(parent: &self.phase, at, ?limit, "limit"),
            Event::Connected => info!(parent: &self.phase, at, "connected"),
            Event::Lost { what } => warn!(parent: &self.phase, at, what, "lost"),
            // Spans and events say the same.
            Event::Journal { .. } => {}
            Event::StorageFails { what } => warn!(parent: &self.phase, at, what, "stable storage fails"),
            Event::GuestLost => warn!(parent: &self.phase, at, "guest lost"),
            Event::Taken { order } => info!(parent: &self.phase, at, ?order, "taken"),
            Event::Ignored { order, why } => warn!(parent: &self.phase, at, ?order, why, "ignored"),
            Event::TurnedAway { peer, why } => warn!(parent: &self.phase, at, peer, why, "turned away"),
            Event::Answered { id, record } => {
                info!(parent: &self.phase, at, migration = id.0, ?record, "answered");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Metadata, Subscriber};
    use whimbrel_core::machine::SourcePhase;

    use super::*;

    /// Writes down what it is told, in a line each.
    #[derive(Clone, Default)]
    struct Scribe(Arc<Mutex<Vec<String>>>);

    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            // Into memory.
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }

    impl Scribe {
        fn write(&self, line: String) -> u64 {
            let mut lines = self.0.lock().expect("nobody panics with it in hand");
            lines.push(line);
            lines.len() as u64
        }
    }

    impl Subscriber for Scribe {
        fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut fields = Fields(String::new());
            span.record(&mut fields);
            let parent = span.parent().map_or(0, Id::into_u64);
            Id::from_u64(self.write(format!("span in {parent}: {}{}", span.metadata().name(), fields.0)))
        }

        fn record(&self, _span: &Id, _values: &Record<'_>) {}

        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            let parent = event.parent().map_or(0, Id::into_u64);
            self.write(format!("event in {parent}:{}", fields.0));
        }

        fn enter(&self, _span: &Id) {}

        fn exit(&self, _span: &Id) {}

        fn try_close(&self, span: Id) -> bool {
            self.write(format!("closed {}", span.into_u64()));
            true
        }
    }

    #[test]
    fn phases_are_spans_in_the_migration_and_close_when_the_next_begins() {
        let scribe = Scribe::default();
        tracing::subscriber::with_default(scribe.clone(), || {
            let mut spans = Spans::new("database");
            spans.on_event(Timestamp::ZERO, &Event::Source(SourcePhase::Connecting));
            spans.on_event(Timestamp::ZERO, &Event::Lost { what: "control" });
            spans.on_event(Timestamp::ZERO, &Event::Source(SourcePhase::Done));
        });
        let lines = scribe.0.lock().expect("nobody panics with it in hand").clone();
        assert_eq!(
            lines,
            [
                "span in 0: migration name=\"database\"",
                "span in 1: phase phase=\"Connecting\"",
                "event in 2: message=lost at=0.0 what=\"control\"",
                "span in 1: phase phase=\"Done\"",
                "closed 2",
                "closed 1",
                "closed 4",
            ]
        );
    }
}
