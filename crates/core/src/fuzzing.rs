//! Test support: a tiny world around both machines, driven by bytes.
//!
//! Used by the fuzz target `machines`, by property tests and by the tests that replay the corpus; not part of the interface. The target
//! `peer` sets one machine against a peer that says anything. Every byte is a choice: deliver this, lose that, write there, fail here.
//! After each step and at the end the promises of the engine are asserted, so a panic is a finding.

mod obeying;
mod peer;
#[cfg(test)]
mod tests;
mod whim;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::peer::check_peer;
use self::whim::Whim;
use crate::controller::{Controller, Harvested, Transmitted};
use crate::dirty::PageSet;
use crate::layout::{PageNumber, PageSize, RamLayout};
use crate::machine::handoff::Fence;
use crate::machine::message::{Configuration, Message, MigrationId};
use crate::machine::{
    CancelReason, Destination, DestinationEvent, DestinationPhase, Failure, Source, SourceEvent, SourcePhase,
    Step,
};
use crate::progress::Capabilities;
use crate::report::Outcome;
use crate::throttle::Throttle;
use crate::units::{ByteCount, Pages, Timestamp};

const PAGES: usize = 200;

/// Drives both machines by `data` and asserts what the engine promises.
///
/// # Panics
///
/// If a promise is broken.
pub fn check_machines(data: &[u8]) {
    let mut choices = Choices { data, at: 0 };
    let mut world = World::new(choices.next(), choices.next());
    while let Some(choice) = choices.next_if_any() {
        world.step(choice, &mut choices);
        world.assert_always();
    }
    world.calm_down();
    world.assert_at_the_end();
}

struct Choices<'a> {
    data: &'a [u8],
    at: usize,
}

impl Choices<'_> {
    fn next_if_any(&mut self) -> Option<u8> {
        let byte = self.data.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn next(&mut self) -> u8 {
        self.next_if_any().unwrap_or(0)
    }
}

/// What is on its way to the destination.
enum Wire {
    Message(Message),
    Page(usize, u32),
    /// Which pages the destination lacks.
    Missing(Vec<usize>),
}

struct World {
    source: Source,
    destination: Destination,
    now: Timestamp,
    memory: Vec<u32>,
    copy: Vec<u32>,
    /// Pages that the destination has no valid copy of, once it was told.
    missing: Vec<bool>,
    /// The guest's memory is no longer held here.
    released: bool,
    /// A guest that ran there without all of its pages failed.
    lost_there: bool,
    /// The destination is stopped for good.
    fenced: bool,
    /// Somebody reported what had not happened.
    lied: bool,
    /// Pages that the guest waits for there.
    waited_for: Vec<usize>,
    at_pause: Option<Vec<u32>>,
    log: PageSet,
    tracking: bool,
    throttle: Throttle,
    runs_here: bool,
    runs_there: bool,
    ran_there: bool,
    connected: bool,
    wants_connection: bool,
    wake: Option<Timestamp>,
    forward: VecDeque<Wire>,
    back: VecDeque<Message>,
    due_here: VecDeque<SourceEvent>,
    due_there: VecDeque<DestinationEvent>,
    /// Pages a slice of sending takes.
    slice: u64,
    seed: u8,
}

impl World {
    fn new(seed: u8, slice: u8) -> Self {
        let source = source(seed);
        Self {
            log: PageSet::new(layout(PAGES).numbers()),
            source,
            destination: Destination::new(),
            now: Timestamp::ZERO,
            memory: vec![0; PAGES],
            copy: vec![u32::MAX; PAGES],
            missing: vec![false; PAGES],
            released: false,
            lost_there: false,
            fenced: false,
            lied: false,
            waited_for: Vec::new(),
            at_pause: None,
            tracking: false,
            throttle: Throttle::Off,
            runs_here: true,
            runs_there: false,
            ran_there: false,
            connected: true,
            wants_connection: false,
            wake: None,
            forward: VecDeque::new(),
            back: VecDeque::new(),
            due_here: VecDeque::from([SourceEvent::Start]),
            due_there: VecDeque::new(),
            slice: u64::from(slice) + 1,
            seed,
        }
    }

