//! Sources whose process has died: what a new one is told of their guest, by a destination that knows, by one that was started anew
//! too, by a fence, and by nobody.
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whimbrel_core::embed::Guest as _;
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::DestinationOutcome;
use whimbrel_core::machine::handoff::{Fence, Right, StableRecord};
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::units::Timestamp;
use whimbrel_engine::destination::{
    self, DestinationError, DestinationResult, DestinationSettings, Incoming, Records, answer,
};
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::source::{self, Restarted, Settled, SourceError, SourceResult, SourceSettings, settle};
use whimbrel_engine::stable::{MemoryStore, PersistError, Role, StableStore, StoreError};
use whimbrel_engine::transport::memory::{MemoryHub, MemoryListener};
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::{LabConfig, Writer};
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::hello::Token;

use super::wanted::{outgoing, replica};
use super::world::mib;

const ID: MigrationId = MigrationId(7);
const SOON: Duration = Duration::from_secs(20);

fn token() -> Token {
    Token::new(b"open sesame").expect("short enough")
}

fn store(role: Role, record: Option<StableRecord>) -> MemoryStore {
    let mut store = MemoryStore::new(role);
    if let Some(record) = record {
        store.persist(ID, record).expect("memory");
    }
    store
}

fn config() -> LabConfig {
    LabConfig {
        writers: vec![Writer { pages: 0..256, rate: 10_000.0, ..Writer::default() }],
        ..LabConfig::default()
    }
}

/// Takes a lab guest.
fn receive(
    listen: MemoryListener,
    store: &mut MemoryStore,
    orders: &Orders,
) -> Result<DestinationResult, DestinationError> {
    let listen = Arc::new(listen);
    let mut host = |wanted: &Configuration| replica(wanted, config());
    let settings = DestinationSettings::new(token(), mib(64));
    destination::receive(Incoming { listen, host: &mut host, store }, settings, orders, &mut ())
}

/// What a source with this record is told by a destination that has nothing but its own.
fn told(here: Option<StableRecord>, there: Option<StableRecord>) -> (Settled, MemoryStore) {
    let hub = MemoryHub::new();
    let orders = Orders::new();
    let leave = orders.remote();
    let mut records = store(Role::Source, here);
    let settled = thread::scope(|scope| {
        let listen = hub.listen().expect("nobody listens yet");
        let waiting = scope.spawn(|| receive(listen, &mut store(Role::Destination, there), &orders));
        let connect = Arc::new(hub.connector());
        let restarted = Restarted { id: ID, token: token(), connect, store: &mut records, patience: SOON };
        let settled = settle(restarted, Some(SOON), &Orders::new()).expect("its own record");
        leave.give(Order::Leave);
        assert!(matches!(waiting.join().expect("no panic"), Err(DestinationError::Cancelled)));
        settled
    });
    (settled, records)
}

#[test]
fn a_destination_that_was_started_anew_too_answers_by_its_record() {
    use StableRecord::{Go, Running};
    let (settled, mut records) = told(Some(Go), Some(Running));
    assert_eq!(settled, Settled { right: Right::Theirs, settled: true });
    // It is erased by whoever has struck the guest off the inventory.
    assert_eq!(records.load(ID).expect("memory"), Some(Go));

    let (settled, mut records) = told(Some(Go), None);
    assert_eq!(settled, Settled { right: Right::Mine, settled: true });
    assert_eq!(records.load(ID).expect("memory"), None);

    let (settled, _) = told(None, None);
    assert_eq!(settled, Settled { right: Right::Mine, settled: true });
}

#[test]
fn records_are_answered_where_no_guest_is_taken() {
    for (there, right) in [(Some(StableRecord::Running), Right::Theirs), (None, Right::Mine)] {
        let (hub, orders) = (MemoryHub::new(), Orders::new());
        let (leave, mut answered) = (orders.remote(), Vec::new());
        let mut records = store(Role::Source, Some(StableRecord::Go));
        let settled = thread::scope(|scope| {
            let listen = Arc::new(hub.listen().expect("nobody listens yet"));
            let answering = scope.spawn(|| {
                let store = &mut store(Role::Destination, there);
                let mut watch = |_: Timestamp, event: &Event<'_>| match event {
                    Event::Answered { id, record } => answered.push((*id, *record)),
                    Event::TurnedAway { why, .. } if why.contains("no guest is taken here") => {}
                    other => panic!("{other:?}"),
                };
                answer(Records { listen, token: token(), store }, None, &orders, &mut watch)
            });
            let connect = Arc::new(hub.connector());
            let restarted =
                Restarted { id: ID, token: token(), connect, store: &mut records, patience: SOON };
            let settled = settle(restarted, Some(SOON), &Orders::new()).expect("its own record");
            // Who comes with a guest is sent away, and keeps it.
            let refused = begin(&hub).expect_err("no guest is taken").to_string();
            assert!(refused.contains("no guest is taken here"), "{refused}");
            leave.give(Order::Leave);
            answering.join().expect("no panic").expect("it answers until somebody leaves");
            settled
        });
        assert_eq!(settled, Settled { right, settled: true });
        assert_eq!(answered, [(ID, there)]);
    }
}

#[test]
fn records_are_answered_for_as_long_as_was_said() {
    let listen = Arc::new(MemoryHub::new().listen().expect("nobody listens yet"));
    let records = Records { listen, token: token(), store: &mut store(Role::Destination, None) };
    answer(records, Some(Duration::from_millis(20)), &Orders::new(), &mut ()).expect("nobody asks");
}

