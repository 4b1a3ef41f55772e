//! A lab guest, two hosts and what lies between them, for tests of whole moves.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
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
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::{Orders, Remote};
use whimbrel_engine::source::{self, Outgoing, SourceResult, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, PersistError, Role, StableStore, StoreError};
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

/// What is to be moved, and how.
pub(crate) struct World {
    layout: RamLayout,
    lab: LabConfig,
    policy: Preset,
    settings: SourceSettings,
    destination: DestinationSettings,
    hub: MemoryHub,
    connect: Arc<dyn Connect>,
    listen: Arc<dyn Listen>,
    /// What is between the drivers and the replica's memory.
    veil: fn(Arc<GuestMemory>) -> Arc<dyn GuestRam>,
    /// What watches the source, and the destination.
    watch: fn(&Event<'_>),
    /// How late the guest does what it is told.
    late: Duration,
    watch_there: fn(&Event<'_>),
    /// The best dirty log of this machine; otherwise its own threads mark what they write.
    best_log: bool,
    /// How long the destination answers a source that comes again.
    answering: Duration,
}

/// What came of it.
pub(crate) struct Moved {
    pub(crate) source: SourceResult,
    pub(crate) destination: DestinationResult,
    /// The source's journal.
    pub(crate) lines: Vec<Entry>,
    layout: RamLayout,
    lab: LabConfig,
    policy: Preset,
    here: LabGuest,
    memory: Arc<GuestMemory>,
    there: Option<Arc<GuestMemory>>,
}

/// Where a guest is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    Here,
    There,
}

fn token() -> Token {
    Token::new(b"open sesame").expect("short enough")
}

impl World {
    /// A guest with so much memory that does nothing but beat, over connections within the process.
    pub(crate) fn of(memory: ByteCount) -> Self {
        let hub = MemoryHub::new();
        Self {
            layout: RamLayout::contiguous(memory, PageSize::Kib4).expect("whole pages"),
            lab: LabConfig { device_rate: 0.0, ..LabConfig::default() },
            policy: ("qemu-default", &[]),
            settings: SourceSettings::new(MigrationId(7), token()),
            destination: DestinationSettings::new(token(), ByteCount::gib(1)),
            connect: Arc::new(hub.connector()),
            listen: Arc::new(hub.listen().expect("nobody listens yet")),
            hub,
            veil: |memory| memory,
            watch: |_| (),
            late: Duration::ZERO,
            watch_there: |_| (),
            best_log: false,
            answering: Duration::from_secs(5),
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

    /// Both sides wait no longer than this for one another.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self.destination.patience = patience;
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

    pub(crate) fn checked(mut self) -> Self {
        self.settings.encoding.payload_checksums = true;
        self
    }

    /// Connections go through this.
    pub(crate) fn through(mut self, with: impl FnOnce(Arc<dyn Connect>) -> Arc<dyn Connect>) -> Self {
        self.connect = with(self.connect);
        self
    }

    /// The replica's memory is seen through this.
    pub(crate) fn veiled(mut self, veil: fn(Arc<GuestMemory>) -> Arc<dyn GuestRam>) -> Self {
        self.veil = veil;
        self
    }

    /// The source is watched by this.
    pub(crate) fn seen(mut self, watch: fn(&Event<'_>)) -> Self {
        self.watch = watch;
        self
    }

    /// The same, where it may panic: nobody comes again then.
    pub(crate) fn watched(mut self, watch: fn(&Event<'_>)) -> Self {
        self.watch = watch;
        self.answering = Duration::from_millis(50);
        self
    }

    /// The guest runs on for so long when it is told to stop, and when it is told to run it has run for so long before that is said.
    pub(crate) fn late(mut self, late: Duration) -> Self {
        self.late = late;
        self
    }

    /// The destination is watched by this.
    pub(crate) fn watched_there(mut self, watch: fn(&Event<'_>)) -> Self {
        self.watch_there = watch;
        self
    }

    /// The guest's writes are seen by the best dirty log of this machine.
    pub(crate) fn best_log(mut self) -> Self {
        self.best_log = true;
        self
    }

    /// Connections are of this kind.
    pub(crate) fn over(mut self, connect: Arc<dyn Connect>, listen: Arc<dyn Listen>) -> Self {
        (self.connect, self.listen) = (connect, listen);
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
            layout,
            lab,
            policy,
            settings,
            destination,
            hub: _,
            connect,
            listen,
            veil,
            watch,
            late,
            watch_there,
            best_log,
            answering,
        } = self;
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private).expect("memory"));
        let (mut log, marks) = if best_log {
            let best = log::best(Arc::clone(&memory) as Arc<_>);
            (best.log, best.marks)
        } else {
            let log = SoftwareLog::new(&layout);
            let marks = Some(Arc::clone(log.bitmap()));
            (Box::new(log) as Box<dyn DirtyLog>, marks)
        };
        let mut here = LabGuest::new(Arc::clone(&memory), lab.clone(), marks).expect("a guest");
        here.fill();
        here.resume().expect("it runs");
        thread::sleep(Duration::from_millis(10));

        let (orders, orders_there) = (Orders::new(), Orders::new());
        let (remote, remote_there) = (orders.remote(), orders_there.remote());
        let (mut there, mut lines) = (None, Vec::new());
        let (source, destination) = thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                let mut host = |configuration: &Configuration| {
                    let ram = Arc::new(GuestMemory::new(configuration.layout.clone(), Backing::Private)?);
                    there = Some(Arc::clone(&ram));
                    let guest = LabGuest::new(Arc::clone(&ram), lab.clone(), None)?;
                    let guest = Told { guest, late, throttle: Throttle::Off };
                    Ok(Replica { ram: veil(ram), guest: Box::new(guest), fresh: true })
                };
                let incoming =
                    Incoming { listen, host: &mut host, store: &mut Announced::new(Role::Destination) };
                let mut observer = |_: Timestamp, event: &Event<'_>| watch_there(event);
                let mut received = destination::receive(incoming, destination, &orders_there, &mut observer)?;
                received.afterlife.answer(answering);
                Ok::<_, DestinationError>(received)
            });
            let give_up = remote_there.clone();
            scope.spawn(|| meddle(remote, remote_there));
            let mut told = Told { guest: &mut here, late, throttle: Throttle::Off };
            let outgoing = Outgoing {
                name: "lab".to_owned(),
                vcpus: lab.writers.len() as u32,
                ram: Arc::<GuestMemory>::clone(&memory),
                log: &mut *log,
                guest: &mut told,
                policy: build(policy),
                connect,
                store: &mut Announced::new(Role::Source),
            };
            let mut observer = |_: Timestamp, event: &Event<'_>| {
                if let Event::Journal { lines: more, .. } = event {
                    lines.extend_from_slice(more);
                }
                watch(event);
            };
            // A panic of somebody's is one more way in which nothing comes of it.
            let sent = || source::send(outgoing, settings, &orders, &mut observer);
            let source = match catch_unwind(AssertUnwindSafe(sent)) {
                Ok(source) => source.map_err(|error| error.to_string()),
                Err(_) => Err("somebody has panicked".to_owned()),
            };
            // However it ended.
            assert_eq!(told.throttle, Throttle::Off, "the guest is still slowed");
            if source.is_err() {
                // Nobody comes any more.
                give_up.cancel();
            }
            (source, receiving.join().expect("no panic"))
        });
        let tracked = log.harvest(&mut PageSet::new(layout.numbers())).is_ok();
        assert!(!tracked, "its writes are still recorded");
        match (source, destination) {
            (Ok(source), Ok(destination)) => {
                Ok(Moved { source, destination, lines, layout, lab, policy, here, memory, there })
            }
            (Ok(source), Err(error)) => panic!("{:?}, but {error}", source.report),
            (Err(error), destination) => {
                let there = destination.is_ok_and(|there| there.outcome == Some(DestinationOutcome::Running));
                assert!(!there, "it runs at the destination, and {error}");
                Err(Box::new(NotBegun { why: error, here, memory }))
            }
        }
    }
}

