//! Whether who polls plain actions is told the same as who polls whole ones.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::handoff::{HandoffMessage, StableRecord};
use super::message::{Configuration, Message, MigrationId, Section};
use super::{
    Destination, DestinationAction, DestinationEvent, PlainDestinationAction, PlainSourceAction, Source,
    SourceAction, SourceEvent,
};
use crate::controller::{Controller, Harvested, Transmitted};
use crate::dirty::{Expected, Stock as _};
use crate::layout::{PageSize, RamLayout};
use crate::policy::presets;
use crate::progress::Capabilities;
use crate::units::{ByteCount, Timestamp};

/// Both machines of a small guest that writes nothing.
struct Pair {
    source: Source<Expected>,
    destination: Destination,
    /// Whether plain actions are polled as such.
    plainly: bool,
    here: VecDeque<SourceEvent>,
    there: VecDeque<DestinationEvent>,
    /// What was asked for, in order.
    asked: Vec<String>,
}

impl Pair {
    fn new(plainly: bool) -> Self {
        let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).unwrap();
        let policy = presets::build("fixed-rounds", &BTreeMap::new()).unwrap();
        let (page_size, pages) = (layout.page_size(), layout.pages());
        let controller = Controller::new(policy, page_size, pages, Capabilities::default()).unwrap();
        let guest = Configuration { id: MigrationId(7), name: "guest".into(), layout, vcpus: 1 };
        Self {
            source: Source::expecting(guest, controller),
            destination: Destination::new(),
            plainly,
            here: VecDeque::from([SourceEvent::Start]),
            there: VecDeque::new(),
            asked: Vec::new(),
        }
    }

    fn next_of_source(&mut self) -> Option<SourceAction> {
        use PlainSourceAction as P;
        let Some(plain) = self.plainly.then(|| self.source.poll_plain()).flatten() else {
            return self.source.poll();
        };
        Some(match plain {
            P::Configure => SourceAction::Send(Message::Configure(self.source.configuration().clone())),
            P::EndRound(round) => SourceAction::Send(Message::RoundEnd { round }),
            P::State => SourceAction::Send(Message::State(self.source.take_state())),
            P::Go => SourceAction::Send(Message::handoff(HandoffMessage::Go)),
            P::StartTracking => SourceAction::StartTracking,
            P::StopTracking => SourceAction::StopTracking,
            P::Pause => SourceAction::Pause,
            P::SaveState => SourceAction::SaveState,
            P::Resume => SourceAction::Resume,
            P::PersistGo => SourceAction::Persist(StableRecord::Go),
            P::Erase => SourceAction::Erase,
            P::Release => SourceAction::Release,
            P::Done => SourceAction::Done,
        })
    }

    fn next_of_destination(&mut self) -> Option<DestinationAction> {
        use PlainDestinationAction as P;
        let Some(plain) = self.plainly.then(|| self.destination.poll_plain()).flatten() else {
            return self.destination.poll();
        };
        let took = self.destination.took();
        let report = |message| DestinationAction::Send(Message::Handoff { message, took });
        Some(match plain {
            P::Build => DestinationAction::Build(self.destination.take_configuration().unwrap()),
            P::Accept => DestinationAction::Send(Message::Accept),
            P::Acknowledge(round) => DestinationAction::Send(Message::Acknowledge { round }),
            P::Restore => DestinationAction::Restore(self.destination.take_state()),
            P::Ready => report(HandoffMessage::Ready),
            P::PersistRunning => DestinationAction::Persist(StableRecord::Running),
            P::Resume => DestinationAction::Resume,
            P::Running => report(HandoffMessage::Running),
            P::DropReplica => DestinationAction::DropReplica,
            P::Done => DestinationAction::Done(self.destination.outcome().unwrap()),
        })
    }

    /// Carries out what the source asks for.
    fn act(&mut self, action: SourceAction) {
        self.asked.push(format!("{action:?}"));
        let answer = match action {
            SourceAction::Send(message) => return self.there.push_back(DestinationEvent::Received(message)),
            SourceAction::StartTracking => SourceEvent::TrackingStarted,
            SourceAction::StopTracking => SourceEvent::TrackingStopped,
            SourceAction::Transmit(_) => {
                let backlog = self.source.backlog_mut();
                let pages = backlog.take(Expected::new(f64::INFINITY)).count();
                let pending = backlog.pending();
                SourceEvent::Transmitted(Transmitted { pages, pending, ..Transmitted::default() })
            }
            SourceAction::Harvest => SourceEvent::Harvested(Harvested::default()),
            SourceAction::Pause => SourceEvent::Paused,
            SourceAction::SaveState => {
                SourceEvent::Saved(vec![Section { kind: "cpu".into(), version: 1, bytes: vec![1, 2, 3] }])
            }
            SourceAction::Resume => SourceEvent::Resumed,
            SourceAction::Persist(_) => SourceEvent::Persisted,
            _ => return,
        };
        self.here.push_back(answer);
    }

    fn act_there(&mut self, action: DestinationAction) {
        self.asked.push(format!("{action:?}"));
        let answer = match action {
            DestinationAction::Send(message) => return self.here.push_back(SourceEvent::Received(message)),
            DestinationAction::Build(_) => DestinationEvent::Built,
            DestinationAction::Restore(_) => DestinationEvent::Restored,
            DestinationAction::Persist(_) => DestinationEvent::Persisted,
            DestinationAction::Resume => DestinationEvent::Resumed,
            _ => return,
        };
        self.there.push_back(answer);
    }

    /// What was asked for until nothing is under way, or until `cancelled` actions were.
    fn run(mut self, cancelled: Option<usize>) -> Vec<String> {
        let mut now = Timestamp::ZERO;
        loop {
            now = now.saturating_add(Duration::from_millis(1));
            if Some(self.asked.len()) >= cancelled
                && cancelled.is_some()
                && self.source.handoff().may_cancel()
            {
                self.here.push_front(SourceEvent::Cancel(super::CancelReason::Requested));
            }
            if let Some(event) = self.here.pop_front() {
                self.source.handle(now, event).unwrap();
            } else if let Some(event) = self.there.pop_front() {
                self.destination.handle(now, event).unwrap();
            } else {
                assert!(self.source.is_silent() && self.destination.is_silent());
                return self.asked;
            }
            while let Some(action) = self.next_of_source() {
                self.act(action);
            }
            while let Some(action) = self.next_of_destination() {
                self.act_there(action);
            }
        }
    }
}

#[test]
fn who_polls_plain_actions_is_asked_for_the_same() {
    let whole = Pair::new(false).run(None);
    assert_eq!(Pair::new(true).run(None), whole);
    for wanted in
        ["Configure", "kind: \"cpu\"", "Restore", "message: Go", "took: 2ms", "Release", "Done(Running)"]
    {
        assert!(whole.iter().any(|action| action.contains(wanted)), "{wanted}: {whole:#?}");
    }
    for cancelled in 1..whole.len() {
        let whole = Pair::new(false).run(Some(cancelled));
        assert_eq!(Pair::new(true).run(Some(cancelled)), whole, "cancelled after {cancelled} actions");
    }
}
