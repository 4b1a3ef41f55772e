//! A source, its honest driver, and what it must never do, whatever the peer says.
//!
//! Played by [`check_peer`](super::check_peer). Assertions ask what was *heard*, written and fenced, never the machine they judge.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Heard, failure, message};
use crate::controller::{Harvested, Transmitted};
use crate::dirty::{PageSet, Take};
use crate::fuzzing::{Choices, PAGES, layout, source};
use crate::layout::PageNumber;
use crate::machine::handoff::{Fence, HandoffMessage, StableRecord};
use crate::machine::message::Message;
use crate::machine::{CancelReason, Source, SourceAction, SourceEvent, SourcePhase, Step, Transmit};
use crate::throttle::Throttle;
use crate::units::{ByteCount, Timestamp};

/// A source, and a driver that does what it is asked.
pub(super) struct Here {
    source: Source,
    seed: u8,
    now: Timestamp,
    due: VecDeque<SourceEvent>,
    log: PageSet,
    connected: bool,
    wants_connection: bool,
    wake: Option<Timestamp>,
    heard: Heard,
    fenced: Option<Fence>,
    runs: bool,
    released: bool,
    tracking: bool,
    throttle: Throttle,
    /// *Go* is on stable storage.
    written: bool,
    done: bool,
}

impl Here {
    pub(super) fn new(seed: u8) -> Self {
        Self {
            source: source(seed),
            seed,
            now: Timestamp::ZERO,
            due: VecDeque::from([SourceEvent::Start]),
            log: PageSet::new(layout(PAGES).numbers()),
            connected: true,
            wants_connection: false,
            wake: None,
            heard: Heard::default(),
            fenced: None,
            runs: true,
            released: false,
            tracking: false,
            throttle: Throttle::Off,
            written: false,
            done: false,
        }
    }

    pub(super) fn step(&mut self, choice: u8, choices: &mut Choices<'_>) {
        self.now = self.now.saturating_add(Duration::from_millis(1));
        match choice % 24 {
            0..=10 => self.answer(),
            11..=18 => self.receive(choices),
            19 => self.write(choices.next()),
            20 if self.connected => self.disconnect(),
            20 => self.connect(),
            21 => self.wake(),
            22 => match choices.next() % 4 {
                0 => drop(self.told(SourceEvent::Cancel(CancelReason::Requested))),
                1 => self.fence(Fence::NeverRan),
                2 => self.fence(Fence::MayHaveRun),
                _ => self.fail(),
            },
            // A breach of the protocol is reported as one.
            _ => drop(self.told(SourceEvent::Failed(failure(Step::Protocol)))),
        }
        self.obey();
    }

    /// Passes an event on; one that is refused changes nothing.
    fn told(&mut self, event: SourceEvent) -> bool {
        let state = |source: &Source| {
            (source.phase(), *source.handoff(), source.controller().journal().entries().len())
        };
        let (before, name) = (state(&self.source), event.name());
        let taken = self.source.handle(self.now, event);
        if let Err(error) = &taken {
            assert_eq!(before, state(&self.source), "{name} was refused ({error}) and changed the source");
        }
        taken.is_ok()
    }

    /// What was asked for is done. Whatever the peer said meanwhile, it is taken.
    fn answer(&mut self) {
        let Some(event) = self.due.pop_front() else { return };
        self.written |= event == SourceEvent::Persisted;
        let (name, phase) = (event.name(), self.source.phase());
        // A start is no answer: somebody may have cancelled before.
        let asked = event != SourceEvent::Start;
        assert!(self.told(event) || !asked, "{name} was due in {phase:?}");
    }

    fn receive(&mut self, choices: &mut Choices<'_>) {
        let message = message(choices);
        if self.connected {
            self.heard.note(&message);
            self.told(SourceEvent::Received(message));
        }
    }

    fn write(&mut self, page: u8) {
        if self.runs && self.tracking {
            assert!(self.log.insert(PageNumber(u64::from(page) % PAGES as u64)).is_ok());
        }
    }

    fn disconnect(&mut self) {
        self.connected = false;
        self.told(SourceEvent::Disconnected);
    }

    fn connect(&mut self) {
        if self.wants_connection && self.fenced.is_none() {
            (self.connected, self.wants_connection) = (true, false);
            self.told(SourceEvent::Connected);
        }
    }

    fn wake(&mut self) {
        if let Some(at) = self.wake.take() {
            self.now = self.now.max(at);
            self.told(SourceEvent::Wake);
        }
    }

    fn fence(&mut self, fence: Fence) {
        if !self.connected && self.fenced.is_none() && self.told(SourceEvent::Fenced(fence)) {
            self.fenced = Some(fence);
        }
    }

    /// The next answer is a failure instead.
    fn fail(&mut self) {
        let event = match self.due.front() {
            Some(SourceEvent::Persisted) => SourceEvent::NotPersisted,
            Some(SourceEvent::TrackingStarted) => SourceEvent::Failed(failure(Step::StartTracking)),
            Some(SourceEvent::Transmitted(_)) => SourceEvent::Failed(failure(Step::Transmit)),
            Some(SourceEvent::Harvested(_)) => SourceEvent::Failed(failure(Step::Harvest)),
            Some(SourceEvent::Paused) => SourceEvent::Failed(failure(Step::Pause)),
            Some(SourceEvent::Saved(_)) => SourceEvent::Failed(failure(Step::SaveState)),
            _ => return,
        };
        self.due.pop_front();
        self.told(event);
    }

