//! A destination, its honest driver, and what it must never do, whatever the peer says.
//!
//! Played by [`check_peer`](super::check_peer). Assertions ask what was *heard*, written and fenced, never the machine they judge.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Heard, failure, message};
use crate::fuzzing::Choices;
use crate::layout::PageNumber;
use crate::machine::handoff::{Fence, HandoffMessage, StableRecord, Standing};
use crate::machine::message::Message;
use crate::machine::{Destination, DestinationAction, DestinationEvent, DestinationPhase, Step};
use crate::units::Timestamp;

/// A destination, and a driver that does what it is asked.
pub(super) struct There {
    destination: Destination,
    now: Timestamp,
    due: VecDeque<DestinationEvent>,
    connected: bool,
    heard: Heard,
    fenced: Option<Fence>,
    discarded: bool,
    /// Memory is reserved.
    replica: bool,
    restored: bool,
    /// *Ready* was said.
    promised: bool,
    /// *Running* is on stable storage.
    written: bool,
    runs: bool,
    lost: bool,
}

impl There {
    pub(super) fn new() -> Self {
        Self {
            destination: Destination::new(),
            now: Timestamp::ZERO,
            due: VecDeque::new(),
            connected: true,
            heard: Heard::default(),
            fenced: None,
            discarded: false,
            replica: false,
            restored: false,
            promised: false,
            written: false,
            runs: false,
            lost: false,
        }
    }

    pub(super) fn step(&mut self, choice: u8, choices: &mut Choices<'_>) {
        self.now = self.now.saturating_add(Duration::from_millis(1));
        match choice % 24 {
            0..=7 => self.answer(),
            8..=17 => self.receive(choices),
            18 => drop(self.told(DestinationEvent::Missed(PageNumber(choices.next().into())))),
            19 | 20 => self.toggle(),
            21 => match choices.next() % 4 {
                0 => drop(self.told(DestinationEvent::Withdraw)),
                1 => self.fence(Fence::NeverRan),
                2 => self.fence(Fence::MayHaveRun),
                _ if self.connected => {}
                _ => {
                    let filling = self.destination.phase() == DestinationPhase::Filling;
                    self.discarded |= self.told(DestinationEvent::Discard);
                    self.lost |= filling;
                }
            },
            22 => self.fail(),
            // A breach of the protocol is reported as one.
            _ => self.failed(),
        }
        self.obey();
    }

    fn told(&mut self, event: DestinationEvent) -> bool {
        let state = |destination: &Destination| (destination.phase(), *destination.handoff());
        let (before, name) = (state(&self.destination), event.name());
        let taken = self.destination.handle(self.now, event);
        if let Err(error) = &taken {
            let after = state(&self.destination);
            assert_eq!(before, after, "{name} was refused ({error}) and changed the destination");
        }
        taken.is_ok()
    }

    fn answer(&mut self) {
        let Some(event) = self.due.pop_front() else { return };
        self.restored |= event == DestinationEvent::Restored;
        self.written |= event == DestinationEvent::Persisted;
        self.runs |= event == DestinationEvent::Resumed;
        let (name, phase) = (event.name(), self.destination.phase());
        assert!(self.told(event), "{name} was due in {phase:?}");
    }

    fn receive(&mut self, choices: &mut Choices<'_>) {
        let message = message(choices);
        if self.connected {
            self.heard.note(&message);
            self.told(DestinationEvent::Received(message));
        }
    }

    fn toggle(&mut self) {
        // A source that was fenced does not come back: that is the guarantee.
        if !self.connected && self.fenced.is_some() {
            return;
        }
        self.connected = !self.connected;
        self.told(if self.connected { DestinationEvent::Connected } else { DestinationEvent::Disconnected });
    }

    fn fence(&mut self, fence: Fence) {
        if !self.connected {
            let filling = self.destination.phase() == DestinationPhase::Filling;
            if self.told(DestinationEvent::Fenced(fence)) {
                self.fenced = Some(fence);
                self.lost |= filling;
            }
        }
    }