    fn step(&mut self, choice: u8, choices: &mut Choices<'_>) {
        self.now = self.now.saturating_add(Duration::from_millis(1));
        match choice % 24 {
            0..=6 => self.answer_here(),
            7..=9 => self.answer_there(),
            10..=13 => self.deliver_forward(),
            14..=16 => self.deliver_back(),
            17..=18 => self.write(choices.next(), choices.next()),
            19 => match choices.next() % 4 {
                0 => self.disconnect(),
                1 => self.fail_here(),
                2 => self.fail_there(),
                _ => self.connect(),
            },
            20 => match choices.next() % 4 {
                0 => self.here(SourceEvent::Cancel(CancelReason::Requested)),
                1 => self.there(DestinationEvent::Withdraw),
                _ => {}
            },
            21 if choices.next().is_multiple_of(4) => {
                self.now = self.now.saturating_add(Duration::from_secs(2));
                self.here(SourceEvent::Wake);
            }
            22 => match choices.next() {
                9 => self.fence(),
                choice => self.nonsense(choice),
            },
            23 => self.here(SourceEvent::Change { parameter: "mood".into(), value: "other".into() }),
            _ => {}
        }
        self.obey();
    }

    fn here(&mut self, event: SourceEvent) {
        self.told_here(event);
    }

    /// Passes an event to the source; says whether it was taken. One that does not fit must change nothing.
    fn told_here(&mut self, event: SourceEvent) -> bool {
        let before =
            (self.source.phase(), *self.source.handoff(), self.source.controller().journal().entries().len());
        let name = event.name();
        if let Err(error) = self.source.handle(self.now, event) {
            let after = (
                self.source.phase(),
                *self.source.handoff(),
                self.source.controller().journal().entries().len(),
            );
            assert_eq!(before, after, "{name} was refused ({error}) and changed the source");
            return false;
        }
        true
    }

    fn there(&mut self, event: DestinationEvent) {
        self.told_there(event);
    }

    /// The same for the destination.
    fn told_there(&mut self, event: DestinationEvent) -> bool {
        let before = (self.destination.phase(), *self.destination.handoff());
        if self.destination.handle(self.now, event).is_err() {
            let after = (self.destination.phase(), *self.destination.handoff());
            assert_eq!(before, after, "an event that was refused changed the destination");
            return false;
        }
        true
    }

    /// What the driver was asked for is done; no machine may refuse that, unless it was told before that it
    /// is.
    fn answer_here(&mut self) {
        if let Some(event) = self.due_here.pop_front() {
            let name = event.name();
            // A start is no answer: somebody may have cancelled before.
            let asked = event != SourceEvent::Start;
            let taken = self.source.handle(self.now, event);
            let refused = taken.is_err() && asked && !self.lied;
            assert!(!refused, "{name} was due in {:?}: {taken:?}", self.source.phase());
        }
    }

    fn answer_there(&mut self) {
        if let Some(event) = self.due_there.pop_front() {
            self.there(event);
        }
    }

    fn deliver_forward(&mut self) {
        match self.forward.pop_front() {
            // Once the guest runs there, a page counts only as long as it is missing.
            Some(Wire::Page(page, version)) if !self.ran_there || self.missing[page] => {
                self.copy[page] = version;
                self.missing[page] = false;
                self.waited_for.retain(|&waited| waited != page);
            }
            Some(Wire::Page(..)) => {}
            Some(Wire::Missing(pages)) => {
                for page in pages {
                    self.missing[page] = true;
                }
            }
            Some(Wire::Message(message)) => self.there(DestinationEvent::Received(message)),
            None => {}
        }
    }

    /// Whatever is due next on each side happens.
    #[cfg(test)]
    fn everybody_acts(&mut self) {
        self.now = self.now.saturating_add(Duration::from_millis(1));
        self.answer_here();
        self.answer_there();
        self.deliver_forward();
        self.deliver_back();
        self.obey();
    }

    fn deliver_back(&mut self) {
        if let Some(message) = self.back.pop_front() {
            self.here(SourceEvent::Received(message));
        }
    }