    fn obey(&mut self) {
        while let Some(action) = self.source.poll() {
            match action {
                SourceAction::Send(message) => self.send(&message),
                SourceAction::StartTracking => {
                    self.tracking = true;
                    self.due.push_back(SourceEvent::TrackingStarted);
                }
                SourceAction::StopTracking => {
                    self.tracking = false;
                    self.due.push_back(SourceEvent::TrackingStopped);
                }
                SourceAction::Transmit(transmit) => self.transmit(transmit),
                SourceAction::Urgent(page) => drop(self.source.backlog_mut().take_page(page)),
                SourceAction::Harvest => self.harvest(),
                SourceAction::Throttle(throttle) => self.throttle = throttle,
                SourceAction::Pause => {
                    self.runs = false;
                    self.due.push_back(SourceEvent::Paused);
                }
                SourceAction::SaveState => {
                    assert!(!self.runs, "the state of a guest that runs is saved");
                    self.due.push_back(SourceEvent::Saved(Vec::new()));
                }
                SourceAction::Resume => self.resume(),
                SourceAction::Persist(record) => {
                    assert!(record == StableRecord::Go && self.heard.ready, "nobody is ready: {record}");
                    self.due.push_back(SourceEvent::Persisted);
                }
                SourceAction::Release => self.release(),
                SourceAction::Reconnect => (self.connected, self.wants_connection) = (false, true),
                SourceAction::Wake(at) => self.wake = Some(at),
                SourceAction::Done => self.done = true,
                SourceAction::Limit(_) | SourceAction::Erase => {}
            }
        }
    }

    fn send(&self, message: &Message) {
        match message {
            Message::State(_) | Message::PostCopy { .. } => {
                assert!(!self.runs, "{} of a guest that runs", message.name());
            }
            Message::Handoff { message: HandoffMessage::Go, .. } => {
                assert!(self.written && !self.runs, "*go* is sent before it is written");
            }
            Message::Handoff { message: HandoffMessage::Cancel, .. } => {
                assert!(!self.written, "a cancel is sent after *go* was written");
            }
            _ => {}
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        assert!(!self.released, "memory that was released is sent");
        assert!(!transmit.last || !self.runs, "the last pages of a guest that runs are sent");
        let taken = self.source.backlog_mut().take_with(|block| Take::Continue(block.mask));
        let bytes = ByteCount(taken.taken.0 * 4096);
        let pending = self.source.backlog().pending();
        let sent = Transmitted { pages: taken.taken, bytes, pending, ..Transmitted::default() };
        self.due.push_back(SourceEvent::Transmitted(sent));
    }

    fn harvest(&mut self) {
        let backlog = self.source.backlog_mut();
        let left_over = backlog.pending();
        let dirtied = backlog.harvested(&mut self.log).map(|found| found.dirty).unwrap_or_default();
        let pending = backlog.pending();
        let harvested = Harvested { dirtied, left_over, pending, in_flight: None };
        self.due.push_back(SourceEvent::Harvested(harvested));
    }

    /// Behind *go* a guest comes back only by the one answer, or the one fence, that says it never ran elsewhere.
    fn resume(&mut self) {
        assert!(!self.released, "a guest that was released is resumed");
        let allowed = self.heard.gone || self.fenced == Some(Fence::NeverRan);
        assert!(!self.written || allowed, "resumed behind *go*: {:?}", self.heard);
        self.runs = true;
        self.due.push_back(SourceEvent::Resumed);
    }

    fn release(&mut self) {
        let allowed = self.heard.running || self.heard.lost || self.fenced == Some(Fence::MayHaveRun);
        assert!(self.written && allowed, "released without a reason: {:?}", self.heard);
        assert!(!self.runs, "a guest that runs is released");
        self.released = true;
    }

    /// The peer is never heard of again.
    pub(super) fn end(&mut self) {
        self.obey();
        for _ in 0..2_000 {
            self.now = self.now.saturating_add(Duration::from_millis(1));
            if !self.due.is_empty() {
                self.answer();
            } else if self.connected {
                self.disconnect();
            } else if self.wake.is_some() && !self.done {
                self.wake();
            } else {
                return self.assert_at_the_end();
            }
            self.obey();
        }
        panic!("the source never comes to rest: {:?}", self.source.phase());
    }

    fn assert_at_the_end(&self) {
        match self.source.phase() {
            SourcePhase::Idle => assert!(self.runs),
            // The guest, or the pages that it lacks there, are kept for whoever comes back.
            SourcePhase::InDoubt | SourcePhase::PostCopy => {
                assert!(self.written && !self.runs && !self.released);
                assert!(self.wants_connection || self.fenced.is_some(), "in doubt, and nobody asks");
            }
            SourcePhase::Done => {
                assert!(self.done && !self.tracking, "tracking was left on");
                assert_eq!(self.throttle, Throttle::Off, "a throttle was left");
                assert_ne!(self.runs, self.released, "memory without a guest, or a guest without memory");
                assert!(self.runs || self.written, "the guest was given away without *go*");
            }
            stuck => panic!("the source is stuck: {stuck:?}"),
        }
        let journal = self.source.controller().journal();
        let replayed = source(self.seed).replay(journal);
        assert_eq!(replayed.as_ref(), Ok(journal), "the replay differs");
    }
}
