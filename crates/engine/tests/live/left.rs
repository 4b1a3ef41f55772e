//! A guest whose driver at the destination panics when it runs, and its source, which is in doubt.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog as _, Guest as _, GuestRam as _, LogError};
use whimbrel_core::journal::Entry;
use whimbrel_core::layout::{Gpa, PageSize, RamLayout};
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::machine::{DestinationPhase, SourceEvent, SourcePhase};
use whimbrel_core::policy::{Cadence, Decision, Policy, SwitchoverWhen, Until, Verdict, presets};
use whimbrel_core::progress::{Moment, Progress};
use whimbrel_core::units::{ByteCount, Timestamp};
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::observer::{Event, Observer};
use whimbrel_engine::orders::{Order, Orders};
use whimbrel_engine::source::{self, Outgoing, SourceResult, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::{LabConfig, Writer};
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};

/// A source whose destination has panicked with the guest running.
struct Left {
    sent: SourceResult,
    log: SoftwareLog,
    layout: RamLayout,
    there: Arc<GuestMemory>,
}

/// Moves a guest to such a destination, and asks it for so long.
fn left(asking: Duration, policy: Box<dyn Policy>, orders: &Orders, observer: &mut dyn Observer) -> Left {
    let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).unwrap();
    let writer = Writer { pages: 0..64, rate: 20_000.0, ..Writer::default() };
    let lab = LabConfig { writers: vec![writer], ..LabConfig::default() };
    let memory = || Arc::new(GuestMemory::new(layout.clone(), Backing::Private).unwrap());
    let (here, there) = (memory(), memory());
    let mut log = SoftwareLog::new(&layout);
    let mut guest = LabGuest::new(Arc::clone(&here), lab.clone(), Some(Arc::clone(log.bitmap()))).unwrap();
    guest.fill();
    guest.resume().unwrap();

    let hub = MemoryHub::new();
    let (connect, listen) = (Arc::new(hub.connector()), Arc::new(hub.listen().unwrap()));
    let token = Token::new(b"open sesame").unwrap();
    let mut settings = SourceSettings::new(MigrationId(7), token.clone());
    settings.asking = Some(asking);
    let sent = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut host = |_: &Configuration| {
                let guest = Box::new(LabGuest::new(Arc::clone(&there), lab.clone(), None)?);
                Ok(Replica { ram: Arc::<GuestMemory>::clone(&there), guest, fresh: true })
            };
            let mut watch = |_: Timestamp, event: &Event<'_>| {
                assert!(!matches!(event, Event::Destination(DestinationPhase::Running)), "told to panic");
            };
            let mut store = MemoryStore::new(Role::Destination);
            let incoming = Incoming { listen, host: &mut host, store: &mut store };
            let settings = DestinationSettings::new(token, ByteCount::gib(1));
            let orders = Orders::new();
            let receive = || destination::receive(incoming, settings, &orders, &mut watch).map(drop);
            catch_unwind(AssertUnwindSafe(receive)).is_err()
        });
        let outgoing = Outgoing {
            name: "lab".to_owned(),
            vcpus: 1,
            ram: Arc::<GuestMemory>::clone(&here),
            log: &mut log,
            guest: &mut guest,
            policy,
            connect,
            store: &mut MemoryStore::new(Role::Source),
        };
        let sent = source::send(outgoing, settings, orders, observer).unwrap();
        assert!(receiving.join().unwrap(), "it was told to panic");
        sent
    });
    // Whether *running* was still said or not: it never runs here.
    assert_ne!(sent.right, Right::Mine);
    Left { sent, log, layout, there }
}

#[test]
fn a_guest_that_runs_goes_on_when_its_driver_panics() {
    let Left { mut log, layout, there, .. } =
        left(Duration::from_millis(100), fixed_rounds(), &Orders::new(), &mut ());
    let harvested = log.harvest(&mut PageSet::new(layout.numbers()));
    assert!(
        matches!(harvested, Err(LogError::NotStarted { .. })),
        "its writes are still recorded: {harvested:?}"
    );
    let read = || {
        let mut bytes = vec![0; 64 * 4096];
        there.read(Gpa(0), &mut bytes).unwrap();
        bytes
    };
    let before = read();
    thread::sleep(Duration::from_millis(50));
    assert_ne!(read(), before, "the guest does not run any more");
}

fn fixed_rounds() -> Box<dyn Policy> {
    presets::build("fixed-rounds", &BTreeMap::new()).unwrap()
}

/// Pauses the guest as its second round begins, and hands it over at the end of that: no journal is shown from the pause on.
#[derive(Clone, Debug)]
struct Holding(Box<dyn Policy>);

impl Policy for Holding {
    fn name(&self) -> &'static str {
        "holding"
    }

    fn cadence(&self) -> Cadence {
        self.0.cadence()
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let decision = match moment {
            Moment::RoundEnd if progress.paused => {
                Decision::Switchover { when: SwitchoverWhen::Now, forced: true }
            }
            Moment::RoundStart if progress.round > 0 && !progress.paused => Decision::Pause,
            _ => Decision::Continue,
        };
        Verdict { decision, until: Until::NEXT, ..self.0.decide(moment, progress) }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[test]
fn in_doubt_the_journal_is_shown_before_the_doubt_ends() {
    let orders = Orders::new();
    let remote = orders.remote();
    let (mut doubted, mut shown) = (None, None);
    let mut watch = |at: Timestamp, event: &Event<'_>| match event {
        Event::Source(SourcePhase::InDoubt) => doubted = Some(at),
        Event::Journal { lines, .. } if doubted.is_some() && shown.is_none() => {
            let persisted = |line: &Entry| matches!(line, Entry::Event { event: SourceEvent::Persisted, .. });
            assert!(lines.iter().any(persisted), "lines of the blackout are missing: {lines:?}");
            shown = Some(at);
            remote.give(Order::Leave);
        }
        _ => {}
    };
    let Left { sent, .. } =
        left(Duration::from_secs(20), Box::new(Holding(fixed_rounds())), &orders, &mut watch);
    assert_eq!(sent.right, Right::Undecided);
    let took = shown.zip(doubted).map(|(shown, doubted)| shown.since(doubted));
    // The next ping would be seven seconds away.
    assert!(took.is_some_and(|took| took < Duration::from_secs(5)), "{took:?}");
}
