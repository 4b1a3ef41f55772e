//! A lab guest, two hosts and what lies between them, for tests of whole moves.
//!
//! Shared by the programs of tests `live` and `faults`. What only one of them wants of it is in its own `wanted.rs`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_core::controller::Controller;
use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, Guest, GuestError, GuestRam};
use whimbrel_core::journal::Entry;
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::handoff::{Right, StableRecord};
use whimbrel_core::machine::message::{Configuration, MigrationId, Section};
use whimbrel_core::machine::{DestinationOutcome, Source};
use whimbrel_core::policy::{Policy, RateLimit, presets};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{ByteCount, Timestamp};
use whimbrel_engine::destination::{
    self, DestinationError, DestinationResult, DestinationSettings, Incoming, Replica,
};
use whimbrel_engine::observer::{Event, Observer};
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::source::{self, Outgoing, Restarted, SourceResult, SourceSettings, settle};
use whimbrel_engine::stable::{self, FaultyStore, MemoryStore, PersistError, Role, StableStore, StoreError};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_engine::transport::{Connect, Listen};
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::{LabConfig, Writer};
use whimbrel_guest::log::{self, SoftwareLog};
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::hello::Token;

pub(crate) fn mib(mib: u64) -> ByteCount {
    ByteCount::mib(mib)
}

/// Longer than anybody waits for a peer that is there.
const LONG: Duration = Duration::from_mins(1);

/// What came of a source that has panicked.
pub(crate) const PANICKED: &str = "somebody has panicked";

/// What is to be moved, and how.
pub(crate) struct World {
    layout: RamLayout,
    lab: LabConfig,
    policy: Preset,
    pub(crate) settings: SourceSettings,
    pub(crate) destination: DestinationSettings,
    hub: MemoryHub,
    pub(crate) connect: Arc<dyn Connect>,
    /// What watches the source.
    pub(crate) watch: fn(&Event<'_>),
    pub(crate) host: Host,
    /// The best dirty log of this machine; otherwise its own threads mark what they write.
    pub(crate) best_log: bool,
    /// What goes wrong with the records of the source, and of the destination.
    pub(crate) disks: [Vec<stable::Fault>; 2],
    /// What happens when the source is about to write *go*.
    pub(crate) at_go: Option<Box<dyn FnMut() + Send>>,
    /// How often a record was said to be near, at the source and at the destination.
    pub(crate) near: [Arc<AtomicU32>; 2],
}

/// What came of it.
pub(crate) struct Moved {
    pub(crate) source: SourceResult,
    pub(crate) destination: DestinationResult,
    /// The source's journal.
    pub(crate) lines: Vec<Entry>,
    of: Of,
    here: LabGuest,
    memory: Arc<GuestMemory>,
    there: Option<Arc<GuestMemory>>,
    /// The source was lost and started anew.
    restarted: bool,
}

/// What its source was made of.
struct Of {
    layout: RamLayout,
    lab: LabConfig,
    policy: Preset,
    patience: Duration,
}

/// Where a guest is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Where {
    Here,
    There,
    /// Nowhere: it is to be started from its disks, at the source.
    Disks,
}

fn token() -> Token {
    Token::new(b"open sesame").expect("short enough")
}

impl World {
    /// A guest with so much memory that does nothing but beat, over connections within the process.
    pub(crate) fn of(memory: ByteCount) -> Self {
        let hub = MemoryHub::new();
        let mut settings = SourceSettings::new(MigrationId(7), token());
        // Whoever asks for ever hangs where it should fail.
        settings.asking = Some(LONG);
        Self {
            layout: RamLayout::contiguous(memory, PageSize::Kib4).expect("whole pages"),
            lab: LabConfig { device_rate: 0.0, ..LabConfig::default() },
            policy: ("qemu-default", &[]),
            settings,
            destination: DestinationSettings::new(token(), ByteCount::gib(1)),
            connect: Arc::new(hub.connector()),
            host: Host {
                listen: Arc::new(hub.listen().expect("nobody listens yet")),
                veil: |memory| memory,
                late: Duration::ZERO,
                watch: |_| (),
            },
            hub,
            watch: |_| (),
            best_log: false,
            disks: Default::default(),
            at_go: None,
            near: Default::default(),
        }
    }

