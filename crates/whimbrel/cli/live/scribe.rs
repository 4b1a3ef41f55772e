//! The journal of a move, written while it goes on: an observer in front of another.
//!
//! Used by `send` and by the bench. Called on the driver's thread, and not while the guest stands still for its handover, unless that
//! alone has more lines than the engine keeps (512). What cannot be written is told when the move is over: nothing of the move depends
//! on it.

use std::time::Duration;

use whimbrel_core::journal::Entry;
use whimbrel_core::machine::message::Configuration;
use whimbrel_core::progress::Capabilities;
use whimbrel_core::units::Timestamp;
use whimbrel_engine::observer::{Event, Observer};
use whimbrel_lab::output::{FinishedFile, OutputError, WholeFile};
use whimbrel_lab::real::journal::{Head, NAME, SCHEMA, to_line};
use whimbrel_lab::scenario::PolicySpec;

/// A journal that is being written.
pub(in crate::cli) struct Scribe {
    file: WholeFile,
    head: Option<Head>,
    failed: Option<OutputError>,
}

impl Scribe {
    /// Begins the journal of a source that is made of this. What guest and ground offer its policy, the first lines say.
    pub(in crate::cli) fn new(
        file: WholeFile,
        configuration: Configuration,
        policy: &PolicySpec,
        patience: Duration,
    ) -> Self {
        let head = Head {
            kind: NAME.to_owned(),
            schema: SCHEMA,
            configuration,
            policy: policy.into(),
            patience,
            capabilities: Capabilities::default(),
        };
        Self { file, head: Some(head), failed: None }
    }

    fn write(&mut self, capabilities: Capabilities, lines: &[Entry]) {
        if self.failed.is_some() {
            return;
        }
        let head = self.head.take().map(|head| Head { capabilities, ..head }.to_line());
        // Numbers and texts can always be written.
        let text: String =
            head.into_iter().chain(lines.iter().map(to_line)).map(Result::unwrap_or_default).collect();
        // A process that is killed loses no line that was written: it is a journal of moves that end badly, too.
        self.failed = self.file.write(&text).and_then(|()| self.file.hand_on()).err();
    }

    /// Puts it in its place.
    pub(in crate::cli) fn publish(self) -> Result<(), OutputError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.file.finish().and_then(FinishedFile::publish).map(drop),
        }
    }
}

/// Shows everything to `then`, and has the journal written if there is one.
pub(in crate::cli) struct Written<'a, O> {
    pub(in crate::cli) scribe: Option<&'a mut Scribe>,
    pub(in crate::cli) then: &'a mut O,
}

impl<O: Observer> Observer for Written<'_, O> {
    fn on_event(&mut self, at: Timestamp, event: &Event<'_>) {
        if let (Event::Journal { capabilities, lines }, Some(scribe)) = (event, &mut self.scribe) {
            scribe.write(*capabilities, lines);
        }
        self.then.on_event(at, event);
    }
}
