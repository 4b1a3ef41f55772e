//! Stores without room for a record: what that costs, and what is left when nobody needs the room.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whimbrel_core::embed::Guest as _;
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::handoff::{Right, StableRecord};
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::policy::presets;
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, DestinationError, DestinationSettings, Incoming, Replica};
use whimbrel_engine::orders::Orders;
use whimbrel_engine::source::{self, Outgoing, SourceError, SourceResult, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, PersistError, Role, StableStore, StoreError};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};

use super::world::mib;

/// Of a disk that is full.
struct NoRoom;

impl StableStore for NoRoom {
    fn prepare(&mut self, _: MigrationId, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Told)
    }

    fn persist(&mut self, _: MigrationId, _: StableRecord) -> Result<(), PersistError> {
        Err(PersistError::Not(StoreError::Told))
    }

    fn load(&mut self, _: MigrationId) -> Result<Option<StableRecord>, StoreError> {
        Ok(None)
    }

    fn erase(&mut self, _: MigrationId) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Sends a guest of its own to whoever listens at this hub.
fn send(id: MigrationId, store: &mut dyn StableStore, hub: &MemoryHub) -> Result<SourceResult, SourceError> {
    send_named("lab", id, store, hub)
}

fn send_named(
    name: &str,
    id: MigrationId,
    store: &mut dyn StableStore,
    hub: &MemoryHub,
) -> Result<SourceResult, SourceError> {
    let layout = RamLayout::contiguous(mib(1), PageSize::Kib4).expect("whole pages");
    let ram = Arc::new(GuestMemory::new(layout.clone(), Backing::Private).expect("memory"));
    let mut log = SoftwareLog::new(&layout);
    let marks = Some(Arc::clone(log.bitmap()));
    let mut guest = LabGuest::new(Arc::clone(&ram), LabConfig::default(), marks).expect("a guest");
    guest.resume().expect("it runs");
    let policy = presets::build("fixed-rounds", &BTreeMap::new()).expect("a preset");
    let (log, guest, connect) = (&mut log, &mut guest, Arc::new(hub.connector()));
    let name = name.to_owned();
    let outgoing = Outgoing { name, vcpus: 1, ram, log, guest, policy, connect, store };
    let mut settings = SourceSettings::new(id, Token::new(b"open sesame").expect("short enough"));
    settings.patience = Duration::from_secs(20);
    source::send(outgoing, settings, &Orders::new(), &mut ())
}

#[test]
fn a_source_without_room_for_its_record_leaves_the_destination_to_another() -> Result<(), Box<dyn Error>> {
    let hub = MemoryHub::new();
    let (listen, token) = (Arc::new(hub.listen()?), Token::new(b"open sesame")?);
    let receiving = thread::spawn(move || {
        let mut host = |wanted: &Configuration| {
            let ram = Arc::new(GuestMemory::new(wanted.layout.clone(), Backing::Private)?);
            let guest = Box::new(LabGuest::new(Arc::clone(&ram), LabConfig::default(), None)?);
            Ok(Replica { ram, guest, fresh: true })
        };
        let store = &mut MemoryStore::new(Role::Destination);
        let incoming = Incoming { listen, host: &mut host, store };
        let mut settings = DestinationSettings::new(token, mib(64));
        settings.waiting = Some(Duration::from_mins(1));
        let mut received = destination::receive(incoming, settings, &Orders::new(), &mut ())?;
        received.afterlife.answer(Duration::from_secs(5));
        Ok::<_, DestinationError>(received.right)
    });
    let refused = send(MigrationId(7), &mut NoRoom, &hub);
    assert!(matches!(refused, Err(SourceError::Store(StoreError::Told))), "{refused:?}");
    let sent = send(MigrationId(8), &mut MemoryStore::new(Role::Source), &hub)?;
    assert_eq!(sent.right, Right::Theirs, "{}", sent.report.why);
    assert_eq!(receiving.join().expect("no panic")?, Right::Mine);
    Ok(())
}

#[test]
fn a_record_of_an_earlier_attempt_outlives_one_that_finds_nobody() -> Result<(), Box<dyn Error>> {
    let (hub, id) = (MemoryHub::new(), MigrationId(7));
    let mut store = MemoryStore::new(Role::Source);
    store.persist(id, StableRecord::Go)?;
    let nobody = send(id, &mut store, &hub);
    assert!(matches!(nobody, Err(SourceError::Connect(_))), "{nobody:?}");
    assert_eq!(store.load(id)?, Some(StableRecord::Go));
    Ok(())
}

/// Of a guest of which no destination could be told nobody is asked, and none keeps room for it.
#[test]
fn a_name_that_no_destination_takes_is_refused_before_anybody_is_called() {
    let (hub, mut store) = (MemoryHub::new(), MemoryStore::new(Role::Source));
    let sent = send_named(&"x".repeat(256), MigrationId(7), &mut store, &hub);
    let Err(SourceError::Guest(error)) = sent else { panic!("{sent:?}") };
    assert!(error.to_string().contains("256"), "{error}");
    // With one byte less it finds out that nobody listens.
    let sent = send_named(&"x".repeat(255), MigrationId(7), &mut store, &hub);
    assert!(matches!(sent, Err(SourceError::Connect(_))), "{sent:?}");
}
