//! The journal of a move, written while it goes on: an observer in front of another.
//!
//! Called on the driver's thread, and never while the guest stands still. What cannot be written is told when the move is over: nothing of
//! the move depends on it.

use whimbrel_core::journal::Entry;
use whimbrel_core::progress::Capabilities;
use whimbrel_core::units::Timestamp;
use whimbrel_engine::observer::{Event, Observer};
use whimbrel_lab::output::{FinishedFile, OutputError, WholeFile};
use whimbrel_lab::real::journal::{Head, to_line};

/// A journal that is being written.
pub(super) struct Scribe {
    file: WholeFile,
    head: Option<Head>,
    failed: Option<OutputError>,
}

impl Scribe {
    /// Begins it. Which capabilities the head has, the first lines say.
    pub(super) fn new(file: WholeFile, head: Head) -> Self {
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
    pub(super) fn publish(self) -> Result<(), OutputError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.file.finish().and_then(FinishedFile::publish).map(drop),
        }
    }
}

/// Shows everything to `then`, and has the journal written if there is one.
pub(super) struct Written<'a, O> {
    pub(super) scribe: Option<&'a mut Scribe>,
    pub(super) then: &'a mut O,
}

impl<O: Observer> Observer for Written<'_, O> {
    fn on_event(&mut self, at: Timestamp, event: &Event<'_>) {
        if let (Event::Journal { capabilities, lines }, Some(scribe)) = (event, &mut self.scribe) {
            scribe.write(*capabilities, lines);
        }
        self.then.on_event(at, event);
    }
}