/// What a source with this record ends with when nobody answers and this is ordered.
fn ordered(here: Option<StableRecord>, order: Option<Order>) -> Settled {
    let (orders, mut records) = (Orders::new(), store(Role::Source, here));
    order.map(|order| orders.remote().give(order));
    let connect = Arc::new(MemoryHub::new().connector());
    let restarted = Restarted { id: ID, token: token(), connect, store: &mut records, patience: SOON };
    let settled = settle(restarted, Some(Duration::from_millis(200)), &orders).expect("its own record");
    let kept = here.filter(|_| settled.right != Right::Mine);
    assert_eq!(records.load(ID).expect("memory"), kept);
    settled
}

#[test]
fn where_nobody_answers_only_a_fence_ends_the_doubt() {
    let go = Some(StableRecord::Go);
    let undecided = Settled { right: Right::Undecided, settled: false };
    assert_eq!(ordered(go, None), undecided);
    assert_eq!(ordered(go, Some(Order::Leave)), undecided);
    for fence in [Fence::NeverRan, Fence::MayHaveRun] {
        assert_eq!(ordered(go, Some(Order::Fence(fence))), Settled { right: Right::Mine, settled: true });
    }
    assert_eq!(ordered(None, None), Settled { right: Right::Mine, settled: false });
}

#[test]
fn what_another_side_has_written_is_not_believed() {
    let connect = Arc::new(MemoryHub::new().connector());
    let mut records = store(Role::Destination, Some(StableRecord::Running));
    let restarted = Restarted { id: ID, token: token(), connect, store: &mut records, patience: SOON };
    assert!(settle(restarted, Some(SOON), &Orders::new()).is_err());
}

/// Loses the destination as soon as *go* is written, and the source with it.
struct Crash {
    records: MemoryStore,
    hub: MemoryHub,
    source: Remote,
}

impl StableStore for Crash {
    fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
        self.records.prepare(id, guest)
    }

    fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError> {
        self.hub.set_reachable(false);
        self.hub.links().iter().for_each(whimbrel_engine::transport::memory::Link::cut);
        self.source.give(Order::Leave);
        self.records.persist(id, record)
    }

    fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError> {
        self.records.load(id)
    }

    fn erase(&mut self, id: MigrationId) -> Result<(), StoreError> {
        self.records.erase(id)
    }
}

/// A source that crashes between *go* and its sending. Gives what it leaves behind.
fn crash(hub: &MemoryHub) -> MemoryStore {
    let (orders, records) = (Orders::new(), MemoryStore::new(Role::Source));
    let mut store = Crash { records: records.clone(), hub: hub.clone(), source: orders.remote() };
    let left = attempt(hub, &mut store, &orders).expect("it begins");
    assert_eq!(left.right, Right::Undecided, "{}", left.report.why);
    records
}

/// A source that begins.
fn begin(hub: &MemoryHub) -> Result<SourceResult, SourceError> {
    attempt(hub, &mut MemoryStore::new(Role::Source), &Orders::new())
}

fn attempt(
    hub: &MemoryHub,
    store: &mut dyn StableStore,
    orders: &Orders,
) -> Result<SourceResult, SourceError> {
    let layout = RamLayout::contiguous(mib(4), PageSize::Kib4).expect("whole pages");
    let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private).expect("memory"));
    let mut log = SoftwareLog::new(&layout);
    let mut guest =
        LabGuest::new(Arc::clone(&memory), config(), Some(Arc::clone(log.bitmap()))).expect("a guest");
    guest.fill();
    guest.resume().expect("it runs");
    let mut settings = SourceSettings::new(ID, token());
    settings.asking = Some(SOON);
    source::send(outgoing(memory, (&mut log, &mut guest), hub, store), settings, orders, &mut ())
}

#[test]
fn who_leaves_a_replica_that_waits_is_told_no_outcome() {
    let hub = MemoryHub::new();
    let orders = Orders::new();
    let leave = orders.remote();
    let received = thread::scope(|scope| {
        let listen = hub.listen().expect("nobody listens yet");
        let receiving = scope.spawn(|| receive(listen, &mut MemoryStore::new(Role::Destination), &orders));
        crash(&hub);
        leave.give(Order::Leave);
        receiving.join().expect("no panic").expect("somebody came")
    });
    assert_eq!((received.outcome, received.right), (None, Right::Undecided));
    assert!(received.replica.is_some(), "it may be the only copy");
}

#[test]
fn a_replica_that_is_ready_is_told_to_run_by_a_source_that_was_started_anew() {
    let hub = MemoryHub::new();
    let orders = Orders::new();
    let (settled, received) = thread::scope(|scope| {
        let listen = hub.listen().expect("nobody listens yet");
        let receiving = scope.spawn(|| receive(listen, &mut MemoryStore::new(Role::Destination), &orders));
        let mut records = crash(&hub);
        hub.set_reachable(true);
        let connect = Arc::new(hub.connector());
        let restarted = Restarted { id: ID, token: token(), connect, store: &mut records, patience: SOON };
        let settled = settle(restarted, Some(SOON), &Orders::new()).expect("its own record");
        (settled, receiving.join().expect("no panic").expect("somebody came"))
    });
    assert_eq!(settled, Settled { right: Right::Theirs, settled: true });
    assert_eq!((received.outcome, received.right), (Some(DestinationOutcome::Running), Right::Mine));
    // It goes on exactly.
    let replica = received.replica.expect("it is here");
    let ram = Arc::clone(&replica.ram);
    let mut guest = replica.into_guest::<LabGuest>().unwrap_or_else(|_| unreachable!("it was built as one"));
    thread::sleep(Duration::from_millis(20));
    guest.pause().expect("it stops");
    let state = guest.save().expect("it is paused");
    guest.expected(&state).expect("its own state").check(&*ram).expect("no page is lost or stale");
}
