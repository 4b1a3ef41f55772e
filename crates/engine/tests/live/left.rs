//! A guest whose driver at the destination panics when it runs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whimbrel_core::embed::{Guest as _, GuestRam as _};
use whimbrel_core::layout::{Gpa, PageSize, RamLayout};
use whimbrel_core::machine::DestinationPhase;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::policy::presets;
use whimbrel_core::units::{ByteCount, Timestamp};
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::Orders;
use whimbrel_engine::source::{self, Outgoing, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::{LabConfig, Writer};
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};

#[test]
fn a_guest_that_runs_goes_on_when_its_driver_panics() {
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
    settings.asking = Some(Duration::from_millis(100));
    let right = thread::scope(|scope| {
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
            policy: presets::build("fixed-rounds", &BTreeMap::new()).unwrap(),
            connect,
            store: &mut MemoryStore::new(Role::Source),
        };
        let sent = source::send(outgoing, settings, &Orders::new(), &mut ()).unwrap();
        assert!(receiving.join().unwrap(), "it was told to panic");
        sent.right
    });
    // Whether *running* was still said or not: it never runs here.
    assert_ne!(right, Right::Mine);
    let read = || {
        let mut bytes = vec![0; 64 * 4096];
        there.read(Gpa(0), &mut bytes).unwrap();
        bytes
    };
    let before = read();
    thread::sleep(Duration::from_millis(50));
    assert_ne!(read(), before, "the guest does not run any more");
}