    /// Two vCPUs that write half of its memory, so many pages a second together, and a device.
    pub(crate) fn writing(mut self, rate: f64) -> Self {
        let half = self.layout.pages().0 / 2;
        let writer = |pages| Writer { pages, rate: rate / 2.0, ..Writer::default() };
        self.lab.writers = vec![writer(0..half / 2), writer(half / 2..half)];
        self.lab.device_rate = 200.0;
        self
    }

    pub(crate) fn streams(mut self, streams: u16) -> Self {
        self.settings.streams = streams;
        self
    }

    pub(crate) fn limit(mut self, limit: RateLimit) -> Self {
        self.settings.limit = limit;
        self
    }

    pub(crate) fn policy(self, policy: &'static str) -> Self {
        self.policy_with(policy, &[])
    }

    pub(crate) fn policy_with(mut self, policy: &'static str, parameters: Parameters) -> Self {
        self.policy = (policy, parameters);
        self
    }

    pub(crate) fn verified(mut self) -> Self {
        self.settings.verify = true;
        self
    }

    /// Connections go through this.
    pub(crate) fn through(mut self, with: impl FnOnce(Arc<dyn Connect>) -> Arc<dyn Connect>) -> Self {
        self.connect = with(self.connect);
        self
    }

    /// What lies between the two.
    pub(crate) fn between(&self) -> MemoryHub {
        self.hub.clone()
    }

    /// Moves the guest.
    pub(crate) fn go(self) -> Moved {
        self.go_with(|_, _| ())
    }

    /// Moves the guest while somebody does something about it, with a remote of the source's and one of the destination's.
    pub(crate) fn go_with(self, meddle: impl FnOnce(Remote, Remote) + Send) -> Moved {
        self.attempt(meddle).unwrap_or_else(|stayed| panic!("nothing was begun: {}", stayed.why))
    }

    /// The same, where it may come to nothing before anything is begun.
    pub(crate) fn attempt(self, meddle: impl FnOnce(Remote, Remote) + Send) -> Result<Moved, Box<NotBegun>> {
        let Self {
            layout, lab, policy, settings, destination, hub: _, connect, watch, host, best_log, ..
        } = self;
        let ([disk, disk_there], [near, near_there], at_go) = (self.disks, self.near, self.at_go);
        let (late, patience) = (host.late, settings.patience);
        let (memory, mut log, mut here) = guest_that_runs(&layout, &lab, best_log);

        let (orders, orders_there) = (Orders::new(), Orders::new());
        let (remote, remote_there) = (orders.remote(), orders_there.remote());
        let (mut there, mut lines) = (None, Vec::new());
        let over = AtomicBool::default();
        let (source, destination) = thread::scope(|scope| {
            let _ended = Ended { remote: remote_there.clone(), over: &over };
            let mut store = FaultyStore::new(Announced::new(Role::Destination, near_there), disk_there);
            let (there, over, lab) = (&mut there, &over, &lab);
            let orders_there = &orders_there;
            let receiving =
                scope.spawn(move || host.receive(lab, destination, orders_there, (&mut store, over), there));
            let give_up = remote_there.clone();
            scope.spawn(|| meddle(remote, remote_there));
            let records = FaultyStore::new(Announced::new(Role::Source, near), disk);
            let mut store = Watched { records, at_go };
            let mut told = Told { guest: &mut here, late, throttle: Throttle::Off };
            let outgoing = Outgoing {
                name: "lab".to_owned(),
                vcpus: lab.writers.len() as u32,
                ram: Arc::<GuestMemory>::clone(&memory),
                log: &mut *log,
                guest: &mut told,
                policy: build(policy),
                connect: Arc::clone(&connect),
                store: &mut store,
            };
            let mut observer = noting(&mut lines, watch);
            let source = sent(outgoing, settings, &orders, &mut observer);
            let source = source.map(|source| started_anew(source, patience, connect, &mut store));
            over.store(true, Ordering::Release);
            // However it ended.
            assert_eq!(told.throttle, Throttle::Off, "the guest is still slowed");
            if source.is_err() {
                // Nobody comes any more, although its replica may be ready.
                give_up.give(Order::Leave);
            }
            (source, receiving.join().expect("no panic"))
        });
        let tracked = log.harvest(&mut PageSet::new(layout.numbers())).is_ok();
        assert!(!tracked, "its writes are still recorded");
        match came_to(source, destination) {
            Ok((source, restarted, destination)) => {
                let of = Of { layout, lab, policy, patience };
                Ok(Moved { source, destination, lines, of, here, memory, there, restarted })
            }
            Err(why) => Err(Box::new(NotBegun { why, here, memory })),
        }
    }
}

