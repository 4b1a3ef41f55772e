//! One machine against a peer that says anything at any time, driven by bytes.
//!
//! The driver is honest: it does what it is asked, and reports only what happened. What this side promises then must hold
//! whatever the peer says; what the other side makes of it is the peer's own affair.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Choices, PAGES, layout, source};
use crate::controller::{Harvested, Transmitted};
use crate::dirty::{PageSet, Take};
use crate::layout::PageNumber;
use crate::machine::handoff::{Fence, HandoffMessage, StableRecord, Standing};
use crate::machine::message::{Configuration, Message, MigrationId, Section};
use crate::machine::{
    CancelReason, Destination, DestinationAction, DestinationEvent, DestinationPhase, Failure, Source,
    SourceAction, SourceEvent, SourcePhase, Step, Transmit,
};
use crate::throttle::Throttle;
use crate::units::{ByteCount, Pages, Timestamp};

/// Drives a source or a destination by `data`, against a peer that is nobody's friend, and asserts what each promises.
///
/// # Panics
///
/// If a promise is broken.
pub fn check_peer(data: &[u8]) {
    let mut choices = Choices { data, at: 0 };
    let (side, seed) = (choices.next(), choices.next());
    if side.is_multiple_of(2) {
        let mut here = Here::new(seed);
        while let Some(choice) = choices.next_if_any() {
            here.step(choice, &mut choices);
        }
        here.end();
    } else {
        let mut there = There::new();
        while let Some(choice) = choices.next_if_any() {
            there.step(choice, &mut choices);
        }
        there.end();
    }
}

/// Anything that a peer can say.
fn message(choices: &mut Choices<'_>) -> Message {
    let choice = choices.next();
    let round = u32::from(choice >> 5);
    match choice % 32 {
        0 => Message::Accept,
        1 => Message::Refuse { reason: "why not".into() },
        2 => Message::Lost { reason: "so it goes".into() },
        // Rounds that are due, that are over, and that never come.
        3..=5 => Message::RoundEnd { round: round % 4 },
        6..=8 => Message::Acknowledge { round: round % 4 },
        9 => Message::Acknowledge { round: u32::MAX - round },
        10 | 11 => Message::PostCopy { missing: Pages(choices.next().into()) },
        12 => Message::Request { page: PageNumber(choices.next().into()) },
        13 => Message::Request { page: PageNumber(u64::MAX - u64::from(round)) },
        14 | 15 => Message::State(vec![Section { kind: "cpu".into(), version: round, bytes: vec![choice] }]),
        16 | 17 => Message::Configure(Arc::new(Configuration {
            id: MigrationId(round.into()),
            name: "theirs".into(),
            layout: layout(usize::from(choices.next()) + 1),
            vcpus: round,
        })),
        choice => Message::Handoff {
            message: match choice % 9 {
                0 => HandoffMessage::Ready,
                1 => HandoffMessage::Go,
                2 => HandoffMessage::Running,
                3 => HandoffMessage::Cancel,
                4 => HandoffMessage::Withdraw,
                5 => HandoffMessage::Ask,
                6 => HandoffMessage::Answer(Standing::Prepared),
                7 => HandoffMessage::Answer(Standing::Running),
                _ => HandoffMessage::Answer(Standing::Gone),
            },
            took: if round == 7 { Duration::MAX } else { Duration::from_millis(round.into()) },
        },
    }
}

fn failure(step: Step) -> Failure {
    Failure { step, detail: "made to fail".into() }
}

/// What a peer has said that allows this side something.
#[derive(Debug, Default)]
struct Heard {
    ready: bool,
    running: bool,
    gone: bool,
    lost: bool,
    go: bool,
    cancel: bool,
    state: bool,
    /// That pages are missing.
    missing: bool,
}

impl Heard {
    fn note(&mut self, message: &Message) {
        use HandoffMessage as H;
        match message {
            Message::Lost { .. } => self.lost = true,
            Message::State(_) => self.state = true,
            Message::PostCopy { missing } => self.missing |= *missing > Pages(0),
            Message::Handoff { message, .. } => match message {
                H::Ready | H::Answer(Standing::Prepared) => self.ready = true,
                H::Running | H::Answer(Standing::Running) => self.running = true,
                H::Answer(Standing::Gone) => self.gone = true,
                H::Go => self.go = true,
                H::Cancel => self.cancel = true,
                H::Withdraw | H::Ask => {}
            },
            _ => {}
        }
    }
}

/// A source, and a driver that does what it is asked.
struct Here {
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
    fn new(seed: u8) -> Self {
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

    fn step(&mut self, choice: u8, choices: &mut Choices<'_>) {
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
    fn end(&mut self) {
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

/// A destination, and a driver that does what it is asked.
struct There {
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
    fn new() -> Self {
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

    fn step(&mut self, choice: u8, choices: &mut Choices<'_>) {
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
    fn end(&mut self) {
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