    /// The next answer is a failure instead.
    fn fail(&mut self) {
        let event = match self.due.front() {
            Some(DestinationEvent::Built) => DestinationEvent::Refused { reason: "no room".into() },
            Some(DestinationEvent::Restored) => DestinationEvent::Failed(failure(Step::Protocol)),
            Some(DestinationEvent::Persisted) => DestinationEvent::NotPersisted,
            _ => return,
        };
        self.due.pop_front();
        self.told(event);
    }

    fn failed(&mut self) {
        let filling = self.destination.phase() == DestinationPhase::Filling;
        let taken = self.told(DestinationEvent::Failed(failure(Step::Protocol)));
        self.lost |= filling && taken;
    }

    fn obey(&mut self) {
        while let Some(action) = self.destination.poll() {
            match action {
                DestinationAction::Send(message) => self.send(&message),
                DestinationAction::Build(_) => {
                    assert!(!self.replica, "a second replica is built");
                    self.replica = true;
                    self.due.push_back(DestinationEvent::Built);
                }
                DestinationAction::Restore(_) => {
                    assert!(self.replica && self.heard.state, "nothing to restore, or nowhere");
                    self.due.push_back(DestinationEvent::Restored);
                }
                DestinationAction::Persist(record) => {
                    assert_eq!(record, StableRecord::Running);
                    let told = self.heard.go && self.promised;
                    assert!(told || self.fenced.is_some(), "*running* without *go*");
                    self.due.push_back(DestinationEvent::Persisted);
                }
                DestinationAction::Resume => {
                    assert!(self.written, "the guest is resumed before *running* is written");
                    assert!(self.replica && self.restored, "a guest that is not whole is resumed");
                    self.due.push_back(DestinationEvent::Resumed);
                }
                DestinationAction::DropReplica => self.drop_replica(),
                DestinationAction::Done(_) => {}
            }
        }
    }

    fn send(&mut self, message: &Message) {
        use HandoffMessage as H;
        let Message::Handoff { message, .. } = message else { return };
        match message {
            H::Ready => {
                assert!(self.replica && self.restored, "ready with nothing");
                self.promised = true;
            }
            H::Answer(Standing::Prepared) => assert!(self.promised && self.replica, "prepared with nothing"),
            H::Running => assert!(self.written, "*running* is said before it is written"),
            H::Answer(Standing::Running) => assert!(self.written, "*running* is said before it is written"),
            H::Answer(Standing::Gone) => {
                assert!(!self.written && !self.replica, "gone, with a replica or behind *running*");
            }
            H::Withdraw => assert!(!self.promised, "withdrawn after *ready*"),
            H::Go | H::Cancel | H::Ask => panic!("a destination says {message}"),
        }
    }

    /// What was promised is kept until somebody who may says otherwise.
    fn drop_replica(&mut self) {
        assert!(!self.runs || self.lost, "a guest that runs was dropped");
        // With pages missing that nobody will send any more, any fence ends it.
        let fenced = self.fenced == Some(Fence::MayHaveRun) || self.fenced.is_some() && self.heard.missing;
        let allowed = self.heard.cancel || self.discarded || fenced;
        assert!(!self.promised || allowed || self.lost, "a promised replica was dropped: {:?}", self.heard);
        (self.replica, self.runs) = (false, false);
        // What was being built or restored is so no more.
        self.due.retain(|event| !matches!(event, DestinationEvent::Built | DestinationEvent::Restored));
    }

    /// The source is never heard of again.
    pub(super) fn end(&mut self) {
        self.obey();
        for _ in 0..100 {
            if !self.due.is_empty() {
                self.answer();
            } else if self.connected {
                self.toggle();
            } else {
                return self.assert_at_the_end();
            }
            self.obey();
        }
        panic!("the destination never comes to rest: {:?}", self.destination.phase());
    }

    fn assert_at_the_end(&self) {
        match self.destination.phase() {
            DestinationPhase::Listening => assert!(!self.replica && !self.written),
            DestinationPhase::Prepared => assert!(self.replica && self.promised && !self.runs),
            DestinationPhase::Filling => assert!(self.runs && self.written),
            DestinationPhase::Running => {
                assert!(self.written, "done without *running*");
                assert!(self.runs || self.lost || self.fenced.is_some(), "done without a guest");
            }
            DestinationPhase::Gone => assert!(!self.replica && !self.runs && !self.written),
            stuck => panic!("the destination is stuck: {stuck:?}"),
        }
    }
}