/// The destination ends although somebody panics here: its thread is waited for.
struct Ended<'a> {
    remote: Remote,
    over: &'a AtomicBool,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.over.store(true, Ordering::Release);
            self.remote.give(Order::Leave);
        }
    }
}

/// What both sides came to, or why nothing was begun: then it is so on both.
fn came_to(
    source: Result<(SourceResult, bool), String>,
    destination: Result<DestinationResult, DestinationError>,
) -> Result<(SourceResult, bool, DestinationResult), String> {
    match (source, destination) {
        (Ok((source, restarted)), Ok(destination)) => Ok((source, restarted, destination)),
        (Ok((source, _)), Err(error)) => panic!("{:?}, but {error}", source.report),
        (Err(error), destination) => {
            let there = destination.is_ok_and(|there| there.outcome == Some(DestinationOutcome::Running));
            assert!(!there, "it runs at the destination, and {error}");
            Err(error)
        }
    }
}

/// Notes the journal, and shows everything to `watch`.
fn noting(lines: &mut Vec<Entry>, watch: fn(&Event<'_>)) -> impl FnMut(Timestamp, &Event<'_>) {
    move |_, event| {
        if let Event::Journal { lines: more, .. } = event {
            lines.extend_from_slice(more);
        }
        watch(event);
    }
}

/// Sends the guest. A panic of somebody's is one more way in which nothing comes of it.
fn sent<'a>(
    outgoing: Outgoing<'a>,
    settings: SourceSettings,
    orders: &'a Orders,
    observer: &'a mut dyn Observer,
) -> Result<SourceResult, String> {
    match catch_unwind(AssertUnwindSafe(|| source::send(outgoing, settings, orders, observer))) {
        Ok(source) => source.map_err(|error| error.to_string()),
        Err(_) => Err(PANICKED.to_owned()),
    }
}

/// Where a source was left in doubt it is started anew, with its records and without its guest; gives whether it was.
fn started_anew(
    mut source: SourceResult,
    patience: Duration,
    connect: Arc<dyn Connect>,
    store: &mut dyn StableStore,
) -> (SourceResult, bool) {
    let in_doubt = source.right == Right::Undecided;
    if in_doubt {
        let restarted = Restarted { id: MigrationId(7), token: token(), connect, store, patience };
        let settled = settle(restarted, Some(LONG), &Orders::new()).expect("its own record");
        assert!(settled.settled, "nobody has answered: {settled:?}");
        source.right = settled.right;
    }
    (source, in_doubt)
}

/// Records, and what happens when one is about to be written.
struct Watched<S> {
    records: S,
    at_go: Option<Box<dyn FnMut() + Send>>,
}

impl<S: StableStore> StableStore for Watched<S> {
    fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
        self.records.prepare(id, guest)
    }

    fn warm(&mut self, id: MigrationId, within: Duration) {
        self.records.warm(id, within);
    }

    fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError> {
        if let Some(mut act) = self.at_go.take() {
            act();
        }
        self.records.persist(id, record)
    }

    fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError> {
        self.records.load(id)
    }

    fn erase(&mut self, id: MigrationId) -> Result<(), StoreError> {
        self.records.erase(id)
    }
}