/// A guest that does late what it is told, and says when it has done it.
struct Told<G> {
    guest: G,
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

/// A guest that stayed goes on exactly.
fn check_here(mut here: LabGuest, memory: &GuestMemory) {
    let (beats, begun) = (here.heartbeat().beats, Instant::now());
    while here.heartbeat().beats == beats {
        // Its heart beats thousands of times a second, where it is let.
        assert!(begun.elapsed() < Duration::from_mins(1), "it stands still");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(20));
    here.pause().expect("it stops");
    let state = here.save().expect("it is paused");
    here.expected(&state).expect("its own state").check(memory).expect("no page is lost or stale");
}

type Parameters = &'static [(&'static str, &'static str)];
/// A policy by its name, and what it is told.
type Preset = (&'static str, Parameters);

/// Records in memory, of which each must have been said to be near before it is written.
struct Announced {
    records: MemoryStore,
    near: bool,
}

impl Announced {
    fn new(role: Role) -> Self {
        Self { records: MemoryStore::new(role), near: false }
    }
}

impl StableStore for Announced {
    fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
        self.records.prepare(id, guest)
    }

    fn warm(&mut self, _: MigrationId, within: Duration) {
        self.near = !within.is_zero();
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

fn build((policy, parameters): Preset) -> Box<dyn Policy> {
    let told = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let parameters: BTreeMap<_, _> = parameters.iter().map(told).collect();
    presets::build(policy, &parameters).expect("a preset")
}

impl Moved {
    /// The guest runs on exactly one side, and there it goes on exactly.
    pub(crate) fn check_the_guest_where_it_is(self) -> Where {
        match self.source.right {
            Right::Theirs => {
                assert_eq!(self.destination.outcome, Some(DestinationOutcome::Running));
                self.check_the_guest_there();
                Where::There
            }
            Right::Mine => {
                assert_eq!(self.destination.outcome, Some(DestinationOutcome::Gone));
                assert!(self.destination.replica.is_none());
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

    /// How long the guest was without a heartbeat when it was moved.
    pub(crate) fn gap(&mut self) -> Duration {
        let replica = self.destination.replica.take().expect("it is there");
        let guest = replica.into_guest::<Told<LabGuest>>().ok().expect("what the host made");
        let until = std::time::Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(gap) = guest.guest.heartbeat().arrival {
                return gap.length;
            }
            assert!(std::time::Instant::now() < until, "it has no heartbeat");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The guest runs at the source, as if nothing had been.
    pub(crate) fn check_the_guest_here(self) {
        check_here(self.here, &self.memory);
    }

    /// A source that has done nothing yet, of the same migration.
    pub(crate) fn fresh_source(&self) -> Source {
        let capabilities = self.source.capabilities;
        let policy = build(self.policy);
        let controller = Controller::new(policy, self.layout.page_size(), self.layout.pages(), capabilities)
            .expect("offered");
        let vcpus = self.lab.writers.len() as u32;
        let configuration =
            Configuration { id: MigrationId(7), name: "lab".to_owned(), layout: self.layout.clone(), vcpus };
        Source::new(configuration, controller)
    }
}