    /// The guest writes, wherever it runs.
    fn write(&mut self, first: u8, count: u8) {
        if self.runs_there {
            return self.write_there(usize::from(first) % PAGES);
        }
        if !self.runs_here {
            return;
        }
        for page in usize::from(first)..usize::from(first) + usize::from(count % 16) {
            let page = page % PAGES;
            self.memory[page] += 1;
            if self.tracking {
                let logged = self.log.insert(PageNumber(page as u64));
                assert!(logged.is_ok(), "page {page} is not in the log");
            }
        }
    }

    /// Writes to a page at the destination, if it is there; else the guest waits for it.
    fn write_there(&mut self, page: usize) {
        if !self.missing[page] {
            self.memory[page] += 1;
            self.copy[page] += 1;
        } else if !self.waited_for.contains(&page) {
            self.waited_for.push(page);
            self.there(DestinationEvent::Missed(PageNumber(page as u64)));
        }
    }

    fn disconnect(&mut self) {
        if self.connected {
            self.connected = false;
            self.forward.clear();
            self.back.clear();
            self.here(SourceEvent::Disconnected);
            self.there(DestinationEvent::Disconnected);
        }
    }

    /// Somebody guarantees that the destination is out of the game, and so it is.
    fn fence(&mut self) {
        if !matches!(self.source.phase(), SourcePhase::InDoubt | SourcePhase::PostCopy) {
            return;
        }
        self.disconnect();
        self.fenced = true;
        self.wants_connection = false;
        self.due_there.clear();
        self.waited_for.clear();
        self.runs_there = false;
        self.here(SourceEvent::Fenced(Fence::MayHaveRun));
    }

    fn connect(&mut self) {
        if !self.connected && self.wants_connection && !self.fenced {
            self.connected = true;
            self.wants_connection = false;
            self.there(DestinationEvent::Connected);
            self.here(SourceEvent::Connected);
            for page in self.waited_for.clone() {
                self.there(DestinationEvent::Missed(PageNumber(page as u64)));
            }
        }
    }

    /// The next answer is a failure instead.
    fn fail_here(&mut self) {
        let step = match self.due_here.front() {
            Some(SourceEvent::TrackingStarted) => Step::StartTracking,
            Some(SourceEvent::Transmitted(_)) => Step::Transmit,
            Some(SourceEvent::Harvested(_)) => Step::Harvest,
            Some(SourceEvent::Paused) => Step::Pause,
            Some(SourceEvent::Saved(_)) => Step::SaveState,
            Some(SourceEvent::Persisted) => {
                self.due_here.pop_front();
                self.here(SourceEvent::NotPersisted);
                return;
            }
            _ => return,
        };
        self.due_here.pop_front();
        self.here(SourceEvent::Failed(Failure { step, detail: "made to fail".into() }));
    }

    fn fail_there(&mut self) {
        if self.destination.phase() == DestinationPhase::Filling {
            let failure = Failure { step: Step::Protocol, detail: "made to fail".into() };
            self.lost_there = true;
            return self.there(DestinationEvent::Failed(failure));
        }
        let event = match self.due_there.front() {
            Some(DestinationEvent::Built) => DestinationEvent::Refused { reason: "no room".into() },
            Some(DestinationEvent::Restored) => {
                DestinationEvent::Failed(Failure { step: Step::Protocol, detail: "made to fail".into() })
            }
            Some(DestinationEvent::Persisted) => DestinationEvent::NotPersisted,
            _ => return,
        };
        self.due_there.pop_front();
        self.there(event);
    }

    /// Events out of turn: what does not fit is refused, and then nothing has changed.
    fn nonsense(&mut self, choice: u8) {
        let believed = match choice % 12 {
            0 => self.told_here(SourceEvent::Start),
            1 => self.told_here(SourceEvent::Paused),
            2 => self
                .told_here(SourceEvent::Harvested(Harvested { pending: Pages(1), ..Harvested::default() })),
            3 => self.told_here(SourceEvent::Transmitted(Transmitted {
                pending: Pages(7),
                ..Transmitted::default()
            })),
            4 => self.told_here(SourceEvent::Received(Message::State(Vec::new()))),
            5 => self.told_here(SourceEvent::Received(Message::Configure(Arc::new(Configuration {
                id: MigrationId(2),
                name: String::new(),
                layout: layout(1),
                vcpus: 0,
            })))),
            6 => self.told_there(DestinationEvent::Received(Message::Accept)),
            7 => self.told_there(DestinationEvent::Persisted),
            8 => self.told_there(DestinationEvent::Resumed),
            // A wake-up that comes early is no lie.
            _ => {
                self.here(SourceEvent::Wake);
                false
            }
        };
        self.lied |= believed;
    }