/// A guest that runs, its memory, and what sees its writes.
fn guest_that_runs(
    layout: &RamLayout,
    lab: &LabConfig,
    best_log: bool,
) -> (Arc<GuestMemory>, Box<dyn DirtyLog>, LabGuest) {
    let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private).expect("memory"));
    let (log, marks) = if best_log {
        let best = log::best(Arc::clone(&memory) as Arc<_>);
        (best.log, best.marks)
    } else {
        let log = SoftwareLog::new(layout);
        let marks = Some(Arc::clone(log.bitmap()));
        (Box::new(log) as Box<dyn DirtyLog>, marks)
    };
    let mut guest = LabGuest::new(Arc::clone(&memory), lab.clone(), marks).expect("a guest");
    guest.fill();
    guest.resume().expect("it runs");
    thread::sleep(Duration::from_millis(10));
    (memory, log, guest)
}

/// Where the guest is to go.
pub(crate) struct Host {
    pub(crate) listen: Arc<dyn Listen>,
    /// What is between the driver and the replica's memory.
    pub(crate) veil: fn(Arc<GuestMemory>) -> Arc<dyn GuestRam>,
    /// How late the guest does what it is told, there and at the source.
    pub(crate) late: Duration,
    /// What watches the destination.
    pub(crate) watch: fn(&Event<'_>),
}

impl Host {
    /// Receives it, and answers until all is `over`. `there` is the memory that was made for it.
    fn receive(
        self,
        lab: &LabConfig,
        settings: DestinationSettings,
        orders: &Orders,
        (store, over): (&mut dyn StableStore, &AtomicBool),
        there: &mut Option<Arc<GuestMemory>>,
    ) -> Result<DestinationResult, DestinationError> {
        let Self { listen, veil, late, watch } = self;
        let mut host = |configuration: &Configuration| {
            let ram = Arc::new(GuestMemory::new(configuration.layout.clone(), Backing::Private)?);
            *there = Some(Arc::clone(&ram));
            let guest = LabGuest::new(Arc::clone(&ram), lab.clone(), None)?;
            let guest = Told { guest, late, throttle: Throttle::Off };
            Ok(Replica { ram: veil(ram), guest: Box::new(guest), fresh: true })
        };
        let incoming = Incoming { listen, host: &mut host, store };
        let mut observer = |_: Timestamp, event: &Event<'_>| watch(event);
        let mut received = destination::receive(incoming, settings, orders, &mut observer)?;
        // That a source has hung up does not say that it comes no more.
        while !over.load(Ordering::Acquire) {
            if !received.afterlife.answer(Duration::from_millis(20)) {
                // Where nothing was decided it returns at once.
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(received)
    }
}

/// A guest that does late what it is told, and says when it has done it.
pub(crate) struct Told<G> {
    pub(crate) guest: G,
    late: Duration,
    /// How it is slowed.
    throttle: Throttle,
}

impl<G: std::borrow::BorrowMut<LabGuest> + Send> Guest for Told<G> {
    fn pause(&mut self) -> Result<(), GuestError> {
        thread::sleep(self.late);
        self.guest.borrow_mut().pause()
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.guest.borrow_mut().resume()?;
        thread::sleep(self.late);
        Ok(())
    }

    fn turned_ago(&self) -> Option<Duration> {
        self.guest.borrow().turned_ago()
    }

    fn save(&mut self) -> Result<Vec<Section>, GuestError> {
        self.guest.borrow_mut().save()
    }

    fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
        self.guest.borrow_mut().restore(state)
    }

    fn throttle(&mut self, throttle: Throttle) -> Result<bool, GuestError> {
        let taken = self.guest.borrow_mut().throttle(throttle)?;
        if taken {
            self.throttle = throttle;
        }
        Ok(taken)
    }
}

/// A move that came to nothing before anything was begun.
pub(crate) struct NotBegun {
    pub(crate) why: String,
    here: LabGuest,
    memory: Arc<GuestMemory>,
}

impl NotBegun {
    /// The guest ran on, untouched.
    pub(crate) fn check_the_guest(self) {
        check_here(self.here, &self.memory);
    }
}

/// A guest runs.
pub(crate) fn runs(guest: &LabGuest) {
    let (beats, begun) = (guest.heartbeat().beats, Instant::now());
    while guest.heartbeat().beats == beats {
        // Its heart beats thousands of times a second, where it is let.
        assert!(begun.elapsed() < LONG, "it stands still");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A guest that stayed goes on exactly.
fn check_here(mut here: LabGuest, memory: &GuestMemory) {
    runs(&here);
    thread::sleep(Duration::from_millis(20));
    here.pause().expect("it stops");
    let state = here.save().expect("it is paused");
    here.expected(&state).expect("its own state").check(memory).expect("no page is lost or stale");
}

type Parameters = &'static [(&'static str, &'static str)];
/// A policy by its name, and what it is told.
type Preset = (&'static str, Parameters);

fn build((policy, parameters): Preset) -> Box<dyn Policy> {
    let told = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let parameters: BTreeMap<_, _> = parameters.iter().map(told).collect();
    presets::build(policy, &parameters).expect("a preset")
}

impl Moved {
    /// The guest runs on exactly one side, and there it goes on exactly; and why, the journal says.
    pub(crate) fn check_the_guest_where_it_is(self) -> Where {
        self.check_the_journal();
        match self.source.right {
            Right::Theirs => {
                assert_eq!(self.destination.outcome, Some(DestinationOutcome::Running));
                self.check_the_guest_there();
                Where::There
            }
            Right::Mine => {
                assert_eq!(self.destination.outcome, Some(DestinationOutcome::Gone));
                assert!(self.destination.replica.is_none());
                if self.restarted {
                    self.check_that_the_guest_stands_still();
                    return Where::Disks;
                }
                self.check_the_guest_here();
                Where::Here
            }
            Right::Undecided => panic!("nobody knows: {:?}", self.source.report),
        }
    }

    /// The guest runs at the destination, and all of its memory is what it must be.
    pub(crate) fn check_the_guest_there(mut self) {
        thread::sleep(Duration::from_millis(20));
        let there = self.there.take().expect("it was built");
        let replica = self.destination.replica.as_mut().expect("it is there");
        replica.guest.pause().expect("it stops");
        let state = replica.guest.save().expect("it is paused");
        let expected = self.here.expected(&state).expect("its own state");
        expected.check(&*there).expect("no page is lost or stale");
    }

    /// Nobody has let the guest run at the source since it was paused.
    fn check_that_the_guest_stands_still(self) {
        let beats = self.here.heartbeat().beats;
        thread::sleep(Duration::from_millis(20));
        assert_eq!(self.here.heartbeat().beats, beats, "it runs");
    }

    /// The guest runs at the source, as if nothing had been.
    pub(crate) fn check_the_guest_here(self) {
        check_here(self.here, &self.memory);
    }

    /// A source that has done nothing yet decides the same when it is told the same.
    pub(crate) fn check_the_journal(&self) {
        let Of { layout, lab, policy, patience } = &self.of;
        let (capabilities, vcpus) = (self.source.capabilities, lab.writers.len() as u32);
        let controller = Controller::new(build(*policy), layout.page_size(), layout.pages(), capabilities);
        let configuration =
            Configuration { id: MigrationId(7), name: "lab".to_owned(), layout: layout.clone(), vcpus };
        let mut again = Source::new(configuration, controller.expect("offered")).with_patience(*patience);
        for line in &self.lines {
            again.replay_line(line).expect("what the machine took it takes again");
        }
        assert_eq!(again.drain_journal().as_slice(), self.lines);
    }
}

/// Records in memory, of which each must have been said to be near before it is written.
struct Announced {
    records: MemoryStore,
    near: bool,
    /// How often that was said.
    said: Arc<AtomicU32>,
}

impl Announced {
    fn new(role: Role, said: Arc<AtomicU32>) -> Self {
        Self { records: MemoryStore::new(role), near: false, said }
    }
}

impl StableStore for Announced {
    fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
        self.records.prepare(id, guest)
    }

    fn warm(&mut self, _: MigrationId, within: Duration) {
        self.near = !within.is_zero();
        self.said.fetch_add(u32::from(self.near), Ordering::Relaxed);
    }

    fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError> {
        assert!(self.near, "nobody said that {record} is near");
        self.records.persist(id, record)
    }

    fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError> {
        self.records.load(id)
    }

    fn erase(&mut self, id: MigrationId) -> Result<(), StoreError> {
        self.records.erase(id)
    }
}
