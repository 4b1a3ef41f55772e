//! The sequence diagrams of `docs/protocol.md`, played: each word of the handoff that is drawn must be what the machines say then,
//! and each note what they do.
//!
//! Read are arrows with words of the handoff, `hello (again)`, and the notes of [`Play::note`]; all else is scenery. A diagram
//! that begins in the middle is led there by an undisturbed course. The branches of an `alt` begin alike.

use std::collections::VecDeque;

use super::*;

/// A note that is understood, and what happens or is seen to have happened.
type Note = (&'static str, fn(&mut Play));

/// Both sides, and what each has said that is not drawn yet.
#[derive(Clone)]
struct Play {
    /// The diagram's name.
    course: String,
    source: SourceHandoff,
    destination: DestinationHandoff,
    records: [Option<StableRecord>; 2],
    from_source: VecDeque<String>,
    from_destination: VecDeque<String>,
    /// What each was to do.
    done: Vec<Effect>,
    /// Words and notes that were understood.
    understood: usize,
}

impl Play {
    fn new(course: &str) -> Self {
        Self {
            course: course.to_owned(),
            source: SourceHandoff::new(),
            destination: DestinationHandoff::new(),
            records: [None; 2],
            from_source: VecDeque::new(),
            from_destination: VecDeque::new(),
            done: Vec::new(),
            understood: 0,
        }
    }

    fn source(&mut self, event: SourceEvent) {
        for effect in self.source.handle(event).unwrap_or_else(|error| panic!("{}: {error}", self.course)) {
            match effect {
                Effect::Send(message) => self.from_source.push_back(message.to_string()),
                Effect::Erase => self.records[0] = None,
                effect => self.done.push(effect),
            }
        }
    }

    fn destination(&mut self, event: DestinationEvent) {
        for effect in
            self.destination.handle(event).unwrap_or_else(|error| panic!("{}: {error}", self.course))
        {
            match effect {
                Effect::Send(message) => self.from_destination.push_back(message.to_string()),
                effect => self.done.push(effect),
            }
        }
    }

    fn lose(&mut self) {
        if self.source.is_connected() {
            self.source(SourceEvent::Disconnected);
        }
        if self.destination.is_connected() {
            self.destination(DestinationEvent::Disconnected);
        }
        (self.from_source, self.from_destination) = Default::default();
    }

    /// Leads to where the source has heard *ready*, and writes.
    fn until_ready(&mut self) {
        if self.source.may_cancel() {
            if self.source.held() == Held::Running {
                self.source(SourceEvent::Pause);
            }
            if self.destination.may_withdraw() {
                self.destination(DestinationEvent::Verified);
                self.from_destination.clear();
            }
            self.source(SourceEvent::Received(HandoffMessage::Ready));
        }
    }

    fn until_go(&mut self) {
        self.until_ready();
        if self.source.state() == "writing 'go'" {
            self.records[0] = Some(StableRecord::Go);
            self.source(SourceEvent::Persisted);
        }
    }

    /// A word on an arrow to the destination, or to the source.
    fn word(&mut self, to_destination: bool, word: &str) {
        use HandoffMessage as H;
        let words = [H::Ready, H::Go, H::Running, H::Cancel, H::Withdraw, H::Ask];
        let answers = [Standing::Prepared, Standing::Running, Standing::Gone].map(H::Answer);
        let Some(message) = words.into_iter().chain(answers).find(|message| message.to_string() == word)
        else {
            if word == "hello (again)" {
                self.lose();
                self.destination(DestinationEvent::Connected);
                self.source(SourceEvent::Connected);
            }
            return;
        };
        match message {
            H::Ready if self.source.held() == Held::Running => {
                self.source(SourceEvent::Pause);
                self.destination(DestinationEvent::Verified);
            }
            H::Go => self.until_go(),
            _ => {}
        }
        let said = if to_destination { &mut self.from_source } else { &mut self.from_destination };
        assert_eq!(
            said.pop_front().as_deref(),
            Some(word),
            "{}: this is said, not what is drawn",
            self.course
        );
        if to_destination {
            self.destination(DestinationEvent::Received(message));
        } else {
            self.source(SourceEvent::Received(message));
        }
        self.understood += 1;
    }

    fn arrow(&mut self, to_destination: bool, lost: bool, words: &str) {
        for word in words.split(", ") {
            match word.strip_prefix("restarted: ").unwrap_or(word) {
                _ if word.starts_with("connection lost") => {
                    if word.ends_with("after ready") {
                        self.until_go();
                    }
                    self.lose();
                }
                "go" if lost => {
                    self.until_go();
                    assert_eq!(self.from_source.pop_front().as_deref(), Some("go"));
                }
                "running" if lost => {
                    assert_eq!(self.from_destination.pop_front().as_deref(), Some("running"));
                }
                _ if lost => {}
                word => self.word(to_destination, word),
            }
        }
    }

    /// What is noted happens, or is seen to have happened.
    fn note(&mut self, note: &str) {
        let notes: [Note; 15] = [
            ("pauses the guest", |play| play.source(SourceEvent::Pause)),
            ("restores, verifies", |play| play.destination(DestinationEvent::Verified)),
            ("writes go", Self::until_go),
            ("go cannot be written", |play| play.source(SourceEvent::NotPersisted)),
            ("running cannot be written", |play| play.destination(DestinationEvent::NotPersisted)),
            ("writes running", |play| {
                play.records[1] = Some(StableRecord::Running);
                play.destination(DestinationEvent::Persisted);
                if play.done.contains(&Effect::ResumeGuest) && play.destination.held() == Held::Paused {
                    play.destination(DestinationEvent::Resumed);
                }
            }),
            ("somebody cancels", |play| play.source(SourceEvent::Cancel)),
            ("cannot go on", |play| play.destination(DestinationEvent::Withdraw)),
            ("somebody discards", |play| play.destination(DestinationEvent::Discard)),
            ("the replica is lost", |play| {
                play.destination = DestinationHandoff::restarted(None).unwrap();
            }),
            ("finds running", |play| {
                let record = Some(StableRecord::Running);
                play.destination = DestinationHandoff::restarted(record).unwrap();
            }),
            ("its guest is lost", |play| {
                play.lose();
                play.source = SourceHandoff::restarted(None).unwrap();
            }),
            ("keeps the paused replica, or runs it", |play| {
                play.until_go();
                play.lose();
                play.source = SourceHandoff::restarted(play.records[0]).unwrap();
            }),
            ("the guest runs on", |play| assert_eq!(play.source.held(), Held::Running)),
            ("releases the guest", |play| assert!(play.done.contains(&Effect::ReleaseGuest))),
        ];
        for (known, happens) in notes {
            if note.contains(known) {
                happens(self);
                self.understood += 1;
            }
        }
    }

    /// What somebody tells a side that is in doubt.
    fn told(&mut self, at_source: bool, what: &str) {
        let fence = if what.contains("may have run") { Fence::MayHaveRun } else { Fence::NeverRan };
        match (at_source, what.contains("out of the game")) {
            (true, _) => self.source(SourceEvent::Fenced(fence)),
            (false, true) => self.destination(DestinationEvent::Fenced(fence)),
            (false, false) => self.destination(DestinationEvent::Discard),
        }
        self.understood += 1;
    }
}

/// Plays one diagram; says how much of it was understood.
fn play(course: &str, diagram: &str) -> usize {
    let (mut play, mut before, mut understood) = (Play::new(course), None, 0);
    for line in diagram.lines().map(str::trim) {
        if line.starts_with("alt ") {
            before = Some(play.clone());
        } else if line.starts_with("else") {
            understood += play.understood;
            play = before.clone().expect("an alt before");
            play.understood = 0;
        } else if let Some(note) = line.strip_prefix("Note over ").and_then(|rest| rest.split_once(": ")) {
            play.note(note.1);
        } else if let Some((ends, words)) = line.split_once(": ") {
            match ends {
                "P->>S" | "P->>D" => play.told(ends == "P->>S", words),
                _ => play.arrow(ends.ends_with('D'), ends.contains("--x"), words),
            }
        }
    }
    understood + play.understood
}

#[test]
fn the_diagrams_are_what_the_machines_do() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md")).unwrap();
    let (_, courses) = page.split_once("## Courses").unwrap();
    let (courses, _) = courses.split_once("## States").unwrap();
    let mut understood = Vec::new();
    for course in courses.split("\n### ").skip(1) {
        let name = course.lines().next().unwrap_or_default();
        let (_, diagram) = course.split_once("```mermaid").unwrap();
        let (diagram, _) = diagram.split_once("```").unwrap();
        understood.push(play(name, diagram));
    }
    // What is not understood is not checked: nothing may get lost by rewording.
    assert_eq!(
        understood,
        [8, 0, 0, 4, 3, 3, 16, 9, 6, 9, 9],
        "words and notes that were played, by diagram"
    );
}