    fn assert_always(&self) {
        assert!(!(self.runs_here && self.runs_there), "the guest runs on both sides");
        let lost = self.lost_there || self.fenced;
        let complete = self.destination.phase() == DestinationPhase::Running;
        assert!(!complete || lost || !self.missing.contains(&true), "done, and pages are missing");
    }

    /// No more faults: whatever is due happens, connections come back.
    fn calm_down(&mut self) {
        for _ in 0..20_000 {
            if self.due_here.is_empty()
                && self.due_there.is_empty()
                && self.forward.is_empty()
                && self.back.is_empty()
            {
                if !self.connected && self.wants_connection && !self.fenced {
                    self.connect();
                    self.obey();
                    continue;
                }
                let Some(wake) = self.wake.take() else { return };
                self.now = self.now.max(wake);
                self.here(SourceEvent::Wake);
                self.obey();
                continue;
            }
            self.now = self.now.saturating_add(Duration::from_millis(1));
            self.answer_here();
            self.answer_there();
            self.deliver_forward();
            self.deliver_back();
            self.obey();
            self.assert_always();
        }
        panic!("the migration never ends: {:?}, {:?}", self.source.phase(), self.destination.phase());
    }

    fn assert_at_the_end(&self) {
        let (here, there) = (self.source.phase(), self.destination.phase());
        if here == SourcePhase::Idle {
            return;
        }
        assert_eq!(here, SourcePhase::Done, "the source is stuck; the destination is {there:?}");
        assert!(!self.tracking, "tracking was left on");
        assert_eq!(self.throttle, Throttle::Off, "a throttle was left");
        let lost = self.lost_there || self.fenced;
        assert!(lost || self.runs_here != self.runs_there, "the guest runs on neither side");
        assert_eq!(self.released, !self.runs_here, "memory is held without a guest, or the other way round");
        assert!(
            !self.runs_here || there != DestinationPhase::Prepared || !self.connected,
            "a replica was left at the destination"
        );
        let report = self.source.report(self.now);
        match report.outcome {
            Outcome::Completed => {
                assert!(self.runs_there && !lost, "{}", report.why);
                assert_eq!(self.copy, self.memory, "a write at the destination was lost");
            }
            // A source that can't send what the guest lacks any more, or a destination that is no more.
            Outcome::GuestLost => {
                let unfilled = self.runs_there && there == DestinationPhase::Filling;
                assert!(lost || unfilled || self.lied, "{}", report.why);
            }
            _ => assert!(self.runs_here, "{}", report.why),
        }
        let replayed = source(self.seed).replay(self.source.controller().journal());
        assert_eq!(replayed.as_ref(), Ok(self.source.controller().journal()), "the replay differs");
    }
}

fn layout(pages: usize) -> RamLayout {
    match RamLayout::contiguous(ByteCount(4096 * pages as u64), PageSize::Kib4) {
        Ok(layout) => layout,
        Err(error) => panic!("{error}"),
    }
}

/// A source that has done nothing yet.
fn source(seed: u8) -> Source {
    let configuration =
        Configuration { id: MigrationId(1), name: "tiny".into(), layout: layout(PAGES), vcpus: 1 };
    Source::new(configuration, controller(seed)).with_patience(Duration::from_secs(1))
}

fn controller(seed: u8) -> Controller {
    let capabilities = Capabilities {
        throttle: true,
        dirty_limit: false,
        post_copy: true,
        harvest_on_demand: true,
        pause: true,
    };
    let policy = Box::new(Whim { seed: u64::from(seed), mood: 0 });
    match Controller::new(policy, PageSize::Kib4, Pages(PAGES as u64), capabilities) {
        Ok(controller) => controller,
        Err(error) => panic!("{error}"),
    }
}
